//! The request encoder: one per route, fed one body at a time.

use crate::HttpUrl;
use elgate_io::Buffer;
use elgate_types::ErrorCode;

/// Most bytes of request line and headers. What common servers accept.
const HEAD_BYTES_MAX: usize = 16 * 1_024;

/// Headers that decide how the message is framed or routed: the encoder's own.
const OWN_HEADERS: &[&str] = &[
    "connection",
    "content-length",
    "expect",
    "host",
    "keep-alive",
    "proxy-connection",
    "te",
    "trailer",
    "transfer-encoding",
    "upgrade",
];

/// Why a request cannot be encoded.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RequestError {
    /// The method is not a token, or one whose requests have another form.
    #[error("method {method:?} cannot be used here: use POST, PUT, PATCH or another plain method")]
    Method {
        /// The method, shortened.
        method: String,
    },
    /// A header name is not a token.
    #[error("header name {name:?} is not valid: use letters, digits and '-'")]
    HeaderName {
        /// The name, shortened.
        name: String,
    },
    /// A header value holds something else than visible ASCII with single spaces or tabs between.
    #[error(
        "the value of header {name:?} is not valid: use visible ASCII characters, with spaces or \
         tabs only between them"
    )]
    HeaderValue {
        /// The header's name.
        name: String,
    },
    /// A header that Elgate sets itself.
    #[error("header {name:?} is set by Elgate itself: remove it")]
    HeaderReserved {
        /// The header's name.
        name: String,
    },
    /// The head exceeds what servers accept.
    #[error("the request's headers exceed {limit_bytes} bytes: shorten them")]
    HeadTooLarge {
        /// The limit.
        limit_bytes: usize,
    },
}

impl RequestError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        ErrorCode::ConfigInvalid
    }
}

/// Encodes requests of one method to one URL.
///
/// Request line, Host and the fixed headers are checked and encoded once; each request adds its
/// own headers, Content-Length and body.
#[derive(Debug, Clone)]
pub struct RequestEncoder {
    head: Vec<u8>,
    expects_length: bool,
}

impl RequestEncoder {
    /// An encoder for `method` requests to `url`.
    ///
    /// # Errors
    /// [`RequestError::Method`] if the method is not a token, or is CONNECT or TRACE.
    pub fn new(method: &str, url: &HttpUrl) -> Result<Self, RequestError> {
        if !is_token(method) || matches!(method, "CONNECT" | "TRACE") {
            return Err(RequestError::Method { method: shortened(method) });
        }
        let head = format!("{method} {} HTTP/1.1\r\nHost: {}\r\n", url.target(), url.authority());
        // RFC 9110, section 8.6: no Content-Length for an empty body where none is expected.
        let expects_length = !matches!(method, "GET" | "HEAD" | "DELETE" | "OPTIONS");
        Ok(Self { head: head.into_bytes(), expects_length })
    }

    /// Adds a header to every request.
    ///
    /// # Errors
    /// [`RequestError`] if name or value could be misread, or the encoder sets that header itself.
    pub fn header(mut self, name: &str, value: &str) -> Result<Self, RequestError> {
        check_header(name, value)?;
        append_header(&mut self.head, name, value);
        check_size(self.head.len())?;
        Ok(self)
    }

    /// Encodes one request with further headers and a body, ready to send.
    ///
    /// # Errors
    /// [`RequestError`] as [`header`](Self::header).
    pub fn encode(&self, headers: &[(&str, &str)], body: &[u8]) -> Result<Buffer, RequestError> {
        let mut length_header = Vec::new();
        if self.expects_length || !body.is_empty() {
            append_header(&mut length_header, "Content-Length", &body.len().to_string());
        }
        let mut head_bytes = self.head.len() + length_header.len() + 2;
        for (name, value) in headers {
            check_header(name, value)?;
            head_bytes += name.len() + value.len() + 4;
        }
        check_size(head_bytes)?;

        let mut request = Buffer::with_capacity(head_bytes + body.len());
        request.extend(&self.head);
        for (name, value) in headers {
            for part in [name, ": ", value, "\r\n"] {
                request.extend(part.as_bytes());
            }
        }
        request.extend(&length_header);
        request.extend(b"\r\n");
        request.extend(body);
        Ok(request)
    }
}

