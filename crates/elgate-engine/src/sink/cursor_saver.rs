//! Saves how far a sink has come, one write at a time.

use elgate_io::{Completion, Op};
use elgate_log::{Cursor, CursorError, Extra};
use elgate_types::Lsn;

/// A cursor with at most one save under way.
pub(crate) struct CursorSaver(Cursor);

impl CursorSaver {
    pub(crate) fn new(cursor: Cursor) -> Self {
        Self(cursor)
    }

    /// Whether the cursor has passed `lsn` already, so that there is nothing to save: it never goes
    /// back.
    pub(crate) fn is_ahead_of(&self, lsn: Lsn) -> bool {
        lsn < self.0.lsn()
    }

    /// The operation that saves `lsn`, unless another save is still under way.
    pub(crate) fn save(&mut self, lsn: Lsn, extra: Extra, durable: bool) -> Option<Op> {
        if self.0.is_saving() {
            return None;
        }
        self.0.begin_save(lsn, extra, durable).ok()
    }

    /// Takes the completion of a save.
    pub(crate) fn handle(&mut self, completion: Completion) -> Result<(), CursorError> {
        self.0.saved(completion)
    }

    pub(crate) fn is_saving(&self) -> bool {
        self.0.is_saving()
    }
}
