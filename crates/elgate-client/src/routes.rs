//! Route handles: names are looked up once, submissions use an index.

use elgate_types::RouteName;
use elgate_types::limits::ROUTES_MAX;
use std::collections::BTreeMap;
use std::sync::{Mutex, OnceLock, PoisonError};

/// A route as its client knows it. Cheap to copy; belongs to the client that gave it out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RouteHandle(u32);

impl RouteHandle {
    /// The handle as a number, to carry it through a binding.
    #[must_use]
    pub fn index(self) -> u32 {
        self.0
    }

    /// The handle with this number. One that the client did not give out is refused when used.
    #[must_use]
    pub fn from_index(index: u32) -> Self {
        Self(index)
    }
}

/// What is known of a route.
#[derive(Debug)]
pub(crate) struct Route {
    pub(crate) name: RouteName,
    /// The lane it travels on.
    pub(crate) lane: usize,
}

/// All routes that were asked for. Reading takes no lock.
#[derive(Debug)]
pub(crate) struct Routes {
    by_index: Box<[OnceLock<Route>]>,
    by_name: Mutex<BTreeMap<RouteName, u32>>,
}

impl Routes {
    pub(crate) fn new() -> Self {
        let by_index = (0..ROUTES_MAX).map(|_| OnceLock::new()).collect();
        Self { by_index, by_name: Mutex::new(BTreeMap::new()) }
    }

    /// The handle of a name. Beyond the limit of routes, one that is refused when used.
    pub(crate) fn handle(&self, name: &RouteName, lanes: usize) -> RouteHandle {
        let mut by_name = self.by_name.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(&index) = by_name.get(name) {
            return RouteHandle(index);
        }
        let Some(slot) = self.by_index.get(by_name.len()) else {
            return RouteHandle(u32::MAX);
        };
        let lane = (name.stable_hash() % lanes as u64) as usize;
        let index = by_name.len() as u32;
        slot.get_or_init(|| Route { name: name.clone(), lane });
        by_name.insert(name.clone(), index);
        RouteHandle(index)
    }

    pub(crate) fn get(&self, handle: RouteHandle) -> Option<&Route> {
        self.by_index.get(handle.0 as usize)?.get()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_handle_per_name_up_to_the_limit() {
        let routes = Routes::new();
        let name = |index: usize| RouteName::new(&format!("route-{index}")).expect("valid");
        let first = routes.handle(&name(0), 4);
        assert_eq!(routes.handle(&name(0), 4), first);
        let route = routes.get(first).expect("known");
        assert_eq!(route.lane as u64, name(0).stable_hash() % 4);
        for index in 1..ROUTES_MAX {
            assert!(routes.get(routes.handle(&name(index), 4)).is_some());
        }
        assert!(routes.get(routes.handle(&name(ROUTES_MAX), 4)).is_none());
        assert_eq!(routes.handle(&name(0), 4), first);
    }
}
