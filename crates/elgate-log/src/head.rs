//! The head file: watermarks, the writer's identity and the index of the segment being written,
//! mapped by the writer and every reader.
//!
//! ```text
//! byte 0x000  magic u64 "ELGHEAD1" (stored last) │ version u32 │ flush_mode u32 │ log_id u128
//!      0x080  visible_lsn u64      0x088 durable_lsn u64    0x090 delivered_lsn u64
//!      0x098  active_sequence u64  0x0a0 durable_end u64    0x0a8 epoch u64    0x0b0 first_lsn u64
//!      0x100  notify u32 (futex) │ waiting u32
//!      0x180  writer: pid u32 │ 0 │ start_time u64
//!      0x1000 index: sequence u64 (0: being changed) │ count u64
//!      0x1010 entries, at most 670: offset u64, first_lsn u64, first_time_us u64
//! ```
//!
//! The index is that of a footer (`index.rs`), while its segment has none yet; it only grows
//! until another segment begins. Its entries are hints as well: whoever follows one checks what
//! is there.
//!
//! Never synced: exact after a process's death, a hint after a power cut, and a hint that can
//! only be too low, because a watermark is stored only after the sync it tells of. The writer
//! holds the file's advisory lock for as long as it lives; that, not the pid, is what readers ask
//! to learn whether there is one. The file is never replaced, so a reader that waits on it also
//! hears of writers still to come.

mod live_index;

use crate::batch::COUNT_MAX;
use crate::error::{AtPath, IoFault};
use crate::index::{INDEX_ENTRIES_MAX, INDEX_ENTRY_BYTES};
use crate::naming::head_path;
use elgate_io::{File, OpenOptions, Platform, SharedMap, futex};
use elgate_types::limits::BLOCK_BYTES;
use elgate_types::{FlushMode, Lsn};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
use std::time::Duration;

const HEAD_BYTES: usize = 5 * BLOCK_BYTES;
const MAGIC: u64 = u64::from_le_bytes(*b"ELGHEAD1");
const VERSION: u32 = 2;

const AT_MAGIC: usize = 0x000;
const AT_VERSION: usize = 0x008;
const AT_FLUSH_MODE: usize = 0x00c;
const AT_LOG_ID: usize = 0x010;
const AT_VISIBLE: usize = 0x080;
const AT_DURABLE: usize = 0x088;
const AT_DELIVERED: usize = 0x090;
const AT_ACTIVE_SEQUENCE: usize = 0x098;
const AT_DURABLE_END: usize = 0x0a0;
const AT_EPOCH: usize = 0x0a8;
const AT_FIRST: usize = 0x0b0;
const AT_NOTIFY: usize = 0x100;
const AT_WAITING: usize = 0x104;
const AT_WRITER_PID: usize = 0x180;
const AT_WRITER_START: usize = 0x188;
const AT_INDEX_SEQUENCE: usize = 0x1000;
const AT_INDEX_COUNT: usize = 0x1008;
const AT_INDEX_ENTRIES: usize = 0x1010;
const _: () = assert!(AT_INDEX_ENTRIES + INDEX_ENTRIES_MAX * INDEX_ENTRY_BYTES <= HEAD_BYTES);

/// What a head file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Watermarks {
    /// Last record handed to the device and written, durable or not.
    pub visible: Lsn,
    /// Last durable record.
    pub durable: Lsn,
    /// Last record that the sink's far end has taken.
    pub delivered: Lsn,
    /// First record still kept.
    pub first: Lsn,
    /// Sequence of the segment being written.
    pub active_sequence: u64,
    /// Where the durable part of that segment ends.
    pub durable_end: u64,
    /// The writer's epoch.
    pub epoch: u64,
    /// Process that last opened the log for writing, 0 after it was closed.
    pub writer_pid: u32,
}

