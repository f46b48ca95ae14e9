//! The operating system's platform on a real directory: confinement, locks, zeros, maps.

#![allow(clippy::unwrap_used, clippy::print_stderr, reason = "a test")]

use elgate_io::{OpenOptions, OsPlatform, Platform};
use std::io;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering;

fn create_options() -> OpenOptions {
    OpenOptions { read: true, write: true, create: true, ..OpenOptions::default() }
}

fn directory() -> tempfile::TempDir {
    tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR")).unwrap()
}

fn errno<T>(result: io::Result<T>) -> i32 {
    result.err().and_then(|error| error.raw_os_error()).unwrap_or(0)
}

/// Every way out of a root, and every thing in it that is not a regular file.
fn nothing_leads_out() {
    let platform = OsPlatform::new();
    let place = directory();
    let (root, outside) = (place.path().join("root"), place.path().join("outside"));
    platform.create_directories(&root).unwrap();
    platform.create_directories(&outside).unwrap();
    std::fs::write(outside.join("secret"), "secret").unwrap();
    symlink(&outside, root.join("link")).unwrap();
    symlink(outside.join("secret"), root.join("file-link")).unwrap();
    symlink("inner", root.join("inner-link")).unwrap();
    std::fs::create_dir(root.join("inner")).unwrap();
    let fifo = std::ffi::CString::new(root.join("fifo").to_str().unwrap()).unwrap();
    // SAFETY: a NUL-terminated path.
    assert_eq!(unsafe { libc::mkfifo(fifo.as_ptr(), 0o600) }, 0);

    let open =
        |relative: &str| errno(platform.open_beneath(&root, Path::new(relative), create_options()));
    let fd = std::os::fd::AsRawFd::as_raw_fd(&std::fs::File::open(&outside).unwrap());
    for (relative, expected) in [
        ("../outside/secret", libc::EXDEV),
        ("inner/../../outside/secret", libc::EXDEV),
        ("/etc/passwd", libc::EXDEV),
        ("link/secret", libc::ELOOP),
        ("link/new/file", libc::ELOOP),
        ("inner-link/file", libc::ELOOP),
        ("file-link", libc::ELOOP),
        ("inner", libc::EISDIR),
        ("inner/", libc::EISDIR),
        ("fifo", libc::EINVAL),
        ("fifo/below", libc::ENOTDIR),
        ("", libc::EINVAL),
        (".", libc::EINVAL),
        ("nul\0byte", libc::EINVAL),
    ] {
        assert_eq!(open(relative), expected, "{relative:?}");
    }
    assert_ne!(open(&format!("proc/self/fd/{fd}/x")), libc::EXDEV, "just a name below the root");
    assert_eq!(std::fs::read_dir(&outside).unwrap().count(), 1, "nothing was made outside");

    let deep = Path::new("a/b/./c/file.log");
    let file = platform.open_beneath(&root, deep, create_options()).unwrap();
    platform.write_at(&file, 0, b"inside", false).unwrap();
    assert_eq!(std::fs::read(root.join(deep)).unwrap(), b"inside");
    let mode = |path: PathBuf| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(root.join(deep)), mode(root.join("a/b"))), (0o600, 0o700));
    let without = OpenOptions { create: false, ..create_options() };
    let missing = platform.open_beneath(&root, Path::new("x/y"), without);
    assert_eq!(errno(missing), libc::ENOENT);
    assert!(!root.join("x").exists());
    let again = OpenOptions { create_new: true, ..create_options() };
    assert_eq!(errno(platform.open_beneath(&root, deep, again)), libc::EEXIST);
}

#[test]
fn confinement_by_openat2() {
    nothing_leads_out();
}

/// The same where a sandbox forbids `openat2`.
#[test]
fn confinement_without_openat2() {
    let forbidden = || {
        let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
        let mut filter = [
            step((libc::BPF_LD | libc::BPF_W | libc::BPF_ABS) as u16, 0, 0, 0),
            step(
                (libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K) as u16,
                0,
                1,
                libc::SYS_openat2 as u32,
            ),
            step(
                (libc::BPF_RET | libc::BPF_K) as u16,
                0,
                0,
                libc::SECCOMP_RET_ERRNO | libc::EPERM as u32,
            ),
            step((libc::BPF_RET | libc::BPF_K) as u16, 0, 0, libc::SECCOMP_RET_ALLOW),
        ];
        let program = libc::sock_fprog { len: filter.len() as u16, filter: filter.as_mut_ptr() };
        // SAFETY: a filter program of the length given, alive during the call. Holds for this
        // thread alone.
        let results = unsafe {
            [
                libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0),
                libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program),
            ]
        };
        assert_eq!(results, [0, 0]);
        nothing_leads_out();
    };
    std::thread::spawn(forbidden).join().unwrap();
}

