//! A submission's header and body: encoding, and validation of a copy.
//!
//! Nothing here reads shared memory. The producer builds bytes and copies them in; the consumer
//! copies bytes out and hands the copy to [`Header::validate`].

use crate::layout::{BODY_BYTES_MAX, HEADER_BYTES, WORD_BYTES, run_for};
use elgate_types::RouteName;
use elgate_types::limits::{PAYLOAD_BYTES_MAX, RECORDS_PER_SUBMISSION_MAX};

/// Header bytes after the word.
pub(crate) const FIELD_BYTES: usize = HEADER_BYTES - WORD_BYTES;
/// Where, in the fields, the checksummed part begins (after `body_bytes` and the checksum).
pub(crate) const CHECKED_FROM: usize = 8;

const KIND_APPEND: u8 = 1;
const KIND_PADDING: u8 = 2;

/// The fields of a slot header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Header {
    pub(crate) body_bytes: u32,
    pub(crate) crc32c: u32,
    pub(crate) op_id: u64,
    pub(crate) record_count: u32,
    kind: u8,
    pub(crate) route_bytes: u8,
    flags: u16,
}

/// What a valid submission is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Append,
    Padding,
}

impl Header {
    /// The header of an append, checksum not yet filled in.
    pub(crate) fn append(op_id: u64, route: &RouteName, record_count: u32, body: usize) -> Self {
        Self {
            body_bytes: u32::try_from(body).expect("callers have checked the body's size"),
            crc32c: 0,
            op_id,
            record_count,
            kind: KIND_APPEND,
            route_bytes: u8::try_from(route.as_str().len()).expect("route names are short"),
            flags: 0,
        }
    }

    /// The header of padding, complete.
    pub(crate) fn padding() -> Self {
        let mut header = Self {
            body_bytes: 0,
            crc32c: 0,
            op_id: 0,
            record_count: 0,
            kind: KIND_PADDING,
            route_bytes: 0,
            flags: 0,
        };
        header.crc32c = crc32c::crc32c(&header.encode()[CHECKED_FROM..]);
        header
    }

    /// The bytes that follow the word.
    pub(crate) fn encode(&self) -> [u8; FIELD_BYTES] {
        let mut bytes = [0; FIELD_BYTES];
        bytes[0..4].copy_from_slice(&self.body_bytes.to_le_bytes());
        bytes[4..8].copy_from_slice(&self.crc32c.to_le_bytes());
        bytes[8..16].copy_from_slice(&self.op_id.to_le_bytes());
        // 16..24 is sent_us: 0, not set.
        bytes[24..28].copy_from_slice(&self.record_count.to_le_bytes());
        bytes[28] = self.kind;
        bytes[29] = self.route_bytes;
        bytes[30..32].copy_from_slice(&self.flags.to_le_bytes());
        bytes
    }

    /// Reads the bytes that follow the word. Nothing is checked yet.
    pub(crate) fn decode(bytes: &[u8; FIELD_BYTES]) -> Self {
        let u32_at = |at: usize| u32::from_le_bytes([0, 1, 2, 3].map(|step| bytes[at + step]));
        Self {
            body_bytes: u32_at(0),
            crc32c: u32_at(4),
            op_id: u64::from(u32_at(8)) | u64::from(u32_at(12)) << 32,
            record_count: u32_at(24),
            kind: bytes[28],
            route_bytes: bytes[29],
            flags: u16::from_le_bytes([bytes[30], bytes[31]]),
        }
    }

    /// Whether the body's size belongs to a run of that many slots, so that it may be copied at
    /// all. Padding has no body, however long its run.
    pub(crate) fn fits(&self, run: u16) -> bool {
        let body_bytes = self.body_bytes as usize;
        match self.kind {
            KIND_APPEND => body_bytes <= BODY_BYTES_MAX && run_for(body_bytes) == run,
            _ => body_bytes == 0,
        }
    }

    /// Checks everything about a copied submission: the checksum over header and body first, then
    /// every field, then that the body is exactly the route name and the records.
    pub(crate) fn validate(&self, fields: &[u8; FIELD_BYTES], body: &[u8]) -> Option<Kind> {
        let crc = crc32c::crc32c(&fields[CHECKED_FROM..]);
        if crc32c::crc32c_append(crc, body) != self.crc32c || self.flags != 0 {
            return None;
        }
        match self.kind {
            KIND_PADDING => {
                let empty = body.is_empty() && self.route_bytes == 0 && self.record_count == 0;
                empty.then_some(Kind::Padding)
            }
            KIND_APPEND => {
                let (route, records) = body.split_at_checked(usize::from(self.route_bytes))?;
                let valid = RouteName::is_valid(route)
                    && records_are_valid(records, self.record_count as usize);
                valid.then_some(Kind::Append)
            }
            _ => None,
        }
    }
}

/// Whether `bytes` are exactly `count` records, each `{ length u32, payload }`, within the limits.
pub(crate) fn records_are_valid(bytes: &[u8], count: usize) -> bool {
    if count == 0 || count > RECORDS_PER_SUBMISSION_MAX {
        return false;
    }
    let mut records = records(bytes);
    let found = records.by_ref().take(count).filter(|one| one.len() <= PAYLOAD_BYTES_MAX).count();
    found == count && records.rest.is_empty()
}

