//! Keeps this process alive when somebody cuts short a file that it has mapped.
//!
//! The kernel answers an access beyond the end of a mapped file with SIGBUS, which ends the process.
//! One handler for all of our maps puts a page of zeros there instead, and marks the map as lost;
//! what to do about that is its owner's matter. Any other SIGBUS goes to whoever handled it before.
//!
//! ```text
//!  access ──► SIGBUS ──► in a map of ours? ──yes──► zeros there, map marked, access repeated
//!                                └──────────no───► the handler before ours, or the default
//! ```
//!
//! The handler runs between any two instructions: it reads the table below, which is only atomics,
//! and makes one system call.

use std::cell::UnsafeCell;
use std::mem::MaybeUninit;
use std::sync::Once;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Maps beyond so many are not guarded.
const MAPS_MAX: usize = 8_192;

/// A place is free, or being filled in.
const FREE: usize = 0;
const TAKEN: usize = 1;

struct Place {
    /// Where the map begins; stored last.
    start: AtomicUsize,
    bytes: AtomicUsize,
    is_lost: AtomicBool,
}

static PLACES: [Place; MAPS_MAX] = [const {
    Place {
        start: AtomicUsize::new(FREE),
        bytes: AtomicUsize::new(0),
        is_lost: AtomicBool::new(false),
    }
}; MAPS_MAX];

/// How many places have ever been used: no more are looked at.
static USED: AtomicUsize = AtomicUsize::new(0);

static PAGE_BYTES: AtomicUsize = AtomicUsize::new(4_096);

/// A map that is guarded as long as the value lives. It goes before the map does.
pub(crate) struct MapGuard(&'static Place);

impl MapGuard {
    /// Guards a map. `None`: there are too many.
    pub(crate) fn new(start: *mut u8, bytes: usize) -> Option<Self> {
        install();
        let (index, place) = PLACES.iter().enumerate().find(|(_, place)| {
            // Acquire pairs with the release store in `drop`: the former map is forgotten.
            let taken =
                place.start.compare_exchange(FREE, TAKEN, Ordering::Acquire, Ordering::Relaxed);
            taken.is_ok()
        })?;
        USED.fetch_max(index + 1, Ordering::Relaxed);
        place.is_lost.store(false, Ordering::Relaxed);
        place.bytes.store(bytes, Ordering::Relaxed);
        // Release pairs with the acquire load in `find`.
        place.start.store(start.addr(), Ordering::Release);
        Some(Self(place))
    }

    /// Whether part of the map is not the file's any more.
    pub(crate) fn is_lost(&self) -> bool {
        // Acquire pairs with the release store in `handle`, mostly of this very thread.
        self.0.is_lost.load(Ordering::Acquire)
    }
}

impl Drop for MapGuard {
    fn drop(&mut self) {
        // Release pairs with the acquire exchange in `new`.
        self.0.start.store(FREE, Ordering::Release);
    }
}

/// The map that holds an address.
fn find(address: usize) -> Option<&'static Place> {
    PLACES[..USED.load(Ordering::Relaxed)].iter().find(|place| {
        // Acquire pairs with the release store in `new`: the size is that of this map.
        let start = place.start.load(Ordering::Acquire);
        let bytes = place.bytes.load(Ordering::Relaxed);
        start > TAKEN && address.checked_sub(start).is_some_and(|offset| offset < bytes)
    })
}

/// What handled SIGBUS before: written once, before the handler is there to read it.
struct Before(UnsafeCell<MaybeUninit<libc::sigaction>>);

// SAFETY: written by `install` alone, before anybody reads it.
unsafe impl Sync for Before {}

static BEFORE: Before = Before(UnsafeCell::new(MaybeUninit::zeroed()));

fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        // SAFETY: takes and returns plain integers.
        let page = unsafe { libc::sysconf(libc::_SC_PAGESIZE) };
        PAGE_BYTES.store(usize::try_from(page).unwrap_or(4_096), Ordering::Relaxed);
        // SAFETY: all-zero bytes are a valid sigaction.
        let mut ours: libc::sigaction = unsafe { std::mem::zeroed() };
        ours.sa_sigaction = handle as extern "C" fn(_, _, _) as usize;
        ours.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        // SAFETY: `BEFORE` is a writable sigaction that nobody reads yet, `ours` a whole one.
        unsafe {
            libc::sigaction(libc::SIGBUS, std::ptr::null(), (*BEFORE.0.get()).as_mut_ptr());
            libc::sigaction(libc::SIGBUS, &raw const ours, std::ptr::null_mut());
        }
    });
}

extern "C" fn handle(signal: libc::c_int, info: *mut libc::siginfo_t, context: *mut libc::c_void) {
    // SAFETY: the kernel passes a valid siginfo.
    let (code, address) = unsafe { ((*info).si_code, (*info).si_addr().addr()) };
    // A signal that somebody sent has no address.
    let is_fault = code > 0;
    if is_fault
        && let Some(place) = find(address)
        && put_zeros(address)
    {
        // Release pairs with the acquire load in `is_lost`.
        place.is_lost.store(true, Ordering::Release);
        return;
    }
    // SAFETY: written before this handler was installed, and never again.
    let before = unsafe { (*BEFORE.0.get()).assume_init_ref() };
    match before.sa_sigaction {
        libc::SIG_IGN if !is_fault => {}
        libc::SIG_DFL | libc::SIG_IGN => {
            // SAFETY: all-zero bytes are a valid sigaction: the default. The access is repeated then,
            // or the signal raised, once this handler has returned.
            unsafe {
                let default: libc::sigaction = std::mem::zeroed();
                libc::sigaction(signal, &raw const default, std::ptr::null_mut());
                if !is_fault {
                    libc::raise(signal);
                }
            }
        }
        handler if before.sa_flags & libc::SA_SIGINFO != 0 => {
            type Handler = extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void);
            // SAFETY: whoever installed it said that it is such a function.
            let handler: Handler = unsafe { std::mem::transmute(handler) };
            handler(signal, info, context);
        }
        handler => {
            // SAFETY: as above.
            let handler: extern "C" fn(libc::c_int) = unsafe { std::mem::transmute(handler) };
            handler(signal);
        }
    }
}

/// Replaces the page of an address. Leaves `errno` as it was: the code that was interrupted may be
/// about to look at it.
fn put_zeros(address: usize) -> bool {
    let page_bytes = PAGE_BYTES.load(Ordering::Relaxed);
    let page = std::ptr::without_provenance_mut(address & !(page_bytes - 1));
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
    // SAFETY: the page lies in a map of ours, through which only atomics and copies go. `errno` is
    // this thread's own.
    unsafe {
        let errno = libc::__errno_location();
        let saved = *errno;
        let put = libc::mmap(page, page_bytes, access, flags, -1, 0);
        *errno = saved;
        put != libc::MAP_FAILED
    }
}
