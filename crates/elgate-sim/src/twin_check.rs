//! What a mirror is worth: what was acknowledged is in it; and with it, damage to the log's own
//! copy is set right, however often the repair is killed.

use crate::ledger::RouteLedger;
use crate::payload::payload;
use crate::stage::Stage;
use crate::twin_batches::believable;
use crate::twins::{directories, repair};
use elgate_io::OpenOptions;
use elgate_io::sim::FaultPlan;
use elgate_log::{GapReason, LogReader, ReadBatch, ReadFrom};
use elgate_types::Lsn;
use elgate_types::limits::BLOCK_BYTES;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const BLOCK: u64 = BLOCK_BYTES as u64;
/// Times that a repair is killed before one may finish.
const KILLS: u64 = 3;

type Verdict = Result<(), String>;

/// What a directory serves.
#[derive(Default)]
struct Served {
    records: BTreeMap<Lsn, Vec<u8>>,
    gaps: Vec<(Lsn, Lsn, GapReason)>,
    /// Whether reading ended with an error.
    has_failed: bool,
}

impl Served {
    fn by(stage: &Stage, dir: &Path) -> Self {
        let mut served = Self::default();
        let opened = LogReader::open(stage.world.platform(), dir, ReadFrom::Lsn(Lsn(1)));
        let Ok(mut reader) = opened else { return Self { has_failed: true, ..served } };
        loop {
            match reader.next_batch() {
                Ok(ReadBatch::Records(batch)) => {
                    let records = (&batch).into_iter().map(|it| (it.lsn, it.payload.to_vec()));
                    served.records.extend(records);
                }
                Ok(ReadBatch::Gap { from, to, reason }) => served.gaps.push((from, to, reason)),
                Ok(ReadBatch::CaughtUp) => return served,
                Err(_) => return Self { has_failed: true, ..served },
            }
        }
    }

    fn has_removed(&self, lsn: Lsn) -> bool {
        let mut gaps = self.gaps.iter();
        gaps.any(|(from, to, why)| *why == GapReason::Removed && (*from..=*to).contains(&lsn))
    }
}

/// The acknowledged records with their bytes, as far as nothing excuses their loss.
fn acknowledged(stage: &Stage, route: usize) -> BTreeMap<Lsn, Vec<u8>> {
    let ledger = stage.ledger.borrow();
    let known: &RouteLedger = &ledger.routes[route];
    let records = known.acknowledged.iter();
    records.map(|(lsn, name)| (*lsn, payload(*name, ledger.bytes_of(*name)))).collect()
}

/// Whether the disk has ever wronged what is in a directory.
fn is_struck(stage: &Stage, dir: &Path) -> bool {
    stage.world.strikes().iter().any(|strike| Path::new(&strike.path).starts_with(dir))
}

/// Right after a power cut: where the mirror was never left, all that was acknowledged is in it.
pub(crate) fn after_power_cut(stage: &Stage) {
    let twins = stage.twins.borrow();
    if !twins.is_used || !twins.is_there {
        return;
    }
    for route in 0..twins.is_whole.len() {
        if let Err(what) = twin_has_everything(stage, route, twins.is_whole[route]) {
            stage.violate(what);
        }
    }
}

/// A record is durable when it is in both.
fn twin_has_everything(stage: &Stage, route: usize, is_whole: bool) -> Verdict {
    let (_, mirror) = directories(stage, route);
    let was_left = ["log.mirror_left", "log.mirror_behind"]
        .iter()
        .any(|mark| stage.marks.borrow().contains_key(mark));
    let is_lied_to = stage.ledger.borrow().routes[route].is_lied_to;
    if !is_whole || was_left || is_lied_to || is_struck(stage, &mirror) {
        return Ok(());
    }
    stage.mark("twin.checked_after_power_cut");
    let twin = Served::by(stage, &mirror);
    if twin.has_failed {
        // A device that fails to read just now says nothing about what it holds.
        return Ok(());
    }
    for (lsn, bytes) in acknowledged(stage, route) {
        match twin.records.get(&lsn) {
            Some(found) if *found == bytes => {}
            None if twin.has_removed(lsn) && !keeps_all(stage, route) => {}
            found => {
                let what = if found.is_some() { "holds something else" } else { "lacks it" };
                let gaps = &twin.gaps;
                return Err(format!(
                    "LSN {lsn} of route {route} was durable, and the mirror {what}; gaps {gaps:?}"
                ));
            }
        }
    }
    Ok(())
}

fn keeps_all(stage: &Stage, route: usize) -> bool {
    stage.scenario.borrow().routes[route].retains_all
}

