//! Acknowledgements: one file per participant, a single-producer single-consumer ring from Elgate
//! to it.
//!
//! ```text
//!  0x0000   magic u64 "ELGACKS1" │ version u32 │ participant u32 │ ring_id u64 │ incarnation u32 │ pid u32 │
//!           start_time u64 │ pid_namespace u64
//!  0x0080   written u64        entries written    (Elgate)
//!  0x0100   read u64           entries read       (participant)
//!  0x0180   reader_state u32   0 running, 1 sleeping (futex)
//!  0x1000   4,096 entries of 32 bytes:
//!           ┌ op_id u64 │ first_lsn u64 │ record_count u32 │ status u16 │ level u8 │ 0 │
//!           └ position u64
//! ```

use crate::error::RingError;
use crate::files;
use crate::host::{Host, SharedFile};
use crate::mapping::{Memory, RingMap};
use crate::process::ProcessIdentity;
use crate::sync::{AtomicU32, AtomicU64, Ordering};
use elgate_types::{ErrorCode, Level, Lsn};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: u64 = u64::from_le_bytes(*b"ELGACKS1");
const VERSION: u32 = 1;
const ENTRIES_AT: usize = 0x1000;
const ENTRY_WORDS: usize = 4;
const FILE_BYTES: usize = ENTRIES_AT + ENTRIES as usize * ENTRY_WORDS * 8;

/// Entries an acknowledgement ring holds.
pub(crate) const ENTRIES: u64 = 4_096;

const _: () = assert!(ENTRY_WORDS * 8 == 32 && ENTRIES.is_power_of_two());

mod offset {
    pub(super) const MAGIC: usize = 0x0000;
    pub(super) const VERSION: usize = 0x0008;
    pub(super) const PARTICIPANT: usize = 0x000c;
    pub(super) const RING_ID: usize = 0x0010;
    pub(super) const INCARNATION: usize = 0x0018;
    pub(super) const PID: usize = 0x001c;
    pub(super) const START_TIME: usize = 0x0020;
    pub(super) const PID_NAMESPACE: usize = 0x0028;
    pub(super) const WRITTEN: usize = 0x0080;
    pub(super) const READ: usize = 0x0100;
    pub(super) const READER_STATE: usize = 0x0180;
}

/// What became of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Completion {
    /// The participant's number of the submission's first record. Not to be relied on when the
    /// status is `SlotCorrupt`: it was read from the damaged slot.
    pub op_id: u64,
    /// LSN of the first record; the others follow without gaps. Zero on failure.
    pub first_lsn: Lsn,
    /// How many records.
    pub record_count: u32,
    /// `None` on success, else why not.
    pub status: Option<ErrorCode>,
    /// How far the records have come. Meaningful on success.
    pub level: Level,
}

impl Completion {
    fn encode(&self, position: u64) -> [u64; ENTRY_WORDS] {
        let status = self.status.map_or(0, |code| code as u16);
        [
            self.op_id,
            self.first_lsn.0,
            u64::from(self.record_count)
                | u64::from(status) << 32
                | u64::from(self.level as u8) << 48,
            position,
        ]
    }

    fn decode(words: [u64; ENTRY_WORDS]) -> Self {
        let status = (words[2] >> 32) as u16;
        Self {
            op_id: words[0],
            first_lsn: Lsn(words[1]),
            record_count: words[2] as u32,
            status: (status != 0)
                .then(|| ErrorCode::from_number(status).unwrap_or(ErrorCode::Internal)),
            level: match (words[2] >> 48) as u8 {
                2 => Level::Durable,
                3 => Level::Delivered,
                // Also for numbers of a later version: never claim more than is known.
                _ => Level::Accepted,
            },
        }
    }
}

/// A mapped file of acknowledgements.
#[derive(Debug)]
pub(crate) struct AckMap {
    memory: Memory,
    /// Its participant's alone: Elgate needs no descriptor per participant.
    file: Option<Box<dyn SharedFile>>,
    host: Arc<dyn Host>,
    path: PathBuf,
}

impl AckMap {
    /// Whether somebody has cut the file short: no completion arrives in it any more.
    pub(crate) fn is_lost(&self) -> bool {
        self.memory.is_lost()
    }

    /// `<ring>.ack.<index>`.
    pub(crate) fn path_of(ring: &Path, index: u16) -> PathBuf {
        files::with_suffix(ring, &format!(".ack.{index}"))
    }

    /// Creates the file of a participant that holds the lock on its index.
    pub(crate) fn create(
        ring: &RingMap,
        index: u16,
        incarnation: u32,
        owner: ProcessIdentity,
    ) -> Result<Self, RingError> {
        let path = Self::path_of(ring.path(), index);
        // Left by a predecessor that died before it had a place, or by one of a replaced ring.
        let host = ring.host();
        host.remove(&path);
        let file = host.create_sized(&path, FILE_BYTES as u64, files::PRIVATE)?;
        let map = Self::map(host, file, path)?;
        map.u32_at(offset::VERSION).store(VERSION, Ordering::Relaxed);
        map.u32_at(offset::PARTICIPANT).store(u32::from(index), Ordering::Relaxed);
        map.u64_at(offset::RING_ID).store(ring.ring_id(), Ordering::Relaxed);
        map.u32_at(offset::INCARNATION).store(incarnation, Ordering::Relaxed);
        map.u32_at(offset::PID).store(owner.pid, Ordering::Relaxed);
        map.u64_at(offset::START_TIME).store(owner.start_time, Ordering::Relaxed);
        map.u64_at(offset::PID_NAMESPACE).store(owner.pid_namespace, Ordering::Relaxed);
        // Pairs with the acquire load in `open`.
        map.u64_at(offset::MAGIC).store(MAGIC, Ordering::Release);
        Ok(map)
    }

