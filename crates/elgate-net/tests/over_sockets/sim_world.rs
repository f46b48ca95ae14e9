//! Every scenario in the simulator, and then what only it can do: faults by seed, a dead network.

use crate::far_end::{Act, Script, answer};
use crate::scenarios::{self, OPTIONS};
use crate::sim_far_end::SimFarEnd;
use crate::world::World;
use elgate_io::Driver;
use elgate_io::sim::{FaultPlan, SimWorld};
use elgate_net::{ClientOptions, ExchangeError, Origin};
use std::net::SocketAddr;
use std::time::Duration;

fn address() -> SocketAddr {
    SocketAddr::from(([10, 1, 2, 3], 80))
}

fn far_test() -> Origin {
    Origin { host: "far.test".into(), port: 80 }
}

fn world_in(sim: &SimWorld, script: Script, options: ClientOptions) -> World {
    sim.add_host("far.test", vec![address()]);
    let mut driver = sim.driver();
    let (listener, _) = sim.platform().listen(address()).expect("a free address");
    let far_end = SimFarEnd::new(listener, script, &mut driver);
    World::new(Box::new(driver), Box::new(far_end), far_test(), options)
}

macro_rules! in_simulation {
    ($($scenario:ident)*) => { $(
        #[test]
        fn $scenario() {
            for seed in 0..20 {
                scenarios::$scenario(&|script, options| {
                    world_in(&SimWorld::new(seed), script, options)
                });
            }
        }
    )* };
}

in_simulation! {
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

/// Whatever connections do, every body arrives, and only lost connections are ever reported.
#[test]
fn every_body_arrives_through_resets_and_refusals() {
    let mut refusals = 0;
    for seed in 0..40 {
        let sim = SimWorld::new(seed);
        let script = Script::answer(|_| vec![Act::Send(answer(200, b"taken"))]);
        let options = ClientOptions { connections_max: 4, ..OPTIONS() };
        let mut world = world_in(&sim, script, options);
        sim.set_faults(FaultPlan {
            connect_error_per_mille: 100,
            reset_per_mille: 50,
            partial_transfer_per_mille: 300,
            ..FaultPlan::default()
        });
        let mut waiting: Vec<u8> = (0..50).collect();
        let mut under_way = Vec::new();
        let mut lost = 0;
        while !waiting.is_empty() || !under_way.is_empty() {
            while world.client.capacity() > 0
                && let Some(number) = waiting.pop()
            {
                under_way.push((world.start(&[number]), number));
            }
            let (id, result) = world.next_ended();
            let index = under_way.iter().position(|(other, _)| *other == id).expect("started");
            let (_, number) = under_way.swap_remove(index);
            match result {
                Ok(response) => assert_eq!(response.body_excerpt, b"taken", "seed {seed}"),
                Err(ExchangeError::ConnectionLost { .. } | ExchangeError::Connect { .. }) => {
                    lost += 1;
                    waiting.push(number);
                }
                Err(error) => panic!("seed {seed}: {error}"),
            }
        }
        let mut bodies = world.seen().bodies();
        bodies.sort_unstable();
        bodies.dedup();
        assert_eq!(bodies, (0..50_u8).map(|number| vec![number]).collect::<Vec<_>>());
        let counts = sim.fault_counts();
        assert!(lost > 0 && counts.resets > 0, "seed {seed} injected nothing: {counts:?}");
        refusals += counts.connect_errors;
        world.finish();
    }
    assert!(refusals > 0);
}

#[test]
fn a_dead_network_is_a_timeout_and_comes_back() {
    let sim = SimWorld::new(1);
    let script = Script::answer(|_| vec![Act::Send(answer(200, b""))]);
    let mut world = world_in(&sim, script, OPTIONS());
    sim.set_network_up(false);
    let error = world.exchange(b"x").expect_err("no network");
    assert!(matches!(error, ExchangeError::ConnectTimeout { .. }), "{error:?}");
    sim.set_network_up(true);
    assert_eq!(world.exchange(b"y").expect("an answer").status, 200);
    sim.set_network_up(false);
    let error = world.exchange(b"z").expect_err("no network");
    assert!(matches!(error, ExchangeError::ResponseTimeout { .. }), "{error:?}");
    sim.set_network_up(true);
    world.pause(Duration::from_secs(2));
    assert_eq!(world.exchange(b"z").expect("an answer").status, 200);
    world.finish();
}

#[test]
fn unknown_hosts_and_refused_addresses() {
    let script = Script::answer(|_| vec![Act::Send(answer(200, b""))]);
    let sim = SimWorld::new(1);
    let mut world = world_in(&sim, script, OPTIONS());
    sim.add_host("far.test", vec![SocketAddr::from(([10, 1, 2, 4], 80)), address()]);
    assert_eq!(world.exchange(b"x").expect("the second address answers").status, 200);

    for (host, resolves) in [("nowhere.test", false), ("10.1.2.4", true)] {
        let driver: Box<dyn Driver> = Box::new(sim.driver());
        let origin = Origin { host: host.into(), port: 80 };
        let (listener, _) =
            sim.platform().listen(SocketAddr::from(([10, 9, 9, 9], 80))).expect("free");
        let mut driver = driver;
        let far_end = SimFarEnd::new(listener, script, &mut *driver);
        let mut world = World::new(driver, Box::new(far_end), origin, OPTIONS());
        let error = world.exchange(b"x").expect_err("nobody there");
        assert!(error.before_request() && error.to_string().contains(host), "{error}");
        assert_eq!(matches!(error, ExchangeError::Connect { .. }), resolves, "{error:?}");
        world.finish();
    }
}
