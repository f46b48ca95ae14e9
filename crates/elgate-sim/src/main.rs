//! Runs seeds: `elgate-sim --seed N [--story]`, or `elgate-sim --seeds COUNT [--from N] [--json]`.

use elgate_sim::{Failure, Report, run};
use std::process::ExitCode;
use std::sync::atomic::{AtomicU64, Ordering};

const USAGE: &str = "usage: elgate-sim --seed N [--story]\n       elgate-sim --seeds COUNT [--from N] [--threads N] [--json]";

#[derive(Default)]
struct Arguments {
    seed: Option<u64>,
    seeds: u64,
    from: u64,
    threads: u64,
    story: bool,
    json: bool,
}

fn parse(mut words: impl Iterator<Item = String>) -> Option<Arguments> {
    let mut arguments = Arguments { threads: 2, ..Arguments::default() };
    while let Some(word) = words.next() {
        let mut number = || words.next()?.parse().ok();
        match word.as_str() {
            "--seed" => arguments.seed = Some(number()?),
            "--seeds" => arguments.seeds = number()?,
            "--from" => arguments.from = number()?,
            "--threads" => arguments.threads = number()?,
            "--story" => arguments.story = true,
            "--json" => arguments.json = true,
            _ => return None,
        }
    }
    Some(arguments)
}

#[expect(clippy::print_stdout, clippy::print_stderr, reason = "a command")]
fn main() -> ExitCode {
    let Some(arguments) = parse(std::env::args().skip(1)) else {
        eprintln!("{USAGE}");
        return ExitCode::from(2);
    };
    let result = match arguments.seed {
        Some(seed) => run(seed, arguments.story),
        None => run_many(&arguments),
    };
    match result {
        Ok(report) if arguments.json => println!("{}", report.to_json()),
        Ok(report) => println!("{report}"),
        Err(failure) => {
            eprintln!("{failure}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

fn run_many(arguments: &Arguments) -> Result<Report, Failure> {
    let next = AtomicU64::new(arguments.from);
    let end = arguments.from + arguments.seeds;
    let work = || -> Result<Report, Failure> {
        let mut report = Report::default();
        loop {
            let seed = next.fetch_add(1, Ordering::Relaxed);
            if seed >= end {
                return Ok(report);
            }
            match run(seed, false) {
                Ok(one) => report.add(&one),
                Err(failure) => {
                    // The others need not go on.
                    next.store(end, Ordering::Relaxed);
                    return Err(failure);
                }
            }
        }
    };
    let results: Vec<_> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..arguments.threads.max(1)).map(|_| scope.spawn(work)).collect();
        threads.into_iter().map(|thread| thread.join().expect("failures are values")).collect()
    });
    let mut report = Report::default();
    for result in results {
        report.add(&result?);
    }
    Ok(report)
}
