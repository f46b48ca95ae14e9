//! An HTTP route: at least once, in order, with one key per record, whatever the far end does.

mod common;

use common::far_end::{Answer, FarEnd, OK};
use common::{Place, append, eventually, name, status};
use serde_json::{Value, json};
use std::time::Duration;

const UNAVAILABLE: Answer =
    Answer::Send("HTTP/1.1 503 Service Unavailable\r\nContent-Length: 5\r\n\r\nlater");
const BAD_REQUEST: Answer =
    Answer::Send("HTTP/1.1 400 Bad Request\r\nContent-Length: 6\r\n\r\nno: x\n");

fn route(far_end: &FarEnd, more: Value) -> Value {
    let mut route = json!({
        "sink": "http", "url": far_end.url, "segment_bytes": 4_194_304,
        "retry": { "initial_ms": 1, "max_ms": 20, "max_attempts": 0 }
    });
    for (key, value) in more.as_object().expect("an object") {
        route[key] = value.clone();
    }
    json!({ "hooks": route })
}

#[test]
fn records_are_posted_in_order_under_their_own_key() {
    let far_end = FarEnd::start(|_, _| OK);
    let place = Place::new();
    let engine = place.open(route(
        &far_end,
        json!({
            "content_type": "application/json", "headers": { "X-Team": "blue" }
        }),
    ));
    append(&place.client(), "hooks", &["{\"a\":1}", "{\"a\":2}", "{\"a\":3}"]);
    assert!(engine.close(Duration::from_secs(30)).expect("closes").drained);
    let seen = far_end.seen();
    assert_eq!(far_end.bodies(), ["{\"a\":1}", "{\"a\":2}", "{\"a\":3}"]);
    let keys: Vec<_> = seen.iter().map(|request| request.key.as_str()).collect();
    assert_eq!(keys, ["hooks/1", "hooks/2", "hooks/3"]);
    assert!(seen[0].head.starts_with("POST /in?x=1 HTTP/1.1\r\n"), "{}", seen[0].head);
    let head = seen[0].head.to_ascii_lowercase();
    assert!(head.contains("content-type: application/json") && head.contains("x-team: blue"));
}

#[test]
fn every_kind_of_bad_answer_is_retried_in_order() {
    let far_end = FarEnd::start(|_, before| match before {
        0 => UNAVAILABLE,
        1 => Answer::Hang,
        2 => Answer::Send("this is not HTTP\r\n\r\n"),
        3 => Answer::Send("HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab"),
        4 => BAD_REQUEST,
        _ => OK,
    });
    let place = Place::new();
    let engine = place.open(route(&far_end, json!({})));
    append(&place.client(), "hooks", &["first", "second"]);
    eventually("both are delivered", || status(&engine, "hooks")["delivered_lsn"] == 2);
    let bodies = far_end.bodies();
    assert_eq!(bodies[..5], ["first", "first", "first", "first", "first"]);
    assert_eq!(bodies[5..], ["first", "second"]);
    assert!(far_end.seen()[..6].iter().all(|request| request.key == "hooks/1"));
    let status = status(&engine, "hooks");
    assert_eq!((&status["retries_total"], &status["refused_total"]), (&json!(5), &json!(1)));
    engine.close(Duration::from_secs(30)).expect("closes");
}

#[test]
fn a_silent_far_end_costs_a_timeout_and_then_a_retry() {
    let far_end = FarEnd::start(|_, before| if before == 0 { Answer::Silence } else { OK });
    let place = Place::new();
    let engine = place.open(route(&far_end, json!({ "timeout_ms": 100 })));
    append(&place.client(), "hooks", &["patience"]);
    eventually("it is delivered", || status(&engine, "hooks")["delivered_lsn"] == 1);
    assert_eq!(far_end.bodies(), ["patience", "patience"]);
    engine.close(Duration::from_secs(30)).expect("closes");
}

