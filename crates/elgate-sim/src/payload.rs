//! What records hold: each names the operation it belongs to, as far as it has room for that, so
//! that whoever finds it anywhere can tell whether it was ever sent, and where.

/// Shorter ones cannot name their operation; they are told from one another by length alone.
pub(crate) const NAMED_BYTES_MIN: usize = 24;

/// One record of an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct RecordName {
    pub(crate) op: u64,
    pub(crate) index: u32,
}

/// The bytes of a record. No line feeds in it, so that lines of a file can be told apart.
pub(crate) fn payload(name: RecordName, bytes: usize) -> Vec<u8> {
    if bytes < NAMED_BYTES_MIN {
        return vec![b'a' + (bytes % 26) as u8; bytes];
    }
    let mut payload = format!("{:010}/{:05}/{bytes:07}", name.op, name.index).into_bytes();
    payload.resize(bytes, b'A' + (name.op % 26) as u8);
    payload
}

/// Whose record this is, if it says so and is exactly what that record holds. `Err`: it is nobody's.
pub(crate) fn identify(bytes: &[u8]) -> Result<Option<RecordName>, ()> {
    if bytes.len() < NAMED_BYTES_MIN {
        let expected = b'a' + (bytes.len() % 26) as u8;
        return if bytes.iter().all(|byte| *byte == expected) { Ok(None) } else { Err(()) };
    }
    let text = std::str::from_utf8(&bytes[..NAMED_BYTES_MIN]).map_err(|_| ())?;
    let mut parts = text.split('/');
    let mut number = || parts.next().and_then(|part| part.parse::<u64>().ok()).ok_or(());
    let (op, index, length) = (number()?, number()?, number()?);
    let name = RecordName { op, index: u32::try_from(index).map_err(|_| ())? };
    let filler = b'A' + (op % 26) as u8;
    let whole =
        length == bytes.len() as u64 && bytes[NAMED_BYTES_MIN..].iter().all(|byte| *byte == filler);
    if whole { Ok(Some(name)) } else { Err(()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_names_itself_and_nothing_else_does() {
        for bytes in [24, 25, 4_000] {
            let name = RecordName { op: 77, index: 3 };
            let mut made = payload(name, bytes);
            assert_eq!(made.len(), bytes);
            assert_eq!(identify(&made), Ok(Some(name)));
            let last = made.len() - 1;
            made[last] ^= 1;
            assert_eq!(identify(&made), Err(()));
        }
        assert_eq!(identify(&payload(RecordName { op: 1, index: 0 }, 9)), Ok(None));
        assert_eq!(identify(b"xyz"), Err(()));
    }
}
