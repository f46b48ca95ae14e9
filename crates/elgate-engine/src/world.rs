//! What an engine stands on: files and clocks, devices, shared memory, and something that runs its
//! shards. [`OsWorld`] is the operating system with a thread per shard.

use crate::error::EngineError;
use crate::pin::pin_current_thread;
use crate::shard::ShardStart;
use crate::topology::Topology;
use elgate_io::{BackendChoice, DriverOptions, OsPlatform, Platform, Waker, open_driver};
use elgate_ring::{Host, OsHost};
use elgate_types::ErrorCode;
use std::fmt::Debug;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::Duration;

/// Where an engine runs.
pub trait World: Debug + Send + Sync {
    /// Files, names and clocks.
    fn platform(&self) -> Arc<dyn Platform>;

    /// Where rings lie, and who is alive.
    fn ring_host(&self) -> Arc<dyn Host>;

    /// The cores there are.
    fn topology(&self) -> Topology;

    /// Begins to run a shard: makes it a driver, where that driver will be used, and hands both to
    /// [`ShardStart::begin`]. Returns when the driver is there.
    ///
    /// # Errors
    /// `IoBackendUnavailable` or `Io`; nothing runs then.
    fn start(&self, shard: ShardStart) -> Result<RunningShard, EngineError>;

    /// Lets time pass until `attempt` succeeds; it is told how long it may itself wait for that.
    /// Gives up after `within`.
    fn wait(&self, within: Duration, attempt: &mut dyn FnMut(Duration) -> bool);
}

/// A shard that runs.
#[derive(Debug)]
pub struct RunningShard {
    /// Interrupts its sleep.
    pub waker: Waker,
    /// Its end.
    pub end: Box<dyn ShardEnd>,
}

/// The end of a shard.
pub trait ShardEnd: Debug + Send {
    /// Waits for it.
    ///
    /// # Errors
    /// What ended it before its time; `Internal` if it panicked.
    fn join(self: Box<Self>) -> Result<(), EngineError>;
}

/// The operating system.
#[derive(Debug)]
pub struct OsWorld {
    backend: BackendChoice,
}

impl OsWorld {
    /// With drivers of this backend.
    #[must_use]
    pub fn new(backend: BackendChoice) -> Self {
        Self { backend }
    }
}

impl World for OsWorld {
    fn platform(&self) -> Arc<dyn Platform> {
        Arc::new(OsPlatform::new())
    }

    fn ring_host(&self) -> Arc<dyn Host> {
        OsHost::shared()
    }

    fn topology(&self) -> Topology {
        Topology::detect()
    }

    fn start(&self, shard: ShardStart) -> Result<RunningShard, EngineError> {
        // Drivers are made on the threads that use them; their wakers come back.
        let (ready, started) = sync_channel::<Result<Waker, EngineError>>(1);
        let backend = self.backend;
        let name = format!("elgate-shard-{}", shard.index());
        let run = move || {
            let pinned = shard.core().and_then(pin_current_thread);
            let driver = match open_driver(backend, &DriverOptions::default()) {
                Ok(driver) => driver,
                Err(error) => {
                    let error = EngineError::wrap(error.code(), "I/O backend", error);
                    // If nobody listens any more, the start has already failed.
                    let _ = ready.try_send(Err(error.clone()));
                    return Err(error);
                }
            };
            let _ = ready.try_send(Ok(driver.waker()));
            drop(ready);
            shard.begin(driver, pinned).run()
        };
        let thread = std::thread::Builder::new()
            .name(name)
            .spawn(run)
            .map_err(|error| EngineError::wrap(ErrorCode::Io, "starting a thread", error))?;
        let waker = started.recv().map_err(|_| EngineError::dead_shard())??;
        Ok(RunningShard { waker, end: Box::new(Thread(thread)) })
    }

    fn wait(&self, within: Duration, attempt: &mut dyn FnMut(Duration) -> bool) {
        attempt(within);
    }
}

#[derive(Debug)]
struct Thread(JoinHandle<Result<(), EngineError>>);

impl ShardEnd for Thread {
    fn join(self: Box<Self>) -> Result<(), EngineError> {
        self.0.join().map_err(|_| EngineError::dead_shard())?
    }
}
