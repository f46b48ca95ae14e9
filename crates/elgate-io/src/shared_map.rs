//! A mapped region that several processes read and write through atomics.

use crate::map_guard::MapGuard;
use std::sync::atomic::{AtomicU32, AtomicU64};

/// Memory shared with other processes (a mapped file) or with nobody (the simulator).
///
/// Only atomic words are handed out: whatever another process does to them, no reference to plain
/// memory can be invalidated by it.
pub struct SharedMap {
    base: *mut u8,
    bytes: usize,
    // Declared before the backing, so that it goes first.
    guard: Option<MapGuard>,
    _backing: Backing,
}

enum Backing {
    Mapped(#[expect(dead_code, reason = "held for its drop")] memmap2::MmapRaw),
    Owned(#[expect(dead_code, reason = "held for its drop")] Box<[AtomicU64]>),
}

// SAFETY: the region is only reached through atomics, and lives as long as the value.
unsafe impl Send for SharedMap {}
// SAFETY: as above.
unsafe impl Sync for SharedMap {}

impl SharedMap {
    /// Wraps a mapping of a file.
    #[must_use]
    pub fn from_mapping(mapping: memmap2::MmapRaw) -> Self {
        Self {
            base: mapping.as_mut_ptr(),
            bytes: mapping.len(),
            guard: MapGuard::new(mapping.as_mut_ptr(), mapping.len()),
            _backing: Backing::Mapped(mapping),
        }
    }

    /// Zeroed memory of this process alone. `bytes` is rounded up to a multiple of eight.
    #[must_use]
    pub fn in_memory(bytes: usize) -> Self {
        let words: Box<[AtomicU64]> = (0..bytes.div_ceil(8)).map(|_| AtomicU64::new(0)).collect();
        let base = words.as_ptr().cast_mut().cast::<u8>();
        Self { base, bytes: words.len() * 8, guard: None, _backing: Backing::Owned(words) }
    }

    /// Whether somebody has cut the file short under the mapping: at least a page of it is of zeros
    /// that only this process sees. Known once that page was accessed.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.guard.as_ref().is_some_and(MapGuard::is_lost)
    }

    /// Size in bytes.
    #[must_use]
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// Where the region begins, for those who copy whole runs of bytes that other processes write:
    /// what they read may change under their hands. Valid as long as the value lives.
    #[must_use]
    pub fn base(&self) -> *mut u8 {
        self.base
    }

    /// The 64-bit word at a byte offset.
    ///
    /// # Panics
    /// If the offset is misaligned or out of range: both are defects of the caller.
    #[must_use]
    pub fn u64_at(&self, offset: usize) -> &AtomicU64 {
        assert!(
            offset.is_multiple_of(8) && offset + 8 <= self.bytes,
            "offset {offset} of {}",
            self.bytes
        );
        // SAFETY: in range and aligned (the base is at least 8-aligned), alive with self.
        unsafe { &*self.base.add(offset).cast::<AtomicU64>() }
    }

    /// The 32-bit word at a byte offset.
    ///
    /// # Panics
    /// As [`u64_at`](Self::u64_at).
    #[must_use]
    pub fn u32_at(&self, offset: usize) -> &AtomicU32 {
        assert!(
            offset.is_multiple_of(4) && offset + 4 <= self.bytes,
            "offset {offset} of {}",
            self.bytes
        );
        // SAFETY: in range and aligned, alive with self.
        unsafe { &*self.base.add(offset).cast::<AtomicU32>() }
    }
}

impl std::fmt::Debug for SharedMap {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "SharedMap({} bytes)", self.bytes)
    }
}
