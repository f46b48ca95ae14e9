//! Segment files: opening them past the page cache where that works, and reading them in pieces.

use crate::batch::BatchHeader;
use crate::bytes::is_blank;
use crate::segment_header::{HeaderFault, SEGMENT_HEADER_BYTES, SegmentHeader};
use elgate_io::{Buffer, File, OpenOptions, Platform};
use elgate_types::limits::BLOCK_BYTES;
use std::io;
use std::path::{Path, PathBuf};

/// Opens a segment. Falls back to the page cache where the file system refuses to do without.
pub(crate) fn open_segment(
    platform: &dyn Platform,
    path: &Path,
    write: bool,
    direct: bool,
) -> io::Result<File> {
    let options = OpenOptions { read: true, write, direct, ..Default::default() };
    match platform.open(path, options) {
        Err(error) if direct && error.kind() == io::ErrorKind::InvalidInput => {
            platform.open(path, OpenOptions { direct: false, ..options })
        }
        result => result,
    }
}

/// A readable segment and the part of it that was read last.
#[derive(Debug)]
pub(crate) struct SegmentFile {
    pub(crate) path: PathBuf,
    pub(crate) header: SegmentHeader,
    file: File,
    /// Where batches end at the latest: before the footer, or earlier if the file was truncated.
    bytes: u64,
    window: Buffer,
    window_offset: u64,
}

/// Read at once, so that walking small batches costs few system calls.
const READ_AHEAD_BYTES: usize = 256 * 1024;

impl SegmentFile {
    /// Opens a segment and reads its header.
    pub(crate) fn open(
        platform: &dyn Platform,
        path: &Path,
        direct: bool,
    ) -> io::Result<Result<Self, HeaderFault>> {
        let file = open_segment(platform, path, false, direct)?;
        let bytes = platform.size(&file)?;
        let mut block = Buffer::with_capacity(BLOCK_BYTES);
        block.set_length(SEGMENT_HEADER_BYTES);
        let count = platform.read_at(&file, 0, &mut block)?;
        block.set_length(count);
        Ok(SegmentHeader::decode(&block).map(|header| Self {
            path: path.to_owned(),
            bytes: bytes.min(header.usable_end()),
            header,
            file,
            window: Buffer::with_capacity(READ_AHEAD_BYTES),
            window_offset: 0,
        }))
    }

    /// Where batches end at the latest.
    pub(crate) fn end(&self) -> u64 {
        self.bytes
    }

    /// Forgets what was read: the file may have changed.
    pub(crate) fn forget(&mut self) {
        self.window.clear();
    }

    /// The bytes from `offset`, a multiple of the block size, on; fewer at the end of the file.
    pub(crate) fn read(
        &mut self,
        platform: &dyn Platform,
        offset: u64,
        bytes: usize,
    ) -> io::Result<&[u8]> {
        let bytes = bytes.min(usize::try_from(self.bytes.saturating_sub(offset)).unwrap_or(bytes));
        let held = self.window_offset..self.window_offset + self.window.len() as u64;
        if !(held.contains(&offset) && offset + bytes as u64 <= held.end) {
            let rest = usize::try_from(self.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
            let wanted = bytes.max(READ_AHEAD_BYTES).min(rest);
            if wanted > self.window.capacity() {
                self.window = Buffer::with_capacity(wanted);
            }
            // A direct read needs whole blocks; one that crosses the end of the file comes short.
            self.window.set_length(wanted.next_multiple_of(BLOCK_BYTES));
            let count = platform.read_at(&self.file, offset, &mut self.window);
            self.window.set_length(count.as_ref().map_or(0, |count| (*count).min(wanted)));
            self.window_offset = offset;
            count?;
        }
        let start = usize::try_from(offset - self.window_offset).expect("inside the window");
        let end = (start + bytes).min(self.window.len());
        Ok(&self.window[start.min(end)..end])
    }

    /// The header of the batch at `offset`, if the whole batch is valid.
    pub(crate) fn batch_at(
        &mut self,
        platform: &dyn Platform,
        offset: u64,
    ) -> io::Result<Option<BatchHeader>> {
        let salt = self.header.salt;
        let Some(header) = BatchHeader::decode(self.read(platform, offset, BLOCK_BYTES)?, salt)
        else {
            return Ok(None);
        };
        let batch = self.read(platform, offset, header.batch_bytes as usize)?;
        let is_valid =
            batch.len() == header.batch_bytes as usize && header.records_are_valid(batch, salt);
        Ok(is_valid.then_some(header))
    }

    /// Whether the block at `offset` holds nothing but zeros.
    pub(crate) fn is_blank(&mut self, platform: &dyn Platform, offset: u64) -> io::Result<bool> {
        Ok(is_blank(self.read(platform, offset, BLOCK_BYTES)?))
    }
}
