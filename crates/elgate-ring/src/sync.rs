//! The atomics that the protocol is built on: the standard library's, or loom's under `cfg(loom)`,
//! where every interleaving of them is tried.

#[cfg(loom)]
pub use loom::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
#[cfg(not(loom))]
pub use std::sync::atomic::{AtomicU32, AtomicU64, Ordering, fence};
