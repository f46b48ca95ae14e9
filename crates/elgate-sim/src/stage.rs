//! The stage: everybody who acts in a simulation, and whose turn it is. One thread; whoever acts is
//! taken off the stage for the time being, so that others can be stepped in between.

use crate::dice::Dice;
use crate::far_end::FarEnd;
use crate::ledger::{Ledger, OpState};
use crate::producer::SimProducer;
use crate::scenario::Scenario;
use crate::story::Story;
use crate::twins::Twins;
use elgate_engine::{Shard, Turn};
use elgate_io::Wait;
use elgate_io::sim::{SimDeath, SimProcess, SimWorld};
use elgate_ring::{Completion, SubmitError};
use elgate_types::{Level, Monotonic, RouteName, kill_site};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::rc::Rc;
use std::time::Duration;

/// Whose code runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Actor {
    Nobody,
    Engine,
    Producer,
}

/// A shard, and whether it sleeps.
pub(crate) struct ShardSlot {
    pub(crate) shard: Shard,
    pub(crate) driver: u64,
    pub(crate) asleep: Option<Wait>,
}

pub(crate) struct Stage {
    pub(crate) world: SimWorld,
    pub(crate) scenario: RefCell<Scenario>,
    pub(crate) twins: RefCell<Twins>,
    dice: RefCell<Dice>,
    pub(crate) story: Story,
    pub(crate) ledger: RefCell<Ledger>,
    pub(crate) marks: RefCell<BTreeMap<&'static str, u64>>,
    /// Deaths by what was about to be done.
    pub(crate) deaths: RefCell<BTreeMap<&'static str, u64>>,
    pub(crate) engine: RefCell<Option<SimProcess>>,
    pub(crate) shards: RefCell<BTreeMap<usize, ShardSlot>>,
    pub(crate) producers: RefCell<Vec<Option<SimProducer>>>,
    pub(crate) far_end: RefCell<FarEnd>,
    actor: Cell<Actor>,
    /// Marks that the engine has left to pass before it dies.
    pub(crate) marks_left: Cell<Option<u64>>,
    /// The same for the producer at work.
    pub(crate) producer_marks_left: Cell<Option<u64>>,
    is_stalled: Cell<bool>,
    submissions_left: Cell<u64>,
    /// The power was cut and no log has been recovered since: nothing in memory proves anything.
    pub(crate) is_cold: Cell<bool>,
    pub(crate) violation: RefCell<Option<String>>,
    /// Turns of shards since anything else happened.
    spins: Cell<u64>,
}

/// A shard that takes so many turns in which nothing happens spins.
const SPINS_MAX: u64 = 20_000;

thread_local! {
    static STAGE: RefCell<Option<Rc<Stage>>> = const { RefCell::new(None) };
}

/// Runs something on this thread's stage.
pub(crate) fn on_stage<R>(run: impl FnOnce(&Stage) -> R) -> R {
    let stage = STAGE.with_borrow(Clone::clone).expect("a simulation runs on this thread");
    run(&stage)
}

/// Sets this thread's stage, and has it told of every mark.
pub(crate) fn set_stage(stage: Option<Rc<Stage>>) {
    elgate_types::mark::watch(stage.is_some().then(|| {
        Rc::new(|name| on_stage(|stage| stage.marked(name))) as elgate_types::mark::Watcher
    }));
    STAGE.with_borrow_mut(|current| *current = stage);
}

impl Stage {
    pub(crate) fn new(seed: u64, aloud: bool) -> Self {
        let mut dice = Dice::new(seed);
        let mut scenario = Scenario::new(&mut dice);
        let twins = Twins::new(seed, &mut scenario);
        let world = SimWorld::new(seed);
        let mut ledger = Ledger::default();
        for route in &scenario.routes {
            let flush = route.flush;
            ledger.routes.push(crate::ledger::RouteLedger { flush, ..Default::default() });
        }
        let far_end = FarEnd::new(&world, seed);
        let submissions_left = Cell::new(scenario.submissions);
        Self {
            far_end: RefCell::new(far_end),
            world,
            dice: RefCell::new(dice),
            story: Story::new(aloud),
            ledger: RefCell::new(ledger),
            marks: RefCell::default(),
            deaths: RefCell::default(),
            engine: RefCell::new(None),
            shards: RefCell::default(),
            producers: RefCell::new((0..scenario.producers).map(|_| None).collect()),
            actor: Cell::new(Actor::Nobody),
            marks_left: Cell::new(None),
            producer_marks_left: Cell::new(None),
            is_stalled: Cell::new(false),
            submissions_left,
            is_cold: Cell::new(false),
            violation: RefCell::new(None),
            spins: Cell::new(0),
            scenario: RefCell::new(scenario),
            twins: RefCell::new(twins),
        }
    }

