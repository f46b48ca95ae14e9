//! Which submissions of which ring the log already holds: what makes replaying a ring safe.

use crate::batch::BatchHeader;
use crate::record;
use crate::record::framed_bytes;
use elgate_types::Lsn;
use elgate_types::limits::{RING_BYTES, RING_SLOT_BYTES};
use std::collections::{BTreeMap, VecDeque};

/// Records of one submission, found in the log. If the submission had more, the rest was not
/// logged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SourceSpan {
    /// The ring.
    pub ring_id: u64,
    /// Position of the submission in it.
    pub position: u64,
    /// Its first record.
    pub first_lsn: Lsn,
    /// How many of its records are in the log.
    pub record_count: u32,
}

/// How many positions of a ring back the log is asked for a submission, unless it is told which may
/// come again: no more than slots can be in a ring at once. Who appends submissions that have left
/// their slots unfinished keeps to it too, and so does retention.
pub const POSITIONS_KEPT: u64 = (RING_BYTES / RING_SLOT_BYTES) as u64;

/// Earlier parts of the log are searched for logged submissions no further back than this: a
/// ring's worth of the smallest records, framed, is half as much.
pub(crate) const SOURCES_BYTES_MAX: u64 = 64 * 1024 * 1024;

/// Collects spans from batches seen in order. Of each ring it keeps those that may be handed over
/// again, and one from before: that shows that nothing further back is wanted.
#[derive(Debug, Default)]
pub(crate) struct Sources {
    rings: BTreeMap<u64, VecDeque<SourceSpan>>,
    /// Of each ring the lowest position that may be handed over again.
    handed_over_again: BTreeMap<u64, u64>,
}

impl Sources {
    /// None yet; `handed_over_again` as in the options.
    pub(crate) fn new(handed_over_again: BTreeMap<u64, u64>) -> Self {
        Self { handed_over_again, ..Self::default() }
    }

    /// None yet, for another part of the same log.
    pub(crate) fn elsewhere(&self) -> Self {
        Self::new(self.handed_over_again.clone())
    }

    /// Takes the records of a valid batch, `bytes` being all of it.
    pub(crate) fn take(&mut self, header: &BatchHeader, bytes: &[u8]) {
        if header.ring_id == 0 {
            return;
        }
        let spans = self.rings.entry(header.ring_id).or_default();
        let mut body = header.body(bytes);
        while let Some((record, _)) = record::decode(body) {
            body = &body[framed_bytes(record.length)..];
            let Some(low) = record.source else { continue };
            // The batch's own position is the last one; the others are a little before it.
            let behind = (header.ring_position as u32).wrapping_sub(low);
            let position = header.ring_position.wrapping_sub(u64::from(behind));
            match spans.back_mut() {
                Some(span) if span.position == position => span.record_count += 1,
                _ => spans.push_back(SourceSpan {
                    ring_id: header.ring_id,
                    position,
                    first_lsn: record.lsn,
                    record_count: 1,
                }),
            }
        }
        let lowest = self.handed_over_again.get(&header.ring_id);
        keep_from(lowest, spans);
    }

    /// Puts spans from an earlier part of the log in front of these.
    pub(crate) fn prepend(&mut self, earlier: Self) {
        for (ring_id, mut spans) in earlier.rings {
            let mut later = self.rings.remove(&ring_id).unwrap_or_default();
            // A submission for which the log had no room at first may lie in two batches.
            if let (Some(begin), Some(rest)) = (spans.back_mut(), later.front())
                && begin.position == rest.position
            {
                begin.record_count += rest.record_count;
                later.pop_front();
            }
            spans.extend(later);
            keep_from(self.handed_over_again.get(&ring_id), &mut spans);
            self.rings.insert(ring_id, spans);
        }
    }

    /// Whether earlier parts of the log can add nothing that may be handed over again: a ring's
    /// submissions are logged in their order. A ring of which nothing has been seen may be further
    /// back, and so may the first part of the lowest submission.
    pub(crate) fn are_complete(&self) -> bool {
        self.handed_over_again.iter().all(|(ring_id, lowest)| {
            let first = self.rings.get(ring_id).and_then(VecDeque::front);
            first.is_some_and(|first| first.position < *lowest)
        })
    }

    /// Every span, by ring and position.
    pub(crate) fn into_spans(self) -> Vec<SourceSpan> {
        self.rings.into_values().flatten().collect()
    }
}

