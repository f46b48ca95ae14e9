//! The verdict: what was acknowledged is there, what is there was sent, in order, once.
//!
//! | invariant | checked in |
//! |---|---|
//! | I1 acknowledged is delivered, or kept | [`RouteCheck::nothing_is_lost`] |
//! | I2 delivered was sent, bytes equal | [`RouteCheck::take`] |
//! | I3 first deliveries in order of LSN; sent after an acknowledgement, numbered after it | [`RouteCheck::take`], `Ledger::acknowledge` |
//! | I4 one effect per record | [`RouteCheck::take`], [`RouteCheck::take_receipts`] |
//! | I5 refused is never delivered | [`RouteCheck::take`] |
//! | I6 recovery may be repeated, and killed | [`RouteCheck::recovers_the_same_twice`]; deaths during start-up |
//! | I7 acknowledgements resume in bounded time | `Simulation::come_to_rest` |
//! | I8 nothing leaks | `Simulation::end` |
//!
//! Damage weakens exactly what it must: rot and misdirected writes may cost acknowledged records,
//! but a gap must say so; a sync that lied, and damage to what nothing else proves, costs them without
//! a word once the power has gone.

use crate::ledger::OpState;
use crate::payload::{NAMED_BYTES_MIN, RecordName, identify, payload};
use crate::simulation::{DATA, OUT};
use crate::stage::Stage;
use crate::twins::directories;
use elgate_engine::SinkKind;
use elgate_io::sim::StrikeKind;
use elgate_log::{GapReason, LogReader, ReadBatch, ReadFrom};
use elgate_types::{FlushMode, Lsn};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

/// Learns which routes the disk has wronged so far. With the power going, what a sync lied about is
/// lost.
pub(crate) fn note_strikes(stage: &Stage, power_goes: bool) {
    let mut ledger = stage.ledger.borrow_mut();
    for strike in stage.world.strikes() {
        for (index, route) in stage.scenario.borrow().routes.iter().enumerate() {
            let name = route.name.as_str();
            let in_log = strike.path.starts_with(&format!("{DATA}/{name}/"));
            let in_file = strike.path == format!("{OUT}/{name}.log");
            if !in_log && !in_file {
                continue;
            }
            let known = &mut ledger.routes[index];
            match strike.kind {
                StrikeKind::LostSync => known.is_lied_to |= power_goes,
                // That something is missing is proven by what comes after it, or by the head file.
                // With the power, both may be gone.
                _ => {
                    known.is_damaged = true;
                    known.is_lied_to |= power_goes;
                }
            }
        }
    }
}

/// Checks everything, and reports the first thing that is wrong.
pub(crate) fn check(stage: &Stage) {
    let routes = stage.scenario.borrow().routes.len();
    for index in 0..routes {
        let result = RouteCheck::new(stage, index).run();
        if let Err(what) = result {
            let name = stage.route_name(index);
            let directory = Path::new(DATA).join(name.as_str());
            let names = stage.world.names(&directory).unwrap_or_default();
            let log = elgate_log::describe(&*stage.world.platform(), &directory);
            stage.story.tell(stage.world.now(), format_args!("{names:?} {log:#?}"));
            stage.violate(format!("route {name}: {what}"));
            return;
        }
    }
}

type Verdict = Result<(), String>;

struct RouteCheck<'a> {
    stage: &'a Stage,
    index: usize,
    name: String,
    sink: SinkKind,
    ordered: bool,
    /// Where each named record was found.
    found: BTreeMap<RecordName, Lsn>,
    /// Every LSN that was found anywhere.
    lsns: BTreeSet<Lsn>,
    /// What the log itself says is missing.
    gaps: Vec<(Lsn, Lsn, GapReason)>,
    /// Whether a file among the segments was reported as unusable: what it held reads as removed, or
    /// there is nothing else.
    has_unusable_files: bool,
    /// LSNs that reached the far end, or are in the log of a route without one.
    delivered: BTreeSet<Lsn>,
}

impl<'a> RouteCheck<'a> {
    fn new(stage: &'a Stage, index: usize) -> Self {
        let plan = stage.scenario.borrow().routes[index].clone();
        Self {
            stage,
            index,
            name: plan.name.as_str().to_owned(),
            sink: plan.sink,
            ordered: plan.ordered,
            found: BTreeMap::new(),
            lsns: BTreeSet::new(),
            gaps: Vec::new(),
            has_unusable_files: false,
            delivered: BTreeSet::new(),
        }
    }

    fn run(&mut self) -> Verdict {
        self.take_log()?;
        match self.sink {
            SinkKind::Http => self.take_receipts()?,
            SinkKind::File => self.take_file()?,
            SinkKind::None => self.delivered = self.lsns.clone(),
        }
        self.nothing_is_lost()?;
        self.recovers_the_same_twice()
    }

