//! The tokio-uring backend, for comparison: files through that runtime's ring, everything else
//! through our own parts.
//!
//! Not for production, because of what its runtime lacks: an operation cannot be taken back, so
//! sockets, whose operations may never end, stay with epoll; no write can ask for stable storage,
//! so a durable one is followed by `fdatasync`; no memory can be registered for one driver alone;
//! and submissions wait until the runtime has nothing else to do. It must never be given
//! `DEFER_TASKRUN`: it enters the kernel without asking for results, and would wait for ever.

mod driver;
mod file_task;
mod news;

pub use driver::TokioUringDriver;
