//! One seed, from the first submission to the verdict.

use crate::checker;
use crate::engine_world::StageWorld;
use crate::far_end::{MOODS, Mood};
use crate::producer::{RING, SimProducer};
use crate::report::{Failure, Report};
use crate::stage::{Actor, Stage, on_stage, set_stage};
use crate::{twin_check, twins};
use elgate_engine::{
    Engine, EngineConfig, EngineError, FilesConfig, Mode, RingConfig, RouteConfig, RouteState,
    RuntimeConfig,
};
use elgate_io::sim::FaultPlan;
use elgate_types::{ErrorCode, RouteName};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

/// Where the engine keeps its logs, and where its file routes write.
pub(crate) const DATA: &str = "/data";
pub(crate) const OUT: &str = "/out";
/// Attempts to open an engine that faults get in the way of.
const OPEN_ATTEMPTS_MAX: u32 = 60;
/// How long everything may take to come to rest once nothing is wrong any more.
const REST_WITHIN: Duration = Duration::from_secs(300);
const REST_STEPS_MAX: u64 = 600_000;

/// Runs one seed. `aloud` prints its story as it happens.
///
/// # Errors
/// [`Failure`]: what went wrong, and the last steps that led there.
pub fn run(seed: u64, aloud: bool) -> Result<Report, Failure> {
    let stage = Rc::new(Stage::new(seed, aloud));
    set_stage(Some(Rc::clone(&stage)));
    let verdict = catch_unwind(AssertUnwindSafe(|| {
        let mut simulation = Simulation { stage: Rc::clone(&stage), engine: None };
        simulation.live();
        if simulation.is_well() {
            simulation.come_to_rest();
        }
        if simulation.is_well() {
            checker::check(&stage);
        }
        if simulation.is_well() {
            twin_check::examine(&stage);
        }
    }));
    let failure = match verdict {
        Ok(()) => stage.violation.borrow().clone(),
        Err(panic) => Some(format!("panicked: {}", message_of(&*panic))),
    };
    let result = match failure {
        Some(what) => Err(Failure {
            seed,
            what,
            story: format!(
                "{}\n{:?}\n{:?}\n{}",
                stage.scenario.borrow(),
                stage.world.fault_counts(),
                stage.world.strikes(),
                stage.story.text()
            ),
        }),
        None => Ok(Report::of(&stage)),
    };
    // Shards and producers are parts of the stage and refer to it.
    stage.shards.borrow_mut().clear();
    stage.producers.borrow_mut().clear();
    set_stage(None);
    result
}

fn message_of(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<&str>().map(ToString::to_string);
    text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default()
}

/// Whether everything has come to rest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rest {
    No,
    /// Except that a mirror is not written to.
    MirrorLeft,
    Whole,
}

struct Simulation {
    stage: Rc<Stage>,
    engine: Option<Engine>,
}

impl Drop for Simulation {
    fn drop(&mut self) {
        self.stage.bury_engine("the end");
        self.engine = None;
    }
}

impl Simulation {
    fn is_well(&self) -> bool {
        self.stage.violation.borrow().is_none()
    }

    fn live(&mut self) {
        let stage = Rc::clone(&self.stage);
        stage.world.set_faults(stage.scenario.borrow().faults.clone());
        twins::mount(&stage);
        let steps = stage.roll(|dice| dice.between(200, 2_500));
        for _ in 0..steps {
            self.tend();
            self.endanger();
            self.control();
            stage.step(None);
            if !self.is_well() {
                return;
            }
        }
    }

    /// Starts what is not running, sooner or later.
    fn tend(&mut self) {
        if self.engine.is_some() && !self.stage.is_engine_alive() {
            self.engine = None;
        }
        if self.engine.is_none() && self.stage.roll(|dice| dice.of(100)) {
            twins::between_engines(&self.stage);
            self.open_engine(true);
        }
        let producers = self.stage.producers.borrow().len();
        for index in 0..producers {
            let is_missing = self.stage.producers.borrow()[index].is_none();
            if is_missing && self.stage.roll(|dice| dice.of(50)) {
                let producer = SimProducer::new(index, &self.stage);
                self.stage.producers.borrow_mut()[index] = Some(producer);
            }
        }
    }

