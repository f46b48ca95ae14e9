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

/// Whether every byte is zero. Compares the bytes with themselves one further on, which is one
/// `memcmp`: recovery looks at megabytes of zeros.
pub(crate) fn is_blank(bytes: &[u8]) -> bool {
    bytes.first().is_none_or(|first| *first == 0 && bytes[1..] == bytes[..bytes.len() - 1])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_byte_is_enough_not_to_be_blank() {
        assert!(is_blank(&[]) && is_blank(&[0; 100]));
        for at in 0..100 {
            let mut bytes = [0; 100];
            bytes[at] = 1;
            assert!(!is_blank(&bytes));
        }
    }

    #[test]
    fn the_salt_changes_every_checksum() {
        assert_eq!(checksum(0, b"123456789"), 0xe306_9283);
        assert_ne!(checksum(1, b"123456789"), checksum(0, b"123456789"));
    }
}
