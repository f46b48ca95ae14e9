//! The mapped ring file: its words as atomics, its slots as bytes to copy in and out.
//!
//! Everything is reached through atomics or through copies of raw memory; no reference to the plain
//! bytes of a slot ever exists, because another process may change them at any time.
//!
//! The size is checked when the file is opened. If a process with write permission *shrinks* the
//! file afterwards, the map is [lost](elgate_io::SharedMap::is_lost), and the ring is given up.

use crate::error::RingError;
use crate::files;
use crate::host::{Host, SharedFile};
use crate::layout::{
    self, CONTROL_BYTES, DATA_DIR_BYTES_MAX, FIRST_BODY_BYTES, HEADER_BYTES, NEXT_BODY_BYTES,
    RING_BYTES, RUN_MAX, SLOT_BYTES, SLOT_COUNT, SLOTS, WORD_BYTES, offset, slot_index,
};
use crate::message::{FIELD_BYTES, Header, Kind};
use crate::protocol::Shared;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use crate::word::Word;
use elgate_io::SharedMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// What a ring's creator decides about it.
#[derive(Debug, Clone)]
pub struct RingOptions {
    /// Permission bits of the file: 0600. A ring serves the processes of one user.
    pub mode: u32,
    /// Which of the daemon's rings this is, from 0. May be beyond the count: a ring left behind
    /// by a daemon that had more of them.
    pub ring_index: u32,
    /// How many rings the daemon has.
    pub ring_count: u32,
    /// The daemon's data directory, for producers that follow a log's watermarks; at most 1,020
    /// bytes.
    pub data_dir: String,
}

impl Default for RingOptions {
    fn default() -> Self {
        Self { mode: files::PRIVATE, ring_index: 0, ring_count: 1, data_dir: String::new() }
    }
}

impl RingOptions {
    pub(crate) fn check(&self) -> Result<(), RingError> {
        let invalid = |what: String| Err(RingError::Invalid { what });
        if self.mode != files::PRIVATE {
            return invalid(format!(
                "mode {:#o}: a ring serves one user, so it must be 0600",
                self.mode
            ));
        }
        if self.ring_count == 0 {
            return invalid("ring_count 0: there is at least one".to_owned());
        }
        if self.data_dir.len() > DATA_DIR_BYTES_MAX {
            let bytes = self.data_dir.len();
            return invalid(format!("data_dir: {bytes} bytes, at most {DATA_DIR_BYTES_MAX}"));
        }
        Ok(())
    }
}

/// Mapped memory, its address at hand: a submission reaches it in one step.
#[derive(Debug)]
pub(crate) struct Memory {
    base: *mut u8,
    map: Arc<SharedMap>,
}

// SAFETY: plain memory that several processes write; what is done with the address is justified
// where it is done. It stays mapped as long as the value lives.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    pub(crate) fn map(file: &dyn SharedFile, bytes: usize, path: &Path) -> Result<Self, RingError> {
        let map = file.map(bytes).map_err(|source| files::failed("map", path, source))?;
        assert!(map.bytes() >= bytes, "the whole file is mapped");
        Ok(Self { base: map.base(), map })
    }

    /// Whether somebody has cut the file short.
    pub(crate) fn is_lost(&self) -> bool {
        self.map.is_lost()
    }

    pub(crate) fn base(&self) -> *mut u8 {
        self.base
    }
}

/// An open, validated ring file.
#[derive(Debug)]
pub(crate) struct RingMap {
    // Declared before the file, so that the memory goes before the locks do.
    memory: Memory,
    file: Box<dyn SharedFile>,
    host: Arc<dyn Host>,
    path: PathBuf,
    /// Read once: what identifies completions must not change under anybody's hands.
    ring_id: u64,
}

impl RingMap {
    /// Opens and validates the ring at `path`.
    pub(crate) fn open(host: &Arc<dyn Host>, path: &Path) -> Result<Self, RingError> {
        let file = host.open_trusted(path, RING_BYTES as u64)?;
        let mut map = Self::map(host, file, path)?;
        map.check_geometry()?;
        map.ring_id = map.u64_at(offset::RING_ID).load(Ordering::Relaxed);
        Ok(map)
    }

