//! Who a process is: the lock bytes it holds, its start time, its PID namespace, and whether it is
//! still the process that it was before a fork.

use crate::host::SharedFile;
use elgate_io::SharedMap;
use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

/// A process as written into shared memory, and compared later.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessIdentity {
    /// Its number, as it sees itself.
    pub pid: u32,
    /// Clock ticks after boot; 0 if `/proc` did not say.
    pub start_time: u64,
    /// Inode of the PID namespace; 0 if `/proc` did not say.
    pub pid_namespace: u64,
}

impl ProcessIdentity {
    /// This process.
    pub(crate) fn current() -> Self {
        Self {
            pid: std::process::id(),
            start_time: start_time("self").unwrap_or(0),
            pid_namespace: std::fs::metadata("/proc/self/ns/pid").map_or(0, |found| found.ino()),
        }
    }

    /// Whether this process, seen from `observer`, is certainly gone: same PID namespace, and no
    /// process of that number, or one that started at another time. Doubt means no.
    pub(crate) fn is_gone(&self, observer: &Self) -> bool {
        let comparable = self.pid != 0
            && self.start_time != 0
            && observer.start_time != 0
            && self.pid_namespace != 0
            && self.pid_namespace == observer.pid_namespace;
        if !comparable {
            return false;
        }
        match start_time(&self.pid.to_string()) {
            Ok(found) => found != self.start_time,
            // No entry under /proc: believed only if the kernel confirms that nothing has the PID.
            Err(error) if error.kind() == io::ErrorKind::NotFound => no_such_process(self.pid),
            Err(_) => false,
        }
    }
}

fn no_such_process(pid: u32) -> bool {
    let Ok(pid) = libc::pid_t::try_from(pid) else { return false };
    // SAFETY: signal 0 sends nothing; the call takes no pointers.
    let result = unsafe { libc::kill(pid, 0) };
    result == -1 && io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH)
}

/// Field 22 of `/proc/<pid>/stat`. The second field is the command's name in parentheses and may
/// hold anything, so counting starts after the last parenthesis.
fn start_time(pid: &str) -> io::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    parse_start_time(&stat).ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))
}

fn parse_start_time(stat: &str) -> Option<u64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    // The first field after the name is the third, the state.
    after_name.split_ascii_whitespace().nth(22 - 3)?.parse().ok()
}

impl SharedFile for File {
    fn map(&self, bytes: usize) -> io::Result<Arc<SharedMap>> {
        let memory = memmap2::MmapOptions::new().len(bytes).map_raw(self)?;
        Ok(Arc::new(SharedMap::from_mapping(memory)))
    }

    fn is_at(&self, path: &Path) -> bool {
        let (Ok(open), Ok(named)) = (self.metadata(), std::fs::symlink_metadata(path)) else {
            return false;
        };
        (open.dev(), open.ino()) == (named.dev(), named.ino())
    }

    /// A lock of the open file description (`F_OFD_SETLK`), which needs no PID and so works across
    /// PID namespaces.
    fn try_lock_byte(&self, byte: u16) -> io::Result<bool> {
        match lock_command(self, byte, libc::F_OFD_SETLK, libc::F_WRLCK) {
            Ok(_) => Ok(true),
            Err(error) if matches!(error.raw_os_error(), Some(libc::EAGAIN | libc::EACCES)) => {
                Ok(false)
            }
            Err(error) => Err(error),
        }
    }

    fn unlock_byte(&self, byte: u16) -> io::Result<()> {
        lock_command(self, byte, libc::F_OFD_SETLK, libc::F_UNLCK).map(|_| ())
    }

    fn is_byte_locked(&self, byte: u16) -> io::Result<bool> {
        let kind = lock_command(self, byte, libc::F_OFD_GETLK, libc::F_WRLCK)?;
        Ok(i32::from(kind) != libc::F_UNLCK)
    }
}

fn lock_command(file: &File, byte: u16, command: i32, kind: i32) -> io::Result<libc::c_short> {
    let mut lock = libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: libc::off_t::from(byte),
        l_len: 1,
        l_pid: 0,
    };
    // SAFETY: the descriptor is open and `lock` is a writable flock, which is what these commands
    // take.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(lock.l_type),
    }
}

/// Notices that this process is not the one it was: a page that the kernel wipes in a forked child.
/// Asking costs one load.
#[derive(Debug)]
pub struct ForkGuard {
    mark: *const AtomicU32,
    backing: Backing,
    /// Compared instead where the kernel cannot wipe.
    pid_if_not_wiped: Option<u32>,
}

