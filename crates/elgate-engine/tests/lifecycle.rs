//! Starting, reloading, stopping, and who may do it.

mod common;

use common::{Place, append, eventually, name, status};
use elgate_engine::Engine;
use elgate_types::{ErrorCode, Lsn};
use serde_json::json;
use std::time::Duration;

fn keep() -> serde_json::Value {
    json!({ "sink": "none", "segment_bytes": 4_194_304 })
}

#[test]
fn a_second_engine_is_refused_the_data_directory_and_the_ring() {
    let place = Place::new();
    let engine = place.open(json!({ "a": keep() }));
    let error = Engine::open(&place.config(json!({ "a": keep() }))).expect_err("refused");
    assert_eq!(error.code(), ErrorCode::InUse);
    assert!(error.to_string().contains(&std::process::id().to_string()), "{error}");

    let mut config = place.config(json!({ "a": keep() }));
    config.data_dir = place.path("other");
    let error = Engine::open(&config).expect_err("refused");
    assert_eq!(error.code(), ErrorCode::InUse, "{error}");
    assert!(error.to_string().contains("elgate-test"), "{error}");
    engine.close(Duration::ZERO).expect("closes");
    Engine::open(&config).expect("now it is free").close(Duration::ZERO).expect("closes");
}

#[test]
fn an_unknown_route_is_an_error_of_that_submission_alone() {
    let place = Place::new();
    let engine = place.open(json!({ "a": keep() }));
    let client = place.client();
    assert_eq!(append(&client, "nowhere", &["x"]), [Err(ErrorCode::RouteUnknown)]);
    assert_eq!(append(&client, "a", &["x"]), [Ok(Lsn(1))]);
    engine.close(Duration::ZERO).expect("closes");
}

#[test]
fn what_waits_in_the_ring_is_taken_at_the_next_start() {
    let place = Place::new();
    let engine = place.open(json!({ "a": keep() }));
    let client = place.client();
    drop(engine);
    let handle = client.route(&name("a"));
    for _ in 0..10 {
        client.submit(handle, &[b"left behind"]).expect("the ring takes it without an engine");
    }
    let engine = place.open(json!({ "a": keep() }));
    eventually("they are taken", || status(&engine, "a")["durable_lsn"] == 10);
    engine.close(Duration::ZERO).expect("closes");
}

#[test]
fn reload_adds_removes_and_keeps_while_records_flow() {
    let place = Place::new();
    let engine = place.open(json!({ "a": keep(), "b": keep() }));
    let client = place.client();
    let before: Vec<_> = append(&client, "a", &["1"; 50]);
    assert!(before.iter().all(Result::is_ok));

    let wanted = place.config(json!({
        "a": keep(), "c": { "sink": "file", "path": "c.log", "segment_bytes": 4_194_304 }
    }));
    let reload = engine.apply_routes(&wanted.routes).expect("reloads");
    assert_eq!((reload.added, reload.removed), (vec![name("c")], vec![name("b")]));
    assert_eq!(reload.unchanged, [name("a")]);
    assert_eq!(append(&client, "a", &["2"]), [Ok(Lsn(51))]);
    assert_eq!(append(&client, "b", &["2"]), [Err(ErrorCode::RouteUnknown)]);
    assert_eq!(append(&client, "c", &["new"]), [Ok(Lsn(1))]);

    // A route that comes back finds its log again.
    engine.apply_routes(&place.config(json!({ "a": keep(), "b": keep() })).routes).expect("back");
    assert_eq!(append(&client, "b", &["3"]), [Ok(Lsn(1))]);
    engine.close(Duration::from_secs(5)).expect("closes");
}

#[test]
fn a_bad_reload_changes_nothing() {
    let place = Place::new();
    let engine = place.open(json!({ "a": keep() }));
    let bad = place.config(json!({
        "a": keep(), "x": { "sink": "file", "path": "../x", "segment_bytes": 4_194_304 }
    }));
    let error = engine.apply_routes(&bad.routes).expect_err("refused");
    assert_eq!(error.code(), ErrorCode::PathOutsideRoot);
    let changed = place.config(json!({
        "a": { "sink": "file", "path": "../a", "segment_bytes": 4_194_304 }
    }));
    assert!(engine.apply_routes(&changed.routes).is_err());
    let client = place.client();
    assert_eq!(append(&client, "a", &["still here"]), [Ok(Lsn(1))]);
    assert_eq!(append(&client, "x", &["not here"]), [Err(ErrorCode::RouteUnknown)]);
    engine.close(Duration::ZERO).expect("closes");
}

