//! What is done about the end of a file that holds what its log cannot account for: it is set aside
//! and cut off, as far as it is no line that somebody may want.

use super::file_tail::{FilePosition, FileTail, LocateError};
use crate::config::Framing;
use elgate_io::OpenOptions;
use elgate_types::limits::BLOCK_BYTES;
use std::io;
use std::path::PathBuf;

/// How much is copied at a time.
const PIECE_BYTES: usize = 1 << 20;
/// Fewer zeros than this before the end of a block may belong to a record.
const ZEROS_MIN: usize = 16;

impl FileTail<'_> {
    /// Goes on behind what nobody can name, at the beginning of a line, and before a block of zeros:
    /// that is what a failed sync leaves of records.
    pub(super) fn end_line(
        &self,
        mut position: FilePosition,
        length: u64,
    ) -> Result<FilePosition, LocateError> {
        let kept = match self.framing {
            Framing::Newline => {
                let end = self.first_zero_block(position.length, length)?;
                self.last_line_end(position.length, end)?
            }
            Framing::None => length,
        };
        let left = length - position.length;
        let mut finding = format!(
            "{left} bytes at its end cannot be checked, for the log has lost the records that \
             may be there"
        );
        if kept < length {
            let copy = self.set_aside(kept, length)?;
            self.cut(kept)?;
            let (part, copy) = (length - kept, copy.display());
            finding += &format!(
                "; the last {part}, which are no lines or stand behind some that are none, are kept in {copy}"
            );
        }
        position.finding = Some(finding);
        position.length = kept;
        Ok(position)
    }

    /// Where the first block of a range begins whose bytes in the range are all zero, or where the
    /// range ends.
    pub(super) fn first_zero_block(&self, from: u64, to: u64) -> io::Result<u64> {
        let mut block = [0; BLOCK_BYTES];
        let mut at = from;
        while at < to {
            let end = (at + 1).next_multiple_of(BLOCK_BYTES as u64).min(to);
            let read = self.platform.read_at(self.file, at, &mut block[..(end - at) as usize])?;
            if read >= ZEROS_MIN && block[..read].iter().all(|byte| *byte == 0) {
                return Ok(at);
            }
            at = end;
        }
        Ok(to)
    }

    /// Where the last line that ends in a range does, or where the range begins.
    fn last_line_end(&self, from: u64, to: u64) -> io::Result<u64> {
        let mut piece = vec![0; PIECE_BYTES];
        let mut end = to;
        while end > from {
            let begin = end.saturating_sub(PIECE_BYTES as u64).max(from);
            let wanted = (end - begin) as usize;
            let read = self.platform.read_at(self.file, begin, &mut piece[..wanted])?;
            if let Some(at) = piece[..read].iter().rposition(|byte| *byte == b'\n') {
                return Ok(begin + at as u64 + 1);
            }
            end = begin;
        }
        Ok(from)
    }

    /// Cuts the file back to a length, durably.
    pub(crate) fn cut(&self, length: u64) -> io::Result<()> {
        self.platform.set_size(self.file, length)?;
        self.platform.sync(self.file)
    }

    /// Copies a range of the file into the quarantine folder, durably.
    pub(super) fn set_aside(&self, from: u64, to: u64) -> io::Result<PathBuf> {
        let platform = self.platform;
        platform.create_directories(self.quarantine)?;
        let target = self.quarantine.join(format!("file-{from}-{to}"));
        let options = OpenOptions { write: true, create: true, ..OpenOptions::default() };
        let copy = platform.open(&target, options)?;
        let mut piece = vec![0; PIECE_BYTES];
        let mut at = from;
        while at < to {
            let read = platform.read_at(self.file, at, &mut piece)?;
            if read == 0 {
                break;
            }
            platform.write_at(&copy, at - from, &piece[..read], false)?;
            at += read as u64;
        }
        platform.sync(&copy)?;
        platform.sync_directory(self.quarantine)?;
        Ok(target)
    }
}
