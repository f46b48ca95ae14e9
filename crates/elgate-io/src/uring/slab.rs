//! What the kernel works on. An operation stays here, with its buffer and its handle, from the
//! moment it is queued until its result is in; nothing it points to moves or is freed before.

use super::kernel::Kernel;
use crate::Token;

pub(super) struct InFlight {
    pub(super) token: Token,
    pub(super) kernel: Kernel,
    /// Somebody asked for it to end early.
    pub(super) cancelled: bool,
    /// Waits in the backlog: the kernel has not seen it.
    pub(super) queued: bool,
    pub(super) stage: Stage,
}

/// How many submissions an operation is, and how far they have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stage {
    /// One submission, one result.
    Single,
    /// A write linked to a sync: over when both results are in.
    Linked(Chain),
    /// All of it is written, but the sync may not have waited for that: once more, by itself.
    SyncAgain { written: i32 },
}

/// The results of a write and of the sync linked to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) struct Chain {
    pub(super) write: Option<i32>,
    pub(super) sync: Option<i32>,
    /// The kernel may have taken the write without the sync, and then the sync on its own.
    pub(super) may_be_split: bool,
}

/// Names a place in the slab, and which of its successive occupants: `generation:31 | index:32`.
pub(super) type Key = u64;

struct Place {
    generation: u32,
    occupant: Option<InFlight>,
}

#[derive(Default)]
pub(super) struct Slab {
    places: Vec<Place>,
    free: Vec<u32>,
}

impl Slab {
    pub(super) fn insert(&mut self, occupant: InFlight) -> Key {
        let index = self.free.pop().unwrap_or_else(|| {
            self.places.push(Place { generation: 0, occupant: None });
            u32::try_from(self.places.len() - 1).expect("fewer than 2^32 operations in flight")
        });
        let place = &mut self.places[index as usize];
        place.occupant = Some(occupant);
        u64::from(place.generation) << 32 | u64::from(index)
    }

    pub(super) fn get(&mut self, key: Key) -> Option<&mut InFlight> {
        let place = self.places.get_mut(index(key))?;
        (u64::from(place.generation) == key >> 32).then_some(place.occupant.as_mut()).flatten()
    }

    pub(super) fn remove(&mut self, key: Key) -> Option<InFlight> {
        self.get(key)?;
        let place = &mut self.places[index(key)];
        place.generation = (place.generation + 1) & 0x7fff_ffff;
        self.free.push(u32::try_from(index(key)).unwrap_or(u32::MAX));
        place.occupant.take()
    }

    pub(super) fn any(&self, wanted: impl Fn(&InFlight) -> bool) -> bool {
        self.places.iter().any(|place| place.occupant.as_ref().is_some_and(&wanted))
    }

    /// The keys of all occupants that `wanted` picks.
    pub(super) fn keys(&self, wanted: impl Fn(&InFlight) -> bool) -> Vec<Key> {
        self.places
            .iter()
            .zip(0_u64..)
            .filter(|(place, _)| place.occupant.as_ref().is_some_and(&wanted))
            .map(|(place, index)| u64::from(place.generation) << 32 | index)
            .collect()
    }
}

fn index(key: Key) -> usize {
    (key & 0xffff_ffff) as usize
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FutexWord;

    fn wait(token: Token) -> InFlight {
        let owner = std::sync::Arc::new(std::sync::atomic::AtomicU32::new(0));
        // SAFETY: the word is the owner's content.
        let word = unsafe { FutexWord::new(&raw const *owner, owner) };
        let kernel = Kernel::FutexWait { word, expected: 0 };
        InFlight { token, kernel, cancelled: false, queued: false, stage: Stage::Single }
    }

    #[test]
    fn an_old_key_does_not_name_a_new_occupant() {
        let mut slab = Slab::default();
        let (first, second) = (slab.insert(wait(1)), slab.insert(wait(2)));
        assert_eq!(slab.remove(first).map(|found| found.token), Some(1));
        let third = slab.insert(wait(3));
        assert_eq!(third & 0xffff_ffff, first & 0xffff_ffff, "the place is used again");
        assert!(slab.remove(first).is_none());
        assert_eq!(slab.get(third).map(|found| found.token), Some(3));
        assert_eq!(slab.keys(|found| found.token == 2), [second]);
    }
}
