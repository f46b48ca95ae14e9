//! Socket operations that are tried without blocking, and the epoll set that says when to try
//! again.

use crate::sys::{
    self, RawAddress, check, check_count, error, set_nonblocking, stream_socket, uninterrupted,
};
use crate::{Buffer, Completion, Listener, Op, Outcome, Socket, Token};
use std::collections::HashMap;
use std::io;
use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

/// Events taken from the kernel at once.
const EVENTS_MAX: usize = 256;
/// What epoll reports for the mailbox; no descriptor has this number.
const MAILBOX_DATA: u64 = u64::MAX;

pub(super) enum Attempt {
    Connect { socket: Socket, address: SocketAddr, started: bool },
    Accept { listener: Listener },
    Send { socket: Socket, buffer: Buffer, offset: usize },
    Receive { socket: Socket, buffer: Buffer },
}

impl Attempt {
    fn descriptor(&self) -> io::Result<RawFd> {
        Ok(match self {
            Self::Accept { listener } => listener.0.os()?.as_raw_fd(),
            Self::Connect { socket, .. }
            | Self::Send { socket, .. }
            | Self::Receive { socket, .. } => socket.0.os()?.as_raw_fd(),
        })
    }

    fn waits_to_write(&self) -> bool {
        matches!(self, Self::Connect { .. } | Self::Send { .. })
    }

    fn into_buffer(self) -> Option<Buffer> {
        match self {
            Self::Send { buffer, .. } | Self::Receive { buffer, .. } => Some(buffer),
            Self::Connect { .. } | Self::Accept { .. } => None,
        }
    }

    /// One try. `None`: it would block.
    fn run(&mut self) -> Option<io::Result<Outcome>> {
        let result = match self {
            Self::Connect { socket, address, started } => connect(socket, address, started),
            Self::Accept { listener } => accept(listener),
            Self::Send { socket, buffer, offset } => send(socket, buffer, *offset),
            Self::Receive { socket, buffer } => receive(socket, buffer),
        };
        match result {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => None,
            result => Some(result),
        }
    }
}

fn connect(socket: &Socket, address: &SocketAddr, started: &mut bool) -> io::Result<Outcome> {
    let descriptor = socket.0.os()?.as_raw_fd();
    if *started {
        let mut status: libc::c_int = 0;
        let mut length = libc::socklen_t::try_from(size_of::<libc::c_int>()).unwrap_or(0);
        // SAFETY: a writable c_int and its size.
        check(unsafe {
            libc::getsockopt(
                descriptor,
                libc::SOL_SOCKET,
                libc::SO_ERROR,
                (&raw mut status).cast(),
                &raw mut length,
            )
        })?;
        if status != 0 {
            return Err(error(status));
        }
    } else {
        *started = true;
    }
    let raw = RawAddress::of(address);
    // Asked again after it was under way, connect says whether it has succeeded.
    // SAFETY: an address of the length given.
    match check(unsafe { libc::connect(descriptor, (&raw const raw.storage).cast(), raw.length) }) {
        Err(failure) if failure.raw_os_error() == Some(libc::EISCONN) => {}
        Err(failure)
            if matches!(
                failure.raw_os_error(),
                Some(libc::EINPROGRESS | libc::EALREADY | libc::EINTR)
            ) =>
        {
            return Err(error(libc::EAGAIN));
        }
        Err(failure) => return Err(failure),
        Ok(_) => {}
    }
    Ok(Outcome::Connected(socket.clone()))
}

fn accept(listener: &Listener) -> io::Result<Outcome> {
    let descriptor = listener.0.os()?.as_raw_fd();
    let mut from = RawAddress::empty();
    let socket = uninterrupted(|| {
        // SAFETY: writable room for an address, and its length.
        check(unsafe {
            libc::accept4(
                descriptor,
                (&raw mut from.storage).cast(),
                &raw mut from.length,
                libc::SOCK_CLOEXEC,
            )
        })
    })?;
    let socket = sys::own(socket);
    sys::set_no_delay(socket.as_raw_fd());
    Ok(Outcome::Accepted(socket.into(), from.address()))
}

fn send(socket: &Socket, buffer: &Buffer, offset: usize) -> io::Result<Outcome> {
    let descriptor = socket.0.os()?.as_raw_fd();
    let bytes = buffer.get(offset..).ok_or_else(|| error(libc::EINVAL))?;
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    uninterrupted(|| {
        // SAFETY: `bytes` is readable for its length.
        check_count(unsafe { libc::send(descriptor, bytes.as_ptr().cast(), bytes.len(), flags) })
    })
    .map(Outcome::Bytes)
}

