//! The event loop of a shard.
//!
//! ```text
//!  ┌─► messages ─► ring: up to 64 slots ─► routes: append, submit ─► driver ─► completions ─┐
//!  │                                                                                        │
//!  └──── nothing to do: spin a little, then sleep ◄──── acknowledgements, releases ◄────────┘
//! ```
//!
//! No system call per record: slots are polled in shared memory, operations are handed to the
//! kernel once per turn, and acknowledgements are written to shared memory.

use super::failed::FailedRoutes;
use super::obey::Closing;
use super::passed_on::PassedOn;
use super::pressure::ASIDE_AGAIN_AFTER;
use super::spin::Spin;
use super::stop::{StopPhase, Stopping};
use super::{Address, Command, Foreign, Intake, Mailbox, ShardStart};
use crate::error::EngineError;
use crate::route::{Acknowledgement, Incoming, Part, Route};
use crate::status::ShardStatus;
use elgate_io::{Completion, Driver, Token, Wait};
use elgate_types::{ErrorCode, Monotonic, RouteName, WallTime};
use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// How a shard is built.
pub(crate) struct ShardOptions {
    pub(crate) index: usize,
    pub(crate) shard_count: usize,
    pub(crate) spin: Duration,
    /// The core it should be pinned to.
    pub(crate) core: Option<usize>,
}

/// See the module text. Whoever runs it either calls [`run`](Self::run), or takes its turns one by
/// one.
pub struct Shard {
    pub(super) options: ShardOptions,
    pub(super) driver: Box<dyn Driver>,
    pub(super) pinned_core: Option<usize>,
    pub(super) intakes: Vec<Intake>,
    pub(super) routes: Vec<Option<Box<Route>>>,
    pub(super) by_name: HashMap<Box<[u8]>, usize>,
    pub(super) failed: FailedRoutes,
    pub(super) commands: Receiver<Command>,
    pub(super) peers: Arc<OnceLock<Vec<Mailbox>>>,
    /// Commands for peers whose mailbox was full.
    pub(super) outbox: VecDeque<(usize, Command)>,
    pub(super) closing: Vec<Closing>,
    /// Whether submissions are taken; not before all routes are there.
    pub(super) intake_open: bool,
    pub(super) stopping: Option<Stopping>,
    pub(super) completions: Vec<Completion>,
    pub(super) acknowledgements: Vec<Acknowledgement>,
    pub(super) dirty: Vec<usize>,
    pub(super) wakeup: Option<Monotonic>,
    /// What went to other shards and has no answer yet.
    pub(super) passed_on: PassedOn,
    /// How many routes producers have been asked to leave alone.
    pub(super) closed_routes: usize,
    /// When to try once more what a ring could not set aside.
    pub(super) aside_again_at: Option<Monotonic>,
    pub(super) counters: Counters,
}

/// How a turn went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Turn {
    /// Something happened: take another one.
    Worked,
    /// Nothing did: the shard may sleep.
    Idle,
    /// The shard was told to stop, and has.
    Ended,
}

#[derive(Default)]
pub(super) struct Counters {
    turns: u64,
    pub(super) sleeps: u64,
    pub(super) slept: Duration,
    snapshot_at: Monotonic,
    snapshot_slept: Duration,
}

pub(super) const PART_SHIFT: u32 = 56;
const ROUTE_SHIFT: u32 = 32;
const PART_LOG: u64 = 1;
const PART_FEED: u64 = 2;
const PART_SINK: u64 = 3;
pub(super) const PART_RING: u64 = 4;
pub(super) const PART_OPEN: u64 = 5;

fn token(part: Part, route: usize, local: u32) -> Token {
    let part = match part {
        Part::Log => PART_LOG,
        Part::Feed => PART_FEED,
        Part::Sink => PART_SINK,
    };
    part << PART_SHIFT | (route as u64) << ROUTE_SHIFT | u64::from(local)
}

impl Shard {
    pub(super) fn new(
        start: ShardStart,
        mut driver: Box<dyn Driver>,
        pinned_core: Option<usize>,
    ) -> Self {
        let ShardStart { options, intakes, commands, peers, lock, .. } = start;
        driver.hold(&lock);
        let counters = Counters { snapshot_at: driver.now(), ..Counters::default() };
        Self {
            options,
            driver,
            pinned_core,
            intakes,
            routes: Vec::new(),
            by_name: HashMap::new(),
            failed: FailedRoutes::default(),
            commands,
            peers,
            outbox: VecDeque::new(),
            closing: Vec::new(),
            intake_open: false,
            stopping: None,
            completions: Vec::new(),
            acknowledgements: Vec::new(),
            dirty: Vec::new(),
            wakeup: None,
            passed_on: PassedOn::default(),
            closed_routes: 0,
            aside_again_at: None,
            counters,
        }
    }

