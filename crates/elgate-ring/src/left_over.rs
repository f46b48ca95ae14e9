//! What an earlier consumer has left unfinished, before any of it is taken.

use crate::aside::Copied;
use crate::consumer::Consumer;
use crate::layout::SLOTS;
use crate::message::Header;
use crate::protocol::{self, Peek};
use std::collections::BTreeMap;

/// Of each route, by name, and each ring, by identity, the lowest position of a submission that
/// will be handed over and may have been handed over before.
pub type LeftOver = BTreeMap<String, BTreeMap<u64, u64>>;

impl Consumer {
    /// Adds what an earlier consumer has not finished, in the ring's slots and set aside, to `found`.
    /// Call it before the first [`pop`](Self::pop): what was sent later is no older.
    pub fn left_over(&self, found: &mut LeftOver) {
        let mut body = Vec::new();
        self.aside.each_unread(&mut body, &mut |Copied { sender, header, .. }, body| {
            note(found, header, body, sender.ring_id, sender.position);
        });
        let end = self.head + SLOTS;
        let mut position = self.read;
        while position < end {
            let run = match protocol::peek(&*self.ring, position) {
                Peek::Committed { run, .. } | Peek::Aborted { run } => run,
                // Nobody has looked beyond.
                Peek::Empty | Peek::Claimed { .. } | Peek::Impossible(_) => return,
            };
            if let Some((_, header)) = self.ring.read_submission(position, run, &mut body) {
                note(found, &header, &body, self.ring_id(), position);
            }
            position += u64::from(run);
        }
    }
}

fn note(found: &mut LeftOver, header: &Header, body: &[u8], ring_id: u64, position: u64) {
    let name = body.get(..usize::from(header.route_bytes));
    let Some(Ok(name)) = name.map(std::str::from_utf8) else { return };
    if !found.contains_key(name) {
        found.insert(name.to_owned(), BTreeMap::new());
    }
    if let Some(rings) = found.get_mut(name) {
        let lowest = rings.entry(ring_id).or_insert(position);
        *lowest = position.min(*lowest);
    }
}
