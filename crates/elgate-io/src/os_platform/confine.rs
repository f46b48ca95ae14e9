//! Opening a file below a root directory, whoever controls the names in between.
//!
//! In: a trusted root, an untrusted relative path. Out: a descriptor of a regular file that lies
//! below the root, reached through no link. Every step goes from an open directory to one name in
//! it, so nobody can swap a component under us; `openat2` enforces it in the kernel, and where that
//! is missing or forbidden, `O_NOFOLLOW` on each single component says the same.

use super::{c_path, creation_mode, fd_status};
use crate::OpenOptions;
use crate::sys::{self, check, error, uninterrupted};
use std::ffi::{CStr, CString};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Component, Path};
use std::sync::atomic::{AtomicBool, Ordering};

/// `openat2` reports `EAGAIN` when a rename raced with it; so often we try again.
const RACE_RETRIES_MAX: u32 = 16;

/// Set once `openat2` turned out to be missing. A cache of a fact that does not change while we
/// run, so relaxed accesses suffice.
static OPENAT2_UNAVAILABLE: AtomicBool = AtomicBool::new(false);

pub(super) fn open_beneath(
    root: &Path,
    relative: &Path,
    options: OpenOptions,
) -> io::Result<OwnedFd> {
    let names = components(relative)?;
    let (leaf, directories) = names.split_last().ok_or_else(|| error(libc::EINVAL))?;
    let root = c_path(root)?;
    let flags = libc::O_DIRECTORY | libc::O_CLOEXEC | libc::O_RDONLY;
    // SAFETY: a NUL-terminated path.
    let root = uninterrupted(|| check(unsafe { libc::open(root.as_ptr(), flags) }))?;
    let mut directory = sys::own(root);

    for name in directories {
        directory = match enter(directory.as_raw_fd(), name) {
            Err(error)
                if error.raw_os_error() == Some(libc::ENOENT)
                    && (options.create || options.create_new) =>
            {
                create_directory(directory.as_raw_fd(), name)?;
                enter(directory.as_raw_fd(), name)?
            }
            entered => entered?,
        };
    }
    open_leaf(directory.as_raw_fd(), leaf, options)
}

/// The names on the way, refusing what could lead out (`EXDEV`, as `openat2` says).
fn components(relative: &Path) -> io::Result<Vec<CString>> {
    let mut names = Vec::new();
    for component in relative.components() {
        match component {
            Component::Normal(name) => {
                names.push(CString::new(name.as_bytes()).map_err(|_| error(libc::EINVAL))?);
            }
            Component::CurDir => {}
            _ => return Err(error(libc::EXDEV)),
        }
    }
    if relative.as_os_str().as_bytes().ends_with(b"/") {
        return Err(error(libc::EISDIR));
    }
    Ok(names)
}

fn enter(directory: RawFd, name: &CStr) -> io::Result<OwnedFd> {
    let flags = libc::O_DIRECTORY | libc::O_RDONLY;
    open_at(directory, name, flags, 0).map_err(|failure| {
        // O_DIRECTORY | O_NOFOLLOW on a link says ENOTDIR; say what it is.
        if failure.raw_os_error() == Some(libc::ENOTDIR) && is_link(directory, name) {
            error(libc::ELOOP)
        } else {
            failure
        }
    })
}

fn create_directory(directory: RawFd, name: &CStr) -> io::Result<()> {
    // SAFETY: a NUL-terminated name.
    match check(unsafe { libc::mkdirat(directory, name.as_ptr(), 0o700) }) {
        // SAFETY: takes a plain descriptor. The new name is durable before anything is in it.
        Ok(_) => check(unsafe { libc::fsync(directory) }).map(drop),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        Err(error) => Err(error),
    }
}

