//! The engine's configuration as it arrives from a face: complete, with every default filled in.
//!
//! Faces validate with line numbers; this is the second fence, so a mistake in a face cannot
//! become a surprise on a shard.

use crate::error::EngineError;
use crate::mode::{Mode, SHARDS_MAX};
use elgate_log::{LogOptions, Retention};
use elgate_types::limits::ROUTES_MAX;
use elgate_types::{FlushMode, RouteName};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Everything the engine is told at its start.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineConfig {
    /// Where logs live. Owned by one engine at a time.
    pub data_dir: PathBuf,
    /// The shared-memory ring.
    pub ring: RingConfig,
    /// Threads and backend.
    #[serde(default)]
    pub runtime: RuntimeConfig,
    /// The file sink's confinement.
    pub files: FilesConfig,
    /// The routes.
    #[serde(default)]
    pub routes: BTreeMap<RouteName, RouteConfig>,
}

/// Where the ring is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RingConfig {
    /// Path of the first ring; further ones append `.1`, `.2`, ...
    pub path: PathBuf,
    /// Remove the ring when the engine closes and nothing is left in it: for an embedded engine
    /// whose ring nobody else knows.
    #[serde(default)]
    pub remove_on_close: bool,
}

/// Which I/O backend runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backend {
    /// io_uring where it works, else epoll and a thread pool.
    #[default]
    Auto,
    /// io_uring, or an error.
    Uring,
    /// epoll and a thread pool.
    Poll,
    /// tokio-uring, or an error.
    #[cfg(feature = "tokio-uring")]
    #[serde(rename = "tokio-uring")]
    TokioUring,
}

/// How durable writes reach stable storage.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum CommitChoice {
    /// As suits the data directory's file system best, measured at the start.
    #[default]
    Auto,
    /// See [`Commit::Dsync`](elgate_io::Commit::Dsync).
    Dsync,
    /// See [`Commit::Link`](elgate_io::Commit::Link).
    Link,
    /// See [`Commit::Blocking`](elgate_io::Commit::Blocking).
    Blocking,
}

/// Something to have, not to have, or to have where it is worth it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[expect(missing_docs, reason = "the names say it")]
pub enum Switch {
    #[default]
    Auto,
    On,
    Off,
}

/// Threads and backend.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RuntimeConfig {
    /// How the engine uses the machine.
    pub mode: Mode,
    /// Number of shards; 0 decides from the number of cores.
    pub shards: usize,
    /// Whether shards are pinned to cores.
    pub pin: bool,
    /// The I/O backend.
    pub backend: Backend,
    /// How long an idle shard spins before it sleeps.
    pub spin_us: u32,
    /// How durable writes reach stable storage.
    pub commit: CommitChoice,
    /// Whether a thread of the kernel's takes what shards submit (`uring`).
    pub sqpoll: Switch,
    /// Huge-page memory for I/O buffers, of all shards together, in MiB; 0: ordinary memory.
    pub huge_pages_mb: u32,
}

impl Default for RuntimeConfig {
    fn default() -> Self {
        Self {
            mode: Mode::Auto,
            shards: 0,
            pin: true,
            backend: Backend::Auto,
            spin_us: 20,
            commit: CommitChoice::Auto,
            sqpoll: Switch::Auto,
            huge_pages_mb: 0,
        }
    }
}

/// The file sink's confinement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FilesConfig {
    /// File sinks write below this directory and nowhere else.
    pub root: PathBuf,
}

/// Which sink a route has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SinkKind {
    /// Append each record to a file.
    File,
    /// POST each record to an endpoint.
    Http,
    /// Keep the records in the log for readers to tail.
    None,
}

/// What stands between records in a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Framing {
    /// A line feed after each record.
    #[default]
    Newline,
    /// Nothing.
    None,
}

/// In which order a route's records reach the far end.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// One after the other, in the order of the log.
    #[default]
    Route,
    /// Up to `concurrency` at a time, in any order.
    None,
}

/// When to try a delivery again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetryConfig {
    /// Upper bound of the first pause.
    pub initial_ms: u32,
    /// Upper bound of any pause.
    pub max_ms: u32,
    /// Attempts before the route stops and asks for help; 0: never stop.
    pub max_attempts: u32,
}

impl Default for RetryConfig {
    fn default() -> Self {
        Self { initial_ms: 100, max_ms: 30_000, max_attempts: 0 }
    }
}

/// How much of what every reader has passed is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RetainConfig {
    /// Remove the oldest passed segments while the log is larger than this.
    pub max_bytes: Option<u64>,
    /// Remove passed segments older than this.
    pub max_age_s: Option<u64>,
}

