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
