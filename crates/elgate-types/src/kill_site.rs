//! Named places where a test may end this process with SIGKILL, or stop it with SIGSTOP.
//!
//! With the `failpoints` feature, `ELGATE_KILL_SITE=<name>:<n>` ends the process the n-th time
//! execution passes the site of that name, and `ELGATE_STOP_SITE=<name>:<n>` stops it. Without the feature a site costs nothing and the
//! variables are not read. The names in use are listed in [`ALL`], so a test can prove that it
//! visited each of them.

/// Every site in the code base. A site not listed here does not compile away silently: passing it
/// with the feature on panics in debug builds.
pub const ALL: &[&str] = &[
    "ring.claimed",
    "ring.before_commit",
    "ring.committed",
    "log.write.submitted",
    "log.durable.before_ack",
    "log.roll",
    "log.recovery.scanned",
    "log.recovery.cut",
    "log.segment.prepared",
    "log.segment.recycled",
    "log.segment.retired",
    "cursor.save.before",
    "cursor.save.after",
    "ring.acked.before_release",
    "sink.file.written",
    "sink.http.answered",
];

/// Passes the site `name`. See the module text.
#[inline(always)]
pub fn pass(name: &'static str) {
    #[cfg(feature = "failpoints")]
    armed::pass(name);
    crate::mark::hit(name);
}

#[cfg(feature = "failpoints")]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicI64, Ordering};

    static KILL: OnceLock<Option<Target>> = OnceLock::new();
    static STOP: OnceLock<Option<Target>> = OnceLock::new();

    /// A site, and how often it is still to be passed.
    type Target = (String, AtomicI64);

    pub(super) fn pass(name: &'static str) {
        debug_assert!(super::ALL.contains(&name), "kill site {name} is missing from ALL");
        signal_at(name, &KILL, "ELGATE_KILL_SITE", libc::SIGKILL);
        signal_at(name, &STOP, "ELGATE_STOP_SITE", libc::SIGSTOP);
    }

    fn signal_at(
        name: &str,
        target: &OnceLock<Option<Target>>,
        variable: &str,
        signal: libc::c_int,
    ) {
        let target = target.get_or_init(|| {
            let setting = std::env::var(variable).ok()?;
            let (site, count) = setting.rsplit_once(':')?;
            Some((site.to_owned(), AtomicI64::new(count.parse().ok()?)))
        });
        if let Some((site, remaining)) = target
            && site == name
            && remaining.fetch_sub(1, Ordering::Relaxed) == 1
        {
            // To this thread, not to the process: another thread could take the signal while this
            // one ran on past the site.
            // SAFETY: raise takes no pointers; SIGKILL does not return, and after SIGSTOP
            // execution goes on here once somebody continues the process.
            unsafe { libc::raise(signal) };
        }
    }
}
