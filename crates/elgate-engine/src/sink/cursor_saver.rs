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

    /// The operation that saves `lsn`, unless another save is still under way.
    ///
    /// A sink only moves forward, so a cursor that refuses to go back needs no saving.
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
