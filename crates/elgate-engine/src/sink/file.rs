//! The file sink: appends each record, framed, to one file.
//!
//! Effectively once while Elgate is the file's only writer: the cursor holds the file's length at
//! a known record, and after a crash `file_tail.rs` works out what was written beyond it.
//!
//! ```text
//!  offered ──► filling ──► writing ──► written ──(10 ms)──► syncing ──► delivered ──► cursor saved
//! ```
//!
//! One write at a time, so that the file is always a prefix of the log. Syncs are spaced out, so
//! that they do not compete with the log for the device.

use super::{CursorSaver, FilePosition, SinkStats, Trouble};
use crate::config::Framing;
use crate::feed::Feed;
use elgate_io::{BlockingReply, Buffer, Completion, File, FileIdentity, Op, Outcome, Platform};
use elgate_types::{ErrorCode, Lsn, Monotonic, kill_site, mark, seeded_bug};
use std::fmt::Display;
use std::path::PathBuf;
use std::time::Duration;

/// How much one write carries, unless a single record is larger.
const WRITE_BYTES: usize = 256 * 1024;
/// Longest time between a write and the sync that makes it `delivered`.
const SYNC_AFTER: Duration = Duration::from_millis(10);
/// Longest time between saves of the cursor while records flow.
const SAVE_AFTER: Duration = Duration::from_millis(100);
/// Pause after a failed write or sync.
const RETRY_AFTER: Duration = Duration::from_secs(1);

const TOKEN_WRITE: u32 = 1;
const TOKEN_SYNC: u32 = 2;
const TOKEN_CURSOR: u32 = 3;
const TOKEN_REWIND: u32 = 4;

/// What a file sink writes to.
pub(crate) struct FileTarget {
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    pub(crate) identity: FileIdentity,
    pub(crate) boot_id: u64,
    pub(crate) framing: Framing,
}

/// What follows a failed write or sync. A write may have got through in part; after a sync the
/// kernel may have dropped the pages and called them clean, so a second one would prove nothing.
/// The file is cut back to what is known to be stable, and written again from the log.
#[derive(PartialEq)]
enum Rewind {
    None,
    Wanted,
    UnderWay,
}

/// See the module text.
pub(crate) struct FileSink {
    path: PathBuf,
    file: File,
    identity: FileIdentity,
    boot_id: u64,
    framing: Framing,
    cursor: CursorSaver,
    /// First record not yet taken.
    next: Lsn,
    /// Where the next write goes: behind part of a record, if the last write came up short.
    length: u64,
    written: Lsn,
    /// Bytes of the file that are records up to `written`.
    written_length: u64,
    synced: Lsn,
    synced_length: u64,
    filling: Buffer,
    /// Whether the next record no longer fits in it.
    is_full: bool,
    filling_through: Lsn,
    writing: bool,
    /// What a write under way carries: offset within the buffer already written, last record.
    write_through: Lsn,
    unwritten: Option<Buffer>,
    syncing: Option<(Lsn, u64)>,
    sync_at: Option<Monotonic>,
    save_at: Option<Monotonic>,
    retry_at: Option<Monotonic>,
    rewind: Rewind,
    failing: bool,
    retiring: bool,
    trouble: Option<Trouble>,
    stats: SinkStats,
}

impl FileSink {
    /// A sink that goes on where `position` says.
    pub(crate) fn new(target: FileTarget, cursor: CursorSaver, position: &FilePosition) -> Self {
        let FileTarget { path, file, identity, boot_id, framing } = target;
        let &FilePosition { delivered, length, .. } = position;
        Self {
            path,
            file,
            identity,
            boot_id,
            framing,
            cursor,
            next: delivered.next(),
            length,
            written: delivered,
            written_length: length,
            synced: delivered,
            synced_length: length,
            filling: Buffer::with_capacity(WRITE_BYTES),
            is_full: false,
            filling_through: delivered,
            writing: false,
            write_through: delivered,
            unwritten: None,
            syncing: None,
            sync_at: None,
            save_at: None,
            retry_at: None,
            rewind: Rewind::None,
            failing: false,
            retiring: false,
            trouble: None,
            stats: SinkStats::default(),
        }
    }

    /// Tells the operator what was found when the file was opened.
    pub(crate) fn warn(&mut self, finding: Trouble) {
        self.trouble = Some(finding);
    }

    pub(crate) fn next(&self) -> Lsn {
        self.next
    }

    pub(crate) fn wants(&self) -> bool {
        !self.retiring
            && !self.failing
            && self.rewind == Rewind::None
            && !self.is_full
            && self.filling.spare() > WRITE_BYTES / 4
    }