#[test]
fn a_refused_connection_is_named_and_nothing_is_lost() {
    let place = Place::new();
    let far_end = FarEnd::start(|_, _| OK);
    let gone = "http://127.0.0.1:9/";
    let engine = place.open(json!({ "hooks": {
        "sink": "http", "url": gone, "segment_bytes": 4_194_304,
        "retry": { "initial_ms": 1, "max_ms": 20, "max_attempts": 0 }
    } }));
    append(&place.client(), "hooks", &["kept"]);
    eventually("the trouble is told", || {
        status(&engine, "hooks")["last_error"]["message"]
            .as_str()
            .is_some_and(|text| text.contains("127.0.0.1:9"))
    });
    assert_eq!(status(&engine, "hooks")["state"], "retrying");
    // The way out: correct the route while it runs.
    let routes = place.config(route(&far_end, json!({}))).routes;
    let reload = engine.apply_routes(&routes).expect("reloads");
    assert_eq!(reload.changed, [name("hooks")]);
    eventually("it is delivered", || far_end.bodies() == ["kept"]);
    engine.close(Duration::from_secs(30)).expect("closes");
}

#[test]
fn used_up_attempts_stop_the_route_until_it_is_resumed() {
    let far_end = FarEnd::start(|_, before| if before < 3 { BAD_REQUEST } else { OK });
    let place = Place::new();
    let retry = json!({ "retry": { "initial_ms": 1, "max_ms": 2, "max_attempts": 3 } });
    let engine = place.open(route(&far_end, retry));
    append(&place.client(), "hooks", &["stubborn", "next"]);
    eventually("the route stops", || status(&engine, "hooks")["state"] == "stopped");
    let error = status(&engine, "hooks")["last_error"].clone();
    assert_eq!(error["code"], "ERR_ELGATE_DELIVERY_REFUSED");
    let message = error["message"].as_str().expect("a message");
    assert!(message.contains("400") && message.contains("resume"), "{message}");
    assert_eq!(far_end.bodies(), ["stubborn", "stubborn", "stubborn"]);
    engine.resume(&name("hooks")).expect("resumes");
    eventually("both are delivered", || status(&engine, "hooks")["delivered_lsn"] == 2);
    engine.close(Duration::from_secs(30)).expect("closes");
}

#[test]
fn without_order_a_slow_record_delays_no_other() {
    let far_end =
        FarEnd::start(|request, _| if request.body == "slow" { Answer::Silence } else { OK });
    let place = Place::new();
    let engine = place
        .open(route(&far_end, json!({ "order": "none", "concurrency": 4, "timeout_ms": 60_000 })));
    append(&place.client(), "hooks", &["slow", "a", "b", "c", "d", "e", "f"]);
    eventually("the others arrive", || {
        let mut bodies = far_end.bodies();
        bodies.sort();
        bodies == ["a", "b", "c", "d", "e", "f", "slow"]
    });
    // The delivered prefix does not pass the record that is still under way.
    assert_eq!(status(&engine, "hooks")["delivered_lsn"], 0);
    drop(engine);
}

#[test]
fn a_dropped_engine_repeats_only_under_the_same_key() {
    let far_end = FarEnd::start(|_, _| OK);
    let place = Place::new();
    for run in 0..3 {
        let engine = place.open(route(&far_end, json!({})));
        let line = format!("run {run}");
        append(&place.client(), "hooks", &[&line]);
        eventually("it arrives", || far_end.bodies().contains(&line));
        drop(engine);
    }
    let engine = place.open(route(&far_end, json!({})));
    assert!(engine.close(Duration::from_secs(30)).expect("closes").drained);
    let mut pairs: Vec<_> =
        far_end.seen().into_iter().map(|request| (request.key, request.body)).collect();
    pairs.sort();
    pairs.dedup();
    let expected: Vec<_> =
        (0..3).map(|run| (format!("hooks/{}", run + 1), format!("run {run}"))).collect();
    assert_eq!(pairs, expected);
}
