//! Building batches in memory: records go in framed and checksummed, the header comes last.
//!
//! Buffers come in a few sizes and are recycled, so appending a record allocates nothing and
//! touches its payload twice: once to copy it, once to checksum it.

use crate::batch::{BATCH_BYTES_MAX, BATCH_HEADER_BYTES, BatchHeader};
use crate::bytes::checksum;
use crate::record::{self, Records, framed_bytes};
use elgate_io::{Arena, Buffer};
use elgate_types::limits::BLOCK_BYTES;
use elgate_types::{Lsn, WallTime};

/// Where a record came from: what makes replaying a ring idempotent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Source {
    /// The ring's identity, 0 if the record came from no ring.
    pub ring_id: u64,
    /// Position of the record's submission in that ring.
    pub position: u64,
}

/// Buffer capacities. A batch that outgrows one moves to the next.
const CLASS_BYTES: [usize; 5] = [16 * 1024, 64 * 1024, 256 * 1024, 1024 * 1024, BATCH_BYTES_MAX];

/// Most bytes kept for reuse.
const POOL_BYTES_MAX: usize = 4 * 1024 * 1024;

/// Where buffers come from: the shard's arena, and when that is full, the heap; those of the heap
/// wait here to be used again.
#[derive(Debug, Default)]
pub(crate) struct BufferPool {
    arena: Arena,
    free: Vec<Buffer>,
    bytes: usize,
}

impl BufferPool {
    /// From now on, buffers come from this arena.
    pub(crate) fn set_arena(&mut self, arena: Arena) {
        self.arena = arena;
    }

    /// An empty buffer of the smallest class that holds `bytes`.
    pub(crate) fn take(&mut self, bytes: usize) -> Buffer {
        let wanted = CLASS_BYTES.iter().find(|class| **class >= bytes).copied().unwrap_or(bytes);
        if let Some(buffer) = self.arena.try_take(wanted) {
            return buffer;
        }
        let found = self.free.iter().position(|buffer| buffer.capacity() == wanted);
        let Some(index) = found else { return Buffer::with_capacity(wanted) };
        let mut buffer = self.free.swap_remove(index);
        self.bytes -= buffer.capacity();
        buffer.clear();
        buffer
    }

    /// Takes a buffer back.
    pub(crate) fn give(&mut self, buffer: impl Into<Option<Buffer>>) {
        let Some(buffer) = buffer.into() else { return };
        if self.arena.owns(&buffer) {
            return; // and it is back
        }
        if self.bytes + buffer.capacity() <= POOL_BYTES_MAX {
            self.bytes += buffer.capacity();
            self.free.push(buffer);
        }
    }

    /// Memory it holds.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// A batch's records, framed for the salt of some segment. The buffer is away while a write is
/// under way.
#[derive(Debug)]
pub(crate) struct Batch {
    /// `None` while the bytes are being written.
    buffer: Option<Buffer>,
    /// Header and records, without padding.
    length: usize,
    memory_bytes: usize,
    salt: u32,
    first_lsn: Lsn,
    record_count: u32,
    records_crc: u32,
    ring_id: u64,
    /// Position of the last submission that came through the ring.
    ring_position: u64,
    first_time: WallTime,
    last_time: WallTime,
}

impl Batch {
    pub(crate) fn new(buffer: Buffer, salt: u32, first_lsn: Lsn) -> Self {
        let mut buffer = buffer;
        buffer.clear();
        buffer.extend_zeros(BATCH_HEADER_BYTES);
        Self {
            length: buffer.len(),
            memory_bytes: buffer.capacity(),
            buffer: Some(buffer),
            salt,
            first_lsn,
            record_count: 0,
            records_crc: 0,
            ring_id: 0,
            ring_position: 0,
            first_time: WallTime(0),
            last_time: WallTime(0),
        }
    }

    /// Whether a payload of that source may join: all-or-nothing per submission, one ring per
    /// batch, and a bound on the size.
    pub(crate) fn admits(&self, payload_bytes: usize, source: Source, bytes_max: usize) -> bool {
        let needed = (self.length + framed_bytes(payload_bytes)).next_multiple_of(BLOCK_BYTES);
        let continues = source.ring_id != 0
            && (source.ring_id, source.position) == (self.ring_id, self.ring_position);
        let same_ring = source.ring_id == 0 || self.ring_id == 0 || self.ring_id == source.ring_id;
        let allowed = if continues { BATCH_BYTES_MAX } else { bytes_max };
        self.record_count == 0 || (same_ring && needed <= allowed)
    }

