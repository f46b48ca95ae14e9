//! The second device: which routes have a mirror there, what is done to it, and what an operator
//! does about damage with `elgate fsck --repair`.
//!
//! Seeds from [`MIRRORED`] on have it; the others are what they would be without this file.

use crate::dice::Dice;
use crate::scenario::Scenario;
use crate::simulation::DATA;
use crate::stage::Stage;
use elgate_io::sim::{FaultPlan, SimDeath};
use elgate_log::{FsckError, FsckOptions, FsckReport, fsck};
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};

/// Where the second device is mounted, and where the mirrors are on it: not at its root, so that
/// they are missing while it is.
pub(crate) const DEVICE: &str = "/twin";
pub(crate) const MIRRORS: &str = "/twin/logs";

/// Seeds from here on have a second device.
pub const MIRRORED: u64 = 1 << 32;

/// What a seed decides about mirrors.
#[derive(Debug)]
pub(crate) struct Twins {
    pub(crate) dice: Dice,
    /// Whether there is a second device in this seed.
    pub(crate) is_used: bool,
    pub(crate) is_there: bool,
    faults: FaultPlan,
    perils: Perils,
    /// Whether a route's mirror has had all of its route's life: no engine ran without it, and the
    /// device never went away.
    pub(crate) is_whole: Vec<bool>,
}

/// How often what happens, in a thousand steps or occasions.
#[derive(Debug, Default)]
struct Perils {
    pull: u64,
    no_space: u64,
    rot: u64,
    /// At a restart: a mirror comes or goes.
    change: u64,
    /// Between two engines: another, empty device is put in place.
    replace: u64,
    /// Between two engines: somebody repairs.
    repair: u64,
}

impl Twins {
    pub(crate) fn new(seed: u64, scenario: &mut Scenario) -> Self {
        let mut dice = Dice::new(seed ^ 0x7477_696e_7477_696e);
        let is_used = seed >= MIRRORED;
        let mut rate = |chance: u64, most: u64| match is_used && dice.of(chance) {
            true => dice.between(1, most),
            false => 0,
        };
        let perils = Perils {
            pull: rate(350, 5),
            no_space: rate(200, 5),
            rot: rate(200, 6),
            change: rate(300, 500),
            replace: rate(250, 300),
            repair: rate(600, 400),
        };
        let mut mille = |chance, most| rate(chance, most) as u32;
        let faults = FaultPlan {
            write_error_per_mille: mille(250, 30),
            short_write_per_mille: mille(150, 30),
            sync_error_per_mille: mille(250, 30),
            read_error_per_mille: mille(150, 10),
            misdirected_write_per_mille: mille(150, 30),
            stall_per_mille: mille(250, 40),
            keep_unsynced: scenario.faults.keep_unsynced,
            reorder: scenario.faults.reorder,
            torn: scenario.faults.torn,
            sync_latency: scenario.faults.sync_latency,
            ..FaultPlan::default()
        };
        if is_used {
            for route in &mut scenario.routes {
                route.has_mirror = dice.of(700);
            }
        }
        let is_whole = scenario.routes.iter().map(|route| route.has_mirror).collect();
        Self { dice, is_used, is_there: is_used, faults, perils, is_whole }
    }

    fn leaves(&mut self) {
        self.is_whole.fill(false);
    }
}

/// A route's two directories.
pub(crate) fn directories(stage: &Stage, route: usize) -> (PathBuf, PathBuf) {
    let name = stage.route_name(route);
    (Path::new(DATA).join(name.as_str()), Path::new(MIRRORS).join(name.as_str()))
}

/// Mounts the device, if this seed has one.
pub(crate) fn mount(stage: &Stage) {
    let twins = stage.twins.borrow();
    if twins.is_used {
        stage.world.add_device(Path::new(DEVICE)).expect("nothing is there yet");
        set_faults(stage, twins.faults.clone());
        make_root(stage);
    }
}

fn set_faults(stage: &Stage, plan: FaultPlan) {
    stage.world.set_device_faults(Path::new(DEVICE), plan).expect("it is mounted");
}

/// What whoever sets up a mirror does.
fn make_root(stage: &Stage) {
    stage.world.platform().create_directories(Path::new(MIRRORS)).expect("the device is there");
}

/// What may happen to the device at any time.
pub(crate) fn endanger(stage: &Stage) {
    let mut guard = stage.twins.borrow_mut();
    let twins = &mut *guard;
    if !twins.is_used {
        return;
    }
    let now = stage.world.now();
    if !twins.is_there {
        if twins.dice.of(15) {
            stage.world.return_device(Path::new(DEVICE), false).expect("it was pulled");
            twins.is_there = true;
            stage.story.tell(now, format_args!("the second device is there again"));
        }
    } else if twins.dice.of(twins.perils.pull) {
        stage.world.pull_device(Path::new(DEVICE)).expect("it is mounted");
        twins.is_there = false;
        twins.leaves();
        stage.mark("twin.pulled");
        stage.story.tell(now, format_args!("the second device is pulled out"));
    }
    if twins.dice.of(twins.perils.no_space) {
        let plan = &mut twins.faults;
        let used = stage.world.device_used_bytes(Path::new(DEVICE)).expect("it is mounted");
        plan.enospc_after_bytes = match plan.enospc_after_bytes {
            None => Some(used + twins.dice.below(6 << 20)),
            Some(_) => None,
        };
        let plan = plan.clone();
        stage
            .story
            .tell(now, format_args!("the second device holds {:?} bytes", plan.enospc_after_bytes));
        set_faults(stage, plan);
    }
    if twins.dice.of(twins.perils.rot)
        && let Some(strike) = stage.world.rot_on_device(Path::new(DEVICE))
    {
        stage.story.tell(now, format_args!("rot: {strike:?}"));
    }
}

