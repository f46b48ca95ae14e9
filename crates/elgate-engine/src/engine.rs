//! The engine: starts the shards, asks them, stops them. Changing routes is in `reload.rs`.
//!
//! Every call here blocks its caller for as long as the work takes, never a shard. Calls may come
//! from any thread; changes are made one at a time.

use crate::config::{EngineConfig, RouteConfig};
use crate::error::EngineError;
use crate::lock::lock_data_dir;
use crate::mode::Plan;
use crate::open_route::Surroundings;
use crate::shard::{Command, Mailbox, Reply, home};
use crate::shard_io::ShardIo;
use crate::start::{open_rings, start_shards};
use crate::status::{IoStatus, MemoryUse, RouteStatus, Status};
use crate::topology::Topology;
use crate::world::{OsWorld, ShardEnd, World};
use elgate_io::File;
use elgate_types::limits::RING_BYTES;
use elgate_types::{ErrorCode, Monotonic, RouteName};
use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

/// How long a shard may take to answer before it counts as stuck. Opening files and recovering
/// logs happen elsewhere, so an answer is normally a matter of microseconds.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// A running engine. Dropping it without [`Engine::close`] stops the shards without draining;
/// nothing durable is lost by that, and what is left in the ring is taken at the next start.
#[derive(Debug)]
pub struct Engine {
    world: Arc<dyn World>,
    plan: Plan,
    topology: Topology,
    pub(crate) surroundings: Arc<Surroundings>,
    ring_path: PathBuf,
    remove_ring_on_close: bool,
    started: Monotonic,
    io: Option<IoStatus>,
    /// One per shard.
    pub(crate) shards: Vec<Mailbox>,
    state: Mutex<State>,
}

#[derive(Debug)]
pub(crate) struct State {
    pub(crate) routes: BTreeMap<RouteName, RouteConfig>,
    /// Routes that could not be opened, as far as is known: a shard may have opened one since.
    pub(crate) failed: BTreeSet<RouteName>,
    /// Routes whose sink could not be exchanged, so that they may have none. The next reload mends
    /// them, even if it changes nothing.
    pub(crate) sinkless: BTreeSet<RouteName>,
    running: Vec<Box<dyn ShardEnd>>,
    /// The lock on the data directory, while this engine owns it.
    lock: Option<File>,
}

/// How closing went.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Closed {
    /// Whether every record was delivered.
    pub drained: bool,
    /// Records still in the log, by route: they are delivered after the next start.
    pub undelivered: BTreeMap<RouteName, u64>,
}

impl Engine {
    /// Starts an engine: locks the data directory, opens the rings and every route, and runs the
    /// shards. A route that cannot be opened keeps no other from running: it is tried again, and
    /// its status says why.
    ///
    /// # Errors
    /// `ConfigInvalid`, `PathOutsideRoot`, `InUse` (another engine has the data directory or the
    /// ring), `PermissionDenied`, `RingIncompatible`, `Io`: each names what and the way out. On
    /// error nothing keeps running.
    pub fn open(config: &EngineConfig) -> Result<Self, EngineError> {
        Self::open_in(Arc::new(OsWorld), config)
    }