    /// Opens the file of an attached participant, from the consumer's side. `None` if there is none
    /// that belongs to this very attachment.
    ///
    /// # Errors
    /// [`RingError::Io`] if that cannot be told now, for want of descriptors or memory.
    pub(crate) fn open(
        ring: &RingMap,
        index: u16,
        incarnation: u32,
    ) -> Result<Option<Self>, RingError> {
        let path = Self::path_of(ring.path(), index);
        let file = match ring.host().open_trusted(&path, FILE_BYTES as u64) {
            Err(error @ RingError::Io { .. }) => return Err(error),
            Err(_) => return Ok(None),
            Ok(file) => file,
        };
        let mut map = Self::map(ring.host(), file, path)?;
        map.file = None;
        // Pairs with the release store in `create`.
        let fits = map.u64_at(offset::MAGIC).load(Ordering::Acquire) == MAGIC
            && map.u32_at(offset::VERSION).load(Ordering::Relaxed) == VERSION
            && map.u32_at(offset::PARTICIPANT).load(Ordering::Relaxed) == u32::from(index)
            && map.u64_at(offset::RING_ID).load(Ordering::Relaxed) == ring.ring_id()
            && map.u32_at(offset::INCARNATION).load(Ordering::Relaxed) == incarnation;
        Ok(fits.then_some(map))
    }

    fn map(
        host: &Arc<dyn Host>,
        file: Box<dyn SharedFile>,
        path: PathBuf,
    ) -> Result<Self, RingError> {
        let memory = Memory::map(&*file, FILE_BYTES, &path)?;
        Ok(Self { memory, file: Some(file), host: host.clone(), path })
    }

    /// The process that attached.
    pub(crate) fn owner(&self) -> ProcessIdentity {
        ProcessIdentity {
            pid: self.u32_at(offset::PID).load(Ordering::Relaxed),
            start_time: self.u64_at(offset::START_TIME).load(Ordering::Relaxed),
            pid_namespace: self.u64_at(offset::PID_NAMESPACE).load(Ordering::Relaxed),
        }
    }

    /// Entries written so far.
    pub(crate) fn written(&self) -> &AtomicU64 {
        self.u64_at(offset::WRITTEN)
    }

    /// Entries read so far.
    pub(crate) fn read(&self) -> &AtomicU64 {
        self.u64_at(offset::READ)
    }

    /// 1 while the reader sleeps.
    pub(crate) fn reader_state(&self) -> &AtomicU32 {
        self.u32_at(offset::READER_STATE)
    }

    /// Stores an entry. Not visible before `written` says so.
    pub(crate) fn put(&self, sequence: u64, position: u64, completion: &Completion) {
        for (index, word) in completion.encode(position).into_iter().enumerate() {
            // Published by the release store of `written`.
            self.entry_word(sequence, index).store(word, Ordering::Relaxed);
        }
    }

    /// Loads an entry that `written` covers: its position, and what it says.
    pub(crate) fn get(&self, sequence: u64) -> (u64, Completion) {
        // Ordered by the acquire load of `written`.
        let words =
            [0, 1, 2, 3].map(|index| self.entry_word(sequence, index).load(Ordering::Relaxed));
        (words[3], Completion::decode(words))
    }

    /// Removes the file, if the name still leads to it.
    pub(crate) fn remove_file(&self) {
        if self.file.as_ref().is_some_and(|file| file.is_at(&self.path)) {
            self.host.remove(&self.path);
        }
    }

    fn entry_word(&self, sequence: u64, index: usize) -> &AtomicU64 {
        self.u64_at(ENTRIES_AT + ((sequence % ENTRIES) as usize * ENTRY_WORDS + index) * 8)
    }

    fn u32_at(&self, at: usize) -> &AtomicU32 {
        assert!(at.is_multiple_of(4) && at + 4 <= FILE_BYTES, "an offset of the layout");
        // SAFETY: aligned (the mapping is page-aligned), in range, alive with self, and only ever
        // accessed atomically.
        unsafe { &*self.memory.base().add(at).cast::<AtomicU32>() }
    }

    fn u64_at(&self, at: usize) -> &AtomicU64 {
        assert!(at.is_multiple_of(8) && at + 8 <= FILE_BYTES, "an offset of the layout");
        // SAFETY: as `u32_at`.
        unsafe { &*self.memory.base().add(at).cast::<AtomicU64>() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_written_is_read(
            op_id in any::<u64>(), lsn in any::<u64>(), record_count in any::<u32>(),
            status in 0_u16..=24, level in 1_u8..=3, position in any::<u64>(),
        ) {
            let completion = Completion {
                op_id,
                first_lsn: Lsn(lsn),
                record_count,
                status: ErrorCode::from_number(status),
                level: [Level::Accepted, Level::Durable, Level::Delivered][usize::from(level) - 1],
            };
            let words = completion.encode(position);
            prop_assert_eq!(Completion::decode(words), completion);
            prop_assert_eq!(words[3], position);
        }

        #[test]
        fn any_bits_are_read(words in prop::array::uniform4(any::<u64>())) {
            let _ = Completion::decode(words);
        }
    }
}
