//! The io_uring backend: one ring per shard, driven by the shard's thread alone.
//!
//! * [`ring`] makes the ring and finds out, by doing, what this kernel lets us do with it.
//! * [`registered`] has the arena's memory registered with it.
//! * [`held`] has it keep files open, and so locked, until its last write has ended.
//! * [`kernel`] says each operation in the kernel's words, and what its results mean.
//! * [`slab`] owns every operation the kernel works on, with its buffer and handle, until the
//!   kernel's last word about it.
//! * [`queue`] moves operations into the ring and results out of it.
//! * [`driver`] is the interface in front of all that.

mod driver;
mod held;
mod kernel;
mod queue;
mod registered;
mod ring;
mod slab;

pub use driver::UringDriver;
