//! However the bytes arrive, the outcome is the same; whatever they are, nothing panics; and what
//! a server says is what comes out.

use elgate_http::{HttpError, Progress, Response, ResponseLimits, ResponseParser};
use proptest::collection::vec;
use proptest::prelude::*;
use std::ops::Range;

const LIMITS: ResponseLimits =
    ResponseLimits { head_bytes_max: 512, body_bytes_max: 4_096, excerpt_bytes_max: 64 };

type Parsed = (Result<Progress, HttpError>, bool, Option<Response>);

/// Parses `bytes` cut at `cuts` (indices into it, any order), then the end of the stream.
fn parse(bytes: &[u8], cuts: &[prop::sample::Index], head_request: bool) -> Parsed {
    let mut places: Vec<_> = cuts.iter().map(|cut| cut.index(bytes.len() + 1)).collect();
    places.extend([0, bytes.len()]);
    places.sort_unstable();
    let mut parser = ResponseParser::new(LIMITS, head_request);
    for pair in places.windows(2) {
        let _ = parser.push(&bytes[pair[0]..pair[1]]);
    }
    let progress = parser.end_of_stream();
    assert_eq!(progress, parser.end_of_stream(), "the outcome does not change");
    (progress, parser.started(), parser.into_response())
}

/// Bytes that get past the first checks more often than chance would have it.
fn almost_http() -> impl Strategy<Value = Vec<u8>> {
    let piece = prop_oneof![
        4 => Just(&b"HTTP/1.1 200 OK\r\n"[..]),
        1 => Just(&b"HTTP/1.0 200 OK\r\n"[..]),
        1 => Just(&b"HTTP/1.1 100 Continue\r\n\r\n"[..]),
        1 => Just(&b"HTTP/1.1 204 No\r\n"[..]),
        3 => Just(&b"Content-Length: 5\r\n"[..]),
        1 => Just(&b"Content-Length: 5000\r\n"[..]),
        3 => Just(&b"Transfer-Encoding: chunked\r\n"[..]),
        1 => Just(&b"Connection: close\r\n"[..]),
        1 => Just(&b"Retry-After: 9\r\n"[..]),
        5 => Just(&b"\r\n"[..]),
        2 => Just(&b"\r\n\r\n"[..]),
        2 => Just(&b"5\r\nhello\r\n"[..]),
        2 => Just(&b"0\r\n\r\n"[..]),
        1 => Just(&b"5;ext\r\n"[..]),
        2 => Just(&b"hello"[..]),
        1 => Just(&b"X: y\r\n"[..]),
        1 => Just(&b" "[..]),
        1 => Just(&b"\n"[..]),
        1 => Just(&b"\r"[..]),
        1 => Just(&b"\0"[..]),
        1 => Just(&[b'x'; 300][..]),
    ];
    (any::<bool>(), vec(piece, 0..12)).prop_map(|(status_line, pieces)| {
        let start: &[u8] = if status_line { b"HTTP/1.1 200 OK\r\n" } else { b"" };
        [start, &pieces.concat()].concat()
    })
}

/// A response as a server means it, with its bytes.
#[derive(Debug, Clone)]
struct Meant {
    bytes: Vec<u8>,
    status: u16,
    body: Vec<u8>,
    keep_alive: bool,
}

/// Its body has a length (0), comes in chunks (1), or ends with the connection (2).
fn meant(framing: Range<u8>) -> impl Strategy<Value = Meant> {
    let status = prop_oneof![Just(200_u16), Just(201), Just(404), Just(503), 200..600_u16]
        .prop_filter("without a body", |status| !matches!(status, 204 | 304));
    let body = vec(any::<u8>(), 0..600);
    let chunks = vec((1..90_usize, "(;[a-z]{1,5}(=[a-z0-9]{1,5})?)?"), 1..8);
    let trailers = vec("[A-Z][a-z]{1,9}: [ -~]{0,9}[a-z]\r\n", 0..3);
    (status, body, framing, 0..4_usize, any::<bool>(), chunks, trailers).prop_map(
        |(status, body, framing, interim, close, chunks, trailers)| {
            let mut bytes = b"HTTP/1.1 103 Early\r\nLink: x\r\n\r\n".repeat(interim);
            bytes.extend(format!("HTTP/1.1 {status} Whatever\r\nServer: x\r\n").bytes());
            if close {
                bytes.extend(b"Connection: close\r\n");
            }
            match framing {
                0 => {
                    bytes.extend(format!("Content-Length: {}\r\n\r\n", body.len()).bytes());
                    bytes.extend(&body);
                }
                1 => {
                    bytes.extend(b"Transfer-Encoding: chunked\r\n\r\n");
                    let mut rest = &body[..];
                    for (size, extension) in chunks.iter().cycle() {
                        let (chunk, after) = rest.split_at((*size).min(rest.len()));
                        bytes.extend(format!("{:x}{extension}\r\n", chunk.len()).bytes());
                        if chunk.is_empty() {
                            break;
                        }
                        bytes.extend(chunk);
                        bytes.extend(b"\r\n");
                        rest = after;
                    }
                    bytes.extend(trailers.concat().bytes());
                    bytes.extend(b"\r\n");
                }
                _ => {
                    bytes.extend(b"\r\n");
                    bytes.extend(&body);
                }
            }
            Meant { bytes, status, body, keep_alive: framing != 2 && !close }
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn arbitrary_bytes_are_an_outcome_and_never_a_panic(
        bytes in vec(any::<u8>(), 0..800), cuts: [prop::sample::Index; 5], head: bool,
    ) {
        prop_assert_eq!(parse(&bytes, &[], head), parse(&bytes, &cuts, head));
    }

    #[test]
    fn splits_make_no_difference_to_almost_http(
        bytes in almost_http(), cuts: [prop::sample::Index; 5], head: bool,
    ) {
        let whole = parse(&bytes, &[], head);
        prop_assert_eq!(&whole, &parse(&bytes, &cuts, head));
        let mut parser = ResponseParser::new(LIMITS, head);
        for byte in bytes.chunks(1) {
            let _ = parser.push(byte);
        }
        prop_assert_eq!(whole.0, parser.end_of_stream());
        prop_assert_eq!(whole.2, parser.into_response());
    }

    #[test]
    fn what_a_server_means_is_what_comes_out(meant in meant(0..3), cuts: [prop::sample::Index; 5]) {
        let (progress, _, response) = parse(&meant.bytes, &cuts, false);
        prop_assert_eq!(progress, Ok(Progress::Complete));
        let response = response.expect("complete");
        prop_assert_eq!(response.status, meant.status);
        prop_assert_eq!(response.body_bytes, meant.body.len() as u64);
        prop_assert_eq!(&response.body_excerpt, &meant.body[..meant.body.len().min(64)]);
        prop_assert_eq!(response.keep_alive, meant.keep_alive);
    }

    #[test]
    fn a_response_cut_short_is_never_complete(meant in meant(0..2), place: prop::sample::Index) {
        let cut = &meant.bytes[..place.index(meant.bytes.len())];
        prop_assert_eq!(parse(cut, &[], false).0, Err(HttpError::UnexpectedEnd));
    }
}
