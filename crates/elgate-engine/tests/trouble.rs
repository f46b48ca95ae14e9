//! Things that go wrong around a running engine.

mod common;

use common::far_end::{FarEnd, OK};
use common::{Place, append, eventually, name, status};
use elgate_engine::Engine;
use elgate_types::{ErrorCode, Lsn};
use serde_json::{Value, json};
use std::path::PathBuf;
use std::time::Duration;

fn keep() -> Value {
    json!({ "sink": "none", "segment_bytes": 4_194_304 })
}

fn file(flush: &str, more: &Value) -> Value {
    let mut route = json!({
        "sink": "file", "path": "f.log", "segment_bytes": 4_194_304, "flush": flush
    });
    for (key, value) in more.as_object().expect("an object") {
        route[key] = value.clone();
    }
    route
}

/// Lets a log prepare no further segment, until the directory goes.
fn forbid_segments(place: &Place, route: &str) -> PathBuf {
    let obstacle = place.path("data").join(route).join("segment.preparing");
    std::fs::create_dir_all(obstacle.join("in the way")).expect("an obstacle");
    obstacle
}

/// Fills what segments a route has, until its log is parked.
fn park(place: &Place, engine: &Engine, route: &str) -> elgate_client::Client {
    let client = place.client();
    append(&client, route, &["the first"]);
    forbid_segments(place, route);
    let handle = client.route(&name(route));
    let record = vec![b'x'; 64 * 1024];
    eventually("the log is parked", || {
        for _ in 0..16 {
            // Refused when the ring is full, which is as good.
            let _ = client.submit(handle, &[&record]);
        }
        status(engine, route)["state"] == "parked"
    });
    for _ in 0..16 {
        let _ = client.submit(handle, &[&record]);
    }
    client
}

#[test]
fn a_route_whose_log_is_parked_can_be_removed_and_comes_back() {
    let place = Place::new();
    let engine = place.open(json!({ "stuck": keep(), "other": keep() }));
    let client = park(&place, &engine, "stuck");
    let without = place.config(json!({ "other": keep() }));
    let reload = engine.apply_routes(&without.routes).expect("removes it");
    assert_eq!(reload.removed, [name("stuck")]);
    // Every submission is answered, and the ring is empty again.
    let mut answers = Vec::new();
    eventually("all are answered", || {
        client.drain(&mut answers);
        client.outstanding() == 0
    });
    assert!(answers.iter().any(|answer| answer.status == Some(ErrorCode::Timeout)));
    let rings = || engine.status().expect("a status").shards[0].rings[0].used_slots;
    eventually("the ring is empty", || rings() == 0);
    assert_eq!(append(&client, "other", &["x"]), [Ok(Lsn(1))]);

    std::fs::remove_dir_all(place.path("data/stuck/segment.preparing")).expect("out of the way");
    let both = place.config(json!({ "stuck": keep(), "other": keep() }));
    engine.apply_routes(&both.routes).expect("comes back");
    assert!(append(&client, "stuck", &["again"])[0].is_ok());
    engine.close(Duration::from_secs(5)).expect("closes");
}

#[test]
fn a_reload_repeats_nothing_in_the_file_of_a_route_that_does_not_sync() {
    let place = Place::new();
    let engine = place.open(json!({ "f": file("none", &json!({})) }));
    let client = place.client();
    append(&client, "f", &["one", "two", "three"]);
    eventually("it is delivered", || status(&engine, "f")["delivered_lsn"] == 3);
    let changed =
        place.config(json!({ "f": file("none", &json!({ "segment_bytes": 8_388_608 })) }));
    engine.apply_routes(&changed.routes).expect("reloads");
    append(&client, "f", &["four"]);
    engine.close(Duration::from_secs(5)).expect("closes");
    assert_eq!(place.file("f.log"), "one\ntwo\nthree\nfour\n");
}

#[test]
fn a_route_that_changes_its_sink_goes_on_where_it_was() {
    let place = Place::new();
    let far_end = FarEnd::start(|_, _| OK);
    let http = json!({ "sink": "http", "url": far_end.url, "segment_bytes": 4_194_304 });
    let engine = place.open(json!({ "f": file("auto", &json!({})) }));
    let client = place.client();
    let settled = |lsn: u64| {
        eventually("it is delivered", || status(&engine, "f")["delivered_lsn"] == lsn);
    };
    append(&client, "f", &["to the file"]);
    settled(1);
    engine.apply_routes(&place.config(json!({ "f": http })).routes).expect("reloads");
    append(&client, "f", &["to the far end"]);
    settled(2);
    let back = place.config(json!({ "f": file("auto", &json!({})) }));
    engine.apply_routes(&back.routes).expect("reloads");
    append(&client, "f", &["to the file again"]);
    settled(3);
    engine.close(Duration::from_secs(5)).expect("closes");
    assert_eq!(place.file("f.log"), "to the file\nto the file again\n");
}

