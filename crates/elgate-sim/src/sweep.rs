//! Many seeds, on several threads. Each seed is one thread's alone.

use crate::report::{Failure, Report};
use crate::simulation::run;
use std::sync::atomic::{AtomicU64, Ordering};

/// Runs `count` seeds from `from` on; stops at the first that fails.
///
/// # Errors
/// The failure with the lowest seed among those found.
pub fn sweep(from: u64, count: u64, threads: usize) -> Result<Report, Failure> {
    let next = AtomicU64::new(from);
    let end = from.saturating_add(count);
    let work = || -> Result<Report, Failure> {
        let mut report = Report::default();
        loop {
            // Only each number's going to one thread matters.
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return Ok(report);
            }
            match run(seed, false) {
                Ok(one) => report.add(&one),
                Err(failure) => {
                    next.store(end, Ordering::Relaxed);
                    return Err(failure);
                }
            }
        }
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..threads.max(1)).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("failures are values")).collect()
    });
    let mut report = Report::default();
    let mut failure: Option<Failure> = None;
    for result in results {
        match result {
            Ok(one) => report.add(&one),
            Err(found) => {
                failure = Some(match failure {
                    Some(first) if first.seed < found.seed => first,
                    _ => found,
                });
            }
        }
    }
    failure.map_or(Ok(report), Err)
}
