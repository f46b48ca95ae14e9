//! The disk with its faults: a [`Medium`] behind rules that the test sets and counters that tell
//! what they struck.

use std::ops::Range;

use crate::medium::{Medium, Survivors};
use crate::random::Random;

/// What the kernel asks of the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Request {
    Read,
    Write,
    Flush,
}

impl Request {
    pub(crate) const ALL: [Self; 3] = [Self::Read, Self::Write, Self::Flush];

    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Flush => "flush",
        }
    }
}

/// Requests of a kind that touch the range fail: `after` pass first, then `left` fail.
struct Failure {
    request: Request,
    after: u64,
    /// `None`: all of them, until healed.
    left: Option<u64>,
    range: Range<usize>,
}

/// What happened since the disk was made.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Counters {
    /// Requests answered well, by kind.
    pub(crate) served: [u64; 3],
    /// Requests that failed because a rule said so, by kind.
    pub(crate) failed: [u64; 3],
    /// Requests that came while the power was off.
    pub(crate) refused: u64,
    /// Requests that were delayed.
    pub(crate) delayed: u64,
    /// Flushes that were answered well and did nothing.
    pub(crate) lies: u64,
    /// Writes that were held back.
    pub(crate) held: u64,
    /// Power cuts, and what they did to writes that were not flushed.
    pub(crate) cuts: u64,
    pub(crate) unflushed: u64,
    pub(crate) dropped: u64,
    pub(crate) torn: u64,
}

/// The request failed: the kernel gets EIO.
pub(crate) struct Failed;

/// A cut that waits for its moment: the arrival of a request.
struct ArmedCut {
    survivors: Survivors,
    seed: u64,
    request: Request,
    after: u64,
}

/// A write that is held back, and its answer.
pub(crate) type Held = Box<dyn FnOnce(&mut Disk) + Send>;

pub(crate) struct Disk {
    medium: Medium,
    failures: Vec<Failure>,
    /// Writes that touch this range do not happen for now.
    hold: Option<Range<usize>>,
    held: Vec<Held>,
    armed: Option<ArmedCut>,
    /// Before every request, in microseconds.
    pub(crate) delay_us: u64,
    /// Flushes are answered well and do nothing.
    pub(crate) lying: bool,
    powered: bool,
    pub(crate) counters: Counters,
}

impl Disk {
    pub(crate) fn new(bytes: usize) -> Self {
        Self {
            medium: Medium::new(bytes),
            failures: Vec::new(),
            hold: None,
            held: Vec::new(),
            armed: None,
            delay_us: 0,
            lying: false,
            powered: true,
            counters: Counters::default(),
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.medium.len()
    }

    /// Lets `count` requests of a kind fail that touch `range`, once `after` of them have passed.
    pub(crate) fn fail(
        &mut self,
        request: Request,
        after: u64,
        count: Option<u64>,
        range: Range<usize>,
    ) {
        self.failures.push(Failure { request, after, left: count, range });
    }

    /// Lets the power fail when the request of a kind arrives before which `after` others of it
    /// have: in place of that request, but a write may survive in part.
    pub(crate) fn arm_cut(
        &mut self,
        survivors: Survivors,
        seed: u64,
        request: Request,
        after: u64,
    ) {
        self.armed = Some(ArmedCut { survivors, seed, request, after });
    }

    /// Holds writes back that touch `range` and come from now on, until [`Self::go`].
    pub(crate) fn hold(&mut self, range: Range<usize>) {
        self.hold = Some(range);
    }

    /// Whether a write is one of those to be held back: the disk's user then hands it to
    /// [`Self::keep`] instead.
    pub(crate) fn holds(&self, offset: usize, length: usize) -> bool {
        let touches = |range: &Range<usize>| {
            range.start < offset.saturating_add(length) && offset < range.end
        };
        self.powered && self.hold.as_ref().is_some_and(touches)
    }

    /// Holds a write back.
    pub(crate) fn keep(&mut self, write: Held) {
        self.counters.held += 1;
        self.held.push(write);
    }

    /// Holds no write back any more that comes from now on; those held stay so.
    pub(crate) fn pass(&mut self) {
        self.hold = None;
    }

    /// Lets what is held back happen, in the order in which it came.
    pub(crate) fn go(&mut self) {
        self.hold = None;
        for write in std::mem::take(&mut self.held) {
            write(self);
        }
    }

    /// Takes all rules back. The power stays as it is.
    pub(crate) fn heal(&mut self) {
        self.go();
        self.failures.clear();
        self.delay_us = 0;
        self.lying = false;
    }

    /// The power fails: until [`Self::power_on`] every request is refused.
    pub(crate) fn cut(&mut self, survivors: Survivors, seed: u64) {
        let cut = self.medium.cut(survivors, &mut Random::new(seed));
        self.powered = false;
        self.armed = None;
        self.counters.cuts += 1;
        self.counters.unflushed += cut.unflushed;
        self.counters.dropped += cut.dropped;
        self.counters.torn += cut.torn;
    }

    pub(crate) fn power_on(&mut self) {
        self.powered = true;
    }

    pub(crate) fn read(&mut self, offset: usize, length: usize) -> Result<&[u8], Failed> {
        self.admit(Request::Read, offset..offset.saturating_add(length))?;
        Ok(self.medium.read(offset, length))
    }

    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) -> Result<(), Failed> {
        if self.powered && self.is_moment(Request::Write) {
            self.medium.write(offset, bytes);
            self.cut_armed();
        }
        self.admit(Request::Write, offset..offset.saturating_add(bytes.len()))?;
        if self.medium.write(offset, bytes) { Ok(()) } else { Err(Failed) }
    }

