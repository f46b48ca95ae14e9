//! What can go wrong with a ring, and what to do about it.

use elgate_types::ErrorCode;
use std::io;
use std::path::PathBuf;

/// Why a ring could not be opened, attached to or replaced.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum RingError {
    /// There is no ring file.
    #[error("no ring at {}: start the daemon with `npx elgate serve`, or name its ring", path.display())]
    Missing {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// Another consumer lives.
    #[error(
        "ring {} is in use by another Elgate (process {pid}): stop it, or choose another ring",
        path.display()
    )]
    InUse {
        /// Which ring.
        path: PathBuf,
        /// The process that consumes it, as it sees itself.
        pid: u32,
    },
    /// The file is not a ring of this layout.
    #[error(
        "{} is not a ring that this version can use ({what}): stop every process that uses it, \
         delete it, and start the daemon again", path.display()
    )]
    Incompatible {
        /// Which file.
        path: PathBuf,
        /// What does not fit, with both values.
        what: String,
    },
    /// The file belongs to somebody else, or others may write to it.
    #[error("{} cannot be trusted ({what}): delete it or choose another path", path.display())]
    Untrusted {
        /// Which file.
        path: PathBuf,
        /// What does not fit, with both values.
        what: String,
    },
    /// The ring was given up after somebody scribbled over it; a new one is about to replace it.
    #[error("ring {} was given up after its words were overwritten: attach again", path.display())]
    Poisoned {
        /// Which ring.
        path: PathBuf,
    },
    /// Every participant index is taken.
    #[error(
        "ring {} already has 1,023 producers: close unused connections, or start the daemon, which \
         frees the places of dead ones", path.display()
    )]
    TooManyProducers {
        /// Which ring.
        path: PathBuf,
    },
    /// An option does not fit.
    #[error("ring option {what}")]
    Invalid {
        /// Which option, its value and its bound.
        what: String,
    },
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On which file.
        path: PathBuf,
        /// The answer.
        source: io::Error,
    },
}

impl RingError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Missing { .. } => ErrorCode::DaemonUnavailable,
            Self::InUse { .. } => ErrorCode::InUse,
            Self::Incompatible { .. } => ErrorCode::RingIncompatible,
            Self::Untrusted { .. } => ErrorCode::PermissionDenied,
            Self::Poisoned { .. } => ErrorCode::RingCorrupt,
            Self::TooManyProducers { .. } => ErrorCode::TooManyProducers,
            Self::Invalid { .. } => ErrorCode::ConfigInvalid,
            Self::Io { source, .. } if source.kind() == io::ErrorKind::PermissionDenied => {
                ErrorCode::PermissionDenied
            }
            Self::Io { .. } => ErrorCode::Io,
        }
    }
}

/// Why a submission was not taken. Unless a variant says otherwise, nothing of it will be carried
/// out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// Not enough free slots right now, or the route takes nothing for now because its log cannot be
    /// written.
    #[error("the ring has no room for this route: wait for space, or slow down")]
    Full,
    /// The records do not fit into one submission.
    #[error("{bytes} bytes do not fit into one submission (at most {bytes_max}): split them")]
    TooLarge {
        /// What they need.
        bytes: usize,
        /// What fits.
        bytes_max: usize,
    },
    /// One record is larger than a record may be.
    #[error("a record of {bytes} bytes is too large (at most 1,000,000): split it")]
    RecordTooLarge {
        /// Its payload.
        bytes: usize,
    },
    /// No records, or more than one submission may carry.
    #[error("{records} records in one submission: send 1 to 4,096")]
    RecordCount {
        /// How many.
        records: usize,
    },
    /// An encoded body is not a sequence of `{ length, payload }` of the announced count.
    #[error("the encoded body does not hold the {records} records it is said to hold")]
    Malformed {
        /// The announced count.
        records: u32,
    },
    /// The ring was given up: attach again. If the submission had already been committed, the
    /// outcome is unknown.
    #[error("the ring was given up after its words were overwritten: attach again")]
    Poisoned,
    /// The words at the tail make no sense. The consumer is about to give the ring up.
    #[error("the ring's words were overwritten by some process: attach again")]
    Corrupt,
    /// The claim was taken away while it was being written, because its owner was held for dead.
    #[error("the claim was taken away: attach again")]
    Fenced,
    /// This process was forked from the one that attached.
    #[error("the ring was attached by the parent process: attach again in this one")]
    Forked,
}

impl SubmitError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Full => ErrorCode::Backpressure,
            Self::TooLarge { .. } | Self::RecordTooLarge { .. } => ErrorCode::PayloadTooLarge,
            Self::RecordCount { .. } | Self::Malformed { .. } => ErrorCode::Usage,
            Self::Poisoned | Self::Corrupt | Self::Fenced => ErrorCode::RingCorrupt,
            Self::Forked => ErrorCode::Closed,
        }
    }
}

/// The consumer met bits that no correct process writes. Replace the ring
/// ([`Consumer::replace`](crate::Consumer::replace)).
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the ring is poisoned at position {position}: found {word:#018x}; replacing it")]
pub struct RingPoisoned {
    /// Where.
    pub position: u64,
    /// The word (or the tail, if that is what makes no sense).
    pub word: u64,
}

impl RingPoisoned {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        ErrorCode::RingCorrupt
    }
}
