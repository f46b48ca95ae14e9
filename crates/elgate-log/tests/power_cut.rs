//! Thousands of small lives of a log: random appends under random faults, then the power goes (or
//! only the process), then recovery, again and again. What was acknowledged is there, in order;
//! what is there is a prefix; nothing is ever there that was not appended.

mod support;

use elgate_io::sim::{FaultCounts, FaultPlan, LatencyRange, SimWorld};
use elgate_log::{AppendError, FsckOptions, LogEvent, LogOptions, Retention, Source, fsck};
use elgate_types::{FlushMode, Lsn};
use std::path::Path;
use support::{Found, Rig, no_faults, small};

/// Every submission takes so many slots, so that a ring is soon filled once more, and segments may
/// go.
const SLOTS: u64 = 64;

/// A small generator of its own: the world's must not be disturbed by the test's choices.
struct Chance(u64);

impl Chance {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (mixed ^ (mixed >> 31)) % bound
    }

    fn of(&mut self, per_mille: u64) -> bool {
        self.below(1_000) < per_mille
    }
}

fn plan(chance: &mut Chance) -> FaultPlan {
    let mut rate = |per_mille| if chance.of(per_mille) { 1 + chance.below(60) as u32 } else { 0 };
    let (write_error, short_write, sync_error) = (rate(250), rate(150), rate(250));
    FaultPlan {
        write_error_per_mille: write_error,
        short_write_per_mille: short_write,
        sync_error_per_mille: sync_error,
        keep_unsynced: chance.of(800),
        reorder: chance.of(600),
        torn: chance.of(500),
        sync_latency: LatencyRange { min_ns: 1_000, max_ns: 1_000 + chance.below(500_000) },
        ..FaultPlan::default()
    }
}

fn options(chance: &mut Chance) -> LogOptions {
    LogOptions {
        batch_bytes_max: 4_096 << chance.below(9),
        writes_in_flight_max: 1 + chance.below(8) as usize,
        small_writes_in_flight_max: 1 + chance.below(4) as usize,
        flush: if chance.of(200) { FlushMode::Manual } else { FlushMode::Auto },
        direct: chance.of(500),
        // Segments that no reader needs are used again at every roll.
        retain: Retention { max_bytes: chance.of(400).then_some(0), max_age: None },
        handed_over_again: [(7, 0)].into(),
        ..small()
    }
}

/// What the outside knows: how far it was told that records are durable.
#[derive(Default)]
struct Story {
    acked: u64,
    /// Records appended in this life, at most.
    appended: u64,
    rolls: u64,
    abandoned: u64,
    retired: u64,
    /// Times that the log was opened with a segment in use whose file had been one before.
    recycled: u64,
    torn: u64,
}

