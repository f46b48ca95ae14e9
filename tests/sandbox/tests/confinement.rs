//! The sandbox forbids what it says, to the command and to its children, and nothing else.

use std::process::Command;

/// Set in the environment of the process that runs under the filter.
const PROBE: &str = "ELGATE_SANDBOX_PROBE";

fn io_uring_setup_errno() -> i32 {
    // SAFETY: a null parameter block is a valid argument: the kernel answers EFAULT.
    let result = unsafe { libc::syscall(libc::SYS_io_uring_setup, 1, std::ptr::null::<u8>()) };
    assert_eq!(result, -1, "io_uring_setup accepted a null pointer");
    std::io::Error::last_os_error().raw_os_error().expect("an error number")
}

/// Runs as an ordinary test too, where it only proves that the probe can be made.
#[test]
fn probe() {
    let errno = io_uring_setup_errno();
    if std::env::var_os(PROBE).is_some() {
        assert_eq!(errno, libc::EPERM);
        assert!(std::fs::metadata("/").is_ok(), "other system calls pass");
    }
}

#[test]
fn io_uring_is_refused_to_the_command_and_to_its_children() {
    let own = std::env::current_exe().expect("this test's path");
    for shell in [false, true] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_no-uring"));
        if shell {
            command.args(["sh", "-c", "\"$0\" \"$@\""]);
        }
        let output = command
            .arg(&own)
            .args(["--exact", "probe"])
            .env(PROBE, "1")
            .output()
            .expect("the sandbox runs");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn the_exit_code_is_the_commands() {
    let status = |arguments: &[&str]| {
        Command::new(env!("CARGO_BIN_EXE_no-uring")).args(arguments).status().expect("runs").code()
    };
    assert_eq!(status(&["sh", "-c", "exit 7"]), Some(7));
    assert_eq!(status(&["/no/such/program"]), Some(127));
    assert_eq!(status(&[]), Some(2));
}
