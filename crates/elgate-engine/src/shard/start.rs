//! What a shard is made of before it has a driver: goes to wherever the shard will run.

use super::{Command, Intake, Mailbox, Shard, ShardOptions};
use crate::error::EngineError;
use crate::shard_io::ShardIo;
use elgate_io::{Driver, File};
use std::sync::mpsc::Receiver;
use std::sync::{Arc, OnceLock};

/// A shard to be. See [`World::start`](crate::World::start).
pub struct ShardStart {
    pub(super) options: ShardOptions,
    pub(super) intakes: Vec<Intake>,
    pub(super) commands: Receiver<Command>,
    pub(super) peers: Arc<OnceLock<Vec<Mailbox>>>,
    io: Arc<ShardIo>,
    /// The lock on the data directory.
    pub(super) lock: File,
}

impl ShardStart {
    pub(crate) fn new(
        options: ShardOptions,
        intakes: Vec<Intake>,
        commands: Receiver<Command>,
        peers: Arc<OnceLock<Vec<Mailbox>>>,
        io: Arc<ShardIo>,
        lock: File,
    ) -> Self {
        Self { options, intakes, commands, peers, io, lock }
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

    /// Makes the operating system's driver that the configuration asks for. Call it on the thread
    /// that will use it.
    ///
    /// # Errors
    /// `IoBackendUnavailable` or `Io`.
    pub fn open_driver(&self) -> Result<Box<dyn Driver>, EngineError> {
        self.io.open()
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