    pub(crate) fn flush(&mut self) -> Result<(), Failed> {
        if self.powered && self.is_moment(Request::Flush) {
            self.cut_armed();
        }
        self.admit(Request::Flush, 0..self.len())?;
        if self.lying {
            self.counters.lies += 1;
        } else {
            self.medium.flush();
        }
        Ok(())
    }

    /// Whether this request is the one that the armed cut waits for; counts it if not.
    fn is_moment(&mut self, request: Request) -> bool {
        match &mut self.armed {
            Some(armed) if armed.request == request => {
                armed.after = match armed.after.checked_sub(1) {
                    Some(left) => left,
                    None => return true,
                };
                false
            }
            _ => false,
        }
    }

    fn cut_armed(&mut self) {
        if let Some(ArmedCut { survivors, seed, .. }) = self.armed.take() {
            self.cut(survivors, seed);
        }
    }

    fn admit(&mut self, request: Request, touched: Range<usize>) -> Result<(), Failed> {
        if !self.powered {
            self.counters.refused += 1;
            return Err(Failed);
        }
        self.counters.delayed += u64::from(self.delay_us > 0);
        for failure in &mut self.failures {
            let touches = failure.range.start < touched.end && touched.start < failure.range.end;
            if failure.request != request || !touches {
                continue;
            }
            if failure.after > 0 {
                failure.after -= 1;
                continue;
            }
            match &mut failure.left {
                Some(0) => continue,
                Some(left) => *left -= 1,
                None => {}
            }
            self.counters.failed[request as usize] += 1;
            return Err(Failed);
        }
        self.counters.served[request as usize] += 1;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nth_write_into_a_range_fails_as_often_as_told() {
        let mut disk = Disk::new(64 << 10);
        disk.fail(Request::Write, 1, Some(2), 4096..8192);
        let outcomes: Vec<bool> = [0, 4096, 4096, 0, 4608, 4096]
            .into_iter()
            .map(|offset| disk.write(offset, &[7; 512]).is_ok())
            .collect();
        assert_eq!(outcomes, [true, true, false, true, false, true]);
        assert_eq!(disk.counters.failed, [0, 2, 0]);
        assert_eq!(disk.counters.served, [0, 4, 0]);
    }

    #[test]
    fn an_armed_cut_strikes_in_place_of_its_request() {
        for request in [Request::Write, Request::Flush] {
            let mut disk = Disk::new(4096);
            disk.arm_cut(Survivors::All, 1, request, 1);
            assert!(disk.write(0, &[7; 512]).is_ok());
            assert!(disk.flush().is_ok());
            assert_eq!(disk.write(512, &[8; 512]).is_ok(), request == Request::Flush);
            assert!(disk.flush().is_err(), "the power is off");
            assert_eq!(disk.counters.cuts, 1);
            disk.power_on();
            assert!(disk.read(512, 512).is_ok_and(|bytes| bytes == [8; 512]));
            assert!(disk.flush().is_ok(), "it strikes once");
        }
    }

    #[test]
    fn a_held_write_happens_when_it_is_let_go_after_what_came_later() {
        let mut disk = Disk::new(8192);
        disk.hold(0..4096);
        assert!(disk.holds(512, 512) && !disk.holds(4096, 512));
        disk.keep(Box::new(|disk| assert!(disk.write(512, &[7; 512]).is_ok())));
        disk.pass();
        assert!(!disk.holds(512, 512));
        assert!(disk.write(512, &[8; 512]).is_ok());
        assert!(disk.read(512, 512).is_ok_and(|bytes| bytes == [8; 512]));
        disk.go();
        assert!(disk.read(512, 512).is_ok_and(|bytes| bytes == [7; 512]));
        assert_eq!(disk.counters.held, 1);
    }

    #[test]
    fn a_failed_write_changes_nothing() {
        let mut disk = Disk::new(4096);
        disk.fail(Request::Write, 0, None, 0..4096);
        assert!(disk.write(0, &[7; 512]).is_err());
        disk.heal();
        assert!(disk.read(0, 512).is_ok_and(|bytes| bytes == [0; 512]));
    }

    #[test]
    fn a_failed_flush_and_a_lie_keep_nothing() {
        for lying in [false, true] {
            let mut disk = Disk::new(4096);
            assert!(disk.write(0, &[7; 512]).is_ok());
            disk.lying = lying;
            if !lying {
                disk.fail(Request::Flush, 0, Some(1), 0..4096);
            }
            assert_eq!(disk.flush().is_ok(), lying);
            disk.cut(Survivors::None, 1);
            assert!(disk.read(0, 512).is_err(), "the power is off");
            disk.power_on();
            assert!(disk.read(0, 512).is_ok_and(|bytes| bytes == [0; 512]));
            assert_eq!(disk.counters.lies, u64::from(lying));
        }
    }
}
