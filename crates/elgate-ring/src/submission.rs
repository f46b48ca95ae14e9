//! A submission as the consumer hands it over.

use crate::message::{Records, records};

/// A validated submission, borrowed from the consumer's own copy of it.
#[derive(Debug)]
pub struct Submission<'a> {
    /// The ring that it was sent on. An earlier one than the consumer's, if it was set aside there.
    pub ring_id: u64,
    /// Where it lies, or lay, in that ring; both name it in [`Consumer::finish`].
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
