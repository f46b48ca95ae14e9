//! Pinning a thread to a core, and asking the kernel whether it happened.

/// Pins the calling thread to `core`. Refusal (a cpuset, a seccomp filter) is not an error: the
/// thread runs where the kernel lets it, and the caller reports that.
///
/// Returns the core the kernel says the thread is now confined to.
#[must_use]
pub fn pin_current_thread(core: usize) -> Option<usize> {
    if !core_affinity::set_for_current(core_affinity::CoreId { id: core }) {
        return None;
    }
    match cores_of_current_thread().as_slice() {
        [only] if *only == core => Some(core),
        _ => None,
    }
}

/// The cores that the kernel lets the calling thread run on.
#[must_use]
pub fn cores_of_current_thread() -> Vec<usize> {
    // SAFETY: an all-zero cpu_set_t is a valid empty set.
    let mut set: libc::cpu_set_t = unsafe { std::mem::zeroed() };
    // SAFETY: pid 0 names the calling thread; the kernel writes at most the given size into `set`.
    let result =
        unsafe { libc::sched_getaffinity(0, std::mem::size_of::<libc::cpu_set_t>(), &mut set) };
    if result != 0 {
        return Vec::new();
    }
    let capacity = usize::try_from(libc::CPU_SETSIZE).unwrap_or(0);
    // SAFETY: `core` is below CPU_SETSIZE, the number of bits in the set.
    (0..capacity).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernel_confirms_a_pin_and_refuses_a_core_that_is_not_there() {
        std::thread::spawn(|| {
            let cores = cores_of_current_thread();
            let last = *cores.last().expect("a thread may run somewhere");
            assert_eq!(pin_current_thread(last), Some(last));
            assert_eq!(cores_of_current_thread(), [last]);
            assert_eq!(pin_current_thread(1_000), None);
        })
        .join()
        .expect("the pinned thread ends well");
    }
}
