//! [`SimWorld`]: what drivers and platforms share, and what a test does to it from outside.

use super::devices::Device;
use super::disk::{Disk, NodeId};
use super::network::{EndId, Network, OpRef};
use super::process::ProcessId;
use super::random::Random;
use super::strikes::Strike;
use super::{FaultCounts, FaultPlan, SimDriver, SimPlatform};
use crate::handle::Descriptor;
use crate::held::Held;
use crate::sys::error;
use crate::{Completion, Op, OpenOptions, Platform, Token};
use elgate_types::{Monotonic, WallTime};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::atomic::AtomicU32;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

/// Virtual time begins here, so that subtracting a little from it does not end before time.
const BIRTH_NS: u64 = 1_000_000_000;
/// The wall clock at the beginning: 2026-01-01.
const BIRTH_WALL_US: u64 = 1_767_225_600_000_000;

/// What a handle refers to.
#[derive(Debug, Clone, Copy)]
pub(super) enum Opened {
    File {
        node: NodeId,
        options: OpenOptions,
    },
    Socket(EndId),
    Listener(SocketAddr),
    /// A file on a device that has been pulled out since.
    Severed,
}

/// An operation that was submitted and has not ended.
pub(super) struct Submitted {
    pub(super) token: Token,
    pub(super) op: Op,
}

/// Something for a driver to hand out at its next poll.
pub(super) enum Ready {
    Completion(Completion),
    /// A blocking call, to be run by that driver without the world's lock.
    Call(Token, crate::BlockingCall),
}

#[derive(Default)]
pub(super) struct DriverState {
    pub(super) submitted: BTreeMap<u64, Submitted>,
    pub(super) ready: VecDeque<Ready>,
    pub(super) woken: bool,
    pub(super) process: ProcessId,
    /// Files that stay open, and locked, while anything submitted here is under way.
    pub(super) held: Held,
    /// Its process is dead; what is submitted here are the writes that the device has begun.
    pub(super) is_orphan: bool,
}

pub(super) struct State {
    pub(super) now_ns: u64,
    pub(super) random: Random,
    pub(super) plan: FaultPlan,
    pub(super) counts: FaultCounts,
    /// The devices beside the disk itself.
    pub(super) devices: Vec<Device>,
    pub(super) disk: Disk,
    pub(super) network: Network,
    pub(super) network_up: bool,
    /// Operations that wait for the network to come back.
    pub(super) held: Vec<OpRef>,
    pub(super) hosts: BTreeMap<String, Vec<SocketAddr>>,
    pub(super) drivers: BTreeMap<u64, DriverState>,
    /// `(time, seeded order among equals, serial)` to the operation that then makes progress.
    pub(super) events: BTreeMap<(u64, u64, u64), OpRef>,
    pub(super) handles: BTreeMap<u64, (ProcessId, Opened)>,
    pub(super) dead: BTreeSet<ProcessId>,
    /// Processes that are to die, and how many calls they have left.
    pub(super) deaths: BTreeMap<ProcessId, u64>,
    /// A word per process that asked for one: 1 while it lives.
    pub(super) pulses: BTreeMap<ProcessId, Arc<AtomicU32>>,
    pub(super) strikes: Vec<Strike>,
    pub(super) wall_offset_us: i64,
    serial: u64,
}

impl State {
    pub(super) fn serial(&mut self) -> u64 {
        self.serial += 1;
        self.serial
    }

    /// Lets `op` make progress after `delay_ns`.
    pub(super) fn schedule(&mut self, op: OpRef, delay_ns: u64) {
        self.schedule_at(op, self.now_ns.saturating_add(delay_ns));
    }

    pub(super) fn schedule_at(&mut self, op: OpRef, time_ns: u64) {
        let key = (time_ns, self.random.next(), self.serial());
        self.events.insert(key, op);
    }

    /// Lets operations that waited for the network try again.
    pub(super) fn retry(&mut self, ops: impl IntoIterator<Item = OpRef>) {
        for op in ops {
            let delay = self.random.latency(self.plan.network_latency);
            self.schedule(op, delay);
        }
    }

    pub(super) fn opened(&self, descriptor: &Descriptor) -> io::Result<Opened> {
        let handle = descriptor.sim()?;
        self.handles.get(&handle.id).map(|(_, opened)| *opened).ok_or_else(|| error(libc::EBADF))
    }

    pub(super) fn handles_of(&self, process: ProcessId) -> usize {
        self.handles.values().filter(|(owner, _)| *owner == process).count()
    }

    /// Checks the size of its device before a file grows by `growth` bytes.
    pub(super) fn check_space(&mut self, node: NodeId, growth: u64) -> io::Result<()> {
        let device = self.device_of(node);
        let used = || self.disk.used_bytes(device);
        match self.plan_of(device).enospc_after_bytes {
            Some(limit) if growth > 0 && used().saturating_add(growth) > limit => {
                self.counts_of(device).no_space += 1;
                Err(error(libc::ENOSPC))
            }
            _ => Ok(()),
        }
    }

