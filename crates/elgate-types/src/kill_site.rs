//! Named places where a test may end this process with SIGKILL.
//!
//! With the `failpoints` feature, `ELGATE_KILL_SITE=<name>:<n>` ends the process the n-th time
//! execution passes the site of that name. Without the feature a site costs nothing and the
//! variable is not read. The names in use are listed in [`ALL`], so a test can prove that it
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
    #[cfg(not(feature = "failpoints"))]
    let _ = name;
}

#[cfg(feature = "failpoints")]
mod armed {
    use std::sync::OnceLock;
    use std::sync::atomic::{AtomicI64, Ordering};

    static TARGET: OnceLock<Option<(String, AtomicI64)>> = OnceLock::new();

    pub(super) fn pass(name: &'static str) {
        debug_assert!(super::ALL.contains(&name), "kill site {name} is missing from ALL");
        let target = TARGET.get_or_init(|| {
            let setting = std::env::var("ELGATE_KILL_SITE").ok()?;
            let (site, count) = setting.rsplit_once(':')?;
            Some((site.to_owned(), AtomicI64::new(count.parse().ok()?)))
        });
        if let Some((site, remaining)) = target
            && site == name
            && remaining.fetch_sub(1, Ordering::Relaxed) == 1
        {
            // SAFETY: getpid and kill take no pointers; SIGKILL to oneself does not return.
            unsafe { libc::kill(libc::getpid(), libc::SIGKILL) };
        }
    }
}
