//! Random numbers for identifiers (ring, log and segment salts). Not for cryptographic keys.
//!
//! Code that may run in a simulation asks [`Platform::random_u64`](crate::Platform::random_u64)
//! instead, which is seeded there.

/// 64 random bits from the kernel (`getrandom(2)`).
#[must_use]
pub fn random_u64() -> u64 {
    let mut bytes = [0; 8];
    fill(&mut bytes);
    u64::from_ne_bytes(bytes)
}

/// 128 random bits from the kernel.
#[must_use]
pub fn random_u128() -> u128 {
    let mut bytes = [0; 16];
    fill(&mut bytes);
    u128::from_ne_bytes(bytes)
}

#[expect(clippy::disallowed_methods, reason = "this is the helper that everybody else uses")]
fn fill(bytes: &mut [u8]) {
    let mut filled = 0;
    while filled < bytes.len() {
        let rest = &mut bytes[filled..];
        // SAFETY: `rest` is writable for its length.
        let got = unsafe { libc::getrandom(rest.as_mut_ptr().cast(), rest.len(), 0) };
        match usize::try_from(got) {
            Ok(got) => filled += got,
            // Interrupted before the entropy pool was ready, or (gVisor-like sandboxes) refused.
            Err(_) if crate::sys::last_errno() == libc::EINTR => {}
            Err(_) => {
                for (index, byte) in rest.iter_mut().enumerate() {
                    *byte = fallback().to_le_bytes()[index % 8];
                }
                filled = bytes.len();
            }
        }
    }
}

/// Unique enough for an identifier where `getrandom` is forbidden: time, process and a per-process
/// random hash seed, mixed.
#[expect(clippy::disallowed_methods, reason = "differing from run to run is the point")]
fn fallback() -> u64 {
    use std::hash::{BuildHasher, RandomState};
    RandomState::new().hash_one((crate::clock::monotonic(), std::process::id()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_differ() {
        let many: std::collections::HashSet<u64> = (0..1_000).map(|_| random_u64()).collect();
        assert_eq!(many.len(), 1_000);
        assert_ne!(random_u128() >> 64, 0);
        assert_ne!(fallback(), fallback());
    }
}
