//! Thin, checked wrappers around the system calls that more than one file here uses.

use std::io;
use std::mem;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Linux caps one read or write at this many bytes (`MAX_RW_COUNT`).
pub(crate) const TRANSFER_BYTES_MAX: usize = 0x7fff_f000;

/// The calling thread's `errno`.
pub(crate) fn last_errno() -> i32 {
    io::Error::last_os_error().raw_os_error().unwrap_or(0)
}

/// An error with this number.
pub(crate) fn error(errno: i32) -> io::Error {
    io::Error::from_raw_os_error(errno)
}

/// Turns the -1 of a system call into its error.
pub(crate) fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// As [`check`], for calls that return a count.
pub(crate) fn check_count(result: isize) -> io::Result<usize> {
    usize::try_from(result).map_err(|_| io::Error::last_os_error())
}

/// Repeats a call while a signal interrupts it.
pub(crate) fn uninterrupted<T>(mut call: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => return result,
        }
    }
}

/// `duration` as the kernel wants it; capped at about a century.
pub(crate) fn timespec(duration: Duration) -> libc::timespec {
    let seconds = duration.as_secs().min(3_000_000_000);
    libc::timespec {
        tv_sec: i64::try_from(seconds).unwrap_or(i64::MAX),
        tv_nsec: i64::from(duration.subsec_nanos()),
    }
}

/// Takes ownership of a descriptor that a system call has just returned.
pub(crate) fn own(descriptor: libc::c_int) -> OwnedFd {
    // SAFETY: the caller got it from the kernel this moment, so nobody else owns it.
    unsafe { OwnedFd::from_raw_fd(descriptor) }
}

/// Sets or clears `O_NONBLOCK`.
pub(crate) fn set_nonblocking(descriptor: RawFd, on: bool) -> io::Result<()> {
    // SAFETY: F_GETFL and F_SETFL take and return plain integers.
    let flags = check(unsafe { libc::fcntl(descriptor, libc::F_GETFL) })?;
    let wanted = if on { flags | libc::O_NONBLOCK } else { flags & !libc::O_NONBLOCK };
    if wanted != flags {
        // SAFETY: as above.
        check(unsafe { libc::fcntl(descriptor, libc::F_SETFL, wanted) })?;
    }
    Ok(())
}

/// Sends small segments at once: batching is done above, where it is known what belongs together.
pub(crate) fn set_no_delay(descriptor: RawFd) {
    let on: libc::c_int = 1;
    // SAFETY: the option value is a live c_int of the given size. Failure only costs latency.
    unsafe {
        libc::setsockopt(
            descriptor,
            libc::IPPROTO_TCP,
            libc::TCP_NODELAY,
            (&raw const on).cast(),
            socklen::<libc::c_int>(),
        );
    }
}

/// A new stream socket fit for `address`, close-on-exec. `flags`: 0 or `SOCK_NONBLOCK`.
pub(crate) fn stream_socket(address: &SocketAddr, flags: libc::c_int) -> io::Result<OwnedFd> {
    let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
    let kind = libc::SOCK_STREAM | libc::SOCK_CLOEXEC | flags;
    // SAFETY: takes and returns plain integers.
    let socket = own(check(unsafe { libc::socket(family, kind, 0) })?);
    set_no_delay(socket.as_raw_fd());
    Ok(socket)
}

fn socklen<T>() -> libc::socklen_t {
    libc::socklen_t::try_from(mem::size_of::<T>()).expect("a socket structure is small")
}

/// A socket address in the kernel's form, at an address that does not change.
pub(crate) struct RawAddress {
    pub(crate) storage: libc::sockaddr_storage,
    pub(crate) length: libc::socklen_t,
}

impl RawAddress {
    /// Room for the kernel to write any address into.
    pub(crate) fn empty() -> Box<Self> {
        // SAFETY: all-zero bytes are a valid sockaddr_storage.
        let storage = unsafe { mem::zeroed() };
        Box::new(Self { storage, length: socklen::<libc::sockaddr_storage>() })
    }

