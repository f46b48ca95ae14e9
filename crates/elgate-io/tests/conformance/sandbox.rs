//! The whole suite again, in worse places: where io_uring is forbidden, and as a user without
//! privileges who may lock 64 KiB of memory.

use elgate_io::{BackendChoice, Driver, DriverOptions, PollDriver, open_driver};
use elgate_types::ErrorCode;
use std::io;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Command, Output};

/// Set in the child: which sandbox it is in.
const SANDBOX: &str = "ELGATE_IO_TEST_SANDBOX";

fn is_sandboxed() -> bool {
    std::env::var_os(SANDBOX).is_some()
}

/// The suite in `program`, once more, with its files in `directory`.
fn again(program: &Path, sandbox: &str, directory: &Path) -> Command {
    let mut command = Command::new(program);
    command
        .args(["--nocapture", "--test-threads=1"])
        .env(SANDBOX, sandbox)
        .env("ELGATE_IO_TEST_DIRECTORY", directory)
        .current_dir(directory);
    command
}

fn text(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!("{}{}", String::from_utf8_lossy(out), String::from_utf8_lossy(err))
}

/// From now on the three system calls of io_uring fail with EPERM, as in a default container.
fn forbid_io_uring() -> io::Result<()> {
    let load_number = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
    let jump_equal = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
    let give = (libc::BPF_RET | libc::BPF_K) as u16;
    let refused = libc::SECCOMP_RET_ERRNO | libc::EPERM as u32;
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let mut filter = [
        step(load_number, 0, 0, 0),
        step(jump_equal, 3, 0, libc::SYS_io_uring_setup as u32),
        step(jump_equal, 2, 0, libc::SYS_io_uring_enter as u32),
        step(jump_equal, 1, 0, libc::SYS_io_uring_register as u32),
        step(give, 0, 0, libc::SECCOMP_RET_ALLOW),
        step(give, 0, 0, refused),
    ];
    let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
    // SAFETY: a filter program of the length given, alive during the call.
    let results = unsafe {
        [
            libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
            libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program),
        ]
    };
    if results == [0, 0] { Ok(()) } else { Err(io::Error::last_os_error()) }
}

mod outside {
    use super::*;

    #[test]
    fn the_suite_passes_where_io_uring_is_forbidden() {
        if is_sandboxed() {
            return;
        }
        let directory = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap();
        let program = std::env::current_exe().unwrap();
        let mut command = again(&program, "seccomp", directory.path());
        // SAFETY: only system calls between fork and exec.
        let output = unsafe { command.pre_exec(forbid_io_uring) }.output().unwrap();
        let text = text(&output);
        assert!(output.status.success(), "{text}");
        assert!(text.contains("skipped: uring::"), "the filter did not hold:\n{text}");
        assert!(text.contains("test poll::accept_and_talk ... ok"), "{text}");
    }

    #[test]
    fn the_suite_passes_without_privileges_and_locked_memory() {
        let Some(text) = as_nobody("memlock", 64 * 1024, &[]) else { return };
        assert!(text.contains("test poll::accept_and_talk ... ok"), "{text}");
    }

    #[test]
    fn an_arena_shrinks_to_what_may_be_locked() {
        let test = "sandbox::an_arena_is_registered_as_far_as_memory_may_be_locked";
        let Some(text) = as_nobody("memlock-3m", 3 << 20, &[test]) else { return };
        assert!(text.contains("1 passed"), "{text}");
    }

