//! A file route: every record once, in order, whatever happens in between.

mod common;

use common::{Place, append, eventually, name, status};
use elgate_engine::Engine;
use serde_json::json;
use std::io::Write;
use std::time::Duration;

fn routes() -> serde_json::Value {
    json!({ "access": { "sink": "file", "path": "a/access.log", "segment_bytes": 4_194_304 } })
}

#[test]
fn records_arrive_once_and_in_order_across_clean_restarts() {
    let place = Place::new();
    let mut expected = String::new();
    for run in 0..3 {
        let engine = place.open(routes());
        let client = place.client();
        let lines: Vec<String> = (0..500).map(|line| format!("run {run} line {line}")).collect();
        let lines: Vec<&str> = lines.iter().map(String::as_str).collect();
        let outcomes = append(&client, "access", &lines);
        let first = run * 500 + 1;
        assert!(
            outcomes.iter().enumerate().all(|(index, outcome)| {
                outcome.expect("acknowledged").0 == first + index as u64
            })
        );
        for line in lines {
            expected.push_str(line);
            expected.push('\n');
        }
        let closed = engine.close(Duration::from_secs(30)).expect("closes");
        assert!(closed.drained, "{closed:?}");
        assert_eq!(place.file("a/access.log"), expected);
    }
}

#[test]
fn an_engine_dropped_without_draining_repeats_nothing_and_forgets_nothing() {
    let place = Place::new();
    let mut expected = String::new();
    for run in 0..5 {
        let engine = place.open(routes());
        let client = place.client();
        for chunk in 0..4 {
            let line = format!("run {run} chunk {chunk}");
            append(&client, "access", &[&line]).pop().expect("one").expect("durable");
            expected.push_str(&line);
            expected.push('\n');
        }
        drop(client);
        drop(engine);
    }
    let engine = place.open(routes());
    eventually("everything is in the file", || place.file("a/access.log") == expected);
    assert!(engine.close(Duration::from_secs(30)).expect("closes").drained);
    assert_eq!(place.file("a/access.log"), expected);
}

#[test]
fn a_record_torn_at_the_files_end_is_written_again() {
    let place = Place::new();
    let engine = place.open(routes());
    append(&place.client(), "access", &["first", "second"]);
    engine.close(Duration::from_secs(30)).expect("closes");
    let path = place.path("out/a/access.log");
    // As after a crash between the cursor's save and a later write: the cursor says two records.
    // Rewind it by starting over with a copy of the state before the third.
    let engine = place.open(routes());
    let client = place.client();
    append(&client, "access", &["third"]);
    eventually("the third is there", || place.file("a/access.log") == "first\nsecond\nthird\n");
    let cursor = place.path("data/access/cursors/sink.cursor");
    engine.close(Duration::from_secs(30)).expect("closes");
    let saved = std::fs::read(&cursor).expect("a cursor");
    // Both slots are valid; blank the newer one, so that the older one counts.
    let newer = newer_slot(&saved);
    let mut older = saved;
    older[newer * 4_096..(newer + 1) * 4_096].fill(0);
    std::fs::write(&cursor, older).expect("rewound");
    let file = std::fs::OpenOptions::new().write(true).open(&path).expect("the file");
    file.set_len("first\nsecond\nthi".len() as u64).expect("torn");
    let engine = place.open(routes());
    eventually("it is whole again", || place.file("a/access.log") == "first\nsecond\nthird\n");
    engine.close(Duration::from_secs(30)).expect("closes");
}

#[test]
fn a_damaged_record_in_the_log_doubles_nothing_that_the_file_has() {
    let place = Place::new();
    let engine = place.open(routes());
    let client = place.client();
    append(&client, "access", &["first"]);
    engine.close(Duration::from_secs(30)).expect("closes");
    let cursor = place.path("data/access/cursors/sink.cursor");
    let saved = std::fs::read(&cursor).expect("a cursor");
    let engine = place.open(routes());
    append(&place.client(), "access", &["second, which rots"]);
    append(&place.client(), "access", &["third"]);
    let all = "first\nsecond, which rots\nthird\n";
    eventually("all are there", || place.file("a/access.log") == all);
    engine.close(Duration::from_secs(30)).expect("closes");
    // As after a crash before the cursor was saved, with one record damaged meanwhile.
    std::fs::write(&cursor, saved).expect("rewound");
    damage(&place.path("data/access"), b"second, which rots");
    let engine = place.open(routes());
    append(&place.client(), "access", &["fourth"]);
    eventually("it goes on", || place.file("a/access.log") == format!("{all}fourth\n"));
    engine.close(Duration::from_secs(30)).expect("closes");
    // Nothing had to read it: what the file has need not be delivered. Whoever does is told.
    let log = place.path("data/access");
    let platform = std::sync::Arc::new(elgate_io::OsPlatform::new());
    let mut reader =
        elgate_log::LogReader::open(platform, &log, elgate_log::ReadFrom::Start).expect("a log");
    let mut gaps = Vec::new();
    loop {
        match reader.next_batch().expect("reads") {
            elgate_log::ReadBatch::Gap { from, to, .. } => gaps.push((from.0, to.0)),
            elgate_log::ReadBatch::Records(_) => {}
            elgate_log::ReadBatch::CaughtUp => break,
        }
    }
    assert_eq!(gaps, [(2, 2)]);
    assert_eq!(place.file("a/access.log"), format!("{all}fourth\n"));
}

