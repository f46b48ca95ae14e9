//! The sparse index of a segment, and the footer that keeps it once the segment is sealed.
//!
//! ```text
//! footer: the last 16,384 bytes of a segment; written when no more batches will be
//!
//! byte 0x00  magic u64 "ELGFOOT1"
//!      0x08  crc32c u32 (salted; over bytes 0x0c..0x4000) │ entry_count u32
//!      0x10  sequence u64
//!      0x18  first_lsn u64        of the first batch
//!      0x20  next_lsn u64         after the last batch
//!      0x28  first_time_us u64    of the first record
//!      0x30  last_time_us u64     of the last record
//!      0x38  end u64              where the batches end
//!      0x40  record_count u64, 0x48 batch_count u64; all ones where nobody counted
//!      0x50  entries, at most 670: offset u64, first_lsn u64, first_time_us u64; then zeros
//! ```
//!
//! An entry is a hint: whoever follows it checks that a whole batch that begins with that LSN is
//! there, and takes an earlier entry, or the segment's beginning, if not. So a footer that is
//! missing, stale or damaged costs time, never data.

use crate::batch::COUNT_MAX;
use crate::bytes::{checksum, get_u32, get_u64, put};
use crate::segment_header::{SEGMENT_HEADER_BYTES, SegmentHeader};
use elgate_io::Buffer;
use elgate_types::limits::BLOCK_BYTES;
use elgate_types::{Lsn, WallTime};
use std::ops::Range;

/// Size of the footer, and of what every segment reserves for it at its end.
pub(crate) const FOOTER_BYTES: usize = 4 * BLOCK_BYTES;

/// Most entries of one segment's index.
pub(crate) const INDEX_ENTRIES_MAX: usize = 670;

/// Size of one entry, wherever it is kept.
pub(crate) const INDEX_ENTRY_BYTES: usize = 24;

const MAGIC: u64 = u64::from_le_bytes(*b"ELGFOOT1");
const AT_ENTRIES: usize = 0x50;
const NOT_COUNTED: u64 = u64::MAX;
const _: () = assert!(AT_ENTRIES + INDEX_ENTRIES_MAX * INDEX_ENTRY_BYTES <= FOOTER_BYTES);

/// Where a batch is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct IndexEntry {
    /// Offset of the batch in its segment.
    pub(crate) offset: u64,
    pub(crate) first_lsn: Lsn,
    /// When its first record was taken.
    pub(crate) time: WallTime,
}

/// At most [`INDEX_ENTRIES_MAX`] batches of a segment, evenly spread over its bytes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SparseIndex {
    /// One entry is kept per so many bytes.
    spacing: u64,
    /// The next entry begins here or later.
    next_offset: u64,
    entries: Vec<IndexEntry>,
}

impl SparseIndex {
    /// An empty index. Allocates all it will ever hold.
    pub(crate) fn new(segment_bytes: u64) -> Self {
        let entries = Vec::with_capacity(INDEX_ENTRIES_MAX);
        Self { spacing: spacing(segment_bytes), next_offset: 0, entries }
    }

    /// An index of these entries as far as they are in order; those that are too close are left
    /// out.
    pub(crate) fn from_entries(
        segment_bytes: u64,
        entries: impl IntoIterator<Item = IndexEntry>,
    ) -> Self {
        let mut index = Self::new(segment_bytes);
        for entry in entries {
            index.note(entry.offset, entry.first_lsn, entry.time);
        }
        index
    }

    /// Takes note of a batch with records; batches come in order. Returns the entry if one was
    /// made of it.
    #[inline]
    pub(crate) fn note(
        &mut self,
        offset: u64,
        first_lsn: Lsn,
        time: WallTime,
    ) -> Option<IndexEntry> {
        if offset < self.next_offset || self.entries.len() == INDEX_ENTRIES_MAX {
            return None;
        }
        if self.entries.last().is_some_and(|last| first_lsn <= last.first_lsn) {
            return None;
        }
        self.next_offset = (offset / self.spacing).saturating_add(1).saturating_mul(self.spacing);
        let entry = IndexEntry { offset, first_lsn, time };
        self.entries.push(entry);
        Some(entry)
    }

