//! What a consumer that died now would leave unfinished: the next one will be handed it.

use crate::aside::Copied;
use crate::consumer::Consumer;
use crate::layout::SLOTS;
use crate::message::Header;
use crate::protocol::{self, Peek};
use std::collections::BTreeMap;

/// Of each route, by name, and each ring, by identity, the lowest position of a submission that
/// may be handed over again.
pub type LeftOver = BTreeMap<String, BTreeMap<u64, u64>>;

impl Consumer {
    /// Adds what is not finished, in the ring's slots and set aside, to `found`: taken by this
    /// consumer or not yet. What is done counts too as long as older submissions keep its slots.
    pub fn left_over(&self, found: &mut LeftOver) {
        let mut body = Vec::new();
        self.aside.each_kept(&mut body, &mut |Copied { sender, header, .. }, body| {
            note(found, header, body, sender.ring_id, sender.position);
        });
        let end = self.head + SLOTS;
        let mut position = self.head;
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
