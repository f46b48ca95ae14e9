//! The lock on the data directory: one engine owns it. In comes a directory, out comes the locked
//! file, which every shard's driver is then told to hold ([`elgate_io::Driver::hold`]): so the lock
//! of an engine that was killed is free only when none of its writes can come to the device any
//! more, and whoever has the lock has the logs to itself.

use crate::error::EngineError;
use crate::world::World;
use elgate_io::{File, OpenOptions, Platform};
use elgate_ring::{Host, ProcessIdentity};
use elgate_types::{ErrorCode, Monotonic, mark};
use std::path::Path;
use std::time::Duration;

/// How long the writes of a process that is gone are waited for. A device that takes longer hangs.
const LAST_WRITES_WITHIN: Duration = Duration::from_secs(30);
/// From here on the waiting is worth a word.
const SILENT_FOR: Duration = Duration::from_secs(1);
const PAUSE: Duration = Duration::from_millis(10);
/// So often in a row an owner has to be seen alive: it may be about to die, or about to write down
/// its name where its predecessor's stands.
const SIGHTINGS: u32 = 3;
/// What the file holds of its owner: three numbers.
const OWNER_BYTES: usize = 64;

/// What is known of who holds the lock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    /// Runs, or wrote down too little to be told from one that does.
    Alive,
    /// Gone, or about to be: the kernel still has writes of it.
    Gone,
    /// Of another PID namespace, as in a container that was started anew.
    Elsewhere,
}

/// Makes the data directory and locks it. The lock lives as long as the file that is returned, and
/// as long as a driver holds that.
pub(crate) fn lock_data_dir(world: &dyn World, data_dir: &Path) -> Result<File, EngineError> {
    let platform = &*world.platform();
    platform
        .create_directories(data_dir)
        .map_err(|error| EngineError::io("create the data directory", data_dir, &error))?;
    let path = data_dir.join(".lock");
    let options = OpenOptions { read: true, write: true, create: true, ..OpenOptions::default() };
    let fail =
        |error: std::io::Error| EngineError::io("lock the data directory with", &path, &error);
    let file = platform.open(&path, options).map_err(fail)?;
    let host = world.ring_host();
    let mut wait = Waiting::new(platform.now());
    while !platform.try_lock(&file).map_err(fail)? {
        let (pid, owner) = read_owner(platform, &*host, &file);
        wait.goes_on(platform.now(), data_dir, pid, owner)?;
        world.wait(PAUSE, &mut |may_wait| {
            pause(may_wait);
            false
        });
    }
    let me = host.identity();
    let name = format!("{} {} {}", me.pid, me.start_time, me.pid_namespace);
    let name = format!("{name:<width$}\n", width = OWNER_BYTES - 1);
    platform.write_at(&file, 0, name.as_bytes(), false).map_err(fail)?;
    Ok(file)
}

/// One attempt's patience.
struct Waiting {
    since: Monotonic,
    sightings: u32,
    has_told: bool,
}

impl Waiting {
    fn new(since: Monotonic) -> Self {
        Self { since, sightings: 0, has_told: false }
    }

    /// Whether it is right to wait on; otherwise the error that says why not.
    fn goes_on(
        &mut self,
        now: Monotonic,
        data_dir: &Path,
        pid: u32,
        owner: Owner,
    ) -> Result<(), EngineError> {
        let shown = data_dir.display();
        let waited = now.since(self.since);
        self.sightings = if owner == Owner::Alive { self.sightings + 1 } else { 0 };
        if self.sightings >= SIGHTINGS {
            let advice = ErrorCode::InUse.row().advice;
            let what = format!("data directory {shown} is in use by process {pid}. {advice}");
            return Err(EngineError::new(ErrorCode::InUse, what));
        }
        if waited >= LAST_WRITES_WITHIN {
            return Err(match owner {
                Owner::Elsewhere => EngineError::new(
                    ErrorCode::InUse,
                    format!(
                        "data directory {shown} is in use by process {pid} of another PID \
                         namespace (another container), which runs or has writes under way on the \
                         device. {}",
                        ErrorCode::InUse.row().advice
                    ),
                ),
                _ => EngineError::new(
                    ErrorCode::Io,
                    format!(
                        "a write of process {pid}, which is gone, is still under way on the \
                         device of data directory {shown} after {} s. Until it ends nobody may \
                         write there: see what holds the device up (dmesg), mend it, and start \
                         again",
                        waited.as_secs()
                    ),
                ),
            });
        }
        if waited >= SILENT_FOR && !self.has_told {
            self.has_told = true;
            mark::hit("engine.waits_for_last_writes");
            tell(&format!(
                "waiting for the last writes of process {pid} in {shown}, for up to {} s",
                LAST_WRITES_WITHIN.as_secs()
            ));
        }
        Ok(())
    }
}

#[expect(clippy::print_stderr, reason = "whoever starts an engine wonders why it takes so long")]
fn tell(what: &str) {
    eprintln!("elgate: {what}");
}

/// Nobody wakes this word: a pause that needs no clock of our own.
fn pause(length: Duration) {
    if !length.is_zero() {
        let word = std::sync::atomic::AtomicU32::new(0);
        elgate_io::futex::wait(&word, 0, Some(length));
    }
}

