//! The meaning of a response head: status, where the body ends, whether the connection may be
//! used again. RFC 9112, sections 6 and 9; RFC 9110, section 7.6.1.

use crate::{HttpError, RetryAfter};

/// Most header or trailer lines of one response.
pub(crate) const HEADERS_MAX: usize = 100;

/// How the end of the body is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is none.
    Empty,
    /// So many bytes follow.
    Length(u64),
    /// Chunks follow.
    Chunked,
    /// Whatever comes until the peer closes.
    UntilClose,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Head {
    pub(crate) status: u16,
    pub(crate) framing: Framing,
    pub(crate) keep_alive: bool,
    pub(crate) retry_after: Option<RetryAfter>,
}

/// Parses a complete head (a block of lines with its empty line).
pub(crate) fn parse(block: &[u8], answers_head_request: bool) -> Result<Head, HttpError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    let mut response = httparse::Response::new(&mut headers);
    match response.parse(block) {
        Ok(httparse::Status::Complete(taken)) if taken == block.len() => {}
        Ok(_) => return Err(HttpError::MalformedHead("it ends within a line")),
        Err(error) => return Err(malformed(error)),
    }
    let status = response.code.unwrap_or(0);
    if status < 100 {
        return Err(HttpError::MalformedHead("the status is below 100"));
    }
    let is_http_11 = response.version == Some(1);

    let mut content_length = None;
    let mut transfer_encoding = None;
    let mut says_close = false;
    let mut says_keep_alive = false;
    let mut retry_after = None;
    for header in response.headers.iter() {
        let is = |name: &str| header.name.eq_ignore_ascii_case(name);
        if is("content-length") {
            for value in list(header.value) {
                let value = decimal(value).ok_or(HttpError::ContentLengthInvalid)?;
                if content_length.is_some_and(|earlier| earlier != value) {
                    return Err(HttpError::ContentLengthConflict);
                }
                content_length = Some(value);
            }
        } else if is("transfer-encoding") {
            let sound =
                transfer_encoding.is_none() && header.value.eq_ignore_ascii_case(b"chunked");
            transfer_encoding = Some(sound);
        } else if is("connection") {
            for option in list(header.value) {
                says_close |= option.eq_ignore_ascii_case(b"close");
                says_keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
            }
        } else if is("retry-after") && retry_after.is_none() {
            retry_after = std::str::from_utf8(header.value).ok().and_then(RetryAfter::parse);
        }
    }

    let framing = match (transfer_encoding, content_length) {
        (Some(_), Some(_)) => return Err(HttpError::LengthAndTransferEncoding),
        (Some(sound), None) if !sound || !is_http_11 => {
            return Err(HttpError::TransferEncodingUnsupported);
        }
        _ if answers_head_request || matches!(status, 100..=199 | 204 | 304) => Framing::Empty,
        (Some(_), None) => Framing::Chunked,
        (None, Some(length)) => Framing::Length(length),
        (None, None) => Framing::UntilClose,
    };
    let keep_alive =
        !says_close && (is_http_11 || says_keep_alive) && framing != Framing::UntilClose;
    Ok(Head { status, framing, keep_alive, retry_after })
}

/// Checks that a complete block holds well-formed trailer lines. What they say is not used.
pub(crate) fn check_trailers(block: &[u8]) -> Result<(), HttpError> {
    let mut headers = [httparse::EMPTY_HEADER; HEADERS_MAX];
    match httparse::parse_headers(block, &mut headers) {
        Ok(httparse::Status::Complete((taken, _))) if taken == block.len() => Ok(()),
        Ok(_) => Err(HttpError::MalformedHead("the trailers end within a line")),
        Err(error) => Err(malformed(error)),
    }
}

fn malformed(error: httparse::Error) -> HttpError {
    match error {
        httparse::Error::HeaderName => HttpError::MalformedHead("invalid header name"),
        httparse::Error::HeaderValue => HttpError::MalformedHead("invalid header value"),
        httparse::Error::NewLine => HttpError::MalformedHead("invalid line ending"),
        httparse::Error::Status => HttpError::MalformedHead("invalid status"),
        httparse::Error::Token => HttpError::MalformedHead("invalid character"),
        httparse::Error::TooManyHeaders => HttpError::TooManyHeaders { limit: HEADERS_MAX },
        httparse::Error::Version => HttpError::MalformedHead("invalid HTTP version"),
    }
}

/// The elements of a comma-separated list, without the white space around them. Empty elements
/// are kept: in a Content-Length they are errors.
fn list(value: &[u8]) -> impl Iterator<Item = &[u8]> {
    value.split(|&byte| byte == b',').map(<[u8]>::trim_ascii)
}

