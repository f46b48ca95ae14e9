//! The one error of the engine's control side.

use elgate_types::ErrorCode;
use std::fmt::Display;
use std::path::Path;

/// Why the engine could not do what it was asked: a stable code, and a message that says what,
/// on what, and what to do.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{message}")]
pub struct EngineError {
    code: ErrorCode,
    message: String,
}

impl EngineError {
    /// With this code and message.
    #[must_use]
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::ConfigInvalid, message)
    }

    /// An operating system error met while doing `intent` on `path`.
    pub(crate) fn io(intent: &str, path: &Path, error: &std::io::Error) -> Self {
        let code = match error.kind() {
            std::io::ErrorKind::PermissionDenied => ErrorCode::PermissionDenied,
            _ => ErrorCode::Io,
        };
        Self::new(
            code,
            format!("cannot {intent} {}: {error}. {}", path.display(), code.row().advice),
        )
    }

    pub(crate) fn dead_shard() -> Self {
        Self::new(
            ErrorCode::Internal,
            "a shard has ended; nothing durable is lost. Restart Elgate, and please report it",
        )
    }

    /// An error of a lower crate, with its own code, met on `subject`.
    pub(crate) fn wrap(code: ErrorCode, subject: impl Display, error: impl Display) -> Self {
        Self::new(code, format!("{subject}: {error}"))
    }

    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        self.code
    }
}