fn read_owner(platform: &dyn Platform, host: &dyn Host, file: &File) -> (u32, Owner) {
    let mut bytes = [0; OWNER_BYTES];
    let count = platform.read_at(file, 0, &mut bytes).unwrap_or(0);
    let text = String::from_utf8_lossy(&bytes[..count]);
    let mut numbers = text.split_ascii_whitespace().map_while(|word| word.parse::<u64>().ok());
    let mut next = || numbers.next().unwrap_or(0);
    let pid = u32::try_from(next()).unwrap_or(0);
    let who = ProcessIdentity { pid, start_time: next(), pid_namespace: next() };
    let me = host.identity();
    let owner = match who.pid_namespace {
        0 => Owner::Alive,
        other if other != me.pid_namespace => Owner::Elsewhere,
        _ if host.is_gone_process(&who, &me) || is_ending(&who, &me) => Owner::Gone,
        _ => Owner::Alive,
    };
    (pid, owner)
}

/// Whether a process that is still there has been killed or is on its way out: it may be unable to
/// go before a write has ended.
fn is_ending(who: &ProcessIdentity, me: &ProcessIdentity) -> bool {
    let read = |file: &str| std::fs::read_to_string(format!("/proc/{}/{file}", who.pid));
    who.pid != me.pid
        && me.pid == std::process::id()
        && (read("stat").is_ok_and(|stat| is_exiting(&stat))
            || read("status").is_ok_and(|status| is_killed(&status)))
}

/// From `/proc/<pid>/stat`: a zombie, or marked as exiting. The second field is a name in
/// parentheses that may hold anything; the state is the third, the flags the ninth.
fn is_exiting(stat: &str) -> bool {
    const PF_EXITING: u64 = 4;
    let Some((_, rest)) = stat.rsplit_once(')') else { return false };
    let mut fields = rest.split_ascii_whitespace();
    let state = fields.next().unwrap_or_default();
    let flags = fields.nth(9 - 4).and_then(|flags| flags.parse::<u64>().ok());
    matches!(state, "Z" | "X") || flags.is_some_and(|flags| flags & PF_EXITING != 0)
}

/// From `/proc/<pid>/status`: a SIGKILL that it has not come to yet.
fn is_killed(status: &str) -> bool {
    let pending = status.lines().filter_map(|line| {
        let mask = line.strip_prefix("SigPnd:").or_else(|| line.strip_prefix("ShdPnd:"))?;
        u64::from_str_radix(mask.trim(), 16).ok()
    });
    pending.fold(0, |all, mask| all | mask) & (1 << (libc::SIGKILL - 1)) != 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::world::OsWorld;
    use elgate_io::OsPlatform;
    use elgate_ring::OsHost;

    const NOW: Monotonic = Monotonic(1_000_000_000);

    fn after(wait: &mut Waiting, waited: Duration, owner: Owner) -> Result<(), EngineError> {
        wait.goes_on(NOW.after(waited), Path::new("/data"), 17, owner)
    }

    #[test]
    fn an_owner_that_lives_is_refused_without_waiting() {
        let mut wait = Waiting::new(NOW);
        let looks = (1..).find_map(|look| {
            after(&mut wait, PAUSE * look, Owner::Alive).err().map(|error| (look, error))
        });
        let (look, error) = looks.expect("refused");
        assert!(look == SIGHTINGS && error.code() == ErrorCode::InUse, "{error}");
        assert!(error.to_string().contains("process 17"), "{error}");
    }

    #[test]
    fn an_owner_that_is_gone_is_waited_for_and_then_explained() {
        let mut wait = Waiting::new(NOW);
        assert!(after(&mut wait, SILENT_FOR, Owner::Gone).is_ok() && wait.has_told);
        assert!(after(&mut wait, LAST_WRITES_WITHIN - PAUSE, Owner::Gone).is_ok());
        let error = after(&mut wait, LAST_WRITES_WITHIN, Owner::Gone).expect_err("enough");
        assert!(error.code() == ErrorCode::Io, "{error}");
        assert!(error.to_string().contains("still under way on the device"), "{error}");
        let error = after(&mut wait, LAST_WRITES_WITHIN, Owner::Elsewhere).expect_err("enough");
        assert!(error.code() == ErrorCode::InUse && error.to_string().contains("container"));
    }

    #[test]
    fn what_stands_in_the_file_tells_the_living_from_the_dead() {
        let place = tempfile::tempdir().expect("a directory");
        let file = lock_data_dir(&OsWorld, place.path()).expect("locks");
        let (platform, host) = (OsPlatform::new(), OsHost);
        let owner = || read_owner(&platform, &host, &file);
        assert_eq!(owner(), (std::process::id(), Owner::Alive));
        let refused = lock_data_dir(&OsWorld, place.path()).expect_err("it lives");
        assert_eq!(refused.code(), ErrorCode::InUse);
        let write = |text: &str| {
            platform.write_at(&file, 0, format!("{text:<63}\n").as_bytes(), false).expect("writes");
        };
        let me = host.identity();
        write(&format!("{} {} {}", me.pid, me.start_time + 1, me.pid_namespace));
        assert_eq!(owner().1, Owner::Gone);
        write(&format!("{} {} {}", me.pid, me.start_time, me.pid_namespace + 1));
        assert_eq!(owner().1, Owner::Elsewhere);
        write(&format!("{}", me.pid));
        assert_eq!(owner(), (me.pid, Owner::Alive), "written by an earlier version");
    }

    #[test]
    fn a_zombie_and_a_process_with_sigkill_pending_are_ending() {
        assert!(is_exiting("17 (a) b) Z 1 2 3 4 5 0 7"));
        assert!(is_exiting("17 (sh) D 1 2 3 4 5 4194308 7"));
        assert!(!is_exiting("17 (sh) S 1 2 3 4 5 4194304 7") && !is_exiting(""));
        assert!(is_killed("Name:\tsh\nSigPnd:\t0000000000000100\nShdPnd:\t0000000000000000\n"));
        assert!(!is_killed("SigPnd:\t0000000000004000\nShdPnd:\t0000000000000000\n"));
    }
}
