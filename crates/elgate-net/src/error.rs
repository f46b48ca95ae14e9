//! How an exchange can fail, by what is known about its effect on the far end.

use elgate_http::HttpError;
use elgate_io::Buffer;
use elgate_types::ErrorCode;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Why an exchange brought no response. Every variant names the origin as `host:port`.
///
/// After [`Resolve`](Self::Resolve), [`Connect`](Self::Connect) and
/// [`ConnectTimeout`](Self::ConnectTimeout) the far end has seen nothing of the request; after the
/// others it may have acted on it. All may be repeated with the same idempotency key.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// The host name has no address.
    #[error("cannot resolve the host of {origin}: {source}; check the name and the DNS set-up")]
    Resolve {
        /// `host:port`.
        origin: Arc<str>,
        /// What the resolver said.
        source: Arc<io::Error>,
    },
    /// No address of the host took the connection.
    #[error(
        "cannot connect to {origin} (last tried {address}): {source}; check that the server runs \
         and that the port is right"
    )]
    Connect {
        /// `host:port`.
        origin: Arc<str>,
        /// The address tried last.
        address: SocketAddr,
        /// What the operating system said about it.
        source: Arc<io::Error>,
    },
    /// Resolving and connecting took too long.
    #[error(
        "no connection to {origin} within {} ms; check the network and firewalls between", limit.as_millis()
    )]
    ConnectTimeout {
        /// `host:port`.
        origin: Arc<str>,
        /// The limit.
        limit: Duration,
    },
    /// The connection stood, but no complete response came in time.
    #[error(
        "{origin} sent {} response within {} ms; the request may have taken effect",
        if *before_response { "no" } else { "no complete" }, limit.as_millis()
    )]
    ResponseTimeout {
        /// `host:port`.
        origin: Arc<str>,
        /// The limit, from the start of sending to the end of the response.
        limit: Duration,
        /// Whether not even one byte had come.
        before_response: bool,
    },
    /// The connection ended before the response did.
    #[error(
        "the connection to {origin} was lost {}{}",
        if *before_response { "before any response" } else { "in the middle of the response" },
        detail(source.as_deref())
    )]
    ConnectionLost {
        /// `host:port`.
        origin: Arc<str>,
        /// Whether not one byte of a response had come.
        before_response: bool,
        /// Whether the connection had served an exchange before. Together with `before_response`
        /// this is most often a far end that closed an idle connection just as the request left:
        /// worth one more attempt at once.
        reused: bool,
        /// What the operating system said; nothing if the far end closed in an orderly way.
        source: Option<Arc<io::Error>>,
    },
    /// What came is no HTTP/1.1 response.
    #[error("{origin} broke the protocol: {source}")]
    Protocol {
        /// `host:port`.
        origin: Arc<str>,
        /// How.
        source: HttpError,
    },
    /// The client was closed while the exchange was under way.
    #[error("the exchange with {origin} was given up because the client was closed")]
    Aborted {
        /// `host:port`.
        origin: Arc<str>,
    },
}

impl ExchangeError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Aborted { .. } => ErrorCode::Closed,
            _ => ErrorCode::FarEndUnavailable,
        }
    }

    /// Whether the far end has seen nothing of the request, so that repeating it cannot have a
    /// second effect even without an idempotency key.
    #[must_use]
    pub fn before_request(&self) -> bool {
        matches!(self, Self::Resolve { .. } | Self::Connect { .. } | Self::ConnectTimeout { .. })
    }
}

fn detail(source: Option<&io::Error>) -> String {
    source.map_or_else(|| ": it was closed by the far end".to_owned(), |error| format!(": {error}"))
}

/// No exchange can start now: wait for an outcome. Hands the request back.
#[derive(Debug, thiserror::Error)]
#[error("every connection is busy; start the exchange after the next outcome")]
pub struct Busy {
    /// The request, untouched.
    pub request: Buffer,
}
