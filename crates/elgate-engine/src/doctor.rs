//! What this machine gives, what is wrong, and how to mend it.
//!
//! Every finding is tried out, not inferred from a version number.

use crate::config::EngineConfig;
use crate::topology::Topology;
use elgate_io::{BackendChoice, DriverOptions, OpenOptions, OsPlatform, Platform, open_driver};
use elgate_types::limits::BLOCK_BYTES;
use serde::Serialize;
use std::path::Path;

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Works, but less well than it could.
    Warn,
    /// Does not work.
    Fail,
}

/// One thing that was tried.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Stable name.
    pub id: &'static str,
    /// How bad.
    pub level: Severity,
    /// What was found.
    pub what: String,
    /// What to do; empty if nothing.
    pub advice: String,
}

fn finding(
    id: &'static str,
    level: Severity,
    what: impl Into<String>,
    advice: impl Into<String>,
) -> Finding {
    Finding { id, level, what: what.into(), advice: advice.into() }
}

/// Tries everything an engine with this configuration would rely on. Changes nothing that stays.
#[must_use]
pub fn doctor(config: &EngineConfig) -> Vec<Finding> {
    let platform = OsPlatform::new();
    vec![
        check_backend(),
        check_memlock(),
        check_pinning(),
        check_huge_pages(),
        check_ring(&config.ring.path),
        check_data_dir(&platform, &config.data_dir),
        check_direct_io(&platform, &config.data_dir),
        check_space(&platform, config),
        check_damage(&platform, &config.data_dir),
    ]
}

fn check_backend() -> Finding {
    match open_driver(BackendChoice::Auto, &DriverOptions::default()) {
        Ok(driver) => {
            let info = driver.info();
            let facts: Vec<String> =
                info.facts.iter().map(|(name, value)| format!("{name}: {value}")).collect();
            let what = format!("backend {} ({})", info.backend, facts.join(", "));
            match info.backend {
                "uring" => finding("io_uring", Severity::Ok, what, ""),
                _ => finding(
                    "io_uring",
                    Severity::Warn,
                    what,
                    "allow io_uring_setup, io_uring_enter and io_uring_register in the seccomp \
                     profile, and set sysctl kernel.io_uring_disabled = 0, for the faster backend",
                ),
            }
        }
        Err(error) => {
            finding("io_uring", Severity::Fail, error.to_string(), error.code().row().advice)
        }
    }
}

fn check_memlock() -> Finding {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid rlimit for the kernel to fill.
    let result = unsafe { libc::getrlimit(libc::RLIMIT_MEMLOCK, &mut limit) };
    let bytes = if result == 0 { limit.rlim_cur } else { 0 };
    if bytes >= 8 << 20 {
        return finding("memlock", Severity::Ok, format!("RLIMIT_MEMLOCK {}", show(bytes)), "");
    }
    finding(
        "memlock",
        Severity::Warn,
        format!("RLIMIT_MEMLOCK is {}", show(bytes)),
        "raise it to 8 MiB or more (LimitMEMLOCK= in the unit, or ulimit -l) so that rings and \
         buffers can be registered with the kernel",
    )
}

fn check_pinning() -> Finding {
    let topology = Topology::detect();
    let cores = topology.cores().len();
    let last = topology.cores()[cores - 1].id;
    let tried = std::thread::spawn(move || crate::pin_current_thread(last)).join();
    match tried {
        Ok(Some(_)) => {
            finding("pinning", Severity::Ok, format!("{cores} cores, pinning works"), "")
        }
        _ => finding(
            "pinning",
            Severity::Warn,
            format!("{cores} cores, pinning is refused"),
            "shards run unpinned; allow sched_setaffinity for steadier latency",
        ),
    }
}

fn check_huge_pages() -> Finding {
    let reserved = std::fs::read_to_string("/proc/sys/vm/nr_hugepages").unwrap_or_default();
    match reserved.trim().parse::<u64>() {
        Ok(pages) if pages > 0 => {
            finding("huge_pages", Severity::Ok, format!("{pages} huge pages reserved"), "")
        }
        _ => finding(
            "huge_pages",
            Severity::Ok,
            "no huge pages reserved: ordinary ones are used",
            "",
        ),
    }
}

fn check_ring(path: &Path) -> Finding {
    let shown = path.display();
    match elgate_ring::examine(path) {
        Ok(None) => finding("ring", Severity::Ok, format!("no ring at {shown} yet"), ""),
        Ok(Some(ring)) if ring.consumer_alive => finding(
            "ring",
            Severity::Ok,
            format!("a daemon (process {}) serves {shown}", ring.consumer_pid),
            "",
        ),
        Ok(Some(ring)) => finding(
            "ring",
            Severity::Warn,
            format!("nobody serves {shown}; {} of its slots wait", ring.used_slots),
            "start the daemon with `npx elgate serve`: it takes what is there",
        ),
        Err(error) => {
            let advice = error.code().row().advice;
            finding("ring", Severity::Fail, format!("{shown}: {error}"), advice)
        }
    }
}