    /// As [`open`](Self::open), in a world of the caller's choice. Which backend runs is the
    /// world's matter then.
    ///
    /// # Errors
    /// As there.
    pub fn open_in(world: Arc<dyn World>, config: &EngineConfig) -> Result<Self, EngineError> {
        config.check()?;
        let topology = world.topology();
        let runtime = &config.runtime;
        let plan = Plan::choose(runtime.mode, runtime.shards, runtime.pin, &topology);
        let platform = world.platform();
        let lock = lock_data_dir(&*world, &config.data_dir)?;
        let mut surroundings = Surroundings::new(Arc::clone(&platform), config, plan.mode);
        let intakes = open_rings(&world.ring_host(), config, plan.shards.len())?;
        let spin = match plan.may_spin {
            true => Duration::from_micros(runtime.spin_us.into()),
            false => Duration::ZERO,
        };
        let io = Arc::new(ShardIo::new(config, &plan, &topology));
        let (shards, running) = start_shards(&*world, &plan, spin, &io, intakes, &lock)?;
        surroundings.small_writes_in_flight = io.small_writes_in_flight();
        let engine = Self {
            world,
            topology,
            surroundings: Arc::new(surroundings),
            ring_path: config.ring.path.clone(),
            remove_ring_on_close: config.ring.remove_on_close,
            started: platform.now(),
            io: io.status(),
            shards,
            plan,
            state: Mutex::new(State {
                routes: BTreeMap::new(),
                failed: BTreeSet::new(),
                sinkless: BTreeSet::new(),
                running,
                lock: Some(lock),
            }),
        };
        // From here on a failure drops the engine, which stops the shards.
        engine.apply_routes(&config.routes)?;
        engine.start_intake()?;
        Ok(engine)
    }

    /// Stops delivering a route's records; they are still taken and kept.
    ///
    /// # Errors
    /// `RouteUnknown`, `Closed`.
    pub fn pause(&self, name: &RouteName) -> Result<(), EngineError> {
        self.ask(name, |reply| Command::Pause(name.clone(), reply))
    }

    /// Delivers again, also after the route stopped because its attempts were used up.
    ///
    /// # Errors
    /// `RouteUnknown`, `Closed`.
    pub fn resume(&self, name: &RouteName) -> Result<(), EngineError> {
        self.ask(name, |reply| Command::Resume(name.clone(), reply))
    }

    /// Waits until everything the route had taken is on stable storage.
    ///
    /// # Errors
    /// `RouteUnknown`, `Closed`, and `LogUnavailable` when it does not become durable in a minute.
    pub fn flush(&self, name: &RouteName) -> Result<(), EngineError> {
        let (done, flushed) = sync_channel(1);
        self.ask(name, |reply| Command::Flush(name.clone(), done, reply))?;
        self.receive(&flushed, ANSWER_WITHIN).ok_or_else(|| {
            EngineError::new(
                ErrorCode::LogUnavailable,
                format!("route {name} was not durable within {} s", ANSWER_WITHIN.as_secs()),
            )
        })
    }

    /// The path of the first ring, for producers.
    #[must_use]
    pub fn ring_path(&self) -> &Path {
        &self.ring_path
    }

    /// How everything is.
    ///
    /// # Errors
    /// `Closed`, or `Internal` if a shard does not answer.
    pub fn status(&self) -> Result<Status, EngineError> {
        let mut shards = Vec::new();
        let mut routes = Vec::new();
        for shard in 0..self.shards.len() {
            let (status, served) = self.ask_shard(shard, Command::Status)?;
            shards.push(status);
            routes.extend(served);
        }
        routes.sort_by(|a: &RouteStatus, b| a.name.cmp(&b.name));
        let rings = shards.iter().map(|shard| shard.rings.len() as u64).sum::<u64>();
        let mut memory = vec![MemoryUse {
            what: "rings".into(),
            bytes: rings * RING_BYTES as u64,
            why: "shared memory that producers write operations into".into(),
        }];
        memory.push(MemoryUse {
            what: "arenas".into(),
            bytes: shards.iter().map(|shard| shard.arena_bytes).sum(),
            why: "buffers of files, aligned and, if registered, locked in memory for the kernel"
                .into(),
        });
        memory.extend(routes.iter().map(|route| MemoryUse {
            what: format!("route {}", route.name),
            bytes: route.memory_bytes,
            why: "batches being written, and recent ones kept for the sink".into(),
        }));
        Ok(Status {
            mode: self.plan.mode,
            cores: self.topology.cores().len(),
            numa_nodes: self.topology.numa_nodes(),
            data_dir: self.surroundings.data_dir.clone(),
            uptime_s: self.surroundings.platform.now().since(self.started).as_secs_f64(),
            io: self.io.clone(),
            shards,
            memory,
            routes,
        })
    }

