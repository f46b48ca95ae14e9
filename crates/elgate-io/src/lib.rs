//! Completion-based I/O behind one interface.
//!
//! Everything in Elgate that touches a device, a socket, a clock or a timer does it here, in one
//! of two ways:
//!
//! * [`Driver`]: *submit an operation with a token, later get its completion.* One driver per
//!   shard, used from that shard's thread only. The data path.
//! * [`Platform`]: blocking calls for the control path (opening, listing, renaming, recovery,
//!   zero-filling). Used from control threads, and from a driver through [`Op::Blocking`].
//!
//! | backend | file | what it is |
//! |---|---|---|
//! | `uring` | `uring/` | one io_uring per shard |
//! | `poll` | `poll/` | epoll for sockets, a small pool for files; when io_uring is absent or forbidden |
//! | `tokio-uring` | `tokio_uring_backend/` | that runtime's, for comparison; a cargo feature |
//! | `sim` | `sim/` | in memory, virtual time, seeded faults |
//!
//! `tests/conformance` is the suite that each of them passes, also in a sandbox that forbids
//! io_uring and as a user who may lock next to no memory.
//!
//! What is mapped is guarded (`map_guard.rs`): a file that is cut short costs its owner an error, not
//! the process its life.
//!
//! This crate alone reads the system's clocks (`clock.rs`) and its random numbers (`ids.rs`);
//! clippy refuses both everywhere else.

mod arena;
mod blocking_pool;
mod buffer;
mod clock;
mod commit;
mod commit_probe;
mod driver;
mod file_jobs;
pub mod futex;
mod futex_waiters;
mod handle;
mod held;
pub mod ids;
mod mailbox;
mod map_guard;
mod op;
mod os_platform;
mod platform;
mod poll;
mod probe;
mod shared_map;
pub mod sim;
mod sys;
mod timers;
#[cfg(feature = "tokio-uring")]
mod tokio_uring_backend;
mod uring;

pub use arena::{ARENA_BYTES_DEFAULT, ARENA_BYTES_MAX, Arena};
pub use buffer::Buffer;
pub use commit::Commit;
pub use commit_probe::{CommitProbe, probe_commit};
pub use driver::{Driver, DriverInfo, DriverStatistics, Wait, Waker};
pub use handle::{File, FileIdentity, Listener, Socket};
pub use op::{BlockingCall, BlockingReply, Completion, FutexWord, Op, Outcome, Token};
pub use os_platform::OsPlatform;
pub use platform::{DirectoryEntry, OpenOptions, Platform};
pub use poll::PollDriver;
pub use probe::{BackendChoice, DriverOptions, OpenDriverError, open_driver};
pub use shared_map::SharedMap;
#[cfg(feature = "tokio-uring")]
pub use tokio_uring_backend::TokioUringDriver;
pub use uring::UringDriver;
