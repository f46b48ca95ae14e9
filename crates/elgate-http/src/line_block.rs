//! A block of lines that ends with an empty one: a response head, or the trailers of a chunked
//! body. Collects it, within a limit, from pieces of any size; checks line endings and folding;
//! leaves the meaning of the lines to others.

use crate::HttpError;

#[derive(Debug)]
pub(crate) struct LineBlock {
    bytes: Vec<u8>,
    line_start: usize,
    limit_bytes: usize,
}

impl LineBlock {
    pub(crate) fn new(limit_bytes: usize) -> Self {
        Self { bytes: Vec::new(), line_start: 0, limit_bytes }
    }

    /// Takes bytes up to the end of the block. Returns how many it took, and the whole block once
    /// it is complete; [`clear`](Self::clear) it before the next one.
    pub(crate) fn push(&mut self, input: &[u8]) -> Result<(usize, Option<&[u8]>), HttpError> {
        let mut taken = 0;
        while taken < input.len() {
            let rest = &input[taken..];
            let line_end = rest.iter().position(|&byte| byte == b'\n');
            let piece = &rest[..line_end.map_or(rest.len(), |end| end + 1)];
            if self.bytes.len() + piece.len() > self.limit_bytes {
                return Err(HttpError::HeadTooLarge { limit_bytes: self.limit_bytes });
            }
            self.bytes.extend_from_slice(piece);
            taken += piece.len();
            if line_end.is_none() {
                break;
            }
            let line = &self.bytes[self.line_start..];
            let Some(content) = line.strip_suffix(b"\r\n") else {
                return Err(HttpError::BareLineEnding);
            };
            if content.contains(&b'\r') {
                return Err(HttpError::BareLineEnding);
            }
            if matches!(content.first(), Some(b' ' | b'\t')) {
                return Err(HttpError::ObsoleteFolding);
            }
            let ended = content.is_empty();
            self.line_start = self.bytes.len();
            if ended {
                return Ok((taken, Some(&self.bytes)));
            }
        }
        Ok((taken, None))
    }

    /// What has been collected so far.
    pub(crate) fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    pub(crate) fn clear(&mut self) {
        self.bytes.clear();
        self.line_start = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_at_the_empty_line_and_takes_no_more() {
        let mut block = LineBlock::new(100);
        assert_eq!(block.push(b"a: b\r").expect("sound"), (5, None));
        let (taken, whole) = block.push(b"\nc: d\r\n\r\nbody").expect("sound");
        assert_eq!((taken, whole), (9, Some(&b"a: b\r\nc: d\r\n\r\n"[..])));
        block.clear();
        assert_eq!(block.push(b"\r\n").expect("sound"), (2, Some(&b"\r\n"[..])));
    }

    #[test]
    fn refuses_bare_endings_folds_and_size() {
        let push = |input: &[u8]| LineBlock::new(16).push(input).map(|(taken, _)| taken);
        assert_eq!(push(b"a: b\n"), Err(HttpError::BareLineEnding));
        assert_eq!(push(b"a: \rb\r\n"), Err(HttpError::BareLineEnding));
        assert_eq!(push(b"a: b\r\n c\r\n"), Err(HttpError::ObsoleteFolding));
        assert_eq!(push(b"a: b\r\n\tc\r\n"), Err(HttpError::ObsoleteFolding));
        assert_eq!(push(&[b'x'; 16]), Ok(16));
        assert_eq!(push(&[b'x'; 17]), Err(HttpError::HeadTooLarge { limit_bytes: 16 }));
    }
}
