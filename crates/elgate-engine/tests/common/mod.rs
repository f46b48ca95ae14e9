//! What the engine's tests share: a place to run, a producer, a far end.
#![allow(dead_code, unreachable_pub, reason = "each test file uses its own part")]

pub mod far_end;

use elgate_client::{Client, ConnectOptions};
use elgate_engine::{Engine, EngineConfig};
use elgate_types::{ErrorCode, Lsn, RouteName};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

static NEXT: AtomicU64 = AtomicU64::new(0);

/// Directories and a ring of one test, removed at its end.
pub struct Place {
    pub directory: tempfile::TempDir,
    pub ring: PathBuf,
}

impl Place {
    pub fn new() -> Self {
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let ring = format!("/dev/shm/elgate-test-{}-{number}", std::process::id());
        Self { directory: tempfile::tempdir().expect("a temporary directory"), ring: ring.into() }
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn config(&self, routes: Value) -> EngineConfig {
        self.config_with(routes, json!({}))
    }

    pub fn config_with(&self, routes: Value, runtime: Value) -> EngineConfig {
        let backend = std::env::var("ELGATE_BACKEND").unwrap_or_else(|_| "auto".into());
        let mut wanted = json!({ "backend": backend });
        for (key, value) in runtime.as_object().expect("an object") {
            wanted[key] = value.clone();
        }
        let config = json!({
            "data_dir": self.path("data"),
            "ring": { "path": self.ring },
            "files": { "root": self.path("out") },
            "runtime": wanted,
            "routes": routes,
        });
        EngineConfig::from_json(&config.to_string()).expect("the configuration is valid")
    }

    pub fn open(&self, routes: Value) -> Engine {
        Engine::open(&self.config(routes)).expect("the engine opens")
    }

    pub fn client(&self) -> Client {
        Client::connect(&self.ring, ConnectOptions { wait: Duration::from_secs(5) })
            .expect("the client connects")
    }

    pub fn file(&self, name: &str) -> String {
        std::fs::read_to_string(self.path("out").join(name)).unwrap_or_default()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(name) = self.ring.file_name().and_then(|name| name.to_str()) else { return };
        for entry in std::fs::read_dir("/dev/shm").into_iter().flatten().flatten() {
            if entry.file_name().to_string_lossy().starts_with(name) {
                let _ = std::fs::remove_file(entry.path());
            }
        }
    }
}

pub fn name(route: &str) -> RouteName {
    RouteName::new(route).expect("a valid name")
}

/// What became of a submission.
pub type Outcome = Result<Lsn, ErrorCode>;

/// Appends records one submission each, and waits for all acknowledgements. First LSNs in order.
pub fn append(client: &Client, route: &str, records: &[&str]) -> Vec<Outcome> {
    let handle = client.route(&name(route));
    let mut waiting = Vec::new();
    for record in records {
        loop {
            match client.submit(handle, &[record.as_bytes()]) {
                Ok(op) => break waiting.push(op),
                Err(error) if error.code() == ErrorCode::Backpressure => {
                    client.wait_for_space(handle, Duration::from_secs(1));
                }
                Err(error) => panic!("submit: {error}"),
            }
        }
    }
    let mut outcomes = vec![None; waiting.len()];
    let mut acknowledgements = Vec::new();
    for _ in 0..600 {
        client.drain(&mut acknowledgements);
        for acknowledgement in acknowledgements.drain(..) {
            if let Some(index) = waiting.iter().position(|op| *op == acknowledgement.op_id) {
                outcomes[index] = Some(match acknowledgement.status {
                    None => Ok(acknowledgement.first_lsn),
                    Some(code) => Err(code),
                });
            }
        }
        if outcomes.iter().all(Option::is_some) {
            return outcomes.into_iter().flatten().collect();
        }
        client.wait_acks(Duration::from_millis(100));
    }
    panic!("no acknowledgement within a minute: {outcomes:?}");
}

/// Waits until `condition` holds, failing after a minute with `what`.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..6_000 {
        if condition() {
            return;
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    panic!("did not happen within a minute: {what}");
}

/// One route's status.
pub fn status(engine: &Engine, route: &str) -> Value {
    let status = serde_json::to_value(engine.status().expect("a status")).expect("is JSON");
    let routes = status["routes"].as_array().expect("routes").clone();
    routes.into_iter().find(|entry| entry["name"] == route).expect("the route is there")
}
