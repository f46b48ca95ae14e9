//! Why a byte stream is not an HTTP/1.1 response that can be trusted.

use elgate_types::ErrorCode;

/// A response that breaks the protocol, or a limit. The connection it came over must be closed:
/// nobody can say where the next response would begin.
///
/// Which error a byte stream yields does not depend on how the stream was split.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum HttpError {
    /// The first bytes are not those of any HTTP/1 response.
    #[error(
        "the answer does not begin with \"HTTP/1.\": check that the URL names an HTTP server and \
         its plain (not TLS) port"
    )]
    NotHttp,
    /// The status line or a header line is malformed.
    #[error("the response head is malformed ({0}): the far end does not keep to RFC 9112")]
    MalformedHead(&'static str),
    /// A line ends with LF alone, or holds a CR that ends nothing.
    #[error(
        "a line of the response does not end with CR LF: the far end does not keep to RFC 9112"
    )]
    BareLineEnding,
    /// A header value is continued on the next line.
    #[error("the response folds a header over two lines, which RFC 9112 (section 5.2) forbids")]
    ObsoleteFolding,
    /// The status line and headers, or the trailers, exceed the limit.
    #[error("the response head or trailer is larger than {limit_bytes} bytes")]
    HeadTooLarge {
        /// The limit.
        limit_bytes: usize,
    },
    /// More header or trailer lines than the limit.
    #[error("the response has more than {limit} header or trailer lines")]
    TooManyHeaders {
        /// The limit.
        limit: usize,
    },
    /// Status 101, which no request of ours asks for.
    #[error("the far end switched protocols (status 101) without being asked to")]
    SwitchingProtocols,
    /// Interim (1xx) responses without end.
    #[error("more than {limit} interim (1xx) responses before the final one")]
    TooManyInterim {
        /// The limit.
        limit: u32,
    },
    /// A Content-Length that is not a number.
    #[error("the response's Content-Length is not a decimal number of bytes")]
    ContentLengthInvalid,
    /// Several Content-Length values that differ.
    #[error("the response gives two different Content-Length values (RFC 9112, section 6.3)")]
    ContentLengthConflict,
    /// Both Content-Length and Transfer-Encoding.
    #[error("the response has both Content-Length and Transfer-Encoding (RFC 9112, section 6.1)")]
    LengthAndTransferEncoding,
    /// A transfer coding other than `chunked`, or one in an HTTP/1.0 response.
    #[error(
        "the response's Transfer-Encoding is not plain \"chunked\" over HTTP/1.1, the only one \
         that was offered"
    )]
    TransferEncodingUnsupported,
    /// The chunked framing is broken.
    #[error("the chunked body is malformed ({0}): the far end does not keep to RFC 9112")]
    MalformedChunk(&'static str),
    /// The body exceeds the limit. The status is known all the same.
    #[error("the response body is larger than {limit_bytes} bytes")]
    BodyTooLarge {
        /// The limit.
        limit_bytes: u64,
    },
    /// The peer finished sending in the middle of the response.
    #[error("the connection ended in the middle of the response")]
    UnexpectedEnd,
    /// Bytes after the end of the response, although one request was sent. The response before
    /// them is complete.
    #[error("the far end sent more bytes than its response announced")]
    ExcessBytes,
}

impl HttpError {
    /// The stable code. Always retryable: the next answer may be sound.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        ErrorCode::FarEndUnavailable
    }
}