fn open_leaf(directory: RawFd, name: &CStr, options: OpenOptions) -> io::Result<OwnedFd> {
    let mut flags = match (options.read, options.write) {
        (true, true) => libc::O_RDWR,
        (false, true) => libc::O_WRONLY,
        (true, false) => libc::O_RDONLY,
        (false, false) => return Err(error(libc::EINVAL)),
    };
    if options.create || options.create_new {
        flags |= libc::O_CREAT;
    }
    if options.create_new {
        flags |= libc::O_EXCL;
    }
    if options.append {
        flags |= libc::O_APPEND;
    }
    if options.direct {
        flags |= libc::O_DIRECT;
    }
    // A pipe or terminal in place of the file must neither block us nor become our terminal.
    flags |= libc::O_NONBLOCK | libc::O_NOCTTY;
    let file = open_at(directory, name, flags, creation_mode(options))?;
    match fd_status(file.as_raw_fd())?.st_mode & libc::S_IFMT {
        libc::S_IFREG => {}
        libc::S_IFDIR => return Err(error(libc::EISDIR)),
        _ => return Err(error(libc::EINVAL)),
    }
    // io_uring takes O_NONBLOCK on a regular file as "fail rather than wait".
    sys::set_nonblocking(file.as_raw_fd(), false)?;
    Ok(file)
}

/// Opens one name of a directory without following links.
fn open_at(directory: RawFd, name: &CStr, flags: i32, mode: u32) -> io::Result<OwnedFd> {
    let mode = if flags & libc::O_CREAT == 0 { 0 } else { mode };
    if !OPENAT2_UNAVAILABLE.load(Ordering::Relaxed) {
        match open_at2(directory, name, flags, mode) {
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {
                OPENAT2_UNAVAILABLE.store(true, Ordering::Relaxed);
            }
            // A sandbox that forbids the call, or this very file: the plain call tells.
            Err(error) if error.raw_os_error() == Some(libc::EPERM) => {}
            result => return result,
        }
    }
    let flags = flags | libc::O_CLOEXEC | libc::O_NOFOLLOW;
    let fd = uninterrupted(|| {
        // SAFETY: a NUL-terminated name.
        check(unsafe { libc::openat(directory, name.as_ptr(), flags, libc::c_uint::from(mode)) })
    })?;
    Ok(sys::own(fd))
}

fn open_at2(directory: RawFd, name: &CStr, flags: i32, mode: u32) -> io::Result<OwnedFd> {
    // SAFETY: all-zero bytes are a valid open_how.
    let mut how: libc::open_how = unsafe { std::mem::zeroed() };
    how.flags = u64::from((flags | libc::O_CLOEXEC | libc::O_NOFOLLOW).cast_unsigned());
    how.mode = u64::from(mode);
    how.resolve = libc::RESOLVE_BENEATH | libc::RESOLVE_NO_SYMLINKS | libc::RESOLVE_NO_MAGICLINKS;
    let mut retries = 0;
    loop {
        // SAFETY: a NUL-terminated name and an open_how of the size given.
        let fd = unsafe {
            libc::syscall(
                libc::SYS_openat2,
                directory,
                name.as_ptr(),
                &raw const how,
                std::mem::size_of::<libc::open_how>(),
            )
        };
        match check(libc::c_int::try_from(fd).unwrap_or(-1)) {
            Ok(fd) => return Ok(sys::own(fd)),
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error)
                if error.kind() == io::ErrorKind::WouldBlock && retries < RACE_RETRIES_MAX =>
            {
                retries += 1;
            }
            Err(error) => return Err(error),
        }
    }
}

fn is_link(directory: RawFd, name: &CStr) -> bool {
    // SAFETY: all-zero bytes are a valid stat.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: a NUL-terminated name and a writable stat.
    let result = unsafe {
        libc::fstatat(directory, name.as_ptr(), &raw mut status, libc::AT_SYMLINK_NOFOLLOW)
    };
    result == 0 && status.st_mode & libc::S_IFMT == libc::S_IFLNK
}