/// At the end, when everything is at rest and closed: power goes, damage is done, and repaired.
pub(crate) fn examine(stage: &Stage) {
    let twins = stage.twins.borrow();
    if !twins.is_used {
        return;
    }
    drop(twins);
    stage.world.set_faults(FaultPlan::default());
    crate::checker::note_strikes(stage, true);
    stage.world.power_cut();
    for route in 0..stage.scenario.borrow().routes.len() {
        if let Err(what) = Exam::new(stage, route).run() {
            let name = stage.route_name(route);
            let (dir, mirror) = directories(stage, route);
            for dir in [&dir, &mirror] {
                let names = stage.world.names(dir).unwrap_or_default();
                let log = elgate_log::describe(&*stage.world.platform(), dir);
                stage.story.tell(stage.world.now(), format_args!("{names:?} {log:#?}"));
            }
            stage.violate(format!("route {name}: {what}"));
            return;
        }
    }
}

/// One route's exam.
struct Exam<'a> {
    stage: &'a Stage,
    route: usize,
    dir: PathBuf,
    mirror: PathBuf,
}

impl<'a> Exam<'a> {
    fn new(stage: &'a Stage, route: usize) -> Self {
        let (dir, mirror) = directories(stage, route);
        Self { stage, route, dir, mirror }
    }

    fn roll(&self, choose: impl FnOnce(&mut crate::dice::Dice) -> u64) -> u64 {
        choose(&mut self.stage.twins.borrow_mut().dice)
    }

    fn run(&self) -> Verdict {
        let stage = self.stage;
        if !stage.scenario.borrow().routes[self.route].has_mirror {
            return Ok(());
        }
        let is_whole = stage.twins.borrow().is_whole[self.route];
        twin_has_everything(stage, self.route, is_whole)?;
        let expected = acknowledged(stage, self.route);
        let is_lied_to = stage.ledger.borrow().routes[self.route].is_lied_to;
        let own = Served::by(stage, &self.dir);
        let twin = Served::by(stage, &self.mirror);
        let is_right = |served: &Served, lsn: &Lsn, bytes: &Vec<u8>| {
            served.records.get(lsn).is_some_and(|found| found == bytes)
        };
        let twin_is_sound = !is_struck(stage, &self.mirror) && !is_lied_to;
        if twin_is_sound {
            stage.mark("twin.checked_at_rest");
            for (lsn, bytes) in &expected {
                if is_right(&own, lsn, bytes) && !is_right(&twin, lsn, bytes) {
                    return Err(format!(
                        "the mirror has caught up and lacks LSN {lsn}; gaps: {:?}",
                        twin.gaps
                    ));
                }
            }
        }
        let described = elgate_log::describe(&*stage.world.platform(), &self.dir).ok();
        let marks = described.and_then(|it| it.watermarks);
        let promised = marks.map_or(Lsn::ZERO, |marks| marks.durable);
        let (twins, segments) = (self.bytes_in(&self.mirror), self.bytes_in(&self.dir));
        let believable = believable(&twins, &segments, promised);
        if twin_is_sound && self.roll(|dice| dice.below(4)) > 0 {
            let strikes = self.roll(|dice| dice.between(1, 4));
            for _ in 0..strikes {
                self.strike();
            }
        }
        let still = Served::by(stage, &self.dir);
        // What retention has removed, the mirror may still have from a time when it was away.
        let is_kept = |lsn: &Lsn| keeps_all(stage, self.route) || !own.has_removed(*lsn);
        let must_serve: BTreeMap<Lsn, Vec<u8>> = expected
            .into_iter()
            .filter(|(lsn, bytes)| {
                is_right(&still, lsn, bytes)
                    || (is_kept(lsn) && believable.contains(lsn) && is_right(&twin, lsn, bytes))
            })
            .collect();
        let names = self.names();
        for _ in 0..self.roll(|dice| dice.below(KILLS + 1)) {
            let calls = self.roll(|dice| dice.below(400));
            if let Some(Err(error)) = repair(stage, self.route, Some(calls)) {
                return Err(format!("a repair fails: {error}"));
            }
        }
        self.repair()?;
        let before = self.bytes();
        let again = self.repair()?;
        if again > 0 || self.bytes() != before {
            return Err(format!("repairing twice is not repairing once: {again} set right again"));
        }
        let gone: Vec<_> = names.iter().filter(|name| !self.names().contains(name)).collect();
        if !gone.is_empty() {
            return Err(format!("the repair removed {gone:?}"));
        }
        if is_lied_to {
            return Ok(());
        }
        self.serves(&must_serve, "repair")?;
        self.opens(&must_serve)
    }

    /// The repair that may finish.
    fn repair(&self) -> Result<u64, String> {
        match repair(self.stage, self.route, None) {
            Some(Ok(report)) => Ok(report.repaired),
            Some(Err(error)) => Err(format!("a repair fails: {error}")),
            None => Err("a repair died that nobody killed".into()),
        }
    }