    fn config(&self) -> EngineConfig {
        let scenario = self.stage.scenario.borrow();
        EngineConfig {
            data_dir: DATA.into(),
            ring: RingConfig { path: RING.into(), remove_on_close: false },
            runtime: RuntimeConfig {
                mode: Mode::PinnedSharded,
                shards: scenario.shards,
                pin: false,
                ..RuntimeConfig::default()
            },
            files: FilesConfig { root: OUT.into() },
            routes: scenario
                .routes
                .iter()
                .map(|route| (route.name.clone(), route.config()))
                .collect(),
        }
    }

    /// Starts an engine; with `in_danger` it may be killed on the way.
    fn open_engine(&mut self, in_danger: bool) {
        let stage = Rc::clone(&self.stage);
        let process = stage.world.process();
        *stage.engine.borrow_mut() = Some(process.clone());
        stage.mark("engine.opened");
        let kills = stage.scenario.borrow().perils.engine_kill > 0;
        if in_danger && kills && stage.roll(|dice| dice.of(150)) {
            stage.mark("engine.endangered_at_start");
            let calls = stage.roll(|dice| dice.below(250));
            process.die_in(Some(calls));
        }
        let config = self.config();
        let world = Arc::new(StageWorld::new(&process));
        checker::note_strikes(&stage, stage.is_cold.get());
        stage.ledger.borrow_mut().forgive_what_nothing_proves();
        let opened = stage.act(Actor::Engine, || Engine::open_in(world, &config));
        let now = stage.world.now();
        match opened {
            Ok(Ok(engine)) if process.is_alive() => {
                stage
                    .story
                    .tell(now, format_args!("an engine runs, {} shards", config.runtime.shards));
                // Writes of the engine before this one may have gone astray until now.
                checker::note_strikes(&stage, stage.is_cold.replace(false));
                stage.ledger.borrow_mut().forgive_what_nothing_proves();
                self.engine = Some(engine);
            }
            Ok(Ok(engine)) => drop(engine),
            Ok(Err(error)) => {
                stage.story.tell(now, format_args!("the engine did not start: {error}"));
                let died = !process.is_alive();
                stage.bury_engine("it had started");
                if !died && !self.may_refuse(&error) {
                    stage.violate(format!("start-up was refused: {error}"));
                }
            }
            Err(death) => {
                stage.mark("engine.died_at_start");
                stage.bury_engine(death.before);
            }
        }
    }

    /// Whether an error of the engine is what the faults of this seed may lead to.
    fn may_refuse(&self, error: &EngineError) -> bool {
        let counts = self.stage.world.fault_counts();
        let io_errors =
            counts.read_errors + counts.write_errors + counts.sync_errors + counts.no_space;
        matches!(error.code(), ErrorCode::Io | ErrorCode::LogUnavailable) && io_errors > 0
    }

    fn endanger(&mut self) {
        let stage = Rc::clone(&self.stage);
        let perils = stage.scenario.borrow().perils.clone();
        let roll = |chance: u64| chance > 0 && stage.roll(|dice| dice.of(chance));
        let engine = stage.engine.borrow().clone();
        if roll(perils.engine_kill)
            && let Some(engine) = engine
        {
            match stage.roll(|dice| dice.below(3)) {
                0 => engine.die_in(Some(stage.roll(|dice| dice.below(60)))),
                1 => stage.marks_left.set(Some(stage.roll(|dice| dice.below(25)))),
                _ => {
                    engine.kill();
                    *stage.deaths.borrow_mut().entry("between turns").or_default() += 1;
                    drop(engine);
                    stage.bury_engine("its next turn");
                }
            }
        }
        if roll(perils.producer_kill) {
            let count = stage.producers.borrow().len();
            let index = stage.roll(|dice| dice.index(count));
            if stage.roll(|dice| dice.of(600)) {
                stage.producer_marks_left.set(Some(stage.roll(|dice| dice.below(6))));
            } else {
                let producer = stage.producers.borrow_mut()[index].take();
                if let Some(producer) = producer {
                    *stage.deaths.borrow_mut().entry("producer between turns").or_default() += 1;
                    stage.bury_producer(producer, "its next turn");
                }
            }
        }
        if roll(perils.power_cut) {
            self.cut_power();
        }
        if roll(perils.no_space) {
            self.squeeze_disk();
        }
        if roll(perils.rot)
            && let Some(strike) = stage.world.rot_somewhere()
        {
            stage.story.tell(stage.world.now(), format_args!("rot: {strike:?}"));
        }
        if roll(perils.wall_jump) {
            let days = stage.roll(|dice| dice.between(1, 400)) as i64;
            let sign = if stage.roll(|dice| dice.of(500)) { 1 } else { -1 };
            stage.world.jump_wall_clock(sign * days * 86_400);
        }
        twins::endanger(&stage);
        if roll(perils.mood) {
            let mood = MOODS[stage.roll(|dice| dice.index(MOODS.len()))];
            stage.far_end.borrow_mut().mood = mood;
            stage.story.tell(stage.world.now(), format_args!("the far end is {mood:?}"));
        }
    }

