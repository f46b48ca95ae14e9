//! What a log, this machine and this build look like, as JSON.

use crate::error::coded;
use elgate_engine::EngineConfig;
use elgate_io::OsPlatform;
use elgate_log::{SegmentState, Watermarks};
use elgate_types::{ErrorCode, Lsn, error_table};
use napi::{Env, Result};
use napi_derive::napi;
use std::path::Path;

fn json(env: Env, value: &serde_json::Value) -> Result<String> {
    serde_json::to_string(value)
        .map_err(|error| crate::error::with_code(env, coded(ErrorCode::Internal, error)))
}

/// Segments, watermarks, readers and writer of the log in a directory.
#[napi]
pub fn describe_log(env: Env, directory: String) -> Result<String> {
    let description = elgate_log::describe(&OsPlatform::new(), Path::new(&directory))
        .map_err(|error| crate::error::with_code(env, coded(error.code(), error)))?;
    let segments: Vec<_> = description
        .segments
        .iter()
        .map(|segment| {
            serde_json::json!({
                "name": segment.name,
                "sequence": segment.sequence,
                "first_lsn": segment.first_lsn.map(|lsn| lsn.0),
                "last_lsn": segment.last_lsn.map(|lsn| lsn.0),
                "bytes": segment.bytes,
                "state": state_name(segment.state),
            })
        })
        .collect();
    let cursors: Vec<_> = description
        .cursors
        .iter()
        .map(|cursor| serde_json::json!({ "name": cursor.name, "lsn": cursor.lsn.0 }))
        .collect();
    let marks = description.watermarks;
    let mark = |of: fn(&Watermarks) -> Lsn| marks.as_ref().map(|marks| of(marks).0);
    let ignored: Vec<_> = description
        .ignored
        .iter()
        .map(|file| serde_json::json!({ "path": file.path.display().to_string(), "reason": file.reason }))
        .collect();
    json(
        env,
        &serde_json::json!({
            "route": description.route,
            "segments": segments,
            "first_lsn": mark(|marks| marks.first),
            "visible_lsn": mark(|marks| marks.visible),
            "durable_lsn": mark(|marks| marks.durable),
            "delivered_lsn": mark(|marks| marks.delivered),
            "next_lsn": mark(|marks| marks.visible.next()),
            "cursors": cursors,
            "damaged_cursors": description.damaged_cursors,
            "ignored": ignored,
            "writer": { "pid": marks.as_ref().map(|marks| marks.writer_pid), "alive": description.writer_is_alive },
        }),
    )
}

fn state_name(state: SegmentState) -> &'static str {
    match state {
        SegmentState::Sealed => "sealed",
        SegmentState::Active => "active",
        SegmentState::Prepared => "prepared",
    }
}

/// What this machine gives, what is wrong, and how to mend it.
#[napi]
pub fn doctor(env: Env, config_json: String) -> Result<String> {
    let config = EngineConfig::from_json(&config_json)
        .map_err(|error| crate::error::with_code(env, coded(error.code(), error)))?;
    let findings = elgate_engine::doctor(&config);
    json(env, &serde_json::json!({ "findings": findings }))
}

/// The table of error codes.
#[napi(js_name = "errorTable")]
pub fn error_table_json(env: Env) -> Result<String> {
    let rows: Vec<_> = error_table()
        .iter()
        .map(|row| {
            serde_json::json!({
                "number": row.number, "name": row.name,
                "retryable": row.retryable, "advice": row.advice,
            })
        })
        .collect();
    json(env, &serde_json::Value::Array(rows))
}

/// Version, commit, target and profile of this build.
#[napi]
pub fn build_info(env: Env) -> Result<String> {
    json(
        env,
        &serde_json::json!({
            "version": env!("CARGO_PKG_VERSION"),
            "sha": option_env!("ELGATE_BUILD_SHA").unwrap_or("unknown"),
            "target": format!("{}-{}", std::env::consts::ARCH, std::env::consts::OS),
            "profile": if cfg!(debug_assertions) { "debug" } else { "release" },
            "failpoints": cfg!(feature = "failpoints"),
        }),
    )
}
