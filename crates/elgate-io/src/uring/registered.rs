//! The ring's arena: mapped, and registered with the kernel if it lets us.
//!
//! Registered memory is pinned and counts against RLIMIT_MEMLOCK (for users without
//! CAP_IPC_LOCK). Where that has no room the arena becomes smaller, and where registration is
//! forbidden its buffers are written like any others: never a reason not to start.

use crate::{Arena, Buffer, DriverOptions};
use io_uring::IoUring;
use std::io;

/// A region smaller than this is not worth registering.
const REGISTERED_BYTES_MIN: usize = 256 * 1024;
/// The one buffer that is registered: the whole region.
const REGION_INDEX: u16 = 0;

pub(super) struct RegisteredArena {
    pub(super) arena: Arena,
    /// Why the kernel has not taken it; `None` if it has.
    refused: Option<String>,
}

impl RegisteredArena {
    /// Maps an arena for the ring of the calling thread. Shrinks, or goes unregistered, rather
    /// than fail.
    pub(super) fn new(ring: &IoUring, options: &DriverOptions) -> Self {
        let mut bytes = options.arena_bytes;
        let mut refusal = None;
        while bytes >= REGISTERED_BYTES_MIN {
            let arena = match Arena::map(bytes, options.huge_pages) {
                Ok(arena) => arena,
                Err(error) => {
                    let refused = Some(format!("no memory: {error}"));
                    return Self { arena: Arena::heap(), refused };
                }
            };
            match register(ring, &arena) {
                Ok(()) => return Self { arena, refused: None },
                Err(error) => {
                    let is_too_much = error.raw_os_error() == Some(libc::ENOMEM);
                    refusal = Some(error);
                    if !is_too_much {
                        break;
                    }
                }
            }
            bytes /= 2;
        }
        let refused = refusal.map(|error| match error.raw_os_error() {
            Some(libc::ENOMEM) => "RLIMIT_MEMLOCK is too small (ulimit -l, LimitMEMLOCK=)".into(),
            _ => error.to_string(),
        });
        match options.arena_bytes {
            0 => Self { arena: Arena::heap(), refused: Some("none asked for".into()) },
            bytes => {
                let arena = Arena::map(bytes, options.huge_pages).unwrap_or_default();
                Self { arena, refused: Some(refused.unwrap_or_else(|| "too small".into())) }
            }
        }
    }

    /// Which registered buffer this one lies in.
    pub(super) fn index_of(&self, buffer: &Buffer) -> Option<u16> {
        (self.refused.is_none() && self.arena.owns(buffer)).then_some(REGION_INDEX)
    }

    pub(super) fn facts(&self) -> [(&'static str, String); 3] {
        let registered = self.refused.as_ref().map_or("yes".into(), |why| format!("no: {why}"));
        let [bytes, pages] = self.arena.facts();
        [bytes, pages, ("arena_registered", registered)]
    }
}

fn register(ring: &IoUring, arena: &Arena) -> io::Result<()> {
    let Some(vector) = arena.vector() else { return Ok(()) };
    // SAFETY: the vector names the whole mapping. The kernel pins its pages until the ring is
    // gone, so they cannot be reused beneath it, whatever happens to the mapping.
    unsafe { ring.submitter().register_buffers(&[vector]) }
}
