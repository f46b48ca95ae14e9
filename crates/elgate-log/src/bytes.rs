//! Little-endian fields in byte slices, and the salted checksum.
//!
//! Reads and writes go through ranges that the callers have already bounded; layout constants are
//! the only offsets that reach this file.

/// CRC-32C of `bytes`, seeded with a segment's salt: bytes that were valid in one segment are not
/// valid in another.
pub(crate) fn checksum(salt: u32, bytes: &[u8]) -> u32 {
    crc32c::crc32c_append(salt, bytes)
}

fn field<const N: usize>(bytes: &[u8], offset: usize) -> [u8; N] {
    let mut value = [0; N];
    value.copy_from_slice(&bytes[offset..offset + N]);
    value
}

pub(crate) fn get_u16(bytes: &[u8], offset: usize) -> u16 {
    u16::from_le_bytes(field(bytes, offset))
}

pub(crate) fn get_u32(bytes: &[u8], offset: usize) -> u32 {
    u32::from_le_bytes(field(bytes, offset))
}

pub(crate) fn get_u64(bytes: &[u8], offset: usize) -> u64 {
    u64::from_le_bytes(field(bytes, offset))
}

pub(crate) fn get_u128(bytes: &[u8], offset: usize) -> u128 {
    u128::from_le_bytes(field(bytes, offset))
}

pub(crate) fn put(bytes: &mut [u8], offset: usize, value: &[u8]) {
    bytes[offset..offset + value.len()].copy_from_slice(value);
}

/// Where the last byte that is not zero ends, or `None` if all are zero.
pub(crate) fn nonzero_end(bytes: &[u8]) -> Option<usize> {
    let (words, tail) = bytes.as_chunks::<8>();
    let tail_start = words.len() * 8;
    if let Some(at) = tail.iter().rposition(|byte| *byte != 0) {
        return Some(tail_start + at + 1);
    }
    let word = words.iter().rposition(|word| u64::from_ne_bytes(*word) != 0)?;
    let at = words[word].iter().rposition(|byte| *byte != 0)?;
    Some(word * 8 + at + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_last_byte_that_is_not_zero() {
        assert_eq!(nonzero_end(&[]), None);
        assert_eq!(nonzero_end(&[0; 100]), None);
        for at in 0..100 {
            let mut bytes = [0; 100];
            bytes[at] = 1;
            bytes[at / 2] = 1;
            assert_eq!(nonzero_end(&bytes), Some(at + 1));
        }
    }

    #[test]
    fn the_salt_changes_every_checksum() {
        assert_eq!(checksum(0, b"123456789"), 0xe306_9283);
        assert_ne!(checksum(1, b"123456789"), checksum(0, b"123456789"));
    }
}