    pub(crate) fn roll<R>(&self, choose: impl FnOnce(&mut Dice) -> R) -> R {
        choose(&mut self.dice.borrow_mut())
    }

    pub(crate) fn mark(&self, name: &'static str) {
        *self.marks.borrow_mut().entry(name).or_default() += 1;
        self.spins.set(0);
    }

    pub(crate) fn violate(&self, what: String) {
        self.story.tell(self.world.now(), format_args!("VIOLATION: {what}"));
        self.violation.borrow_mut().get_or_insert(what);
    }

    // --- marks: deaths and stalls in the middle of things ---

    fn marked(&self, name: &'static str) {
        self.mark(name);
        if name == "route.open_failed" {
            // A sync may have failed at that, and the kernel dropped what was only accepted.
            self.ledger.borrow_mut().forget_unsynced();
        }
        let countdown = |left: &Cell<Option<u64>>| match left.get() {
            Some(0) => {
                left.set(None);
                true
            }
            Some(more) => {
                left.set(Some(more - 1));
                false
            }
            None => false,
        };
        match self.actor.get() {
            Actor::Engine if countdown(&self.marks_left) => {
                let engine = self.engine.borrow().clone();
                if let Some(engine) = engine.filter(SimProcess::is_alive) {
                    engine.die(name);
                }
            }
            Actor::Producer if kill_site::ALL.contains(&name) => {
                if countdown(&self.producer_marks_left) {
                    resume_unwind(Box::new(SimDeath { before: name }));
                }
                self.perhaps_stall(name);
            }
            _ => {}
        }
    }

    /// A program that is stopped in the middle of a submission, for seconds: nobody may take its
    /// claim away.
    fn perhaps_stall(&self, name: &'static str) {
        let chance = self.scenario.borrow().perils.producer_stall;
        if self.is_stalled.get() || name == "ring.committed" || !self.roll(|dice| dice.of(chance)) {
            return;
        }
        self.is_stalled.set(true);
        self.mark("producer.stalled");
        let until =
            self.world.now().after(Duration::from_millis(self.roll(|d| d.between(500, 5_000))));
        self.story.tell(self.world.now(), format_args!("a producer stops at {name}"));
        let mut steps = 0;
        while self.world.now() < until && steps < 4_000 {
            self.step(Some(until));
            steps += 1;
        }
        self.world.advance_to(until.max(self.world.now()));
        self.story.tell(self.world.now(), format_args!("and goes on"));
        self.is_stalled.set(false);
        self.actor.set(Actor::Producer);
    }

    /// Runs code of an actor. `Err`: it died in the middle.
    pub(crate) fn act<R>(&self, actor: Actor, run: impl FnOnce() -> R) -> Result<R, SimDeath> {
        let before = self.actor.replace(actor);
        let result = catch_unwind(AssertUnwindSafe(run));
        self.actor.set(before);
        match result {
            Ok(value) => Ok(value),
            Err(panic) => match panic.downcast::<SimDeath>() {
                Ok(death) => {
                    *self.deaths.borrow_mut().entry(death.before).or_default() += 1;
                    Err(*death)
                }
                Err(panic) => resume_unwind(panic),
            },
        }
    }

    // --- whose turn it is ---