    /// Every entry, by offset.
    pub(crate) fn entries(&self) -> &[IndexEntry] {
        &self.entries
    }

    /// The entries at which reading may begin to find `lsn`: the nearest is the last.
    pub(crate) fn up_to_lsn(&self, lsn: Lsn) -> &[IndexEntry] {
        &self.entries[..self.entries.partition_point(|entry| entry.first_lsn <= lsn)]
    }

    /// The entries at which reading may begin to find the first record not older than `time`, as
    /// long as the wall clock has not been set back: the nearest is the last.
    pub(crate) fn before_time(&self, time: WallTime) -> &[IndexEntry] {
        &self.entries[..self.entries.partition_point(|entry| entry.time < time)]
    }

    /// The entries of batches that begin at or before `offset`: the nearest is the last.
    pub(crate) fn up_to_offset(&self, offset: u64) -> &[IndexEntry] {
        &self.entries[..self.entries.partition_point(|entry| entry.offset <= offset)]
    }
}

fn spacing(segment_bytes: u64) -> u64 {
    segment_bytes.div_ceil(INDEX_ENTRIES_MAX as u64).next_multiple_of(BLOCK_BYTES as u64)
}

/// How much a segment holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct SegmentCounts {
    pub(crate) records: u64,
    pub(crate) batches: u64,
}

/// What a segment holds: collected while it is written, and kept at its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) sequence: u64,
    pub(crate) first_lsn: Lsn,
    pub(crate) next_lsn: Lsn,
    pub(crate) first_time: WallTime,
    pub(crate) last_time: WallTime,
    /// Where its batches end.
    pub(crate) end: u64,
    /// `None` if the segment was gone on with after a restart that did not read all of it.
    pub(crate) counts: Option<SegmentCounts>,
    pub(crate) index: SparseIndex,
}

impl Footer {
    /// Of a segment that holds nothing yet.
    pub(crate) fn new(header: &SegmentHeader) -> Self {
        Self {
            sequence: header.sequence,
            first_lsn: Lsn::ZERO,
            next_lsn: Lsn::ZERO,
            first_time: WallTime(0),
            last_time: WallTime(0),
            end: SEGMENT_HEADER_BYTES as u64,
            counts: Some(SegmentCounts::default()),
            index: SparseIndex::new(header.segment_bytes),
        }
    }

    /// Takes the batch in these bytes of the segment into account: `lsns` are its records'
    /// (empty for a marker), `times` those of its first and last record. Batches come in order,
    /// none twice. Returns the entry if the index has a new one. Allocates nothing.
    #[inline]
    pub(crate) fn take(
        &mut self,
        bytes: Range<u64>,
        lsns: Range<Lsn>,
        times: (WallTime, WallTime),
    ) -> Option<IndexEntry> {
        if self.first_lsn == Lsn::ZERO {
            self.first_lsn = lsns.start;
        }
        self.next_lsn = lsns.end;
        self.end = bytes.end;
        let records = lsns.end.0.saturating_sub(lsns.start.0);
        if let Some(counts) = &mut self.counts {
            counts.records += records;
            counts.batches += 1;
        }
        if records == 0 {
            return None;
        }
        if self.first_time == WallTime(0) {
            self.first_time = times.0;
        }
        self.last_time = times.1;
        self.index.note(bytes.start, lsns.start, times.0)
    }

