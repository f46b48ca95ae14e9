//! Is the suite blind? Known defects are switched on, one at a time, each in a process of its own,
//! and must be noticed within a bounded number of seeds; without any, the same seeds are clean.

use elgate_sim::MIRRORED;
use elgate_types::seeded_bug;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};

/// Seeds that a defect may hide from.
const SEEDS: u64 = 3_000;

/// Strikes once in some nine thousand seeds: crates/elgate-log/tests/torn.rs notices it.
const RARE: &str = "forget-epoch-and-torn-tail";

fn sweep(bug: &str, from: u64) -> Output {
    Command::new(env!("CARGO_BIN_EXE_elgate-sim"))
        .args(["--from", &from.to_string(), "--seeds", &SEEDS.to_string(), "--threads", "1"])
        .env("ELGATE_SEEDED_BUG", bug)
        .env("RUST_BACKTRACE", "0")
        .output()
        .expect("the program runs")
}

fn verdict(output: &Output) -> String {
    let errors = String::from_utf8_lossy(&output.stderr);
    let verdict = errors.lines().find(|line| line.starts_with("seed "));
    verdict.unwrap_or("no seed failed").to_owned()
}

#[test]
fn every_seeded_bug_is_caught() {
    let next = AtomicUsize::new(0);
    let missed: Vec<String> = std::thread::scope(|scope| {
        let work = || {
            let mut missed = Vec::new();
            while let Some(bug) = seeded_bug::ALL.get(next.fetch_add(1, Ordering::Relaxed)) {
                if *bug == RARE {
                    continue;
                }
                let output = sweep(bug, if bug.contains("mirror") { MIRRORED } else { 0 });
                println!("{bug}: {}", verdict(&output));
                if output.status.success() || verdict(&output) == "no seed failed" {
                    missed.push((*bug).to_owned());
                }
            }
            missed
        };
        let threads = [scope.spawn(work), scope.spawn(work)];
        threads.into_iter().flat_map(|thread| thread.join().expect("no panic")).collect()
    });
    assert!(missed.is_empty(), "the suite does not notice: {missed:?}");
}

#[test]
fn without_a_bug_the_same_seeds_are_clean() {
    let output = sweep("none", 0);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
