//! Anonymous memory on the best pages to be had, on the NUMA node of the thread that asks.
//!
//! In order: huge pages if the administrator has reserved them and the configuration asks for
//! them; ordinary memory that the kernel may back with huge pages by itself; ordinary pages. The
//! node is chosen before anything is touched, because pages are placed when they are first
//! touched.

use crate::sys::{check, error};
use std::io;
use std::ptr::NonNull;

/// Size of a huge page; regions of at least this size begin at a multiple of it.
const HUGE_PAGE_BYTES: usize = 2 << 20;
/// `MAP_HUGE_2MB`: this size, whatever the machine's default is.
const MAP_HUGE_2MB: libc::c_int = 21 << 26;
/// `MPOL_PREFERRED`: another node rather than a failure (which would be a SIGBUS) when the wanted
/// one is full.
const MPOL_PREFERRED: libc::c_int = 1;
/// Nodes a mask has room for.
const NODES_MAX: usize = 1_024;

/// What backs a region.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Pages {
    /// Reserved huge pages.
    Huge,
    /// The kernel was asked to use huge pages where it can.
    TransparentHuge,
    /// Ordinary ones.
    Ordinary,
}

impl Pages {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Huge => "huge",
            Self::TransparentHuge => "transparent huge",
            Self::Ordinary => "ordinary",
        }
    }
}

/// A mapping of our own, zeroed at birth.
pub(super) struct Mapping {
    base: NonNull<u8>,
    bytes: usize,
    /// What was mapped: `bytes`, rounded up to whole huge pages if it is on those.
    mapped_bytes: usize,
    pages: Pages,
}

// SAFETY: the memory belongs to this value alone, whichever thread holds it; who may touch which
// part of it is settled by the allocator above.
unsafe impl Send for Mapping {}
// SAFETY: as above; nothing here reads or writes through a shared reference.
unsafe impl Sync for Mapping {}

impl Mapping {
    pub(super) fn new(bytes: usize, huge: bool) -> io::Result<Self> {
        let on_huge_pages = huge.then(|| Self::on_huge_pages(bytes)).and_then(Result::ok);
        let mapping = on_huge_pages.map_or_else(|| Self::on_ordinary_pages(bytes), Ok)?;
        // Each of these may fail without harm: it only makes the memory better.
        if let Some(node) = node_of_this_thread().filter(|_| has_several_nodes()) {
            let _ = mapping.prefer_node(node);
        }
        // A child process has no use for it, and must not make the kernel copy pages that a
        // device is reading from.
        let _ = mapping.advise(libc::MADV_DONTFORK);
        Ok(mapping)
    }

    fn on_huge_pages(bytes: usize) -> io::Result<Self> {
        let mapped_bytes = bytes.next_multiple_of(HUGE_PAGE_BYTES);
        // Fails here, not at the first touch, if too few are reserved: the mapping reserves them.
        let base = map(mapped_bytes, libc::MAP_HUGETLB | MAP_HUGE_2MB)?;
        Ok(Self { base, bytes, mapped_bytes, pages: Pages::Huge })
    }

    fn on_ordinary_pages(bytes: usize) -> io::Result<Self> {
        if bytes < HUGE_PAGE_BYTES {
            let base = map(bytes, 0)?;
            return Ok(Self { base, bytes, mapped_bytes: bytes, pages: Pages::Ordinary });
        }
        // More than needed, so that what is kept can begin at a huge page's boundary.
        let whole = map(bytes + HUGE_PAGE_BYTES, 0)?;
        let before = whole.as_ptr().align_offset(HUGE_PAGE_BYTES);
        // SAFETY: `before` is less than a huge page, so this and what follows lies in `whole`,
        // which nobody knows of yet; the pieces cut off are whole pages outside what is kept.
        let base = unsafe {
            let base = whole.add(before);
            if before > 0 {
                libc::munmap(whole.as_ptr().cast(), before);
            }
            libc::munmap(base.add(bytes).as_ptr().cast(), HUGE_PAGE_BYTES - before);
            base
        };
        let mut mapping = Self { base, bytes, mapped_bytes: bytes, pages: Pages::Ordinary };
        if transparent_huge_pages_are_allowed() && mapping.advise(libc::MADV_HUGEPAGE).is_ok() {
            mapping.pages = Pages::TransparentHuge;
        }
        Ok(mapping)
    }

