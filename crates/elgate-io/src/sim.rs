//! The simulator: a world in memory with virtual time and seeded faults.
//!
//! One [`SimWorld`] holds a disk, a network and a clock; any number of [`SimDriver`]s and
//! platforms look at it. Run from one thread, everything that happens follows from the seed: the
//! order of completions, how long each takes, which of them fail, and what a power cut leaves.
//!
//! * Time stands still while code runs and moves only when a driver waits.
//! * A file has what was written and what is durable; names have the same. [`SimWorld::power_cut`]
//!   shows the difference, [`SimWorld::process_crash`] only loses the process.
//! * A [`SimProcess`] can die alone: between two calls, or in the middle of one. Of its writes under
//!   way each has begun, and happens at its time, or never happens. What its drivers hold stays
//!   locked until then.
//! * Files below `/dev/shm` are memory: they survive processes, not power cuts.
//! * [`SimWorld::add_device`] mounts another device, with faults of its own.
//! * A wait that nothing in the world can end returns at once, with nothing: there is nobody else
//!   to wait for.

mod content;
mod devices;
mod disk;
mod driver;
mod events;
mod faults;
mod network;
mod orphans;
mod platform;
mod process;
mod random;
mod strikes;
mod world;

pub use driver::SimDriver;
pub use faults::{FaultCounts, FaultPlan, LatencyRange};
pub use platform::SimPlatform;
pub use process::{SimDeath, SimProcess};
pub use strikes::{Strike, StrikeKind};
pub use world::SimWorld;

pub(crate) use world::SimHandle;