    /// Creates an empty ring that counts from `first`, under a temporary name, fully initialised.
    /// The caller gives it its name.
    pub(crate) fn create(
        host: &Arc<dyn Host>,
        temporary: &Path,
        options: &RingOptions,
        first: u64,
    ) -> Result<Self, RingError> {
        let file = host.create_sized(temporary, RING_BYTES as u64, options.mode)?;
        let mut map = Self::map(host, file, temporary)?;
        map.ring_id = host.random_u64();
        map.u32_at(offset::VERSION).store(layout::VERSION, Ordering::Relaxed);
        map.u32_at(offset::CONTROL_BYTES).store(CONTROL_BYTES as u32, Ordering::Relaxed);
        map.u32_at(offset::SLOT_BYTES).store(SLOT_BYTES as u32, Ordering::Relaxed);
        map.u32_at(offset::SLOT_COUNT).store(SLOT_COUNT as u32, Ordering::Relaxed);
        map.u64_at(offset::RING_ID).store(map.ring_id, Ordering::Relaxed);
        map.tail().store(first, Ordering::Relaxed);
        map.head().store(first, Ordering::Relaxed);
        for position in first..first + SLOTS {
            map.word(position).store(Word::free(position).0, Ordering::Relaxed);
        }
        map.set_options(options);
        // Pairs with the acquire load in `check_geometry`: with the magic, all of the above.
        map.u64_at(offset::MAGIC).store(layout::MAGIC, Ordering::Release);
        Ok(map)
    }

    fn map(
        host: &Arc<dyn Host>,
        file: Box<dyn SharedFile>,
        path: &Path,
    ) -> Result<Self, RingError> {
        let memory = Memory::map(&*file, RING_BYTES, path)?;
        Ok(Self { memory, file, host: host.clone(), path: path.to_owned(), ring_id: 0 })
    }

    fn check_geometry(&self) -> Result<(), RingError> {
        let wrong = |what: String| Err(RingError::Incompatible { path: self.path.clone(), what });
        // Pairs with the release store in `create`.
        let magic = self.u64_at(offset::MAGIC).load(Ordering::Acquire);
        if magic != layout::MAGIC {
            return wrong(format!("it begins with {magic:#018x}, not with \"ELGRING1\""));
        }
        let version = self.u32_at(offset::VERSION).load(Ordering::Relaxed);
        if version != layout::VERSION {
            return wrong(format!("layout version {version}, not {}", layout::VERSION));
        }
        for (name, at, expected) in [
            ("control bytes", offset::CONTROL_BYTES, CONTROL_BYTES),
            ("slot bytes", offset::SLOT_BYTES, SLOT_BYTES),
            ("slots", offset::SLOT_COUNT, SLOT_COUNT),
        ] {
            let found = self.u32_at(at).load(Ordering::Relaxed);
            if found as usize != expected {
                return wrong(format!("{found} {name}, not {expected}"));
            }
        }
        Ok(())
    }

    /// Writes what the consumer may change when it opens an existing ring.
    pub(crate) fn set_options(&self, options: &RingOptions) {
        self.u32_at(offset::RING_INDEX).store(options.ring_index, Ordering::Relaxed);
        self.u32_at(offset::RING_COUNT).store(options.ring_count, Ordering::Relaxed);
        let mut bytes = [0_u8; DATA_DIR_BYTES_MAX];
        bytes[..options.data_dir.len()].copy_from_slice(options.data_dir.as_bytes());
        self.u32_at(offset::DATA_DIR_BYTES).store(0, Ordering::Relaxed);
        for (index, chunk) in bytes.chunks_exact(4).enumerate() {
            let word = u32::from_le_bytes([chunk[0], chunk[1], chunk[2], chunk[3]]);
            self.u32_at(offset::DATA_DIR + index * 4).store(word, Ordering::Relaxed);
        }
        let bytes = options.data_dir.len() as u32;
        // Pairs with the acquire load in `data_dir`.
        self.u32_at(offset::DATA_DIR_BYTES).store(bytes, Ordering::Release);
    }