    pub(crate) fn offer(&mut self, feed: &Feed, _: Monotonic) {
        let end: &[u8] = match self.framing {
            Framing::Newline => b"\n",
            Framing::None => b"",
        };
        let Self { next, filling, is_full, filling_through, .. } = self;
        feed.each(*next, &mut |lsn, payload| {
            let bytes = payload.len() + end.len();
            if bytes > filling.spare() {
                if !filling.is_empty() {
                    *is_full = true;
                    return false;
                }
                *filling = Buffer::with_capacity(bytes);
            }
            filling.extend(payload);
            filling.extend(end);
            *filling_through = lsn;
            *next = lsn.next();
            true
        });
    }

    pub(crate) fn skip(&mut self, through: Lsn) {
        self.next = self.next.max(through.next());
        self.filling_through = self.filling_through.max(through);
        if self.filling.is_empty() && !self.writing && self.unwritten.is_none() {
            self.written = self.written.max(through);
            if self.syncing.is_none() && self.sync_at.is_none() {
                self.synced = self.synced.max(through);
            }
        }
    }

    pub(crate) fn poll_op(&mut self, now: Monotonic) -> Option<(u32, Op)> {
        if self.retry_at.is_some_and(|at| at <= now) {
            self.retry_at = None;
        }
        if self.rewind != Rewind::None {
            return self.poll_rewind();
        }
        self.poll_write().or_else(|| self.poll_sync(now)).or_else(|| self.poll_save(now))
    }

    fn poll_rewind(&mut self) -> Option<(u32, Op)> {
        // A sync under way may yet succeed, and move what is stable on: it is waited for.
        let busy = self.rewind == Rewind::UnderWay || self.writing || self.syncing.is_some();
        if busy || self.retry_at.is_some() {
            return None;
        }
        mark::hit("sink.file.rewind");
        self.rewind = Rewind::UnderWay;
        let file = self.file.clone();
        let (written, stable) = (self.length, self.synced_length);
        let attempted = self.unwritten.as_ref().map_or(0, |buffer| buffer.len() as u64);
        let cut = move |platform: &dyn Platform| -> std::io::Result<BlockingReply> {
            // From `stable`, because an earlier attempt may have cut and then failed to sync.
            let length = platform.size(&file)?;
            if !(stable..=written + attempted).contains(&length) {
                // Somebody else writes this file too: a record twice is better than theirs gone.
                return Ok(Box::new(length));
            }
            platform.set_size(&file, stable)?;
            platform.sync(&file)?;
            Ok(Box::new(stable))
        };
        Some((TOKEN_REWIND, Op::Blocking(Box::new(cut))))
    }

    fn handle_rewind(&mut self, completion: Completion, now: Monotonic) {
        match completion.result {
            Ok(outcome) => {
                self.rewind = Rewind::None;
                self.failing = false;
                self.length = match outcome {
                    Outcome::Reply(length) => length.downcast().map_or(self.length, |at| *at),
                    _ => self.length,
                };
                self.written = self.synced;
                self.written_length = self.length;
                self.write_through = self.synced;
                self.filling_through = self.synced;
                self.next = self.synced.next();
                self.filling.clear();
                self.is_full = false;
                self.unwritten = None;
            }
            Err(error) => {
                self.rewind = Rewind::Wanted;
                self.fail_io("cut back, after a failure,", &error, now);
            }
        }
    }

    fn poll_write(&mut self) -> Option<(u32, Op)> {
        if self.writing || self.retry_at.is_some() {
            return None;
        }
        let buffer = match self.unwritten.take() {
            Some(buffer) => buffer,
            None if self.filling.is_empty() => return None,
            None => {
                self.write_through = self.filling_through;
                self.is_full = false;
                std::mem::replace(&mut self.filling, Buffer::with_capacity(WRITE_BYTES))
            }
        };
        self.writing = true;
        let file = self.file.clone();
        // The file is opened for appending, so the offset only documents where we expect to be.
        Some((TOKEN_WRITE, Op::Write { file, offset: self.length, buffer, durable: false }))
    }

    fn poll_sync(&mut self, now: Monotonic) -> Option<(u32, Op)> {
        let due = self.sync_at.is_some_and(|at| at <= now || self.retiring);
        if !due || self.syncing.is_some() || self.retry_at.is_some() {
            return None;
        }
        if self.retiring && self.writing {
            return None;
        }
        self.sync_at = None;
        self.syncing = Some((self.written, self.written_length));
        Some((TOKEN_SYNC, Op::Sync { file: self.file.clone() }))
    }

    fn poll_save(&mut self, now: Monotonic) -> Option<(u32, Op)> {
        let due = self.save_at.is_some_and(|at| at <= now || self.retiring);
        if !due || self.retry_at.is_some() {
            return None;
        }
        if self.cursor.is_ahead_of(self.synced) {
            self.save_at = None;
            return None;
        }
        let op = self.cursor.save(self.synced, self.position(), true)?;
        self.save_at = None;
        Some((TOKEN_CURSOR, op))
    }

