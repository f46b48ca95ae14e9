//! What the shards' drivers are opened with, and what was found out about the device by the first
//! of them.

use crate::config::{Backend, CommitChoice, EngineConfig, Switch};
use crate::error::EngineError;
use crate::mode::{Mode, Plan};
use crate::status::IoStatus;
use crate::topology::Topology;
use elgate_io::{
    ARENA_BYTES_MAX, BackendChoice, Commit, CommitProbe, Driver, DriverOptions, open_driver,
    probe_commit,
};
use std::path::PathBuf;
use std::sync::OnceLock;

/// With fewer cores altogether, or for each shard, submission queues are not polled: each poller
/// spins on a core that the programs Elgate serves would miss.
const SQPOLL_CORES_MIN: usize = 16;
const SQPOLL_CORES_PER_SHARD_MIN: usize = 8;
/// Arenas on huge pages are whole ones.
const HUGE_PAGE_BYTES: usize = 2 << 20;

/// One per engine; each shard's thread opens its driver here.
#[derive(Debug)]
pub(crate) struct ShardIo {
    backend: BackendChoice,
    options: DriverOptions,
    data_dir: PathBuf,
    forced_commit: Option<Commit>,
    sqpoll_why: String,
    /// Not for somebody's tests, which open many engines and measure nothing.
    is_probed: bool,
    /// Set by the first that comes; the others wait for it.
    found: OnceLock<Found>,
}

#[derive(Debug, Clone)]
struct Found {
    commit: Commit,
    probe: Result<CommitProbe, String>,
}

impl ShardIo {
    pub(crate) fn new(config: &EngineConfig, plan: &Plan, topology: &Topology) -> Self {
        let runtime = &config.runtime;
        let (cores, shards) = (topology.cores().len(), plan.shards.len().max(1));
        let is_plentiful =
            cores >= SQPOLL_CORES_MIN && cores / shards >= SQPOLL_CORES_PER_SHARD_MIN;
        let counted = format!("cores: {cores}, shards: {shards}");
        let (sqpoll, sqpoll_why) = match runtime.sqpoll {
            Switch::On => (true, "runtime.sqpoll = \"on\"".into()),
            Switch::Off => (false, "runtime.sqpoll = \"off\"".into()),
            Switch::Auto if is_plentiful => (true, format!("auto: enough cores ({counted})")),
            Switch::Auto => (
                false,
                format!(
                    "auto: too few cores ({counted}); it takes {SQPOLL_CORES_PER_SHARD_MIN} for \
                     each shard, and {SQPOLL_CORES_MIN} in all"
                ),
            ),
        };
        let default = DriverOptions::default();
        let huge_bytes = (runtime.huge_pages_mb as usize) << 20;
        let share = (huge_bytes / shards).next_multiple_of(HUGE_PAGE_BYTES).min(ARENA_BYTES_MAX);
        let huge_pages = huge_bytes > 0;
        let options = DriverOptions {
            arena_bytes: if huge_pages { share } else { default.arena_bytes },
            huge_pages,
            sqpoll,
            ..default
        };
        let backend = match runtime.backend {
            Backend::Auto => BackendChoice::Auto,
            Backend::Uring => BackendChoice::Uring,
            Backend::Poll => BackendChoice::Poll,
            #[cfg(feature = "tokio-uring")]
            Backend::TokioUring => BackendChoice::TokioUring,
        };
        let forced_commit = match runtime.commit {
            CommitChoice::Auto => None,
            CommitChoice::Dsync => Some(Commit::Dsync),
            CommitChoice::Link => Some(Commit::Link),
            CommitChoice::Blocking => Some(Commit::Blocking),
        };
        let data_dir = config.data_dir.clone();
        let is_probed = plan.mode != Mode::TestStub;
        let found = OnceLock::new();
        Self { backend, options, data_dir, forced_commit, sqpoll_why, is_probed, found }
    }

