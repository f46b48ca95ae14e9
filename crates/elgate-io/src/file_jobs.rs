//! File operations that block: on the driver's own thread if there is nothing better for it to do,
//! else on a pool.
//!
//! A pool costs two hand-overs between threads, about as much as a fast device takes for a small
//! write. So the one small write that is under way is held until the driver is polled, and then
//! carried out right there, as long as nothing else could suffer: no other file operation, nothing
//! ended that wants looking at, no socket operation under way, and a file whose writes have
//! lately been short. What is held when one of these turns out otherwise goes to the pool.

use crate::blocking_pool::{BlockingPool, Job};
use crate::mailbox::Mailbox;
use crate::{Completion, Token};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

/// Larger writes are worth a hand-over, and the time for other work that it leaves.
const INLINE_BYTES_MAX: usize = 32 * 1024;
/// A write that takes longer is better waited for elsewhere.
const SLOW: Duration = Duration::from_micros(500);
/// So many writes of a file go to the pool after a slow one; twice as many after each further one.
const PENALTY_MIN: u32 = 32;
const PENALTY_MAX: u32 = 4_096;

pub(crate) struct FileJobs {
    pool: BlockingPool,
    /// The only operation there is.
    held: Option<(Token, Job)>,
}

impl FileJobs {
    pub(crate) fn new(threads_max: usize, mailbox: Arc<Mailbox>) -> Self {
        Self { pool: BlockingPool::new("elgate-file", threads_max, mailbox), held: None }
    }

    /// Takes an operation on; its completion is posted, or comes from
    /// [`run_held`](Self::run_held).
    pub(crate) fn submit(&mut self, token: Token, job: Job) {
        let is_alone = self.held.is_none() && self.pool.is_idle();
        if is_alone && suits_inline(&job) {
            self.held = Some((token, job));
        } else {
            self.hand_over();
            self.pool.submit(token, job);
        }
    }

    pub(crate) fn holds_one(&self) -> bool {
        self.held.is_some()
    }

    /// Gives what is held to the pool.
    pub(crate) fn hand_over(&mut self) {
        if let Some((token, job)) = self.held.take() {
            self.pool.submit(token, job);
        }
    }

    /// Carries out what is held, here and now.
    pub(crate) fn run_held(&mut self, completions: &mut Vec<Completion>) {
        let Some((token, job)) = self.held.take() else { return };
        let file = job.file().cloned();
        let begin = crate::clock::monotonic();
        completions.push(job.run(token));
        if let Some(file) = file {
            file.0.pace().note(crate::clock::monotonic().since(begin));
        }
    }

    /// Ends the operations with this token that nobody has begun.
    pub(crate) fn cancel(&mut self, token: Token, completions: &mut Vec<Completion>) {
        if let Some((token, job)) = self.held.take_if(|(held, _)| *held == token) {
            completions.push(job.refuse(token, libc::ECANCELED));
        }
        self.pool.cancel(token, completions);
    }
}

fn suits_inline(job: &Job) -> bool {
    match job {
        Job::Write { file, buffer, .. } => {
            buffer.len() <= INLINE_BYTES_MAX && file.0.pace().is_short()
        }
        Job::Read { .. } | Job::Sync { .. } | Job::Call(_) => false,
    }
}

/// How long the writes of one open file have lately taken. Only a driver's choice of thread
/// depends on it, so relaxed accesses suffice.
#[derive(Debug)]
pub(crate) struct Pace {
    /// Writes still to be given to the pool.
    pooled: AtomicU32,
    penalty: AtomicU32,
}

impl Pace {
    pub(crate) const fn new() -> Self {
        Self { pooled: AtomicU32::new(0), penalty: AtomicU32::new(0) }
    }

    /// Whether the next write is expected to be short. Counts it.
    fn is_short(&self) -> bool {
        let pooled = self.pooled.load(Ordering::Relaxed);
        self.pooled.store(pooled.saturating_sub(1), Ordering::Relaxed);
        pooled == 0
    }

    fn note(&self, took: Duration) {
        let mut penalty = 0;
        if took > SLOW {
            penalty = self.penalty.load(Ordering::Relaxed) * 2;
            penalty = penalty.clamp(PENALTY_MIN, PENALTY_MAX);
            self.pooled.store(penalty, Ordering::Relaxed);
        }
        self.penalty.store(penalty, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Buffer, File};

    fn write(file: &File, bytes: usize) -> Job {
        let buffer = Buffer::copy_of(&vec![1; bytes]);
        Job::Write { file: file.clone(), offset: 0, buffer, durable: true }
    }

    fn jobs() -> (FileJobs, Arc<Mailbox>, File) {
        let mailbox = Mailbox::new().expect("eventfd");
        let file = tempfile::tempfile().expect("a temporary file");
        let file = File::from(std::os::fd::OwnedFd::from(file));
        (FileJobs::new(2, mailbox.clone()), mailbox, file)
    }

    fn wait_for(mailbox: &Mailbox, count: usize) -> Vec<Completion> {
        let mut completions = Vec::new();
        while completions.len() < count {
            mailbox.collect(&mut completions);
            std::thread::yield_now();
        }
        completions
    }

    #[test]
    fn one_small_write_is_held_and_carried_out_by_whoever_polls() {
        let (mut jobs, mailbox, file) = jobs();
        jobs.submit(1, write(&file, 4_096));
        assert!(jobs.holds_one());
        let mut completions = Vec::new();
        jobs.run_held(&mut completions);
        assert!(completions.len() == 1 && completions[0].result.is_ok() && !jobs.holds_one());
        mailbox.collect(&mut completions);
        assert_eq!(completions.len(), 1, "nobody else carried it out as well");
    }

    #[test]
    fn in_company_everything_goes_to_the_pool() {
        let (mut jobs, mailbox, file) = jobs();
        jobs.submit(1, write(&file, 4_096));
        jobs.submit(2, write(&file, 4_096));
        assert!(!jobs.holds_one());
        assert_eq!(wait_for(&mailbox, 2).len(), 2);
        jobs.submit(3, write(&file, INLINE_BYTES_MAX + 1));
        assert!(!jobs.holds_one());
        assert_eq!(wait_for(&mailbox, 1).len(), 1);
        // What has ended is company no more, from the moment it is known to have.
        jobs.submit(4, write(&file, 4_096));
        assert!(jobs.holds_one());
        let mut completions = Vec::new();
        jobs.cancel(5, &mut completions);
        jobs.cancel(4, &mut completions);
        assert!(completions.len() == 1 && completions[0].token == 4 && !jobs.holds_one());
    }

    #[test]
    fn a_slow_file_goes_to_the_pool_for_longer_each_time_and_others_do_not() {
        let (mut jobs, _, file) = jobs();
        for expected in [32, 64, 128] {
            file.0.pace().note(SLOW * 2);
            let pooled = (0..).take_while(|_| !file.0.pace().is_short()).count();
            assert_eq!(pooled, expected);
        }
        file.0.pace().note(SLOW);
        assert!(file.0.pace().is_short());
        file.0.pace().note(SLOW * 2);
        jobs.submit(1, write(&file, 4_096));
        assert!(!jobs.holds_one());
        let other = File::from(std::os::fd::OwnedFd::from(tempfile::tempfile().expect("a file")));
        assert!(suits_inline(&write(&other, 4_096)));
    }
}
