//! The poll backend: epoll for sockets, a small pool of threads for files, one thread per futex
//! wait. Needs nothing that a container forbids.
//!
//! A socket operation is tried at once; only if it would block is its descriptor armed (one shot)
//! in epoll, and it is tried again when that reports readiness.

mod driver;
mod sockets;

pub use driver::PollDriver;
pub(crate) use driver::earliest;
#[cfg(feature = "tokio-uring")]
pub(crate) use sockets::{Sockets, submit_socket};
