//! Opening, creating and naming shared files without trusting what is already there.

use crate::error::RingError;
use crate::host::Host;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

/// Permission bits of everything shared: one user.
pub(crate) const PRIVATE: u32 = 0o600;

/// Opens a regular file that belongs to us (or to root), that nobody else may open, and that has
/// exactly the expected size. Links are not followed.
pub(crate) fn open_trusted(path: &Path, bytes: u64) -> Result<File, RingError> {
    let opened = OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path);
    let file = match opened {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            return Err(RingError::Missing { path: path.to_owned() });
        }
        Err(error) if error.raw_os_error() == Some(libc::ELOOP) => {
            return Err(untrusted(path, "it is a symbolic link".to_owned()));
        }
        Err(source) => return Err(failed("open", path, source)),
    };
    let found = file.metadata().map_err(|source| failed("examine", path, source))?;
    // SAFETY: takes nothing, cannot fail.
    let me = unsafe { libc::geteuid() };
    if !found.is_file() {
        return Err(untrusted(path, "it is not a regular file".to_owned()));
    }
    if found.uid() != me && found.uid() != 0 {
        return Err(untrusted(path, format!("it belongs to user {}, not to {me}", found.uid())));
    }
    if found.mode() & 0o777 & !PRIVATE != 0 {
        let mode = found.mode() & 0o777;
        return Err(untrusted(path, format!("mode {mode:#o} lets others in, not {PRIVATE:#o}")));
    }
    if found.len() != bytes {
        let what = format!("it has {} bytes, not {bytes}", found.len());
        return Err(RingError::Incompatible { path: path.to_owned(), what });
    }
    Ok(file)
}

/// Creates a file of that size, its space reserved, so that writing through a mapping cannot run
/// out of memory later. Fails if the name exists.
pub(crate) fn create_sized(path: &Path, bytes: u64, mode: u32) -> Result<File, RingError> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(mode)
        .custom_flags(libc::O_CLOEXEC | libc::O_NOFOLLOW)
        .open(path)
        .map_err(|source| failed("create", path, source))?;
    let prepared = reserve(&file, bytes).and_then(|()| {
        // The process's umask does not decide who may attach.
        file.set_permissions(std::os::unix::fs::PermissionsExt::from_mode(mode))
    });
    prepared.map_err(|source| {
        remove(path);
        failed("reserve space for", path, source)
    })?;
    Ok(file)
}

fn reserve(file: &File, bytes: u64) -> io::Result<()> {
    let length = libc::off_t::try_from(bytes).map_err(io::Error::other)?;
    loop {
        // SAFETY: an open descriptor and plain numbers.
        match unsafe { libc::posix_fallocate(file.as_raw_fd(), 0, length) } {
            0 => return Ok(()),
            libc::EINTR => {}
            error => return Err(io::Error::from_raw_os_error(error)),
        }
    }
}

/// Gives a finished file its name, unless that name is taken. `false`: it is.
pub(crate) fn link_new(temporary: &Path, path: &Path) -> Result<bool, RingError> {
    let linked = std::fs::hard_link(temporary, path);
    remove(temporary);
    match linked {
        Ok(()) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(source) => Err(failed("create", path, source)),
    }
}

/// Removes a file that nobody needs; it does not matter if it is already gone, and nothing depends
/// on success.
pub(crate) fn remove(path: &Path) {
    let _ = std::fs::remove_file(path);
}

/// Whether a name leads nowhere. Doubt means no.
pub(crate) fn is_gone(path: &Path) -> bool {
    matches!(std::fs::symlink_metadata(path), Err(error) if error.kind() == io::ErrorKind::NotFound)
}

/// A name for a file in the making, next to its final one.
pub(crate) fn temporary(host: &dyn Host, path: &Path) -> PathBuf {
    with_suffix(path, &format!(".new.{:016x}", host.random_u64()))
}

/// `<path><suffix>`.
pub(crate) fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    PathBuf::from(name)
}

pub(crate) fn failed(action: &'static str, path: &Path, source: io::Error) -> RingError {
    RingError::Io { action, path: path.to_owned(), source }
}

fn untrusted(path: &Path, what: String) -> RingError {
    RingError::Untrusted { path: path.to_owned(), what }
}
