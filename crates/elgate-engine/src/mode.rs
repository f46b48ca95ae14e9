//! Which threads run: the mode, and the plan of shards and cores that follows from it.

use crate::topology::Topology;
use serde::{Deserialize, Serialize};

/// How the engine uses the machine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    /// Decide from the topology: [`Mode::SingleThread`] on one core, else [`Mode::PinnedSharded`].
    #[default]
    Auto,
    /// One shard, not pinned, never spinning: for one core shared with the program.
    SingleThread,
    /// Shards pinned to cores of their own, sharing nothing.
    PinnedSharded,
    /// One shard, whatever the machine: for comparison and for small sidecars.
    ForcedSingle,
    /// Everything in memory and nothing sent anywhere: for users' own tests.
    TestStub,
}

/// What a mode means on one machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// The mode that runs; never [`Mode::Auto`].
    pub mode: Mode,
    /// For each shard, the core it should be pinned to.
    pub shards: Vec<Option<usize>>,
    /// Whether an idle shard may spin before it sleeps.
    pub may_spin: bool,
}

/// Most shards a plan has: beyond it, the logs' devices are the limit, not the cores.
pub const SHARDS_MAX: usize = 64;

impl Plan {
    /// Decides how to run. `shards` is the configured number, 0 for automatic: a quarter of the
    /// cores, at least one, so that the programs Elgate serves keep most of the machine.
    #[must_use]
    pub fn choose(wanted: Mode, shards: usize, pin: bool, topology: &Topology) -> Self {
        let cores = topology.cores();
        let mode = match wanted {
            Mode::Auto if cores.len() == 1 => Mode::SingleThread,
            Mode::Auto => Mode::PinnedSharded,
            other => other,
        };
        let count = match mode {
            Mode::PinnedSharded if shards > 0 => shards.min(SHARDS_MAX),
            Mode::PinnedSharded => (cores.len() / 4).clamp(1, SHARDS_MAX),
            _ => 1,
        };
        let pinned = pin && mode == Mode::PinnedSharded;
        // From the last core down: the first ones tend to serve interrupts. Past the number of
        // cores, pinning two spinning shards to one core would only make them fight.
        let shards = (0..count)
            .map(|index| {
                (pinned && count <= cores.len()).then(|| cores[cores.len() - 1 - index].id)
            })
            .collect();
        Self { mode, shards, may_spin: mode != Mode::SingleThread && cores.len() > 1 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn auto(cores: usize) -> Plan {
        Plan::choose(Mode::Auto, 0, true, &Topology::of(cores, 1))
    }

    #[test]
    fn one_core_is_shared_and_never_spun_on() {
        let plan = auto(1);
        assert_eq!(
            (plan.mode, plan.shards, plan.may_spin),
            (Mode::SingleThread, vec![None], false)
        );
    }

    #[test]
    fn eight_cores_give_two_pinned_shards() {
        let plan = auto(8);
        assert_eq!((plan.mode, plan.shards), (Mode::PinnedSharded, vec![Some(7), Some(6)]));
        assert!(plan.may_spin);
    }

    #[test]
    fn thirty_two_cores_give_eight_distinct_pins() {
        let plan = auto(32);
        let mut pins: Vec<_> = plan.shards.iter().flatten().collect();
        pins.sort_unstable();
        pins.dedup();
        assert_eq!((plan.shards.len(), pins.len()), (8, 8));
    }

    #[test]
    fn forced_and_stub_modes_ignore_the_machine() {
        for mode in [Mode::ForcedSingle, Mode::TestStub, Mode::SingleThread] {
            let plan = Plan::choose(mode, 9, true, &Topology::of(32, 2));
            assert_eq!((plan.mode, plan.shards), (mode, vec![None]));
        }
    }

    #[test]
    fn more_shards_than_cores_run_unpinned() {
        let plan = Plan::choose(Mode::PinnedSharded, 4, true, &Topology::of(2, 1));
        assert_eq!(plan.shards, vec![None; 4]);
    }
}