    /// The daemon's data directory. Empty if the ring does not name one that makes sense.
    pub(crate) fn data_dir(&self) -> String {
        // Pairs with the release store in `set_options`.
        let bytes = self.u32_at(offset::DATA_DIR_BYTES).load(Ordering::Acquire) as usize;
        let mut all = Vec::with_capacity(DATA_DIR_BYTES_MAX);
        for index in 0..bytes.min(DATA_DIR_BYTES_MAX).div_ceil(4) {
            let word = self.u32_at(offset::DATA_DIR + index * 4).load(Ordering::Relaxed);
            all.extend_from_slice(&word.to_le_bytes());
        }
        all.truncate(bytes);
        String::from_utf8(all).unwrap_or_default()
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether the ring was given up, or its file cut short. The word first: only who looks learns
    /// of the latter. The load is ordered by fences where it matters.
    pub(crate) fn is_given_up(&self) -> bool {
        self.poisoned().load(Ordering::Relaxed) != 0 || self.memory.is_lost()
    }

    /// Names the file after it was renamed.
    pub(crate) fn set_path(&mut self, path: &Path) {
        self.path = path.to_owned();
    }

    pub(crate) fn file(&self) -> &dyn SharedFile {
        &*self.file
    }

    pub(crate) fn host(&self) -> &Arc<dyn Host> {
        &self.host
    }

    /// Whether the name still leads to this file.
    pub(crate) fn is_current(&self) -> bool {
        self.file.is_at(&self.path)
    }

    pub(crate) fn ring_id(&self) -> u64 {
        self.ring_id
    }

    pub(crate) fn poisoned(&self) -> &AtomicU32 {
        self.u32_at(offset::POISONED)
    }

    pub(crate) fn participant(&self, index: u16) -> &AtomicU64 {
        self.u64_at(offset::PARTICIPANTS + usize::from(index) * 8)
    }

    /// The 32-bit word at an offset of the control region.
    pub(crate) fn u32_at(&self, at: usize) -> &AtomicU32 {
        assert!(at.is_multiple_of(4) && at + 4 <= CONTROL_BYTES, "an offset of the layout");
        // SAFETY: aligned (the mapping is page-aligned), in range, alive with self, and only ever
        // accessed atomically.
        unsafe { &*self.memory.base().add(at).cast::<AtomicU32>() }
    }

    /// The 64-bit word at an offset of the control region.
    pub(crate) fn u64_at(&self, at: usize) -> &AtomicU64 {
        assert!(at.is_multiple_of(8) && at + 8 <= CONTROL_BYTES, "an offset of the layout");
        // SAFETY: as `u32_at`.
        unsafe { &*self.memory.base().add(at).cast::<AtomicU64>() }
    }

    fn slot(&self, position: u64) -> *mut u8 {
        // SAFETY: the index is below the slot count, so the slot lies inside the mapping.
        unsafe { self.memory.base().add(CONTROL_BYTES + slot_index(position) * SLOT_BYTES) }
    }

    /// Copies the header's fields out.
    pub(crate) fn read_fields(&self, position: u64) -> [u8; FIELD_BYTES] {
        let mut fields = [0; FIELD_BYTES];
        // SAFETY: the source is inside the slot; the destination is ours. Other processes may write
        // meanwhile: the copy is then garbage, which is what its validation is for.
        unsafe {
            let source = self.slot(position).add(WORD_BYTES);
            std::ptr::copy_nonoverlapping(source, fields.as_mut_ptr(), FIELD_BYTES);
        }
        fields
    }

    /// Copies a body out of the run at `position`.
    ///
    /// # Panics
    /// If the run crosses the end of the file or cannot hold the body: callers have checked both.
    pub(crate) fn read_body(&self, position: u64, run: u16, body: &mut [u8]) {
        self.check_run(position, run, body.len());
        let (mut slot, mut at, mut rest) = (self.slot(position), HEADER_BYTES, body);
        while !rest.is_empty() {
            let (piece, after) = rest.split_at_mut(rest.len().min(SLOT_BYTES - at));
            // SAFETY: `check_run` keeps every slot touched here inside the mapping. As in
            // `read_fields`, the content is validated afterwards.
            unsafe {
                std::ptr::copy_nonoverlapping(slot.add(at), piece.as_mut_ptr(), piece.len());
                // One past the last slot of the file is one past the mapping: still in bounds.
                slot = slot.add(SLOT_BYTES);
            }
            (at, rest) = (WORD_BYTES, after);
        }
    }

    /// Copies the submission in the run at `position`, its body to `body`. `None`: it is no valid one.
    pub(crate) fn read_submission(
        &self,
        position: u64,
        run: u16,
        body: &mut Vec<u8>,
    ) -> Option<([u8; FIELD_BYTES], Header)> {
        let fields = self.read_fields(position);
        let header = Header::decode(&fields);
        if !header.fits(run) {
            return None;
        }
        body.resize(header.body_bytes as usize, 0);
        self.read_body(position, run, body);
        (header.validate(&fields, body) == Some(Kind::Append)).then_some((fields, header))
    }

    /// Copies the fields, and what follows them in the same slot, into a claimed slot.
    pub(crate) fn write_first(&self, position: u64, bytes: &[u8]) {
        assert!(bytes.len() <= SLOT_BYTES - WORD_BYTES, "the bytes fit one slot");
        // SAFETY: inside the slot, which the caller has claimed; only bytes after the word.
        unsafe {
            let target = self.slot(position).add(WORD_BYTES);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len());
        }
    }

