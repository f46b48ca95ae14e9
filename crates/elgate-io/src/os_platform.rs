//! [`OsPlatform`]: the operating system behind the [`Platform`] interface.

mod confine;

use crate::handle::Descriptor;
use crate::sys::{self, check, error, uninterrupted};
use crate::{
    Buffer, DirectoryEntry, File, FileIdentity, Listener, OpenOptions, Platform, SharedMap,
};
use elgate_types::limits::BLOCK_BYTES;
use elgate_types::{Monotonic, WallTime};
use std::ffi::CString;
use std::io;
use std::net::{SocketAddr, TcpListener, ToSocketAddrs};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::sync::Arc;

/// Zeros, and what passes through an aligned copy, are written in pieces of this size.
const CHUNK_BYTES: usize = 1024 * 1024;

/// The operating system. Stateless: every instance is the same one.
#[derive(Debug, Clone, Copy, Default)]
pub struct OsPlatform;

impl OsPlatform {
    /// The operating system.
    #[must_use]
    pub fn new() -> Self {
        Self
    }
}

impl Platform for OsPlatform {
    fn open(&self, path: &Path, options: OpenOptions) -> io::Result<File> {
        let fd: OwnedFd = std::fs::OpenOptions::new()
            .read(options.read)
            .write(options.write)
            .create(options.create)
            .create_new(options.create_new)
            .mode(creation_mode(options))
            // The standard library adds O_CLOEXEC.
            .custom_flags(
                (if options.direct { libc::O_DIRECT } else { 0 })
                    | (if options.append { libc::O_APPEND } else { 0 }),
            )
            .open(path)?
            .into();
        Ok(file(fd, options))
    }

    fn open_beneath(&self, root: &Path, relative: &Path, options: OpenOptions) -> io::Result<File> {
        confine::open_beneath(root, relative, options).map(|fd| file(fd, options))
    }

