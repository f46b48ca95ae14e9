//! `no-uring COMMAND [ARGUMENT...]` runs a command under a seccomp filter that answers every
//! io_uring system call with EPERM: the default of container runtimes. The filter is inherited by
//! whatever the command starts, and needs no privilege.

#![allow(clippy::print_stderr, reason = "a command speaks to its user")]

use std::io;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

/// Audit architecture of this build, as `seccomp_data.arch` names it (linux/audit.h).
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
/// Audit architecture of this build, as `seccomp_data.arch` names it (linux/audit.h).
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;

const FORBIDDEN: [libc::c_long; 3] =
    [libc::SYS_io_uring_setup, libc::SYS_io_uring_enter, libc::SYS_io_uring_register];

// seccomp_data: { nr i32 │ arch u32 │ instruction_pointer u64 │ args 6 x u64 }
const OFFSET_OF_NUMBER: u32 = 0;
const OFFSET_OF_ARCHITECTURE: u32 = 4;

const LOAD: u16 = (libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16;
const JUMP_IF_EQUAL: u16 = (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16;
const RETURN: u16 = (libc::BPF_RET | libc::BPF_K) as u16;

fn instruction(code: u16, if_true: u8, if_false: u8, operand: u32) -> libc::sock_filter {
    libc::sock_filter { code, jt: if_true, jf: if_false, k: operand }
}

/// Another architecture's calls pass (their numbers mean something else); ours are compared with
/// each forbidden number, and the last two instructions are the verdicts.
fn filter() -> io::Result<Vec<libc::sock_filter>> {
    let mut program = vec![
        instruction(LOAD, 0, 0, OFFSET_OF_ARCHITECTURE),
        instruction(JUMP_IF_EQUAL, 1, 0, ARCHITECTURE),
        instruction(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW),
        instruction(LOAD, 0, 0, OFFSET_OF_NUMBER),
    ];
    for (index, number) in (0u8..).zip(FORBIDDEN) {
        let number = u32::try_from(number).map_err(io::Error::other)?;
        // From here over the remaining comparisons and the allowing verdict.
        let to_refusal = FORBIDDEN.len() as u8 - index;
        program.push(instruction(JUMP_IF_EQUAL, to_refusal, 0, number));
    }
    program.push(instruction(RETURN, 0, 0, libc::SECCOMP_RET_ALLOW));
    program.push(instruction(RETURN, 0, 0, libc::SECCOMP_RET_ERRNO | libc::EPERM as u32));
    Ok(program)
}

fn confine() -> io::Result<()> {
    let mut program = filter()?;
    let header = libc::sock_fprog {
        len: u16::try_from(program.len()).map_err(io::Error::other)?,
        filter: program.as_mut_ptr(),
    };
    // SAFETY: PR_SET_NO_NEW_PRIVS takes no pointers.
    if unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) } != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: `header` points to `program`, both alive for the call; the kernel copies the filter.
    if unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const header) }
        != 0
    {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}

fn main() -> ExitCode {
    let mut arguments = std::env::args_os().skip(1);
    let Some(command) = arguments.next() else {
        eprintln!("usage: no-uring COMMAND [ARGUMENT...]");
        return ExitCode::from(2);
    };
    if let Err(error) = confine() {
        eprintln!("no-uring: cannot install the seccomp filter: {error}");
        return ExitCode::FAILURE;
    }
    let error = Command::new(&command).args(arguments).exec();
    eprintln!("no-uring: cannot run {}: {error}", command.display());
    ExitCode::from(127)
}
