//! The response parser: bytes in, in pieces of any size; one [`Response`] out.
//!
//! ```text
//!        ┌─ 1xx ─┐
//!        ▼       │          ┌─► Empty ──────────┐
//!  ──► Head ─────┴─ final ──┼─► Fixed ──────────┼──► Done
//!                           ├─► Chunked ────────┤
//!                           └─► UntilClose ─ end of stream
//! ```

use crate::chunked::{ChunkDecoder, Step};
use crate::head::{self, Framing, Head};
use crate::line_block::LineBlock;
use crate::{HttpError, RetryAfter};

/// Most interim (1xx) responses before the final one.
const INTERIM_MAX: u32 = 16;
/// What every HTTP/1 response begins with.
const PREFIX: &[u8] = b"HTTP/1.";

/// Bounds on one response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ResponseLimits {
    /// Most bytes of status line and headers together, and of trailers.
    pub head_bytes_max: usize,
    /// Most bytes of body. Beyond it the status still counts, but the connection is given up.
    pub body_bytes_max: u64,
    /// How many bytes of the body are kept; the rest is counted and dropped.
    pub excerpt_bytes_max: usize,
}

impl Default for ResponseLimits {
    fn default() -> Self {
        Self {
            head_bytes_max: 16 * 1_024,
            body_bytes_max: 8 * 1_024 * 1_024,
            excerpt_bytes_max: 4 * 1_024,
        }
    }
}

/// How far a response has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// More bytes are needed.
    Incomplete,
    /// The response is complete.
    Complete,
}

/// A final response, as far as a delivery needs it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The status, 200 to 999.
    pub status: u16,
    /// When the far end wants to be tried again, if it said so intelligibly.
    pub retry_after: Option<RetryAfter>,
    /// Whether the far end keeps the connection open after this response.
    pub keep_alive: bool,
    /// The first bytes of the body, for people to read.
    pub body_excerpt: Vec<u8>,
    /// How many bytes of body arrived in all.
    pub body_bytes: u64,
}

#[derive(Debug)]
enum State {
    Head,
    Fixed { remaining: u64 },
    Chunked(ChunkDecoder),
    UntilClose,
    Done,
    Failed(HttpError),
}

/// Parses one response to one request. After an error it stays failed.
#[derive(Debug)]
pub struct ResponseParser {
    limits: ResponseLimits,
    answers_head_request: bool,
    state: State,
    block: LineBlock,
    interim_count: u32,
    started: bool,
    head: Option<Head>,
    excerpt: Vec<u8>,
    body_bytes: u64,
}

impl ResponseParser {
    /// A parser for the response to one request. `answers_head_request`: the request's method was
    /// HEAD, so that no body follows whatever the headers say.
    #[must_use]
    pub fn new(limits: ResponseLimits, answers_head_request: bool) -> Self {
        Self {
            limits,
            answers_head_request,
            state: State::Head,
            block: LineBlock::new(limits.head_bytes_max),
            interim_count: 0,
            started: false,
            head: None,
            excerpt: Vec::new(),
            body_bytes: 0,
        }
    }

    /// Takes bytes that arrived. However they are split, the outcome is the same.
    ///
    /// # Errors
    /// [`HttpError`], now and at every later call. After [`HttpError::ExcessBytes`] and
    /// [`HttpError::BodyTooLarge`] the status is sound and [`into_response`](Self::into_response)
    /// yields it; in any case the connection must be closed.
    pub fn push(&mut self, input: &[u8]) -> Result<Progress, HttpError> {
        self.advance(input).inspect_err(|&error| self.state = State::Failed(error))
    }

    /// Says that the peer has finished sending: the end of a body without announced length, or a
    /// response cut short.
    ///
    /// # Errors
    /// [`HttpError::UnexpectedEnd`] if the response is not complete by that.
    pub fn end_of_stream(&mut self) -> Result<Progress, HttpError> {
        match self.state {
            State::UntilClose | State::Done => {
                self.state = State::Done;
                Ok(Progress::Complete)
            }
            State::Failed(error) => Err(error),
            State::Head | State::Fixed { .. } | State::Chunked(_) => {
                self.state = State::Failed(HttpError::UnexpectedEnd);
                Err(HttpError::UnexpectedEnd)
            }
        }
    }