fn live(rig: &mut Rig, chance: &mut Chance, story: &mut Story) {
    let steps = 5 + chance.below(60);
    let large = chance.of(150);
    for _ in 0..steps {
        for _ in 0..chance.below(12) {
            let bytes = match chance.below(10) {
                0 if large => chance.below(900_000),
                0..=2 => chance.below(20_000),
                _ => chance.below(300),
            };
            let source = Source { ring_id: 7, position: rig.writer.next_lsn().0 * SLOTS };
            match rig.append_from(bytes as usize, source) {
                Ok(lsn) => story.appended = lsn.0,
                Err(AppendError::Backlogged { .. } | AppendError::Parked { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
        if chance.of(100) {
            rig.writer.flush();
        }
        for _ in 0..chance.below(4) {
            rig.turn();
        }
        for event in rig.events.drain(..) {
            match event {
                LogEvent::Durable { through } => story.acked = through.0,
                LogEvent::Rolled { .. } => story.rolls += 1,
                LogEvent::Abandoned { .. } => story.abandoned += 1,
                LogEvent::Retired { .. } => story.retired += 1,
                _ => {}
            }
        }
    }
}

fn check(rig: &Rig, story: &mut Story, what: &str) {
    let recovery = &rig.recovery;
    assert!(recovery.quarantined.is_empty(), "{what}: a crash is not damage: {recovery:?}");
    let kept = recovery.next_lsn.0 - 1;
    assert!(
        kept >= story.acked,
        "{what}: record {} was acknowledged, {kept} are left",
        story.acked
    );
    assert!(kept <= story.appended, "{what}: {kept} records of {} appended", story.appended);
    assert_eq!(rig.writer.durable(), Lsn(kept), "{what}");
    let first = rig.writer.first_lsn().0;
    let expected = if kept < first { vec![] } else { vec![Found::Records(first, kept)] };
    assert_eq!(rig.read(), expected, "{what}");
    // Every record came from the submission with its own number.
    for span in &recovery.sources {
        assert_eq!((span.position, span.record_count), (span.first_lsn.0 * SLOTS, 1), "{what}");
    }
    let known = recovery.sources.len() as u64;
    if kept >= first {
        let newest = recovery.sources.last().map_or(0, |span| span.position);
        assert_eq!(newest, kept * SLOTS, "{what}: the newest submission is known");
        let there = kept - first + 1;
        assert!(known >= there.min(1_020 / SLOTS), "{what}: {known} submissions known of {there}");
    }
    let header = |path| rig.world.file_bytes(path).expect("reads")[0x34];
    story.recycled += u64::from(rig.segments().iter().any(|path| header(path) & 1 == 1));
    story.torn += u64::from(recovery.torn_bytes > 0);
    story.acked = kept;
    story.appended = kept;
}

/// What a crash leaves is no damage to a check of every byte, and nothing for a repair.
fn audit(world: &SimWorld, repair: bool, acked: u64, what: &str) {
    let options = FsckOptions { repair, mirror: None };
    let report = fsck(&*world.platform(), Path::new(support::DIR), &options, &mut |_, _| ());
    let report = report.expect("checks");
    assert!(report.is_clean(), "{what}: {report:?}");
    assert!(report.last_lsn.map_or(0, |lsn| lsn.0) >= acked, "{what}: {report:?}");
}

fn run(seed: u64, story: &mut Story) -> FaultCounts {
    let chance = &mut Chance(seed);
    let world = SimWorld::new(seed);
    *story = Story { acked: 0, appended: 0, ..*story };
    let mut rig = Rig::open(world.clone(), options(chance));
    for life in 0..1 + chance.below(4) {
        world.set_faults(plan(chance));
        live(&mut rig, chance, story);
        drop(rig);
        if chance.of(700) {
            world.power_cut()
        } else {
            support::lose_process(&world);
        }
        no_faults(&world);
        if chance.of(300) {
            // Recovery itself is killed: with writes failing, at a place of the seed's choosing.
            let rate = 50 + chance.below(300) as u32;
            let failing = FaultPlan {
                write_error_per_mille: rate,
                sync_error_per_mille: rate,
                read_error_per_mille: rate / 20,
                ..plan(chance)
            };
            world.set_faults(failing);
            drop(Rig::try_open(world.clone(), options(chance)));
            if chance.of(500) {
                world.power_cut()
            } else {
                support::lose_process(&world);
            }
            no_faults(&world);
        }
        if seed.is_multiple_of(8) {
            audit(
                &world,
                seed.is_multiple_of(16),
                story.acked,
                &format!("seed {seed}, life {life}"),
            );
        }
        rig = Rig::open(world.clone(), options(chance));
        check(&rig, story, &format!("seed {seed}, life {life}"));
    }
    world.fault_counts()
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok()?.parse().ok()
}

/// `ELGATE_SEED=<n> ELGATE_SEEDS=1` repeats one life.
#[test]
fn what_was_acknowledged_survives() {
    let seeds = number("ELGATE_SEEDS").unwrap_or(1_500);
    let first = number("ELGATE_SEED").unwrap_or(0);
    let half = |start: u64| {
        let mut story = Story::default();
        let mut total = FaultCounts::default();
        for seed in (first + start..first + seeds).step_by(2) {
            let counts = run(seed, &mut story);
            total.power_cuts += counts.power_cuts;
            total.write_errors += counts.write_errors;
            total.short_writes += counts.short_writes;
            total.sync_errors += counts.sync_errors;
            total.blocks_dropped += counts.blocks_dropped;
            total.blocks_kept += counts.blocks_kept;
            total.blocks_torn += counts.blocks_torn;
        }
        (story, total)
    };
    let halves = std::thread::scope(|scope| {
        let threads = [scope.spawn(|| half(0)), scope.spawn(|| half(1))];
        threads.map(|thread| thread.join().expect("every life checks out"))
    });
    if seeds < 1_000 {
        return;
    }
    // A run in which nothing happened measured nothing.
    for (story, total) in halves {
        assert!(story.abandoned > 50 && story.rolls > 50 && story.torn > 50, "too quiet");
        assert!(story.retired > 50 && story.recycled > 50, "{} {}", story.retired, story.recycled);
        let struck = [
            total.power_cuts,
            total.write_errors,
            total.short_writes,
            total.sync_errors,
            total.blocks_dropped,
            total.blocks_kept,
            total.blocks_torn,
        ];
        assert!(struck.iter().all(|count| *count > 25), "{total:?}");
    }
}