    /// One turn of somebody who has something to do, or else some time passes, `until` at most.
    pub(crate) fn step(&self, until: Option<Monotonic>) {
        enum Turn {
            Shard(usize),
            Producer(usize),
            FarEnd,
        }
        let now = self.world.now();
        let mut ready = Vec::new();
        let mut wakeup: Option<Monotonic> = until;
        let sooner = |at: Monotonic, wakeup: &mut Option<Monotonic>| {
            *wakeup = Some(wakeup.map_or(at, |before| before.min(at)));
        };
        for (index, slot) in self.shards.borrow().iter() {
            let due = match slot.asleep {
                None => true,
                Some(Wait::Until(at)) if at <= now => true,
                Some(wait) => {
                    if let Wait::Until(at) = wait {
                        sooner(at, &mut wakeup);
                    }
                    self.world.has_news(slot.driver)
                }
            };
            if due {
                ready.push(Turn::Shard(*index));
            }
        }
        for (index, producer) in self.producers.borrow().iter().enumerate() {
            let Some(producer) = producer else { continue };
            if producer.next_wakeup() <= now || producer.has_news() {
                ready.push(Turn::Producer(index));
            } else {
                sooner(producer.next_wakeup(), &mut wakeup);
            }
        }
        if self.far_end.borrow().has_news() {
            ready.push(Turn::FarEnd);
        } else if let Some(at) = self.far_end.borrow().next_wakeup() {
            sooner(at, &mut wakeup);
        }
        // Everybody may be slow now and then.
        if !ready.is_empty() && self.roll(|dice| dice.of(20)) {
            let pause = Duration::from_micros(self.roll(|dice| dice.below(3_000)));
            self.world.advance_to(now.after(pause));
            return;
        }
        if ready.is_empty() {
            if let Some(at) = self.world.next_event() {
                sooner(at, &mut wakeup);
            }
            let at = wakeup.unwrap_or(now.after(Duration::from_millis(100)));
            self.world.advance_to(at.max(now.after(Duration::from_nanos(1))));
            self.spins.set(0);
            return;
        }
        let chosen = self.roll(|dice| dice.index(ready.len()));
        match ready.swap_remove(chosen) {
            Turn::Shard(index) => self.step_shard(index),
            Turn::Producer(index) => self.step_producer(index),
            Turn::FarEnd => self.far_end.borrow_mut().step(),
        }
    }

    fn step_shard(&self, index: usize) {
        self.spins.set(self.spins.get() + 1);
        if self.spins.get() == SPINS_MAX {
            self.violate(format!("I7: shard {index} spins: it is busy with nothing"));
        }
        let Some(mut slot) = self.shards.borrow_mut().remove(&index) else { return };
        let process = self.engine.borrow().clone();
        let turn = self.act(Actor::Engine, || {
            if slot.asleep.take().is_some() {
                // What it slept for is there, or its time has come.
                slot.shard.sleep(Wait::Until(self.world.now()))?;
                slot.shard.end_sleep();
            }
            let turn = slot.shard.turn()?;
            if turn == Turn::Idle {
                match slot.shard.begin_sleep() {
                    Some(wait) => slot.asleep = Some(wait),
                    None => slot.shard.end_sleep(),
                }
            }
            Ok::<Turn, elgate_engine::EngineError>(turn)
        });
        match turn {
            Ok(Ok(Turn::Ended)) => {}
            Ok(Ok(_)) => {
                // The power may have been cut while it was at work.
                if process.is_some_and(|process| process.is_alive()) {
                    self.shards.borrow_mut().insert(index, slot);
                }
            }
            Ok(Err(error)) => self.violate(format!("shard {index} ended: {error}")),
            Err(death) => {
                self.bury_engine(death.before);
                drop(slot);
            }
        }
    }

    fn step_producer(&self, index: usize) {
        let Some(mut producer) = self.producers.borrow_mut()[index].take() else { return };
        match self.act(Actor::Producer, || producer.step(self)) {
            Ok(()) if producer.process.is_alive() => {
                self.producers.borrow_mut()[index] = Some(producer);
            }
            Ok(()) => self.bury_producer(producer, "power cut"),
            Err(death) => self.bury_producer(producer, death.before),
        }
    }

    /// The engine's process is gone, in the middle of whatever it did.
    pub(crate) fn bury_engine(&self, before: &'static str) {
        let Some(engine) = self.engine.borrow_mut().take() else { return };
        self.story.tell(self.world.now(), format_args!("the engine died before {before}"));
        engine.kill();
        self.marks_left.set(None);
        let shards = std::mem::take(&mut *self.shards.borrow_mut());
        drop(shards);
        crate::checker::note_strikes(self, false);
        let lossy = self.has_abandoned();
        self.ledger.borrow_mut().engine_died(lossy);
    }

