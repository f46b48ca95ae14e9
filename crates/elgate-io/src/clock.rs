//! The clocks of the operating system. The only place in the workspace that reads them: everything
//! else asks its `Driver` or `Platform`, which in a simulation answer in virtual time.

use elgate_types::{Monotonic, WallTime};

/// `CLOCK_MONOTONIC`, in nanoseconds.
pub(crate) fn monotonic() -> Monotonic {
    let time = read(libc::CLOCK_MONOTONIC);
    Monotonic(unsigned(time.tv_sec) * 1_000_000_000 + unsigned(time.tv_nsec))
}

/// `CLOCK_REALTIME`, in microseconds since the Unix epoch.
pub(crate) fn wall() -> WallTime {
    let time = read(libc::CLOCK_REALTIME);
    WallTime(unsigned(time.tv_sec) * 1_000_000 + unsigned(time.tv_nsec) / 1_000)
}

fn read(clock: libc::clockid_t) -> libc::timespec {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a writable timespec. Both clocks exist on every Linux, so it cannot fail.
    unsafe { libc::clock_gettime(clock, &raw mut time) };
    time
}

fn unsigned(value: i64) -> u64 {
    // Negative only before 1970, which no caller can use for anything.
    u64::try_from(value).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_run_forward_and_are_in_the_right_unit() {
        let (first, second) = (monotonic(), monotonic());
        assert!(second >= first);
        // Between 2020 and 2200: a wrong unit is off by a factor of at least a thousand.
        assert!((2020..2200).contains(&wall().date().0));
    }
}
