//! What a seed decides before anything happens: which engine there is, what it is asked to do, and
//! what is done to it.

use crate::dice::Dice;
use elgate_engine::{RouteConfig, SinkKind};
use elgate_io::sim::{FaultPlan, LatencyRange};
use elgate_types::{FlushMode, RouteName};
use serde_json::json;
use std::fmt;

/// Everything a seed decides.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) shards: usize,
    pub(crate) routes: Vec<RoutePlan>,
    pub(crate) producers: usize,
    /// Submissions of all producers together.
    pub(crate) submissions: u64,
    pub(crate) bulk: bool,
    pub(crate) faults: FaultPlan,
    pub(crate) perils: Perils,
}

/// One route.
#[derive(Debug, Clone)]
pub(crate) struct RoutePlan {
    pub(crate) name: RouteName,
    pub(crate) sink: SinkKind,
    pub(crate) flush: FlushMode,
    /// Whether an HTTP route keeps the order of its log.
    pub(crate) ordered: bool,
    pub(crate) retains_all: bool,
    /// What reloads have changed so far.
    pub(crate) timeout_ms: u32,
    pub(crate) paused: bool,
    pub(crate) attempts_max: u32,
    /// Whether it is configured with a mirror now (`twins.rs`).
    pub(crate) has_mirror: bool,
}

/// How often what happens, in a thousand steps.
#[derive(Debug, Clone, Default)]
pub(crate) struct Perils {
    pub(crate) engine_kill: u64,
    pub(crate) producer_kill: u64,
    pub(crate) power_cut: u64,
    /// A producer that stops in the middle of a submission for seconds, and goes on.
    pub(crate) producer_stall: u64,
    pub(crate) no_space: u64,
    pub(crate) rot: u64,
    pub(crate) wall_jump: u64,
    pub(crate) mood: u64,
    pub(crate) control: u64,
    pub(crate) restart: u64,
}

impl Scenario {
    pub(crate) fn new(dice: &mut Dice) -> Self {
        let shards = dice.between(1, 3) as usize;
        let route_count = dice.between(1, 4);
        let bulk = dice.of(120);
        let routes = (0..route_count).map(|index| RoutePlan::new(index, bulk, dice)).collect();
        let damage = dice.of(150);
        Self {
            shards,
            routes,
            producers: dice.between(1, 3) as usize,
            submissions: dice.between(20, if bulk { 60 } else { 220 }),
            bulk,
            faults: faults(dice, damage),
            perils: perils(dice, damage, bulk),
        }
    }
}

impl fmt::Display for Scenario {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { shards, producers, routes, .. } = self;
        write!(formatter, "{shards} shards, {producers} producers")?;
        for route in routes {
            let RoutePlan { name, sink, flush, ordered, retains_all, has_mirror, .. } = route;
            write!(
                formatter,
                "\n{name}: sink {sink:?}, flush {flush:?}, ordered {ordered}, keeps all {retains_all}, \
                 mirror {has_mirror}"
            )?;
        }
        Ok(())
    }
}

impl RoutePlan {
    fn new(index: u64, bulk: bool, dice: &mut Dice) -> Self {
        let sink = match dice.below(5) {
            0 | 1 => SinkKind::File,
            2 | 3 => SinkKind::Http,
            _ => SinkKind::None,
        };
        let flush = match dice.below(10) {
            0 => FlushMode::Manual,
            1 => FlushMode::None,
            _ => FlushMode::Auto,
        };
        Self {
            name: RouteName::new(&format!("route-{index}")).expect("a valid name"),
            sink,
            flush,
            ordered: dice.of(600),
            retains_all: sink == SinkKind::None || !(bulk || dice.of(300)),
            timeout_ms: dice.between(500, 5_000) as u32,
            paused: false,
            attempts_max: if dice.of(150) { 4 } else { 0 },
            has_mirror: false,
        }
    }

    /// The route as it is configured now.
    pub(crate) fn config(&self) -> RouteConfig {
        let name = self.name.as_str();
        let retain = match self.retains_all {
            true => json!({ "max_bytes": null, "max_age_s": null }),
            false => json!({ "max_bytes": 0, "max_age_s": null }),
        };
        let mut config = json!({
            "sink": match self.sink {
                SinkKind::File => "file",
                SinkKind::Http => "http",
                SinkKind::None => "none",
            },
            "flush": match self.flush {
                FlushMode::Auto => "auto",
                FlushMode::Manual => "manual",
                FlushMode::None => "none",
            },
            "segment_bytes": 4 << 20,
            "retain": retain,
            "paused": self.paused,
            "timeout_ms": self.timeout_ms,
        });
        if self.has_mirror {
            config["mirror"] = crate::twins::MIRRORS.into();
        }
        match self.sink {
            SinkKind::File => config["path"] = format!("{name}.log").into(),
            SinkKind::Http => {
                config["url"] = format!("http://{}/{name}", crate::far_end::ADDRESS).into();
                config["order"] = if self.ordered { "route" } else { "none" }.into();
                config["concurrency"] = 4.into();
                let attempts = self.attempts_max;
                config["retry"] =
                    json!({ "initial_ms": 50, "max_ms": 2_000, "max_attempts": attempts });
            }
            SinkKind::None => {}
        }
        serde_json::from_value(config).expect("a valid route")
    }
}

fn faults(dice: &mut Dice, damage: bool) -> FaultPlan {
    let io_errors = dice.of(350);
    let network = dice.of(400);
    let mut rate = |wanted: bool, chance: u64, most: u64| match wanted && dice.of(chance) {
        true => dice.between(1, most) as u32,
        false => 0,
    };
    let write_error_per_mille = rate(io_errors, 600, 40);
    let short_write_per_mille = rate(io_errors, 400, 40);
    let sync_error_per_mille = rate(io_errors, 600, 40);
    let read_error_per_mille = rate(io_errors, 300, 10);
    let lost_sync_per_mille = rate(damage, 250, 60);
    let misdirected_write_per_mille = rate(damage, 500, 40);
    let stall_per_mille = rate(true, 300, 30);
    let connect_error_per_mille = rate(network, 600, 200);
    let reset_per_mille = rate(network, 600, 60);
    let partial_transfer_per_mille = rate(network, 600, 300);
    FaultPlan {
        write_error_per_mille,
        short_write_per_mille,
        sync_error_per_mille,
        read_error_per_mille,
        lost_sync_per_mille,
        misdirected_write_per_mille,
        stall_per_mille,
        connect_error_per_mille,
        reset_per_mille,
        partial_transfer_per_mille,
        keep_unsynced: dice.of(800),
        reorder: dice.of(600),
        torn: dice.of(600),
        sync_latency: LatencyRange { min_ns: 20_000, max_ns: dice.between(50_000, 2_000_000) },
        ..FaultPlan::default()
    }
}

fn perils(dice: &mut Dice, damage: bool, bulk: bool) -> Perils {
    let mut rate = |chance: u64, most: u64| match dice.of(chance) {
        true => dice.between(1, most),
        false => 0,
    };
    Perils {
        engine_kill: rate(600, 6),
        producer_kill: rate(400, 6),
        power_cut: rate(500, 4),
        producer_stall: rate(200, 30),
        // Large submissions fill half of a ring while a log waits for space.
        no_space: if bulk { rate(700, 30) } else { rate(200, 5) },
        rot: if damage { rate(600, 6) } else { 0 },
        wall_jump: rate(200, 5),
        mood: rate(500, 20),
        control: rate(700, 15),
        restart: rate(300, 3),
    }
}
