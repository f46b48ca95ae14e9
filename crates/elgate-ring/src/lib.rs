//! The shared-memory ring between programs and Elgate: many producers, one consumer, 4 MiB.
//!
//! ```text
//!  producer process                  /dev/shm/elgate_ring                      Elgate
//!  ┌──────────┐  claim, write, commit  ┌──────────────────────┐  look, copy, validate  ┌──────────┐
//!  │ Producer │ ─────────────────────► │ 1,020 slots of 4 KiB │ ─────────────────────► │ Consumer │
//!  │ AckReader│ ◄───────────────────── │ .ack.<participant>   │ ◄───────────────────── │          │
//!  └──────────┘       completions      └──────────────────────┘    finish, release     └──────────┘
//! ```
//!
//! | file | what it is |
//! |---|---|
//! | `layout.rs` | where everything lies in the ring file |
//! | `word.rs` | the slot word: position, owner, run, state |
//! | `protocol.rs` | claim, commit, look, release, sleep, wake: atomics only, checked by loom |
//! | `message.rs` | header and body of a submission, and their validation |
//! | `mapping.rs`, `files.rs` | the mapped file; opening and creating without trust |
//! | `host.rs` | what a ring needs of the world it lives in |
//! | `participant.rs`, `process.rs` | a producer's place; locks, process identity, forks |
//! | `producer.rs` | the producer |
//! | `acks.rs`, `ack_writer.rs`, `ack_reader.rs` | completions, from Elgate to a participant |
//! | `consumer.rs`, `submission.rs` | the consumer, and what it hands over |
//! | `aside.rs`, `closed.rs` | what cannot be finished for now makes room; its route's producers wait |
//! | `left_over.rs` | what an earlier consumer has not finished |
//! | `opening.rs` | creating, taking over and removing a ring |
//! | `stats.rs` | what a consumer can say about its ring |
//! | `liveness.rs` | dead producers |
//! | `salvage.rs` | a poisoned ring |
//! | `examine.rs` | a look from outside, for tools |
//!
//! Invariants: a claim names its owner from the first instant. A claim is taken away only from an
//! owner that the kernel says is dead. The consumer parses copies only. A slot is released only
//! when its records no longer need it. Bad bytes cost their own submission; impossible words cost
//! the ring its identity, not its content.

/// For the model in `tests/loom.rs`; not part of the interface.
#[doc(hidden)]
pub mod protocol;
#[doc(hidden)]
pub mod sync;
#[doc(hidden)]
pub mod word;

#[cfg(not(loom))]
mod ack_reader;
#[cfg(not(loom))]
mod ack_writer;
#[cfg(not(loom))]
mod acks;
#[cfg(not(loom))]
mod aside;
#[cfg(not(loom))]
mod closed;
#[cfg(not(loom))]
mod consumer;
#[cfg(not(loom))]
mod error;
#[cfg(not(loom))]
mod examine;
#[cfg(not(loom))]
mod files;
#[cfg(not(loom))]
mod host;
#[cfg(not(loom))]
mod layout;
#[cfg(not(loom))]
mod left_over;
#[cfg(not(loom))]
mod liveness;
#[cfg(not(loom))]
mod mapping;
#[cfg(not(loom))]
mod message;
#[cfg(not(loom))]
mod opening;
#[cfg(not(loom))]
mod participant;
#[cfg(not(loom))]
mod process;
#[cfg(not(loom))]
mod producer;
#[cfg(not(loom))]
mod salvage;
#[cfg(not(loom))]
mod stats;
#[cfg(not(loom))]
mod submission;

#[cfg(not(loom))]
pub use ack_reader::{AckReader, AckWaiter};
#[cfg(not(loom))]
pub use acks::Completion;
#[cfg(not(loom))]
pub use consumer::{Consumer, SLEEPING};
#[cfg(not(loom))]
pub use error::{RingError, RingPoisoned, SubmitError};
#[cfg(not(loom))]
pub use examine::{RingReport, examine, ring_path};
#[cfg(not(loom))]
pub use host::{Host, OsHost, SharedFile};
#[cfg(not(loom))]
pub use left_over::LeftOver;
#[cfg(not(loom))]
pub use mapping::RingOptions;
#[cfg(not(loom))]
pub use message::{Records, records};
#[cfg(not(loom))]
pub use process::{ForkGuard, ProcessIdentity};
#[cfg(not(loom))]
pub use producer::{OUTSTANDING_MAX, Producer};
#[cfg(not(loom))]
pub use stats::RingStats;
#[cfg(not(loom))]
pub use submission::Submission;
