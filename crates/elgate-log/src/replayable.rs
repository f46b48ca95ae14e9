//! How far back the log may be asked whether it holds a submission already: retention stays behind.
//!
//! A submission that is on its ring is handed over again by whoever takes the ring on. The log
//! alone tells that it has it. Whether the ring still has it is not asked: it cannot, once a
//! submission a whole ring further on has come, and no log is searched further back than
//! [`SOURCES_BYTES_MAX`].

use crate::sources::{POSITIONS_KEPT, SOURCES_BYTES_MAX, SourceSpan};
use elgate_types::Lsn;
use std::collections::{BTreeMap, VecDeque};

/// Batches that a ring's submissions came in, oldest first, as long as that ring may still hold
/// one of them.
#[derive(Debug, Default)]
pub(crate) struct Replayable {
    batches: VecDeque<Logged>,
    /// The last position seen of each ring.
    newest: BTreeMap<u64, u64>,
    /// Bytes written so far.
    bytes: u64,
}

#[derive(Debug)]
struct Logged {
    ring_id: u64,
    /// The last one in it.
    position: u64,
    first_lsn: Lsn,
    bytes_before: u64,
}

impl Replayable {
    /// What recovery found in the log.
    pub(crate) fn new(spans: &[SourceSpan]) -> Self {
        let mut spans: Vec<_> = spans.iter().collect();
        spans.sort_by_key(|span| span.first_lsn);
        let mut found = Self::default();
        for span in spans {
            found.take(span.ring_id, span.position, span.first_lsn, 0);
        }
        found
    }

    /// A batch is written whose last submission came from this position of a ring; `ring_id` is 0
    /// if none of its submissions came from any.
    pub(crate) fn take(&mut self, ring_id: u64, position: u64, first_lsn: Lsn, bytes: u64) {
        if ring_id != 0 {
            let bytes_before = self.bytes;
            self.batches.push_back(Logged { ring_id, position, first_lsn, bytes_before });
            let newest = self.newest.entry(ring_id).or_default();
            *newest = position.max(*newest);
        }
        self.bytes += bytes;
        while let Some(oldest) = self.batches.front() {
            let newest = self.newest.get(&oldest.ring_id).copied().unwrap_or_default();
            let has_lapped = newest.saturating_sub(oldest.position) > POSITIONS_KEPT;
            if !has_lapped && self.bytes - oldest.bytes_before <= SOURCES_BYTES_MAX {
                break;
            }
            self.batches.pop_front();
        }
    }

    /// The first record that has to stay.
    pub(crate) fn first(&self) -> Option<Lsn> {
        self.batches.front().map(|oldest| oldest.first_lsn)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_stays_until_its_ring_has_been_filled_once_more() {
        let mut log = Replayable::default();
        assert_eq!(log.first(), None);
        log.take(0, 0, Lsn(1), 4_096);
        assert_eq!(log.first(), None, "no ring hands that over");
        log.take(7, 10, Lsn(2), 4_096);
        log.take(7, 11, Lsn(5), 4_096);
        log.take(7, 10 + POSITIONS_KEPT, Lsn(9), 4_096);
        assert_eq!(log.first(), Some(Lsn(2)));
        log.take(7, 11 + POSITIONS_KEPT, Lsn(10), 4_096);
        assert_eq!(log.first(), Some(Lsn(5)));
    }

    #[test]
    fn a_ring_of_which_nothing_comes_any_more_holds_up_so_many_bytes() {
        let mut log = Replayable::default();
        log.take(7, 10, Lsn(1), 4_096);
        log.take(8, 10, Lsn(2), SOURCES_BYTES_MAX - 4_096);
        assert_eq!(log.first(), Some(Lsn(1)));
        log.take(8, 5_000, Lsn(3), 4_096);
        assert_eq!(log.first(), Some(Lsn(3)));
    }

    #[test]
    fn what_recovery_found_stays() {
        let span = |ring_id, position, first_lsn| SourceSpan {
            ring_id,
            position,
            first_lsn: Lsn(first_lsn),
            record_count: 1,
        };
        let spans = [span(7, 900, 40), span(7, 901, 42), span(9, 3, 41)];
        assert_eq!(Replayable::new(&spans).first(), Some(Lsn(40)));
    }
}
