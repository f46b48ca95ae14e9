//! A submission as the consumer hands it over.

use crate::message::{Records, records};

/// A validated submission, borrowed from the consumer's own copy of it.
#[derive(Debug)]
pub struct Submission<'a> {
    /// Where it lies; names it in [`Consumer::finish`].
    pub position: u64,
    /// How many slots it takes.
    pub slots: u32,
    /// The participant that sent it. 0: nobody any more (it was salvaged from an earlier ring).
    pub owner: u16,
    /// The participant's number of the first record.
    pub op_id: u64,
    /// The route's name, valid as such; whether it exists is for the engine to say.
    pub route: &'a str,
    /// How many records.
    pub record_count: u32,
    pub(crate) body: &'a [u8],
}

impl<'a> Submission<'a> {
    /// A submission put together again from what was kept of one. `body` as [`Self::body`] gave it.
    #[must_use]
    pub fn from_parts(
        position: u64,
        op_id: u64,
        record_count: u32,
        route: &'a str,
        body: &'a [u8],
    ) -> Self {
        Self { position, slots: 0, owner: 0, op_id, route, record_count, body }
    }

    /// The payloads, in order.
    #[must_use]
    pub fn records(&self) -> Records<'a> {
        records(self.body)
    }

    /// The records as they were encoded; [`records`](crate::records()) walks them.
    #[must_use]
    pub fn body(&self) -> &'a [u8] {
        self.body
    }
}