    /// Whether any byte has arrived.
    #[must_use]
    pub fn started(&self) -> bool {
        self.started
    }

    /// The response, once its final head has been parsed; its body is what has arrived by now.
    #[must_use]
    pub fn into_response(self) -> Option<Response> {
        let head = self.head?;
        Some(Response {
            status: head.status,
            retry_after: head.retry_after,
            keep_alive: head.keep_alive && matches!(self.state, State::Done),
            body_excerpt: self.excerpt,
            body_bytes: self.body_bytes,
        })
    }

    fn advance(&mut self, mut input: &[u8]) -> Result<Progress, HttpError> {
        self.started |= !input.is_empty();
        while !input.is_empty() {
            let taken = match &mut self.state {
                State::Head => self.take_head(input)?,
                State::Fixed { remaining } => {
                    let fits = usize::try_from(*remaining).unwrap_or(usize::MAX).min(input.len());
                    *remaining -= fits as u64;
                    if *remaining == 0 {
                        self.state = State::Done;
                    }
                    self.take_body(&input[..fits])?;
                    fits
                }
                State::Chunked(decoder) => match decoder.step(input)? {
                    Step::Framing(taken) => taken,
                    Step::Data(data) => {
                        self.take_body(data)?;
                        data.len()
                    }
                    Step::Done(taken) => {
                        self.state = State::Done;
                        taken
                    }
                },
                State::UntilClose => {
                    self.take_body(input)?;
                    input.len()
                }
                State::Done => return Err(HttpError::ExcessBytes),
                State::Failed(error) => return Err(*error),
            };
            input = &input[taken..];
        }
        match self.state {
            State::Done => Ok(Progress::Complete),
            State::Failed(error) => Err(error),
            _ => Ok(Progress::Incomplete),
        }
    }

    fn take_head(&mut self, input: &[u8]) -> Result<usize, HttpError> {
        // Garbage is told from HTTP at its first byte, not when it fills the limit or falls silent.
        let missing = PREFIX.get(self.block.bytes().len()..).unwrap_or_default();
        if missing.iter().zip(input).any(|(expected, byte)| expected != byte) {
            return Err(HttpError::NotHttp);
        }
        let (taken, block) = self.block.push(input)?;
        let Some(block) = block else { return Ok(taken) };
        let head = head::parse(block, self.answers_head_request)?;
        self.block.clear();
        match head.status {
            101 => return Err(HttpError::SwitchingProtocols),
            100..=199 => {
                self.interim_count += 1;
                if self.interim_count > INTERIM_MAX {
                    return Err(HttpError::TooManyInterim { limit: INTERIM_MAX });
                }
                return Ok(taken);
            }
            _ => self.head = Some(head),
        }
        self.state = match head.framing {
            Framing::Empty | Framing::Length(0) => State::Done,
            Framing::Length(length) if length > self.limits.body_bytes_max => {
                return Err(self.body_too_large());
            }
            Framing::Length(length) => State::Fixed { remaining: length },
            Framing::Chunked => State::Chunked(ChunkDecoder::new(self.limits.head_bytes_max)),
            Framing::UntilClose => State::UntilClose,
        };
        Ok(taken)
    }

    fn take_body(&mut self, data: &[u8]) -> Result<(), HttpError> {
        let left = self.limits.body_bytes_max - self.body_bytes;
        let fits = usize::try_from(left).unwrap_or(usize::MAX).min(data.len());
        let wanted = self.limits.excerpt_bytes_max.saturating_sub(self.excerpt.len()).min(fits);
        self.excerpt.extend_from_slice(&data[..wanted]);
        self.body_bytes += fits as u64;
        if fits < data.len() { Err(self.body_too_large()) } else { Ok(()) }
    }