    fn cut_power(&mut self) {
        let stage = Rc::clone(&self.stage);
        stage.story.tell(stage.world.now(), format_args!("POWER CUT"));
        *stage.deaths.borrow_mut().entry("power cut").or_default() += 1;
        stage.bury_engine("the power cut");
        self.engine = None;
        let producers = stage.producers.borrow().len();
        for index in 0..producers {
            let producer = stage.producers.borrow_mut()[index].take();
            if let Some(producer) = producer {
                stage.bury_producer(producer, "the power cut");
            }
        }
        checker::note_strikes(&stage, true);
        stage.world.power_cut();
        stage.is_cold.set(true);
        stage.far_end.borrow_mut().listen();
        stage.ledger.borrow_mut().power_cut();
        twin_check::after_power_cut(&stage);
    }

    /// The disk fills up, or has room again.
    fn squeeze_disk(&self) {
        let stage = &self.stage;
        let mut plan = stage.scenario.borrow().faults.clone();
        if plan.enospc_after_bytes.is_none() {
            let room = stage.roll(|dice| dice.below(6 << 20));
            plan.enospc_after_bytes = Some(stage.world.used_bytes() + room);
        } else {
            plan.enospc_after_bytes = None;
        }
        let limit = plan.enospc_after_bytes;
        stage.story.tell(stage.world.now(), format_args!("the disk holds {limit:?} bytes"));
        stage.scenario.borrow_mut().faults = plan.clone();
        stage.world.set_faults(plan);
    }

    /// Asks the engine for something.
    fn control(&mut self) {
        let stage = Rc::clone(&self.stage);
        let perils = stage.scenario.borrow().perils.clone();
        if self.engine.is_none() {
            return;
        }
        if stage.roll(|dice| dice.of(perils.restart)) {
            self.restart();
            return;
        }
        if !stage.roll(|dice| dice.of(perils.control)) {
            return;
        }
        let count = stage.scenario.borrow().routes.len();
        let route = stage.roll(|dice| dice.index(count));
        let name = stage.route_name(route);
        let (what, result) = match stage.roll(|dice| dice.below(8)) {
            0 | 1 => ("status", self.status()),
            2 => ("pause", self.ask(|engine| engine.pause(&name))),
            3 => ("resume", self.ask(|engine| engine.resume(&name))),
            4 => ("flush", self.ask(|engine| engine.flush(&name)).and_then(|()| self.status())),
            5 => ("remove and add", self.remove_and_add(route)),
            _ => ("reload", self.reload(route)),
        };
        stage.story.tell(stage.world.now(), format_args!("asked to {what} {name}: {result:?}"));
        let Err(error) = result else { return };
        let expected = !stage.is_engine_alive()
            || self.may_refuse(&error)
            // A log that is parked, or writes again what its device has not kept.
            || (what != "status" && error.code() == ErrorCode::LogUnavailable)
            || error.code() == ErrorCode::RouteUnknown;
        if !expected {
            stage.violate(format!("{what} of {name} failed: {error}"));
        }
    }

    /// A call to the engine, in which it may die.
    fn ask<R>(
        &mut self,
        call: impl FnOnce(&Engine) -> Result<R, EngineError>,
    ) -> Result<R, EngineError> {
        let Some(engine) = self.engine.take() else { return Err(gone()) };
        let stage = Rc::clone(&self.stage);
        let answer = stage.act(Actor::Engine, || call(&engine));
        match answer {
            Ok(answer) if stage.is_engine_alive() => {
                self.engine = Some(engine);
                answer
            }
            Ok(_) => Err(gone()),
            Err(death) => {
                stage.bury_engine(death.before);
                Err(gone())
            }
        }
    }

