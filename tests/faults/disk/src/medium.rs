//! What the disk holds: the sectors as a reader sees them, those that would survive a power cut,
//! and the writes in between. Pure memory: no faults but the cut, and no file system.

use crate::random::Random;

/// What a device writes at once; a cut may tear anything larger.
pub(crate) const SECTOR_BYTES: usize = 512;

/// Which of the writes that were not flushed survive a cut.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Survivors {
    /// None: the cache is lost as a whole.
    None,
    /// All: the cache happened to be written back. A crash, not a loss.
    All,
    /// The oldest, up to a random one that is torn at a sector.
    Prefix,
    /// Each write or not, by chance: later ones may survive where earlier ones do not.
    Subset,
    /// Each sector or not, by chance: every write may be torn anywhere.
    Sectors,
}

impl Survivors {
    pub(crate) fn named(name: &str) -> Option<Self> {
        Some(match name {
            "none" => Self::None,
            "all" => Self::All,
            "prefix" => Self::Prefix,
            "subset" => Self::Subset,
            "sectors" => Self::Sectors,
            _ => return None,
        })
    }
}

/// What became of the writes that were not flushed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Writes that had not been flushed.
    pub(crate) unflushed: u64,
    /// Of these, lost as a whole.
    pub(crate) dropped: u64,
    /// Of these, in part.
    pub(crate) torn: u64,
}

struct Write {
    offset: usize,
    bytes: Box<[u8]>,
}

/// The disk's content. Both copies are allocated zeroed, so only what is touched takes memory.
pub(crate) struct Medium {
    current: Vec<u8>,
    durable: Vec<u8>,
    unflushed: Vec<Write>,
}

impl Medium {
    pub(crate) fn new(bytes: usize) -> Self {
        Self { current: vec![0; bytes], durable: vec![0; bytes], unflushed: Vec::new() }
    }

    pub(crate) fn len(&self) -> usize {
        self.current.len()
    }

    /// The bytes of a range, less what lies beyond the end.
    pub(crate) fn read(&self, offset: usize, length: usize) -> &[u8] {
        let end = offset.saturating_add(length).min(self.current.len());
        &self.current[offset.min(end)..end]
    }

    /// Takes a write into the volatile cache; `false` if it does not fit on the disk.
    pub(crate) fn write(&mut self, offset: usize, bytes: &[u8]) -> bool {
        let Some(target) = self.current.get_mut(offset..offset.saturating_add(bytes.len())) else {
            return false;
        };
        target.copy_from_slice(bytes);
        self.unflushed.push(Write { offset, bytes: bytes.into() });
        true
    }

    /// Makes stable what has been written so far.
    pub(crate) fn flush(&mut self) {
        for Write { offset, bytes } in self.unflushed.drain(..) {
            self.durable[offset..offset + bytes.len()].copy_from_slice(&bytes);
        }
    }