/// Drops spans in front that nobody asks for, but for the last of those. Without a lowest position,
/// what a ring can hold is kept.
fn keep_from(lowest: Option<&u64>, spans: &mut VecDeque<SourceSpan>) {
    let newest = spans.back().map_or(0, |span| span.position);
    let lowest = lowest.copied().unwrap_or(newest.saturating_sub(POSITIONS_KEPT));
    while spans.get(1).is_some_and(|second| second.position < lowest) {
        spans.pop_front();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch_builder::{Batch, BufferPool, Source};
    use elgate_types::WallTime;

    fn sources(lowest: &[(u64, u64)], positions: &[u64]) -> Vec<(u64, u64, u32)> {
        let mut pool = BufferPool::default();
        let mut batch = Batch::new(pool.take(1), 0, Lsn(1));
        for position in positions {
            let ring_id = if *position == 0 { 0 } else { 9 };
            batch.push(b"x", Source { ring_id, position: *position }, WallTime(0), &mut pool);
        }
        let bytes = batch.seal(0, 1, Lsn(0));
        let mut sources = Sources::new(lowest.iter().copied().collect());
        sources.take(&BatchHeader::decode(&bytes, 0).expect("valid"), &bytes);
        let spans = sources.into_spans();
        spans.iter().map(|span| (span.position, span.first_lsn.0, span.record_count)).collect()
    }

    #[test]
    fn positions_are_completed_from_their_low_half() {
        let wide = (5 << 32) + 1;
        assert_eq!(sources(&[], &[wide - 3, wide - 3, 0, wide]), [(wide - 3, 1, 2), (wide, 4, 1)]);
    }

    #[test]
    fn rings_used_in_turn_are_each_followed_back() {
        let span = |position| SourceSpan {
            ring_id: 0,
            position,
            first_lsn: Lsn(position + 1),
            record_count: 1,
        };
        let complete = |rings: &[(u64, &[u64])], lowest: &[(u64, u64)]| {
            let mut sources = Sources::new(lowest.iter().copied().collect());
            let rings = rings.iter().map(|(id, at)| (*id, at.iter().copied().map(span).collect()));
            sources.rings = rings.collect();
            sources.are_complete()
        };
        assert!(complete(&[], &[]), "nothing can come again");
        assert!(!complete(&[], &[(1, 5)]), "it may be further back");
        let one: (u64, &[u64]) = (1, &[4, 9]);
        assert!(complete(&[one], &[(1, 5)]));
        assert!(!complete(&[one], &[(1, 5), (2, 0)]), "nor does one tell of another");
        let two: (u64, &[u64]) = (2, &[700]);
        assert!(!complete(&[one, two], &[(1, 5), (2, 700)]), "the rest of it may be earlier");
        assert!(!complete(&[(1, &[0])], &[(1, 0)]), "even of the first");
    }

    #[test]
    fn a_submission_in_two_batches_is_one() {
        let span = |position, first_lsn, record_count| SourceSpan {
            ring_id: 1,
            position,
            first_lsn: Lsn(first_lsn),
            record_count,
        };
        let of = |spans: Vec<SourceSpan>| {
            let rings = [(1, spans.into())].into();
            Sources { rings, ..Sources::default() }
        };
        let mut sources = of(vec![span(5, 12, 3), span(6, 15, 1)]);
        sources.prepend(of(vec![span(4, 9, 1), span(5, 10, 2)]));
        assert_eq!(sources.into_spans(), [span(4, 9, 1), span(5, 10, 5), span(6, 15, 1)]);
    }

    #[test]
    fn what_may_come_again_is_kept_and_one_before() {
        assert_eq!(sources(&[], &[8, 10, 5_000]), [(10, 2, 1), (5_000, 3, 1)]);
        assert_eq!(sources(&[], &[5_000 - 1_020, 5_000]).len(), 2);
        let lowest = [(9, 11)];
        assert_eq!(sources(&lowest, &[8, 10, 5_000]), [(10, 2, 1), (5_000, 3, 1)]);
        assert_eq!(sources(&lowest, &[10, 11, 12, 5_000]).len(), 4, "one shows that it is all");
        assert_eq!(sources(&[(9, 8)], &[8, 9, 5_000]).len(), 3, "however far it is back");
    }
}
