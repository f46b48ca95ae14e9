//! Choosing a backend: by trying it, not by asking for versions.

use crate::arena::ARENA_BYTES_DEFAULT;
use crate::poll::PollDriver;
use crate::uring::UringDriver;
use crate::{Commit, Driver};
use elgate_types::ErrorCode;
use serde::{Deserialize, Serialize};
use std::io;

/// Which backend to use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum BackendChoice {
    /// io_uring if it works here, else epoll and threads.
    #[default]
    Auto,
    /// io_uring, or an error.
    Uring,
    /// Epoll and threads.
    Poll,
    /// tokio-uring, or an error.
    #[cfg(feature = "tokio-uring")]
    #[serde(rename = "tokio-uring")]
    TokioUring,
}

/// Sizes of a driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DriverOptions {
    /// Entries of the submission queue (`uring`). Halved as long as RLIMIT_MEMLOCK has no room.
    pub ring_entries: u32,
    /// Most threads for file operations (`poll`).
    pub file_threads: usize,
    /// Most threads for blocking calls.
    pub blocking_threads: usize,
    /// Size of the arena; 0 for none. Less where RLIMIT_MEMLOCK has no room (`uring`).
    pub arena_bytes: usize,
    /// Whether the arena should be on reserved huge pages, as far as there are any.
    pub huge_pages: bool,
    /// How durable writes are carried out, as far as the backend has a choice.
    pub commit: Commit,
    /// Whether a thread of the kernel's should take submissions (`uring`), at the price of the
    /// core it spins on. If it is refused, the driver says so in its facts and does without.
    pub sqpoll: bool,
}

impl Default for DriverOptions {
    fn default() -> Self {
        Self {
            ring_entries: 256,
            file_threads: 4,
            blocking_threads: 4,
            arena_bytes: ARENA_BYTES_DEFAULT,
            huge_pages: false,
            commit: Commit::default(),
            sqpoll: false,
        }
    }
}

/// Why there is no driver.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenDriverError {
    /// io_uring was demanded and does not work here.
    #[error("io_uring does not work here ({}): {}; or set backend = \"poll\"", .0, advice(.0))]
    Uring(#[source] io::Error),
    /// Not even epoll could be set up.
    #[error("cannot set up epoll ({0}): raise the limit of open files (ulimit -n)")]
    Poll(#[source] io::Error),
}

impl OpenDriverError {
    /// The stable code.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Uring(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                ErrorCode::PermissionDenied
            }
            Self::Uring(_) => ErrorCode::Unsupported,
            Self::Poll(_) => ErrorCode::Io,
        }
    }
}

/// What to do about io_uring not working.
fn advice(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "allow it in the container's seccomp profile, and set sysctl kernel.io_uring_disabled=0"
        }
        Some(libc::ENOSYS | libc::EINVAL) => "run Linux 5.11 or newer with CONFIG_IO_URING",
        Some(libc::ENOMEM) => "raise RLIMIT_MEMLOCK (ulimit -l, LimitMEMLOCK=)",
        Some(libc::EMFILE | libc::ENFILE) => "raise the limit of open files (ulimit -n)",
        _ => "see the kernel's log",
    }
}

/// Makes a driver for the calling thread, which alone may use it.
///
/// With [`BackendChoice::Auto`] a `poll` driver tells in its facts, as `uring_unavailable`, why
/// it is not a better one.
///
/// # Errors
/// See [`OpenDriverError`].
pub fn open_driver(
    choice: BackendChoice,
    options: &DriverOptions,
) -> Result<Box<dyn Driver>, OpenDriverError> {
    let refused = match choice {
        BackendChoice::Poll => None,
        #[cfg(feature = "tokio-uring")]
        BackendChoice::TokioUring => {
            return match crate::TokioUringDriver::new(options) {
                Ok(driver) => Ok(Box::new(driver)),
                Err(error) => Err(OpenDriverError::Uring(error)),
            };
        }
        BackendChoice::Auto | BackendChoice::Uring => match UringDriver::new(options) {
            Ok(driver) => return Ok(Box::new(driver)),
            Err(error) if choice == BackendChoice::Uring => {
                return Err(OpenDriverError::Uring(error));
            }
            Err(error) => Some(error),
        },
    };
    let mut driver = PollDriver::new(options).map_err(OpenDriverError::Poll)?;
    if let Some(error) = refused {
        driver.add_fact("uring_unavailable", format!("{error}: {}", advice(&error)));
    }
    Ok(Box::new(driver))
}
