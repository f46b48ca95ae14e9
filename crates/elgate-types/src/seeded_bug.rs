//! Defects that can be switched on, each one that a log, a ring or a sink has really had somewhere:
//! a suite that does not notice them is blind.
//!
//! With the `seeded-bugs` feature, `ELGATE_SEEDED_BUG=<name>` switches one on for the process.
//! Without the feature [`is`] is `false`, at no cost, and the variable is not read.

/// Every defect, by name.
pub const ALL: &[&str] = &[
    "acknowledge-before-mirror",
    "acknowledge-before-sync",
    "acknowledge-past-a-hole",
    "append-replayed-again",
    "cut-acknowledged-rot",
    "deliver-what-is-only-visible",
    "forget-epoch-and-torn-tail",
    "forget-what-was-set-aside",
    "ignore-short-writes",
    "mirror-catch-up-skips-a-batch",
    "reclaim-by-time",
    "recycle-without-a-new-header",
    "release-locks-at-death",
    "release-slots-early",
    "remove-unpassed-segments",
    "retry-failed-syncs",
    "reuse-lsn-after-restart",
    "save-cursor-early",
    "skip-checksum-on-read",
    "skip-directory-sync",
];

/// Whether the defect `name` is switched on.
#[inline(always)]
#[must_use]
pub fn is(name: &'static str) -> bool {
    #[cfg(feature = "seeded-bugs")]
    return armed::is(name);
    #[cfg(not(feature = "seeded-bugs"))]
    {
        let _ = name;
        false
    }
}

#[cfg(feature = "seeded-bugs")]
mod armed {
    use std::sync::OnceLock;

    static BUG: OnceLock<Option<String>> = OnceLock::new();

    pub(super) fn is(name: &'static str) -> bool {
        debug_assert!(super::ALL.contains(&name), "defect {name} is missing from ALL");
        let chosen = BUG.get_or_init(|| std::env::var("ELGATE_SEEDED_BUG").ok());
        chosen.as_deref() == Some(name)
    }
}