    /// Runs until told to stop.
    ///
    /// # Errors
    /// `Io` when the I/O backend is broken.
    pub fn run(mut self) -> Result<(), EngineError> {
        let mut spin = Spin::new(self.options.spin);
        loop {
            match self.turn()? {
                Turn::Ended => return Ok(()),
                Turn::Worked => {
                    if spin.is_waiting() {
                        spin.found(self.driver.now());
                    }
                    continue;
                }
                Turn::Idle => {}
            }
            if spin.goes_on(self.driver.now(), self.is_under_way()) {
                std::hint::spin_loop();
                continue;
            }
            if let Some(wait) = self.begin_sleep() {
                self.sleep(wait)?;
            }
            self.end_sleep();
        }
    }

    /// One turn of the loop.
    ///
    /// # Errors
    /// As [`run`](Self::run).
    pub fn turn(&mut self) -> Result<Turn, EngineError> {
        self.counters.turns += 1;
        let mut worked = self.take_commands();
        worked |= self.take_submissions();
        let now = self.driver.now();
        self.relieve_rings(now);
        let wall = self.driver.wall_time();
        self.wake_routes(now);
        worked |= self.open_failed(now);
        worked |= self.pump_routes(now, wall);
        // What is acknowledged is off its ring before anything more is appended.
        self.post_acknowledgements(now);
        worked |= self.take_completions(Wait::Never, now, wall)?;
        worked |= self.pump_routes(now, wall);
        self.finish_closing();
        self.post_acknowledgements(now);
        self.advance_stop(now);
        if self.stopping.as_ref().is_some_and(|stop| stop.phase == StopPhase::Done) {
            self.leave_rings();
            return Ok(Turn::Ended);
        }
        Ok(if worked { Turn::Worked } else { Turn::Idle })
    }

    /// Whether what is on the rings is taken: not before all routes are there, and not once they
    /// are closing.
    pub(super) fn takes(&self) -> bool {
        self.intake_open && !self.is_closing()
    }

    /// Whether what was begun is to end.
    pub(super) fn is_closing(&self) -> bool {
        self.stopping.as_ref().is_some_and(|stop| stop.phase != StopPhase::Draining)
    }

    fn take_submissions(&mut self) -> bool {
        if !self.takes() {
            return false;
        }
        let wall = self.driver.wall_time();
        let now = self.driver.now();
        let mut taken = 0;
        for index in 0..self.intakes.len() {
            let Self { intakes, routes, by_name, failed, acknowledgements, dirty, .. } = self;
            let Some(intake) = intakes.get_mut(index) else { break };
            let mut elsewhere = Vec::new();
            let shard = self.options.index;
            let shard_count = self.options.shard_count;
            taken += intake.pop(now, &mut |submission| {
                let address = Address {
                    shard: shard as u16,
                    intake: index as u16,
                    ring_id: submission.ring_id,
                    position: submission.position,
                };
                if let Some(&slot) = by_name.get(submission.route.as_bytes())
                    && let Some(route) = &mut routes[slot]
                {
                    if !route.dirty {
                        dirty.push(slot);
                    }
                    let incoming = Incoming::from(address, submission);
                    route.accept(&incoming, wall, acknowledgements);
                    return;
                }
                match RouteName::new(submission.route) {
                    Ok(name) if home(&name, shard_count) != shard => {
                        elsewhere.push(Foreign {
                            address,
                            op_id: submission.op_id,
                            record_count: submission.record_count,
                            route: name,
                            body: submission.body().into(),
                        });
                    }
                    name => {
                        let incoming = Incoming::from(address, submission);
                        if !name.is_ok_and(|name| failed.hold(&name, &incoming)) {
                            acknowledgements.push(incoming.refused(ErrorCode::RouteUnknown));
                        }
                    }
                }
            });
            intake.check_producers(now);
            for foreign in elsewhere {
                let to = home(&foreign.route, self.options.shard_count);
                self.passed_on.add(foreign.address, foreign.route.clone(), now);
                self.post(to, Command::Foreign(foreign));
            }
        }
        taken > 0
    }

    /// Marks the routes whose time has come.
    fn wake_routes(&mut self, now: Monotonic) {
        if self.wakeup.is_none_or(|at| at > now) {
            return;
        }
        for (slot, route) in self.routes.iter_mut().enumerate() {
            if let Some(route) = route
                && !route.dirty
                && route.next_wakeup().is_some_and(|at| at <= now)
            {
                route.dirty = true;
                self.dirty.push(slot);
            }
        }
        self.refresh_wakeup();
    }

    fn refresh_wakeup(&mut self) {
        self.wakeup = self.routes.iter().flatten().filter_map(|route| route.next_wakeup()).min();
    }

