//! The whole engine in virtual time, with seeded faults and deaths.
//!
//! A seed decides everything: which engine there is, what programs send it, what its disks, its
//! network and its clock do to it, and who dies where. Shards, producers and far ends are stepped
//! one at a time on one thread, so a seed that fails fails again.
//!
//! | file | what |
//! |---|---|
//! | `scenario.rs` | what a seed decides in advance |
//! | `simulation.rs` | one seed, from the first submission to the verdict |
//! | `stage.rs` | who acts, and whose turn it is |
//! | `engine_world.rs`, `ring_host.rs` | what the engine and the rings stand on |
//! | `producer.rs`, `far_end.rs` | the two ends |
//! | `ledger.rs`, `payload.rs` | what is known outside of everything that can fail |
//! | `checker.rs` | the invariants |
//! | `twins.rs`, `twin_check.rs` | mirrors on a second device, and what they are worth |
//! | `story.rs`, `report.rs` | what is said about it |
//! | `sweep.rs` | many seeds |
//!
//! `docs/internals/simulation.md` says how to read it.

mod checker;
mod dice;
mod engine_world;
mod far_end;
mod ledger;
mod payload;
mod producer;
mod report;
mod ring_host;
mod scenario;
mod simulation;
mod stage;
mod story;
mod sweep;
mod twin_batches;
mod twin_check;
mod twins;

pub use report::{Failure, Report};
pub use simulation::run;
pub use sweep::sweep;
pub use twins::MIRRORED;
