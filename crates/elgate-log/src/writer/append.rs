//! What comes in: records are copied into the open batch.

use super::LogWriter;
use crate::batch_builder::{Batch, Source};
use crate::error::AppendError;
use crate::record::framed_bytes;
use elgate_types::limits::PAYLOAD_BYTES_MAX;
use elgate_types::{Lsn, WallTime};

/// Most bytes that may wait to be written.
const BACKLOG_BYTES_MAX: usize = 8 * 1024 * 1024;

impl LogWriter {
    /// Copies a record into the open batch and numbers it. Durable once
    /// [`LogEvent::Durable`](crate::LogEvent::Durable) covers its LSN.
    ///
    /// Records of one submission (same ring, same position) that are appended without a
    /// `poll_op` between them are committed together, or not at all.
    ///
    /// # Errors
    /// [`AppendError`]; nothing was taken then, and the record that would have come next still
    /// has the same LSN.
    pub fn append(
        &mut self,
        payload: &[u8],
        source: Source,
        time: WallTime,
    ) -> Result<Lsn, AppendError> {
        self.admit(payload.len())?;
        let bytes_max = self.options.batch_bytes_max;
        if self.open.as_ref().is_some_and(|open| !open.admits(payload.len(), source, bytes_max)) {
            self.close_batch();
        }
        let batch = self.open.get_or_insert_with(|| {
            let salt = self.active.as_ref().map_or(0, |active| active.salt);
            Batch::new(self.pool.take(self.usual_batch_bytes), salt, self.next_lsn)
        });
        let lsn = batch.push(payload, source, time, &mut self.pool);
        debug_assert_eq!(lsn, self.next_lsn, "LSNs have no gaps");
        self.next_lsn = lsn.next();
        self.quiet_since = None;
        Ok(lsn)
    }

    fn admit(&self, payload_bytes: usize) -> Result<(), AppendError> {
        if payload_bytes > PAYLOAD_BYTES_MAX {
            return Err(AppendError::TooLarge { bytes: payload_bytes });
        }
        if self.closing {
            return Err(AppendError::Closed);
        }
        if let Some(reason) = &self.parked {
            return Err(AppendError::Parked { reason: reason.clone() });
        }
        let waiting_bytes = self.unwritten_bytes();
        if waiting_bytes > 0 && waiting_bytes + framed_bytes(payload_bytes) > BACKLOG_BYTES_MAX {
            return Err(AppendError::Backlogged { waiting_bytes });
        }
        Ok(())
    }

    /// No more records join the open batch.
    fn close_batch(&mut self) {
        if let Some(batch) = self.open.take() {
            self.pending_bytes += batch.write_bytes();
            self.pending.push_back(batch);
        }
    }

    /// Bytes appended and not yet handed to the device.
    pub(super) fn unwritten_bytes(&self) -> usize {
        self.pending_bytes + self.open.as_ref().map_or(0, Batch::write_bytes)
    }
}