    /// Every handle on a device is of the past.
    pub(super) fn sever(&mut self, device: usize) {
        for (id, (_, opened)) in &mut self.handles {
            if let Opened::File { node, .. } = *opened
                && self.disk.device_of(node) == device
            {
                if let Ok(file) = self.disk.file(node) {
                    file.unlock_all(*id);
                }
                *opened = Opened::Severed;
            }
        }
    }

    pub(super) fn close(&mut self, id: u64) {
        match self.handles.remove(&id).map(|(_, opened)| opened) {
            Some(Opened::File { node, .. }) => {
                if let Ok(file) = self.disk.file(node) {
                    file.unlock_all(id);
                }
            }
            Some(Opened::Socket(end)) => {
                let retry = self.network.close(end);
                self.retry(retry);
            }
            Some(Opened::Listener(bound)) => {
                let retry = self.network.close_listener(bound);
                self.retry(retry);
            }
            Some(Opened::Severed) | None => {}
        }
    }

    /// The process is gone: handles, connections and everything under way with it.
    fn lose_process(&mut self) {
        let handles: BTreeSet<u64> = self.handles.keys().copied().collect();
        for id in handles {
            self.close(id);
        }
        self.events.clear();
        self.held.clear();
    }

    /// A driver is gone. Writes that were under way: each happened or did not. Returns what it
    /// held, to be dropped without the world's lock: a blocking call may own anything.
    ///
    /// With the power gone, a write that was to be durable is in the device's cache at best.
    #[must_use]
    pub(super) fn settle_driver(&mut self, id: u64, has_power: bool) -> Option<DriverState> {
        let driver = self.drivers.remove(&id)?;
        for submitted in driver.submitted.values() {
            if let Op::Write { file, offset, buffer, durable } = &submitted.op
                && self.random.coin()
            {
                // Nobody is left to be told how it ended.
                drop(self.write_file(file, *offset, buffer, *durable && has_power));
            }
        }
        Some(driver)
    }

    /// All drivers start over.
    #[must_use]
    fn settle_drivers(&mut self, has_power: bool) -> Vec<DriverState> {
        let drivers: Vec<(u64, ProcessId)> =
            self.drivers.iter().map(|(id, driver)| (*id, driver.process)).collect();
        let living: Vec<(u64, ProcessId)> =
            drivers.iter().filter(|(id, _)| !self.drivers[id].is_orphan).copied().collect();
        let settled =
            drivers.iter().filter_map(|(id, _)| self.settle_driver(*id, has_power)).collect();
        let anew = |(id, process)| (id, DriverState { process, ..DriverState::default() });
        self.drivers = living.into_iter().map(anew).collect();
        settled
    }
}

pub(super) struct Shared {
    state: Mutex<State>,
    /// Handles dropped since the state was last locked. Apart from it because a handle may be
    /// dropped while it is locked.
    closed: Mutex<Vec<u64>>,
}

impl Shared {
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        // A panic under the lock is a failed test already; its state is still readable.
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let closed = std::mem::take(&mut *self.lock_closed());
        for id in closed {
            state.close(id);
        }
        state
    }

    fn lock_closed(&self) -> MutexGuard<'_, Vec<u64>> {
        self.closed.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A handle's share in the world: dropped, it closes.
pub(crate) struct SimHandle {
    pub(super) id: u64,
    world: Weak<Shared>,
}

impl Drop for SimHandle {
    fn drop(&mut self) {
        if let Some(world) = self.world.upgrade() {
            world.lock_closed().push(self.id);
        }
    }
}

impl std::fmt::Debug for SimHandle {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "SimHandle({})", self.id)
    }
}

/// A world in memory. Clones are the same world.
#[derive(Clone)]
pub struct SimWorld(pub(super) Arc<Shared>);

impl std::fmt::Debug for SimWorld {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("SimWorld")
    }
}

