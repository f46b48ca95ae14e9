//! A route that cannot be opened stops no other, loses nothing, and comes back.

mod common;

use common::{Place, append, eventually, name, status};
use elgate_client::Client;
use elgate_engine::Engine;
use elgate_types::{ErrorCode, Lsn};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

fn keep() -> Value {
    json!({ "sink": "none", "segment_bytes": 4_194_304 })
}

fn file(path: &str) -> Value {
    json!({ "sink": "file", "path": path, "segment_bytes": 4_194_304 })
}

fn both() -> Value {
    json!({ "bad": keep(), "good": keep() })
}

/// Puts a file where the log of the route `bad` would be.
fn block(place: &Place) -> PathBuf {
    let obstacle = place.path("data/bad");
    std::fs::create_dir_all(place.path("data")).expect("a directory");
    std::fs::write(&obstacle, "in the way").expect("an obstacle");
    obstacle
}

fn submit(client: &Client, records: &[&str]) {
    let handle = client.route(&name("bad"));
    for record in records {
        client.submit(handle, &[record.as_bytes()]).expect("the ring takes it");
    }
}

/// What became of all that was submitted, once everything is answered.
fn answers(client: &Client) -> Vec<Option<ErrorCode>> {
    let mut answers = Vec::new();
    eventually("all is answered", || {
        client.drain(&mut answers);
        client.outstanding() == 0
    });
    answers.iter().map(|answer| answer.status).collect()
}

fn assert_failed(engine: &Engine, words: &str) {
    let bad = status(engine, "bad");
    assert_eq!(bad["state"], "failed", "{bad}");
    let message = bad["last_error"]["message"].as_str().expect("a message");
    assert!(message.contains(words) && message.contains("tried again every 10 s"), "{message}");
}

#[test]
fn a_log_that_cannot_be_opened_keeps_what_is_sent_until_a_reload_opens_it() {
    let place = Place::new();
    let obstacle = block(&place);
    let engine = place.open(both());
    let client = place.client();
    assert_failed(&engine, &obstacle.display().to_string());
    submit(&client, &["one", "two"]);
    assert_eq!(append(&place.client(), "good", &["x"]), [Ok(Lsn(1))]);
    for error in [
        engine.pause(&name("bad")).expect_err("not open"),
        engine.flush(&name("bad")).expect_err("not open"),
    ] {
        assert_eq!(error.code(), ErrorCode::LogUnavailable, "{error}");
    }
    let again = engine.apply_routes(&place.config(both()).routes).expect("reloads");
    assert_eq!(again.failed[0].name, name("bad"));
    assert!(again.failed[0].message.contains("data/bad"), "{again:?}");
    assert_eq!(client.outstanding(), 2, "nobody has been refused");

    std::fs::remove_file(obstacle).expect("out of the way");
    let again = engine.apply_routes(&place.config(both()).routes).expect("reloads");
    assert_eq!((again.failed.len(), again.unchanged.len()), (0, 2), "{again:?}");
    assert_eq!(answers(&client), [None, None]);
    assert_eq!(append(&client, "bad", &["three"]), [Ok(Lsn(3))]);
    assert_eq!(status(&engine, "bad")["state"], "running");
    engine.close(Duration::from_secs(5)).expect("closes");
}

#[test]
fn it_is_tried_again_without_being_asked() {
    let place = Place::new();
    std::fs::create_dir_all(place.path("out/f.log")).expect("a directory where the file goes");
    let engine = place.open(json!({ "bad": file("f.log"), "good": file("g.log") }));
    assert_failed(&engine, "out/f.log");
    let client = place.client();
    submit(&client, &["kept"]);
    append(&place.client(), "good", &["x"]);
    eventually("the other delivers", || place.file("g.log") == "x\n");
    std::fs::remove_dir(place.path("out/f.log")).expect("out of the way");
    assert_eq!(answers(&client), [None]);
    eventually("it is delivered", || place.file("f.log") == "kept\n");
    engine.close(Duration::from_secs(5)).expect("closes");
}

