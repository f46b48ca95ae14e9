//! The io_uring backend: one ring per shard, driven by the shard's thread alone.
//!
//! * [`ring`] makes the ring and finds out, by doing, what this kernel lets us do with it.
//! * [`slab`] owns every operation the kernel works on, with its buffer and handle, until the
//!   kernel's last word about it.
//! * [`driver`] turns operations into submissions and results into completions.

mod driver;
mod ring;
mod slab;

pub use driver::UringDriver;