    /// Fills `target`, whose capacity is at least [`FOOTER_BYTES`], with the footer's bytes.
    pub(crate) fn encode(&self, salt: u32, target: &mut Buffer) {
        target.clear();
        target.extend_zeros(FOOTER_BYTES);
        let entries = self.index.entries();
        let counts =
            self.counts.unwrap_or(SegmentCounts { records: NOT_COUNTED, batches: NOT_COUNTED });
        put(target, 0x00, &MAGIC.to_le_bytes());
        put(target, 0x0c, &(entries.len() as u32).to_le_bytes());
        let fields = [
            self.sequence,
            self.first_lsn.0,
            self.next_lsn.0,
            self.first_time.0,
            self.last_time.0,
            self.end,
            counts.records,
            counts.batches,
        ];
        for (number, value) in fields.into_iter().enumerate() {
            put(target, 0x10 + number * 8, &value.to_le_bytes());
        }
        for (number, entry) in entries.iter().enumerate() {
            let at = AT_ENTRIES + number * INDEX_ENTRY_BYTES;
            put(target, at, &entry.offset.to_le_bytes());
            put(target, at + 8, &entry.first_lsn.0.to_le_bytes());
            put(target, at + 16, &entry.time.0.to_le_bytes());
        }
        let crc = checksum(salt, &target[0x0c..FOOTER_BYTES]);
        put(target, 0x08, &crc.to_le_bytes());
    }

