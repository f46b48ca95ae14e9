//! Making a ring, and trying on it what the driver needs.

use crate::DriverOptions;
use crate::mailbox::Mailbox;
use io_uring::types::{Fd, SubmitArgs, Timespec};
use io_uring::{IoUring, opcode, squeue};
use std::io;
use std::sync::atomic::AtomicU32;

/// A ring smaller than this is not worth having.
const ENTRIES_MIN: u32 = 32;
/// Completion entries per submission entry: long waits (accept, receive, futex) complete without
/// having been submitted in the same round.
const COMPLETIONS_PER_ENTRY: u32 = 4;
/// `FUTEX2_SIZE_U32`, shared between processes.
pub(super) const FUTEX2_SHARED_U32: u32 = 0x02;
/// `FUTEX_BITSET_MATCH_ANY`.
pub(super) const FUTEX_MATCH_ANY: u64 = 0xffff_ffff;
/// Longest a probe may take before the ring counts as broken.
const PROBE_LIMIT: Timespec = Timespec::new().sec(2);

/// So often a probe may be interrupted by signals.
const PROBE_TURNS_MAX: usize = 100;

/// How long the kernel's own thread goes on looking for submissions before it sleeps: the least
/// that can be asked for.
const SQPOLL_IDLE_MS: u32 = 1;

type SetUp = fn(&mut io_uring::Builder);

/// A thread of the kernel's takes submissions. Excludes what is said about task work: there is no
/// work that our own thread would have to run.
const SQPOLL: Tier = ("sqpoll", |builder| {
    builder.setup_sqpoll(SQPOLL_IDLE_MS).setup_submit_all();
});

type Tier = (&'static str, SetUp);

/// Set-up flags, best first. Each asks for a newer kernel than the next.
const TIERS: [Tier; 3] = [
    ("single_issuer,defer_taskrun", |builder| {
        builder.setup_single_issuer().setup_defer_taskrun().setup_taskrun_flag();
        builder.setup_submit_all();
    }),
    ("coop_taskrun", |builder| {
        builder.setup_coop_taskrun().setup_taskrun_flag().setup_submit_all();
    }),
    ("plain", |_| {}),
];

/// A ring that works, and what it is.
pub(super) struct Ring {
    pub(super) ring: IoUring,
    pub(super) flags: &'static str,
    pub(super) native_futex: bool,
    pub(super) sqpoll: Sqpoll,
}

/// Whether a thread of the kernel's takes what is submitted.
pub(super) enum Sqpoll {
    /// Nobody asked.
    Off,
    On,
    /// The kernel would not.
    Refused(io::Error),
}

/// Makes the best ring this kernel, user and sandbox allow.
pub(super) fn open(options: &DriverOptions, mailbox: &Mailbox) -> io::Result<Ring> {
    let entries = options.ring_entries.max(ENTRIES_MIN);
    let mut sqpoll = Sqpoll::Off;
    let mut found = None;
    if options.sqpoll {
        match build(entries, &[SQPOLL]) {
            Ok(ring) => (found, sqpoll) = (Some(ring), Sqpoll::On),
            Err(error) => sqpoll = Sqpoll::Refused(error),
        }
    }
    let (mut ring, flags) = found.map_or_else(|| build(entries, &TIERS), Ok)?;
    let parameters = ring.params();
    if !parameters.is_feature_nodrop() || !parameters.is_feature_ext_arg() {
        // Before Linux 5.11: results could be lost, and waits could not be limited.
        return Err(io::Error::from_raw_os_error(libc::ENOSYS));
    }
    probe_operations(&mut ring, mailbox)?;
    let native_futex = probe_futex(&mut ring)?;
    Ok(Ring { ring, flags, native_futex, sqpoll })
}

fn build(mut entries: u32, tiers: &[Tier]) -> io::Result<(IoUring, &'static str)> {
    let mut tier = 0;
    loop {
        let (name, setup) = tiers[tier];
        let mut builder = IoUring::builder();
        setup(&mut builder);
        builder.setup_cqsize(entries * COMPLETIONS_PER_ENTRY);
        let error = match builder.build(entries) {
            Ok(ring) => return Ok((ring, name)),
            Err(error) => error,
        };
        match error.raw_os_error() {
            // The flags are too new for this kernel.
            Some(libc::EINVAL) if tier + 1 < tiers.len() => tier += 1,
            // Rings count against RLIMIT_MEMLOCK: ask for less.
            Some(libc::ENOMEM) if entries > ENTRIES_MIN => entries /= 2,
            _ => return Err(error),
        }
    }
}

/// Sends a value through the mailbox's event and takes it out again, both by way of the ring.
fn probe_operations(ring: &mut IoUring, mailbox: &Mailbox) -> io::Result<()> {
    let event = Fd(mailbox.event());
    let mut value = Box::new(1_u64.to_ne_bytes());
    let write = opcode::Write::new(event, value.as_ptr(), 8).build();
    let read = opcode::Read::new(event, value.as_mut_ptr(), 8).build();
    let result = run(ring, &write).and_then(|written| match written {
        8 => run(ring, &read),
        other => Ok(other),
    });
    match result {
        Ok(8) => Ok(()),
        Ok(other) => Err(io::Error::from_raw_os_error(if other < 0 { -other } else { libc::EIO })),
        Err(error) => {
            // Never answered: the kernel may still come to it.
            std::mem::forget(value);
            Err(error)
        }
    }
}

/// Whether the ring can wait for futexes (Linux 6.7): asks it to wait for a value that the word
/// does not hold.
fn probe_futex(ring: &mut IoUring) -> io::Result<bool> {
    static WORD: AtomicU32 = AtomicU32::new(0);
    let wait = opcode::FutexWait::new(WORD.as_ptr(), 1, FUTEX_MATCH_ANY, FUTEX2_SHARED_U32);
    Ok(run(ring, &wait.build())? == -libc::EAGAIN)
}

/// Submits one operation and waits for its result.
fn run(ring: &mut IoUring, entry: &squeue::Entry) -> io::Result<i32> {
    // SAFETY: what the entry points to is alive until the result is here; if that does not come,
    // the caller never frees it.
    let pushed = unsafe { ring.submission().push(entry) };
    pushed.map_err(|_| io::Error::from_raw_os_error(libc::EIO))?;
    for _ in 0..PROBE_TURNS_MAX {
        match ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&PROBE_LIMIT)) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        if let Some(result) = ring.completion().next() {
            return Ok(result.result());
        }
    }
    Err(io::Error::from_raw_os_error(libc::EINTR))
}