    fn body_too_large(&self) -> HttpError {
        HttpError::BodyTooLarge { limit_bytes: self.limits.body_bytes_max }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parser() -> ResponseParser {
        ResponseParser::new(ResponseLimits::default(), false)
    }

    #[test]
    fn interim_responses_are_skipped_and_bounded() {
        let mut sound = parser();
        let bytes = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early\r\nLink: x\r\n\r\n\
            HTTP/1.1 201 Created\r\nContent-Length: 2\r\n\r\nok";
        assert_eq!(sound.push(bytes), Ok(Progress::Complete));
        let response = sound.into_response().expect("complete");
        assert_eq!((response.status, &response.body_excerpt[..]), (201, &b"ok"[..]));
        assert!(response.keep_alive);

        let interim = b"HTTP/1.1 102 Processing\r\n\r\n";
        assert_eq!(parser().push(&interim.repeat(16)), Ok(Progress::Incomplete));
        let error = HttpError::TooManyInterim { limit: 16 };
        assert_eq!(parser().push(&interim.repeat(17)), Err(error));
        let switch = b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\n\r\n";
        assert_eq!(parser().push(switch), Err(HttpError::SwitchingProtocols));
    }

    #[test]
    fn garbage_is_told_at_its_first_byte_and_stays_refused() {
        let mut parser = parser();
        assert_eq!(parser.push(b""), Ok(Progress::Incomplete));
        assert!(!parser.started());
        assert_eq!(parser.push(b"HT"), Ok(Progress::Incomplete));
        assert!(parser.started());
        assert_eq!(parser.push(b"x"), Err(HttpError::NotHttp));
        assert_eq!(parser.push(b""), Err(HttpError::NotHttp));
        assert_eq!(parser.end_of_stream(), Err(HttpError::NotHttp));
        assert_eq!(parser.into_response(), None);
    }

    #[test]
    fn the_body_beyond_the_excerpt_is_counted_and_dropped() {
        let limits = ResponseLimits { excerpt_bytes_max: 3, ..ResponseLimits::default() };
        let mut parser = ResponseParser::new(limits, false);
        assert_eq!(parser.push(b"HTTP/1.1 200 OK\r\n\r\nab"), Ok(Progress::Incomplete));
        assert_eq!(parser.push(b"cdef"), Ok(Progress::Incomplete));
        assert_eq!(parser.end_of_stream(), Ok(Progress::Complete));
        let response = parser.into_response().expect("complete");
        assert_eq!((&response.body_excerpt[..], response.body_bytes), (&b"abc"[..], 6));
        assert!(!response.keep_alive);
    }

    #[test]
    fn a_body_over_the_limit_still_tells_its_status() {
        let limits = ResponseLimits { body_bytes_max: 4, ..ResponseLimits::default() };
        let error = HttpError::BodyTooLarge { limit_bytes: 4 };
        for (bytes, body_bytes) in [
            (&b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n"[..], 0),
            (b"HTTP/1.1 200 OK\r\n\r\nabcde", 4),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nabcde", 4),
        ] {
            let mut parser = ResponseParser::new(limits, false);
            assert_eq!(parser.push(bytes), Err(error));
            let response = parser.into_response().expect("its head was sound");
            assert_eq!((response.status, response.body_bytes), (200, body_bytes));
            assert!(!response.keep_alive);
        }
    }

    #[test]
    fn excess_bytes_are_refused_but_the_response_is_there() {
        let mut parser = parser();
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok\r\n";
        assert_eq!(parser.push(bytes), Err(HttpError::ExcessBytes));
        let response = parser.into_response().expect("complete");
        assert_eq!((response.status, response.keep_alive), (200, false));
    }

    #[test]
    fn an_answer_to_head_has_no_body() {
        let mut parser = ResponseParser::new(ResponseLimits::default(), true);
        let bytes = b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n";
        assert_eq!(parser.push(bytes), Ok(Progress::Complete));
        assert!(parser.into_response().expect("complete").keep_alive);
    }
}