    /// The power fails. Afterwards a reader sees what survived, and nothing is in the cache.
    pub(crate) fn cut(&mut self, survivors: Survivors, random: &mut Random) -> Cut {
        let writes = std::mem::take(&mut self.unflushed);
        let mut cut = Cut { unflushed: writes.len() as u64, ..Cut::default() };
        let whole = match survivors {
            Survivors::Prefix => random.below(writes.len() + 1),
            _ => 0,
        };
        for (index, Write { offset, bytes }) in writes.iter().enumerate() {
            let sectors = bytes.len().div_ceil(SECTOR_BYTES);
            let torn_at = if index == whole { random.below(sectors + 1) } else { 0 };
            let fate = random.chance();
            let mut kept = 0;
            for (number, sector) in bytes.chunks(SECTOR_BYTES).enumerate() {
                let survives = match survivors {
                    Survivors::None => false,
                    Survivors::All => true,
                    Survivors::Prefix => index < whole || number < torn_at,
                    Survivors::Subset => fate,
                    Survivors::Sectors => random.chance(),
                };
                if survives {
                    let at = offset + number * SECTOR_BYTES;
                    self.durable[at..at + sector.len()].copy_from_slice(sector);
                    kept += 1;
                }
            }
            cut.dropped += u64::from(kept == 0);
            cut.torn += u64::from(kept > 0 && kept < sectors);
        }
        for Write { offset, bytes } in &writes {
            let range = *offset..offset + bytes.len();
            self.current[range.clone()].copy_from_slice(&self.durable[range]);
        }
        cut
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIB: usize = 1024;

    /// Two flushed writes of 1s, then eight of 2s over all of it that are not flushed.
    fn written() -> Medium {
        let mut medium = Medium::new(32 * KIB);
        medium.write(0, &[1; 16 * KIB]);
        medium.write(16 * KIB, &[1; 16 * KIB]);
        medium.flush();
        for index in 0..8 {
            medium.write(index * 4 * KIB, &[2; 4 * KIB]);
        }
        medium
    }

    fn sectors(medium: &Medium) -> Vec<u8> {
        medium
            .read(0, medium.len())
            .chunks(SECTOR_BYTES)
            .map(|sector| {
                assert!(sector.iter().all(|&byte| byte == sector[0]), "a sector is never torn");
                sector[0]
            })
            .collect()
    }

    #[test]
    fn what_was_flushed_survives_every_cut() {
        for survivors in [
            Survivors::None,
            Survivors::All,
            Survivors::Prefix,
            Survivors::Subset,
            Survivors::Sectors,
        ] {
            for seed in 0..50 {
                let mut medium = written();
                medium.flush();
                let cut = medium.cut(survivors, &mut Random::new(seed));
                assert_eq!(cut, Cut::default());
                assert!(sectors(&medium).iter().all(|&byte| byte == 2));
            }
        }
    }

    #[test]
    fn a_cut_without_survivors_restores_the_last_flush() {
        let mut medium = written();
        let cut = medium.cut(Survivors::None, &mut Random::new(1));
        assert_eq!(cut, Cut { unflushed: 8, dropped: 8, torn: 0 });
        assert!(sectors(&medium).iter().all(|&byte| byte == 1));
        // And it is final: nothing of the old cache comes back with a later flush.
        medium.flush();
        assert!(sectors(&medium).iter().all(|&byte| byte == 1));
    }

    #[test]
    fn a_prefix_is_one() {
        for seed in 0..200 {
            let mut medium = written();
            let cut = medium.cut(Survivors::Prefix, &mut Random::new(seed));
            let sectors = sectors(&medium);
            let survived = sectors.iter().take_while(|&&byte| byte == 2).count();
            assert!(sectors[survived..].iter().all(|&byte| byte == 1), "seed {seed}");
            assert!(cut.torn <= 1, "seed {seed}");
        }
    }

    #[test]
    fn a_subset_keeps_writes_whole_and_loses_older_ones() {
        let mut reordered = false;
        for seed in 0..50 {
            let mut medium = written();
            let cut = medium.cut(Survivors::Subset, &mut Random::new(seed));
            assert_eq!(cut.torn, 0);
            let fates: Vec<u8> = sectors(&medium)
                .chunks(8)
                .map(|write| {
                    assert!(write.iter().all(|byte| *byte == write[0]));
                    write[0]
                })
                .collect();
            reordered |= fates.windows(2).any(|pair| pair == [1, 2]);
        }
        assert!(reordered, "no later write survived an earlier one in 50 cuts");
    }

    #[test]
    fn sectors_tear_writes() {
        let mut medium = written();
        let cut = medium.cut(Survivors::Sectors, &mut Random::new(3));
        assert!(cut.torn > 0);
        let survived = sectors(&medium);
        assert!(survived.contains(&1) && survived.contains(&2));
    }

    #[test]
    fn writes_beyond_the_end_are_refused_and_reads_are_short() {
        let mut medium = Medium::new(8 * KIB);
        assert!(!medium.write(8 * KIB - 1, &[1; 2]));
        assert_eq!(medium.read(7 * KIB, 4 * KIB).len(), KIB);
        assert!(medium.read(9 * KIB, 1).is_empty());
    }
}
