//! Stopping: drain, close, end.

use super::{Reply, Shard};
use crate::error::EngineError;
use crate::failed_route::FailedRoute;
use elgate_types::{Monotonic, RouteName};
use std::time::Duration;

/// How long a shard that is told to stop gives its parts to end what they began, once there is
/// nothing left to deliver or no time to deliver it.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

/// How far stopping has come.
pub(super) struct Stopping {
    pub(super) deadline: Monotonic,
    pub(super) remove_rings: bool,
    pub(super) reply: Reply<Vec<(RouteName, u64)>>,
    pub(super) phase: StopPhase,
}

#[derive(PartialEq)]
pub(super) enum StopPhase {
    /// Still taking what is on the rings and delivering.
    Draining,
    /// Sinks and logs finish what they began.
    Closing,
    Done,
}

impl Shard {
    /// The end: rings that nobody is to find any more go.
    pub(super) fn leave_rings(&mut self) {
        let remove = self.stopping.as_ref().is_some_and(|stop| stop.remove_rings);
        for intake in self.intakes.drain(..) {
            if remove {
                intake.into_consumer().remove_if_empty();
            }
        }
    }

    pub(super) fn advance_stop(&mut self, now: Monotonic) {
        let Some(stop) = &mut self.stopping else { return };
        let routes = || self.routes.iter().flatten();
        match stop.phase {
            StopPhase::Draining => {
                let ring_empty = self.intakes.iter().all(|intake| intake.used_slots() == 0);
                let drained = ring_empty && routes().all(|route| route.is_drained());
                if !drained && now < stop.deadline {
                    return;
                }
                stop.phase = StopPhase::Closing;
                stop.deadline = now.after(CLOSE_GRACE);
                let slots: Vec<usize> = (0..self.routes.len()).collect();
                for slot in slots {
                    self.touch(slot, |route| route.close(now));
                }
            }
            StopPhase::Closing => {
                let expired = now >= stop.deadline;
                let closed = self.routes.iter_mut().flatten().all(|route| route.is_closed())
                    && !self.failed.iter().any(FailedRoute::is_opening);
                if !(closed || expired) {
                    return;
                }
                let routes = self.routes.iter().flatten();
                let waiting = self.failed.iter().map(|it| (it.name.clone(), it.waiting_records()));
                let undelivered = routes
                    .map(|route| (route.name.clone(), route.undelivered()))
                    .chain(waiting)
                    .filter(|(_, count)| *count > 0)
                    .collect();
                stop.phase = StopPhase::Done;
                answer(&stop.reply, Ok(undelivered));
            }
            StopPhase::Done => {}
        }
    }
}

/// Sends a command's answer.
pub(super) fn answer<T>(reply: &Reply<T>, result: Result<T, EngineError>) {
    // The asker may have given up: then nobody needs the answer.
    let _ = reply.try_send(result);
}