    fn position(&self) -> [u64; 4] {
        [self.synced_length, self.identity.device, self.identity.inode, self.boot_id]
    }

    pub(crate) fn handle(&mut self, token: u32, completion: Completion, now: Monotonic) {
        match token {
            TOKEN_WRITE => self.handle_write(completion, now),
            TOKEN_SYNC => self.handle_sync(completion, now),
            TOKEN_REWIND => self.handle_rewind(completion, now),
            _ => match self.cursor.handle(completion) {
                // What else may have failed is mended by cutting the file back.
                Ok(()) => self.failing = self.rewind != Rewind::None,
                Err(error) => {
                    self.fail("save the cursor of", error.code(), &error, now);
                    self.save_at = Some(now.after(RETRY_AFTER));
                }
            },
        }
    }

    fn handle_write(&mut self, completion: Completion, now: Monotonic) {
        self.writing = false;
        let Some(mut buffer) = completion.buffer else { return };
        match completion.result {
            Ok(Outcome::Bytes(bytes)) if bytes > 0 => {
                kill_site::pass("sink.file.written");
                self.failing = false;
                self.length += bytes as u64;
                self.sync_at.get_or_insert(now.after(SYNC_AFTER));
                if bytes < buffer.len() {
                    buffer.copy_within(bytes.., 0);
                    let rest = buffer.len() - bytes;
                    buffer.set_length(rest);
                    self.unwritten = Some(buffer);
                    return;
                }
                self.stats.delivered_records += self.write_through.0 - self.written.0;
                self.stats.delivered_bytes += buffer.len() as u64;
                self.written = self.write_through;
                self.written_length = self.length;
                if self.filling.is_empty() && buffer.capacity() == WRITE_BYTES {
                    buffer.clear();
                    self.filling = buffer;
                }
            }
            other => {
                let error = match other {
                    Err(error) => error,
                    Ok(_) => std::io::Error::from(std::io::ErrorKind::WriteZero),
                };
                self.unwritten = Some(buffer);
                self.rewind = Rewind::Wanted;
                self.fail_io("append to", &error, now);
            }
        }
    }

    fn handle_sync(&mut self, completion: Completion, now: Monotonic) {
        let Some((through, length)) = self.syncing.take() else { return };
        match completion.result {
            Ok(_) => {
                self.synced = through;
                self.synced_length = length;
                self.save_at.get_or_insert(now.after(SAVE_AFTER));
            }
            Err(_) if seeded_bug::is("retry-failed-syncs") => self.sync_at = Some(now),
            Err(error) => {
                self.rewind = Rewind::Wanted;
                self.fail_io("sync", &error, now);
            }
        }
    }

    fn fail_io(&mut self, intent: &str, error: &std::io::Error, now: Monotonic) {
        let code = match error.kind() {
            std::io::ErrorKind::PermissionDenied => ErrorCode::PermissionDenied,
            _ => ErrorCode::Io,
        };
        self.fail(intent, code, error, now);
    }

    fn fail(&mut self, intent: &str, code: ErrorCode, error: &dyn Display, now: Monotonic) {
        self.failing = true;
        self.stats.retries += 1;
        self.retry_at = Some(now.after(RETRY_AFTER));
        self.trouble = Some(Trouble {
            code,
            message: format!(
                "cannot {intent} {}: {error}; the records stay in the log and this is tried again",
                self.path.display()
            ),
        });
    }

    pub(crate) fn delivered(&self) -> Lsn {
        self.synced
    }

    pub(crate) fn next_wakeup(&self) -> Option<Monotonic> {
        // While a failure is being waited out or mended, nothing else can happen; nor can what is
        // under way be begun again.
        if self.retry_at.is_some() || self.rewind != Rewind::None {
            return self.retry_at;
        }
        let syncs = self.syncing.is_none() && !(self.retiring && self.writing);
        let sync_at = self.sync_at.filter(|_| syncs);
        let save_at = self.save_at.filter(|_| !self.cursor.is_saving());
        sync_at.into_iter().chain(save_at).min()
    }

    pub(crate) fn retire(&mut self, _: Monotonic) {
        self.retiring = true;
    }

    pub(crate) fn is_idle(&self) -> bool {
        let busy = self.writing
            || self.syncing.is_some()
            || self.rewind == Rewind::UnderWay
            || self.cursor.is_saving();
        let pending = !self.filling.is_empty() || self.unwritten.is_some();
        let unsaved = self.sync_at.is_some() || self.save_at.is_some();
        // A sink that is failing cannot finish; its records are safe in the log.
        !busy && ((!pending && !unsaved) || (self.retiring && self.failing))
    }

    pub(crate) fn is_retrying(&self) -> bool {
        self.failing
    }

    pub(crate) fn take_trouble(&mut self) -> Option<Trouble> {
        self.trouble.take()
    }

    pub(crate) fn stats(&self) -> SinkStats {
        self.stats.clone()
    }
}
