//! A poisoned ring: what still validates moves into a fresh ring, which takes the name.
//!
//! Salvaged submissions go to the same slots of the new ring, in the same order, owned by nobody;
//! slots between them are marked aborted. They are in the new ring before it has the name, so being
//! killed on the way loses nothing: the next consumer finds either ring whole.

use crate::consumer::Consumer;
use crate::error::RingError;
use crate::files;
use crate::layout::SLOTS;
use crate::mapping::RingMap;
use crate::opening::announce;
use crate::protocol::{self, Peek, Shared};
use crate::sync::{Ordering, fence};
use crate::word::{State, Word};
use elgate_io::futex;
use std::path::Path;

impl Consumer {
    /// Gives the ring up and goes on with a fresh one under the same name. Returns how many
    /// submissions were salvaged; they are [popped](Self::pop) again from the new ring, with new
    /// positions and owner 0.
    ///
    /// What was taken and is not yet finished is [set aside](Self::set_aside), as far as there is
    /// room: finish it first if that is a matter of moments, for its producers will never hear of it
    /// afterwards. Producers notice, attach anew, and report what was outstanding as `RingCorrupt`,
    /// outcome unknown.
    ///
    /// # Errors
    /// [`RingError`] if no new file can be made. Nothing is lost then; try again.
    pub fn replace(&mut self) -> Result<usize, RingError> {
        let ring_id = self.ring_id();
        for position in self.taken_positions() {
            if self.set_aside(ring_id, position).is_err() {
                // No room. Those behind it stay behind it.
                break;
            }
        }
        self.publish_completions();
        self.release();
        self.ring.poisoned().store(1, Ordering::Relaxed);
        // Pairs with the fence in `must_wake_consumer`: a commit that the scan below does not see
        // sees the ring given up.
        fence(Ordering::SeqCst);
        let path = self.ring.path().to_owned();
        let temporary = files::temporary(&**self.ring.host(), &path);
        // Beyond every position of the old ring, so that none is ever mistaken for a new one.
        let first = self.read + 2 * SLOTS;
        let epoch = self.epoch.wrapping_add(1);
        let mut fresh = RingMap::create(self.ring.host(), &temporary, &self.options, first)?;
        let salvaged = self.salvage_into(&fresh, first);
        announce(&fresh, &self.identity, epoch);
        if let Err(error) = publish_name(&fresh, &temporary, &path) {
            self.ring.host().remove(&temporary);
            return Err(error);
        }
        fresh.set_path(&path);
        self.acks.wake_all(&self.ring);
        self.ring.space_sequence().fetch_add(1, Ordering::Release); // pairs with waiting producers
        futex::wake(self.ring.space_sequence(), u32::MAX);
        self.switch_to(fresh, first, epoch);
        Ok(salvaged)
    }

    fn salvage_into(&mut self, fresh: &RingMap, first: u64) -> usize {
        let shift = first - self.read;
        let end = self.head + SLOTS;
        let (mut position, mut filled, mut salvaged) = (self.read, self.read, 0);
        let mut body = std::mem::take(&mut self.scratch);
        while position < end {
            let run = match protocol::peek(&*self.ring, position) {
                Peek::Committed { run, .. } if position + u64::from(run) <= end => run,
                _ => 0,
            };
            if run == 0 || !copy_if_valid(&self.ring, fresh, position, shift, run, &mut body) {
                position += 1;
                continue;
            }
            for gap in filled..position {
                let aborted = Word::used(gap + shift, 0, 1, State::Aborted);
                fresh.word(gap + shift).store(aborted.0, Ordering::Relaxed);
            }
            let committed = Word::used(position + shift, 0, run, State::Committed);
            fresh.word(position + shift).store(committed.0, Ordering::Relaxed);
            position += u64::from(run);
            (filled, salvaged) = (position, salvaged + 1);
        }
        // Published by the rename: nobody else has the file yet.
        fresh.tail().store(filled + shift, Ordering::Release);
        salvaged
    }
}

/// Copies a submission to the same slots of the fresh ring if it is a valid one.
fn copy_if_valid(
    old: &RingMap,
    fresh: &RingMap,
    position: u64,
    shift: u64,
    run: u16,
    body: &mut Vec<u8>,
) -> bool {
    let Some((fields, _)) = old.read_submission(position, run, body) else { return false };
    fresh.write_first(position + shift, &fields);
    fresh.write_body(position + shift, run, 0, body);
    true
}

/// Locks the fresh ring and gives it the name: from here on it is the ring.
fn publish_name(fresh: &RingMap, temporary: &Path, path: &Path) -> Result<(), RingError> {
    let locked =
        fresh.file().try_lock_byte(0).map_err(|source| files::failed("lock", temporary, source))?;
    assert!(locked, "nobody else knows the file");
    let renamed = fresh.host().rename(temporary, path);
    renamed.map_err(|source| files::failed("replace", path, source))
}
