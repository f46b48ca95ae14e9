//! Routes that take nothing for now: written by the consumer, read by producers before they claim.
//!
//! A route whose log cannot be written is closed once it takes up too much of the ring. Its
//! producers then meet back-pressure, exactly as if the ring were full; those of other routes do
//! not. A submission that was on its way when the route was closed is taken all the same: this is a
//! courtesy between honest parties, not a fence.

use crate::consumer::Consumer;
use crate::layout::{CLOSED_MAX, offset};
use crate::mapping::RingMap;
use crate::protocol::{self, Shared};
use crate::sync::Ordering;
use elgate_io::futex;
use elgate_types::RouteName;

/// What stands for a route in the table: its hash, never 0.
pub(crate) fn mark_of(route: &RouteName) -> u64 {
    route.stable_hash().max(1)
}

impl RingMap {
    /// Whether producers should leave a route alone for now.
    pub(crate) fn is_closed(&self, mark: u64) -> bool {
        // Pairs with the release store in `set_closed`: with the count, the marks.
        let count = self.u32_at(offset::CLOSED_COUNT).load(Ordering::Acquire) as usize;
        // Relaxed: a mark that changes meanwhile makes one producer wait, or try, once too often.
        (0..count.min(CLOSED_MAX))
            .any(|index| self.u64_at(offset::CLOSED + index * 8).load(Ordering::Relaxed) == mark)
    }

    fn set_closed(&self, marks: impl Iterator<Item = u64>) {
        let mut count = 0;
        for (index, mark) in marks.take(CLOSED_MAX).enumerate() {
            self.u64_at(offset::CLOSED + index * 8).store(mark, Ordering::Relaxed);
            count = index as u32 + 1;
        }
        // Pairs with the acquire load in `is_closed`.
        self.u32_at(offset::CLOSED_COUNT).store(count, Ordering::Release);
    }
}

impl Consumer {
    /// Closes these routes to producers, and opens all others, waking those who wait for that. At
    /// most 128 are closed at once; the others only meet a ring that is full.
    pub fn set_closed<'a>(&mut self, routes: impl IntoIterator<Item = &'a RouteName>) {
        self.closed = routes.into_iter().map(mark_of).collect();
        self.publish_closed();
    }

    pub(crate) fn publish_closed(&self) {
        self.ring.set_closed(self.closed.iter().copied());
        if protocol::announce_space(&*self.ring) {
            futex::wake(self.ring.space_sequence(), u32::MAX);
        }
    }
}