#[test]
fn a_reload_mends_a_route_that_lost_its_sink() {
    let place = Place::new();
    let engine = place.open(json!({ "f": file("auto", &json!({})) }));
    let client = place.client();
    append(&client, "f", &["one"]);
    eventually("it is delivered", || status(&engine, "f")["delivered_lsn"] == 1);
    // Neither the new sink nor the old one can be opened.
    let cursors = place.path("data/f/cursors");
    let elsewhere = place.path("data/f/elsewhere");
    std::fs::rename(&cursors, &elsewhere).expect("out of reach");
    std::fs::write(&cursors, "in the way").expect("an obstacle");
    let changed = place.config(json!({ "f": file("auto", &json!({ "path": "g.log" })) }));
    let reload = engine.apply_routes(&changed.routes).expect("reloads");
    assert_eq!(reload.failed[0].name, name("f"), "{reload:?}");
    std::fs::remove_file(&cursors).expect("out of the way");
    std::fs::rename(&elsewhere, &cursors).expect("back");
    append(&client, "f", &["two"]);
    let same = place.config(json!({ "f": file("auto", &json!({})) }));
    engine.apply_routes(&same.routes).expect("reloads");
    eventually("it is delivered", || place.file("f.log") == "one\ntwo\n");
    engine.close(Duration::from_secs(5)).expect("closes");
}

#[test]
fn a_ring_that_cannot_be_replaced_yet_stops_nothing_else() {
    let mut place = Place::new();
    let rings = place.path("rings");
    std::fs::create_dir(&rings).expect("a directory");
    place.ring = rings.join("ring");
    let engine = place.open(json!({ "a": keep() }));
    let client = place.client();
    append(&client, "a", &["x"]);
    // Somebody scribbles over the tail while there is no room for another ring.
    let ring = std::fs::File::options().write(true).open(&place.ring).expect("the ring");
    std::fs::rename(&rings, place.path("elsewhere")).expect("out of reach");
    std::os::unix::fs::FileExt::write_all_at(&ring, &[0xff; 8], 0x80).expect("scribbled");
    for _ in 0..30 {
        engine.status().expect("the engine lives");
        std::thread::park_timeout(Duration::from_millis(100));
    }
    let turns = || engine.status().expect("a status").shards[0].turns_total;
    let before = turns();
    std::thread::park_timeout(Duration::from_millis(500));
    assert!(turns() - before < 5_000, "it spins");
    std::fs::rename(place.path("elsewhere"), &rings).expect("back");
    eventually("the ring is replaced", || {
        engine.status().expect("a status").shards[0].rings[0].replaced_total == 1
    });
    assert_eq!(append(&place.client(), "a", &["y"]), [Ok(Lsn(2))]);
    engine.close(Duration::from_secs(5)).expect("closes");
}

#[test]
fn a_ring_whose_name_is_gone_is_replaced() {
    let place = Place::new();
    let engine = place.open(json!({ "a": keep() }));
    let client = place.client();
    append(&client, "a", &["x"]);
    std::fs::remove_file(&place.ring).expect("removed");
    assert_eq!(append(&place.client(), "a", &["y"]), [Ok(Lsn(2))]);
    eventually("the old client follows", || {
        let handle = client.route(&name("a"));
        client.submit(handle, &[b"z"]).is_ok() && client.wait_acks(Duration::from_secs(1))
    });
    engine.close(Duration::from_secs(5)).expect("closes");
}

/// Submits records of 64 KiB that begin with a number, until the route takes no more.
fn crowd(
    client: &elgate_client::Client,
    route: &str,
    numbers: &mut std::ops::RangeFrom<u32>,
) -> u32 {
    let handle = client.route(&name(route));
    let mut taken = 0;
    eventually("producers are asked to wait", || {
        loop {
            let mut record = vec![b'x'; 64 * 1024];
            record[..4].copy_from_slice(&numbers.start.to_le_bytes());
            if client.submit(handle, &[&record]).is_err() {
                break;
            }
            numbers.next();
            taken += 1;
        }
        // Refused because the ring is full, or because the route is closed.
        !client.space_available(handle) && client.space_available(client.route(&name("other")))
    });
    taken
}

