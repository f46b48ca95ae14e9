//! Files that the ring itself keeps open.
//!
//! A process that is killed closes its descriptors at once, but what the block layer already has of
//! its ring goes on: the kernel waits for that elsewhere, and frees the ring only then. A file
//! registered with the ring is closed with it. So a lock on such a file outlives the process for as
//! long as one of its writes can still reach the device, and not longer.

use crate::File;
use elgate_types::seeded_bug;
use io_uring::IoUring;
use std::io;
use std::sync::Arc;

/// Places in the ring's table: the data directory's lock and every route's log, with room.
const SLOTS_MAX: usize = elgate_types::limits::ROUTES_MAX + 64;
/// A table smaller than this is not worth having.
const SLOTS_MIN: usize = 8;
const NOBODY: i32 = -1;

pub(super) struct HeldFiles {
    /// What is in each place of the ring's table. The file stays open here as well.
    slots: Vec<Option<File>>,
    /// Why the ring does not hold what it was given; `None` if it does.
    refused: Option<String>,
}

impl HeldFiles {
    /// An empty table for the ring of the calling thread. Where there is none to be had, files are
    /// held by the process alone: never a reason not to start.
    pub(super) fn new(ring: &IoUring) -> Self {
        let mut count = SLOTS_MAX;
        loop {
            match ring.submitter().register_files(&vec![NOBODY; count]) {
                Ok(()) => return Self { slots: vec![None; count], refused: None },
                // A table may not be larger than RLIMIT_NOFILE.
                Err(error) if count > SLOTS_MIN && error.raw_os_error() == Some(libc::EMFILE) => {
                    count /= 2;
                }
                Err(error) => return Self { slots: Vec::new(), refused: Some(error.to_string()) },
            }
        }
    }

    pub(super) fn hold(&mut self, ring: &IoUring, file: &File) {
        if self.place_of(file).is_some() {
            return;
        }
        let place = self.slots.iter().position(Option::is_none).unwrap_or_else(|| {
            self.slots.push(None);
            self.slots.len() - 1
        });
        self.slots[place] = Some(file.clone());
        if seeded_bug::is("release-locks-at-death") {
            return;
        }
        if let Err(error) = put(ring, place, Some(file)) {
            self.refused.get_or_insert_with(|| error.to_string());
        }
    }

    pub(super) fn release(&mut self, ring: &IoUring, file: &File) {
        if let Some(place) = self.place_of(file) {
            // A place that the table does not have was refused before.
            drop(put(ring, place, None));
            self.slots[place] = None;
        }
    }

    /// Once nothing is under way: from here on the process alone holds what is held, and it is free
    /// when this is dropped, not when the kernel has taken the ring down.
    pub(super) fn leave(&self, ring: &IoUring) {
        // Fails if there is no table.
        drop(ring.submitter().unregister_files());
    }

    fn place_of(&self, file: &File) -> Option<usize> {
        self.slots.iter().position(|held| held.as_ref().is_some_and(|held| is_same(held, file)))
    }

    pub(super) fn fact(&self) -> (&'static str, String) {
        let holds = self.refused.as_ref().map_or("ring".into(), |why| format!("process: {why}"));
        ("locks_held_by", holds)
    }
}

fn is_same(one: &File, other: &File) -> bool {
    Arc::ptr_eq(&one.0, &other.0)
}

fn put(ring: &IoUring, place: usize, file: Option<&File>) -> io::Result<()> {
    let descriptor = match file {
        Some(file) => std::os::fd::AsRawFd::as_raw_fd(&file.0.os()?),
        None => NOBODY,
    };
    let place = u32::try_from(place).map_err(io::Error::other)?;
    ring.submitter().register_files_update(place, &[descriptor]).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{OpenOptions, OsPlatform, Platform};

    #[test]
    fn the_ring_keeps_a_lock_that_the_process_has_let_go_of() {
        let Ok(ring) = IoUring::new(8) else {
            eprintln!("skipped: no io_uring here");
            return;
        };
        let place = tempfile::tempdir().unwrap();
        let platform = OsPlatform::new();
        let options = OpenOptions { read: true, write: true, create: true, ..Default::default() };
        let open = || platform.open(&place.path().join("lock"), options).unwrap();
        let (file, onlooker) = (open(), open());
        assert!(platform.try_lock(&file).unwrap());
        let mut held = HeldFiles::new(&ring);
        assert_eq!(held.fact().1, "ring");
        held.hold(&ring, &file);
        // As in a process that is gone: its descriptors are closed, its ring is not.
        held.slots.fill(None);
        drop(file);
        assert!(!platform.try_lock(&onlooker).unwrap(), "the ring has it");
        held.leave(&ring);
        assert!(platform.try_lock(&onlooker).unwrap(), "not when the kernel gets round to it");
    }

    #[test]
    fn a_full_table_says_so_and_the_process_holds_on() {
        let Ok(ring) = IoUring::new(8) else {
            eprintln!("skipped: no io_uring here");
            return;
        };
        ring.submitter().register_files(&[NOBODY]).unwrap();
        let mut held = HeldFiles { slots: vec![None], refused: None };
        let files: Vec<File> = (0..2)
            .map(|_| File::from(std::os::fd::OwnedFd::from(tempfile::tempfile().unwrap())))
            .collect();
        held.hold(&ring, &files[0]);
        assert_eq!(held.fact().1, "ring");
        held.hold(&ring, &files[1]);
        assert!(held.fact().1.starts_with("process: "), "{:?}", held.fact());
        held.release(&ring, &files[0]);
        held.release(&ring, &files[1]);
        assert!(held.slots.iter().all(Option::is_none));
    }
}