    /// Stops: takes what is on the rings, makes it durable, delivers for at most `drain`, saves
    /// every cursor, ends the threads. What could not be delivered stays in the log.
    ///
    /// # Errors
    /// `Closed` if it was closed before; `Internal` if a shard died.
    pub fn close(&self, drain: Duration) -> Result<Closed, EngineError> {
        let deadline = self.surroundings.platform.now().after(drain);
        let mut state = self.state()?;
        // Given up when this returns, however it returns: the threads have ended by then.
        let _lock = state.lock.take();
        let waiting: Vec<_> = (0..self.shards.len())
            .map(|shard| {
                let remove_rings = self.remove_ring_on_close;
                self.send(shard, |reply| Command::Stop { deadline, remove_rings, reply })
            })
            .collect();
        let mut closed = Closed::default();
        for (shard, answer) in waiting.into_iter().enumerate() {
            let answer = answer?;
            // Draining takes as long as it was given, and closing a few seconds more.
            let undelivered = self.answer(shard, &answer, drain + ANSWER_WITHIN)?;
            closed.undelivered.extend(undelivered);
        }
        closed.drained = closed.undelivered.is_empty();
        for end in state.running.drain(..) {
            end.join()?;
        }
        Ok(closed)
    }

    pub(crate) fn state(&self) -> Result<MutexGuard<'_, State>, EngineError> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if state.lock.is_none() {
            return Err(EngineError::new(ErrorCode::Closed, "the engine was closed"));
        }
        Ok(state)
    }

    fn start_intake(&self) -> Result<(), EngineError> {
        (0..self.shards.len()).try_for_each(|shard| self.ask_shard(shard, Command::StartIntake))
    }

    /// Asks the shard that serves a route.
    pub(crate) fn ask<T>(
        &self,
        name: &RouteName,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<T, EngineError> {
        self.ask_shard(home(name, self.shards.len()), command)
    }

    pub(crate) fn ask_shard<T>(
        &self,
        shard: usize,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<T, EngineError> {
        self.answer(shard, &self.send(shard, command)?, ANSWER_WITHIN)
    }

    fn send<T>(
        &self,
        shard: usize,
        command: impl FnOnce(Reply<T>) -> Command,
    ) -> Result<Receiver<Result<T, EngineError>>, EngineError> {
        let (reply, answer) = sync_channel(1);
        self.shards[shard].try_send(command(reply)).map_err(|_| EngineError::dead_shard())?;
        Ok(answer)
    }

    fn answer<T>(
        &self,
        shard: usize,
        answer: &Receiver<Result<T, EngineError>>,
        within: Duration,
    ) -> Result<T, EngineError> {
        self.receive(answer, within).ok_or_else(|| {
            EngineError::new(
                ErrorCode::Internal,
                format!("shard {shard} did not answer within {} s", within.as_secs()),
            )
        })?
    }

    /// What comes out of a channel, in time.
    fn receive<T>(&self, channel: &Receiver<T>, within: Duration) -> Option<T> {
        let mut received = None;
        self.world.wait(within, &mut |may_wait| {
            received = channel.recv_timeout(may_wait).ok();
            received.is_some()
        });
        received
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        let state = self.state.get_mut().unwrap_or_else(PoisonError::into_inner);
        if state.lock.is_none() {
            return;
        }
        let running = std::mem::take(&mut state.running);
        let deadline = Monotonic::default();
        for shard in 0..self.shards.len() {
            // A shard that is gone needs no stopping.
            let remove_rings = false;
            drop(self.send(shard, |reply| Command::Stop { deadline, remove_rings, reply }));
        }
        for end in running {
            // What ended a shard early has been reported by its thread.
            drop(end.join());
        }
    }
}
