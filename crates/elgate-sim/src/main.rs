//! Runs seeds: `elgate-sim --seed N [--story]`, or `elgate-sim --seeds COUNT [--from N] [--json]`.

use elgate_sim::{run, sweep};
use std::process::ExitCode;

const USAGE: &str = "usage: elgate-sim --seed N [--story]\n       elgate-sim --seeds COUNT [--from N] [--threads N] [--json]";

#[derive(Default)]
struct Arguments {
    seed: Option<u64>,
    seeds: u64,
    from: u64,
    threads: usize,
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
            "--threads" => arguments.threads = words.next()?.parse().ok()?,
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
        None => sweep(arguments.from, arguments.seeds, arguments.threads),
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
