//! Durable batches kept in memory for readers that are close behind the writer.

use crate::batch_builder::{BufferPool, CachedBatch};
use elgate_types::Lsn;
use std::collections::VecDeque;
use std::sync::Arc;

/// The newest batches, oldest first, contiguous, within a bound on their memory.
#[derive(Debug)]
pub(crate) struct TailCache {
    batches: VecDeque<Arc<CachedBatch>>,
    bytes: usize,
    bytes_max: usize,
}

impl TailCache {
    pub(crate) fn new(bytes_max: usize) -> Self {
        Self { batches: VecDeque::new(), bytes: 0, bytes_max }
    }

    /// Keeps no more than so much from now on.
    pub(crate) fn limit(&mut self, bytes_max: usize) {
        self.bytes_max = bytes_max;
    }

    /// Adds the batch that follows the last one, unless it is there: it may be written twice, where
    /// the device failed. What no longer fits goes back to the pool.
    pub(crate) fn push(&mut self, batch: Arc<CachedBatch>, pool: &mut BufferPool) {
        if self.batches.back().is_some_and(|last| batch.last_lsn() <= last.last_lsn()) {
            return;
        }
        self.bytes += batch.0.memory_bytes();
        self.batches.push_back(batch);
        while self.bytes > self.bytes_max {
            let Some(oldest) = self.batches.pop_front() else { break };
            self.bytes -= oldest.0.memory_bytes();
            // A reader that still holds it frees it instead.
            if let Some(CachedBatch(batch)) = Arc::into_inner(oldest) {
                pool.give(batch.into_buffer());
            }
        }
    }

    /// The batch that contains `lsn`.
    pub(crate) fn find(&self, lsn: Lsn) -> Option<Arc<CachedBatch>> {
        let index = self.batches.partition_point(|batch| batch.last_lsn() < lsn);
        self.batches.get(index).filter(|batch| batch.first_lsn() <= lsn).cloned()
    }

    /// Memory it holds.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch_builder::{Batch, Source};
    use elgate_types::WallTime;

    #[test]
    fn finds_by_lsn_and_forgets_the_oldest() {
        let mut pool = BufferPool::default();
        let mut cache = TailCache::new(3 * 16 * 1024);
        for number in 0..5 {
            let mut batch = Batch::new(pool.take(1), 0, Lsn(1 + number * 2));
            for _ in 0..2 {
                batch.push(b"x", Source::default(), WallTime(0), &mut pool);
            }
            cache.push(Arc::new(CachedBatch(batch)), &mut pool);
        }
        assert!(cache.find(Lsn(4)).is_none(), "forgotten");
        assert_eq!(cache.find(Lsn(6)).map(|batch| batch.first_lsn()), Some(Lsn(5)));
        assert_eq!(cache.find(Lsn(10)).map(|batch| batch.last_lsn()), Some(Lsn(10)));
        assert!(cache.find(Lsn(11)).is_none());
        assert_eq!(pool.bytes(), 16 * 1024, "of the two forgotten, one was used again");
    }
}
