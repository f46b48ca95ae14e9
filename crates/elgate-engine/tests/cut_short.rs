//! Somebody cuts a mapped file short under a running engine. Each case runs in a process of its own:
//! what is tested is that it does not die of it.

mod common;

use common::{Place, append, eventually, name, status};
use elgate_log::{LogReader, ReadBatch, ReadError, ReadFrom};
use elgate_types::{ErrorCode, Lsn};
use serde_json::json;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};
use std::sync::Arc;
use std::time::Duration;

const CASE: &str = "ELGATE_CUT_SHORT";

/// Runs this file's `case` again as a process of its own.
fn run(case: &str) -> (ExitStatus, String) {
    let program = std::env::current_exe().expect("a program");
    let output = Command::new(program)
        .args(["--exact", "a_case", "--nocapture"])
        .env(CASE, case)
        .output()
        .expect("it starts");
    let text = [output.stdout, output.stderr].concat();
    (output.status, String::from_utf8_lossy(&text).into_owned())
}

fn cut(path: &Path) {
    let file = File::options().write(true).open(path).expect("opens");
    file.set_len(0).expect("cuts it short");
}

#[test]
fn a_case() {
    match std::env::var(CASE).as_deref() {
        Ok("head") => head(),
        Ok("ring") => ring(),
        Ok("other") => other(),
        _ => {}
    }
}

#[test]
fn a_head_file_costs_its_tailers_an_error_and_the_writer_nothing() {
    let (status, text) = run("head");
    assert!(status.success(), "{status}: {text}");
}

fn head() {
    let place = Place::new();
    let engine = place.open(json!({ "a": { "sink": "none", "segment_bytes": 4_194_304 } }));
    let client = place.client();
    append(&client, "a", &["one"]);
    let directory = place.path("data/a");
    let open = || {
        let platform = Arc::new(elgate_io::OsPlatform::new());
        LogReader::open(platform, &directory, ReadFrom::Start).expect("opens")
    };
    let mut tailer = open();
    assert!(matches!(tailer.next_batch(), Ok(ReadBatch::Records(_))));
    cut(&directory.join("head"));
    tailer.wait(Duration::from_millis(10));
    let error = tailer.next_batch().expect_err("it says so");
    assert!(matches!(&error, ReadError::HeadLost { .. }) && error.code() == ErrorCode::Io);
    assert!(error.to_string().contains("a/head was cut short"), "{error}");

    assert_eq!(append(&client, "a", &["two"]), [Ok(Lsn(2))]);
    eventually("status says so", || {
        let error = status(&engine, "a")["last_error"]["message"].clone();
        error.as_str().is_some_and(|it| it.contains("a/head was cut short") && it.contains("whole"))
    });
    assert_eq!(append(&client, "a", &["three"]), [Ok(Lsn(3))]);
    let mut tailer = open();
    let mut last = Lsn::ZERO;
    eventually("another tailer follows", || {
        if let ReadBatch::Records(batch) = tailer.next_batch().expect("reads") {
            last = batch.last_lsn();
        }
        last == Lsn(3)
    });
    assert_eq!(append(&client, "a", &["four"]), [Ok(Lsn(4))]);
    assert!(tailer.wait(Duration::from_secs(5)), "it hears of what comes");
    engine.close(Duration::from_secs(5)).expect("closes");
}

#[test]
fn a_ring_is_replaced() {
    let (status, text) = run("ring");
    assert!(status.success(), "{status}: {text}");
}

fn ring() {
    let place = Place::new();
    let engine = place.open(json!({ "a": { "sink": "none", "segment_bytes": 4_194_304 } }));
    let client = place.client();
    append(&client, "a", &["one"]);
    cut(&place.ring);
    let handle = client.route(&name("a"));
    eventually("the client follows to another ring", || match client.submit(handle, &[b"two"]) {
        Ok(_) => true,
        Err(error) => {
            let names_it = error.to_string().contains(place.ring.to_str().expect("a name"));
            assert!(names_it || error.code() == ErrorCode::RingCorrupt, "{error}");
            false
        }
    });
    eventually("it is durable", || status(&engine, "a")["durable_lsn"] == 2);
    let rings = engine.status().expect("a status").shards[0].rings.clone();
    assert_eq!(rings[0].replaced_total, 1);
    engine.close(Duration::from_secs(5)).expect("closes");
}

#[test]
fn another_maps_fault_ends_the_process_as_ever() {
    let (status, text) = run("other");
    assert_eq!(status.signal(), Some(libc::SIGBUS), "{status}: {text}");
}

fn other() {
    let place = Place::new();
    let engine = place.open(json!({ "a": { "sink": "none", "segment_bytes": 4_194_304 } }));
    let path = place.path("other");
    std::fs::write(&path, [1; 4_096]).expect("written");
    let file = File::options().read(true).open(&path).expect("opens");
    let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
    let (access, flags) = (libc::PROT_READ, libc::MAP_SHARED);
    // SAFETY: a fresh mapping of an open file.
    let map = unsafe { libc::mmap(std::ptr::null_mut(), 4_096, access, flags, fd, 0) };
    cut(&path);
    // SAFETY: mapped just now; that nothing is behind it any more is the point.
    let byte = unsafe { map.cast::<u8>().read_volatile() };
    drop(engine);
    panic!("read {byte} where nothing is");
}
