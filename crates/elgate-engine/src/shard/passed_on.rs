//! Submissions that were found on this shard's rings and passed on to the shard of their route.
//!
//! What they keep of a ring is this shard's affair: the other one cannot see that it is full. One
//! that has no answer after a second is taken for stuck, as on a [route](crate::route::Route).

use super::Address;
use crate::route::{Acknowledgement, STUCK_AFTER, Verdict};
use elgate_types::{Monotonic, RouteName};
use std::collections::{BTreeMap, BTreeSet};

/// See the module text. As many as there are in the rings and set aside.
#[derive(Default)]
pub(super) struct PassedOn {
    /// By intake, ring and position.
    waiting: BTreeMap<(u16, u64, u64), Waiting>,
    /// Routes that are closed to producers.
    closed: BTreeSet<RouteName>,
}

struct Waiting {
    address: Address,
    route: RouteName,
    since: Monotonic,
    is_aside: bool,
}

fn key(address: &Address) -> (u16, u64, u64) {
    (address.intake, address.ring_id, address.position)
}

impl PassedOn {
    pub(super) fn add(&mut self, address: Address, route: RouteName, now: Monotonic) {
        let waiting = Waiting { address, route, since: now, is_aside: false };
        self.waiting.insert(key(&address), waiting);
    }

    pub(super) fn finish(&mut self, address: &Address) {
        self.waiting.remove(&key(address));
    }

    /// Closes the routes of those that are stuck, and opens the others. Whether that changes any.
    pub(super) fn close(&mut self, pressed: bool, now: Monotonic) -> bool {
        let stuck = self.waiting.values().filter(|one| one.is_stuck(now));
        let stuck = stuck.filter(|one| pressed || self.closed.contains(&one.route));
        let closed = stuck.map(|one| one.route.clone()).collect();
        let changed = self.closed != closed;
        self.closed = closed;
        changed
    }

    pub(super) fn closed(&self) -> impl Iterator<Item = &RouteName> + Clone {
        self.closed.iter()
    }

    /// Asks the rings to set aside what is stuck, in order.
    pub(super) fn set_aside(&mut self, now: Monotonic, out: &mut Vec<Acknowledgement>) {
        for one in self.waiting.values_mut().filter(|one| one.is_stuck(now) && !one.is_aside) {
            one.is_aside = true;
            out.push(Acknowledgement { address: one.address, verdict: Verdict::SetAside });
        }
    }

    /// Asks again for what a ring could not set aside.
    pub(super) fn ask_again(&mut self) {
        self.waiting.values_mut().for_each(|one| one.is_aside = false);
    }
}

impl Waiting {
    fn is_stuck(&self, now: Monotonic) -> bool {
        now.since(self.since) >= STUCK_AFTER
    }
}
