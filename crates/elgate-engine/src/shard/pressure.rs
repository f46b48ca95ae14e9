//! Rings that a stuck route would fill up for everybody else.
//!
//! A route whose log cannot be written, or does not answer, keeps the slots of what it was given.
//! Once a ring is half full, that is [set aside](elgate_ring::Consumer::set_aside), and producers
//! are asked to leave the route alone until its log has caught up.

use super::Shard;
use elgate_types::{Monotonic, mark};
use std::time::Duration;

/// A ring with more slots taken than this no longer waits for a stuck log. Half of a ring.
const PRESSURE_SLOTS: u64 = 512;
/// How long after a failure setting aside is tried again.
pub(super) const ASIDE_AGAIN_AFTER: Duration = Duration::from_secs(1);

impl Shard {
    /// Makes room where it is needed, and lets producers at routes again that take something.
    pub(super) fn relieve_rings(&mut self, now: Monotonic) {
        let pressed = self.intakes.iter().any(|intake| intake.used_slots() > PRESSURE_SLOTS);
        if !pressed && self.closed_routes == 0 {
            return;
        }
        let again = self.aside_again_at.is_some_and(|at| at <= now);
        if again {
            self.aside_again_at = None;
            self.passed_on.ask_again();
        }
        let mut changed = self.passed_on.close(pressed, now);
        if pressed && self.aside_again_at.is_none() {
            self.passed_on.set_aside(now, &mut self.acknowledgements);
        }
        let mut closed = self.passed_on.closed().count();
        for route in self.routes.iter_mut().flatten() {
            let was_closed = route.is_closed_to_producers;
            if again {
                route.ask_again_to_set_aside();
            }
            if pressed && route.is_stuck(now) {
                route.is_closed_to_producers = true;
                // What comes later does not overtake what has found no room.
                if self.aside_again_at.is_none() {
                    route.set_aside(&mut self.acknowledgements);
                }
                if !was_closed {
                    mark::hit("route.closed");
                }
            } else if was_closed && route.takes_again(now) {
                route.is_closed_to_producers = false;
                mark::hit("route.opened");
            }
            changed |= was_closed != route.is_closed_to_producers;
            closed += usize::from(route.is_closed_to_producers);
        }
        changed |= self.failed.relieve(
            pressed,
            again,
            self.aside_again_at.is_none(),
            &mut self.acknowledgements,
        );
        closed += self.failed.closed().count();
        // A closed route may also have been removed.
        if changed || closed != self.closed_routes {
            self.closed_routes = closed;
            let routes = self.routes.iter().flatten();
            let names =
                routes.filter(|route| route.is_closed_to_producers).map(|route| &route.name);
            let names = names.chain(self.passed_on.closed()).chain(self.failed.closed());
            for intake in &mut self.intakes {
                intake.set_closed(names.clone());
            }
        }
    }
}
