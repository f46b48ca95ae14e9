//! Routes that could not be opened: what is sent to them waits here until they can.

use super::event_loop::{PART_OPEN, PART_SHIFT};
use super::obey::unknown;
use super::stop::answer;
use super::{Reply, Shard};
use crate::failed_route::{Attempt, FailedRoute};
use crate::route::{Acknowledgement, Incoming};
use elgate_io::Completion;
use elgate_types::{Monotonic, RouteName, WallTime};
use std::collections::BTreeMap;

/// Those of one shard. Normally none.
#[derive(Default)]
pub(super) struct FailedRoutes {
    /// By the number that their operations carry.
    by_number: BTreeMap<u32, FailedRoute>,
    next_number: u32,
}

impl FailedRoutes {
    pub(super) fn add(&mut self, route: FailedRoute) {
        self.by_number.insert(self.next_number, route);
        self.next_number = self.next_number.wrapping_add(1);
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = &FailedRoute> {
        self.by_number.values()
    }

    pub(super) fn get(&self, name: &RouteName) -> Option<&FailedRoute> {
        self.iter().find(|route| route.name == *name)
    }

    pub(super) fn get_mut(&mut self, name: &RouteName) -> Option<&mut FailedRoute> {
        self.by_number.values_mut().find(|route| route.name == *name)
    }

    /// Takes a submission to one of them. `false`: there is none of that name.
    pub(super) fn hold(&mut self, name: &RouteName, incoming: &Incoming<'_>) -> bool {
        self.get_mut(name).is_some_and(|route| route.hold(incoming))
    }

    pub(super) fn next_wakeup(&self) -> Option<Monotonic> {
        self.iter().filter_map(FailedRoute::next_wakeup).min()
    }

    /// Removes one; `reply` hears of it when nothing of it is under way.
    pub(super) fn remove(
        &mut self,
        name: &RouteName,
        reply: Reply<()>,
        acknowledgements: &mut Vec<Acknowledgement>,
    ) {
        let Some(route) = self.get_mut(name) else { return answer(&reply, Err(unknown(name))) };
        if let Some(reply) = route.remove(reply, acknowledgements) {
            self.by_number.retain(|_, route| route.name != *name);
            answer(&reply, Ok(()));
        }
    }

    /// See [`Shard::relieve_rings`]. Whether it asks more producers to wait than before.
    pub(super) fn relieve(
        &mut self,
        pressed: bool,
        again: bool,
        may_set_aside: bool,
        acknowledgements: &mut Vec<Acknowledgement>,
    ) -> bool {
        let mut changed = false;
        for route in self.by_number.values_mut() {
            if again {
                route.ask_again_to_set_aside();
            }
            if pressed {
                changed |= !std::mem::replace(&mut route.is_closed_to_producers, true);
                if may_set_aside {
                    route.set_aside(acknowledgements);
                }
            }
        }
        changed
    }

    /// Those that producers are asked to leave alone.
    pub(super) fn closed(&self) -> impl Iterator<Item = &RouteName> + Clone {
        let routes = self.by_number.values();
        routes.filter(|route| route.is_closed_to_producers).map(|route| &route.name)
    }
}

impl Shard {
    /// Begins the attempts that are due.
    pub(super) fn open_failed(&mut self, now: Monotonic) -> bool {
        if self.is_closing() {
            return false;
        }
        let mut any = false;
        for (number, route) in &mut self.failed.by_number {
            if let Some(op) = route.poll_op(now) {
                self.driver.submit(PART_OPEN << PART_SHIFT | u64::from(*number), op);
                any = true;
            }
        }
        any
    }

    /// Takes the end of an attempt. A route that is open now goes on with what waited.
    pub(super) fn take_attempt(&mut self, completion: Completion, now: Monotonic, wall: WallTime) {
        let number = (completion.token & 0xffff_ffff) as u32;
        let Some(failed) = self.failed.by_number.get_mut(&number) else { return };
        match failed.handle(completion, now, wall) {
            Attempt::Failed => {}
            Attempt::Removed => drop(self.failed.by_number.remove(&number)),
            // The next engine takes what waits from the rings.
            Attempt::Opened(_) if self.is_closing() => {}
            Attempt::Opened(mut route) => {
                if let Some(failed) = self.failed.by_number.remove(&number) {
                    failed.hand_over(&mut route, wall, &mut self.acknowledgements);
                }
                self.install(route).expect("one route has the name, and it is this one");
            }
        }
    }
}