    fn serves(&self, expected: &BTreeMap<Lsn, Vec<u8>>, after: &str) -> Verdict {
        let served = Served::by(self.stage, &self.dir);
        for (lsn, bytes) in expected {
            if served.records.get(lsn) != Some(bytes) {
                return Err(format!(
                    "LSN {lsn} was whole in one of two copies, and is not served after the \
                     {after}; gaps: {:?}",
                    served.gaps
                ));
            }
        }
        Ok(())
    }

    /// The log opens, and gives no number out again.
    fn opens(&self, expected: &BTreeMap<Lsn, Vec<u8>>) -> Verdict {
        let stage = self.stage;
        let plan = stage.scenario.borrow().routes[self.route].clone();
        let options = elgate_log::LogOptions {
            segment_bytes: 4 << 20,
            flush: plan.flush,
            mirror: Some(self.mirror.clone()),
            ..Default::default()
        };
        let opened = elgate_log::open(stage.world.platform(), &self.dir, &plan.name, options);
        let (writer, recovery) = opened.map_err(|error| format!("recovery fails: {error}"))?;
        drop(writer);
        if expected.keys().next_back().is_some_and(|last| recovery.next_lsn <= *last) {
            return Err(format!("LSN {} is given out again", recovery.next_lsn));
        }
        self.serves(expected, "start that follows the repair")
    }

    fn segments(&self) -> Vec<PathBuf> {
        let names = self.stage.world.names(&self.dir).unwrap_or_default();
        names.iter().filter(|name| name.ends_with(".wal")).map(|name| self.dir.join(name)).collect()
    }

    /// Damages the log's own copy, and nothing else.
    fn strike(&self) {
        let world = &self.stage.world;
        let segments = self.segments();
        let Some(path) = segments.get(self.roll(|dice| dice.below(segments.len() as u64)) as usize)
        else {
            return;
        };
        let bytes = world.file_bytes(path).unwrap_or_default();
        let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |last| last as u64 + 1);
        let blocks = used.div_ceil(BLOCK).max(1);
        // The last 64 KiB are the footer; what lies before them is mostly blank.
        let at = |dice: &mut crate::dice::Dice| match dice.below(4) {
            0 => dice.below(3) * BLOCK,
            1 => dice.below(40.min(blocks)) * BLOCK,
            _ => dice.below(blocks) * BLOCK,
        };
        let offset = self.roll(at).min(bytes.len() as u64);
        let platform = world.platform();
        let options = OpenOptions { read: true, write: true, ..Default::default() };
        let Ok(file) = platform.open(path, options) else { return };
        let what = match self.roll(|dice| dice.below(6)) {
            0 => {
                drop(world.rot(path, offset + self.roll(|dice| dice.below(BLOCK)), 1));
                "a byte"
            }
            1 => {
                drop(world.rot(path, offset, 512));
                "a sector"
            }
            2 | 3 => {
                let length = self.roll(|dice| dice.between(1, 8)) * BLOCK;
                drop(platform.zero_fill(&file, offset, length.min(bytes.len() as u64 - offset)));
                "zeros"
            }
            4 if bytes.len() >= BLOCK_BYTES => {
                let from = self.roll(at) as usize;
                let piece = &bytes[from.min(bytes.len() - BLOCK_BYTES)..][..BLOCK_BYTES];
                let to = offset.min((bytes.len() - BLOCK_BYTES) as u64);
                drop(platform.write_at(&file, to, piece, true));
                "another block"
            }
            _ => {
                drop(platform.set_size(&file, offset));
                "an end"
            }
        };
        drop(platform.sync(&file));
        self.stage.mark("twin.own_copy_damaged");
        let now = world.now();
        self.stage
            .story
            .tell(now, format_args!("strike: {what} at {offset} of {}", path.display()));
    }

    fn names(&self) -> Vec<PathBuf> {
        let below = |dir: &Path| {
            let names = self.stage.world.names(dir).unwrap_or_default();
            names.into_iter().map(|name| dir.join(name)).collect::<Vec<_>>()
        };
        let is_segment = |path: &PathBuf| path.extension().is_some_and(|it| it == "wal");
        let all = [below(&self.dir), below(&self.mirror)].concat();
        all.into_iter().filter(is_segment).collect()
    }

    /// Every file in both directories.
    fn bytes_in(&self, dir: &Path) -> Vec<Vec<u8>> {
        let names = self.stage.world.names(dir).unwrap_or_default();
        let segments = names.iter().filter(|name| name.ends_with(".wal"));
        segments.filter_map(|name| self.stage.world.file_bytes(&dir.join(name)).ok()).collect()
    }

    fn bytes(&self) -> BTreeMap<PathBuf, Vec<u8>> {
        let names = self.names().into_iter();
        names
            .map(|path| {
                let bytes = self.stage.world.file_bytes(&path).unwrap_or_default();
                (path, bytes)
            })
            .collect()
    }
}
