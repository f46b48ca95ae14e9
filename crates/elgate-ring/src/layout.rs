//! Where everything lies in the ring file. Little-endian; every word that two sides write stands
//! alone on its own 128 bytes (two cache lines: the prefetcher fetches pairs).
//!
//! ```text
//!  byte      control region, 16 KiB
//!  0x0000   ┌ magic u64 "ELGRING1" │ version u32 │ control_bytes u32 │ slot_bytes u32 │ slot_count u32 │
//!           └ ring_id u64 │ ring_index u32 │ ring_count u32 │ poisoned u32
//!  0x0080   tail u64             next position to claim                 producers: CAS forward
//!  0x0100   head u64             first position not yet released        consumer: store-release
//!  0x0180   consumer_state u32   0 running, 1 sleeping (futex)          consumer sets, producers clear
//!  0x0200   space_sequence u32 (futex) │ space_waiting u32              full ring: producers wait
//!  0x0280   daemon: epoch u64 │ pid u32 │ 0 │ start_time u64 │ pid_namespace u64
//!  0x0400   data_dir: length u32, UTF-8 bytes (at most 1,020)
//!  0x0800   closed_count u32, and from 0x0880 up to 128 words u64       routes that take nothing for now
//!  0x2000   participants: 1,024 words u64                               index 0 is the consumer
//!  0x4000   slot 0 │ slot 1 │ ... │ slot 1019
//!
//!  byte      first slot of a run              byte    every further slot of the run
//!  0x000    word u64                          0x000   word u64, untouched: free(position)
//!  0x008    body_bytes u32 │ crc32c u32       0x008   body goes on
//!  0x010    op_id u64
//!  0x018    sent_us u64
//!  0x020    record_count u32 │ kind u8 │ route_bytes u8 │ flags u16
//!  0x028    reserved, zero
//!  0x040    body: route name, then per record { length u32, payload }
//! ```
//!
//! No payload byte ever lies where a word lies: what a producer puts into its body can never be
//! mistaken for a claim or a commit, neither by a delayed producer nor by salvage.

use elgate_types::limits;

/// First eight bytes of a ring file, stored last when it is created.
pub(crate) const MAGIC: u64 = u64::from_le_bytes(*b"ELGRING1");
/// Version of this layout.
pub(crate) const VERSION: u32 = 1;

/// Size of the ring file.
pub(crate) const RING_BYTES: usize = limits::RING_BYTES;
/// Size of the control region.
pub(crate) const CONTROL_BYTES: usize = 16 * 1024;
/// Size of a slot.
pub(crate) const SLOT_BYTES: usize = limits::RING_SLOT_BYTES;
/// Slots in a ring.
pub(crate) const SLOT_COUNT: usize = (RING_BYTES - CONTROL_BYTES) / SLOT_BYTES;
/// The same, for arithmetic with positions.
pub(crate) const SLOTS: u64 = SLOT_COUNT as u64;
/// Participant words. Index 0 belongs to the consumer.
pub(crate) const PARTICIPANT_COUNT: u16 = 1_024;
/// Longest run of slots.
pub(crate) const RUN_MAX: u16 = limits::RING_RUN_SLOTS_MAX as u16;

/// Slot header, word included.
pub(crate) const HEADER_BYTES: usize = 64;
/// The word at the beginning of every slot.
pub(crate) const WORD_BYTES: usize = 8;
/// Body bytes in the first slot of a run.
pub(crate) const FIRST_BODY_BYTES: usize = SLOT_BYTES - HEADER_BYTES;
/// Body bytes in every further slot of a run.
pub(crate) const NEXT_BODY_BYTES: usize = SLOT_BYTES - WORD_BYTES;
/// Largest body: a run of the longest length.
pub(crate) const BODY_BYTES_MAX: usize =
    FIRST_BODY_BYTES + (RUN_MAX as usize - 1) * NEXT_BODY_BYTES;