/// The numbers that the records of a log begin with, but for the first.
fn numbers_in(place: &Place, route: &str) -> Vec<u32> {
    let mut reader = elgate_log::LogReader::open(
        std::sync::Arc::new(elgate_io::OsPlatform::new()),
        &place.path("data").join(route),
        elgate_log::ReadFrom::Lsn(Lsn(2)),
    )
    .expect("opens");
    let mut found = Vec::new();
    while let elgate_log::ReadBatch::Records(batch) = reader.next_batch().expect("reads") {
        let number = |payload: &[u8]| u32::from_le_bytes(payload[..4].try_into().expect("four"));
        found.extend(batch.records().map(|record| number(record.payload)));
    }
    found
}

/// Closes the engine: the log of the route `stuck` then holds so many numbers.
fn close_with_each_once(engine: &Engine, place: &Place, taken: u32) {
    engine.close(Duration::from_secs(5)).expect("closes");
    let expected: Vec<u32> = (0..taken).collect();
    assert_eq!(numbers_in(place, "stuck"), expected, "each once, in order");
}

#[test]
fn a_parked_log_keeps_what_was_accepted_and_leaves_the_ring_to_the_others() {
    let place = Place::new();
    let routes = || json!({ "stuck": keep(), "other": keep() });
    let engine = place.open(routes());
    let client = place.client();
    append(&client, "stuck", &["the first"]);
    let obstacle = forbid_segments(&place, "stuck");
    let mut numbers = 0..;
    let taken = crowd(&client, "stuck", &mut numbers);
    assert!(taken > 32, "more than half of the ring: {taken}");
    let rings = |engine: &Engine| engine.status().expect("a status").shards[0].rings[0].clone();
    eventually("the ring is free for others", || rings(&engine).used_slots < 512);
    assert!(rings(&engine).set_aside > 0);
    // The whole ring turns over, several times.
    let other: Vec<String> = (0..3_000).map(|index| format!("{index}")).collect();
    let others: Vec<&str> = other.iter().map(String::as_str).collect();
    let neighbour = place.client();
    for some in others.chunks(500) {
        assert!(append(&neighbour, "other", some).iter().all(Result::is_ok));
    }
    // Nobody has been told anything else about what was accepted, and this process ends.
    let mut answers = Vec::new();
    client.drain(&mut answers);
    assert!(answers.iter().all(|answer| answer.status.is_none()), "{answers:?}");
    engine.close(Duration::from_millis(1)).expect("closes");

    std::fs::remove_dir_all(obstacle).expect("out of the way");
    let engine = place.open(routes());
    eventually("all that was accepted is durable", || {
        client.drain(&mut answers);
        client.outstanding() == 0
    });
    assert!(answers.iter().all(|answer| answer.status.is_none()));
    let of_stuck =
        answers.iter().filter(|one| client.route_name(one.route) == Some(&name("stuck")));
    assert_eq!(of_stuck.count() as u32, taken);
    assert_eq!(rings(&engine).set_aside, 0);
    close_with_each_once(&engine, &place, taken);
}

#[test]
fn a_parked_log_that_comes_back_takes_what_waited_and_opens_its_route() {
    let place = Place::new();
    let engine = place.open(json!({ "stuck": keep(), "other": keep() }));
    let client = place.client();
    append(&client, "stuck", &["the first"]);
    let obstacle = forbid_segments(&place, "stuck");
    let taken = crowd(&client, "stuck", &mut (0..));
    std::fs::remove_dir_all(obstacle).expect("out of the way");
    let handle = client.route(&name("stuck"));
    eventually("the route is open again", || client.space_available(handle));
    assert!(
        append(&client, "stuck", &["the last"])[0]
            .is_ok_and(|lsn| lsn == Lsn(u64::from(taken) + 2))
    );
    let ring = engine.status().expect("a status").shards[0].rings[0].clone();
    assert_eq!((ring.set_aside, ring.trouble), (0, None));
    engine.close(Duration::from_secs(5)).expect("closes");
}

