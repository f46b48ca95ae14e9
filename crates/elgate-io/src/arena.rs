//! The memory that a driver's files are read into and written from: one region, mapped once,
//! aligned for direct I/O, on the NUMA node of its shard, and, where the kernel agrees, registered
//! with it, so that no write has to look up and pin its pages again.
//!
//! | file | role |
//! |---|---|
//! | `mapping.rs` | the region: which pages, on which node |
//! | `blocks.rs` | which parts of it are taken |

mod blocks;
mod mapping;

use crate::Buffer;
use blocks::{Blocks, UNIT_BYTES};
use elgate_types::limits::BLOCK_BYTES;
use mapping::Mapping;
use std::io;
use std::ptr::NonNull;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// What a driver takes where nobody says otherwise: room for four of the log's largest ordinary
/// batches, and small enough that it and a ring fit into the 8 MiB that Linux lets a user lock by
/// default.
pub const ARENA_BYTES_DEFAULT: usize = 4 << 20;

/// Largest region of one driver.
pub const ARENA_BYTES_MAX: usize = 256 << 20;

/// Larger buffers come from the heap.
const BUFFER_BYTES_MAX: usize = 4 << 20;

/// Where buffers for file I/O come from. Cheap to clone, usable from any thread.
///
/// A buffer goes back where it came from when it is dropped, on whatever thread, and keeps the
/// memory alive until then: an arena may be dropped before its buffers.
#[derive(Clone, Default)]
pub struct Arena(Option<Arc<Region>>);

impl Arena {
    /// An arena without memory of its own: its buffers come from the heap.
    #[must_use]
    pub const fn heap() -> Self {
        Self(None)
    }

    /// Maps a region of `bytes`, rounded up to whole units. With `huge`, on huge pages if so many
    /// are reserved.
    pub(crate) fn map(bytes: usize, huge: bool) -> io::Result<Self> {
        let bytes = bytes.clamp(UNIT_BYTES, ARENA_BYTES_MAX).next_multiple_of(UNIT_BYTES);
        let mapping = Mapping::new(bytes, huge)?;
        let blocks = Mutex::new(Blocks::new(bytes / UNIT_BYTES));
        Ok(Self(Some(Arc::new(Region { mapping, blocks }))))
    }

    /// An empty buffer whose capacity is `bytes` rounded up to whole blocks, as
    /// [`Buffer::with_capacity`] makes it; from the heap when the region has no room for it.
    /// What the memory held before is still there beyond the buffer's length.
    #[must_use]
    pub fn take(&self, bytes: usize) -> Buffer {
        self.try_take(bytes).unwrap_or_else(|| Buffer::with_capacity(bytes))
    }

    /// As [`take`](Self::take), but `None` when the region has no room for it.
    #[must_use]
    pub fn try_take(&self, bytes: usize) -> Option<Buffer> {
        let capacity = bytes.max(1).next_multiple_of(BLOCK_BYTES);
        let region = self.0.as_ref()?;
        let base = region.take(capacity)?;
        Some(Buffer::in_region(region.clone(), base, capacity))
    }

    /// Whether a buffer's memory belongs to this arena's region.
    #[must_use]
    pub fn owns(&self, buffer: &Buffer) -> bool {
        match (&self.0, buffer.region()) {
            (Some(own), Some(its)) => Arc::ptr_eq(own, its),
            _ => false,
        }
    }

    /// Size of the region in bytes; 0 for [`heap`](Self::heap).
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |region| region.mapping.bytes())
    }

    /// How many bytes of the region buffers occupy now.
    #[must_use]
    pub fn used_bytes(&self) -> usize {
        self.0.as_ref().map_or(0, |region| region.lock().used() * UNIT_BYTES)
    }

    /// What a driver says about its arena.
    pub(crate) fn facts(&self) -> [(&'static str, String); 2] {
        let pages = self.0.as_ref().map_or("none", |region| region.mapping.pages().name());
        [("arena_bytes", self.bytes().to_string()), ("arena_pages", pages.to_owned())]
    }

    /// The region as the kernel wants it for registration.
    pub(crate) fn vector(&self) -> Option<libc::iovec> {
        let mapping = &self.0.as_ref()?.mapping;
        Some(libc::iovec { iov_base: mapping.base().as_ptr().cast(), iov_len: mapping.bytes() })
    }
}

impl std::fmt::Debug for Arena {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Arena({} of {} bytes taken)", self.used_bytes(), self.bytes())
    }
}

/// A mapped region and what is taken of it.
pub(crate) struct Region {
    mapping: Mapping,
    blocks: Mutex<Blocks>,
}

impl Region {
    fn take(&self, bytes: usize) -> Option<NonNull<u8>> {
        if bytes > BUFFER_BYTES_MAX {
            return None;
        }
        let unit = self.lock().take(bytes.div_ceil(UNIT_BYTES))?;
        // SAFETY: `blocks` counts exactly the units of the mapping, so the offset lies within it.
        Some(unsafe { self.mapping.base().add(unit * UNIT_BYTES) })
    }

    /// Takes back what [`take`](Self::take) gave.
    pub(crate) fn give(&self, base: NonNull<u8>, bytes: usize) {
        let offset = base.as_ptr() as usize - self.mapping.base().as_ptr() as usize;
        self.lock().give(offset / UNIT_BYTES, bytes.div_ceil(UNIT_BYTES));
    }

    fn lock(&self) -> MutexGuard<'_, Blocks> {
        // The bitmap is whole between any two of its operations.
        self.blocks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buffers_come_from_the_region_until_it_is_full_and_go_back() {
        let arena = Arena::map(8 * UNIT_BYTES, false).expect("mapped");
        assert_eq!(arena.bytes(), 8 * UNIT_BYTES);
        let mut taken: Vec<Buffer> = (0..8).map(|_| arena.take(10_000)).collect();
        for (index, buffer) in taken.iter_mut().enumerate() {
            assert!(arena.owns(buffer));
            assert_eq!((buffer.capacity(), buffer.len()), (12_288, 0));
            buffer.extend(&[index as u8; 12_288]);
        }
        assert_eq!(arena.used_bytes(), arena.bytes());
        let beyond = arena.take(10_000);
        assert!(!arena.owns(&beyond) && beyond.capacity() == 12_288);
        for (index, buffer) in taken.iter().enumerate() {
            assert!(buffer.iter().all(|byte| *byte == index as u8), "nobody else wrote there");
        }
        std::thread::spawn(move || drop(taken)).join().expect("dropped elsewhere");
        assert_eq!(arena.used_bytes(), 0);
        assert!(arena.owns(&arena.take(8 * UNIT_BYTES)), "what came back is one piece again");
    }

    #[test]
    fn a_buffer_outlives_its_arena() {
        let arena = Arena::map(1 << 20, false).expect("mapped");
        let mut buffer = arena.take(1 << 20);
        drop(arena);
        buffer.extend(&[7; 1 << 20]);
        assert!(buffer.iter().all(|byte| *byte == 7));
    }

    #[test]
    fn what_is_too_large_and_what_is_nobodys_comes_from_the_heap() {
        let arena = Arena::map(2 * BUFFER_BYTES_MAX, false).expect("mapped");
        assert!(!arena.owns(&arena.take(BUFFER_BYTES_MAX + 1)));
        assert!(arena.owns(&arena.take(BUFFER_BYTES_MAX)));
        let heap = Arena::heap();
        assert!(!heap.owns(&heap.take(1)) && heap.bytes() == 0);
        assert!(!heap.owns(&arena.take(1)) && !arena.owns(&Buffer::with_capacity(1)));
    }
}