/// A route's mirror comes or goes, while its log is closed.
pub(crate) fn perhaps_change(stage: &Stage, route: usize) {
    let mut twins = stage.twins.borrow_mut();
    let chance = twins.perils.change;
    if twins.is_used && twins.dice.of(chance) {
        let plan = &mut stage.scenario.borrow_mut().routes[route];
        plan.has_mirror = !plan.has_mirror;
        twins.is_whole[route] = false;
        let word = if plan.has_mirror { "has" } else { "has no" };
        stage.story.tell(stage.world.now(), format_args!("{} now {word} mirror", plan.name));
        stage.mark("twin.changed");
    }
}

/// Between two engines: what an operator does.
pub(crate) fn between_engines(stage: &Stage) {
    if !stage.twins.borrow().is_used {
        return;
    }
    let routes = stage.scenario.borrow().routes.len();
    for route in 0..routes {
        perhaps_change(stage, route);
    }
    {
        let mut guard = stage.twins.borrow_mut();
        let twins = &mut *guard;
        if twins.is_there && twins.dice.of(twins.perils.replace) {
            let device = Path::new(DEVICE);
            stage.world.pull_device(device).expect("it is mounted");
            stage.world.return_device(device, true).expect("it was pulled");
            make_root(stage);
            twins.leaves();
            stage.mark("twin.replaced");
            let now = stage.world.now();
            stage.story.tell(now, format_args!("another second device is in place"));
        }
    }
    for route in 0..routes {
        let (wants, dies_in) = {
            let mut guard = stage.twins.borrow_mut();
            let twins = &mut *guard;
            let wants = twins.is_there && twins.dice.of(twins.perils.repair);
            (wants, twins.dice.of(400).then(|| twins.dice.below(200)))
        };
        if wants && let Some(Err(error)) = repair(stage, route, dies_in) {
            let is_expected = match &error {
                FsckError::NoLog { .. } | FsckError::Mirror { .. } => true,
                // The last writes of the engine that died are still under way.
                FsckError::InUse { .. } => true,
                FsckError::Io(_) => has_io_errors(stage),
                _ => false,
            };
            if !is_expected {
                stage.violate(format!("repairing route {route} failed: {error}"));
            }
        }
    }
}

fn has_io_errors(stage: &Stage) -> bool {
    let counts = [
        stage.world.fault_counts(),
        stage.world.device_fault_counts(Path::new(DEVICE)).expect("it is mounted"),
    ];
    counts.iter().any(|it| {
        let errors = it.read_errors + it.write_errors + it.sync_errors + it.no_space;
        // What is repaired is read back.
        errors + it.misdirected_writes > 0
    })
}

/// `elgate fsck --repair --mirror`, in a process that dies after so many calls. `None`: it did.
pub(crate) fn repair(
    stage: &Stage,
    route: usize,
    dies_in: Option<u64>,
) -> Option<Result<FsckReport, FsckError>> {
    let (dir, mirror) = directories(stage, route);
    let process = stage.world.process();
    process.die_in(dies_in);
    let options = FsckOptions { repair: true, mirror: Some(mirror) };
    let run = || fsck(&*process.platform(), &dir, &options, &mut |_, _| {});
    let result = match catch_unwind(AssertUnwindSafe(run)) {
        Ok(result) => Some(result),
        Err(panic) if panic.is::<SimDeath>() => None,
        Err(panic) => resume_unwind(panic),
    };
    process.kill();
    let now = stage.world.now();
    match &result {
        None => {
            stage.mark("fsck.died");
            stage.story.tell(now, format_args!("a repair of {} died", dir.display()));
        }
        Some(Ok(report)) => {
            let FsckReport { repaired, left, lost_records, .. } = report;
            stage.story.tell(
                now,
                format_args!(
                    "{} was repaired: {repaired} set right, {left} left, {lost_records} records lost",
                    dir.display()
                ),
            );
            for finding in &report.findings {
                let (path, what) = (finding.path.display(), &finding.what);
                let lsns = finding.lsns;
                let (kind, outcome) = (finding.kind.name(), finding.outcome.name());
                stage.story.tell(
                    now,
                    format_args!("  {path}: {kind} {:?} {lsns:?} {outcome}: {what}", finding.bytes),
                );
            }
            if report.repaired > 0 {
                stage.mark("fsck.repaired");
            }
        }
        Some(Err(error)) => stage.story.tell(now, format_args!("no repair: {error}")),
    }
    result
}

/// Nothing is wrong any more with the device either.
pub(crate) fn end_faults(stage: &Stage) {
    let mut twins = stage.twins.borrow_mut();
    if !twins.is_used {
        return;
    }
    twins.perils = Perils::default();
    set_faults(stage, FaultPlan::default());
    if !twins.is_there {
        stage.world.return_device(Path::new(DEVICE), false).expect("it was pulled");
        twins.is_there = true;
    }
}
