//! What can go wrong, one enum per operation.

use crate::unreadable::is_media_error;
use elgate_types::limits::PAYLOAD_BYTES_MAX;
use elgate_types::{ErrorCode, Lsn};
use std::io;
use std::path::{Path, PathBuf};

/// An operating system error with what was being done, and to what.
#[derive(Debug, thiserror::Error)]
#[error("cannot {doing} {}: {error}", path.display())]
pub struct IoFault {
    /// The intent: "read", "create", ...
    pub doing: &'static str,
    /// The file or directory.
    pub path: PathBuf,
    /// What the operating system said.
    #[source]
    pub error: io::Error,
}

impl IoFault {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self.error.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                ErrorCode::PermissionDenied
            }
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => ErrorCode::LogUnavailable,
            _ => ErrorCode::Io,
        }
    }
}

/// Adds path and intent to an operating system error.
pub(crate) trait AtPath<T> {
    fn at(self, doing: &'static str, path: &Path) -> Result<T, IoFault>;
}

impl<T> AtPath<T> for io::Result<T> {
    fn at(self, doing: &'static str, path: &Path) -> Result<T, IoFault> {
        self.map_err(|error| IoFault { doing, path: path.to_owned(), error })
    }
}

/// Why a log could not be opened for writing.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// A setting cannot work.
    #[error("{0}")]
    Options(String),
    /// Another writer has the log open.
    #[error(
        "{} is being written by another process: stop it, or choose another data directory",
        dir.display()
    )]
    InUse {
        /// The log's directory.
        dir: PathBuf,
    },
    /// The operating system refused something.
    #[error(transparent)]
    Io(#[from] IoFault),
}

impl ReadError {
    /// Whether the device could not read what it holds. It may at a later attempt.
    #[must_use]
    pub fn is_media_error(&self) -> bool {
        matches!(self, Self::Io(fault) if is_media_error(&fault.error))
    }
}

impl OpenError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Options(_) => ErrorCode::ConfigInvalid,
            Self::InUse { .. } => ErrorCode::InUse,
            Self::Io(fault) => fault.code(),
        }
    }
}

/// Why a record was not taken. Nothing was appended.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AppendError {
    /// The payload is over the limit.
    #[error("the payload has {bytes} bytes, and one record holds at most {PAYLOAD_BYTES_MAX}")]
    TooLarge {
        /// Its size.
        bytes: usize,
    },
    /// The log cannot be written at present; it resumes by itself.
    #[error("the log is parked: {reason}; it resumes by itself when space or the device returns")]
    Parked {
        /// What stopped it.
        reason: String,
    },
    /// As much is waiting to be written as may; try again after completions.
    #[error("{waiting_bytes} bytes wait to be written; try again when the device has caught up")]
    Backlogged {
        /// How much waits.
        waiting_bytes: usize,
    },
    /// The log is being closed.
    #[error("the log is closed")]
    Closed,
}

impl AppendError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::TooLarge { .. } => ErrorCode::PayloadTooLarge,
            Self::Parked { .. } => ErrorCode::LogUnavailable,
            Self::Backlogged { .. } => ErrorCode::Backpressure,
            Self::Closed => ErrorCode::Closed,
        }
    }
}

/// Why a log could not be read.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// There is no log there.
    #[error(
        "{} holds no log: no segment in it can be read; check the path, or see `elgate inspect`",
        dir.display()
    )]
    NoLog {
        /// The directory.
        dir: PathBuf,
    },
    /// Somebody has cut the head file short while it was in use.
    #[error(
        "{} was cut short while it was in use: find the program that did it, and read again from \
         where you were",
        path.display()
    )]
    HeadLost {
        /// The file.
        path: PathBuf,
    },
    /// The operating system refused something.
    #[error(transparent)]
    Io(#[from] IoFault),
}

impl ReadError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::NoLog { .. } => ErrorCode::RouteUnknown,
            Self::HeadLost { .. } => ErrorCode::Io,
            Self::Io(fault) => fault.code(),
        }
    }
}

/// Why a cursor could not be opened or saved.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CursorError {
    /// Not a name for a reader.
    #[error(
        "reader name {0:?} is not valid: use 1 to 64 characters of a-z, 0-9, '.', '_' and '-', \
         starting with a letter or digit"
    )]
    Name(String),
    /// Neither slot can be trusted.
    #[error(
        "both slots of {} are damaged: when its reader comes again, it starts over with the first \
         record kept",
        path.display()
    )]
    Corrupt {
        /// The cursor's file.
        path: PathBuf,
    },
    /// Another reader of that name is running.
    #[error("{} is in use by another reader: stop it, or choose another reader name", path.display())]
    InUse {
        /// The cursor's file.
        path: PathBuf,
    },
    /// A save went backwards, which would undo what retention has already relied on.
    #[error("the cursor stands at {at}, and {to} is before it")]
    Backwards {
        /// Where it stands.
        at: Lsn,
        /// Where it was told to go.
        to: Lsn,
    },
    /// The operating system refused something.
    #[error(transparent)]
    Io(#[from] IoFault),
}

impl CursorError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Name(_) | Self::Backwards { .. } => ErrorCode::Usage,
            Self::Corrupt { .. } => ErrorCode::LogCorrupt,
            Self::InUse { .. } => ErrorCode::InUse,
            Self::Io(fault) => fault.code(),
        }
    }
}
