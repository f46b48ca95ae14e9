//! Which records of a mirror a repair may believe.
//!
//! A twin with its footer is complete. One without may hold attempts that came to nothing while it
//! was away; of it counts what it says itself to be durable, and what is of the log's last epoch
//! and was promised, for numbers are given out again only in a later one. What lies between may be
//! right as well, but nobody can be asked to know it. The layouts are those of RFC 0001, section 4.

use elgate_types::Lsn;
use elgate_types::limits::BLOCK_BYTES;
use std::collections::BTreeSet;

const FOOTER_BYTES: usize = 4 * BLOCK_BYTES;

struct Batch {
    first: u64,
    records: u64,
    epoch: u64,
    durable: u64,
}

/// The records that count, of segments with these bytes: the twins, and the log's own, whose head
/// file says what was promised.
pub(crate) fn believable(twins: &[Vec<u8>], own: &[Vec<u8>], promised: Lsn) -> BTreeSet<Lsn> {
    let all = own.iter().chain(twins).flat_map(|segment| batches(segment));
    let last_epoch = all.map(|batch| batch.epoch).max().unwrap_or(0);
    let mut found = BTreeSet::new();
    for segment in twins {
        let footer = segment.len().saturating_sub(FOOTER_BYTES);
        let is_complete = segment[footer..].starts_with(b"ELGFOOT1");
        let batches = batches(segment);
        let stated = batches.iter().map(|batch| batch.durable).max().unwrap_or(0);
        for batch in batches {
            let lsns = batch.first..batch.first.saturating_add(batch.records);
            let is_last = batch.epoch == last_epoch;
            let counts =
                |lsn: &u64| is_complete || *lsn <= stated || (is_last && *lsn <= promised.0);
            found.extend(lsns.filter(counts).map(Lsn));
        }
    }
    found
}

fn batches(segment: &[u8]) -> Vec<Batch> {
    let number = |at: usize, bytes: usize| {
        let mut wide = [0; 8];
        wide[..bytes].copy_from_slice(&segment[at..at + bytes]);
        u64::from_le_bytes(wide)
    };
    let mut found = Vec::new();
    let mut at = BLOCK_BYTES;
    while at + BLOCK_BYTES <= segment.len() {
        if &segment[at..at + 4] != b"EBAT" {
            at += BLOCK_BYTES;
            continue;
        }
        let (first, records) = (number(at + 0x10, 8), number(at + 0x18, 4));
        let (epoch, durable) = (number(at + 0x20, 8), number(at + 0x28, 8));
        found.push(Batch { first, records, epoch, durable });
        at += (number(at + 0x08, 4) as usize).max(BLOCK_BYTES);
    }
    found
}