    fn pump_routes(&mut self, now: Monotonic, wall: WallTime) -> bool {
        if self.dirty.is_empty() {
            return false;
        }
        let mut again = Vec::new();
        for slot in std::mem::take(&mut self.dirty) {
            let Self { routes, driver, acknowledgements, wakeup, .. } = self;
            let Some(route) = routes.get_mut(slot).and_then(Option::as_mut) else { continue };
            route.pump(
                now,
                wall,
                &mut |part, local, op| driver.submit(token(part, slot, local), op),
                acknowledgements,
            );
            while let Some((part, local)) = route.poll_cancel() {
                driver.cancel(token(part, slot, local));
            }
            if route.dirty {
                again.push(slot);
            }
            *wakeup = [*wakeup, route.next_wakeup()].into_iter().flatten().min();
        }
        self.dirty = again;
        true
    }

    pub(super) fn take_completions(
        &mut self,
        wait: Wait,
        now: Monotonic,
        wall: WallTime,
    ) -> Result<bool, EngineError> {
        let mut completions = std::mem::take(&mut self.completions);
        self.driver
            .poll(wait, &mut completions)
            .map_err(|error| EngineError::wrap(ErrorCode::Io, "I/O backend", error))?;
        let any = !completions.is_empty();
        let now = if wait == Wait::Never { now } else { self.driver.now() };
        for completion in completions.drain(..) {
            self.dispatch(completion, now, wall);
        }
        self.completions = completions;
        Ok(any)
    }

    fn dispatch(&mut self, completion: Completion, now: Monotonic, wall: WallTime) {
        let token = completion.token;
        let part = match token >> PART_SHIFT {
            PART_LOG => Part::Log,
            PART_FEED => Part::Feed,
            PART_SINK => Part::Sink,
            PART_OPEN => return self.take_attempt(completion, now, wall),
            _ => {
                if let Some(intake) = self.intakes.get_mut((token & 0xffff) as usize) {
                    intake.futex_armed = false;
                }
                return;
            }
        };
        let slot = (token >> ROUTE_SHIFT & 0xff_ffff) as usize;
        if let Some(route) = self.routes.get_mut(slot).and_then(Option::as_mut) {
            if !route.dirty {
                self.dirty.push(slot);
            }
            route.handle(part, (token & 0xffff_ffff) as u32, completion, now, wall);
        }
    }

    fn post_acknowledgements(&mut self, now: Monotonic) {
        if self.acknowledgements.is_empty() && self.outbox.is_empty() {
            return;
        }
        let acknowledgements = std::mem::take(&mut self.acknowledgements);
        let own = self.options.index as u16;
        for (index, intake) in self.intakes.iter_mut().enumerate() {
            let mine = acknowledgements.iter().filter(|acknowledgement| {
                let address = acknowledgement.address;
                address.shard == own && usize::from(address.intake) == index
            });
            if !intake.finish(mine) {
                self.aside_again_at = Some(now.after(ASIDE_AGAIN_AFTER));
            }
        }
        for acknowledgement in &acknowledgements {
            let shard = acknowledgement.address.shard;
            if shard != own {
                self.post(shard.into(), Command::ForeignDone(*acknowledgement));
            }
        }
        self.acknowledgements = acknowledgements;
        self.acknowledgements.clear();
        for (to, command) in std::mem::take(&mut self.outbox) {
            self.post(to, command);
        }
    }

    pub(super) fn post(&mut self, to: usize, command: Command) {
        // What is sent later arrives later: a route's submissions keep their order.
        if self.outbox.iter().any(|(peer, _)| *peer == to) {
            self.outbox.push_back((to, command));
            return;
        }
        let sent = match self.peers.get() {
            Some(peers) => peers[to].try_send(command),
            None => Err(command),
        };
        if let Err(command) = sent {
            self.outbox.push_back((to, command));
        }
    }

    pub(super) fn status(&mut self, now: Monotonic) -> ShardStatus {
        let info = self.driver.info();
        let window = now.since(self.counters.snapshot_at);
        let slept = self.counters.slept.saturating_sub(self.counters.snapshot_slept);
        let busy_ratio = if window.is_zero() {
            0.0
        } else {
            1.0 - (slept.as_secs_f64() / window.as_secs_f64()).clamp(0.0, 1.0)
        };
        self.counters.snapshot_at = now;
        self.counters.snapshot_slept = self.counters.slept;
        ShardStatus {
            index: self.options.index,
            pinned_core: self.pinned_core,
            backend: info.backend,
            facts: info.facts.into_iter().collect(),
            arena_bytes: self.driver.arena().bytes() as u64,
            zero_copy_bytes_total: self.driver.statistics().zero_copy_bytes,
            busy_ratio,
            turns_total: self.counters.turns,
            sleeps_total: self.counters.sleeps,
            rings: self.intakes.iter().map(Intake::status).collect(),
        }
    }
}

/// The shard that a route lives on.
pub(crate) fn home(name: &RouteName, shard_count: usize) -> usize {
    (name.stable_hash() % shard_count.max(1) as u64) as usize
}