#[test]
fn several_shards_serve_their_own_routes() {
    let place = Place::new();
    let routes: serde_json::Map<_, _> =
        (0..8).map(|index| (format!("route-{index}"), keep())).collect();
    let runtime = json!({ "mode": "pinned-sharded", "shards": 3 });
    let config = place.config_with(routes.into(), runtime);
    let engine = Engine::open(&config).expect("opens");
    let client = place.client();
    for index in 0..8 {
        let route = format!("route-{index}");
        assert_eq!(append(&client, &route, &["x", "y"]), [Ok(Lsn(1)), Ok(Lsn(2))]);
    }
    let status = engine.status().expect("a status");
    assert_eq!((status.shards.len(), status.routes.len()), (3, 8));
    assert!(status.routes.iter().all(|route| route.durable_lsn == Lsn(2)));
    engine.close(Duration::ZERO).expect("closes");
}

#[test]
fn submissions_left_on_another_shards_ring_find_their_route() {
    let place = Place::new();
    let routes: serde_json::Map<_, _> =
        (0..8).map(|index| (format!("route-{index}"), keep())).collect();
    let with = |shards: usize| {
        let runtime = json!({ "mode": "pinned-sharded", "shards": shards });
        Engine::open(&place.config_with(routes.clone().into(), runtime)).expect("opens")
    };
    let engine = with(3);
    let client = place.client();
    let handles: Vec<_> =
        (0..8).map(|index| client.route(&name(&format!("route-{index}")))).collect();
    drop(engine);
    for handle in handles {
        client.submit(handle, &[b"x"]).expect("the rings take it");
    }
    for shards in [1, 4] {
        let engine = with(shards);
        eventually("every route has its record", || {
            (0..8).all(|index| status(&engine, &format!("route-{index}"))["durable_lsn"] == 1)
        });
        drop(engine);
    }
}

#[test]
fn a_pinned_shard_says_where_the_kernel_put_it() {
    let place = Place::new();
    let runtime = json!({ "mode": "pinned-sharded", "shards": 1 });
    let engine = Engine::open(&place.config_with(json!({}), runtime)).expect("opens");
    let last = *elgate_engine::cores_of_current_thread().last().expect("a core");
    let status = engine.status().expect("a status");
    assert_eq!(status.shards[0].pinned_core, Some(last));
    engine.close(Duration::ZERO).expect("closes");
}

#[test]
fn the_stub_delivers_nothing_anywhere() {
    let place = Place::new();
    let runtime = json!({ "mode": "test-stub" });
    let routes = json!({
        "f": { "sink": "file", "path": "f.log", "segment_bytes": 4_194_304 },
        "h": { "sink": "http", "url": "http://127.0.0.1:9/", "segment_bytes": 4_194_304 }
    });
    let engine = Engine::open(&place.config_with(routes, runtime)).expect("opens");
    let client = place.client();
    append(&client, "f", &["x"]);
    append(&client, "h", &["x"]);
    assert!(engine.close(Duration::from_secs(5)).expect("closes").drained);
    assert!(!place.path("out/f.log").exists());
}

#[test]
fn an_idle_engine_sleeps() {
    let place = Place::new();
    let engine = place.open(json!({ "a": keep() }));
    append(&place.client(), "a", &["x"]);
    let turns = || engine.status().expect("a status").shards[0].turns_total;
    eventually("the shard comes to rest", || {
        let before = turns();
        std::thread::park_timeout(Duration::from_millis(300));
        // Asking wakes it and makes it spin for 20 µs; spinning on would be 100,000s of turns.
        turns() - before < 2_000
    });
    engine.close(Duration::ZERO).expect("closes");
}

#[test]
fn flush_modes_promise_what_they_keep() {
    let place = Place::new();
    let route = |flush: &str| json!({ "sink": "none", "segment_bytes": 4_194_304, "flush": flush });
    let engine = place.open(json!({ "manual": route("manual"), "none": route("none") }));
    let client = place.client();
    // Acknowledged as accepted: written, not synced.
    assert_eq!(append(&client, "manual", &["x"]), [Ok(Lsn(1))]);
    assert_eq!(append(&client, "none", &["x"]), [Ok(Lsn(1))]);
    assert_eq!(status(&engine, "manual")["durable_lsn"], 0);
    engine.flush(&name("manual")).expect("flushes");
    assert_eq!(status(&engine, "manual")["durable_lsn"], 1);
    engine.close(Duration::ZERO).expect("closes");
}