    /// Copies a part of a body into a claimed run, `body_offset` bytes after the body's beginning.
    pub(crate) fn write_body(&self, position: u64, run: u16, body_offset: usize, bytes: &[u8]) {
        self.check_run(position, run, body_offset + bytes.len());
        let (mut index, mut at) = match body_offset.checked_sub(FIRST_BODY_BYTES) {
            None => (0, HEADER_BYTES + body_offset),
            Some(beyond) => (1 + beyond / NEXT_BODY_BYTES, WORD_BYTES + beyond % NEXT_BODY_BYTES),
        };
        let mut rest = bytes;
        while !rest.is_empty() {
            let (piece, after) = rest.split_at(rest.len().min(SLOT_BYTES - at));
            // SAFETY: `check_run` keeps the slot inside the mapping; the caller has claimed the run.
            unsafe {
                let target = self.slot(position).add(index * SLOT_BYTES + at);
                std::ptr::copy_nonoverlapping(piece.as_ptr(), target, piece.len());
            }
            (index, at, rest) = (index + 1, WORD_BYTES, after);
        }
    }

    fn check_run(&self, position: u64, run: u16, body_bytes: usize) {
        assert!(
            slot_index(position) + usize::from(run) <= SLOT_COUNT
                && body_bytes <= layout::run_capacity(run),
            "{body_bytes} bytes in {run} slots at {position}"
        );
    }
}

impl Shared for RingMap {
    fn slot_count(&self) -> u64 {
        SLOTS
    }
    fn run_max(&self) -> u16 {
        RUN_MAX
    }
    fn tail(&self) -> &AtomicU64 {
        self.u64_at(offset::TAIL)
    }
    fn head(&self) -> &AtomicU64 {
        self.u64_at(offset::HEAD)
    }
    fn consumer_state(&self) -> &AtomicU32 {
        self.u32_at(offset::CONSUMER_STATE)
    }
    fn space_sequence(&self) -> &AtomicU32 {
        self.u32_at(offset::SPACE_SEQUENCE)
    }
    fn space_waiting(&self) -> &AtomicU32 {
        self.u32_at(offset::SPACE_WAITING)
    }
    fn word(&self, position: u64) -> &AtomicU64 {
        // SAFETY: the slot is inside the mapping and page-aligned, alive with self, and its first
        // eight bytes are only ever accessed atomically.
        unsafe { &*self.slot(position).cast::<AtomicU64>() }
    }
}
