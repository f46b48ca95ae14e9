//! Cores and the time that threads spend on them.

use crate::samples::Clock;
use std::io;
use std::mem::size_of;
use std::time::Duration;

/// The cores that the calling thread may run on.
struct Affinity(libc::cpu_set_t);

impl Affinity {
    fn current() -> io::Result<Self> {
        // SAFETY: an all-zero cpu_set_t is a valid empty set.
        let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
        // SAFETY: pid 0 names the calling thread; at most the given size is written to `set`.
        check(unsafe { libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) })?;
        Ok(Self(set))
    }

    fn restore(&self) -> io::Result<()> {
        // SAFETY: pid 0 names the calling thread; the set is read only.
        check(unsafe {
            libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const self.0)
        })
    }
}

/// Runs `work` confined to one core, which is the last one: the first ones tend to serve
/// interrupts.
pub(crate) fn on_one_core<T>(work: impl FnOnce() -> T) -> io::Result<T> {
    let before = Affinity::current()?;
    let last = elgate_engine::cores_of_current_thread().pop();
    last.and_then(elgate_engine::pin_current_thread)
        .ok_or_else(|| io::Error::other("the kernel refuses to pin a thread to a core"))?;
    let result = work();
    before.restore()?;
    Ok(result)
}

/// Lets waits of the calling thread end when they are due, not up to 50 µs later.
pub(crate) fn wake_on_time() -> io::Result<()> {
    let nanoseconds: libc::c_ulong = 1;
    // SAFETY: PR_SET_TIMERSLACK takes one number and touches no memory.
    check(unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, nanoseconds) })
}

/// The CPU time of another thread of this process.
pub(crate) struct ThreadTime {
    clock: libc::clockid_t,
}

impl ThreadTime {
    /// Of the thread with that name.
    pub(crate) fn of(name: &str) -> io::Result<Self> {
        for entry in std::fs::read_dir("/proc/self/task")? {
            let path = entry?.path();
            let Ok(found) = std::fs::read_to_string(path.join("comm")) else { continue };
            let id = path.file_name().and_then(|id| id.to_str()).and_then(|id| id.parse().ok());
            if let (true, Some(id)) = (found.trim_end() == name, id) {
                return Ok(Self::of_thread(id));
            }
        }
        Err(io::Error::new(io::ErrorKind::NotFound, format!("no thread is called {name}")))
    }

    /// Of the calling thread.
    pub(crate) fn own() -> Self {
        Self { clock: libc::CLOCK_THREAD_CPUTIME_ID }
    }

    fn of_thread(id: libc::pid_t) -> Self {
        // How Linux names the scheduler's clock of a thread: include/linux/posix-timers_types.h.
        const PER_THREAD: libc::clockid_t = 4;
        const SCHEDULER: libc::clockid_t = 2;
        Self { clock: (!id << 3) | PER_THREAD | SCHEDULER }
    }

    /// How much it has used so far.
    pub(crate) fn used(&self) -> io::Result<Duration> {
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` is a writable timespec.
        check(unsafe { libc::clock_gettime(self.clock, &raw mut time) })?;
        let seconds = u64::try_from(time.tv_sec).map_err(io::Error::other)?;
        Ok(Duration::from_secs(seconds) + Duration::from_nanos(time.tv_nsec.unsigned_abs()))
    }
}

/// Passes the time without giving up the core.
pub(crate) fn spin_for(time: Duration) {
    let clock = Clock::start();
    while clock.elapsed() < time {
        std::hint::spin_loop();
    }
}

fn check(result: libc::c_int) -> io::Result<()> {
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_of_a_thread_by_name_is_the_one_it_sees_itself() {
        let thread = std::thread::Builder::new().name("timed".into()).spawn(|| {
            spin_for(Duration::from_millis(5));
            let by_name = ThreadTime::of("timed")?.used()?;
            Ok::<_, io::Error>((by_name, ThreadTime::own().used()?))
        });
        let times = thread.expect("a thread").join().expect("it ends well");
        let (by_name, own) = times.expect("the kernel tells");
        assert!(by_name > Duration::ZERO && by_name <= own, "{by_name:?}, then {own:?}");
    }
}
