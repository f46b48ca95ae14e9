//! Every scenario over TCP of this machine, on both real backends.

use crate::far_end::{Act, Script, answer};
use crate::scenarios::{self, OPTIONS};
use crate::tcp_far_end::TcpFarEnd;
use crate::world::World;
use elgate_io::{BackendChoice, Driver, DriverOptions, open_driver};
use elgate_net::{ClientOptions, ExchangeError, Origin};
use std::net::TcpListener;

/// `None`: this machine does not have that backend, and the test is skipped, aloud.
#[expect(clippy::print_stderr, reason = "a skipped test says so")]
fn driver(choice: BackendChoice) -> Option<Box<dyn Driver>> {
    open_driver(choice, &DriverOptions::default())
        .inspect_err(|error| eprintln!("skipped on {choice:?}: {error}"))
        .ok()
}

fn world(driver: Box<dyn Driver>, script: Script, options: ClientOptions) -> World {
    let far_end = TcpFarEnd::new(script);
    let origin =
        Origin { host: far_end.address().ip().to_string(), port: far_end.address().port() };
    World::new(driver, Box::new(far_end), origin, options)
}

macro_rules! on_backends {
    ($($scenario:ident)*) => {
        mod uring {
            $(#[test] fn $scenario() { super::run(super::BackendChoice::Uring, super::scenarios::$scenario); })*
        }
        mod poll {
            $(#[test] fn $scenario() { super::run(super::BackendChoice::Poll, super::scenarios::$scenario); })*
        }
    };
}

fn run(choice: BackendChoice, scenario: fn(scenarios::Make<'_>)) {
    if driver(choice).is_some() {
        scenario(&|script, options| {
            world(driver(choice).expect("it opened just now"), script, options)
        });
    }
}

on_backends! {
    keep_alive
    closing_after_each_response
    closing_without_a_word
    silence
    dribbling
    garbage
    reset_midway
    continue_and_chunks
    big_bodies_both_ways
    a_body_over_the_limit
    concurrency
    refusal_before_the_request_is_read
}

#[test]
fn names_are_resolved_and_refusals_reported() {
    for choice in [BackendChoice::Uring, BackendChoice::Poll] {
        let script = Script::answer(|_| vec![Act::Send(answer(200, b""))]);
        let world_of = |host: &str, port: u16| {
            let far_end = TcpFarEnd::new(script);
            let port = if port == 0 { far_end.address().port() } else { port };
            let origin = Origin { host: host.into(), port };
            Some(World::new(driver(choice)?, Box::new(far_end), origin, OPTIONS()))
        };
        // Perhaps ::1 first, where nobody listens.
        let Some(mut world) = world_of("localhost", 0) else { continue };
        assert_eq!(world.exchange(b"x").expect("an answer").status, 200);
        world.finish();

        let unused = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let port = unused.local_addr().expect("bound").port();
        drop(unused);
        let mut world = world_of("127.0.0.1", port).expect("as before");
        let error = world.exchange(b"x").expect_err("nobody listens");
        assert!(matches!(error, ExchangeError::Connect { .. }), "{error:?}");
        assert!(error.to_string().contains(&format!("127.0.0.1:{port}")), "{error}");
        world.finish();

        // Too long for a label of any name: refused without asking anybody.
        let mut world = world_of(&format!("{}.test", "x".repeat(64)), 80).expect("as before");
        let error = world.exchange(b"x").expect_err("no such name");
        assert!(matches!(error, ExchangeError::Resolve { .. }), "{error:?}");
        world.finish();
    }
}