fn check_data_dir(platform: &dyn Platform, data_dir: &Path) -> Finding {
    let shown = data_dir.display();
    let fail = |what: String| {
        finding(
            "data_dir",
            Severity::Fail,
            what,
            "give this user write permission, or set data_dir (--data-dir, ELGATE_DATA_DIR)",
        )
    };
    // Nothing is made here that stays: whoever asks may have named the wrong directory.
    match platform.list(data_dir) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return match platform.create_directories(data_dir) {
                Ok(()) => {
                    // What was made a moment ago is empty; the first that is not was there before.
                    let made = data_dir.ancestors();
                    made.take_while(|path| std::fs::remove_dir(path).is_ok()).for_each(drop);
                    let what = format!("{shown} is not there yet; `elgate serve` makes it");
                    finding("data_dir", Severity::Ok, what, "")
                }
                Err(error) => fail(format!("cannot create {shown}: {error}")),
            };
        }
        Err(error) => return fail(format!("cannot read {shown}: {error}")),
        Ok(_) => {}
    }
    let options = OpenOptions { read: true, write: true, ..OpenOptions::default() };
    match platform.open(&data_dir.join(".lock"), options).and_then(|file| platform.try_lock(&file))
    {
        Ok(true) => finding("data_dir", Severity::Ok, format!("{shown} is writable and free"), ""),
        Ok(false) => {
            finding("data_dir", Severity::Ok, format!("{shown} is in use by an Elgate"), "")
        }
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => finding(
            "data_dir",
            Severity::Ok,
            format!("{shown} is there, and no Elgate has used it yet"),
            "",
        ),
        Err(error) => fail(format!("cannot write to {shown}: {error}")),
    }
}

fn check_direct_io(platform: &dyn Platform, data_dir: &Path) -> Finding {
    let existing = data_dir.ancestors().find(|path| path.is_dir()).unwrap_or(Path::new("."));
    let probe = existing.join(format!(".elgate-doctor-{}", std::process::id()));
    let options = OpenOptions {
        read: true,
        write: true,
        create: true,
        direct: true,
        ..OpenOptions::default()
    };
    let tried = platform.open(&probe, options).and_then(|file| {
        let mut block = elgate_io::Buffer::with_capacity(BLOCK_BYTES);
        block.extend_zeros(BLOCK_BYTES);
        platform.write_at(&file, 0, &block, true)
    });
    // The probe is ours: nobody else has its name.
    let _ = platform.remove(&probe);
    match tried {
        Ok(()) => {
            finding("direct_io", Severity::Ok, "direct writes work in the data directory", "")
        }
        Err(error) => finding(
            "direct_io",
            Severity::Warn,
            format!("direct writes do not work in {}: {error}", data_dir.display()),
            "logs are written through the page cache; put data_dir on ext4 or XFS for speed",
        ),
    }
}

fn check_space(platform: &dyn Platform, config: &EngineConfig) -> Finding {
    let wanted: u64 = config.routes.values().map(|route| route.segment_bytes * 2).sum();
    let existing = config.data_dir.ancestors().find(|path| path.is_dir());
    match platform.available_bytes(existing.unwrap_or(Path::new("."))) {
        Ok(free) if free > wanted => {
            finding("space", Severity::Ok, format!("{} free for logs", show(free)), "")
        }
        Ok(free) => finding(
            "space",
            Severity::Fail,
            format!("{} free, the routes' first segments need {}", show(free), show(wanted)),
            "free space, use smaller segment_bytes, or choose another data_dir",
        ),
        Err(error) => finding(
            "space",
            Severity::Warn,
            format!("free space unknown: {error}"),
            "make data_dir readable for this user, or choose another one",
        ),
    }
}

/// Whether damage was put aside in any log.
fn check_damage(platform: &dyn Platform, data_dir: &Path) -> Finding {
    let has_copies = |route: &String| {
        let entries = platform.list(&data_dir.join(route).join("quarantine")).unwrap_or_default();
        entries.iter().any(|entry| entry.name.contains(".wal-"))
    };
    let entries = platform.list(data_dir).unwrap_or_default();
    let folders = entries.into_iter().filter(|entry| entry.is_directory).map(|entry| entry.name);
    let mut routes: Vec<String> = folders.filter(has_copies).collect();
    routes.sort();
    if routes.is_empty() {
        return finding("damage", Severity::Ok, "no damage was put aside in any log", "");
    }
    finding(
        "damage",
        Severity::Warn,
        format!("damage was found and put aside in the log of {}", routes.join(", ")),
        "run `npx elgate fsck` to see what is lost and what can be repaired; move the copies in \
         the log's quarantine folder away once nobody needs them",
    )
}

fn show(bytes: u64) -> String {
    match bytes {
        u64::MAX => "unlimited".into(),
        _ if bytes >= 1 << 30 => format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30)),
        _ if bytes >= 1 << 20 => format!("{:.1} MiB", bytes as f64 / f64::from(1 << 20)),
        _ => format!("{:.0} KiB", bytes as f64 / 1024.0),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whatever_is_not_well_comes_with_advice() {
        let directory = tempfile::tempdir().expect("a directory");
        let ring = directory.path().join("ring");
        std::fs::write(&ring, "not a ring").expect("writes");
        let config = serde_json::json!({
            "data_dir": "/proc/elgate-cannot-be-made", "ring": { "path": ring },
            "files": { "root": directory.path() }
        });
        let config = EngineConfig::from_json(&config.to_string()).expect("valid");
        let findings = doctor(&config);
        let failed: Vec<_> =
            findings.iter().filter(|finding| finding.level == Severity::Fail).collect();
        assert!(failed.iter().any(|finding| finding.id == "ring"), "{findings:?}");
        assert!(failed.iter().any(|finding| finding.id == "data_dir"), "{findings:?}");
        for finding in &findings {
            assert!(finding.level == Severity::Ok || !finding.advice.is_empty(), "{finding:?}");
        }
    }
}