    pub(crate) fn of(address: &SocketAddr) -> Box<Self> {
        let mut raw = Self::empty();
        let base = (&raw mut raw.storage).cast::<u8>();
        match address {
            SocketAddr::V4(v4) => {
                let value = libc::sockaddr_in {
                    sin_family: libc::sa_family_t::try_from(libc::AF_INET).unwrap_or(0),
                    sin_port: v4.port().to_be(),
                    sin_addr: libc::in_addr { s_addr: u32::from_ne_bytes(v4.ip().octets()) },
                    sin_zero: [0; 8],
                };
                // SAFETY: sockaddr_storage is larger than, and aligned for, every sockaddr.
                unsafe { base.cast::<libc::sockaddr_in>().write(value) };
                raw.length = socklen::<libc::sockaddr_in>();
            }
            SocketAddr::V6(v6) => {
                let value = libc::sockaddr_in6 {
                    sin6_family: libc::sa_family_t::try_from(libc::AF_INET6).unwrap_or(0),
                    sin6_port: v6.port().to_be(),
                    sin6_flowinfo: v6.flowinfo(),
                    sin6_addr: libc::in6_addr { s6_addr: v6.ip().octets() },
                    sin6_scope_id: v6.scope_id(),
                };
                // SAFETY: as above.
                unsafe { base.cast::<libc::sockaddr_in6>().write(value) };
                raw.length = socklen::<libc::sockaddr_in6>();
            }
        }
        raw
    }

    /// Back to the portable form; the unspecified address if it is neither IPv4 nor IPv6.
    pub(crate) fn address(&self) -> SocketAddr {
        let base = &raw const self.storage;
        match i32::from(self.storage.ss_family) {
            libc::AF_INET => {
                // SAFETY: the family says which sockaddr this is; sockaddr_storage is aligned
                // for and larger than it.
                let value = unsafe { base.cast::<libc::sockaddr_in>().read() };
                let ip = Ipv4Addr::from(value.sin_addr.s_addr.to_ne_bytes());
                SocketAddrV4::new(ip, u16::from_be(value.sin_port)).into()
            }
            libc::AF_INET6 => {
                // SAFETY: as above.
                let value = unsafe { base.cast::<libc::sockaddr_in6>().read() };
                let ip = Ipv6Addr::from(value.sin6_addr.s6_addr);
                let port = u16::from_be(value.sin6_port);
                SocketAddrV6::new(ip, port, value.sin6_flowinfo, value.sin6_scope_id).into()
            }
            _ => SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0).into(),
        }
    }
}

/// One `pread` into all of `bytes`.
pub(crate) fn read_at(file: BorrowedFd<'_>, offset: u64, bytes: &mut [u8]) -> io::Result<usize> {
    let length = bytes.len().min(TRANSFER_BYTES_MAX);
    let offset = file_offset(offset)?;
    uninterrupted(|| {
        // SAFETY: `bytes` is writable for `length`.
        check_count(unsafe {
            libc::pread(file.as_raw_fd(), bytes.as_mut_ptr().cast(), length, offset)
        })
    })
}

/// One `pwrite` of `bytes`, as far as it goes. With `durable` the bytes written are on stable
/// storage when it returns.
pub(crate) fn write_at(
    file: BorrowedFd<'_>,
    offset: u64,
    bytes: &[u8],
    durable: bool,
) -> io::Result<usize> {
    let length = bytes.len().min(TRANSFER_BYTES_MAX);
    let position = file_offset(offset)?;
    if durable {
        let vector = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: length };
        let written = uninterrupted(|| {
            // SAFETY: one vector over readable bytes; the kernel does not write through it.
            check_count(unsafe {
                let fd = file.as_raw_fd();
                libc::pwritev2(fd, &raw const vector, 1, position, libc::RWF_DSYNC)
            })
        });
        match written {
            // Refused by an old kernel, a sandbox or the file system: write, then sync.
            Err(error)
                if matches!(
                    error.raw_os_error(),
                    Some(libc::ENOSYS | libc::EPERM | libc::EOPNOTSUPP)
                ) => {}
            result => return result,
        }
    }
    let written = uninterrupted(|| {
        // SAFETY: `bytes` is readable for `length`.
        check_count(unsafe {
            libc::pwrite(file.as_raw_fd(), bytes.as_ptr().cast(), length, position)
        })
    })?;
    if durable {
        sync_data(file)?;
    }
    Ok(written)
}

/// `fdatasync`. Not repeated after an error: a second one would report a success that is none.
pub(crate) fn sync_data(file: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: takes a plain descriptor.
    check(unsafe { libc::fdatasync(file.as_raw_fd()) }).map(drop)
}

/// The offset as the kernel wants it.
pub(crate) fn file_offset(offset: u64) -> io::Result<libc::off_t> {
    libc::off_t::try_from(offset).map_err(|_| error(libc::EINVAL))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_survive_the_kernels_form() {
        for text in ["127.0.0.1:80", "[::1]:8080", "[fe80::1%3]:9", "255.1.2.3:65535"] {
            let address: SocketAddr = text.parse().expect("an address");
            assert_eq!(RawAddress::of(&address).address(), address);
        }
    }
}
