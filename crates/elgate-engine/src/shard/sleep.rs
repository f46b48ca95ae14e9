//! How an idle shard sleeps: announced to the producers, so that one of them wakes it.

use super::event_loop::{PART_RING, PART_SHIFT};
use super::{Intake, Shard};
use crate::error::EngineError;
use elgate_io::{Op, Wait};
use elgate_types::Monotonic;

impl Shard {
    /// After an idle turn: announces sleep to the producers, and looks once more. Returns how long
    /// the shard may sleep, or nothing if something has arrived meanwhile. Either way
    /// [`end_sleep`](Self::end_sleep) follows.
    pub fn begin_sleep(&mut self) -> Option<Wait> {
        let mut may_sleep = true;
        let takes = self.takes();
        if takes {
            for intake in &mut self.intakes {
                may_sleep &= intake.prepare_sleep();
            }
        }
        if !may_sleep {
            return None;
        }
        if takes {
            self.arm_futexes();
        }
        let now = self.driver.now();
        for intake in &mut self.intakes {
            intake.check_producers(now);
        }
        self.counters.sleeps += 1;
        Some(match self.next_wakeup() {
            Some(at) => Wait::Until(at),
            None => Wait::Forever,
        })
    }

    /// Waits for a completion, a producer, a command or a timer.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn sleep(&mut self, wait: Wait) -> Result<(), EngineError> {
        let now = self.driver.now();
        let wall = self.driver.wall_time();
        self.take_completions(wait, now, wall)?;
        self.counters.slept += self.driver.now().since(now);
        Ok(())
    }

    /// Takes the announcement of sleep back.
    pub fn end_sleep(&mut self) {
        for intake in &mut self.intakes {
            intake.end_sleep();
        }
    }

    /// Whether an operation is under way, waits for producers aside.
    pub(super) fn is_under_way(&self) -> bool {
        let waits = self.intakes.iter().filter(|intake| intake.futex_armed).count();
        self.driver.in_flight() > waits
    }

    fn arm_futexes(&mut self) {
        for (index, intake) in self.intakes.iter_mut().enumerate() {
            if intake.futex_armed || intake.awaits_replacement() {
                continue;
            }
            let (word, expected) = intake.futex_word();
            intake.futex_armed = true;
            let token = PART_RING << PART_SHIFT | index as u64;
            self.driver.submit(token, Op::FutexWait { word, expected });
        }
    }

    fn next_wakeup(&self) -> Option<Monotonic> {
        let intakes = self.intakes.iter().map(Intake::next_wakeup).min();
        let stop = self.stopping.as_ref().map(|stop| stop.deadline);
        let failed = self.failed.next_wakeup().filter(|_| !self.is_closing());
        [self.wakeup, intakes, stop, failed].into_iter().flatten().min()
    }
}