impl Watermarks {
    /// Whether what a head file says can be: it has no checksum, and a flipped bit in it must not
    /// pass for a proof that records were durable. Asked where no writer lives; beside one, the
    /// words are read one after the other, and may differ in age.
    pub(crate) fn are_plausible(&self) -> bool {
        let counts = [self.visible.0, self.delivered.0, self.active_sequence, self.epoch];
        counts.iter().all(|count| *count < COUNT_MAX)
            && self.durable <= self.visible
            && self.first <= self.visible.next()
    }
}

/// The mapped words, whoever looks at them.
#[derive(Debug)]
struct Words(Arc<SharedMap>);

impl Words {
    fn u64(&self, offset: usize) -> &AtomicU64 {
        self.0.u64_at(offset)
    }

    fn u32(&self, offset: usize) -> &AtomicU32 {
        self.0.u32_at(offset)
    }

    fn log_id(&self) -> u128 {
        // Relaxed: written before the magic, which the caller has acquired.
        let low = self.u64(AT_LOG_ID).load(Ordering::Relaxed);
        let high = self.u64(AT_LOG_ID + 8).load(Ordering::Relaxed);
        u128::from(high) << 64 | u128::from(low)
    }

    fn is_valid(&self) -> bool {
        // Acquire pairs with the release store of the magic in `HeadWriter::start`.
        self.u64(AT_MAGIC).load(Ordering::Acquire) == MAGIC
            && self.u32(AT_VERSION).load(Ordering::Relaxed) == VERSION
    }

    fn watermarks(&self) -> Watermarks {
        // Acquire pairs with the release stores of `HeadWriter::publish`: whoever sees a durable
        // watermark sees the file's bytes that it tells of.
        let lsn = |offset| Lsn(self.u64(offset).load(Ordering::Acquire));
        Watermarks {
            durable: lsn(AT_DURABLE),
            visible: lsn(AT_VISIBLE),
            delivered: lsn(AT_DELIVERED),
            first: lsn(AT_FIRST),
            active_sequence: lsn(AT_ACTIVE_SEQUENCE).0,
            durable_end: lsn(AT_DURABLE_END).0,
            epoch: lsn(AT_EPOCH).0,
            writer_pid: self.u32(AT_WRITER_PID).load(Ordering::Relaxed),
        }
    }
}

/// The writer's side. Holds the lock that keeps every other writer out.
#[derive(Debug)]
pub(crate) struct HeadWriter {
    words: Words,
    lock: File,
    path: PathBuf,
}

/// A probe by a reader holds the lock for microseconds; a writer holds it for good.
const LOCK_ATTEMPTS: u32 = 40;
const LOCK_PAUSE: Duration = Duration::from_millis(1);

impl HeadWriter {
    /// Opens or creates the head file and takes its lock. `None`: another writer has it.
    pub(crate) fn lock(platform: &dyn Platform, dir: &Path) -> Result<Option<Self>, IoFault> {
        let path = head_path(dir);
        let options = OpenOptions { read: true, write: true, create: true, ..Default::default() };
        let file = platform.open(&path, options).at("open", &path)?;
        let mut attempt = 0;
        while !platform.try_lock(&file).at("lock", &path)? {
            attempt += 1;
            if attempt == LOCK_ATTEMPTS {
                return Ok(None);
            }
            // Nobody wakes this word: a pause that needs no clock of our own.
            futex::wait(&AtomicU32::new(0), 0, Some(LOCK_PAUSE));
        }
        let words = Words(map_whole(platform, &file, &path)?);
        Ok(Some(Self { words, lock: file, path }))
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether somebody has cut the file short: nobody sees any more what is stored here.
    pub(crate) fn is_lost(&self) -> bool {
        self.words.0.is_lost()
    }

    /// What makes the file whole again and maps it anew; the result goes to
    /// [`go_on_in`](Self::go_on_in). Blocking.
    pub(crate) fn mend(
        &self,
    ) -> impl FnOnce(&dyn Platform) -> Result<Arc<SharedMap>, IoFault> + Send + 'static {
        let (file, path) = (self.lock.clone(), self.path.clone());
        move |platform| map_whole(platform, &file, &path)
    }

