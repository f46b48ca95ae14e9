//! The simulator's only source of chance: SplitMix64 (Steele, Lea, Flood 2014), seeded.

use super::LatencyRange;

#[derive(Debug, Clone)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `bound`; 0 if that is 0.
    pub(super) fn below(&mut self, bound: u64) -> u64 {
        // The bias of the remainder is far below anything a simulation could notice.
        if bound == 0 { 0 } else { self.next() % bound }
    }

    /// As [`below`](Self::below), for sizes and indices.
    pub(super) fn index(&mut self, bound: usize) -> usize {
        usize::try_from(self.below(bound as u64)).unwrap_or(0)
    }

    pub(super) fn coin(&mut self) -> bool {
        self.next() >> 63 == 1
    }

    /// True so many times in a thousand.
    pub(super) fn per_mille(&mut self, chance: u32) -> bool {
        chance > 0 && self.below(1_000) < u64::from(chance)
    }

    pub(super) fn latency(&mut self, range: LatencyRange) -> u64 {
        let spread = range.max_ns.saturating_sub(range.min_ns);
        (range.min_ns + self.below(spread.saturating_add(1))).max(1)
    }
}
