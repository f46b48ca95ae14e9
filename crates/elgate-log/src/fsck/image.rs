//! One copy of a segment as it lies on its device: read past the page cache, blocks that the
//! device cannot read taken for zeros, and changed only after what was there is in the quarantine
//! folder.

use super::mend::{self, Judged};
use crate::batch::BatchHeader;
use crate::error::{AtPath, IoFault};
use crate::naming;
use crate::quarantine;
use crate::segment_file::open_segment;
use crate::unreadable::Unreadable;
use elgate_io::{Buffer, File, OpenOptions, Platform};
use elgate_types::limits::BLOCK_BYTES;
use std::io;
use std::ops::Range;
use std::path::{Path, PathBuf};

const BLOCK: u64 = BLOCK_BYTES as u64;
/// Read at once.
const WINDOW_BYTES: usize = 1024 * 1024;
/// Copies of one range that differ, at most.
const COPIES_MAX: u32 = 1_000;

/// A segment file.
#[derive(Debug)]
pub(super) struct Image {
    /// The log's directory it is in.
    pub(super) dir: PathBuf,
    pub(super) path: PathBuf,
    pub(super) bytes: u64,
    file: File,
    window: Buffer,
    window_offset: u64,
    unreadable: Unreadable,
    /// Whether any block was ever found so.
    has_unreadable: bool,
    /// Whether anything was written to it.
    pub(super) is_changed: bool,
}

impl Image {
    pub(super) fn open(platform: &dyn Platform, dir: &Path, name: &str) -> Result<Self, IoFault> {
        let path = dir.join(name);
        let file = open_segment(platform, &path, false, true).at("open", &path)?;
        let bytes = platform.size(&file).at("inspect", &path)?;
        Ok(Self {
            dir: dir.to_owned(),
            path,
            bytes,
            file,
            window: Buffer::with_capacity(WINDOW_BYTES),
            window_offset: 0,
            unreadable: Unreadable::any_number(),
            has_unreadable: false,
            is_changed: false,
        })
    }

    pub(super) fn name(&self) -> &str {
        self.path.file_name().and_then(|name| name.to_str()).unwrap_or("segment")
    }

    /// Whether both are one file, by whatever names.
    pub(super) fn is_same(&self, platform: &dyn Platform, other: &Self) -> Result<bool, IoFault> {
        let [own, theirs] = [self, other].map(|image| platform.identity(&image.file));
        Ok(own.at("inspect", &self.path)? == theirs.at("inspect", &other.path)?)
    }

    pub(super) fn has_unreadable(&self) -> bool {
        self.has_unreadable
    }

    /// Forgets what was read, and looks at the file's size again.
    pub(super) fn forget(&mut self, platform: &dyn Platform) -> Result<(), IoFault> {
        self.window.clear();
        self.unreadable.forget();
        self.bytes = platform.size(&self.file).at("inspect", &self.path)?;
        Ok(())
    }

    /// The bytes from `offset`, a multiple of the block size, on; fewer at the end of the file.
    pub(super) fn read(
        &mut self,
        platform: &dyn Platform,
        offset: u64,
        bytes: usize,
    ) -> Result<&[u8], IoFault> {
        let rest = usize::try_from(self.bytes.saturating_sub(offset)).unwrap_or(usize::MAX);
        let bytes = bytes.min(rest);
        let held = self.window_offset..self.window_offset + self.window.len() as u64;
        if !(held.contains(&offset) && offset + bytes as u64 <= held.end) && bytes > 0 {
            self.fill(platform, offset, bytes.max(WINDOW_BYTES).min(rest))?;
        }
        let start = (offset.saturating_sub(self.window_offset) as usize).min(self.window.len());
        let end = (start + bytes).min(self.window.len());
        Ok(&self.window[start..end])
    }

    fn fill(&mut self, platform: &dyn Platform, offset: u64, wanted: usize) -> Result<(), IoFault> {
        let whole = wanted.next_multiple_of(BLOCK_BYTES);
        if whole > self.window.capacity() {
            self.window = Buffer::with_capacity(whole);
        }
        self.window.set_length(whole);
        self.window_offset = offset;
        let count = self.unreadable.read(platform, &self.file, offset, &mut self.window);
        let count = count.at("read", &self.path)?;
        self.has_unreadable |= !self.unreadable.is_empty();
        self.window.set_length(count.min(wanted));
        Ok(())
    }

    /// The header of a batch at `offset`, whatever has become of its records; one flipped bit in it
    /// is set right.
    pub(super) fn header(
        &mut self,
        platform: &dyn Platform,
        offset: u64,
        salt: u32,
    ) -> Result<Option<BatchHeader>, IoFault> {
        let found = mend::header(self.read(platform, offset, BLOCK_BYTES)?, salt);
        Ok(found.map(|found| found.header))
    }

    /// What is at `offset`, where a batch may begin; a batch that reaches beyond `end` is none.
    pub(super) fn judge(
        &mut self,
        platform: &dyn Platform,
        offset: u64,
        end: u64,
        salt: u32,
    ) -> Result<Judged, IoFault> {
        if offset >= end {
            return Ok(Judged::Bad);
        }
        let Some(found) = mend::header(self.read(platform, offset, BLOCK_BYTES)?, salt) else {
            return Ok(Judged::Bad);
        };
        if offset + u64::from(found.header.batch_bytes) > end {
            return Ok(Judged::Bad);
        }
        let bytes = self.read(platform, offset, found.header.batch_bytes as usize)?;
        Ok(mend::batch(bytes, found, salt))
    }

