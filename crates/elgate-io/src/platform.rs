//! The platform: blocking calls for the control path.

use crate::{File, FileIdentity, Listener};
use elgate_types::{Monotonic, WallTime};
use std::fmt::Debug;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;

/// How to open a file. Everything off by default; descriptors are always close-on-exec.
#[derive(Debug, Clone, Copy, Default)]
pub struct OpenOptions {
    /// Allow reading.
    pub read: bool,
    /// Allow writing.
    pub write: bool,
    /// Create the file if it is missing.
    pub create: bool,
    /// Create the file, and fail if it exists.
    pub create_new: bool,
    /// Bypass the page cache (`O_DIRECT`). Fails with `EINVAL` where the file system cannot.
    pub direct: bool,
    /// Every write goes to the end of the file, whatever offset it names (`O_APPEND`).
    pub append: bool,
    /// Permission bits of a created file; 0 means 0600.
    pub mode: u32,
}

/// One entry of a directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DirectoryEntry {
    /// Its name, without the directory. Names that are not UTF-8 are left out of listings.
    pub name: String,
    /// Size in bytes.
    pub bytes: u64,
    /// Whether it is itself a directory.
    pub is_directory: bool,
    /// Whether it is an ordinary file, or a symbolic link that leads to one: what may be opened
    /// without waiting for anybody.
    pub is_file: bool,
}

/// Files, names and clocks, blocking. Implemented by the operating system and by the simulator.
///
/// Errors are the operating system's, with its error number kept; callers add path and intent.
pub trait Platform: Send + Sync + Debug {
    /// Opens a file.
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<File>;

    /// Opens `relative` below the directory `root`, creating missing directories between them,
    /// and refusing every way out of it: `..`, absolute paths, symbolic links, magic links
    /// (`openat2` with `RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS`). Only
    /// regular files are opened.
    fn open_beneath(&self, root: &Path, relative: &Path, options: OpenOptions) -> io::Result<File>;

    /// Creates a directory (mode 0700) and those above it; fine if it exists.
    fn create_directories(&self, path: &Path) -> io::Result<()>;

    /// Makes the names in a directory durable.
    fn sync_directory(&self, path: &Path) -> io::Result<()>;

    /// The entries of a directory, in no particular order.
    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>>;

    /// Renames a file, replacing what has the new name.
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()>;

    /// Removes a file.
    fn remove(&self, path: &Path) -> io::Result<()>;

    /// Reads into `bytes`, fully unless the file ends; returns how many were read.
    fn read_at(&self, file: &File, offset: u64, bytes: &mut [u8]) -> io::Result<usize>;

    /// Writes all of `bytes`. With `durable`, returns after they are on stable storage.
    fn write_at(&self, file: &File, offset: u64, bytes: &[u8], durable: bool) -> io::Result<()>;

    /// Brings the file's data, and what is needed to read it back, to stable storage.
    fn sync(&self, file: &File) -> io::Result<()>;

    /// The file's size in bytes.
    fn size(&self, file: &File) -> io::Result<u64>;

    /// Cuts or extends (with zeros) the file.
    fn set_size(&self, file: &File, bytes: u64) -> io::Result<()>;

    /// Which file this is, whatever its name.
    fn identity(&self, file: &File) -> io::Result<FileIdentity>;

    /// Writes zeros over a range, for real (not by punching or by unwritten extents), and drops
    /// them from the page cache once they are stable, so that later direct writes find mapped,
    /// clean blocks.
    fn zero_fill(&self, file: &File, offset: u64, bytes: u64) -> io::Result<()>;

    /// Gives the file blocks for its first `bytes` and makes it that long, without writing them:
    /// what was not written reads as zeros, and the first write to a place costs more than later
    /// ones. Not durable before a [`sync`](Self::sync). Fails with `EOPNOTSUPP` where the file
    /// system cannot.
    fn allocate(&self, file: &File, bytes: u64) -> io::Result<()>;

    /// Takes an exclusive advisory lock that the kernel releases when the file is closed or the
    /// process dies. `false`: somebody else has it.
    fn try_lock(&self, file: &File) -> io::Result<bool>;

    /// Maps the first `bytes` of the file, shared and writable.
    fn map(&self, file: &File, bytes: usize) -> io::Result<Arc<crate::SharedMap>>;

    /// Bytes an unprivileged process may still write on the file system of `path`.
    fn available_bytes(&self, path: &Path) -> io::Result<u64>;

    /// The addresses of a host name.
    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>>;

    /// Listens for stream connections.
    fn listen(&self, address: SocketAddr) -> io::Result<(Listener, SocketAddr)>;

    /// The monotonic clock; the same one as the driver's.
    fn now(&self) -> Monotonic;

    /// The wall clock.
    fn wall_time(&self) -> WallTime;

    /// Names the running of the operating system: changes when it starts anew, so that what was
    /// written under another one and not synced may be missing or garbled. 0 if it cannot be told.
    fn boot_id(&self) -> u64;

    /// 64 random bits for an identifier or a salt: the kernel's, or seeded in the simulator.
    fn random_u64(&self) -> u64;
}
