//! Records packed into submissions: encoded once, numbered before each use.

use crate::log::SMALL_BYTES;
use crate::session::{FILLING, NUMBER_BYTES};

const LENGTH_BYTES: usize = size_of::<u32>();
const ENCODED_BYTES: usize = LENGTH_BYTES + SMALL_BYTES;

/// Some records one after the other, each `{ length u32, payload }`, as the ring takes them.
pub(crate) struct Packed {
    body: Vec<u8>,
    count: u32,
}

impl Packed {
    pub(crate) fn new(count: u32) -> Self {
        let mut record = [FILLING; ENCODED_BYTES];
        record[..LENGTH_BYTES].copy_from_slice(&(SMALL_BYTES as u32).to_le_bytes());
        Self { body: record.repeat(count as usize), count }
    }

    pub(crate) fn count(&self) -> u32 {
        self.count
    }

    /// Numbers the records from `first` on; returns them.
    pub(crate) fn numbered(&mut self, first: u64) -> &[u8] {
        for (record, number) in self.body.chunks_exact_mut(ENCODED_BYTES).zip(first..) {
            record[LENGTH_BYTES..][..NUMBER_BYTES].copy_from_slice(&number.to_le_bytes());
        }
        &self.body
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn records_are_numbered_one_after_the_other() {
        let mut packed = Packed::new(3);
        packed.numbered(1);
        let body = packed.numbered(7);
        let numbers = body.chunks_exact(ENCODED_BYTES).map(|record| record[LENGTH_BYTES]);
        assert!(numbers.eq(7..10));
        assert_eq!(body.len(), 3 * ENCODED_BYTES);
    }
}