#[test]
fn what_finds_no_room_aside_is_not_overtaken() {
    let place = Place::new();
    let engine = place.open(json!({ "stuck": keep(), "other": keep() }));
    let client = place.client();
    let handle = client.route(&name("stuck"));
    append(&client, "stuck", &["the first"]);
    let obstacle = forbid_segments(&place, "stuck");
    let ring = std::fs::File::options().write(true).open(&place.ring).expect("the ring");
    let mut taken = 0_u32;
    let mut submit = |bytes: usize| {
        let mut record = vec![b'x'; bytes];
        record[..4].copy_from_slice(&taken.to_le_bytes());
        // Being closed is a courtesy, which this producer does not know.
        std::os::unix::fs::FileExt::write_all_at(&ring, &[0; 4], 0x800).expect("scribbled");
        taken += u32::from(client.submit(handle, &[&record]).is_ok());
    };
    let rings = || engine.status().expect("a status").shards[0].rings[0].clone();
    eventually("nothing more finds room aside", || {
        submit(900_000);
        rings().trouble.is_some() && rings().used_slots > 512
    });
    // These are small enough to fit where the others do not.
    (0..8).for_each(|_| submit(100));
    std::thread::park_timeout(Duration::from_millis(200));
    engine.close(Duration::from_millis(1)).expect("closes");

    std::fs::remove_dir_all(obstacle).expect("out of the way");
    let engine = place.open(json!({ "stuck": keep(), "other": keep() }));
    let mut answers = Vec::new();
    eventually("all that was accepted is durable", || {
        client.drain(&mut answers);
        client.outstanding() == 0
    });
    close_with_each_once(&engine, &place, taken);
}

#[test]
fn a_stuck_route_of_another_shard_leaves_the_ring_to_the_others() {
    let place = Place::new();
    let routes = json!({ "stuck": keep(), "other": keep() });
    let config = place.config_with(routes, json!({ "shards": 2 }));
    let engine = Engine::open(&config).expect("the engine opens");
    append(&place.client(), "stuck", &["the first"]);
    let obstacle = forbid_segments(&place, "stuck");
    // A program that connected when the daemon had another number of shards.
    let elsewhere = 1 - (name("stuck").stable_hash() % 2) as u32;
    let ring = elgate_ring::ring_path(&place.ring, elsewhere);
    let producer = elgate_ring::Producer::attach(&ring).expect("attaches");
    let mut taken = 0_u32;
    let rings = || engine.status().expect("a status").shards[elsewhere as usize].rings[0].clone();
    eventually("the ring is free for others", || {
        loop {
            let mut record = vec![b'x'; 64 * 1024];
            record[..4].copy_from_slice(&taken.to_le_bytes());
            if producer.submit(&name("stuck"), u64::from(taken), &[&record]).is_err() {
                break;
            }
            taken += 1;
        }
        rings().set_aside > 0 && rings().used_slots < 512
    });
    assert!(!producer.has_space(&name("stuck")) && producer.has_space(&name("other")));
    std::fs::remove_dir_all(obstacle).expect("out of the way");
    eventually("the route is open again", || producer.has_space(&name("stuck")));
    eventually("nothing waits", || rings().set_aside == 0 && rings().used_slots == 0);
    close_with_each_once(&engine, &place, taken);
}

#[test]
fn a_sink_whose_cursor_is_lost_starts_over_and_says_so() {
    let far_end = FarEnd::start(|_, _| OK);
    let place = Place::new();
    let http = json!({ "sink": "http", "url": far_end.url, "segment_bytes": 4_194_304 });
    let routes = || json!({ "f": file("auto", &json!({})), "h": http.clone() });
    let engine = place.open(routes());
    let client = place.client();
    for route in ["f", "h"] {
        append(&client, route, &["one", "two"]);
        eventually("it is delivered", || status(&engine, route)["delivered_lsn"] == 2);
    }
    engine.close(Duration::from_secs(5)).expect("closes");
    for route in ["f", "h"] {
        std::fs::write(place.path(&format!("data/{route}/cursors/sink.cursor")), []).expect("cut");
    }
    let engine = place.open(routes());
    for route in ["f", "h"] {
        let error = status(&engine, route)["last_error"].clone();
        let message = error["message"].as_str().expect("a message");
        assert!(message.contains(&format!("{route}/cursors/sink.cursor.damaged")), "{message}");
        eventually("all is delivered again", || status(&engine, route)["delivered_lsn"] == 2);
    }
    eventually("the file has it", || place.file("f.log") == "one\ntwo\none\ntwo\n");
    engine.close(Duration::from_secs(5)).expect("closes");
}
