//! Which way to commit suits this file system and device, and how many small writes at once:
//! found out by writing, at start-up, in a few tens of milliseconds.
//!
//! In: a driver nobody uses yet, and the directory whose file system is meant. Out: a
//! [`CommitProbe`] with the figures it was decided by. The probe's file has lost its name before
//! the first write, so only a death in between leaves it behind, and the next probe takes it away.

use crate::{Buffer, Commit, Completion, Driver, File, Op, OpenOptions, Outcome, Wait};
use elgate_types::Monotonic;
use elgate_types::limits::BLOCK_BYTES;
use std::io;
use std::path::Path;
use std::time::Duration;

/// The probe's file, while it has a name.
const FILE_NAME: &str = ".elgate-probe";
/// Blocks that are written in turn.
const BLOCKS: u64 = 64;
/// After this, a slow device is left alone, and what is not known is taken by default.
const TIME_MAX: Duration = Duration::from_millis(250);
/// Rounds that count, of each question. One write is no figure, and noise is not decided by more.
const ROUNDS: usize = 24;
/// With fewer there is no verdict.
const ROUNDS_MIN: usize = 8;
/// Rounds that do not count: threads start, and caches fill.
const WARM_UP_ROUNDS: usize = 3;
/// Another way than the first must take at most so many percent of its time to be taken instead.
const CLEARLY_FASTER_PERCENT: u32 = 90;
/// Writes at once that are tried.
const DEPTHS: [usize; 3] = [1, 2, 4];
/// At a useful depth a write takes at most so many percent of the time it takes alone.
const DEPTH_PERCENT_MAX: u32 = 135;

/// What a probe has found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommitProbe {
    /// The way to commit: the driver's first, unless another is clearly faster.
    pub commit: Commit,
    /// Small durable writes that are worth having under way at once, if that could be measured.
    pub writes_in_flight: Option<usize>,
    /// Whether the page cache was bypassed, as logs do where they can.
    pub direct: bool,
    /// Median time of one 4 KiB write, for each way the driver has.
    pub ways: Vec<(Commit, Duration)>,
    /// Median time of one 4 KiB write when so many are under way.
    pub depths: Vec<(usize, Duration)>,
}

impl CommitProbe {
    /// The figures in words: `dsync 84 us, link 103 us, blocking 95 us`.
    #[must_use]
    pub fn ways_text(&self) -> String {
        text(self.ways.iter().map(|(way, took)| (way.name().to_owned(), *took)))
    }

    /// The figures in words: `1: 84 us, 2: 85 us, 4: 90 us`.
    #[must_use]
    pub fn depths_text(&self) -> String {
        text(self.depths.iter().map(|(depth, took)| (format!("{depth}:"), *took)))
    }
}

fn text(figures: impl Iterator<Item = (String, Duration)>) -> String {
    let figures: Vec<_> =
        figures.map(|(name, took)| format!("{name} {} us", took.as_micros())).collect();
    if figures.is_empty() { "not measured".to_owned() } else { figures.join(", ") }
}

/// Measures durable 4 KiB writes into a file of zeros in `directory`: each way the driver has, in
/// alternation, then the one chosen (or `forced`) at several depths. Leaves the driver committing
/// in that way. Blocks; takes tens of milliseconds, and stops after a quarter of a second.
///
/// # Errors
/// The file system's, if the file cannot be made, and the device's, if a write fails.
pub fn probe_commit(
    driver: &mut dyn Driver,
    directory: &Path,
    forced: Option<Commit>,
) -> io::Result<CommitProbe> {
    let deadline = driver.now().after(TIME_MAX);
    let (file, direct) = make_file(driver, directory)?;
    let mut probe = Probe { driver, file, deadline, block: 0, tokens: 0 };
    let commits = probe.driver.commits();

    let mut samples = vec![Vec::new(); commits.len()];
    let is_over = probe.rounds(|probe, round| {
        // Each is the first as often as any other: what goes before leaves its mark on the machine.
        for turn in 0..commits.len() {
            let index = (round + turn) % commits.len();
            probe.driver.set_commit(commits[index]);
            samples[index].push(probe.write(1)?);
        }
        Ok(())
    })?;
    let ways: Vec<_> =
        commits.into_iter().zip(samples.into_iter().map_while(Figures::of)).collect();
    // Asked again: the kernel may have refused one in the meantime.
    let commits = probe.driver.commits();
    let commit = forced
        .or_else(|| fastest(&ways))
        .filter(|commit| commits.contains(commit))
        .or_else(|| commits.first().copied())
        .unwrap_or_default();
    probe.driver.set_commit(commit);

    let mut samples = [const { Vec::new() }; DEPTHS.len()];
    if !is_over {
        probe.rounds(|probe, _| {
            for (depth, samples) in DEPTHS.iter().zip(&mut samples) {
                samples.push(probe.write(*depth)?);
            }
            Ok(())
        })?;
    }
    let depths = DEPTHS.into_iter().zip(samples.into_iter().map_while(Figures::of));
    let depths: Vec<_> = depths.map(|(depth, figures)| (depth, figures.median)).collect();
    let ways = ways.into_iter().map(|(commit, figures)| (commit, figures.median)).collect();
    Ok(CommitProbe { commit, writes_in_flight: useful_depth(&depths), direct, ways, depths })
}