    /// Decodes the last bytes of the segment with this header. `None`: it has no footer, or a
    /// damaged one, or one of the file's earlier life.
    pub(crate) fn decode(bytes: &[u8], header: &SegmentHeader) -> Option<Self> {
        let bytes = bytes.get(..FOOTER_BYTES)?;
        if get_u64(bytes, 0) != MAGIC
            || checksum(header.salt, &bytes[0x0c..]) != get_u32(bytes, 0x08)
            || get_u64(bytes, 0x10) != header.sequence
        {
            return None;
        }
        let counts = SegmentCounts { records: get_u64(bytes, 0x40), batches: get_u64(bytes, 0x48) };
        let count = get_u32(bytes, 0x0c) as usize;
        let entry = |number: usize| {
            let at = AT_ENTRIES + number * INDEX_ENTRY_BYTES;
            IndexEntry {
                offset: get_u64(bytes, at),
                first_lsn: Lsn(get_u64(bytes, at + 8)),
                time: WallTime(get_u64(bytes, at + 16)),
            }
        };
        let entries = (0..count.min(INDEX_ENTRIES_MAX)).map(entry);
        let footer = Self {
            sequence: header.sequence,
            first_lsn: Lsn(get_u64(bytes, 0x18)),
            next_lsn: Lsn(get_u64(bytes, 0x20)),
            first_time: WallTime(get_u64(bytes, 0x28)),
            last_time: WallTime(get_u64(bytes, 0x30)),
            end: get_u64(bytes, 0x38),
            counts: (counts.batches != NOT_COUNTED).then_some(counts),
            index: SparseIndex::from_entries(header.segment_bytes, entries),
        };
        let is_plausible = footer.first_lsn > Lsn::ZERO
            && footer.first_lsn <= footer.next_lsn
            && footer.next_lsn.0 < COUNT_MAX
            && footer.end.is_multiple_of(BLOCK_BYTES as u64)
            && (SEGMENT_HEADER_BYTES as u64..=header.usable_end()).contains(&footer.end);
        is_plausible.then_some(footer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use elgate_types::RouteName;
    use proptest::prelude::*;

    const SEGMENT_BYTES: u64 = 64 << 20;

    fn header(salt: u32, sequence: u64) -> SegmentHeader {
        SegmentHeader {
            log_id: 1,
            sequence,
            segment_bytes: SEGMENT_BYTES,
            salt,
            is_recycled: false,
            created: WallTime(0),
            route: RouteName::new("orders").expect("valid"),
        }
    }

    /// A segment of batches of so many blocks and records each.
    fn filled(batches: &[(u64, u64)]) -> (Footer, Vec<IndexEntry>) {
        let mut footer = Footer::new(&header(0, 7));
        let (mut at, mut next) = (SEGMENT_HEADER_BYTES as u64, Lsn(100));
        let mut all = Vec::new();
        for (blocks, records) in batches {
            let time = WallTime(1_000 + next.0);
            let end = at + blocks * BLOCK_BYTES as u64;
            if *records > 0 {
                all.push(IndexEntry { offset: at, first_lsn: next, time });
            }
            footer.take(at..end, next..next.plus(*records), (time, WallTime(time.0 + 1)));
            (at, next) = (end, next.plus(*records));
        }
        (footer, all)
    }

    proptest! {
        #[test]
        fn lookups_find_what_a_scan_finds(
            batches in proptest::collection::vec((1u64..600, 1u64..50), 1..200), lsn in 90u64..5_000,
        ) {
            let (Footer { index, .. }, all) = filled(&batches);
            let nearest = index.up_to_lsn(Lsn(lsn)).last();
            let scanned = index.entries().iter().rfind(|entry| entry.first_lsn <= Lsn(lsn));
            prop_assert_eq!(nearest, scanned);
            let time = WallTime(1_000 + lsn);
            let scanned = index.entries().iter().rfind(|entry| entry.time < time);
            prop_assert_eq!(index.before_time(time).last(), scanned);
            for entry in index.entries() {
                prop_assert!(all.contains(entry));
            }
            // Whatever is looked for, little is left to read: one spacing and one batch.
            if let (Some(nearest), Some(exact)) = (nearest, all.iter().rfind(|it| it.first_lsn <= Lsn(lsn))) {
                prop_assert!(exact.offset - nearest.offset < 2 * index.spacing);
            }
        }

        #[test]
        fn footers_round_trip(
            batches in proptest::collection::vec((1u64..70, 0u64..50), 1..200), salt in any::<u32>(),
        ) {
            let (footer, _) = filled(&batches);
            let mut buffer = Buffer::with_capacity(FOOTER_BYTES);
            footer.encode(salt, &mut buffer);
            let records: u64 = batches.iter().map(|(_, records)| records).sum();
            prop_assert_eq!(footer.counts, Some(SegmentCounts { records, batches: batches.len() as u64 }));
            prop_assert_eq!(Footer::decode(&buffer, &header(salt, 7)), Some(footer));
            prop_assert_eq!(Footer::decode(&buffer, &header(!salt, 7)), None);
            prop_assert_eq!(Footer::decode(&buffer, &header(salt, 8)), None);
        }

        #[test]
        fn arbitrary_bytes_are_no_footer(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let mut whole = vec![0; FOOTER_BYTES];
            whole[..bytes.len()].copy_from_slice(&bytes);
            prop_assert_eq!(Footer::decode(&whole, &header(1, 7)), None);
            prop_assert_eq!(Footer::decode(&bytes, &header(1, 7)), None);
        }
    }

    #[test]
    fn every_flipped_bit_of_a_footer_is_noticed() {
        let (footer, _) = filled(&[(30, 3); 400]);
        let mut buffer = Buffer::with_capacity(FOOTER_BYTES);
        footer.encode(9, &mut buffer);
        for bit in (0..FOOTER_BYTES * 8).step_by(7).chain(0..0x60 * 8) {
            buffer[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(Footer::decode(&buffer, &header(9, 7)), None, "bit {bit}");
            buffer[bit / 8] ^= 1 << (bit % 8);
        }
        assert!(Footer::decode(&buffer, &header(9, 7)).is_some());
    }

    #[test]
    fn the_index_of_the_fullest_segment_fits() {
        for segment_bytes in [4 << 20, 64 << 20, (64 << 20) + 4_096, 4 << 30] {
            let mut index = SparseIndex::new(segment_bytes);
            let capacity = index.entries.capacity();
            for block in 1..segment_bytes / BLOCK_BYTES as u64 {
                index.note(block * BLOCK_BYTES as u64, Lsn(block), WallTime(block));
            }
            let last = index.entries().last().expect("many");
            assert!(segment_bytes - last.offset <= index.spacing, "the whole segment is covered");
            assert_eq!(index.entries.capacity(), capacity, "nothing was allocated");
        }
    }

    #[test]
    fn a_segment_of_which_not_all_was_read_has_no_counts() {
        let (mut footer, _) = filled(&[(1, 3)]);
        footer.counts = None;
        let mut buffer = Buffer::with_capacity(FOOTER_BYTES);
        footer.encode(9, &mut buffer);
        assert_eq!(Footer::decode(&buffer, &header(9, 7)), Some(footer));
    }
}