    fn is_lied_to(&self) -> bool {
        self.stage.ledger.borrow().routes[self.index].is_lied_to
    }

    fn is_damaged(&self) -> bool {
        self.stage.ledger.borrow().routes[self.index].is_damaged
    }

    /// A record that was found somewhere under an LSN: it was sent, not refused, and is what was
    /// acknowledged under that number; and the same record has no second number.
    fn take(&mut self, lsn: Lsn, bytes: &[u8], place: &str) -> Verdict {
        let ledger = self.stage.ledger.borrow();
        let shown = || String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
        let name = identify(bytes).map_err(|()| {
            format!("I2: {place} holds under LSN {lsn} what nobody sent: {}", shown())
        })?;
        if let Some(name) = name {
            if !ledger.may_hold(self.index, name, bytes.len()) {
                let state = ledger.ops.get(name.op as usize).map(|op| op.state);
                return Err(format!(
                    "I2/I5: {place} holds {name:?} under LSN {lsn}, which was not sent to this \
                     route, or was refused: {state:?}"
                ));
            }
            if let Some(other) = self.found.insert(name, lsn)
                && other != lsn
                && !ledger.routes[self.index].is_lied_to
                && !ledger.routes[self.index].is_damaged
            {
                return Err(format!(
                    "I4: {place} holds {name:?} under LSN {lsn}, and under {other}"
                ));
            }
        }
        if let Some(expected) = ledger.routes[self.index].acknowledged.get(&lsn)
            && !ledger.routes[self.index].is_lied_to
            && payload(*expected, ledger.bytes_of(*expected)) != bytes
        {
            return Err(format!(
                "I1: {place} holds {name:?} ({} bytes) under LSN {lsn}, which was acknowledged for \
                 {expected:?}",
                bytes.len()
            ));
        }
        self.lsns.insert(lsn);
        Ok(())
    }

    fn take_log(&mut self) -> Verdict {
        let platform = self.stage.world.platform();
        let directory = Path::new(DATA).join(&self.name);
        self.has_unusable_files = elgate_log::describe(&*platform, &directory)
            .is_ok_and(|description| !description.ignored.is_empty());
        let mut reader = match LogReader::open(platform, &directory, ReadFrom::Lsn(Lsn(1))) {
            Ok(reader) => reader,
            // Loud enough.
            Err(_) if self.has_unusable_files && self.is_damaged() => return Ok(()),
            Err(error) => return Err(format!("the log cannot be read: {error}")),
        };
        loop {
            match reader.next_batch().map_err(|error| format!("the log cannot be read: {error}"))? {
                ReadBatch::Records(batch) => {
                    for record in &batch {
                        self.take(record.lsn, record.payload, "the log")?;
                    }
                }
                ReadBatch::Gap { from, to, reason } => self.gaps.push((from, to, reason)),
                ReadBatch::CaughtUp => return Ok(()),
            }
        }
    }

    /// An HTTP route: every receipt names its LSN.
    fn take_receipts(&mut self) -> Verdict {
        let receipts = std::mem::take(&mut self.stage.far_end.borrow_mut().receipts);
        let mut bodies: BTreeMap<Lsn, Vec<u8>> = BTreeMap::new();
        let mut last = Lsn::ZERO;
        let mut verdict = Ok(());
        let name = self.name.clone();
        for receipt in receipts.iter().filter(|receipt| receipt.route == name) {
            let number = receipt.key.strip_prefix(&format!("{}/", self.name));
            let Some(lsn) = number.and_then(|number| number.parse().ok()).map(Lsn) else {
                verdict = Err(format!("a delivery has the key {:?}", receipt.key));
                break;
            };
            if let Some(before) = bodies.get(&lsn) {
                self.stage.mark("far_end.redelivery");
                if *before != receipt.body && !self.is_lied_to() {
                    verdict =
                        Err(format!("I4: two different records were delivered under LSN {lsn}"));
                    break;
                }
                continue;
            }
            if self.ordered && lsn < last && !self.is_lied_to() && !self.is_damaged() {
                verdict =
                    Err(format!("I3: LSN {lsn} was delivered for the first time after {last}"));
                break;
            }
            last = last.max(lsn);
            bodies.insert(lsn, receipt.body.clone());
            verdict = self.take(lsn, &receipt.body, "the far end");
            if verdict.is_err() {
                break;
            }
            self.delivered.insert(lsn);
        }
        self.stage.far_end.borrow_mut().receipts = receipts;
        verdict
    }