#[test]
fn what_waits_for_it_outlives_the_engine() {
    let place = Place::new();
    let obstacle = block(&place);
    let engine = place.open(both());
    let client = place.client();
    submit(&client, &["one", "two"]);
    let closed = engine.close(Duration::from_millis(1)).expect("closes");
    assert_eq!(closed.undelivered.get(&name("bad")), Some(&2));
    std::fs::remove_file(obstacle).expect("out of the way");
    let engine = place.open(both());
    assert_eq!(answers(&client), [None, None]);
    assert_eq!(status(&engine, "bad")["durable_lsn"], 2);
    engine.close(Duration::from_secs(5)).expect("closes");
}

#[test]
fn removing_it_answers_that_the_outcome_is_unknown() {
    let place = Place::new();
    block(&place);
    let engine = place.open(both());
    let client = place.client();
    submit(&client, &["one", "two"]);
    eventually("it waits", || status(&engine, "bad")["memory_bytes"] != 0);
    let without = place.config(json!({ "good": keep() }));
    let reload = engine.apply_routes(&without.routes).expect("reloads");
    assert_eq!(reload.removed, [name("bad")]);
    assert_eq!(answers(&client), [Some(ErrorCode::Timeout); 2]);
    assert_eq!(append(&client, "bad", &["x"]), [Err(ErrorCode::RouteUnknown)]);
    engine.close(Duration::from_secs(5)).expect("closes");
}

#[test]
fn its_producers_leave_the_ring_to_the_others() {
    let place = Place::new();
    let obstacle = block(&place);
    let engine = place.open(both());
    let client = place.client();
    let (bad, good) = (client.route(&name("bad")), client.route(&name("good")));
    let rings = || engine.status().expect("a status").shards[0].rings[0].clone();
    let mut taken = 0;
    eventually("producers are asked to wait", || {
        while client.submit(bad, &[&[b'x'; 64 * 1024]]).is_ok() {
            taken += 1;
        }
        !client.space_available(bad) && client.space_available(good)
    });
    eventually("the ring is free for others", || rings().used_slots < 512);
    assert!(rings().set_aside > 0);
    assert_eq!(append(&place.client(), "good", &["x"]), [Ok(Lsn(1))]);

    std::fs::remove_file(obstacle).expect("out of the way");
    engine.apply_routes(&place.config(both()).routes).expect("reloads");
    eventually("its producers may go on", || client.space_available(bad));
    assert_eq!(answers(&client), vec![None; taken]);
    assert_eq!(rings().set_aside, 0);
    engine.close(Duration::from_secs(5)).expect("closes");
}

#[test]
fn a_reload_goes_on_with_the_others() {
    let place = Place::new();
    let engine =
        place.open(json!({ "changed": file("old.log"), "good": file("g.log"), "gone": keep() }));
    let client = place.client();
    block(&place);
    std::fs::create_dir_all(place.path("out/directory")).expect("a directory");
    let wanted = place.config(json!({
        "bad": keep(), "changed": file("directory"), "good": file("h.log"), "new": keep()
    }));
    let reload = engine.apply_routes(&wanted.routes).expect("reloads");
    let failed: Vec<_> = reload.failed.iter().map(|failure| failure.name.as_str()).collect();
    assert_eq!(failed, ["bad", "changed"], "{reload:?}");
    assert_eq!((reload.removed, reload.changed), (vec![name("gone")], vec![name("good")]));
    assert_eq!(reload.added, [name("bad"), name("new")]);
    append(&client, "changed", &["x"]);
    append(&client, "good", &["y"]);
    append(&client, "new", &["z"]);
    eventually("the old sink goes on", || place.file("old.log") == "x\n");
    eventually("the new one is there", || place.file("h.log") == "y\n");
    engine.close(Duration::from_secs(5)).expect("closes");
}