    pub(crate) fn bury_producer(&self, producer: SimProducer, before: &'static str) {
        let index = producer.index;
        self.story.tell(self.world.now(), format_args!("producer {index} died before {before}"));
        producer.process.kill();
        self.producer_marks_left.set(None);
        for op in producer.into_outstanding() {
            self.lost_sight(op);
        }
    }

    /// Whether writes or syncs have failed, so that what was written and not synced was, or is
    /// still to be, written again.
    pub(crate) fn has_abandoned(&self) -> bool {
        let counts = self.world.fault_counts();
        counts.sync_errors + counts.write_errors + counts.short_writes + counts.no_space > 0
    }

    pub(crate) fn is_engine_alive(&self) -> bool {
        self.engine.borrow().as_ref().is_some_and(SimProcess::is_alive)
    }

    // --- what producers report ---

    pub(crate) fn may_submit(&self) -> bool {
        self.submissions_left.get() > 0
    }

    pub(crate) fn stop_submitting(&self) {
        self.submissions_left.set(0);
    }

    pub(crate) fn route_name(&self, route: usize) -> RouteName {
        self.scenario.borrow().routes[route].name.clone()
    }

    /// The route and the sizes of the records of the next submission.
    pub(crate) fn next_submission(&self) -> (usize, Vec<usize>) {
        self.submissions_left.set(self.submissions_left.get().saturating_sub(1));
        let (routes, bulk) = {
            let scenario = self.scenario.borrow();
            (scenario.routes.len(), scenario.bulk)
        };
        self.roll(|dice| {
            let count = match dice.below(10) {
                0 => dice.between(2, 40),
                1 | 2 => dice.between(2, 5),
                _ => 1,
            };
            let size = |dice: &mut Dice| match dice.below(20) {
                0 => 0,
                1 => dice.below(24),
                2 | 3 => dice.below(9_000),
                4 if count < 6 => dice.below(70_000),
                _ => dice.between(24, 400),
            };
            let large = bulk && dice.of(600);
            let sizes = match large {
                true => vec![dice.between(200_000, 999_000) as usize],
                false => (0..count).map(|_| size(dice) as usize).collect(),
            };
            (dice.index(routes), sizes)
        })
    }

    pub(crate) fn accepted(&self, producer: usize, op: u64, ring: u32, position: u64) {
        let mut ledger = self.ledger.borrow_mut();
        ledger.op(op).is_accepted = true;
        let (route, records) = (ledger.op(op).route, ledger.op(op).sizes.len());
        self.story.tell(
            self.world.now(),
            format_args!(
                "producer {producer} sent submission {op} to route {route}: {records} records, \
                 position {position} of ring {ring}"
            ),
        );
    }

    pub(crate) fn not_accepted(&self, producer: usize, op: u64, error: &SubmitError) {
        let now = self.world.now();
        self.story.tell(now, format_args!("producer {producer}: submission {op} refused: {error}"));
        let mut ledger = self.ledger.borrow_mut();
        ledger.op(op).state = match error {
            SubmitError::Full => OpState::Refused { code: error.code(), is_final: true },
            _ => OpState::Unknown,
        };
        if matches!(error, SubmitError::Fenced) {
            drop(ledger);
            self.violate(format!("the claim of a living producer ({producer}) was taken away"));
        }
    }

    /// A submission was answered.
    pub(crate) fn answered(&self, op: u64, completion: &Completion) {
        let now = self.world.now();
        let result = match completion.status {
            Some(code) => {
                self.story.tell(now, format_args!("submission {op} was refused: {code:?}"));
                self.ledger.borrow_mut().refuse(op, code);
                Ok(())
            }
            None => {
                let (first, level) = (completion.first_lsn, completion.level);
                self.story.tell(now, format_args!("submission {op} is {level:?} from LSN {first}"));
                if level == Level::Durable {
                    self.mark("acknowledged.durable");
                }
                self.ledger.borrow_mut().acknowledge(op, first, level)
            }
        };
        if let Err(what) = result {
            self.violate(what);
        }
    }

    /// Nobody will hear what became of a submission.
    pub(crate) fn lost_sight(&self, op: u64) {
        let mut ledger = self.ledger.borrow_mut();
        if ledger.op(op).state == OpState::Sent {
            ledger.op(op).state = OpState::Unknown;
        }
    }
}