/// A number of digits only (no sign, no white space) that fits in 64 bits.
fn decimal(digits: &[u8]) -> Option<u64> {
    if digits.is_empty() || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn framing(head: &str) -> Result<Framing, HttpError> {
        parse(format!("{head}\r\n\r\n").as_bytes(), false).map(|head| head.framing)
    }

    #[test]
    fn framing_follows_rfc_9112_section_6_3() {
        let ok = "HTTP/1.1 200 OK\r\n";
        for (headers, expected) in [
            ("Content-Length: 5", Ok(Framing::Length(5))),
            ("Content-Length: 5\r\ncontent-length: 5", Ok(Framing::Length(5))),
            ("Content-Length: 5, 5", Ok(Framing::Length(5))),
            ("Content-Length: 5\r\nContent-Length: 6", Err(HttpError::ContentLengthConflict)),
            ("Content-Length: 5, 6", Err(HttpError::ContentLengthConflict)),
            ("Content-Length: +5", Err(HttpError::ContentLengthInvalid)),
            ("Content-Length: 0x5", Err(HttpError::ContentLengthInvalid)),
            ("Content-Length: 5,", Err(HttpError::ContentLengthInvalid)),
            ("Content-Length:", Err(HttpError::ContentLengthInvalid)),
            ("Content-Length: 18446744073709551616", Err(HttpError::ContentLengthInvalid)),
            ("Transfer-Encoding: Chunked", Ok(Framing::Chunked)),
            ("Transfer-Encoding: gzip, chunked", Err(HttpError::TransferEncodingUnsupported)),
            ("Transfer-Encoding: chunked, identity", Err(HttpError::TransferEncodingUnsupported)),
            (
                "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
                Err(HttpError::TransferEncodingUnsupported),
            ),
            (
                "Transfer-Encoding: chunked\r\nContent-Length: 5",
                Err(HttpError::LengthAndTransferEncoding),
            ),
            (
                "Content-Length: 5\r\nTransfer-Encoding: x",
                Err(HttpError::LengthAndTransferEncoding),
            ),
            ("X: y", Ok(Framing::UntilClose)),
        ] {
            assert_eq!(framing(&format!("{ok}{headers}")), expected, "{headers}");
        }
        assert_eq!(
            framing("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked"),
            Err(HttpError::TransferEncodingUnsupported)
        );
        assert_eq!(framing("HTTP/1.1 204 x\r\nContent-Length: 5"), Ok(Framing::Empty));
        assert_eq!(framing("HTTP/1.1 304 x"), Ok(Framing::Empty));
        let head = parse(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", true).expect("sound");
        assert_eq!(head.framing, Framing::Empty);
    }

    #[test]
    fn keep_alive_follows_rfc_9112_section_9_3() {
        for (head, expected) in [
            ("HTTP/1.1 204 x", true),
            ("HTTP/1.1 204 x\r\nConnection: Close", false),
            ("HTTP/1.1 204 x\r\nConnection: foo, close", false),
            ("HTTP/1.1 204 x\r\nConnection: keep-alive\r\nConnection: close", false),
            ("HTTP/1.1 200 x", false),
            ("HTTP/1.0 204 x", false),
            ("HTTP/1.0 204 x\r\nConnection: keep-alive", true),
            ("HTTP/1.0 204 x\r\nConnection: close, keep-alive", false),
        ] {
            let parsed = parse(format!("{head}\r\n\r\n").as_bytes(), false).expect("sound");
            assert_eq!(parsed.keep_alive, expected, "{head}");
        }
    }

    #[test]
    fn limits_and_malformations() {
        let lines = "a: b\r\n".repeat(HEADERS_MAX + 1);
        assert_eq!(
            parse(format!("HTTP/1.1 200 OK\r\n{lines}\r\n").as_bytes(), false),
            Err(HttpError::TooManyHeaders { limit: HEADERS_MAX })
        );
        for head in [
            "HTTP/1.1 20 OK",
            "HTTP/1.1 2000 OK",
            "HTTP/1.1 099 x",
            "HTTP/1.2 200 OK",
            "HTTP/1.1  200 OK",
            "HTTP/1.1 200 OK\r\nContent-Length : 5",
            "HTTP/1.1 200 OK\r\n: 5",
            "HTTP/1.1 200 OK\r\nno colon",
            "HTTP/1.1 200 OK\r\na: b\0c",
        ] {
            let error = parse(format!("{head}\r\n\r\n").as_bytes(), false).expect_err(head);
            assert!(matches!(error, HttpError::MalformedHead(_)), "{head}: {error}");
        }
        assert_eq!(check_trailers(b"\r\n"), Ok(()));
        assert_eq!(check_trailers(b"a: b\r\n\r\n"), Ok(()));
        assert!(check_trailers(b"a b\r\n\r\n").is_err());
    }
}
