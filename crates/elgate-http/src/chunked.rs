//! The chunked transfer coding (RFC 9112, section 7.1), strict and incremental.
//!
//! ```text
//!  ┌─► size line ── n > 0 ──► n bytes ──► CR LF ─┐
//!  │       │                                     │
//!  │       └─ n = 0 ──► trailers ──► done        │
//!  └─────────────────────────────────────────────┘
//! ```

use crate::HttpError;
use crate::head::check_trailers;
use crate::line_block::LineBlock;

/// Longest size line, extensions included.
const SIZE_LINE_BYTES_MAX: usize = 1_024;
/// Most bytes of chunk extensions in one body: they carry nothing for us, and many small chunks
/// with long extensions would cost far more than the body's own limit suggests.
const EXTENSION_BYTES_MAX: usize = 16 * 1_024;

#[derive(Debug)]
enum State {
    SizeLine,
    Data { remaining: u64 },
    DataEnd { seen_cr: bool },
    Trailers,
}

/// What one step did with the input.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step<'a> {
    /// So many bytes were framing.
    Framing(usize),
    /// These bytes, the first of the input, belong to the body.
    Data(&'a [u8]),
    /// So many bytes were framing, and the body is complete.
    Done(usize),
}

#[derive(Debug)]
pub(crate) struct ChunkDecoder {
    state: State,
    line: Vec<u8>,
    extension_bytes: usize,
    trailers: LineBlock,
}

impl ChunkDecoder {
    pub(crate) fn new(trailer_bytes_max: usize) -> Self {
        Self {
            state: State::SizeLine,
            line: Vec::new(),
            extension_bytes: 0,
            trailers: LineBlock::new(trailer_bytes_max),
        }
    }

    /// Takes some bytes from the front of `input`, which is not empty.
    pub(crate) fn step<'a>(&mut self, input: &'a [u8]) -> Result<Step<'a>, HttpError> {
        match &mut self.state {
            State::SizeLine => self.size_line(input),
            State::Data { remaining } => {
                let fits = usize::try_from(*remaining).unwrap_or(usize::MAX).min(input.len());
                *remaining -= fits as u64;
                if *remaining == 0 {
                    self.state = State::DataEnd { seen_cr: false };
                }
                Ok(Step::Data(&input[..fits]))
            }
            State::DataEnd { seen_cr } => match (*seen_cr, input[0]) {
                (false, b'\r') => {
                    *seen_cr = true;
                    Ok(Step::Framing(1))
                }
                (true, b'\n') => {
                    self.state = State::SizeLine;
                    Ok(Step::Framing(1))
                }
                _ => Err(HttpError::MalformedChunk("no CR LF after a chunk")),
            },
            State::Trailers => {
                let (taken, block) = self.trailers.push(input)?;
                match block {
                    Some(block) => check_trailers(block).map(|()| Step::Done(taken)),
                    None => Ok(Step::Framing(taken)),
                }
            }
        }
    }

    fn size_line<'a>(&mut self, input: &[u8]) -> Result<Step<'a>, HttpError> {
        let line_end = input.iter().position(|&byte| byte == b'\n');
        let piece = &input[..line_end.map_or(input.len(), |end| end + 1)];
        if self.line.len() + piece.len() > SIZE_LINE_BYTES_MAX {
            return Err(HttpError::MalformedChunk("the size line is too long"));
        }
        self.line.extend_from_slice(piece);
        if line_end.is_none() {
            return Ok(Step::Framing(piece.len()));
        }
        let (size, extension_bytes) = parse_size_line(&self.line)?;
        self.extension_bytes += extension_bytes;
        if self.extension_bytes > EXTENSION_BYTES_MAX {
            return Err(HttpError::MalformedChunk("the chunk extensions are too long"));
        }
        self.line.clear();
        self.state = if size == 0 { State::Trailers } else { State::Data { remaining: size } };
        Ok(Step::Framing(piece.len()))
    }
}

