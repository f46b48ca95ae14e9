//! Files that are not a ring, or not ours: each is refused with what is wrong and what to do.

mod common;

use common::{Fixture, options, write_u64};
use elgate_ring::{Consumer, Producer, RingError, RingOptions, examine};
use elgate_types::ErrorCode;
use std::os::unix::fs::{FileExt, PermissionsExt, symlink};

/// Both sides refuse, with this code and these words.
fn assert_refused(fixture: &Fixture, code: ErrorCode, words: &str) {
    let consumer = Consumer::open(&fixture.path, &options()).expect_err("the consumer refuses");
    let producer = Producer::attach(&fixture.path).expect_err("the producer refuses");
    let tool = examine(&fixture.path).expect_err("the tool refuses");
    for error in [consumer, producer, tool] {
        let text = error.to_string();
        assert_eq!(error.code(), code, "{text}");
        assert!(text.contains(words), "{text:?} does not say {words:?}");
        let path = fixture.path.to_str().expect("UTF-8");
        assert!(text.contains(path), "{text:?} does not name the file");
    }
}

fn sound() -> Fixture {
    let fixture = Fixture::new();
    drop(fixture.consumer());
    fixture
}

#[test]
fn a_missing_ring_is_said_to_be_missing() {
    let fixture = Fixture::new();
    let error = Producer::attach(&fixture.path).expect_err("nothing there");
    assert_eq!(error.code(), ErrorCode::DaemonUnavailable);
    let nowhere = fixture.directory.path().join("no/such/place");
    let error = Consumer::open(&nowhere, &options()).expect_err("no directory");
    assert_eq!(error.code(), ErrorCode::Io);
}

#[test]
fn wrong_sizes() {
    for bytes in [0, 1, 4_096, 4 * 1024 * 1024 - 1, 4 * 1024 * 1024 + 1] {
        let fixture = sound();
        fixture.file().set_len(bytes).expect("resizes");
        assert_refused(&fixture, ErrorCode::RingIncompatible, &format!("it has {bytes} bytes"));
    }
}

#[test]
fn wrong_magic_version_and_geometry() {
    for (offset, value, words) in [
        (0x00_u64, 0_u32, "not with \"ELGRING1\""),
        (0x04, u32::from_le_bytes(*b"ING2"), "not with \"ELGRING1\""),
        (0x08, 2, "layout version 2, not 1"),
        (0x0c, 4_096, "4096 control bytes, not 16384"),
        (0x10, 8_192, "8192 slot bytes, not 4096"),
        (0x14, 1_021, "1021 slots, not 1020"),
    ] {
        let fixture = sound();
        fixture.file().write_all_at(&value.to_le_bytes(), offset).expect("writes");
        assert_refused(&fixture, ErrorCode::RingIncompatible, words);
    }
}

#[test]
fn files_that_others_may_open() {
    for mode in [0o660, 0o604, 0o602, 0o777] {
        let fixture = sound();
        fixture.file().set_permissions(PermissionsExt::from_mode(mode)).expect("changes");
        assert_refused(&fixture, ErrorCode::PermissionDenied, &format!("mode {mode:#o}"));
    }
}

#[test]
fn files_of_somebody_else() {
    let fixture = sound();
    if std::os::unix::fs::chown(&fixture.path, Some(65_534), None).is_err() {
        println!("skipped: only root can give a file away");
        return;
    }
    assert_refused(&fixture, ErrorCode::PermissionDenied, "it belongs to user 65534");
}

#[test]
fn things_that_are_not_files() {
    let fixture = Fixture::new();
    let elsewhere = Fixture::new();
    drop(elsewhere.consumer());
    symlink(&elsewhere.path, &fixture.path).expect("links");
    assert_refused(&fixture, ErrorCode::PermissionDenied, "symbolic link");
    std::fs::remove_file(&fixture.path).expect("removes");
    std::fs::create_dir(&fixture.path).expect("creates");
    let error = Consumer::open(&fixture.path, &options()).expect_err("a directory");
    assert!(matches!(error, RingError::Io { .. } | RingError::Untrusted { .. }), "{error}");
}

#[test]
fn options_out_of_range() {
    let fixture = Fixture::new();
    for (bad, words) in [
        (RingOptions { mode: 0o666, ..options() }, "mode 0o666"),
        (RingOptions { ring_count: 0, ..options() }, "ring_count 0"),
        (RingOptions { data_dir: "x".repeat(1_021), ..options() }, "1021 bytes, at most 1020"),
    ] {
        let error = Consumer::open(&fixture.path, &bad).expect_err("refused");
        assert_eq!(error.code(), ErrorCode::ConfigInvalid);
        assert!(error.to_string().contains(words), "{error}");
    }
    assert_eq!(fixture.names(), Vec::<String>::new(), "nothing was created");
}

#[test]
fn positions_that_make_no_sense_are_a_poisoned_ring_not_an_error() {
    for (offset, value) in [(0x80, 5_000_u64), (0x80, u64::MAX), (0x100, 7), (0x100, u64::MAX)] {
        let fixture = sound();
        write_u64(&fixture.file(), offset, value);
        let mut consumer = fixture.consumer();
        assert!(consumer.stats().poisoned, "{value} at {offset:#x}");
        assert!(common::try_pop(&mut consumer, 64).is_err());
        assert!(!consumer.prepare_sleep());
        assert_eq!(consumer.replace().expect("a fresh ring"), 0);
        assert!(common::try_pop(&mut consumer, 64).expect("sound").is_empty());
    }
}
