//! Which bit was flipped, told by the checksum.
//!
//! CRC-32C is linear: flipping one bit of a message changes the checksum by a value, the *syndrome*,
//! that depends on nothing but the bit's distance from the message's end. The last bit's is the
//! polynomial, and each bit before it is one step of the shift register away, so the bit that
//! explains a wrong checksum is found in one walk over the bits.
//!
//! For every length in use here the code's distance is at least 4: no two single bits have the same
//! syndrome, and no two flipped bits look like one. Three or more may, once in 2^31 per bit of the
//! message; see `mend.rs` for what that means for long records.

/// The polynomial, least significant bit first.
const POLYNOMIAL: u32 = 0x82f6_3b78;

/// A bit of some bytes: counted from the first byte's least significant one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Bit(pub(super) u64);

impl Bit {
    fn new(byte: usize, bit: u32) -> Self {
        Self(byte as u64 * 8 + u64::from(bit))
    }

    /// The same bit, counted from `bytes` bytes earlier.
    pub(super) fn after(self, bytes: usize) -> Self {
        Self(self.0 + bytes as u64 * 8)
    }

    /// The byte it is in.
    pub(super) fn byte(self) -> usize {
        (self.0 / 8) as usize
    }

    /// Flips it.
    pub(super) fn flip(self, bytes: &mut [u8]) {
        bytes[self.byte()] ^= 1 << (self.0 % 8);
    }
}

/// Where the one flipped bit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Culprit {
    /// In the stored checksum.
    Checksum(Bit),
    /// In the message.
    Message(Bit),
}

/// The single bit whose flipping explains that a message of so many bytes has the checksum
/// `computed` where `stored` was stored. `None`: no single bit does, or nothing is wrong.
pub(super) fn find(computed: u32, stored: u32, message_bytes: usize) -> Option<Culprit> {
    let syndrome = computed ^ stored;
    if syndrome == 0 {
        return None;
    }
    if syndrome.is_power_of_two() {
        return Some(Culprit::Checksum(Bit(u64::from(syndrome.trailing_zeros()))));
    }
    let mut of_bit = POLYNOMIAL;
    for byte in (0..message_bytes).rev() {
        for bit in (0..8).rev() {
            if of_bit == syndrome {
                return Some(Culprit::Message(Bit::new(byte, bit)));
            }
            of_bit = (of_bit >> 1) ^ if of_bit & 1 == 1 { POLYNOMIAL } else { 0 };
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::bytes::checksum;

    #[test]
    fn every_single_bit_is_found_and_no_pair_looks_like_one() {
        let message: Vec<u8> = (0..200_u8).map(|byte| byte.wrapping_mul(37)).collect();
        let good = checksum(5, &message);
        for bit in (0..message.len() as u64 * 8).map(Bit) {
            let mut bad = message.clone();
            bit.flip(&mut bad);
            let computed = checksum(5, &bad);
            assert_eq!(find(computed, good, bad.len()), Some(Culprit::Message(bit)));
            for other in (0..bit.0).step_by(13).map(Bit) {
                other.flip(&mut bad);
                assert_eq!(find(checksum(5, &bad), good, bad.len()), None, "{bit:?} {other:?}");
                other.flip(&mut bad);
            }
            for stored in 0..32 {
                assert_eq!(find(computed, good ^ (1 << stored), bad.len()), None);
            }
        }
        for stored in 0..32 {
            let found = find(good, good ^ (1 << stored), message.len());
            assert_eq!(found, Some(Culprit::Checksum(Bit(stored))));
        }
        assert_eq!(find(good, good, message.len()), None);
    }
}