    /// What the suite, or one test of it, says when it is run by a user without privileges who may
    /// lock so much memory. `None`: not tried.
    fn as_nobody(sandbox: &str, locked_bytes: u64, tests: &[&str]) -> Option<String> {
        if is_sandboxed() {
            return None;
        }
        // SAFETY: no arguments, no failure.
        if unsafe { libc::geteuid() } != 0 {
            eprintln!("skipped: only root can become somebody without privileges");
            return None;
        }
        // Not always the same nobody: what users have locked counts across their processes.
        let own = u32::try_from(locked_bytes >> 20).unwrap();
        let nobody = 61_000 + std::process::id() % 4_000 + own;
        let directory = tempfile::tempdir().unwrap();
        std::os::unix::fs::chown(directory.path(), Some(nobody), Some(nobody)).unwrap();
        // Where nobody may reach it.
        let program = directory.path().join("suite");
        // By another process: what this one has open for writing, a fork on another thread has too,
        // and then it cannot be executed.
        let suite = std::env::current_exe().unwrap();
        let copied = std::process::Command::new("cp").arg(suite).arg(&program).status().unwrap();
        assert!(copied.success());
        let mut command = again(&program, sandbox, directory.path());
        command.args(tests).uid(nobody).gid(nobody);
        let limit = move || {
            let limit = libc::rlimit { rlim_cur: locked_bytes, rlim_max: locked_bytes };
            // SAFETY: a readable rlimit.
            match unsafe { libc::setrlimit(libc::RLIMIT_MEMLOCK, &raw const limit) } {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        };
        // SAFETY: only a system call between fork and exec.
        let output = unsafe { command.pre_exec(limit) }.output().unwrap();
        let text = text(&output);
        assert!(output.status.success(), "{text}");
        Some(text)
    }
}

/// Everywhere, `Auto` gives a driver; a worse one says why it is not a better one.
#[test]
fn auto_takes_the_best_that_works() {
    let options = DriverOptions::default();
    let forced = open_driver(BackendChoice::Uring, &options);
    let info = open_driver(BackendChoice::Auto, &options).unwrap().info();
    match forced {
        Ok(driver) => {
            assert_eq!(driver.info().backend, "uring");
            assert!(driver.info().facts.iter().any(|(name, _)| *name == "setup_flags"));
        }
        Err(error) => {
            assert_eq!(info.backend, "poll");
            let why = info.facts.iter().find(|(name, _)| *name == "uring_unavailable");
            assert!(why.is_some(), "{info:?}");
            assert!(error.to_string().contains("backend = \"poll\""), "{error}");
            if std::env::var(SANDBOX).as_deref() == Ok("seccomp") {
                assert_eq!(error.code(), ErrorCode::PermissionDenied);
                assert!(error.to_string().contains("seccomp"), "{error}");
                assert!(why.unwrap().1.contains("seccomp"), "{info:?}");
            }
        }
    }
    if std::env::var(SANDBOX).as_deref() == Ok("seccomp") {
        assert_eq!(info.backend, "poll");
    }
}

#[test]
fn poll_can_be_forced() {
    let driver = open_driver(BackendChoice::Poll, &DriverOptions::default()).unwrap();
    assert_eq!(driver.info().backend, "poll");
    assert!(driver.info().facts.iter().all(|(name, _)| *name != "uring_unavailable"));
    assert_eq!(PollDriver::new(&DriverOptions::default()).unwrap().in_flight(), 0);
}

#[test]
fn an_arena_is_registered_as_far_as_memory_may_be_locked() {
    let options = DriverOptions::default();
    let Ok(driver) = open_driver(BackendChoice::Uring, &options) else { return };
    let facts = driver.info().facts;
    let fact = |name| facts.iter().find(|(found, _)| *found == name).unwrap().1.as_str();
    assert_eq!(fact("arena_bytes"), driver.arena().bytes().to_string());
    match std::env::var(SANDBOX).as_deref() {
        Ok("memlock") => {
            assert!(fact("arena_registered").contains("RLIMIT_MEMLOCK"), "{facts:?}");
            assert_eq!(driver.arena().bytes(), options.arena_bytes, "aligned all the same");
        }
        Ok("memlock-3m") => {
            assert_eq!(fact("arena_registered"), "yes");
            assert_eq!(driver.arena().bytes(), options.arena_bytes / 2);
        }
        _ => assert!(!fact("arena_registered").is_empty()),
    }
}
