//! What a shard is made of before it has a driver: goes to wherever the shard will run.

use super::{Command, Intake, Mailbox, Shard, ShardOptions};
use elgate_io::Driver;
use std::sync::mpsc::Receiver;
use std::sync::{Arc, OnceLock};

/// A shard to be. See [`World::start`](crate::World::start).
pub struct ShardStart {
    pub(super) options: ShardOptions,
    pub(super) intakes: Vec<Intake>,
    pub(super) commands: Receiver<Command>,
    pub(super) peers: Arc<OnceLock<Vec<Mailbox>>>,
}

impl ShardStart {
    pub(crate) fn new(
        options: ShardOptions,
        intakes: Vec<Intake>,
        commands: Receiver<Command>,
        peers: Arc<OnceLock<Vec<Mailbox>>>,
    ) -> Self {
        Self { options, intakes, commands, peers }
    }

    /// Its number.
    #[must_use]
    pub fn index(&self) -> usize {
        self.options.index
    }

    /// The core it should be pinned to.
    #[must_use]
    pub fn core(&self) -> Option<usize> {
        self.options.core
    }

    /// Gives it its driver, and the core that it was really pinned to.
    #[must_use]
    pub fn begin(self, driver: Box<dyn Driver>, pinned_core: Option<usize>) -> Shard {
        Shard::new(self, driver, pinned_core)
    }
}

impl std::fmt::Debug for ShardStart {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "ShardStart({})", self.options.index)
    }
}