    /// The new names are durable when this returns.
    fn create_directories(&self, path: &Path) -> io::Result<()> {
        match self.create_directory(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                let above = path.parent().filter(|above| !above.as_os_str().is_empty());
                self.create_directories(above.ok_or(error)?)?;
                // Once: some file systems (procfs) say NotFound for what cannot be made at all.
                self.create_directory(path)
            }
            result => result,
        }
    }

    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        let directory =
            std::fs::OpenOptions::new().read(true).custom_flags(libc::O_DIRECTORY).open(path)?;
        directory.sync_all()
    }

    fn list(&self, path: &Path) -> io::Result<Vec<DirectoryEntry>> {
        let mut entries = Vec::new();
        for entry in std::fs::read_dir(path)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            match entry.metadata() {
                Ok(own) => {
                    // Of a link, what counts is where it leads; one that leads nowhere is no file.
                    let target = own.is_symlink().then(|| std::fs::metadata(entry.path()).ok());
                    let target = target.flatten().filter(std::fs::Metadata::is_file);
                    entries.push(DirectoryEntry {
                        name,
                        bytes: target.as_ref().unwrap_or(&own).len(),
                        is_directory: own.is_dir(),
                        is_file: own.is_file() || target.is_some(),
                    });
                }
                // Removed since the directory was read.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(entries)
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        std::fs::rename(from, to)
    }

    fn remove(&self, path: &Path) -> io::Result<()> {
        std::fs::remove_file(path)
    }

    fn read_at(&self, file: &File, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
        let fd = file.0.os()?;
        if !file.0.is_direct() {
            return fill(bytes, 1, |filled, rest| sys::read_at(fd, offset + filled, rest));
        }
        file.check_alignment(offset, bytes.len())?;
        // The caller's memory need not be aligned; this is.
        let mut aligned = Buffer::with_capacity(bytes.len().clamp(1, CHUNK_BYTES));
        fill(bytes, BLOCK_BYTES, |filled, rest| {
            aligned.set_length(rest.len().min(aligned.capacity()));
            let count = sys::read_at(fd, offset + filled, &mut aligned)?;
            rest[..count].copy_from_slice(&aligned[..count]);
            Ok(count)
        })
    }

    fn write_at(&self, file: &File, offset: u64, bytes: &[u8], durable: bool) -> io::Result<()> {
        let fd = file.0.os()?;
        file.check_alignment(offset, bytes.len())?;
        // What lies in aligned memory needs no copy.
        let must_copy = file.0.is_direct() && !bytes.as_ptr().addr().is_multiple_of(BLOCK_BYTES);
        let mut aligned =
            must_copy.then(|| Buffer::with_capacity(bytes.len().clamp(1, CHUNK_BYTES)));
        let mut written = 0;
        while written < bytes.len() {
            let mut rest = &bytes[written..];
            if let Some(aligned) = &mut aligned {
                aligned.clear();
                aligned.extend(&rest[..rest.len().min(aligned.capacity())]);
                rest = aligned;
            }
            match sys::write_at(fd, offset + written as u64, rest, durable)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => written += count,
            }
        }
        Ok(())
    }

    fn sync(&self, file: &File) -> io::Result<()> {
        sys::sync_data(file.0.os()?)
    }

    fn size(&self, file: &File) -> io::Result<u64> {
        Ok(status(file)?.st_size.try_into().unwrap_or(0))
    }

    fn set_size(&self, file: &File, bytes: u64) -> io::Result<()> {
        let fd = file.0.os()?.as_raw_fd();
        let bytes = sys::file_offset(bytes)?;
        // SAFETY: takes plain integers.
        uninterrupted(|| check(unsafe { libc::ftruncate(fd, bytes) })).map(drop)
    }

    fn identity(&self, file: &File) -> io::Result<FileIdentity> {
        let status = status(file)?;
        Ok(FileIdentity { device: status.st_dev, inode: status.st_ino })
    }

    fn zero_fill(&self, file: &File, offset: u64, bytes: u64) -> io::Result<()> {
        let fd = file.0.os()?;
        let (start, length) = (sys::file_offset(offset)?, sys::file_offset(bytes)?);
        if length == 0 {
            return Ok(());
        }
        // Asks for one long extent. Only a wish: the zeros below do the work, so a file system
        // that cannot is fine, and one that is full will say so again.
        // SAFETY: takes plain integers.
        unsafe { libc::fallocate(fd.as_raw_fd(), 0, start, length) };

        let mut zeros = Buffer::with_capacity(CHUNK_BYTES);
        zeros.extend_zeros(CHUNK_BYTES);
        let mut done = 0;
        while done < bytes {
            let piece = (bytes - done).min(CHUNK_BYTES as u64);
            let piece = &zeros[..usize::try_from(piece).unwrap_or(CHUNK_BYTES)];
            self.write_at(file, offset + done, piece, false)?;
            done += piece.len() as u64;
        }
        self.sync(file)?;
        // SAFETY: takes plain integers. Failure only costs later direct writes some speed.
        unsafe {
            libc::posix_fadvise(fd.as_raw_fd(), start, length, libc::POSIX_FADV_DONTNEED);
        }
        Ok(())
    }

    fn allocate(&self, file: &File, bytes: u64) -> io::Result<()> {
        let fd = file.0.os()?.as_raw_fd();
        let bytes = sys::file_offset(bytes)?;
        // SAFETY: takes plain integers.
        uninterrupted(|| check(unsafe { libc::fallocate(fd, 0, 0, bytes) })).map(drop)
    }

    fn try_lock(&self, file: &File) -> io::Result<bool> {
        let fd = file.0.os()?.as_raw_fd();
        // `flock` belongs to the open file description: closing it or dying releases it, closing
        // some other descriptor of the same file does not.
        // SAFETY: takes plain integers.
        match uninterrupted(|| check(unsafe { libc::flock(fd, libc::LOCK_EX | libc::LOCK_NB) })) {
            Ok(_) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Fails with `EINVAL` if the file is shorter: touching a page beyond its end would kill the
    /// process.
    fn map(&self, file: &File, bytes: usize) -> io::Result<Arc<SharedMap>> {
        if bytes == 0 || self.size(file)? < bytes as u64 {
            return Err(error(libc::EINVAL));
        }
        let fd = file.0.os()?.as_raw_fd();
        let mapping = memmap2::MmapOptions::new().len(bytes).map_raw(fd)?;
        Ok(Arc::new(SharedMap::from_mapping(mapping)))
    }

    fn available_bytes(&self, path: &Path) -> io::Result<u64> {
        let path = c_path(path)?;
        // SAFETY: all-zero bytes are a valid statvfs.
        let mut room: libc::statvfs = unsafe { std::mem::zeroed() };
        // SAFETY: a NUL-terminated path and a writable statvfs.
        uninterrupted(|| check(unsafe { libc::statvfs(path.as_ptr(), &raw mut room) }))?;
        Ok(room.f_bavail.saturating_mul(room.f_frsize))
    }

    fn resolve(&self, host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok((host, port).to_socket_addrs()?.collect())
    }

    fn listen(&self, address: SocketAddr) -> io::Result<(Listener, SocketAddr)> {
        let listener = TcpListener::bind(address)?;
        let bound = listener.local_addr()?;
        Ok((OwnedFd::from(listener).into(), bound))
    }

    fn now(&self) -> Monotonic {
        crate::clock::monotonic()
    }

    fn wall_time(&self) -> WallTime {
        crate::clock::wall()
    }

    fn boot_id(&self) -> u64 {
        // A UUID as text; its hyphens carry nothing, and half of its bits are plenty.
        let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
        let digits: String = text.chars().filter(char::is_ascii_hexdigit).take(16).collect();
        u64::from_str_radix(&digits, 16).unwrap_or(0)
    }

    fn random_u64(&self) -> u64 {
        crate::ids::random_u64()
    }
}

impl OsPlatform {
    /// Makes one directory and its name durable; fine if it exists.
    fn create_directory(&self, path: &Path) -> io::Result<()> {
        match std::fs::DirBuilder::new().mode(0o700).create(path) {
            Ok(()) => self.sync_directory(parent(path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                match std::fs::metadata(path)?.is_dir() {
                    true => Ok(()),
                    false => Err(sys::error(libc::ENOTDIR)),
                }
            }
            Err(error) => Err(error),
        }
    }
}

/// Reads until `bytes` is full or the file ends. Where only whole steps can be read, a broken one
/// is the end.
fn fill(
    bytes: &mut [u8],
    step: usize,
    mut read: impl FnMut(u64, &mut [u8]) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut filled = 0;
    while filled < bytes.len() {
        let count = read(filled as u64, &mut bytes[filled..])?;
        filled += count;
        if count == 0 || !filled.is_multiple_of(step) {
            break;
        }
    }
    Ok(filled)
}

fn file(fd: OwnedFd, options: OpenOptions) -> File {
    File(Arc::new(Descriptor::of(fd, options.direct)))
}

fn creation_mode(options: OpenOptions) -> u32 {
    if options.mode == 0 { 0o600 } else { options.mode }
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        Some(_) => Path::new("."),
        None => path,
    }
}

fn status(file: &File) -> io::Result<libc::stat> {
    fd_status(file.0.os()?.as_raw_fd())
}

fn fd_status(fd: std::os::fd::RawFd) -> io::Result<libc::stat> {
    // SAFETY: all-zero bytes are a valid stat.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: a writable stat.
    check(unsafe { libc::fstat(fd, &raw mut status) })?;
    Ok(status)
}

fn c_path(path: &Path) -> io::Result<CString> {
    CString::new(path.as_os_str().as_bytes()).map_err(|_| error(libc::EINVAL))
}
