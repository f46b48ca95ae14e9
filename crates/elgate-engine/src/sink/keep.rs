//! The sink of a route whose records stay in the log for readers to tail.

use super::{SinkStats, Trouble};
use crate::feed::Feed;
use elgate_io::Op;
use elgate_types::{Lsn, Monotonic};

/// Delivers nothing: what is durable counts as delivered, since the log is the destination.
pub(crate) struct KeepSink {
    delivered: Lsn,
}

impl KeepSink {
    pub(crate) fn new(durable: Lsn) -> Self {
        Self { delivered: durable }
    }

    pub(crate) fn advance(&mut self, through: Lsn) {
        self.delivered = self.delivered.max(through);
    }

    pub(crate) fn next(&self) -> Lsn {
        self.delivered.next()
    }

    pub(crate) fn wants(&self) -> bool {
        false
    }

    pub(crate) fn offer(&mut self, _: &Feed, _: Monotonic) {}

    pub(crate) fn skip(&mut self, _: Lsn) {}

    pub(crate) fn poll_op(&mut self, _: Monotonic) -> Option<(u32, Op)> {
        None
    }

    pub(crate) fn delivered(&self) -> Lsn {
        self.delivered
    }

    pub(crate) fn next_wakeup(&self) -> Option<Monotonic> {
        None
    }

    pub(crate) fn retire(&mut self, _: Monotonic) {}

    pub(crate) fn is_idle(&self) -> bool {
        true
    }

    pub(crate) fn is_retrying(&self) -> bool {
        false
    }

    pub(crate) fn take_trouble(&mut self) -> Option<Trouble> {
        None
    }

    pub(crate) fn stats(&self) -> SinkStats {
        SinkStats { delivered_records: self.delivered.0, ..SinkStats::default() }
    }
}
