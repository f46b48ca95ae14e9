//! Block-aligned memory for I/O.

use crate::arena::Region;
use elgate_types::limits::BLOCK_BYTES;
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ops::{Deref, DerefMut};
use std::ptr::NonNull;
use std::sync::Arc;

/// An owned, block-aligned byte buffer of fixed capacity. Suits direct I/O; grows never.
pub struct Buffer {
    base: NonNull<u8>,
    capacity: usize,
    length: usize,
    /// Whose memory it is; the heap's if nobody's.
    region: Option<Arc<Region>>,
}

// SAFETY: a Buffer owns its memory exclusively, as a Vec does.
unsafe impl Send for Buffer {}
// SAFETY: shared access is read-only.
unsafe impl Sync for Buffer {}

impl Buffer {
    /// An empty buffer whose capacity is `bytes` rounded up to whole blocks (at least one).
    #[must_use]
    pub fn with_capacity(bytes: usize) -> Self {
        let capacity = bytes.max(1).next_multiple_of(BLOCK_BYTES);
        let layout = Self::layout(capacity);
        // SAFETY: the layout has a non-zero size.
        let base = unsafe { alloc_zeroed(layout) };
        let Some(base) = NonNull::new(base) else { handle_alloc_error(layout) };
        Self { base, capacity, length: 0, region: None }
    }

    /// An empty buffer over `capacity` bytes at `base` that were taken from `region`, which gets
    /// them back.
    pub(crate) fn in_region(region: Arc<Region>, base: NonNull<u8>, capacity: usize) -> Self {
        Self { base, capacity, length: 0, region: Some(region) }
    }

    pub(crate) fn region(&self) -> Option<&Arc<Region>> {
        self.region.as_ref()
    }

    /// A buffer holding a copy of `bytes`.
    #[must_use]
    pub fn copy_of(bytes: &[u8]) -> Self {
        let mut buffer = Self::with_capacity(bytes.len());
        buffer.extend(bytes);
        buffer
    }

    fn layout(capacity: usize) -> Layout {
        Layout::from_size_align(capacity, BLOCK_BYTES).expect("a capacity below isize::MAX")
    }

    /// Bytes it can hold.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.capacity
    }

    /// Bytes that still fit.
    #[must_use]
    pub fn spare(&self) -> usize {
        self.capacity - self.length
    }

    /// Empties it; the memory keeps its old contents beyond the length.
    pub fn clear(&mut self) {
        self.length = 0;
    }

    /// Appends bytes.
    ///
    /// # Panics
    /// If they do not fit: callers check [`spare`](Self::spare).
    pub fn extend(&mut self, bytes: &[u8]) {
        let start = self.length;
        self.set_length(start + bytes.len());
        self[start..].copy_from_slice(bytes);
    }

    /// Appends `count` zero bytes.
    ///
    /// # Panics
    /// If they do not fit.
    pub fn extend_zeros(&mut self, count: usize) {
        let start = self.length;
        self.set_length(start + count);
        self[start..].fill(0);
    }

    /// Makes it `length` bytes long. Bytes that appear by growing hold whatever was last written
    /// there, perhaps by another buffer (zeros if nothing was): initialised memory, meaningless
    /// content.
    ///
    /// # Panics
    /// If `length` exceeds the capacity.
    pub fn set_length(&mut self, length: usize) {
        assert!(length <= self.capacity, "{length} bytes in a buffer of {}", self.capacity);
        self.length = length;
    }

    pub(crate) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }
}

impl Drop for Buffer {
    fn drop(&mut self) {
        if let Some(region) = &self.region {
            region.give(self.base, self.capacity);
            return;
        }
        // SAFETY: allocated in `with_capacity` with this same layout, and not freed before.
        unsafe { dealloc(self.base.as_ptr(), Self::layout(self.capacity)) }
    }
}

impl Deref for Buffer {
    type Target = [u8];
    fn deref(&self) -> &[u8] {
        // SAFETY: `length` bytes from `base` are allocated and were initialised at birth: zeroed,
        // or mapped, which zeroes.
        unsafe { std::slice::from_raw_parts(self.base.as_ptr(), self.length) }
    }
}

impl DerefMut for Buffer {
    fn deref_mut(&mut self) -> &mut [u8] {
        // SAFETY: as `deref`, and `&mut self` makes the access exclusive.
        unsafe { std::slice::from_raw_parts_mut(self.base.as_ptr(), self.length) }
    }
}

impl std::fmt::Debug for Buffer {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Buffer({} of {} bytes)", self.length, self.capacity)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_aligned_and_bounded() {
        let mut buffer = Buffer::with_capacity(5_000);
        assert_eq!((buffer.capacity(), buffer.len()), (8_192, 0));
        assert_eq!(buffer.base() as usize % BLOCK_BYTES, 0);
        buffer.extend(b"abc");
        buffer.extend_zeros(2);
        assert_eq!(&buffer[..], b"abc\0\0");
        assert_eq!(buffer.spare(), 8_187);
    }

    #[test]
    #[should_panic(expected = "in a buffer of")]
    fn refuses_to_overflow() {
        Buffer::with_capacity(1).extend(&[0; 4_097]);
    }
}
