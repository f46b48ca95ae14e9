//! A shard: one thread that owns some routes, their rings and a driver, and shares nothing.
//!
//! | file | what |
//! |---|---|
//! | `command.rs` | what other threads may ask of a shard |
//! | `event_loop.rs` | the loop: messages, ring, routes, completions |
//! | `sleep.rs` | what it does when there is nothing to do |
//! | `spin.rs` | for how long it looks for something to do before it sleeps |
//! | `start.rs` | what a shard is made of before it has a driver |
//! | `obey.rs` | carrying out commands: routes come, change and go |
//! | `failed.rs` | routes that could not be opened |
//! | `passed_on.rs` | submissions that went to the shard of their route |
//! | `stop.rs` | stopping: drain, close, end |
//! | `pressure.rs` | rings that a stuck route would fill up for the others |
//! | `intake.rs` | a ring's consumer: pop, liveness, acknowledgement, replacement |

mod command;
mod event_loop;
mod failed;
mod intake;
mod obey;
mod passed_on;
mod pressure;
mod sleep;
mod spin;
mod start;
mod stop;

pub(crate) use command::{Command, Foreign, Mailbox, Reply};
pub use event_loop::{Shard, Turn};
pub(crate) use event_loop::{ShardOptions, home};
pub(crate) use intake::Intake;
pub use start::ShardStart;

/// Where a submission came from, and so where its acknowledgement goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Address {
    /// The shard that owns the ring.
    pub(crate) shard: u16,
    /// The ring among that shard's.
    pub(crate) intake: u16,
    /// Which incarnation of the ring.
    pub(crate) ring_id: u64,
    /// The submission's position in it.
    pub(crate) position: u64,
}