#[derive(Debug)]
enum Backing {
    /// `mark` lies in a page mapped by this guard.
    Page,
    /// `mark` lies in here.
    Word(#[expect(dead_code, reason = "held for what it keeps alive")] Arc<AtomicU32>),
}

// SAFETY: the mark is only reached through an atomic and lives as long as the guard.
unsafe impl Send for ForkGuard {}
// SAFETY: as above.
unsafe impl Sync for ForkGuard {}

const PAGE_BYTES: usize = 4_096;

impl ForkGuard {
    /// A guard that knows this process as its own.
    pub(crate) fn new() -> io::Result<Self> {
        // SAFETY: a fresh anonymous mapping at an address of the kernel's choice.
        let page = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                PAGE_BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                -1,
                0,
            )
        };
        if page == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the range was mapped just now and is ours alone.
        let wiped = unsafe { libc::madvise(page, PAGE_BYTES, libc::MADV_WIPEONFORK) } == 0;
        let pid_if_not_wiped = (!wiped).then(std::process::id);
        let guard = Self { mark: page.cast(), backing: Backing::Page, pid_if_not_wiped };
        // Relaxed: read by this process's threads, which were handed the guard, and wiped by fork.
        guard.mark().store(1, Ordering::Relaxed);
        Ok(guard)
    }

    /// A guard over a word that somebody else sets to zero once the process is another one: for a
    /// host that is not the operating system.
    #[must_use]
    pub fn watching(word: Arc<AtomicU32>) -> Self {
        Self { mark: Arc::as_ptr(&word), backing: Backing::Word(word), pid_if_not_wiped: None }
    }

    fn mark(&self) -> &AtomicU32 {
        // SAFETY: aligned, initialised and alive with self, whichever backing it has.
        unsafe { &*self.mark }
    }

    /// Whether this process is a child of the one that made the guard.
    pub(crate) fn is_child(&self) -> bool {
        match self.pid_if_not_wiped {
            // Pairs with the store in `new`, or with the host's that clears the word.
            None => self.mark().load(Ordering::Relaxed) == 0,
            Some(pid) => pid != std::process::id(),
        }
    }
}

impl Drop for ForkGuard {
    fn drop(&mut self) {
        if matches!(self.backing, Backing::Page) {
            // SAFETY: mapped in `new` with this size, and not used after this.
            unsafe { libc::munmap(self.mark.cast_mut().cast(), PAGE_BYTES) };
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn start_time_is_found_behind_any_name() {
        let rest = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 4242 20 21";
        assert_eq!(parse_start_time(&format!("17 (a) b) {rest}")), Some(4_242));
        assert_eq!(parse_start_time("17 (sh) S 1"), None);
        assert_eq!(parse_start_time(""), None);
    }

    #[test]
    fn this_process_is_alive_and_another_life_of_its_pid_is_not() {
        let me = ProcessIdentity::current();
        assert!(me.start_time != 0 && me.pid_namespace != 0);
        assert!(!me.is_gone(&me));
        assert!(ProcessIdentity { start_time: me.start_time + 1, ..me }.is_gone(&me));
        // From another PID namespace nothing can be concluded.
        let elsewhere = ProcessIdentity { pid_namespace: me.pid_namespace + 1, ..me };
        assert!(!ProcessIdentity { start_time: 1, ..me }.is_gone(&elsewhere));
    }

    #[test]
    fn a_reaped_child_is_gone() {
        let mut child = std::process::Command::new("/bin/cat")
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::null())
            .spawn()
            .expect("cat exists");
        let me = ProcessIdentity::current();
        let start_time = start_time(&child.id().to_string()).expect("the child runs");
        let identity = ProcessIdentity { pid: child.id(), start_time, ..me };
        assert!(!identity.is_gone(&me));
        drop(child.stdin.take());
        child.wait().expect("the child ends");
        assert!(identity.is_gone(&me));
    }

    #[test]
    fn locks_belong_to_the_description() {
        let path = tempfile::NamedTempFile::new().expect("a temporary file");
        let open = || File::options().read(true).write(true).open(path.path()).expect("opens");
        let (first, second) = (open(), open());
        assert!(first.try_lock_byte(3).expect("locks"));
        assert!(!second.try_lock_byte(3).expect("answers"));
        assert!(second.try_lock_byte(4).expect("locks"));
        assert!(second.is_byte_locked(3).expect("answers"));
        // Closing another descriptor of the same file drops no lock (POSIX locks would).
        drop(open());
        assert!(second.is_byte_locked(3).expect("answers"));
        first.unlock_byte(3).expect("unlocks");
        assert!(!second.is_byte_locked(3).expect("answers"));
    }

    #[test]
    fn a_forked_child_is_told_from_its_parent() {
        let guard = ForkGuard::new().expect("maps");
        assert!(!guard.is_child());
        // SAFETY: the child only loads from memory and leaves with _exit, both of which are
        // allowed after a fork of a threaded process.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: ends the child without running anything else.
            unsafe { libc::_exit(if guard.is_child() { 7 } else { 1 }) };
        }
        let mut status = 0;
        // SAFETY: `status` is a writable int.
        unsafe { libc::waitpid(pid, &raw mut status, 0) };
        assert_eq!(libc::WEXITSTATUS(status), 7);
    }
}
