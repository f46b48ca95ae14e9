//! What seeds have shown: one of them, or all together.

use crate::stage::Stage;
use elgate_io::sim::FaultCounts;
use serde_json::json;
use std::collections::BTreeMap;
use std::fmt;

/// What a seed has been through without harm.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Seeds in this report.
    pub seeds: u64,
    /// How often each mark was passed.
    pub marks: BTreeMap<&'static str, u64>,
    /// Deaths by what the dead did not come to.
    pub deaths: BTreeMap<&'static str, u64>,
    /// Faults by kind.
    pub faults: BTreeMap<&'static str, u64>,
    /// Records acknowledged.
    pub acknowledged: u64,
    /// Submissions sent.
    pub submissions: u64,
    /// Submissions refused.
    pub refused: u64,
    /// Deliveries taken by far ends.
    pub deliveries: u64,
}

impl Report {
    pub(crate) fn of(stage: &Stage) -> Self {
        let ledger = stage.ledger.borrow();
        let far_end = stage.far_end.borrow();
        let mut faults = faults(&stage.world.fault_counts());
        faults.insert("far_end_refusals", far_end.refused);
        faults.insert("far_end_swallowed_answers", far_end.swallowed);
        Self {
            seeds: 1,
            marks: stage.marks.borrow().clone(),
            deaths: stage.deaths.borrow().clone(),
            faults,
            acknowledged: ledger.acknowledged_records,
            submissions: ledger.ops.len() as u64,
            refused: ledger.refusals,
            deliveries: far_end.receipts.len() as u64,
        }
    }

    /// Adds another report to this one.
    pub fn add(&mut self, other: &Self) {
        self.seeds += other.seeds;
        for (mine, theirs) in [
            (&mut self.marks, &other.marks),
            (&mut self.deaths, &other.deaths),
            (&mut self.faults, &other.faults),
        ] {
            for (name, count) in theirs {
                *mine.entry(name).or_default() += count;
            }
        }
        self.acknowledged += other.acknowledged;
        self.submissions += other.submissions;
        self.refused += other.refused;
        self.deliveries += other.deliveries;
    }

    /// One object, for tools. Nothing is ever lost in a report: a seed that loses has none.
    #[must_use]
    pub fn to_json(&self) -> String {
        json!({
            "seeds": self.seeds,
            "submissions": self.submissions,
            "acknowledged_records": self.acknowledged,
            "refused_submissions": self.refused,
            "deliveries": self.deliveries,
            "lost": 0,
            "deaths": self.deaths.values().sum::<u64>(),
            "power_cuts": self.faults.get("power_cuts"),
            "deaths_by_step": self.deaths,
            "faults": self.faults,
            "marks": self.marks,
        })
        .to_string()
    }
}

impl fmt::Display for Report {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let deaths: u64 = self.deaths.values().sum();
        let Self { seeds, submissions, acknowledged, deliveries, .. } = self;
        let cuts = self.faults.get("power_cuts").copied().unwrap_or(0);
        write!(
            formatter,
            "{seeds} seeds, {deaths} deaths, {cuts} of them power cuts, {submissions} submissions, \
             {acknowledged} records acknowledged, {deliveries} deliveries, lost 0"
        )?;
        for (title, counts) in
            [("deaths before", &self.deaths), ("faults", &self.faults), ("marks", &self.marks)]
        {
            let list: Vec<String> =
                counts.iter().map(|(name, count)| format!("{name} {count}")).collect();
            write!(formatter, "\n  {title}: {}", list.join(", "))?;
        }
        Ok(())
    }
}

fn faults(counts: &FaultCounts) -> BTreeMap<&'static str, u64> {
    BTreeMap::from([
        ("write_errors", counts.write_errors),
        ("short_writes", counts.short_writes),
        ("read_errors", counts.read_errors),
        ("sync_errors", counts.sync_errors),
        ("lost_syncs", counts.lost_syncs),
        ("misdirected_writes", counts.misdirected_writes),
        ("stalls", counts.stalls),
        ("no_space", counts.no_space),
        ("connect_errors", counts.connect_errors),
        ("resets", counts.resets),
        ("partial_transfers", counts.partial_transfers),
        ("power_cuts", counts.power_cuts),
        ("blocks_kept", counts.blocks_kept),
        ("blocks_dropped", counts.blocks_dropped),
        ("blocks_torn", counts.blocks_torn),
        ("process_kills", counts.process_kills),
        ("rots", counts.rots),
        ("wall_clock_jumps", counts.wall_clock_jumps),
    ])
}

/// A seed that failed.
#[derive(Debug, Clone)]
pub struct Failure {
    /// Which.
    pub seed: u64,
    /// What was wrong.
    pub what: String,
    /// The last steps, in order.
    pub story: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { seed, what, story } = self;
        write!(
            formatter,
            "{story}\nseed {seed}: {what}\nagain: cargo run -p elgate-sim -- --seed {seed} --story"
        )
    }
}
