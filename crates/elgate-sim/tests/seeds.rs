//! A few thousand seeds: whatever dies, and whatever disks, networks and clocks do, what was
//! acknowledged is delivered, once and in order.
//!
//! `ELGATE_SEED=<n>` runs one seed, `ELGATE_SEEDS=<count>` another number of them.

use elgate_sim::{MIRRORED, Report, run, sweep};

const SEEDS: u64 = 2_000;
/// And of those with a second device.
const MIRRORED_SEEDS: u64 = 600;
const THREADS: usize = 2;

/// What the seeds must have been through together. A suite that does not get there has shown
/// nothing about it.
const MARKS: &[&str] = &[
    "acknowledged.durable",
    "engine.closed",
    "engine.died_at_start",
    "engine.died_while_asked",
    "engine.reloaded",
    "engine.route_removed",
    "far_end.redelivery",
    "feed.failed",
    "feed.gap",
    "log.abandoned",
    "log.parked",
    "log.recovery.cut",
    "log.resumed",
    "log.retired",
    "log.rolled",
    "producer.stalled",
    "recovery.damage_found",
    "recovery.torn_cut",
    "ring.claim_reclaimed",
    "ring.replay_found_logged",
    "route.held",
    "ring.set_aside",
    "route.held_unopened",
    "route.open_failed",
    "route.reopened",
    "route.closed",
    "route.opened",
    "shard.passed_on",
    "sink.file.garbled_end",
    "sink.file.rewind",
    "sink.http.refused",
    "sink.http.retry",
    "sink.http.stopped",
];

/// And those with a second device.
const MIRROR_MARKS: &[&str] = &[
    "fsck.died",
    "fsck.repaired",
    "log.mirror_behind",
    "log.mirror_caught_up",
    "log.mirror_entered",
    "log.mirror_joined",
    "log.mirror_left",
    "twin.changed",
    "twin.checked_after_power_cut",
    "twin.checked_at_rest",
    "twin.own_copy_damaged",
    "twin.pulled",
    "twin.replaced",
];

/// Faults that must have struck.
const FAULTS: &[&str] = &[
    "write_errors",
    "short_writes",
    "read_errors",
    "sync_errors",
    "lost_syncs",
    "misdirected_writes",
    "stalls",
    "no_space",
    "connect_errors",
    "resets",
    "partial_transfers",
    "power_cuts",
    "blocks_kept",
    "blocks_dropped",
    "blocks_torn",
    "process_kills",
    "rots",
    "wall_clock_jumps",
    "far_end_refusals",
    "far_end_swallowed_answers",
];

/// Seeds that have found a defect once: see docs/internals/evidence.md.
const FOUND_ONCE: &[u64] = &[
    1_000_292,
    1_000_349,
    1_000_634,
    1_001_298,
    1_002_060,
    1_006_190,
    1_005_537,
    1_009_465,
    1_016_446,
    1_018_616,
    1_021_577,
    1_022_840,
    1_028_244,
    1_035_822,
    1_042_960,
    1_049_152,
    1_051_187,
    1_064_450,
    1_097_898,
    2_004_458,
    4_294_969_262,
    4_294_969_789,
    4_294_969_938,
    4_294_970_199,
    4_295_004_908,
    4_295_005_286,
    4_295_005_796,
    4_295_005_822,
    4_295_006_457,
    4_295_014_927,
    4_295_017_247,
    4_295_018_643,
    4_295_033_452,
];

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

#[test]
fn every_invariant_holds() {
    if let Some(seed) = number("ELGATE_SEED") {
        run(seed, false).unwrap_or_else(|failure| panic!("{failure}"));
        return;
    }
    let seeds = number("ELGATE_SEEDS").unwrap_or(SEEDS);
    let report = sweep(0, seeds, THREADS).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{report}");
    if seeds >= SEEDS {
        assert_measured(&report);
    }
}

#[test]
fn every_invariant_holds_with_mirrors() {
    if number("ELGATE_SEED").is_some() {
        // The one that was asked for runs above.
        return;
    }
    let seeds = number("ELGATE_SEEDS").unwrap_or(MIRRORED_SEEDS);
    let report = sweep(MIRRORED, seeds, THREADS).unwrap_or_else(|failure| panic!("{failure}"));
    println!("{report}");
    if seeds >= MIRRORED_SEEDS {
        let marks = missing_marks(MIRROR_MARKS, &report);
        assert!(marks.is_empty(), "never happened: {marks:?}\n{report}");
    }
}

fn missing(names: &[&'static str], found: &dyn Fn(&str) -> u64) -> Vec<&'static str> {
    names.iter().filter(|name| found(name) == 0).copied().collect()
}

fn missing_marks(names: &[&'static str], report: &Report) -> Vec<&'static str> {
    missing(names, &|name| report.marks.get(name).copied().unwrap_or(0))
}

fn assert_measured(report: &Report) {
    let marks = missing_marks(MARKS, report);
    let faults = missing(FAULTS, &|name| report.faults.get(name).copied().unwrap_or(0));
    assert!(
        marks.is_empty() && faults.is_empty(),
        "never happened: {marks:?} {faults:?}\n{report}"
    );
    // Deaths in the middle of things, not only between them.
    assert!(report.deaths.len() > 30, "{report}");
    assert!(report.acknowledged > 100_000, "{report}");
}

#[test]
fn a_seed_happens_again_exactly() {
    for seed in [3, 25, 309] {
        let [first, second] =
            [(), ()].map(|()| run(seed, false).unwrap_or_else(|failure| panic!("{failure}")));
        assert_eq!(format!("{first}"), format!("{second}"));
    }
}

#[test]
fn what_was_found_once_stays_mended() {
    for seed in FOUND_ONCE {
        run(*seed, false).unwrap_or_else(|failure| panic!("{failure}"));
    }
}