/// Flips a bit of `payload` where it lies in a log's segments.
fn damage(directory: &std::path::Path, payload: &[u8]) {
    for entry in std::fs::read_dir(directory).expect("a log").flatten() {
        let Ok(mut bytes) = std::fs::read(entry.path()) else { continue };
        if let Some(at) = bytes.windows(payload.len()).position(|window| window == payload) {
            bytes[at] ^= 1;
            std::fs::write(entry.path(), bytes).expect("damaged");
            return;
        }
    }
    panic!("the payload is in no segment");
}

fn newer_slot(cursor: &[u8]) -> usize {
    let generation = |slot: usize| {
        let at = slot * 4_096 + 8;
        u64::from_le_bytes(cursor[at..at + 8].try_into().expect("eight bytes"))
    };
    usize::from(generation(1) > generation(0))
}

#[test]
fn a_rotated_file_is_begun_anew() {
    let place = Place::new();
    let engine = place.open(routes());
    append(&place.client(), "access", &["old"]);
    engine.close(Duration::from_secs(30)).expect("closes");
    let path = place.path("out/a/access.log");
    std::fs::rename(&path, place.path("out/a/access.log.1")).expect("rotated");
    let engine = place.open(routes());
    append(&place.client(), "access", &["new"]);
    engine.close(Duration::from_secs(30)).expect("closes");
    assert_eq!(place.file("a/access.log"), "new\n");
    assert_eq!(place.file("a/access.log.1"), "old\n");
}

#[test]
fn what_others_append_is_kept() {
    let place = Place::new();
    let engine = place.open(routes());
    let client = place.client();
    append(&client, "access", &["one"]);
    eventually("it is written", || place.file("a/access.log") == "one\n");
    let path = place.path("out/a/access.log");
    let mut other = std::fs::OpenOptions::new().append(true).open(path).expect("the file");
    other.write_all(b"from elsewhere\n").expect("appended");
    append(&client, "access", &["two"]);
    eventually("both are there", || place.file("a/access.log") == "one\nfrom elsewhere\ntwo\n");
    engine.close(Duration::from_secs(30)).expect("closes");
}

#[test]
fn paths_that_leave_the_root_are_refused() {
    let place = Place::new();
    std::fs::create_dir_all(place.path("out")).expect("a root");
    std::fs::create_dir_all(place.path("elsewhere")).expect("another");
    std::os::unix::fs::symlink(place.path("elsewhere"), place.path("out/link")).expect("a link");
    let config = |path| place.config(json!({ "r": { "sink": "file", "path": path } }));
    for path in ["../escape.log", "/tmp/escape.log", "a/../../escape.log"] {
        let config = config(path);
        let error = Engine::open(&config).expect_err(path);
        assert_eq!(error.code().row().name, "ERR_ELGATE_PATH_OUTSIDE_ROOT", "{path}: {error}");
        assert!(error.to_string().contains(path), "{error}");
    }
    // What is on the disk may change: that is waited for.
    let engine = Engine::open(&config("link/escape.log")).expect("opens");
    let error = &status(&engine, "r")["last_error"];
    assert_eq!(error["code"], "ERR_ELGATE_PATH_OUTSIDE_ROOT", "{error}");
    engine.close(Duration::ZERO).expect("closes");
    assert!(!place.path("escape.log").exists() && !place.path("elsewhere/escape.log").exists());
}

#[test]
fn a_paused_route_takes_records_and_delivers_them_later() {
    let place = Place::new();
    let engine = place.open(routes());
    engine.pause(&name("access")).expect("pauses");
    append(&place.client(), "access", &["kept"]);
    assert_eq!(status(&engine, "access")["state"], "paused");
    assert_eq!(status(&engine, "access")["lag_records"], 1);
    assert_eq!(place.file("a/access.log"), "");
    engine.resume(&name("access")).expect("resumes");
    eventually("it is delivered", || place.file("a/access.log") == "kept\n");
    engine.close(Duration::from_secs(30)).expect("closes");
}

#[test]
fn large_and_empty_records_keep_their_bytes() {
    let place = Place::new();
    let engine = place.open(json!({
        "raw": { "sink": "file", "path": "raw", "framing": "none", "segment_bytes": 4_194_304 }
    }));
    let large = "x".repeat(elgate_types::limits::PAYLOAD_BYTES_MAX);
    let outcomes = append(&place.client(), "raw", &["a", "", &large, "z"]);
    assert!(outcomes.iter().all(Result::is_ok), "{outcomes:?}");
    engine.close(Duration::from_secs(30)).expect("closes");
    assert_eq!(place.file("raw"), format!("a{large}z"));
}