    /// Appends a record that [`admits`](Self::admits) let in; returns its LSN.
    pub(crate) fn push(
        &mut self,
        payload: &[u8],
        source: Source,
        time: WallTime,
        pool: &mut BufferPool,
    ) -> Lsn {
        let start = self.length;
        self.length += framed_bytes(payload.len());
        self.reserve(self.write_bytes(), pool);
        let (lsn, salt, length) = (self.next_lsn(), self.salt, self.length);
        let position = (source.ring_id != 0).then_some(source.position as u32);
        let buffer = self.buffer_mut();
        buffer.set_length(length);
        let crc = record::encode(&mut buffer[start..], salt, lsn, time, position, payload);
        self.records_crc = checksum(self.records_crc, &crc.to_le_bytes());
        if self.record_count == 0 {
            self.first_time = time;
        }
        self.record_count += 1;
        self.last_time = time;
        if source.ring_id != 0 {
            self.ring_id = source.ring_id;
            self.ring_position = source.position;
        }
        lsn
    }

    fn reserve(&mut self, bytes: usize, pool: &mut BufferPool) {
        if bytes > self.memory_bytes {
            let mut larger = pool.take(bytes);
            larger.extend(self.buffer());
            self.memory_bytes = larger.capacity();
            pool.give(self.buffer.replace(larger));
        }
    }

    /// Completes header and padding for a segment with `salt`, and gives the bytes away to be
    /// written. [`restore`](Self::restore) brings them back.
    pub(crate) fn seal(&mut self, salt: u32, epoch: u64, durable: Lsn) -> Buffer {
        if salt != self.salt {
            self.rebase(salt);
        }
        let batch_bytes = self.write_bytes();
        let header = BatchHeader {
            batch_bytes: u32::try_from(batch_bytes).expect("bounded by BATCH_BYTES_MAX"),
            body_bytes: u32::try_from(self.length - BATCH_HEADER_BYTES).expect("as above"),
            first_lsn: self.first_lsn,
            record_count: self.record_count,
            records_crc: self.records_crc,
            epoch,
            durable_lsn: durable,
            ring_id: self.ring_id,
            ring_position: self.ring_position,
        };
        let mut buffer = self.buffer.take().expect("sealed once per write");
        header.encode(&mut buffer, salt);
        buffer.extend_zeros(batch_bytes - self.length);
        buffer
    }

    /// Takes the bytes back after a write.
    pub(crate) fn restore(&mut self, mut buffer: Buffer) {
        buffer.set_length(self.length);
        self.buffer = Some(buffer);
    }

    fn rebase(&mut self, salt: u32) {
        self.salt = salt;
        self.records_crc = 0;
        let mut at = BATCH_HEADER_BYTES;
        for _ in 0..self.record_count {
            let (header, _) = record::decode(&self.buffer()[at..]).expect("framed by push");
            let end = at + framed_bytes(header.length);
            let crc = record::reseal(&mut self.buffer_mut()[at..end], salt);
            self.records_crc = checksum(self.records_crc, &crc.to_le_bytes());
            at = end;
        }
    }

    fn buffer(&self) -> &Buffer {
        self.buffer.as_ref().expect("not looked at while it is being written")
    }

    fn buffer_mut(&mut self) -> &mut Buffer {
        self.buffer.as_mut().expect("not changed while it is being written")
    }

    pub(crate) fn first_lsn(&self) -> Lsn {
        self.first_lsn
    }

    pub(crate) fn next_lsn(&self) -> Lsn {
        self.first_lsn.plus(u64::from(self.record_count))
    }

    pub(crate) fn last_lsn(&self) -> Lsn {
        Lsn(self.next_lsn().0 - 1)
    }

    /// The ring and the position of the last submission that came through one; 0 if none did.
    pub(crate) fn source(&self) -> (u64, u64) {
        (self.ring_id, self.ring_position)
    }

    pub(crate) fn record_count(&self) -> u32 {
        self.record_count
    }

    pub(crate) fn last_time(&self) -> WallTime {
        self.last_time
    }