/// `chunk-size [ BWS ";" extension ] CR LF`: the size, and how long the extension is.
fn parse_size_line(line: &[u8]) -> Result<(u64, usize), HttpError> {
    let Some(line) = line.strip_suffix(b"\r\n") else { return Err(HttpError::BareLineEnding) };
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    if !(1..=16).contains(&digits) {
        return Err(HttpError::MalformedChunk("the size is not 1 to 16 hexadecimal digits"));
    }
    let (size, extension) = line.split_at(digits);
    let size = std::str::from_utf8(size).ok().and_then(|size| u64::from_str_radix(size, 16).ok());
    let size = size.ok_or(HttpError::MalformedChunk("the size is not a number"))?;
    if !matches!(extension.trim_ascii_start().first(), None | Some(b';')) {
        return Err(HttpError::MalformedChunk("something other than an extension after the size"));
    }
    if extension.iter().any(|&byte| byte.is_ascii_control() && byte != b'\t') {
        return Err(HttpError::MalformedChunk("a control character in an extension"));
    }
    Ok((size, extension.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn decode(mut input: &[u8]) -> Result<Vec<u8>, HttpError> {
        let mut decoder = ChunkDecoder::new(64);
        let mut body = Vec::new();
        while !input.is_empty() {
            match decoder.step(input)? {
                Step::Framing(taken) => input = &input[taken..],
                Step::Data(data) => {
                    body.extend_from_slice(data);
                    input = &input[data.len()..];
                }
                Step::Done(taken) => {
                    assert_eq!(taken, input.len(), "bytes after the end");
                    return Ok(body);
                }
            }
        }
        Err(HttpError::UnexpectedEnd)
    }

    #[test]
    fn decodes_extensions_and_trailers() {
        assert_eq!(decode(b"0\r\n\r\n"), Ok(vec![]));
        assert_eq!(
            decode(b"3\r\nabc\r\n0A\r\n0123456789\r\n0\r\n\r\n"),
            Ok(b"abc0123456789".into())
        );
        assert_eq!(decode(b"1 ;a=\"b\"\r\nx\r\n000;z\r\nA: b\r\nC: d\r\n\r\n"), Ok(b"x".into()));
    }

    #[test]
    fn refuses_what_others_might_read_differently() {
        for body in [
            &b"\r\n"[..],
            b";\r\n",
            b"g\r\n",
            b" 1\r\n",
            b"+1\r\n",
            b"0x1\r\n",
            b"-1\r\n",
            b"1 2\r\n",
            b"00000000000000001\r\n",
            b"1;a\x00b\r\n",
            b"1;a\rb\r\n",
            b"1;a\r\r\n",
            b"1\r\nab\r\n",
            b"1\r\na\n",
            b"1\r\na\r\r",
        ] {
            let error = decode(body).expect_err("malformed");
            let shown = String::from_utf8_lossy(body).into_owned();
            assert!(matches!(error, HttpError::MalformedChunk(_)), "{shown:?}: {error}");
        }
        assert_eq!(decode(b"1;a\nb\r\n"), Err(HttpError::BareLineEnding));
        assert_eq!(decode(b"1\n"), Err(HttpError::BareLineEnding));
        assert_eq!(decode(b"0\r\n\n"), Err(HttpError::BareLineEnding));
        assert_eq!(decode(b"0\r\na: b\r\n c\r\n\r\n"), Err(HttpError::ObsoleteFolding));
        let trailers = [&b"0\r\n"[..], &[b'x'; 70]].concat();
        assert_eq!(decode(&trailers), Err(HttpError::HeadTooLarge { limit_bytes: 64 }));
    }

    #[test]
    fn bounds_size_lines_and_extensions() {
        let long = [&b"1;"[..], &[b'x'; SIZE_LINE_BYTES_MAX]].concat();
        assert!(matches!(decode(&long), Err(HttpError::MalformedChunk(_))));
        let chunk = [&b"1;"[..], &[b'x'; 1_000], b"\r\ny\r\n"].concat();
        assert!(matches!(decode(&chunk.repeat(17)), Err(HttpError::MalformedChunk(_))));
        assert_eq!(decode(&[&chunk.repeat(16)[..], b"0\r\n\r\n"].concat()), Ok(vec![b'y'; 16]));
    }
}
