//! What a ring needs of the world it lives in: shared files, byte locks, and who is alive.
//!
//! [`OsHost`] is the operating system. A simulation brings its own, in which it decides who dies.

use crate::error::RingError;
use crate::files;
use crate::process::{ForkGuard, ProcessIdentity};
use elgate_io::SharedMap;
use std::fmt::Debug;
use std::io;
use std::path::Path;
use std::sync::Arc;

/// One process's view of the place where rings lie. Blocking; never on the path of a submission.
pub trait Host: Debug + Send + Sync {
    /// Opens a regular file of exactly `bytes` that belongs to this user alone; links are not
    /// followed.
    ///
    /// # Errors
    /// [`RingError::Missing`], `Untrusted`, `Incompatible` (another size), `Io`.
    fn open_trusted(&self, path: &Path, bytes: u64) -> Result<Box<dyn SharedFile>, RingError>;

    /// Creates a file of that size, its space reserved. Fails if the name exists.
    ///
    /// # Errors
    /// [`RingError::Io`].
    fn create_sized(
        &self,
        path: &Path,
        bytes: u64,
        mode: u32,
    ) -> Result<Box<dyn SharedFile>, RingError>;

    /// Gives a finished file its name and takes its temporary one away. `false`: the name is
    /// taken.
    ///
    /// # Errors
    /// [`RingError::Io`].
    fn link_new(&self, temporary: &Path, path: &Path) -> Result<bool, RingError>;

    /// Renames a file over another one.
    ///
    /// # Errors
    /// What the file system says.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file that nobody needs; nothing depends on success.
    fn remove(&self, path: &Path);

    /// Whether a name leads nowhere. Doubt means no.
    fn is_gone(&self, path: &Path) -> bool;

    /// 64 random bits for identifiers.
    fn random_u64(&self) -> u64;

    /// This process, as it is written into shared memory.
    fn identity(&self) -> ProcessIdentity;

    /// This process's number now: another one in a forked child.
    fn process_id(&self) -> u32;

    /// Whether a process, seen from another one (this one), is certainly gone. Doubt means no.
    fn is_gone_process(&self, who: &ProcessIdentity, observer: &ProcessIdentity) -> bool;

    /// A guard that tells, for the price of one load, whether this process is still the one that
    /// asked for it.
    ///
    /// # Errors
    /// What the kernel says.
    fn fork_guard(&self) -> io::Result<ForkGuard>;
}

/// An open shared file. Closing it releases its byte locks.
pub trait SharedFile: Debug + Send + Sync {
    /// Maps the first `bytes`, shared and writable.
    ///
    /// # Errors
    /// What the kernel says.
    fn map(&self, bytes: usize) -> io::Result<Arc<SharedMap>>;

    /// Whether a name leads to this open file.
    fn is_at(&self, path: &Path) -> bool;

    /// Tries to lock one byte for this open file. The lock goes when the file is closed, at the
    /// latest when the last process that has it dies. `false`: somebody else holds it.
    ///
    /// # Errors
    /// What the kernel says.
    fn try_lock_byte(&self, byte: u16) -> io::Result<bool>;

    /// Releases a byte locked by [`try_lock_byte`](Self::try_lock_byte).
    ///
    /// # Errors
    /// What the kernel says.
    fn unlock_byte(&self, byte: u16) -> io::Result<()>;

    /// Whether another open file holds the byte.
    ///
    /// # Errors
    /// What the kernel says: then nobody knows.
    fn is_byte_locked(&self, byte: u16) -> io::Result<bool>;
}

/// The operating system.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsHost;

impl OsHost {
    /// The operating system, shared.
    #[must_use]
    pub fn shared() -> Arc<dyn Host> {
        Arc::new(Self)
    }
}

impl Host for OsHost {
    fn open_trusted(&self, path: &Path, bytes: u64) -> Result<Box<dyn SharedFile>, RingError> {
        Ok(Box::new(files::open_trusted(path, bytes)?))
    }

    fn create_sized(
        &self,
        path: &Path,
        bytes: u64,
        mode: u32,
    ) -> Result<Box<dyn SharedFile>, RingError> {
        Ok(Box::new(files::create_sized(path, bytes, mode)?))
    }

    fn link_new(&self, temporary: &Path, path: &Path) -> Result<bool, RingError> {
        files::link_new(temporary, path)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) {
        files::remove(path);
    }

    fn is_gone(&self, path: &Path) -> bool {
        files::is_gone(path)
    }

    fn random_u64(&self) -> u64 {
        elgate_io::ids::random_u64()
    }

    fn identity(&self) -> ProcessIdentity {
        ProcessIdentity::current()
    }

    fn process_id(&self) -> u32 {
        std::process::id()
    }

    fn is_gone_process(&self, who: &ProcessIdentity, observer: &ProcessIdentity) -> bool {
        who.is_gone(observer)
    }

    fn fork_guard(&self) -> io::Result<ForkGuard> {
        ForkGuard::new()
    }
}