fn receive(socket: &Socket, buffer: &mut Buffer) -> io::Result<Outcome> {
    let descriptor = socket.0.os()?.as_raw_fd();
    buffer.clear();
    let room = buffer.capacity();
    let count = uninterrupted(|| {
        // SAFETY: the buffer is writable for its capacity.
        check_count(unsafe {
            libc::recv(descriptor, buffer.base().cast(), room, libc::MSG_DONTWAIT)
        })
    })?;
    buffer.set_length(count);
    Ok(Outcome::Bytes(count))
}

/// Begins an operation on a socket; any other is refused.
pub(crate) fn submit_socket(
    sockets: &mut Sockets,
    token: Token,
    op: Op,
    completions: &mut Vec<Completion>,
) {
    let attempt = match op {
        Op::Connect { address } => stream_socket(&address, libc::SOCK_NONBLOCK)
            .map(|socket| Attempt::Connect { socket: socket.into(), address, started: false }),
        Op::Accept { listener } => listener
            .0
            .os()
            .and_then(|fd| set_nonblocking(fd.as_raw_fd(), true))
            .map(|()| Attempt::Accept { listener }),
        Op::Send { socket, buffer, offset } => Ok(Attempt::Send { socket, buffer, offset }),
        Op::Receive { socket, buffer } => Ok(Attempt::Receive { socket, buffer }),
        _ => Err(error(libc::EINVAL)),
    };
    match attempt {
        Ok(attempt) => sockets.submit(token, attempt, completions),
        Err(failure) => {
            completions.push(Completion { token, result: Err(failure), buffer: None });
        }
    }
}

/// Those who wait for one descriptor.
#[derive(Default)]
struct Waiting {
    to_read: Vec<(Token, Attempt)>,
    to_write: Vec<(Token, Attempt)>,
}

impl Waiting {
    fn interest(&self) -> u32 {
        let read = if self.to_read.is_empty() { 0 } else { libc::EPOLLIN | libc::EPOLLRDHUP };
        let write = if self.to_write.is_empty() { 0 } else { libc::EPOLLOUT };
        (read | write | libc::EPOLLONESHOT).cast_unsigned()
    }

    fn is_empty(&self) -> bool {
        self.to_read.is_empty() && self.to_write.is_empty()
    }
}

pub(crate) struct Sockets {
    epoll: OwnedFd,
    waiting: HashMap<RawFd, Waiting>,
    events: Vec<libc::epoll_event>,
    /// Whether `epoll_pwait2` (nanosecond timeouts) turned out to be missing or forbidden.
    coarse_timeouts: bool,
}