    /// Goes on in another map; [`start`](Self::start) follows.
    pub(crate) fn go_on_in(&mut self, map: Arc<SharedMap>) {
        self.words = Words(map);
    }

    /// The file that carries the lock.
    pub(crate) fn file(&self) -> &File {
        &self.lock
    }

    /// What the last writer left, if this is a head file of a log and not something else.
    pub(crate) fn previous(&self) -> Option<(u128, Watermarks)> {
        self.words.is_valid().then(|| (self.words.log_id(), self.words.watermarks()))
    }

    /// Begins the reign of this writer.
    pub(crate) fn start(
        &self,
        log_id: u128,
        flush: FlushMode,
        marks: &Watermarks,
        start_time: u64,
    ) {
        let words = &self.words;
        // Release pairs with the acquire load of the magic: it is gone before anything changes.
        words.u64(AT_MAGIC).store(0, Ordering::Release);
        words.u32(AT_VERSION).store(VERSION, Ordering::Relaxed);
        words.u32(AT_FLUSH_MODE).store(flush_code(flush), Ordering::Relaxed);
        words.u64(AT_LOG_ID).store(log_id as u64, Ordering::Relaxed);
        words.u64(AT_LOG_ID + 8).store((log_id >> 64) as u64, Ordering::Relaxed);
        words.u64(AT_DELIVERED).store(marks.delivered.0, Ordering::Relaxed);
        words.u32(AT_WRITER_PID).store(std::process::id(), Ordering::Relaxed);
        words.u64(AT_WRITER_START).store(start_time, Ordering::Relaxed);
        self.publish(marks);
        // Release pairs with the acquire load in `Words::is_valid`.
        words.u64(AT_MAGIC).store(MAGIC, Ordering::Release);
        self.notify();
    }

    /// Stores all watermarks except `delivered`, then wakes readers that wait.
    pub(crate) fn publish(&self, marks: &Watermarks) {
        let words = &self.words;
        // Release, each: pairs with the acquire loads of `Words::watermarks`.
        words.u64(AT_FIRST).store(marks.first.0, Ordering::Release);
        words.u64(AT_EPOCH).store(marks.epoch, Ordering::Release);
        words.u64(AT_ACTIVE_SEQUENCE).store(marks.active_sequence, Ordering::Release);
        words.u64(AT_DURABLE_END).store(marks.durable_end, Ordering::Release);
        words.u64(AT_VISIBLE).store(marks.visible.0, Ordering::Release);
        words.u64(AT_DURABLE).store(marks.durable.0, Ordering::Release);
        self.notify();
    }

    pub(crate) fn set_delivered(&self, lsn: Lsn) {
        // Release pairs with the acquire load of `Words::watermarks`.
        self.words.u64(AT_DELIVERED).store(lsn.0, Ordering::Release);
    }

    /// Says that the writer has gone, and lets waiting readers look.
    pub(crate) fn close(&self) {
        self.words.u32(AT_WRITER_PID).store(0, Ordering::Relaxed);
        self.notify();
    }

    fn notify(&self) {
        // SeqCst pairs with the fence in `HeadView::wait_until`: either this sees the flag, or
        // the reader's second look sees the watermark.
        fence(Ordering::SeqCst);
        let waiting = self.words.u32(AT_WAITING);
        if waiting.load(Ordering::Relaxed) != 0 {
            waiting.store(0, Ordering::Relaxed);
            let notify = self.words.u32(AT_NOTIFY);
            // Release pairs with the acquire load of the word in `HeadView::wait_until`.
            notify.fetch_add(1, Ordering::Release);
            futex::wake(notify, u32::MAX);
        }
    }
}