#[test]
fn zeros_are_written_for_real() {
    let platform = OsPlatform::new();
    let place = directory();
    let path = place.path().join("segment");
    let file = platform.open(&path, create_options()).unwrap();
    platform.write_at(&file, 0, &[9; 100], false).unwrap();
    platform.zero_fill(&file, 50, 3_000_000).unwrap();
    assert_eq!(platform.size(&file).unwrap(), 3_000_050);
    let bytes = std::fs::read(&path).unwrap();
    assert!(bytes[..50].iter().all(|byte| *byte == 9));
    assert!(bytes[50..].iter().all(|byte| *byte == 0));
    // Mapped blocks, not unwritten ones: what is allocated has been written.
    let allocated =
        std::os::unix::fs::MetadataExt::blocks(&std::fs::metadata(&path).unwrap()) * 512;
    assert!(allocated >= 3_000_000, "{allocated} bytes allocated");
}

#[test]
fn direct_files_take_any_memory_but_whole_blocks_only() {
    let platform = OsPlatform::new();
    let place = directory();
    let path = place.path().join("direct");
    let file = match platform.open(&path, OpenOptions { direct: true, ..create_options() }) {
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => {
            eprintln!("skipped: this file system has no direct I/O");
            return;
        }
        file => file.unwrap(),
    };
    let pattern: Vec<u8> = (0..2_500_000_u32).map(|index| (index % 253) as u8).collect();
    let whole = &pattern[1..][..2_498_560 - 4_096 * 2];
    platform.write_at(&file, 4_096, whole, true).unwrap();
    let mut back = vec![0; whole.len() + 4_096 + 1];
    assert_eq!(platform.read_at(&file, 4_096, &mut back[1..]).unwrap(), whole.len());
    assert!(back[1..][..whole.len()] == *whole, "the bytes differ");
    assert_eq!(errno(platform.write_at(&file, 1, &[0; 4_096], false)), libc::EINVAL);
    assert_eq!(errno(platform.read_at(&file, 0, &mut [0; 100])), libc::EINVAL);
    // A file that does not end on a block.
    platform.set_size(&file, 5_000).unwrap();
    assert_eq!(platform.read_at(&file, 0, &mut back[1..][..8_192]).unwrap(), 5_000);
}

#[test]
fn a_lock_excludes_until_its_file_closes() {
    let platform = OsPlatform::new();
    let place = directory();
    let path = place.path().join(".lock");
    let (first, second) = (
        platform.open(&path, create_options()).unwrap(),
        platform.open(&path, create_options()).unwrap(),
    );
    assert!(platform.try_lock(&first).unwrap());
    assert!(platform.try_lock(&first).unwrap(), "the holder's it stays");
    assert!(!platform.try_lock(&second).unwrap());
    let clone = first.clone();
    drop(first);
    assert!(!platform.try_lock(&second).unwrap(), "a clone holds it");
    drop(clone);
    assert!(platform.try_lock(&second).unwrap());
    assert_eq!(platform.identity(&second).unwrap(), {
        let third = platform.open(&path, create_options()).unwrap();
        platform.identity(&third).unwrap()
    });
}

#[test]
fn maps_are_shared_and_never_longer_than_the_file() {
    let platform = OsPlatform::new();
    let place = directory();
    let file = platform.open(&place.path().join("head"), create_options()).unwrap();
    assert_eq!(errno(platform.map(&file, 4_096)), libc::EINVAL);
    platform.set_size(&file, 4_096).unwrap();
    let (one, two) = (platform.map(&file, 4_096).unwrap(), platform.map(&file, 4_096).unwrap());
    one.u64_at(64).store(77, Ordering::Release); // pairs with the load below
    assert_eq!(two.u64_at(64).load(Ordering::Acquire), 77);
    let mut bytes = [0; 8];
    platform.read_at(&file, 64, &mut bytes).unwrap();
    assert_eq!(u64::from_ne_bytes(bytes), 77);
    assert_eq!(errno(platform.map(&file, 0)), libc::EINVAL);
}

#[test]
fn names() {
    let platform = OsPlatform::new();
    let place = directory();
    let deep = place.path().join("one/two/three");
    platform.create_directories(&deep).unwrap();
    platform.create_directories(&deep).unwrap();
    platform.sync_directory(&deep).unwrap();
    let file = platform.open(&deep.join("a"), create_options()).unwrap();
    platform.write_at(&file, 0, b"12345", false).unwrap();
    assert_eq!(errno(platform.create_directories(&deep.join("a"))), libc::ENOTDIR);
    assert_eq!(errno(platform.create_directories(&deep.join("a/b"))), libc::ENOTDIR);
    platform.rename(&deep.join("a"), &deep.join("b")).unwrap();
    platform.create_directories(&deep.join("d")).unwrap();
    let mut entries = platform.list(&deep).unwrap();
    entries.sort_by(|one, two| one.name.cmp(&two.name));
    let shape: Vec<_> = entries.iter().map(|e| (e.name.as_str(), e.is_directory)).collect();
    assert_eq!(shape, [("b", false), ("d", true)]);
    assert_eq!(entries[0].bytes, 5);
    platform.remove(&deep.join("b")).unwrap();
    assert_eq!(errno(platform.remove(&deep.join("b"))), libc::ENOENT);
    assert_eq!(errno(platform.list(&deep.join("none"))), libc::ENOENT);
    assert!(platform.available_bytes(&deep).unwrap() > 0);
    assert!(platform.resolve("127.0.0.1", 80).unwrap()[0].ip().is_loopback());
}
