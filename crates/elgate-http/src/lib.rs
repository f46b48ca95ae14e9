//! HTTP/1.1 as state machines that touch no socket and no clock.
//!
//! * [`HttpUrl`] parses the one URL a route is configured with.
//! * [`RequestEncoder`] turns a method, a URL, headers and a body into the bytes to send; nothing
//!   a caller puts into it can add a header or a second request.
//! * [`ResponseParser`] is pushed the bytes that arrive, however they are split, and says when
//!   the response is complete. It is strict where leniency lets two parties disagree about where
//!   a message ends (RFC 9112, section 6), and it keeps only an excerpt of the body.
//! * [`RetryAfter`] reads the header of that name.
//!
//! Client side only. `elgate-net` runs these over connections.
//!
//! ```
//! use elgate_http::{HttpUrl, Progress, RequestEncoder, ResponseLimits, ResponseParser};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let url = HttpUrl::parse("http://example.test:8080/in")?;
//! let encoder = RequestEncoder::new("POST", &url)?.header("Content-Type", "text/plain")?;
//! let request = encoder.encode(&[("Idempotency-Key", "orders/7")], b"hello")?;
//! assert!(request.starts_with(b"POST /in HTTP/1.1\r\nHost: example.test:8080\r\n"));
//!
//! let mut parser = ResponseParser::new(ResponseLimits::default(), false);
//! assert_eq!(parser.push(b"HTTP/1.1 202 Accepted\r\nConte")?, Progress::Incomplete);
//! assert_eq!(parser.push(b"nt-Length: 2\r\n\r\nok")?, Progress::Complete);
//! let response = parser.into_response().expect("it is complete");
//! assert_eq!((response.status, response.keep_alive), (202, true));
//! # Ok(())
//! # }
//! ```

mod chunked;
mod error;
mod head;
mod line_block;
mod request;
mod response;
mod retry_after;
mod url;

pub use error::HttpError;
pub use request::{RequestEncoder, RequestError};
pub use response::{Progress, Response, ResponseLimits, ResponseParser};
pub use retry_after::RetryAfter;
pub use url::{HttpUrl, UrlError};