fn append_header(head: &mut Vec<u8>, name: &str, value: &str) {
    for part in [name, ": ", value, "\r\n"] {
        head.extend_from_slice(part.as_bytes());
    }
}

fn check_size(head_bytes: usize) -> Result<(), RequestError> {
    if head_bytes > HEAD_BYTES_MAX {
        return Err(RequestError::HeadTooLarge { limit_bytes: HEAD_BYTES_MAX });
    }
    Ok(())
}

fn check_header(name: &str, value: &str) -> Result<(), RequestError> {
    if !is_token(name) {
        return Err(RequestError::HeaderName { name: shortened(name) });
    }
    if OWN_HEADERS.iter().any(|own| own.eq_ignore_ascii_case(name)) {
        return Err(RequestError::HeaderReserved { name: shortened(name) });
    }
    let is_blank = |byte: u8| matches!(byte, b' ' | b'\t');
    let bytes = value.as_bytes();
    let is_sound = bytes.iter().all(|&byte| byte.is_ascii_graphic() || is_blank(byte))
        && !bytes.first().copied().is_some_and(is_blank)
        && !bytes.last().copied().is_some_and(is_blank);
    if !is_sound {
        return Err(RequestError::HeaderValue { name: shortened(name) });
    }
    Ok(())
}

/// RFC 9110, section 5.6.2.
fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

fn shortened(text: &str) -> String {
    text.chars().take(80).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn encoder(method: &str) -> RequestEncoder {
        let url = HttpUrl::parse("http://h:81/in?x").expect("sound");
        RequestEncoder::new(method, &url).expect("sound")
    }

    #[test]
    fn encodes_head_and_body() {
        let encoder = encoder("POST").header("Content-Type", "text/plain").expect("sound");
        let request = encoder.encode(&[("Idempotency-Key", "r/1")], b"a\r\nb").expect("sound");
        let expected = "POST /in?x HTTP/1.1\r\nHost: h:81\r\nContent-Type: text/plain\r\n\
            Idempotency-Key: r/1\r\nContent-Length: 4\r\n\r\na\r\nb";
        assert_eq!(std::str::from_utf8(&request), Ok(expected));
    }

    #[test]
    fn an_empty_body_has_a_length_only_where_one_is_expected() {
        let encoded = |method| encoder(method).encode(&[], b"").expect("sound").to_vec();
        assert!(encoded("POST").ends_with(b"\r\nContent-Length: 0\r\n\r\n"));
        assert_eq!(encoded("GET"), b"GET /in?x HTTP/1.1\r\nHost: h:81\r\n\r\n");
    }

    #[test]
    fn refuses_injection_and_its_own_headers() {
        let url = HttpUrl::parse("http://h/").expect("sound");
        for method in ["", "PO ST", "POST\r\n", "CONNECT", "TRACE", "GÉT"] {
            assert!(RequestEncoder::new(method, &url).is_err(), "{method:?}");
        }
        for name in ["", "a b", "a:", "a\r\nb", "a\0", "ä"] {
            let error = encoder("POST").header(name, "v").expect_err(name);
            assert!(matches!(error, RequestError::HeaderName { .. }), "{name:?}");
        }
        for value in ["a\r\nb: c", "a\n", "\ra", "a\0b", "a\x7f", " a", "a\t", "ä"] {
            let error = encoder("POST").encode(&[("x", value)], b"").expect_err(value);
            assert!(matches!(error, RequestError::HeaderValue { .. }), "{value:?}");
        }
        for name in ["Host", "content-LENGTH", "Transfer-Encoding", "connection", "TE"] {
            let error = encoder("POST").header(name, "v").expect_err(name);
            assert!(matches!(error, RequestError::HeaderReserved { .. }), "{name:?}");
        }
        assert!(encoder("POST").header("x", "").is_ok());
        let long = "x".repeat(HEAD_BYTES_MAX);
        assert!(encoder("POST").header("x", &long).is_err());
        assert!(encoder("POST").encode(&[("x", &long)], b"").is_err());
    }
}
