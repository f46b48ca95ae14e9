//! `NativeFsck`: one check of a log, and how far it has come.

use crate::error::coded;
use crate::task::{Blocking, blocking};
use elgate_io::OsPlatform;
use elgate_log::{Finding, FsckOptions, FsckReport, fsck};
use elgate_types::Lsn;
use napi::bindgen_prelude::AsyncTask;
use napi_derive::napi;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A check of the log in a directory.
#[napi]
pub struct NativeFsck {
    directory: PathBuf,
    options: FsckOptions,
    /// Bytes looked at, and bytes there are. For show only, so nothing is ordered by them.
    progress: Arc<[AtomicU64; 2]>,
}

#[napi]
impl NativeFsck {
    /// Prepares a check; nothing is touched yet.
    #[napi(constructor)]
    pub fn new(directory: String, mirror: Option<String>, repair: bool) -> Self {
        Self {
            directory: PathBuf::from(directory),
            options: FsckOptions { repair, mirror: mirror.map(PathBuf::from) },
            progress: Arc::default(),
        }
    }

    /// Carries it out. Resolves with the report, as JSON.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn run(&self) -> AsyncTask<Blocking<String>> {
        let (directory, options) = (self.directory.clone(), self.options.clone());
        let progress = Arc::clone(&self.progress);
        blocking(move || {
            let mut tell = |done, total| {
                // Relaxed: pairs with the loads in `progress`, and with nothing else.
                progress[0].store(done, Ordering::Relaxed);
                progress[1].store(total, Ordering::Relaxed);
            };
            let report = fsck(&OsPlatform::new(), &directory, &options, &mut tell);
            let report = report.map_err(|error| coded(error.code(), error))?;
            Ok(describe(&report).to_string())
        })
    }

    /// Bytes looked at so far, and bytes there are as far as is known.
    #[napi]
    pub fn progress(&self) -> Vec<f64> {
        // Relaxed: pairs with the stores in `run`.
        self.progress.iter().map(|bytes| bytes.load(Ordering::Relaxed) as f64).collect()
    }
}

fn describe(report: &FsckReport) -> serde_json::Value {
    let lsn = |lsn: Option<Lsn>| lsn.map(|lsn| lsn.0);
    serde_json::json!({
        "route": report.route,
        "live": report.is_live,
        "segments": report.segments,
        "batches": report.batches,
        "records": report.records,
        "first_lsn": lsn(report.first_lsn),
        "last_lsn": lsn(report.last_lsn),
        "bytes": report.bytes,
        "repaired": report.repaired,
        "repairable": report.repairable,
        "left": report.left,
        "lost_records": report.lost_records,
        "findings": report.findings.iter().map(describe_finding).collect::<Vec<_>>(),
        "findings_omitted": report.omitted,
    })
}

fn describe_finding(finding: &Finding) -> serde_json::Value {
    serde_json::json!({
        "kind": finding.kind.name(),
        "outcome": finding.outcome.name(),
        "path": finding.path.display().to_string(),
        "from_byte": finding.bytes.as_ref().map(|bytes| bytes.start),
        "to_byte": finding.bytes.as_ref().map(|bytes| bytes.end),
        "first_lsn": finding.lsns.map(|(first, _)| first.0),
        "last_lsn": finding.lsns.map(|(_, last)| last.0),
        "what": finding.what,
        "advice": finding.advice,
        "copy": finding.copy.as_ref().map(|copy| copy.display().to_string()),
    })
}