/// The payloads of encoded records, in order. Ends early where the encoding is broken.
#[derive(Debug, Clone)]
pub struct Records<'a> {
    rest: &'a [u8],
}

/// Walks records encoded one after the other, each `{ length u32 little-endian, payload }`.
#[must_use]
pub fn records(encoded: &[u8]) -> Records<'_> {
    Records { rest: encoded }
}

impl<'a> Iterator for Records<'a> {
    type Item = &'a [u8];

    fn next(&mut self) -> Option<&'a [u8]> {
        let (length, rest) = self.rest.split_first_chunk::<4>()?;
        let (payload, rest) = rest.split_at_checked(u32::from_le_bytes(*length) as usize)?;
        self.rest = rest;
        Some(payload)
    }
}

/// A body in the making: what a producer was given, walked in pieces so that a large one is never
/// copied twice.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Body<'a> {
    Records(&'a [&'a [u8]]),
    Encoded(&'a [u8]),
}

impl Body<'_> {
    /// Bytes of all records with their lengths.
    pub(crate) fn bytes(&self) -> usize {
        match self {
            Self::Records(records) => {
                records.iter().fold(0_usize, |sum, one| sum.saturating_add(one.len() + 4))
            }
            Self::Encoded(bytes) => bytes.len(),
        }
    }

    /// Hands out the bytes in order.
    pub(crate) fn for_each(&self, mut piece: impl FnMut(&[u8])) {
        match self {
            Self::Records(records) => {
                for record in *records {
                    let length = u32::try_from(record.len()).expect("record sizes were checked");
                    piece(&length.to_le_bytes());
                    piece(record);
                }
            }
            Self::Encoded(bytes) => piece(bytes),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn route() -> RouteName {
        RouteName::new("orders").expect("valid")
    }

    fn encoded(records: &[&[u8]]) -> (Header, [u8; FIELD_BYTES], Vec<u8>) {
        let mut body = b"orders".to_vec();
        Body::Records(records).for_each(|piece| body.extend_from_slice(piece));
        let count = u32::try_from(records.len()).expect("few");
        let mut header = Header::append(7, &route(), count, body.len());
        header.crc32c =
            crc32c::crc32c_append(crc32c::crc32c(&header.encode()[CHECKED_FROM..]), &body);
        (header, header.encode(), body)
    }

    #[test]
    fn a_header_survives_encoding() {
        let (header, fields, body) = encoded(&[b"a", b"", b"ccc"]);
        assert_eq!(Header::decode(&fields), header);
        assert_eq!(header.validate(&fields, &body), Some(Kind::Append));
        let records: Vec<&[u8]> = records(&body[6..]).collect();
        assert_eq!(records, [b"a".as_slice(), b"", b"ccc"]);
        let padding = Header::padding();
        assert_eq!(padding.validate(&padding.encode(), &[]), Some(Kind::Padding));
    }

    #[test]
    fn every_single_bit_matters() {
        let (_, fields, body) = encoded(&[b"payload", b"more"]);
        for bit in 0..(FIELD_BYTES + body.len()) * 8 {
            let (mut fields, mut body) = (fields, body.clone());
            match bit / 8 {
                at if at < FIELD_BYTES => fields[at] ^= 1 << (bit % 8),
                at => body[at - FIELD_BYTES] ^= 1 << (bit % 8),
            }
            let header = Header::decode(&fields);
            let intact = header.fits(1)
                && header.body_bytes as usize == body.len()
                && header.validate(&fields, &body).is_some();
            assert!(!intact, "bit {bit} was flipped unnoticed");
        }
    }

    #[test]
    fn a_correct_checksum_over_nonsense_is_not_enough() {
        let cases: [(&[u8], u8, u32); 6] = [
            (b"orders\x01\0\0\0a", 6, 2),   // fewer records than announced
            (b"orders\x01\0\0\0a", 6, 0),   // none announced
            (b"orders\x02\0\0\0a", 6, 1),   // a length beyond the end
            (b"orders\x01\0\0\0ab", 6, 1),  // bytes left over
            (b"Orders\x01\0\0\0a", 6, 1),   // not a route name
            (b"orders\x01\0\0\0a", 200, 1), // a name beyond the end
        ];
        for (body, route_bytes, count) in cases {
            let mut header = Header::append(1, &route(), count, body.len());
            header.route_bytes = route_bytes;
            header.crc32c =
                crc32c::crc32c_append(crc32c::crc32c(&header.encode()[CHECKED_FROM..]), body);
            assert_eq!(header.validate(&header.encode(), body), None, "{body:?}");
        }
    }

    proptest! {
        #[test]
        fn arbitrary_bytes_never_panic(
            fields in prop::array::uniform32(any::<u8>()), body in prop::collection::vec(any::<u8>(), 0..200),
            run in 0_u16..300,
        ) {
            let mut all = [0; FIELD_BYTES];
            all[..32].copy_from_slice(&fields);
            let header = Header::decode(&all);
            let _ = header.fits(run);
            let _ = header.validate(&all, &body);
            let _ = records_are_valid(&body, usize::from(run));
        }
    }
}
