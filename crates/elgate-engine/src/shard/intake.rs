//! One ring's consumer as the shard uses it.
//!
//! Watches for a head that stays claimed (its producer may be dead), replaces a ring whose words
//! make no sense, and posts acknowledgements.

use crate::route::{Acknowledgement, Verdict};
use crate::status::RingStatus;
use elgate_io::FutexWord;
use elgate_ring::{Consumer, LeftOver, RingError, Submission};
use elgate_types::limits::RING_BATCH_SLOTS_MAX;
use elgate_types::{Monotonic, RouteName, mark};
use std::time::Duration;

/// How long a claim may stay open before its owner's pulse is felt for the first time.
const FIRST_CHECK: Duration = Duration::from_millis(1);
/// And how often after that, and for participants in general. Also the longest sleep: a producer
/// killed between clearing the flag and waking leaves the wake to it.
const NEXT_CHECK: Duration = Duration::from_secs(1);

/// How long a ring that is to be replaced waits for what was taken from it to be finished, and how
/// long after an attempt that failed the next one is made.
const REPLACE_AFTER: Duration = Duration::from_secs(1);

/// See the module text.
pub(crate) struct Intake {
    consumer: Consumer,
    blocked_check_at: Option<Monotonic>,
    census_at: Monotonic,
    submissions: u64,
    replaced: u64,
    /// Set while a ring that was given up is not replaced yet: when to do so.
    replace_at: Option<Monotonic>,
    /// Why it could not be replaced so far, or something not set aside.
    trouble: Option<RingError>,
    /// Whether a futex wait on the ring's word is under way in the driver.
    pub(crate) futex_armed: bool,
}

impl Intake {
    pub(crate) fn new(consumer: Consumer) -> Self {
        Self {
            consumer,
            blocked_check_at: None,
            census_at: Monotonic::default(),
            submissions: 0,
            replaced: 0,
            replace_at: None,
            trouble: None,
            futex_armed: false,
        }
    }

    /// See [`Consumer::left_over`].
    pub(crate) fn left_over(&self, found: &mut LeftOver) {
        self.consumer.left_over(found);
    }

    /// Hands up to 64 submissions to `take`.
    ///
    /// A poisoned ring is replaced first; what could be salvaged from it comes out of the new one.
    pub(crate) fn pop(&mut self, now: Monotonic, take: &mut dyn FnMut(&Submission<'_>)) -> usize {
        let taken = match self.consumer.pop(RING_BATCH_SLOTS_MAX, take) {
            Ok(taken) => taken,
            Err(_poisoned) => {
                self.replace(now);
                0
            }
        };
        self.submissions += taken as u64;
        taken
    }

    /// Replaces the ring: soon, so that what was taken can still be acknowledged on it; and again,
    /// should there be no room for another one. Until then its producers wait.
    fn replace(&mut self, now: Monotonic) {
        let at = *self.replace_at.get_or_insert(now.after(REPLACE_AFTER));
        let settled = self.consumer.in_flight() == 0 && self.trouble.is_none();
        if at > now && !settled {
            return;
        }
        match self.consumer.replace() {
            Ok(_salvaged) => {
                mark::hit("ring.replaced");
                self.replaced += 1;
                self.futex_armed = false;
                self.replace_at = None;
                self.trouble = None;
            }
            Err(error) => {
                self.replace_at = Some(now.after(REPLACE_AFTER));
                self.trouble = Some(error);
            }
        }
    }

    /// Whether nothing can be taken before the ring is replaced.
    pub(crate) fn awaits_replacement(&self) -> bool {
        self.replace_at.is_some()
    }

    /// Posts acknowledgements, releases their slots, wakes who waits for either. `false`: something
    /// could not be set aside and has kept its slots.
    pub(crate) fn finish<'a>(
        &mut self,
        acknowledgements: impl Iterator<Item = &'a Acknowledgement>,
    ) -> bool {
        let mut failed = None;
        for Acknowledgement { address, verdict } in acknowledgements {
            match verdict {
                Verdict::Finished(completion) => {
                    self.consumer.finish(address.ring_id, address.position, *completion);
                }
                Verdict::SetAside if failed.is_none() => {
                    match self.consumer.set_aside(address.ring_id, address.position) {
                        Ok(()) if self.replace_at.is_none() => self.trouble = None,
                        Ok(()) => {}
                        Err(error) => failed = Some(error),
                    }
                }
                Verdict::SetAside => {}
            }
        }
        self.consumer.publish_completions();
        self.consumer.release();
        let all_done = failed.is_none();
        if !all_done {
            mark::hit("ring.set_aside_failed");
            self.trouble = failed;
        }
        all_done
    }

    /// Asks producers to leave these routes alone, and none but these.
    pub(crate) fn set_closed<'a>(&mut self, routes: impl Iterator<Item = &'a RouteName>) {
        let mut routes = routes.peekable();
        if routes.peek().is_none() && self.replace_at.is_none() {
            self.trouble = None;
        }
        self.consumer.set_closed(routes);
    }

    /// Feels the pulse of producers when it is time: soon after the head got stuck on an open
    /// claim, and now and then in any case.
    pub(crate) fn check_producers(&mut self, now: Monotonic) {
        if !self.consumer.is_blocked() {
            self.blocked_check_at = None;
        } else if self.blocked_check_at.is_none() {
            self.blocked_check_at = Some(now.after(FIRST_CHECK));
        }
        let blocked_due = self.blocked_check_at.is_some_and(|at| at <= now);
        if blocked_due || self.census_at <= now {
            self.consumer.recover_dead();
            self.census_at = now.after(NEXT_CHECK);
            if blocked_due {
                self.blocked_check_at = Some(now.after(NEXT_CHECK));
            }
        }
    }

    /// When to look again though nothing has happened.
    pub(crate) fn next_wakeup(&self) -> Monotonic {
        let others = [self.blocked_check_at, self.replace_at].into_iter().flatten();
        others.fold(self.census_at, Monotonic::min)
    }

    /// Announces sleep. `false`: something arrived meanwhile, do not sleep.
    pub(crate) fn prepare_sleep(&mut self) -> bool {
        // Also returns when what was taken has been finished.
        self.awaits_replacement() || self.consumer.prepare_sleep()
    }

    pub(crate) fn end_sleep(&mut self) {
        self.consumer.end_sleep();
    }

    /// The word that producers wake, and the value it has while we sleep.
    pub(crate) fn futex_word(&self) -> (FutexWord, u32) {
        (self.consumer.futex_word(), elgate_ring::SLEEPING)
    }

    /// Slots that cannot be claimed now.
    pub(crate) fn used_slots(&self) -> u64 {
        self.consumer.used_slots()
    }

    pub(crate) fn status(&self) -> RingStatus {
        let stats = self.consumer.stats();
        RingStatus {
            path: self.consumer.path().to_path_buf(),
            used_slots: stats.used_slots,
            set_aside: stats.set_aside as u64,
            slots: stats.slots,
            participants: stats.participants as u64,
            submissions_total: self.submissions,
            corrupt_total: stats.corrupt,
            aborted_total: stats.aborted,
            replaced_total: self.replaced,
            trouble: self.trouble.as_ref().map(ToString::to_string),
        }
    }

    /// Gives the consumer back at the end.
    pub(crate) fn into_consumer(self) -> Consumer {
        self.consumer
    }
}
