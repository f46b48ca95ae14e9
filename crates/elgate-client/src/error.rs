//! What can go wrong between a program and the ring.

use elgate_ring::RingError;
use elgate_types::ErrorCode;
use elgate_types::limits::ROUTES_MAX;
use std::path::PathBuf;

/// Why a client could not connect.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// No daemon serves the ring.
    #[error(
        "no Elgate daemon serves {}: start one with `npx elgate serve`, or name its ring with \
         --ring or ELGATE_RING", path.display()
    )]
    DaemonUnavailable {
        /// The ring.
        path: PathBuf,
    },
    /// The ring cannot be used.
    #[error(transparent)]
    Ring(#[from] RingError),
}

impl ClientError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::DaemonUnavailable { .. } => ErrorCode::DaemonUnavailable,
            Self::Ring(error) => error.code(),
        }
    }
}

/// Why a submission was not taken.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The ring is full, or too many submissions await their acknowledgement. Nothing was taken.
    #[error("back-pressure: drain acknowledgements and wait for space, or slow down")]
    Backpressure,
    /// The client was closed. Nothing was taken.
    #[error("the client was closed: connect again")]
    Closed,
    /// Not a handle that this client gave out. Nothing was taken.
    #[error("no such route handle: get it from `route`, with at most {ROUTES_MAX} different names")]
    UnknownHandle,
    /// The records do not fit into a submission. Nothing was taken.
    #[error(transparent)]
    Records(elgate_ring::SubmitError),
    /// The ring was given up while submitting. The client attaches to its successor by itself; the
    /// outcome of this submission is unknown.
    #[error("the ring was given up ({0}): submit again, the outcome of this one is unknown")]
    RingLost(elgate_ring::SubmitError),
    /// The ring could not be attached to. Nothing was taken.
    #[error(transparent)]
    Attach(RingError),
}

impl SubmitError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Backpressure => ErrorCode::Backpressure,
            Self::Closed => ErrorCode::Closed,
            Self::UnknownHandle => ErrorCode::RouteUnknown,
            Self::Records(error) => error.code(),
            Self::RingLost(_) => ErrorCode::RingCorrupt,
            Self::Attach(error) => error.code(),
        }
    }
}