    fn status(&mut self) -> Result<(), EngineError> {
        self.look().map(drop)
    }

    /// Takes note of what the engine says about itself, and whether everything has come to rest.
    fn look(&mut self) -> Result<Rest, EngineError> {
        let status = self.ask(Engine::status)?;
        let stage = &self.stage;
        let (mut at_rest, mut mirror_left) = (true, false);
        let mut ledger = stage.ledger.borrow_mut();
        for (index, route) in stage.scenario.borrow().routes.iter().enumerate() {
            let Some(found) = status.routes.iter().find(|found| found.name == route.name) else {
                continue;
            };
            ledger.routes[index].durable = ledger.routes[index].durable.max(found.durable_lsn);
            at_rest &= found.state != RouteState::Failed;
            let keeps = found.sink == "none";
            at_rest &= found.lag_records == 0 || keeps;
            at_rest &= found.durable_lsn.next() == found.next_lsn;
            if let Some(mirror) = &found.mirror {
                at_rest &= mirror.segments_behind == 0;
                mirror_left |= mirror.trouble.is_some();
            }
        }
        let used: u64 =
            status.shards.iter().flat_map(|shard| &shard.rings).map(|ring| ring.used_slots).sum();
        if used == 0 {
            ledger.settle_refusals();
        }
        Ok(match at_rest && used == 0 {
            false => Rest::No,
            true if mirror_left => Rest::MirrorLeft,
            true => Rest::Whole,
        })
    }

    fn reload(&mut self, route: usize) -> Result<(), EngineError> {
        {
            let stage = &self.stage;
            let mut scenario = stage.scenario.borrow_mut();
            let plan = &mut scenario.routes[route];
            match stage.roll(|dice| dice.below(4)) {
                0 => plan.timeout_ms = stage.roll(|dice| dice.between(500, 5_000)) as u32,
                1 => plan.paused = !plan.paused,
                2 => plan.attempts_max = if plan.attempts_max == 0 { 4 } else { 0 },
                _ => plan.timeout_ms += 1,
            }
        }
        let routes = self.config().routes;
        self.stage.mark("engine.reloaded");
        self.apply(&routes)
    }

    /// Asks for these routes; the first thing that did not work is an error.
    fn apply(&mut self, routes: &BTreeMap<RouteName, RouteConfig>) -> Result<(), EngineError> {
        let reload = self.ask(|engine| engine.apply_routes(routes))?;
        match reload.failed.into_iter().next() {
            Some(failure) => Err(EngineError::new(failure.code, failure.message)),
            None => Ok(()),
        }
    }

    fn remove_and_add(&mut self, route: usize) -> Result<(), EngineError> {
        let mut routes = self.config().routes;
        let name = self.stage.route_name(route);
        routes.remove(&name);
        self.stage.ledger.borrow_mut().routes[route].has_refused = true;
        self.stage.mark("engine.route_removed");
        self.apply(&routes)?;
        if self.stage.has_abandoned() {
            // A parked log is dropped with what it had not written again.
            self.stage.ledger.borrow_mut().forget_unsynced();
        }
        for _ in 0..self.stage.roll(|dice| dice.below(60)) {
            self.stage.step(None);
        }
        twins::perhaps_change(&self.stage, route);
        let routes = self.config().routes;
        self.apply(&routes)
    }

    /// Stops the engine in good order, and starts another one later, perhaps with another number of
    /// shards.
    fn restart(&mut self) {
        let stage = Rc::clone(&self.stage);
        let drain = Duration::from_millis(stage.roll(|dice| dice.below(3_000)));
        self.stage.mark("engine.closed");
        let closed = self.ask(|engine| engine.close(drain));
        stage.story.tell(stage.world.now(), format_args!("close: {closed:?}"));
        self.engine = None;
        stage.bury_engine("it was started again");
        if stage.roll(|dice| dice.of(400)) {
            stage.scenario.borrow_mut().shards = stage.roll(|dice| dice.between(1, 3)) as usize;
        }
    }

