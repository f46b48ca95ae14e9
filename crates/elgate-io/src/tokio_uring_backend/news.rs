//! What wakes the runtime besides its own tasks: an epoll set over the sockets' set and a timer,
//! watched by one operation of the ring.

use crate::sys::{self, check};
use io_uring_06::{cqueue, opcode, types::Fd};
use std::future::Future;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::rc::Rc;
use std::time::Duration;
use tokio_uring::{OneshotOutputTransform, UnsubmittedOneshot};

pub(super) struct News {
    epoll: Rc<OwnedFd>,
    timer: OwnedFd,
}

impl News {
    /// Of `sockets`, an epoll set, and of a timer of its own.
    pub(super) fn new(sockets: RawFd) -> io::Result<Self> {
        // SAFETY: takes and returns plain integers.
        let epoll = sys::own(check(unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) })?);
        let flags = libc::TFD_CLOEXEC | libc::TFD_NONBLOCK;
        // SAFETY: as above.
        let timer = sys::own(check(unsafe { libc::timerfd_create(libc::CLOCK_MONOTONIC, flags) })?);
        for watched in [sockets, timer.as_raw_fd()] {
            let mut event = libc::epoll_event { events: libc::EPOLLIN.cast_unsigned(), u64: 0 };
            // SAFETY: a readable event.
            check(unsafe {
                libc::epoll_ctl(epoll.as_raw_fd(), libc::EPOLL_CTL_ADD, watched, &raw mut event)
            })?;
        }
        Ok(Self { epoll: Rc::new(epoll), timer })
    }

    /// Sets the timer, or stops it; what it had to say before is forgotten.
    pub(super) fn set_timer(&self, limit: Option<Duration>) -> io::Result<()> {
        // Zero would stop it.
        let limit = limit.map_or(Duration::ZERO, |limit| limit.max(Duration::from_nanos(1)));
        let never = sys::timespec(Duration::ZERO);
        let setting = libc::itimerspec { it_interval: never, it_value: sys::timespec(limit) };
        // SAFETY: a readable setting, and nowhere to put the old one.
        check(unsafe {
            let old = std::ptr::null_mut();
            libc::timerfd_settime(self.timer.as_raw_fd(), 0, &raw const setting, old)
        })
        .map(drop)
    }

    /// Ends when there is something to look at, at once if there already is. To be called within
    /// the runtime.
    pub(super) fn wait(&self) -> impl Future<Output = ()> + 'static {
        let events = libc::POLLIN.cast_unsigned().into();
        let poll = opcode::PollAdd::new(Fd(self.epoll.as_raw_fd()), events).build();
        // The set stays open until the result is in; the entry points to nothing else.
        UnsubmittedOneshot::new(self.epoll.clone(), Looked, poll).submit()
    }
}

struct Looked;

impl OneshotOutputTransform for Looked {
    type Output = ();
    type StoredData = Rc<OwnedFd>;

    /// Whatever the result is: who waited looks for himself.
    fn transform_oneshot_output(self, _data: Rc<OwnedFd>, _result: cqueue::Entry) {}
}