    /// When its first and its last record were taken.
    pub(crate) fn times(&self) -> (WallTime, WallTime) {
        (self.first_time, self.last_time)
    }

    /// Bytes the write takes, header and padding included.
    pub(crate) fn write_bytes(&self) -> usize {
        self.length.next_multiple_of(BLOCK_BYTES)
    }

    /// Memory it occupies, the arena's or its own.
    pub(crate) fn memory_bytes(&self) -> usize {
        self.memory_bytes
    }

    pub(crate) fn records(&self, from: Lsn) -> Records<'_> {
        Records::new(&self.buffer()[BATCH_HEADER_BYTES..], from, self.last_lsn())
    }

    pub(crate) fn into_buffer(self) -> Option<Buffer> {
        self.buffer
    }

    /// A batch of its own with the same records.
    pub(crate) fn duplicate(&self, pool: &mut BufferPool) -> Self {
        let mut buffer = pool.take(self.length);
        buffer.extend(self.buffer());
        Self { memory_bytes: buffer.capacity(), buffer: Some(buffer), ..*self }
    }
}

/// A committed batch still in memory.
#[derive(Debug)]
pub struct CachedBatch(pub(crate) Batch);

impl CachedBatch {
    /// Its first LSN.
    #[must_use]
    pub fn first_lsn(&self) -> Lsn {
        self.0.first_lsn()
    }

    /// Its last LSN.
    #[must_use]
    pub fn last_lsn(&self) -> Lsn {
        self.0.last_lsn()
    }

    /// Its records from `from` on, without copying.
    #[must_use]
    pub fn records(&self, from: Lsn) -> Records<'_> {
        self.0.records(from)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn source(ring_id: u64, position: u64) -> Source {
        Source { ring_id, position }
    }

    proptest! {
        #[test]
        fn what_is_built_validates_and_survives_a_change_of_salt(
            payloads in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..3_000), 1..60),
            salts in any::<(u32, u32)>(),
        ) {
            let mut pool = BufferPool::default();
            let mut batch = Batch::new(pool.take(1), salts.0, Lsn(10));
            for (index, payload) in payloads.iter().enumerate() {
                let lsn = batch.push(payload, source(5, index as u64), WallTime(1), &mut pool);
                prop_assert_eq!(lsn, Lsn(10 + index as u64));
            }
            for salt in [salts.0, salts.1] {
                let bytes = batch.seal(salt, 3, Lsn(9));
                let header = BatchHeader::decode(&bytes, salt).expect("valid");
                prop_assert!(header.records_are_valid(&bytes, salt));
                prop_assert_eq!(header.batch_bytes as usize, bytes.len());
                prop_assert_eq!(header.ring_position, payloads.len() as u64 - 1);
                batch.restore(bytes);
                let found: Vec<_> = batch.records(Lsn(0)).map(|record| record.payload.to_vec()).collect();
                prop_assert_eq!(&found, &payloads);
            }
        }
    }

    #[test]
    fn a_submission_is_never_divided_and_rings_never_mix() {
        let mut pool = BufferPool::default();
        let mut batch = Batch::new(pool.take(1), 1, Lsn(1));
        batch.push(&[1; 3_000], source(7, 1), WallTime(0), &mut pool);
        assert!(!batch.admits(3_000, source(7, 2), 4_096), "over the bound");
        assert!(batch.admits(3_000, source(7, 1), 4_096), "the same submission");
        assert!(!batch.admits(10, source(8, 1), 1 << 20), "another ring");
        assert!(batch.admits(10, source(0, 0), 1 << 20), "no ring");
        assert!(!batch.admits(BATCH_BYTES_MAX, source(7, 1), 1 << 20), "beyond any bound");
    }

    #[test]
    fn buffers_are_recycled_up_to_a_bound() {
        let mut pool = BufferPool::default();
        let buffer = pool.take(20_000);
        assert_eq!(buffer.capacity(), CLASS_BYTES[1]);
        pool.give(buffer);
        assert_eq!(pool.bytes(), CLASS_BYTES[1]);
        assert_eq!(pool.take(60_000).capacity(), CLASS_BYTES[1]);
        assert_eq!(pool.bytes(), 0);
        for _ in 0..10 {
            pool.give(Buffer::with_capacity(BATCH_BYTES_MAX));
        }
        assert!(pool.bytes() <= POOL_BYTES_MAX);
    }
}