impl SimWorld {
    /// A world with an empty disk and no faults. Everything in it follows from `seed`.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        let state = State {
            now_ns: BIRTH_NS,
            random: Random::new(seed),
            plan: FaultPlan::default(),
            counts: FaultCounts::default(),
            devices: Vec::new(),
            disk: Disk::new(),
            network: Network::default(),
            network_up: true,
            held: Vec::new(),
            hosts: BTreeMap::new(),
            drivers: BTreeMap::new(),
            events: BTreeMap::new(),
            handles: BTreeMap::new(),
            dead: BTreeSet::new(),
            deaths: BTreeMap::new(),
            pulses: BTreeMap::new(),
            strikes: Vec::new(),
            wall_offset_us: 0,
            serial: 0,
        };
        Self(Arc::new(Shared { state: Mutex::new(state), closed: Mutex::default() }))
    }

    /// A driver in this world.
    #[must_use]
    pub fn driver(&self) -> SimDriver {
        SimDriver::new(self.clone(), 0)
    }

    /// The blocking side of this world.
    #[must_use]
    pub fn platform(&self) -> Arc<dyn Platform> {
        Arc::new(SimPlatform::new(self.clone(), 0))
    }

    /// Faults from now on.
    pub fn set_faults(&self, plan: FaultPlan) {
        self.0.lock().plan = plan;
    }

    /// How often each fault has struck so far.
    #[must_use]
    pub fn fault_counts(&self) -> FaultCounts {
        self.0.lock().counts
    }

    /// The virtual monotonic clock.
    #[must_use]
    pub fn now(&self) -> Monotonic {
        Monotonic(self.0.lock().now_ns)
    }

    /// The virtual wall clock.
    #[must_use]
    pub fn wall_time(&self) -> WallTime {
        let state = self.0.lock();
        let steady_us = BIRTH_WALL_US + (state.now_ns - BIRTH_NS) / 1_000;
        WallTime(steady_us.saturating_add_signed(state.wall_offset_us))
    }

    /// Lets time pass while nobody polls. What falls due meanwhile happens at the next poll.
    pub fn advance(&self, duration: Duration) {
        let mut state = self.0.lock();
        state.now_ns = Monotonic(state.now_ns).after(duration).0;
    }

    /// Lets time pass up to `time`, and everything happen that falls due until then, in order.
    /// For an owner that steps several drivers: each takes what has happened at its next poll.
    pub fn advance_to(&self, time: Monotonic) {
        let mut state = self.0.lock();
        state.fire_until(self, time.0);
        state.now_ns = state.now_ns.max(time.0);
    }

    /// Whether a driver has something to hand out, or was woken.
    #[must_use]
    pub fn has_news(&self, driver: u64) -> bool {
        let mut state = self.0.lock();
        state.end_changed_futex_waits(driver);
        state.drivers.get(&driver).is_some_and(|own| own.woken || !own.ready.is_empty())
    }

    /// When the next thing will happen by itself, if anything will.
    #[must_use]
    pub fn next_event(&self) -> Option<Monotonic> {
        self.0.lock().events.first_key_value().map(|(key, _)| Monotonic(key.0))
    }

    /// Ends at most `count` waits for `word`, as a futex wake would; returns how many there were.
    pub fn wake(&self, word: &AtomicU32, count: usize) -> usize {
        let mut state = self.0.lock();
        let mut waiting = Vec::new();
        for (driver, pending) in &state.drivers {
            for (op, submitted) in &pending.submitted {
                if matches!(&submitted.op, Op::FutexWait { word: waited, .. }
                    if std::ptr::eq(waited.get(), word))
                {
                    waiting.push((*driver, *op));
                }
            }
        }
        waiting.truncate(count);
        let woken = waiting.len();
        for op in waiting {
            state.end_futex_wait(op);
        }
        woken
    }

    /// The network goes away (connects, sends and receives hang, as behind a dead link) or comes
    /// back.
    pub fn set_network_up(&self, up: bool) {
        let mut state = self.0.lock();
        state.network_up = up;
        if up {
            let held = std::mem::take(&mut state.held);
            state.retry(held);
        }
    }

    /// Gives a host name addresses; their ports are replaced by the one asked for.
    pub fn add_host(&self, name: &str, addresses: Vec<SocketAddr>) {
        self.0.lock().hosts.insert(name.to_owned(), addresses);
    }

    /// The process dies: every handle, lock, connection and operation under way is gone, every
    /// write that completed stays (the page cache is the kernel's). Drivers and handles from
    /// before only return errors; make new ones.
    pub fn process_crash(&self) {
        let mut state = self.0.lock();
        state.counts.process_crashes += 1;
        let lost = state.settle_drivers(true);
        state.lose_process();
        state.disk.process_crash();
        drop(state);
        drop(lost);
    }

    /// The power goes: as [`process_crash`](Self::process_crash), and of the disk only what was
    /// synced is left, plus what the fault plan lets survive of the rest.
    pub fn power_cut(&self) {
        let mut guard = self.0.lock();
        let state = &mut *guard;
        state.counts.power_cuts += 1;
        let lost = state.settle_drivers(false);
        state.lose_process();
        let plans = state.plans();
        state.disk.power_cut(&plans, &mut state.random, &mut state.counts);
        drop(guard);
        drop(lost);
    }

    /// Flips every bit of a range of a file, durably: rot.
    ///
    /// # Errors
    /// `ENOENT` if there is no such file.
    pub fn rot(&self, path: &Path, offset: u64, bytes: usize) -> io::Result<()> {
        let mut state = self.0.lock();
        let file = state.disk.file_at(path)?;
        file.content.flip(offset, bytes, 0xff);
        Ok(())
    }

    /// A file's whole content as it reads now.
    ///
    /// # Errors
    /// `ENOENT` if there is no such file.
    pub fn file_bytes(&self, path: &Path) -> io::Result<Vec<u8>> {
        let mut state = self.0.lock();
        let file = state.disk.file_at(path)?;
        let mut bytes = vec![0; usize::try_from(file.content.size()).unwrap_or(0)];
        file.content.read(0, &mut bytes);
        Ok(bytes)
    }

    pub(super) fn handle(
        &self,
        state: &mut State,
        process: ProcessId,
        opened: Opened,
    ) -> Arc<Descriptor> {
        let id = state.serial();
        state.handles.insert(id, (process, opened));
        Arc::new(Descriptor::Sim(SimHandle { id, world: Arc::downgrade(&self.0) }))
    }
}
