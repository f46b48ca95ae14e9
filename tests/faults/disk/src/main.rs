//! `elgate-fault-disk DIRECTORY BYTES`: a disk of that size as the file `DIRECTORY/fuse/disk`, for a
//! loop device to be put on. Whatever is written is volatile until it is flushed.
//!
//! One command per line on standard input, one JSON object per line in answer:
//!
//! ```text
//! fail read|write|flush AFTER COUNT [FROM TO]   EIO for COUNT requests (0: until healed) that touch
//!                                               bytes FROM to TO, once AFTER of them have passed
//! delay US                                      every request takes so much longer
//! lie                                           flushes are answered well and do nothing
//! hold [FROM TO]                                writes that touch bytes FROM to TO do not happen until told to
//! pass                                          those that come from now on are served again; those held stay so
//! go                                            what is held happens
//! heal                                          takes all of the above back
//! cut none|all|prefix|subset|sectors SEED       the power fails; which unflushed writes survive
//! cut SURVIVORS SEED write|flush AFTER          the same when that request arrives, AFTER others of its kind
//! on                                            the power returns
//! stats                                         what has been served, and what was struck
//! ```
//!
//! When standard input ends, however that came about, it takes away what stands on it: the file
//! system mounted at `DIRECTORY/mount`, the loop devices of its file, and its own mount.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a command speaks to its user")]

mod disk;
mod filesystem;
mod medium;
mod random;

use std::io::{self, BufRead, Write};
use std::path::Path;
use std::process::{Command, ExitCode, Output};
use std::sync::{Arc, Mutex, PoisonError};

use disk::{Counters, Disk, Request};
use filesystem::{FILE, OneFile};
use fuser::{Config, MountOption};
use medium::Survivors;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [directory, bytes] = arguments.as_slice() else {
        eprintln!("usage: elgate-fault-disk DIRECTORY BYTES");
        return ExitCode::from(2);
    };
    let Ok(bytes) = bytes.parse() else {
        eprintln!("elgate-fault-disk: {bytes} is not a number of bytes");
        return ExitCode::from(2);
    };
    match serve(Path::new(directory), bytes) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("elgate-fault-disk: {error}");
            ExitCode::FAILURE
        }
    }
}

fn serve(directory: &Path, bytes: usize) -> io::Result<()> {
    let fuse = directory.join("fuse");
    let disk = Arc::new(Mutex::new(Disk::new(bytes)));
    let mut config = Config::default();
    config.mount_options = vec![MountOption::FSName("elgate-fault-disk".to_owned())];
    let session = fuser::spawn_mount(OneFile::new(Arc::clone(&disk)), &fuse, &config)?;

    let talked = converse(&disk);

    // The power is on and nothing fails any more, so that what is mounted can be taken down.
    {
        let mut disk = disk.lock().unwrap_or_else(PoisonError::into_inner);
        disk.heal();
        disk.power_on();
    }
    take_down(directory, &fuse);
    drop(session);
    talked
}

fn converse(disk: &Mutex<Disk>) -> io::Result<()> {
    let mut out = io::stdout().lock();
    writeln!(out, "{{\"ready\":true}}")?;
    out.flush()?;
    for line in io::stdin().lock().lines() {
        let answer = {
            let mut disk = disk.lock().unwrap_or_else(PoisonError::into_inner);
            obey(&mut disk, &line?)
        };
        match answer {
            Some(answer) => writeln!(out, "{answer}")?,
            None => writeln!(out, "{{\"error\":\"no such command\"}}")?,
        }
        out.flush()?;
    }
    Ok(())
}

/// Carries out one command. `None` if it is not understood.
fn obey(disk: &mut Disk, line: &str) -> Option<String> {
    const DONE: &str = "{\"ok\":true}";
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["fail", request, after, count, range @ ..] => {
            let request = Request::ALL.into_iter().find(|kind| kind.name() == *request)?;
            let count = count.parse().ok()?;
            let range = match range {
                [] => 0..disk.len(),
                [from, to] => from.parse().ok()?..to.parse().ok()?,
                _ => return None,
            };
            disk.fail(request, after.parse().ok()?, (count > 0).then_some(count), range);
        }
        ["delay", us] => disk.delay_us = us.parse().ok()?,
        ["hold"] => disk.hold(0..disk.len()),
        ["hold", from, to] => disk.hold(from.parse().ok()?..to.parse().ok()?),
        ["pass"] => disk.pass(),
        ["go"] => disk.go(),
        ["lie"] => disk.lying = true,
        ["heal"] => disk.heal(),
        ["cut", survivors, seed] => disk.cut(Survivors::named(survivors)?, seed.parse().ok()?),
        ["cut", survivors, seed, request, after] => disk.arm_cut(
            Survivors::named(survivors)?,
            seed.parse().ok()?,
            [Request::Write, Request::Flush].into_iter().find(|kind| kind.name() == *request)?,
            after.parse().ok()?,
        ),
        ["on"] => disk.power_on(),
        ["stats"] => return Some(stats(&disk.counters)),
        _ => return None,
    }
    Some(DONE.to_owned())
}

fn stats(counters: &Counters) -> String {
    let by_kind = |counts: [u64; 3]| {
        let fields =
            Request::ALL.map(|kind| format!("\"{}\":{}", kind.name(), counts[kind as usize]));
        format!("{{{}}}", fields.join(","))
    };
    format!(
        "{{\"served\":{},\"failed\":{},\"refused\":{},\"delayed\":{},\"lies\":{},\"held\":{},\"cuts\":{},\
         \"unflushed\":{},\"dropped\":{},\"torn\":{}}}",
        by_kind(counters.served),
        by_kind(counters.failed),
        counters.refused,
        counters.delayed,
        counters.lies,
        counters.held,
        counters.cuts,
        counters.unflushed,
        counters.dropped,
        counters.torn,
    )
}

/// Unmounts and detaches what stands on the disk, if anything still does.
fn take_down(directory: &Path, fuse: &Path) {
    run(Command::new("umount").arg("--lazy").arg("--quiet").arg(directory.join("mount")));
    let file = fuse.join(FILE);
    let listed = run(Command::new("losetup")
        .args(["--noheadings", "--output", "NAME", "--associated"])
        .arg(&file));
    let names = listed.map(|output| String::from_utf8_lossy(&output.stdout).into_owned());
    for device in names.iter().flat_map(|names| names.split_whitespace()) {
        run(Command::new("losetup").arg("--detach").arg(device));
    }
    run(Command::new("umount").arg("--lazy").arg("--quiet").arg(fuse));
}

/// Runs a command that may well have nothing to do.
fn run(command: &mut Command) -> Option<Output> {
    command.output().inspect_err(|error| eprintln!("elgate-fault-disk: {command:?}: {error}")).ok()
}