impl Sockets {
    /// An epoll set that also watches `mailbox_event`.
    pub(crate) fn new(mailbox_event: RawFd) -> io::Result<Self> {
        // SAFETY: takes and returns plain integers.
        let epoll = sys::own(check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?);
        let mut event =
            libc::epoll_event { events: libc::EPOLLIN.cast_unsigned(), u64: MAILBOX_DATA };
        // SAFETY: a readable event.
        check(unsafe {
            libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, mailbox_event, &raw mut event)
        })?;
        let events = vec![libc::epoll_event { events: 0, u64: 0 }; EVENTS_MAX];
        Ok(Self { epoll, waiting: HashMap::new(), events, coarse_timeouts: false })
    }

    /// The epoll set, itself readable when there is something to do.
    #[cfg(feature = "tokio-uring")]
    pub(crate) fn epoll(&self) -> RawFd {
        self.epoll.as_raw_fd()
    }

    /// Whether timeouts are rounded up to milliseconds.
    pub(super) fn has_coarse_timeouts(&self) -> bool {
        self.coarse_timeouts
    }

    pub(super) fn is_idle(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Tries an operation; it ends now or waits in the set.
    pub(super) fn submit(
        &mut self,
        token: Token,
        attempt: Attempt,
        completions: &mut Vec<Completion>,
    ) {
        let descriptor = match attempt.descriptor() {
            Ok(descriptor) => descriptor,
            Err(failure) => {
                let buffer = attempt.into_buffer();
                completions.push(Completion { token, result: Err(failure), buffer });
                return;
            }
        };
        let mut waiting = self.waiting.remove(&descriptor).unwrap_or_default();
        let queue =
            if attempt.waits_to_write() { &mut waiting.to_write } else { &mut waiting.to_read };
        queue.push((token, attempt));
        // Those that came before go first.
        if queue.len() == 1 {
            progress(queue, completions);
        }
        self.keep(descriptor, waiting, completions);
    }

    /// Ends the operations with this token that still wait.
    pub(crate) fn cancel(&mut self, token: Token, completions: &mut Vec<Completion>) {
        self.waiting.retain(|_, waiting| {
            for queue in [&mut waiting.to_read, &mut waiting.to_write] {
                for index in (0..queue.len()).rev() {
                    if queue[index].0 == token {
                        let (token, attempt) = queue.remove(index);
                        let result = Err(error(libc::ECANCELED));
                        let buffer = attempt.into_buffer();
                        completions.push(Completion { token, result, buffer });
                    }
                }
            }
            // One shot: a report for a descriptor nobody waits for any more comes at most once,
            // and finds nobody.
            !waiting.is_empty()
        });
    }

    /// Waits for readiness (`None`: without limit) and tries what became ready. Returns whether
    /// the mailbox's event was among it.
    pub(crate) fn wait(
        &mut self,
        timeout: Option<Duration>,
        completions: &mut Vec<Completion>,
    ) -> io::Result<bool> {
        let count = match self.wait_for_events(timeout) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => 0,
            count => count?,
        };
        let mut mailbox = false;
        for index in 0..count {
            let event = self.events[index];
            let Ok(descriptor) = RawFd::try_from(event.u64) else {
                mailbox = true;
                continue;
            };
            if let Some(mut waiting) = self.waiting.remove(&descriptor) {
                progress(&mut waiting.to_read, completions);
                progress(&mut waiting.to_write, completions);
                self.keep(descriptor, waiting, completions);
            }
        }
        Ok(mailbox)
    }

    fn wait_for_events(&mut self, timeout: Option<Duration>) -> io::Result<usize> {
        let epoll = self.epoll.as_raw_fd();
        let room = i32::try_from(self.events.len()).unwrap_or(i32::MAX);
        if !self.coarse_timeouts {
            let limit = timeout.map(sys::timespec);
            let limit = limit.as_ref().map_or(std::ptr::null(), std::ptr::from_ref);
            // SAFETY: room for so many events, and a timespec or null; no signal mask.
            let count = unsafe {
                libc::syscall(
                    libc::SYS_epoll_pwait2,
                    epoll,
                    self.events.as_mut_ptr(),
                    room,
                    limit,
                    std::ptr::null::<libc::sigset_t>(),
                    size_of::<u64>(),
                )
            };
            match check_count(isize::try_from(count).unwrap_or(-1)) {
                Err(error) if matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)) => {
                    self.coarse_timeouts = true;
                }
                count => return count,
            }
        }
        let millis = timeout.map_or(-1, |timeout| {
            // Rounded up: waking early would spin until the time has come.
            i32::try_from(timeout.as_nanos().div_ceil(1_000_000)).unwrap_or(i32::MAX)
        });
        // SAFETY: room for so many events.
        let count = unsafe { libc::epoll_wait(epoll, self.events.as_mut_ptr(), room, millis) };
        check(count).map(|count| usize::try_from(count).unwrap_or(0))
    }

    /// Puts back those who still wait for a descriptor, and arms it.
    fn keep(&mut self, descriptor: RawFd, waiting: Waiting, completions: &mut Vec<Completion>) {
        if waiting.is_empty() {
            return;
        }
        let data = u64::from(descriptor.unsigned_abs());
        let mut event = libc::epoll_event { events: waiting.interest(), u64: data };
        let mut control = |operation| {
            // SAFETY: a readable event; the descriptor is kept open by the operations that wait.
            check(unsafe {
                libc::epoll_ctl(self.epoll.as_raw_fd(), operation, descriptor, &raw mut event)
            })
        };
        let armed = match control(libc::EPOLL_CTL_MOD) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => {
                control(libc::EPOLL_CTL_ADD)
            }
            armed => armed,
        };
        match armed {
            Ok(_) => {
                self.waiting.insert(descriptor, waiting);
            }
            Err(failure) => {
                let errno = failure.raw_os_error().unwrap_or(libc::EBADF);
                for (token, attempt) in waiting.to_read.into_iter().chain(waiting.to_write) {
                    let buffer = attempt.into_buffer();
                    completions.push(Completion { token, result: Err(error(errno)), buffer });
                }
            }
        }
    }
}

/// Tries those in a queue in order, until one would block.
fn progress(queue: &mut Vec<(Token, Attempt)>, completions: &mut Vec<Completion>) {
    let mut ended = 0;
    for (token, attempt) in queue.iter_mut() {
        let Some(result) = attempt.run() else { break };
        completions.push(Completion { token: *token, result, buffer: None });
        ended += 1;
    }
    let first = completions.len() - ended;
    for ((_, attempt), completion) in queue.drain(..ended).zip(&mut completions[first..]) {
        completion.buffer = attempt.into_buffer();
    }
}