/// A file of zeros without a name.
fn make_file(driver: &dyn Driver, directory: &Path) -> io::Result<(File, bool)> {
    let platform = driver.platform();
    let path = directory.join(FILE_NAME);
    let options = OpenOptions { read: true, write: true, create: true, ..OpenOptions::default() };
    let (file, direct) = match platform.open(&path, OpenOptions { direct: true, ..options }) {
        // As logs do.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            (platform.open(&path, options)?, false)
        }
        file => (file?, true),
    };
    match platform.remove(&path) {
        // Another probe, of a `doctor` for example, was quicker.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        removed => removed?,
    }
    platform.zero_fill(&file, 0, BLOCKS * BLOCK_BYTES as u64)?;
    Ok((file, direct))
}

struct Probe<'a> {
    driver: &'a mut dyn Driver,
    file: File,
    deadline: Monotonic,
    /// The next one to write.
    block: u64,
    tokens: u64,
}

impl Probe<'_> {
    /// Asks a question so many times that the answer counts. `true`: time was up before.
    fn rounds(
        &mut self,
        mut ask: impl FnMut(&mut Self, usize) -> io::Result<()>,
    ) -> io::Result<bool> {
        for round in 0..WARM_UP_ROUNDS + ROUNDS {
            if self.driver.now() >= self.deadline {
                return Ok(true);
            }
            ask(self, round)?;
        }
        Ok(false)
    }

    /// Writes so many blocks at once. Returns how long each took, on average.
    fn write(&mut self, depth: usize) -> io::Result<Duration> {
        let arena = self.driver.arena();
        let buffers: Vec<Buffer> = (0..depth)
            .map(|_| {
                let mut buffer = arena.take(BLOCK_BYTES);
                buffer.extend_zeros(BLOCK_BYTES);
                buffer
            })
            .collect();
        let begin = self.driver.now();
        for buffer in buffers {
            let offset = self.block % BLOCKS * BLOCK_BYTES as u64;
            self.block += 1;
            self.tokens += 1;
            let file = self.file.clone();
            self.driver.submit(self.tokens, Op::Write { file, offset, buffer, durable: true });
        }
        let mut total = Duration::ZERO;
        let mut completions: Vec<Completion> = Vec::new();
        let mut failure = None;
        let mut missing = depth;
        while missing > 0 {
            self.driver.poll(Wait::Forever, &mut completions)?;
            let took = self.driver.now().since(begin);
            for completion in completions.drain(..) {
                missing -= 1;
                total += took;
                match completion.result {
                    Ok(Outcome::Bytes(BLOCK_BYTES)) => {}
                    Ok(_) => failure = Some(io::ErrorKind::WriteZero.into()),
                    Err(error) => failure = Some(error),
                }
            }
        }
        failure.map_or_else(|| Ok(total / u32::try_from(depth).unwrap_or(u32::MAX)), Err)
    }
}

/// What is looked at of a series of measurements.
#[derive(Debug, Clone, Copy)]
struct Figures {
    /// A quarter of them took no longer: the machine at its calmest.
    quartile: Duration,
    median: Duration,
}

impl Figures {
    /// Of those that count; `None` if they are too few.
    fn of(mut samples: Vec<Duration>) -> Option<Self> {
        let counting = samples.get_mut(WARM_UP_ROUNDS..).filter(|some| some.len() >= ROUNDS_MIN)?;
        counting.sort_unstable();
        let at = |part: usize| counting[counting.len() / part];
        Some(Self { quartile: at(4), median: at(2) })
    }

