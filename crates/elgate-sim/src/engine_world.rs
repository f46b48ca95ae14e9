//! The world that a simulated engine stands on: its shards are stepped by the stage.

use crate::ring_host::SimHost;
use crate::stage::{ShardSlot, on_stage};
use elgate_engine::{EngineError, RunningShard, ShardEnd, ShardStart, Topology, World};
use elgate_io::sim::SimProcess;
use elgate_io::{Driver, Platform};
use elgate_ring::Host;
use std::sync::Arc;
use std::time::Duration;

/// Turns that a call to the engine may take. Beyond it the engine is stuck.
const STEPS_MAX: u64 = 400_000;

#[derive(Debug)]
pub(crate) struct StageWorld {
    process: SimProcess,
}

impl StageWorld {
    pub(crate) fn new(process: &SimProcess) -> Self {
        Self { process: process.clone() }
    }
}

impl World for StageWorld {
    fn platform(&self) -> Arc<dyn Platform> {
        self.process.platform()
    }

    fn ring_host(&self) -> Arc<dyn Host> {
        SimHost::shared(&self.process)
    }

    fn topology(&self) -> Topology {
        Topology::of(8, 1)
    }

    fn start(&self, shard: ShardStart) -> Result<RunningShard, EngineError> {
        let index = shard.index();
        let driver = self.process.driver();
        let waker = driver.waker();
        on_stage(|stage| {
            let driver_id = driver.id();
            let shard = shard.begin(Box::new(driver), None);
            let slot = ShardSlot { shard, driver: driver_id, asleep: None };
            stage.shards.borrow_mut().insert(index, slot);
        });
        let end = Box::new(StageEnd { process: self.process.clone(), index });
        Ok(RunningShard { waker, end })
    }

    fn wait(&self, within: Duration, attempt: &mut dyn FnMut(Duration) -> bool) {
        on_stage(|stage| {
            let until = stage.world.now().after(within);
            for _ in 0..STEPS_MAX {
                let in_time = stage.world.now() < until && self.process.is_alive();
                if attempt(Duration::ZERO) || !in_time {
                    return;
                }
                stage.step(Some(until));
            }
            let marks = stage.marks.borrow().clone();
            stage.story.tell(stage.world.now(), format_args!("{marks:?}"));
            stage.violate("I7: a call to the engine never ends".into());
        });
    }
}

#[derive(Debug)]
struct StageEnd {
    process: SimProcess,
    index: usize,
}

impl ShardEnd for StageEnd {
    fn join(self: Box<Self>) -> Result<(), EngineError> {
        on_stage(|stage| {
            for _ in 0..STEPS_MAX {
                let runs = stage.shards.borrow().contains_key(&self.index);
                if !runs || !self.process.is_alive() {
                    return;
                }
                stage.step(None);
            }
            stage.violate(format!("I7: shard {} does not end", self.index));
        });
        Ok(())
    }
}
