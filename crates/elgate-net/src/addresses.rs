//! The addresses of an origin: resolved off the shard's thread, kept for a while, and tried from
//! the one that worked last.

use crate::Origin;
use elgate_io::{BlockingReply, Op};
use elgate_types::Monotonic;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// Most addresses of one host that are tried.
const ADDRESSES_MAX: usize = 8;

#[derive(Debug)]
pub(crate) struct Addresses {
    known: Vec<SocketAddr>,
    /// Where to begin in `known`.
    preferred: usize,
    /// Until when `known` may be used; an address written as such is good for ever.
    fresh_until: Monotonic,
    ttl: Duration,
}

impl Addresses {
    pub(crate) fn new(origin: &Origin, ttl: Duration) -> Self {
        match origin.host.parse::<IpAddr>() {
            Ok(address) => Self {
                known: vec![SocketAddr::new(address, origin.port)],
                preferred: 0,
                fresh_until: Monotonic(u64::MAX),
                ttl,
            },
            Err(_) => {
                Self { known: Vec::new(), preferred: 0, fresh_until: Monotonic::default(), ttl }
            }
        }
    }

    /// The operation that resolves the origin's name.
    pub(crate) fn resolve_op(origin: &Origin) -> Op {
        let Origin { host, port } = origin.clone();
        Op::Blocking(Box::new(move |platform| {
            platform.resolve(&host, port).map(|addresses| Box::new(addresses) as BlockingReply)
        }))
    }

    /// Whether addresses are known and recent.
    pub(crate) fn are_fresh(&self, now: Monotonic) -> bool {
        !self.known.is_empty() && now < self.fresh_until
    }

    /// Takes what the resolver found.
    pub(crate) fn learn(&mut self, mut found: Vec<SocketAddr>, now: Monotonic) -> io::Result<()> {
        if found.is_empty() {
            return Err(io::Error::new(io::ErrorKind::NotFound, "the name has no address"));
        }
        found.truncate(ADDRESSES_MAX);
        let worked = self.known.get(self.preferred).copied();
        self.preferred = found.iter().position(|&one| Some(one) == worked).unwrap_or(0);
        self.known = found;
        self.fresh_until = now.after(self.ttl);
        Ok(())
    }

    /// The address to try after `tried` others; `None` once all have been.
    pub(crate) fn nth(&self, tried: usize) -> Option<SocketAddr> {
        if tried >= self.known.len() {
            return None;
        }
        self.known.get((self.preferred + tried) % self.known.len()).copied()
    }

    /// How many addresses are left after `tried`.
    pub(crate) fn left(&self, tried: usize) -> usize {
        self.known.len().saturating_sub(tried)
    }

    /// That address took a connection: begin with it next time.
    pub(crate) fn worked(&mut self, address: SocketAddr) {
        if let Some(index) = self.known.iter().position(|&one| one == address) {
            self.preferred = index;
        }
    }

    /// None took a connection: the name may have moved, so ask again before the next attempt.
    pub(crate) fn none_worked(&mut self) {
        if self.fresh_until != Monotonic(u64::MAX) {
            self.fresh_until = Monotonic::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(last: u8) -> SocketAddr {
        SocketAddr::from(([10, 0, 0, last], 80))
    }

    #[test]
    fn begins_with_what_worked_and_goes_round_once() {
        let origin = Origin { host: "h".into(), port: 80 };
        let mut addresses = Addresses::new(&origin, Duration::from_nanos(30));
        assert!(!addresses.are_fresh(Monotonic(0)));
        assert!(addresses.learn(vec![], Monotonic(0)).is_err());
        addresses.learn(vec![address(1), address(2), address(3)], Monotonic(10)).expect("some");
        addresses.worked(address(2));
        let order: Vec<_> = (0..4).map(|tried| addresses.nth(tried)).collect();
        assert_eq!(order, [Some(address(2)), Some(address(3)), Some(address(1)), None]);
        assert!(addresses.are_fresh(Monotonic(39)) && !addresses.are_fresh(Monotonic(40)));
        addresses.learn(vec![address(3), address(2)], Monotonic(40)).expect("some");
        assert_eq!(addresses.nth(0), Some(address(2)));
        addresses.none_worked();
        assert!(!addresses.are_fresh(Monotonic(41)));
        addresses.learn((1..100).map(address).collect(), Monotonic(42)).expect("some");
        assert_eq!(addresses.left(0), ADDRESSES_MAX);
    }

    #[test]
    fn an_address_as_host_needs_no_resolver() {
        let origin = Origin { host: "::1".into(), port: 8080 };
        let mut addresses = Addresses::new(&origin, Duration::ZERO);
        addresses.none_worked();
        assert!(addresses.are_fresh(Monotonic(1 << 60)));
        assert_eq!(addresses.nth(0), Some("[::1]:8080".parse().expect("sound")));
    }
}