    pub(super) fn base(&self) -> NonNull<u8> {
        self.base
    }

    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    pub(super) fn pages(&self) -> Pages {
        self.pages
    }

    fn advise(&self, advice: libc::c_int) -> io::Result<()> {
        // SAFETY: a range that is ours; the advice used here changes no content.
        check(unsafe { libc::madvise(self.base.as_ptr().cast(), self.mapped_bytes, advice) })
            .map(drop)
    }

    /// Asks for the pages to be placed on a NUMA node. Nothing may have been touched yet.
    fn prefer_node(&self, node: usize) -> io::Result<()> {
        let mut mask = [0_u64; NODES_MAX / 64];
        *mask.get_mut(node / 64).ok_or_else(|| error(libc::EINVAL))? |= 1 << (node % 64);
        // SAFETY: a range that is ours, and a mask of the length given (in bits, plus the one
        // that the call expects on top).
        let result = unsafe {
            libc::syscall(
                libc::SYS_mbind,
                self.base.as_ptr(),
                self.mapped_bytes,
                MPOL_PREFERRED,
                mask.as_ptr(),
                NODES_MAX + 1,
                0,
            )
        };
        check(libc::c_int::try_from(result).unwrap_or(-1)).map(drop)
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: mapped with this length, unmapped once, and no buffer in it is left: each holds
        // a reference to the region that holds this.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.mapped_bytes) };
    }
}

fn map(bytes: usize, flags: libc::c_int) -> io::Result<NonNull<u8>> {
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | flags;
    let access = libc::PROT_READ | libc::PROT_WRITE;
    // SAFETY: a new anonymous mapping wherever the kernel likes touches nothing that exists.
    let base = unsafe { libc::mmap(std::ptr::null_mut(), bytes, access, flags, -1, 0) };
    if base == libc::MAP_FAILED {
        return Err(io::Error::last_os_error());
    }
    NonNull::new(base.cast()).ok_or_else(|| error(libc::ENOMEM))
}

/// Whether advice to use huge pages means anything here.
fn transparent_huge_pages_are_allowed() -> bool {
    std::fs::read_to_string("/sys/kernel/mm/transparent_hugepage/enabled")
        .is_ok_and(|choice| !choice.contains("[never]"))
}

/// Whether the machine's memory is not all equally near: `0` is the list of one node's machine.
fn has_several_nodes() -> bool {
    std::fs::read_to_string("/sys/devices/system/node/online")
        .is_ok_and(|list| list.trim().contains(['-', ',']))
}

fn node_of_this_thread() -> Option<usize> {
    let mut node: libc::c_uint = 0;
    let nowhere = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: a writable integer for the node, and null for what is not asked.
    let result = unsafe { libc::syscall(libc::SYS_getcpu, nowhere, &raw mut node, nowhere) };
    (result == 0).then_some(node as usize)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_region_begins_at_a_huge_page_and_is_all_there() {
        for huge in [false, true] {
            let mapping = Mapping::new(2 * HUGE_PAGE_BYTES, huge).expect("mapped");
            assert_eq!(mapping.base().as_ptr() as usize % HUGE_PAGE_BYTES, 0);
            // SAFETY: the mapping's own bytes, which nobody else uses.
            let bytes =
                unsafe { std::slice::from_raw_parts_mut(mapping.base().as_ptr(), mapping.bytes()) };
            assert!(bytes.iter().all(|byte| *byte == 0));
            bytes.fill(1);
        }
    }

    #[test]
    fn memory_can_be_asked_for_on_a_node_that_is_there() {
        let mapping = Mapping::new(1 << 20, false).expect("mapped");
        let node = node_of_this_thread().expect("getcpu works everywhere");
        match mapping.prefer_node(node) {
            Ok(()) => {
                assert!(mapping.prefer_node(NODES_MAX - 1).is_err(), "nobody has so many");
            }
            // A kernel without NUMA, or a container that forbids the call.
            Err(error) => {
                assert!(matches!(error.raw_os_error(), Some(libc::ENOSYS | libc::EPERM)), "{error}")
            }
        }
        assert!(mapping.prefer_node(NODES_MAX).is_err(), "no room in the mask");
    }
}