    /// Nothing is wrong any more: everything must come to rest, in bounded time.
    fn come_to_rest(&mut self) {
        let stage = Rc::clone(&self.stage);
        stage.story.tell(stage.world.now(), format_args!("all faults are over"));
        checker::note_strikes(&stage, false);
        stage.stop_submitting();
        stage.world.set_faults(FaultPlan::default());
        twins::end_faults(&stage);
        stage.marks_left.set(None);
        stage.producer_marks_left.set(None);
        stage.far_end.borrow_mut().mood = Mood::Well;
        stage.scenario.borrow_mut().perils = Default::default();
        for route in &mut stage.scenario.borrow_mut().routes {
            route.paused = false;
            route.attempts_max = 0;
            route.timeout_ms = 5_000;
        }
        if let Some(engine) = stage.engine.borrow().as_ref() {
            engine.die_in(None);
        }
        let mut until = stage.world.now().after(REST_WITHIN);
        let (mut mended, mut joined) = (false, false);
        for attempt in 0..OPEN_ATTEMPTS_MAX {
            if self.engine.is_none() || !stage.is_engine_alive() {
                self.engine = None;
                self.open_engine(false);
            }
            let routes = self.config().routes;
            let applied = if self.engine.is_some() { self.apply(&routes) } else { Err(gone()) };
            let Err(error) = applied else { break };
            if !self.is_well() || attempt + 1 == OPEN_ATTEMPTS_MAX {
                let what = "I7: no engine runs though nothing is wrong any more";
                stage.violate(format!("{what}: {error}"));
                return;
            }
            // Whoever is refused tries again later.
            for _ in 0..200 {
                stage.step(None);
            }
        }
        let mut steps = 0;
        while self.is_well() {
            steps += 200;
            self.let_flow();
            for _ in 0..200 {
                stage.step(None);
            }
            let outstanding: usize =
                stage.producers.borrow().iter().flatten().map(SimProducer::outstanding).sum();
            match self.look() {
                Ok(Rest::Whole) if outstanding == 0 => break,
                // A mirror that was left is entered with the next write, or start.
                Ok(Rest::MirrorLeft) if outstanding == 0 && !joined => {
                    joined = true;
                    stage.mark("engine.restarted_for_mirror");
                    self.restart();
                    self.open_engine(false);
                }
                Ok(_) => {}
                Err(error) => stage.violate(format!("the engine ended at rest: {error}")),
            }
            let is_late = stage.world.now() > until || steps > REST_STEPS_MAX;
            let is_damaged = stage.ledger.borrow().routes.iter().any(|route| route.is_damaged);
            if is_late && is_damaged && !std::mem::replace(&mut mended, true) {
                // A segment whose header was destroyed under a running engine is reported, and
                // waits for a restart.
                stage.mark("engine.restarted_for_damage");
                self.restart();
                self.open_engine(false);
                until = stage.world.now().after(REST_WITHIN);
                steps = 0;
            } else if is_late {
                let status = self.ask(Engine::status).map(|status| status.routes);
                stage.violate(format!(
                    "I7: not at rest though nothing is wrong any more; {outstanding} submissions \
                     without an answer; {status:?}"
                ));
            }
        }
        if self.is_well() {
            self.end();
        }
    }

    /// Resumes and flushes every route.
    fn let_flow(&mut self) {
        let count = self.stage.scenario.borrow().routes.len();
        for route in 0..count {
            let name = self.stage.route_name(route);
            // What is wrong with it shows at the end.
            drop(self.ask(|engine| engine.resume(&name)));
            drop(self.ask(|engine| engine.flush(&name)));
        }
    }

    fn end(&mut self) {
        let stage = Rc::clone(&self.stage);
        let process = stage.engine.borrow().clone();
        match self.ask(|engine| engine.close(Duration::from_secs(30))) {
            Ok(closed) => stage.story.tell(stage.world.now(), format_args!("closed: {closed:?}")),
            Err(error) => stage.violate(format!("closing failed: {error}")),
        }
        self.engine = None;
        let handles = process.map_or(0, |process| process.open_handles());
        if handles > 0 {
            stage.violate(format!("I8: {handles} handles are open after the engine was closed"));
        }
    }
}

fn gone() -> EngineError {
    on_stage(|stage| stage.mark("engine.died_while_asked"));
    EngineError::new(ErrorCode::Closed, "the engine is dead")
}