impl Default for RetainConfig {
    fn default() -> Self {
        Self { max_bytes: Some(1 << 30), max_age_s: Some(7 * 86_400) }
    }
}

/// One route.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RouteConfig {
    /// Where records go.
    pub sink: SinkKind,
    /// File sink: path below the root.
    #[serde(default)]
    pub path: Option<PathBuf>,
    /// File sink: what stands between records.
    #[serde(default)]
    pub framing: Framing,
    /// HTTP sink: the endpoint.
    #[serde(default)]
    pub url: Option<String>,
    /// HTTP sink: media type of the records.
    #[serde(default = "default_content_type")]
    pub content_type: String,
    /// HTTP sink: further header fields.
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
    /// Delivery order.
    #[serde(default)]
    pub order: Order,
    /// Deliveries at a time with `order = "none"`.
    #[serde(default = "default_concurrency")]
    pub concurrency: u32,
    /// Retries.
    #[serde(default)]
    pub retry: RetryConfig,
    /// HTTP sink: how long one attempt may take.
    #[serde(default = "default_timeout_ms")]
    pub timeout_ms: u32,
    /// When records become durable.
    #[serde(default)]
    pub flush: FlushMode,
    /// Size of one segment.
    #[serde(default = "default_segment_bytes")]
    pub segment_bytes: u64,
    /// What is kept.
    #[serde(default)]
    pub retain: RetainConfig,
    /// A directory, best on another device, whose subdirectory of the route's name gets the same
    /// log. It must exist.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<PathBuf>,
    /// Start without delivering.
    #[serde(default)]
    pub paused: bool,
}

fn default_content_type() -> String {
    "application/octet-stream".into()
}
const fn default_concurrency() -> u32 {
    16
}
const fn default_timeout_ms() -> u32 {
    30_000
}
const fn default_segment_bytes() -> u64 {
    64 << 20
}

/// Smallest and largest segment a route may ask for.
const SEGMENT_BYTES: std::ops::RangeInclusive<u64> = (4 << 20)..=(4 << 30);

/// What all the shards there may be can use.
const HUGE_PAGES_MB_MAX: u32 = ((SHARDS_MAX * elgate_io::ARENA_BYTES_MAX) >> 20) as u32;

impl EngineConfig {
    /// Reads and checks a configuration.
    ///
    /// # Errors
    /// `ConfigInvalid`, naming the setting and what it should be.
    pub fn from_json(json: &str) -> Result<Self, EngineError> {
        let config: Self = serde_json::from_str(json)
            .map_err(|error| EngineError::config(format!("engine configuration: {error}")))?;
        config.check()?;
        Ok(config)
    }

    /// Checks what types cannot say.
    ///
    /// # Errors
    /// As [`from_json`](Self::from_json).
    pub fn check(&self) -> Result<(), EngineError> {
        if self.data_dir.as_os_str().is_empty() {
            return Err(EngineError::config("data_dir is empty: name a directory"));
        }
        if !self.ring.path.is_absolute() {
            return Err(EngineError::config(format!(
                "ring.path {} is not absolute: rings live in shared memory, for example \
                 /dev/shm/elgate_ring",
                self.ring.path.display()
            )));
        }
        if self.runtime.shards > SHARDS_MAX {
            return Err(EngineError::config(format!(
                "runtime.shards is {}, at most {SHARDS_MAX} are possible",
                self.runtime.shards
            )));
        }
        if self.runtime.huge_pages_mb > HUGE_PAGES_MB_MAX {
            return Err(EngineError::config(format!(
                "runtime.huge_pages_mb is {}, at most {HUGE_PAGES_MB_MAX} are of use",
                self.runtime.huge_pages_mb
            )));
        }
        check_routes(&self.routes)?;
        check_mirrors(&self.data_dir, &self.routes)
    }
}

/// Reads and checks a set of routes.
///
/// # Errors
/// `ConfigInvalid`, naming route, setting and what it should be.
pub fn routes_from_json(json: &str) -> Result<BTreeMap<RouteName, RouteConfig>, EngineError> {
    let routes = serde_json::from_str(json)
        .map_err(|error| EngineError::config(format!("routes: {error}")))?;
    check_routes(&routes)?;
    Ok(routes)
}

fn check_routes(routes: &BTreeMap<RouteName, RouteConfig>) -> Result<(), EngineError> {
    if routes.len() > ROUTES_MAX {
        return Err(EngineError::config(format!(
            "{} routes are configured, at most {ROUTES_MAX} are possible",
            routes.len()
        )));
    }
    let mut files: BTreeMap<&PathBuf, &RouteName> = BTreeMap::new();
    for (name, route) in routes {
        route.check().map_err(|what| EngineError::config(format!("routes.{name}.{what}")))?;
        if let (SinkKind::File, Some(path)) = (route.sink, &route.path)
            && let Some(other) = files.insert(path, name)
        {
            return Err(EngineError::config(format!(
                "routes.{name}.path: {} is already the file of route {other}; two routes cannot \
                 write one file",
                path.display()
            )));
        }
    }
    Ok(())
}

