//! Segment files: opening them past the page cache where that works, and reading them in pieces,
//! around what the device cannot read if that is wanted.

use crate::batch::BatchHeader;
use crate::index::{FOOTER_BYTES, Footer, IndexEntry};
use crate::segment_header::{HeaderFault, SEGMENT_HEADER_BYTES, SegmentHeader};
use crate::unreadable::{Unreadable, insist, is_media_error};
use elgate_io::{Buffer, File, FileIdentity, OpenOptions, Platform};
use elgate_types::limits::BLOCK_BYTES;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// Opens a segment. Falls back to the page cache where the file system refuses to do without.
pub(crate) fn open_segment(
    platform: &dyn Platform,
    path: &Path,
    write: bool,
    direct: bool,
) -> io::Result<File> {
    open_as(platform, path, OpenOptions { read: true, write, direct, ..Default::default() })
}

/// Makes a segment's file, or opens what has its name, with the same fallback.
pub(crate) fn create_segment(
    platform: &dyn Platform,
    path: &Path,
    direct: bool,
) -> io::Result<File> {
    let options =
        OpenOptions { read: true, write: true, create: true, direct, ..Default::default() };
    open_as(platform, path, options)
}

fn open_as(platform: &dyn Platform, path: &Path, options: OpenOptions) -> io::Result<File> {
    match platform.open(path, options) {
        Err(error) if options.direct && error.kind() == io::ErrorKind::InvalidInput => {
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
    identity: FileIdentity,
    /// Where batches end at the latest: before the footer, or earlier if the file was truncated.
    bytes: u64,
    /// Nothing beyond is read that was not asked for.
    ahead_end: u64,
    window: Buffer,
    window_offset: u64,
    /// What could not be read so far. `None`: that is an error.
    unreadable: Option<Unreadable>,
}

/// Read at once, so that walking small batches costs few system calls.
const READ_AHEAD_BYTES: usize = 256 * 1024;

/// How many entries of an index are followed in vain.
const ENTRIES_TRIED: usize = 4;

/// Read when a segment is opened: the header, and the block where the first batch begins.
const FIRST_BYTES: usize = SEGMENT_HEADER_BYTES + BLOCK_BYTES;

impl SegmentFile {
    /// Opens a segment and reads its header.
    pub(crate) fn open(
        platform: &dyn Platform,
        path: &Path,
        direct: bool,
    ) -> io::Result<Result<Self, HeaderFault>> {
        let file = open_segment(platform, path, false, direct)?;
        let bytes = platform.size(&file)?;
        let identity = platform.identity(&file)?;
        let mut window = Buffer::with_capacity(FIRST_BYTES);
        window.set_length(FIRST_BYTES);
        let count = match platform.read_at(&file, 0, &mut window) {
            // The header alone will do for now.
            Err(error) if is_media_error(&error) => {
                insist(platform, &file, 0, &mut window[..SEGMENT_HEADER_BYTES])?
            }
            result => result?,
        };
        window.set_length(count);
        Ok(SegmentHeader::decode(&window).map(|header| Self {
            path: path.to_owned(),
            bytes: bytes.min(header.usable_end()),
            ahead_end: u64::MAX,
            header,
            file,
            identity,
            window,
            window_offset: 0,
            unreadable: None,
        }))
    }

    /// From now on blocks that the device cannot read are zeros, not an error.
    pub(crate) fn read_around(mut self) -> Self {
        self.unreadable.get_or_insert_with(Unreadable::few);
        self
    }

    /// From now on they are an error again. What was read of them is forgotten.
    pub(crate) fn read_around_no_more(&mut self) {
        self.unreadable = None;
        self.forget();
    }

    /// Whether any block of a range was found unreadable.
    pub(crate) fn has_unreadable(&self, range: Range<u64>) -> bool {
        self.unreadable.as_ref().is_some_and(|unreadable| unreadable.is_in(range))
    }

    /// Where batches end at the latest.
    pub(crate) fn end(&self) -> u64 {
        self.bytes
    }

    /// Forgets what was read: the file may have changed.
    pub(crate) fn forget(&mut self) {
        self.window.clear();
    }

    /// Reads ahead no further than `end`: what lies beyond is not known to be written, and would
    /// be read again later.
    pub(crate) fn limit_read_ahead(&mut self, end: u64) {
        self.ahead_end = end;
    }

    /// Whether its name still stands for it. Retention takes the name away before anything in the
    /// file changes, so as long as this holds, what is in it belongs to this segment.
    pub(crate) fn is_in_place(&self, platform: &dyn Platform) -> io::Result<bool> {
        match open_segment(platform, &self.path, false, false) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            result => Ok(platform.identity(&result?)? == self.identity),
        }
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
            let until =
                |end: u64| usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX);
            let ahead = READ_AHEAD_BYTES.min(until(self.ahead_end));
            let wanted = bytes.max(ahead).min(until(self.bytes));
            if wanted > self.window.capacity() {
                let usual = READ_AHEAD_BYTES.min(until(self.bytes));
                self.window = Buffer::with_capacity(wanted.max(usual));
            }
            // A direct read needs whole blocks; one that crosses the end of the file comes short.
            self.window.set_length(wanted.next_multiple_of(BLOCK_BYTES));
            let count = match &mut self.unreadable {
                Some(unreadable) => unreadable.read(platform, &self.file, offset, &mut self.window),
                None => platform.read_at(&self.file, offset, &mut self.window),
            };
            self.window.set_length(count.as_ref().map_or(0, |count| (*count).min(wanted)));
            self.window_offset = offset;
            count?;
        }
        let start = usize::try_from(offset - self.window_offset).expect("inside the window");
        let end = (start + bytes).min(self.window.len());
        Ok(&self.window[start.min(end)..end])
    }

    /// The header of the batch at `offset`, whatever has become of its records.
    pub(crate) fn header_at(
        &mut self,
        platform: &dyn Platform,
        offset: u64,
    ) -> io::Result<Option<BatchHeader>> {
        let salt = self.header.salt;
        Ok(BatchHeader::decode(self.read(platform, offset, BLOCK_BYTES)?, salt))
    }

    /// The header of the batch at `offset`, if the whole batch is valid.
    pub(crate) fn batch_at(
        &mut self,
        platform: &dyn Platform,
        offset: u64,
    ) -> io::Result<Option<BatchHeader>> {
        let salt = self.header.salt;
        let Some(header) = self.header_at(platform, offset)? else { return Ok(None) };
        let batch = self.read(platform, offset, header.batch_bytes as usize)?;
        let is_valid =
            batch.len() == header.batch_bytes as usize && header.records_are_valid(batch, salt);
        Ok(is_valid.then_some(header))
    }

    /// The last of these entries that points to a valid batch. Tries a few: where those are wrong,
    /// so may all be.
    pub(crate) fn follow(
        &mut self,
        platform: &dyn Platform,
        entries: &[IndexEntry],
    ) -> io::Result<Option<IndexEntry>> {
        for entry in entries.iter().rev().take(ENTRIES_TRIED) {
            let is_block = entry.offset.is_multiple_of(BLOCK_BYTES as u64);
            if is_block && (SEGMENT_HEADER_BYTES as u64..self.bytes).contains(&entry.offset) {
                let batch = self.batch_at(platform, entry.offset)?;
                if batch.is_some_and(|batch| batch.first_lsn == entry.first_lsn) {
                    return Ok(Some(*entry));
                }
            }
        }
        Ok(None)
    }

    /// The segment's footer, if it has one that is whole: then it is sealed. One read.
    pub(crate) fn footer(&mut self, platform: &dyn Platform) -> io::Result<Option<Footer>> {
        let mut bytes = Buffer::with_capacity(FOOTER_BYTES);
        bytes.set_length(FOOTER_BYTES);
        let at = self.header.usable_end();
        let count = match &mut self.unreadable {
            Some(unreadable) => unreadable.read(platform, &self.file, at, &mut bytes)?,
            None => platform.read_at(&self.file, at, &mut bytes)?,
        };
        bytes.set_length(count);
        Ok(Footer::decode(&bytes, &self.header))
    }
}