    /// By both figures: a moment of noise moves one, seldom both.
    fn is_clearly_faster_than(&self, other: &Self) -> bool {
        let clearly = |own: Duration, other: Duration| own * 100 <= other * CLEARLY_FASTER_PERCENT;
        clearly(self.quartile, other.quartile) && clearly(self.median, other.median)
    }
}

/// The first, unless another is clearly faster.
fn fastest(ways: &[(Commit, Figures)]) -> Option<Commit> {
    let (first, usual) = ways.first()?;
    let faster = ways.iter().filter(|(_, figures)| figures.is_clearly_faster_than(usual));
    Some(faster.min_by_key(|(_, figures)| figures.median).map_or(*first, |(commit, _)| *commit))
}

fn useful_depth(depths: &[(usize, Duration)]) -> Option<usize> {
    let (_, alone) = depths.first()?;
    let is_useful = |took: Duration| took * 100 <= *alone * DEPTH_PERCENT_MAX;
    let useful = depths.iter().take_while(|(_, took)| is_useful(*took));
    useful.last().map(|(depth, _)| *depth)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::{FaultPlan, LatencyRange, SimWorld};

    fn micros(micros: u64) -> Duration {
        Duration::from_micros(micros)
    }

    #[test]
    fn the_first_way_stays_unless_another_is_clearly_faster() {
        let figures =
            |(quartile, median)| Figures { quartile: micros(quartile), median: micros(median) };
        let ways = |dsync, link, blocking| {
            fastest(&[
                (Commit::Dsync, figures(dsync)),
                (Commit::Link, figures(link)),
                (Commit::Blocking, figures(blocking)),
            ])
        };
        assert_eq!(ways((90, 100), (80, 91), (80, 95)), Some(Commit::Dsync));
        assert_eq!(ways((90, 100), (81, 90), (85, 95)), Some(Commit::Link));
        assert_eq!(ways((90, 100), (70, 80), (50, 60)), Some(Commit::Blocking));
        assert_eq!(ways((90, 4_000), (89, 100), (85, 90)), Some(Commit::Dsync), "a noisy moment");
        assert_eq!(fastest(&[]), None);
    }

    #[test]
    fn a_depth_is_useful_while_writes_do_not_wait_for_one_another() {
        let depth =
            |one, two, four| useful_depth(&[(1, micros(one)), (2, micros(two)), (4, micros(four))]);
        assert_eq!(depth(100, 105, 135), Some(4));
        assert_eq!(depth(100, 105, 136), Some(2));
        assert_eq!(depth(100, 150, 120), Some(1), "not past one that is of no use");
        assert_eq!(useful_depth(&[]), None);
    }

    fn probe(plan: FaultPlan) -> (SimWorld, io::Result<CommitProbe>) {
        let world = SimWorld::new(7);
        let directory = Path::new("/data");
        world.platform().create_directories(directory).expect("a directory");
        world.set_faults(plan);
        let mut driver = world.driver();
        let probed = probe_commit(&mut driver, directory, None);
        assert_eq!(driver.in_flight(), 0);
        assert!(world.platform().list(directory).expect("listed").is_empty(), "nothing stays");
        (world, probed)
    }

    #[test]
    fn measures_and_leaves_nothing_behind() {
        let sync_latency = LatencyRange { min_ns: 100_000, max_ns: 100_000 };
        let (_, probed) = probe(FaultPlan { sync_latency, ..FaultPlan::default() });
        let probed = probed.expect("probed");
        assert_eq!(probed.ways, [(Commit::Dsync, micros(100))]);
        assert_eq!((probed.commit, probed.writes_in_flight), (Commit::Dsync, Some(4)));
        assert_eq!(probed.depths_text(), "1: 100 us, 2: 100 us, 4: 100 us");
    }

    #[test]
    fn a_slow_device_is_left_alone() {
        let sync_latency = LatencyRange { min_ns: 40_000_000, max_ns: 40_000_000 };
        let (world, probed) = probe(FaultPlan { sync_latency, ..FaultPlan::default() });
        let probed = probed.expect("probed");
        assert_eq!((probed.commit, probed.writes_in_flight), (Commit::Dsync, None));
        assert_eq!(probed.ways_text(), "not measured");
        assert!(world.now() < SimWorld::new(7).now().after(2 * TIME_MAX));
    }

    #[test]
    fn a_failing_device_is_an_error() {
        let (_, probed) = probe(FaultPlan { write_error_per_mille: 1_000, ..FaultPlan::default() });
        assert_eq!(probed.expect_err("EIO").raw_os_error(), Some(libc::EIO));
    }
}