/// Refuses a mirror that is a log's directory, in one, or around one: retention and repair of the
/// one would meet the files of the other.
pub(crate) fn check_mirrors(
    data_dir: &Path,
    routes: &BTreeMap<RouteName, RouteConfig>,
) -> Result<(), EngineError> {
    // As given, if it cannot be told what it is relative to.
    let data_dir = std::path::absolute(data_dir).unwrap_or_else(|_| data_dir.to_owned());
    for (name, route) in routes {
        let Some(mirror) = &route.mirror else { continue };
        let twin = mirror.join(name.as_str());
        for other in routes.keys() {
            let log = data_dir.join(other.as_str());
            if twin.starts_with(&log) || log.starts_with(&twin) {
                return Err(EngineError::config(format!(
                    "routes.{name}.mirror: the copies would be in {}, and the log of route \
                     {other} is in {}; name a directory outside data_dir, best on another device",
                    twin.display(),
                    log.display()
                )));
            }
        }
    }
    Ok(())
}

impl RouteConfig {
    /// The setting that is wrong and how, or nothing.
    fn check(&self) -> Result<(), String> {
        match (self.sink, &self.path, &self.url) {
            (SinkKind::File, None, _) => return Err("path: a file sink needs one".into()),
            (SinkKind::File, _, Some(_)) => return Err("url: a file sink has none".into()),
            (SinkKind::Http, _, None) => return Err("url: an http sink needs one".into()),
            (SinkKind::Http, Some(_), _) => return Err("path: an http sink has none".into()),
            (SinkKind::None, Some(_), _) => return Err("path: needs sink = \"file\"".into()),
            (SinkKind::None, _, Some(_)) => return Err("url: needs sink = \"http\"".into()),
            _ => {}
        }
        if let (SinkKind::Http, Some(url)) = (self.sink, &self.url) {
            elgate_http::HttpUrl::parse(url).map_err(|error| format!("url: {error}"))?;
        }
        if !(1..=1_024).contains(&self.concurrency) {
            return Err(format!("concurrency: {} is not in 1 to 1024", self.concurrency));
        }
        if self.retry.initial_ms == 0 || self.retry.initial_ms > self.retry.max_ms {
            return Err(format!(
                "retry: initial_ms ({}) must be at least 1 and at most max_ms ({})",
                self.retry.initial_ms, self.retry.max_ms
            ));
        }
        if self.mirror.as_ref().is_some_and(|mirror| !mirror.is_absolute()) {
            return Err("mirror: must be an absolute path".into());
        }
        if self.timeout_ms == 0 {
            return Err("timeout_ms: must be at least 1".into());
        }
        if !SEGMENT_BYTES.contains(&self.segment_bytes) || !self.segment_bytes.is_multiple_of(4_096)
        {
            return Err(format!(
                "segment_bytes: {} is not a multiple of 4096 between 4 MiB and 4 GiB",
                self.segment_bytes
            ));
        }
        Ok(())
    }

    /// The settings of the log of the route with this name.
    pub(crate) fn log_options(&self, name: &RouteName) -> LogOptions {
        LogOptions {
            mirror: self.mirror.as_ref().map(|root| root.join(name.as_str())),
            segment_bytes: self.segment_bytes,
            flush: self.flush,
            retain: Retention {
                max_bytes: self.retain.max_bytes,
                max_age: self.retain.max_age_s.map(Duration::from_secs),
            },
            ..LogOptions::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mirror_in_a_log_or_around_one_is_refused() {
        let check = |mirror: &str| {
            let json = format!(
                r#"{{ "a": {{ "sink": "none", "mirror": "{mirror}" }}, "b": {{ "sink": "none" }} }}"#
            );
            check_mirrors(Path::new("/data/a"), &routes_from_json(&json).expect("routes"))
        };
        // The log's own directory, another route's, one in those, and one around both.
        for mirror in ["/data/a", "/data/a/b", "/data/a/a/quarantine", "/data/a/./b/x", "/data"] {
            let error = check(mirror).expect_err("refused");
            assert_eq!(error.code(), elgate_types::ErrorCode::ConfigInvalid, "{mirror}");
            assert!(error.to_string().contains("routes.a.mirror"), "{error}");
        }
        for mirror in ["/mirror", "/data/b", "/data/a/mirror", "/data/a-b"] {
            check(mirror).expect("fine");
        }
    }
}
