//! Which units of a region are taken: one bit each, first fit.
//!
//! A search costs a look at 64 units per word; the regions are small, and one search serves a
//! whole group commit.

use std::ops::Range;

/// The grain of a region: the smallest batch buffer.
pub(super) const UNIT_BYTES: usize = 16 * 1024;

pub(super) struct Blocks {
    /// Bit `n % 64` of word `n / 64` is unit `n`. Bits past the end are never looked at.
    taken: Vec<u64>,
    units: usize,
    used: usize,
    /// No unit before this one is free.
    first_free: usize,
}

impl Blocks {
    pub(super) fn new(units: usize) -> Self {
        Self { taken: vec![0; units.div_ceil(64)], units, used: 0, first_free: 0 }
    }

    pub(super) fn used(&self) -> usize {
        self.used
    }

    /// Takes `count` units (at least one) in a row; returns the first.
    pub(super) fn take(&mut self, count: usize) -> Option<usize> {
        if count > self.units - self.used {
            return None;
        }
        let mut start = self.first_free;
        while start + count <= self.units {
            let range = start..start + count;
            match self.last_taken(&range) {
                Some(unit) => {
                    start = unit + 1;
                    if unit == self.first_free {
                        self.first_free = start;
                    }
                }
                None => {
                    self.change(&range, true);
                    self.used += count;
                    if start == self.first_free {
                        self.first_free = range.end;
                    }
                    return Some(start);
                }
            }
        }
        None
    }

    /// Gives back what [`take`](Self::take) gave.
    ///
    /// # Panics
    /// If it was not taken: two buffers would share memory.
    pub(super) fn give(&mut self, first: usize, count: usize) {
        self.change(&(first..first + count), false);
        self.used -= count;
        self.first_free = self.first_free.min(first);
    }

    fn last_taken(&self, range: &Range<usize>) -> Option<usize> {
        words(range).rev().find_map(|word| {
            let bits = self.taken[word] & mask(word, range);
            bits.checked_ilog2().map(|bit| word * 64 + bit as usize)
        })
    }

    fn change(&mut self, range: &Range<usize>, take: bool) {
        for word in words(range) {
            let mask = mask(word, range);
            let before = self.taken[word] & mask;
            assert_eq!(before, if take { 0 } else { mask }, "units {range:?}");
            self.taken[word] ^= mask;
        }
    }
}

fn words(range: &Range<usize>) -> std::ops::RangeInclusive<usize> {
    range.start / 64..=(range.end - 1) / 64
}

/// The bits of `word`, one of the range's, that lie within the range.
fn mask(word: usize, range: &Range<usize>) -> u64 {
    let low = range.start.saturating_sub(word * 64);
    let high = (range.end - word * 64).min(64);
    (u64::MAX << low) & (u64::MAX >> (64 - high))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Debug, Clone)]
    enum Step {
        Take(usize),
        Give(usize),
    }

    fn step() -> impl Strategy<Value = Step> {
        prop_oneof![(1_usize..90).prop_map(Step::Take), any::<usize>().prop_map(Step::Give)]
    }

    proptest! {
        /// Against the plainest model: a list of booleans.
        #[test]
        fn takes_the_first_gap_that_fits(
            units in 1_usize..300,
            steps in proptest::collection::vec(step(), 1..200),
        ) {
            let mut blocks = Blocks::new(units);
            let mut model = vec![false; units];
            let mut held: Vec<(usize, usize)> = Vec::new();
            for step in steps {
                match step {
                    Step::Take(count) => {
                        let fits = |start: &usize| model[*start..start + count].iter().all(|taken| !taken);
                        let expected = (0..(units + 1).saturating_sub(count)).find(fits);
                        prop_assert_eq!(blocks.take(count), expected);
                        if let Some(start) = expected {
                            model[start..start + count].fill(true);
                            held.push((start, count));
                        }
                    }
                    Step::Give(index) if !held.is_empty() => {
                        let (start, count) = held.swap_remove(index % held.len());
                        blocks.give(start, count);
                        model[start..start + count].fill(false);
                    }
                    Step::Give(_) => {}
                }
                prop_assert_eq!(blocks.used(), model.iter().filter(|taken| **taken).count());
            }
        }
    }

    #[test]
    #[should_panic(expected = "units 1..3")]
    fn giving_back_twice_is_caught() {
        let mut blocks = Blocks::new(8);
        blocks.take(4);
        blocks.give(1, 2);
        blocks.give(1, 2);
    }
}