pub(crate) mod offset {
    //! Byte offsets in the control region.
    pub(crate) const MAGIC: usize = 0x0000;
    pub(crate) const VERSION: usize = 0x0008;
    pub(crate) const CONTROL_BYTES: usize = 0x000c;
    pub(crate) const SLOT_BYTES: usize = 0x0010;
    pub(crate) const SLOT_COUNT: usize = 0x0014;
    pub(crate) const RING_ID: usize = 0x0018;
    pub(crate) const RING_INDEX: usize = 0x0020;
    pub(crate) const RING_COUNT: usize = 0x0024;
    pub(crate) const POISONED: usize = 0x0028;
    pub(crate) const TAIL: usize = 0x0080;
    pub(crate) const HEAD: usize = 0x0100;
    pub(crate) const CONSUMER_STATE: usize = 0x0180;
    pub(crate) const SPACE_SEQUENCE: usize = 0x0200;
    pub(crate) const SPACE_WAITING: usize = 0x0204;
    pub(crate) const EPOCH: usize = 0x0280;
    pub(crate) const DAEMON_PID: usize = 0x0288;
    pub(crate) const DAEMON_START_TIME: usize = 0x0290;
    pub(crate) const DAEMON_PID_NAMESPACE: usize = 0x0298;
    pub(crate) const DATA_DIR_BYTES: usize = 0x0400;
    pub(crate) const DATA_DIR: usize = 0x0404;
    pub(crate) const CLOSED_COUNT: usize = 0x0800;
    pub(crate) const CLOSED: usize = 0x0880;
    pub(crate) const PARTICIPANTS: usize = 0x2000;
}

/// Routes that can be closed at once.
pub(crate) const CLOSED_MAX: usize = 128;
/// Longest data directory path that fits, in bytes.
pub(crate) const DATA_DIR_BYTES_MAX: usize = 1_020;

const _: () = {
    assert!(SLOT_COUNT == 1_020);
    assert!(CONTROL_BYTES + SLOT_COUNT * SLOT_BYTES == RING_BYTES);
    assert!(offset::DATA_DIR + DATA_DIR_BYTES_MAX <= offset::CLOSED_COUNT);
    assert!(offset::CLOSED + CLOSED_MAX * 8 <= offset::PARTICIPANTS);
    assert!(offset::PARTICIPANTS + PARTICIPANT_COUNT as usize * 8 <= CONTROL_BYTES);
    assert!(RUN_MAX as usize == limits::RING_RUN_SLOTS_MAX && RUN_MAX as usize * 2 < SLOT_COUNT);
    // One record of the largest size, its route name and its length fit in one run.
    assert!(limits::PAYLOAD_BYTES_MAX + limits::ROUTE_NAME_BYTES_MAX + 4 <= BODY_BYTES_MAX);
};

/// Slot index of a position.
pub(crate) const fn slot_index(position: u64) -> usize {
    (position % SLOTS) as usize
}

/// How many slots a body of this size takes. The caller has checked [`BODY_BYTES_MAX`].
pub(crate) const fn run_for(body_bytes: usize) -> u16 {
    (1 + body_bytes.saturating_sub(FIRST_BODY_BYTES).div_ceil(NEXT_BODY_BYTES)) as u16
}

/// Bytes that a run of this many slots holds.
pub(crate) const fn run_capacity(run: u16) -> usize {
    FIRST_BODY_BYTES + (run as usize).saturating_sub(1) * NEXT_BODY_BYTES
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn runs_hold_what_they_are_chosen_for() {
        assert_eq!(run_for(0), 1);
        assert_eq!(run_for(FIRST_BODY_BYTES), 1);
        assert_eq!(run_for(FIRST_BODY_BYTES + 1), 2);
        assert_eq!(run_for(BODY_BYTES_MAX), RUN_MAX);
        for body_bytes in (0..BODY_BYTES_MAX).step_by(997) {
            let run = run_for(body_bytes);
            assert!(run_capacity(run) >= body_bytes);
            assert!(run == 1 || run_capacity(run - 1) < body_bytes);
        }
    }
}