    /// A driver for the calling thread. The first one is used to try out the data directory's
    /// file system before it is handed out; a device that fails at that is a matter for the logs.
    pub(crate) fn open(&self) -> Result<Box<dyn Driver>, EngineError> {
        let mut driver = open_driver(self.backend, &self.options)
            .map_err(|error| EngineError::wrap(error.code(), "I/O backend", error))?;
        let found = self.found.get_or_init(|| {
            let probe = match self.is_probed {
                true => probe_commit(&mut *driver, &self.data_dir, self.forced_commit)
                    .map_err(|error| error.to_string()),
                false => Err("mode = \"test-stub\"".into()),
            };
            let commits = driver.commits();
            let commit = match &probe {
                Ok(probe) => Some(probe.commit),
                Err(_) => self.forced_commit.filter(|commit| commits.contains(commit)),
            };
            let usual = || commits.first().copied().unwrap_or_default();
            Found { commit: commit.unwrap_or_else(usual), probe }
        });
        driver.set_commit(found.commit);
        Ok(driver)
    }

    /// How many small commits of one log are worth having under way at once, if that is known.
    pub(crate) fn small_writes_in_flight(&self) -> Option<usize> {
        self.found.get()?.probe.as_ref().ok()?.writes_in_flight
    }

    /// What was chosen and why, once a driver has been opened.
    pub(crate) fn status(&self) -> Option<IoStatus> {
        let Found { commit, probe } = self.found.get()?;
        let source = match self.forced_commit {
            Some(_) => "runtime.commit",
            None => "auto",
        };
        let (measured, in_flight) = match probe {
            Ok(probe) => (probe.ways_text(), probe.depths_text()),
            Err(error) => (format!("not measured: {error}"), format!("not measured: {error}")),
        };
        Some(IoStatus {
            commit: commit.name(),
            commit_why: format!("{source}: {measured}"),
            writes_in_flight: self.small_writes_in_flight(),
            writes_in_flight_why: format!("each of so many at once: {in_flight}"),
            sqpoll: self.options.sqpoll,
            sqpoll_why: self.sqpoll_why.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shard_io(runtime: serde_json::Value, cores: usize, shards: usize) -> ShardIo {
        let config = serde_json::json!({
            "data_dir": "/nowhere", "ring": { "path": "/dev/shm/ring" }, "runtime": runtime,
            "files": { "root": "/" }
        });
        let config = EngineConfig::from_json(&config.to_string()).expect("valid");
        let topology = Topology::of(cores, 1);
        let plan = Plan::choose(Mode::PinnedSharded, shards, true, &topology);
        ShardIo::new(&config, &plan, &topology)
    }

    #[test]
    fn submissions_are_polled_only_where_cores_are_plentiful_or_somebody_says_so() {
        let auto = serde_json::json!({});
        assert!(!shard_io(auto.clone(), 2, 1).options.sqpoll);
        assert!(!shard_io(auto.clone(), 32, 0).options.sqpoll, "a shard for every fourth core");
        assert!(shard_io(auto, 32, 4).options.sqpoll);
        assert!(shard_io(serde_json::json!({ "sqpoll": "on" }), 1, 1).options.sqpoll);
        let off = shard_io(serde_json::json!({ "sqpoll": "off" }), 64, 1);
        assert!(!off.options.sqpoll && off.sqpoll_why.contains("runtime.sqpoll"));
    }

    #[test]
    fn huge_pages_are_shared_out_in_whole_pages() {
        let arena = |mb: u32, shards| {
            let options = shard_io(serde_json::json!({ "huge_pages_mb": mb }), 8, shards).options;
            (options.arena_bytes, options.huge_pages)
        };
        assert_eq!(arena(0, 2), (DriverOptions::default().arena_bytes, false));
        assert_eq!(arena(64, 2), (32 << 20, true));
        assert_eq!(arena(1, 4), (2 << 20, true));
        assert_eq!(arena(16_384, 1), (ARENA_BYTES_MAX, true));
    }
}