/// Maps the file, once every page of it has a block: one without would end up lost when the disk is
/// full.
fn map_whole(platform: &dyn Platform, file: &File, path: &Path) -> Result<Arc<SharedMap>, IoFault> {
    let bytes = platform.size(file).at("inspect", path)?;
    if let Some(missing) = (HEAD_BYTES as u64).checked_sub(bytes).filter(|bytes| *bytes > 0) {
        let zeros = &[0; HEAD_BYTES][..missing as usize];
        platform.write_at(file, bytes, zeros, false).at("write", path)?;
    }
    platform.map(file, HEAD_BYTES).at("map", path)
}

/// A log's head file as readers and onlookers in any process see it.
#[derive(Debug)]
pub struct HeadView {
    words: Words,
    path: PathBuf,
}

impl HeadView {
    /// Maps the head file. `None` if there is none, or it may not be written (waiting sets a
    /// flag in it), or it is something else.
    #[must_use]
    pub fn open(platform: &dyn Platform, dir: &Path) -> Option<Self> {
        let path = head_path(dir);
        let options = OpenOptions { read: true, write: true, ..Default::default() };
        let file = platform.open(&path, options).ok()?;
        let words = Words(platform.map(&file, HEAD_BYTES).ok()?);
        Some(Self { words, path })
    }

    /// Where it is.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether somebody has cut the file short: what is seen here is nobody's.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.words.0.is_lost()
    }

    /// How far the sink's far end has come. `None` while the file makes no sense. One load.
    #[must_use]
    pub fn delivered(&self) -> Option<Lsn> {
        // Acquire pairs with the release store in `HeadWriter::set_delivered`.
        let delivered = || Lsn(self.words.u64(AT_DELIVERED).load(Ordering::Acquire));
        self.words.is_valid().then(delivered)
    }

    /// What it says, if it belongs to the log `log_id`.
    pub(crate) fn watermarks(&self, log_id: u128) -> Option<Watermarks> {
        (self.words.is_valid() && self.words.log_id() == log_id).then(|| self.words.watermarks())
    }

    /// The log it belongs to.
    pub(crate) fn log_id(&self) -> Option<u128> {
        self.words.is_valid().then(|| self.words.log_id())
    }

    /// Whether the log is never synced for its own sake, and so lives in the page cache.
    pub(crate) fn is_cached(&self) -> bool {
        // Relaxed: set once per writer, and both ways of reading give the same bytes.
        let mode = self.words.u32(AT_FLUSH_MODE).load(Ordering::Relaxed);
        mode == flush_code(FlushMode::None)
    }

    /// The last record a reader may see while a writer lives.
    pub(crate) fn readable(&self, marks: &Watermarks) -> Lsn {
        if self.is_cached() { marks.visible.max(marks.durable) } else { marks.durable }
    }

    /// Whether a writer has the log open.
    pub(crate) fn writer_is_alive(&self, platform: &dyn Platform) -> bool {
        let options = OpenOptions { read: true, write: true, ..Default::default() };
        let Ok(file) = platform.open(&self.path, options) else { return false };
        matches!(platform.try_lock(&file), Ok(false))
    }

    /// Waits until `is_reached` holds, something else is published, or the time is up. Returns
    /// whether it holds.
    pub(crate) fn wait_until(&self, timeout: Duration, is_reached: impl Fn() -> bool) -> bool {
        let notify = self.words.u32(AT_NOTIFY);
        // Acquire pairs with the release increment in `HeadWriter::notify`.
        let before = notify.load(Ordering::Acquire);
        self.words.u32(AT_WAITING).store(1, Ordering::Relaxed);
        // SeqCst pairs with the fence in `HeadWriter::notify`.
        fence(Ordering::SeqCst);
        if is_reached() {
            return true;
        }
        futex::wait(notify, before, Some(timeout));
        is_reached()
    }
}

fn flush_code(flush: FlushMode) -> u32 {
    match flush {
        FlushMode::Auto => 0,
        FlushMode::Manual => 1,
        FlushMode::None => 2,
    }
}