    /// A file route: without damage, line `n` is the record with LSN `n`.
    fn take_file(&mut self) -> Verdict {
        let path = Path::new(OUT).join(format!("{}.log", self.name));
        let bytes = self.stage.world.file_bytes(&path).unwrap_or_default();
        let mut lines: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
        if lines.pop().is_some_and(|rest| !rest.is_empty()) && !self.is_lied_to() {
            return Err("the file ends in the middle of a record".into());
        }
        if !self.is_damaged() && !self.is_lied_to() {
            for (index, line) in lines.iter().enumerate() {
                let lsn = Lsn(index as u64 + 1);
                self.take(lsn, line, "the file")?;
                self.delivered.insert(lsn);
            }
            return Ok(());
        }
        // Records may be missing: those that say who they are have kept their order.
        let acknowledged = self.stage.ledger.borrow().routes[self.index].acknowledged.clone();
        let numbers: BTreeMap<RecordName, Lsn> =
            acknowledged.iter().map(|(lsn, name)| (*name, *lsn)).collect();
        for line in lines {
            match identify(line) {
                Ok(Some(name)) => {
                    let ledger = self.stage.ledger.borrow();
                    if !ledger.may_hold(self.index, name, line.len()) {
                        return Err(format!(
                            "I2: the file holds {name:?}, which was not sent to it"
                        ));
                    }
                    self.delivered.extend(numbers.get(&name));
                }
                Ok(None) => {}
                Err(()) if self.is_lied_to() => {}
                Err(()) => {
                    let start = &line[..line.len().min(40)];
                    let (text, bytes) = (String::from_utf8_lossy(start), line.len());
                    return Err(format!(
                        "I2: the file holds what nobody sent: {text:?}, {bytes} bytes"
                    ));
                }
            }
        }
        Ok(())
    }

    /// Everything acknowledged is delivered; and everything the ring had taken is somewhere.
    fn nothing_is_lost(&self) -> Verdict {
        let ledger = self.stage.ledger.borrow();
        let known = &ledger.routes[self.index];
        if known.is_lied_to {
            return Ok(());
        }
        // A gap that the engine met when it delivered, and reported then: a batch that landed in
        // another's place may read as whole from where this reader comes.
        let told_while_running = self.stage.marks.borrow().contains_key("feed.gap");
        // Where a segment's beginning was destroyed, what it held reads as removed.
        let is_reported = |lsn: Lsn| {
            (self.has_unusable_files && self.lsns.is_empty())
                || self.gaps.iter().any(|(from, to, _)| (*from..=*to).contains(&lsn))
        };
        for (lsn, name) in &known.acknowledged {
            let is_named = ledger.bytes_of(*name) >= NAMED_BYTES_MIN;
            let is_excused =
                known.is_damaged && (is_reported(*lsn) || told_while_running || !is_named);
            if !self.delivered.contains(lsn) && !is_excused {
                return Err(format!(
                    "I1: {name:?} was acknowledged as LSN {lsn} and has not been delivered; \
                     gaps: {:?}",
                    self.gaps
                ));
            }
        }
        if known.is_damaged || known.has_refused || known.flush != FlushMode::Auto {
            return Ok(());
        }
        let replaced = self.stage.marks.borrow().contains_key("ring.replaced");
        for (number, op) in ledger.ops.iter().enumerate() {
            let pending = matches!(op.state, OpState::Sent | OpState::Unknown);
            if op.route != self.index || !op.is_accepted || !pending || replaced {
                continue;
            }
            let names =
                (0..op.sizes.len() as u32).map(|index| RecordName { op: number as u64, index });
            for name in names {
                let is_named = ledger.bytes_of(name) >= NAMED_BYTES_MIN;
                if is_named && !self.found.contains_key(&name) && self.gaps.is_empty() {
                    return Err(format!("{name:?} was accepted by the ring and is nowhere"));
                }
            }
        }
        Ok(())
    }

    /// I6: recovering a log changes nothing that recovering it again would see.
    fn recovers_the_same_twice(&self) -> Verdict {
        let plan = self.stage.scenario.borrow().routes[self.index].clone();
        let directory = Path::new(DATA).join(&self.name);
        let mut before = None;
        for _ in 0..2 {
            let platform = self.stage.world.platform();
            let options = elgate_log::LogOptions {
                segment_bytes: 4 << 20,
                flush: plan.flush,
                mirror: plan.has_mirror.then(|| directories(self.stage, self.index).1),
                ..Default::default()
            };
            let (_, recovery) = elgate_log::open(platform, &directory, &plan.name, options)
                .map_err(|error| format!("I6: recovery fails: {error}"))?;
            let found = (recovery.next_lsn, recovery.durable);
            if before.as_ref().is_some_and(|before| *before != found) {
                return Err(format!("I6: recovered {before:?}, and then {found:?}"));
            }
            before = Some(found);
        }
        Ok(())
    }
}