    /// Whether a range holds nothing but zeros; what is beyond the end of the file counts as such.
    pub(super) fn is_blank(
        &mut self,
        platform: &dyn Platform,
        range: Range<u64>,
    ) -> Result<bool, IoFault> {
        let mut at = range.start;
        while at < range.end.min(self.bytes) {
            let piece = (range.end - at).min(WINDOW_BYTES as u64) as usize;
            let bytes = self.read(platform, at, piece)?;
            if bytes.is_empty() {
                break;
            }
            if !crate::bytes::is_blank(bytes) {
                return Ok(false);
            }
            at += bytes.len() as u64;
        }
        Ok(true)
    }

    /// Copies a range into the quarantine folder of the log it is in. When this returns, the copy
    /// is durable; it is the existing one if one holds the same bytes.
    pub(super) fn keep(
        &mut self,
        platform: &dyn Platform,
        range: Range<u64>,
    ) -> Result<PathBuf, IoFault> {
        let range = range.start..range.end.min(self.bytes).max(range.start);
        let folder = naming::quarantine_dir(&self.dir);
        platform.create_directories(&folder).at("create", &folder)?;
        platform.sync_directory(&self.dir).at("sync", &self.dir)?;
        let first = quarantine::copy_path(&self.dir, &self.path, &range);
        let names = platform.list(&folder).at("list", &folder)?;
        let mut target = first.clone();
        for number in 2..=COPIES_MAX {
            if !names.iter().any(|entry| target.ends_with(&entry.name)) {
                break;
            }
            if self.is_kept_in(platform, &target, range.clone())? {
                return Ok(target);
            }
            let mut name = first.clone().into_os_string();
            name.push(format!(".{number}"));
            target = PathBuf::from(name);
        }
        let mut read = |at, bytes| Ok(self.read(platform, at, bytes)?.to_vec());
        quarantine::write(platform, &folder, &target, &range, &mut read)?;
        Ok(target)
    }

    fn is_kept_in(
        &mut self,
        platform: &dyn Platform,
        copy: &Path,
        range: Range<u64>,
    ) -> Result<bool, IoFault> {
        let options = OpenOptions { read: true, ..Default::default() };
        let file = platform.open(copy, options).at("open", copy)?;
        if platform.size(&file).at("inspect", copy)? != range.end - range.start {
            return Ok(false);
        }
        let mut held = vec![0; WINDOW_BYTES];
        let mut at = range.start;
        while at < range.end {
            let piece = (range.end - at).min(WINDOW_BYTES as u64) as usize;
            let count =
                platform.read_at(&file, at - range.start, &mut held[..piece]).at("read", copy)?;
            let bytes = self.read(platform, at, piece)?;
            if bytes.is_empty() || bytes != &held[..count] {
                return Ok(false);
            }
            at += count as u64;
        }
        Ok(true)
    }

    /// Replaces what is at `offset` by `bytes`, both whole blocks. Only blocks that differ are
    /// written, and what was in them is kept first. When this returns, the new bytes are durable
    /// and have been read back. Returns where the old ones are kept; `None` if nothing differed.
    pub(super) fn replace(
        &mut self,
        platform: &dyn Platform,
        offset: u64,
        bytes: &[u8],
    ) -> Result<Option<PathBuf>, IoFault> {
        let held = self.read(platform, offset, bytes.len())?;
        let differs = |at: &usize| {
            let block = *at..*at + BLOCK_BYTES;
            held.get(block.clone()) != Some(&bytes[block])
        };
        let mut changed = (0..bytes.len()).step_by(BLOCK_BYTES).filter(differs);
        let Some(first) = changed.next() else { return Ok(None) };
        let range = first..changed.next_back().unwrap_or(first) + BLOCK_BYTES;
        let place = offset + range.start as u64;
        let kept = self.keep(platform, place..offset + range.end as u64)?;
        self.write(platform, place, &bytes[range])?;
        Ok(Some(kept))
    }

    /// Writes whole blocks, durably, and reads them back.
    pub(super) fn write(
        &mut self,
        platform: &dyn Platform,
        offset: u64,
        bytes: &[u8],
    ) -> Result<(), IoFault> {
        let file = open_segment(platform, &self.path, true, true).at("open", &self.path)?;
        // By way of aligned memory: the file may be open past the page cache.
        let new = Buffer::copy_of(bytes);
        platform.write_at(&file, offset, &new, true).at("repair", &self.path)?;
        platform.sync(&file).at("sync", &self.path)?;
        self.is_changed = true;
        self.forget(platform)?;
        if self.read(platform, offset, new.len())? != &new[..] {
            let error = io::Error::other("what was written does not read back");
            return Err(error).at("repair", &self.path);
        }
        Ok(())
    }

    /// Makes the file as long as it should be, with zeros.
    pub(super) fn extend(&mut self, platform: &dyn Platform, bytes: u64) -> Result<(), IoFault> {
        let options = OpenOptions { read: true, write: true, ..Default::default() };
        let file = platform.open(&self.path, options).at("open", &self.path)?;
        platform.zero_fill(&file, self.bytes, bytes - self.bytes).at("extend", &self.path)?;
        platform.sync(&file).at("sync", &self.path)?;
        self.forget(platform)
    }

    /// Where the last byte of a range that is not zero is, rounded up to a block; the range's
    /// start if there is none.
    pub(super) fn dirty_end(
        &mut self,
        platform: &dyn Platform,
        range: Range<u64>,
    ) -> Result<u64, IoFault> {
        let (mut at, mut dirty_end) = (range.start, range.start);
        while at < range.end.min(self.bytes) {
            let block = self.read(platform, at, BLOCK_BYTES)?;
            if !crate::bytes::is_blank(block) {
                dirty_end = at + BLOCK;
            }
            at += BLOCK;
        }
        Ok(dirty_end)
    }
}
