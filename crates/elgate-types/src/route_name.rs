//! The name of a route: also a directory name and a metric label, so its alphabet is narrow.

use crate::limits::ROUTE_NAME_BYTES_MAX;
use serde::{Deserialize, Serialize};

/// A validated route name: 1 to 64 bytes of `a-z 0-9 . _ -`, first byte a letter or digit.
///
/// Safe as one path component and as a metric label by construction.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RouteName(Box<str>);

/// Why a string is not a route name.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "route name {name:?} is not valid: use 1 to 64 characters of a-z, 0-9, '.', '_' and '-', \
     starting with a letter or digit"
)]
pub struct RouteNameError {
    name: String,
}

impl RouteName {
    /// Validates `name`.
    ///
    /// # Errors
    /// [`RouteNameError`] quoting the name and the rule.
    pub fn new(name: &str) -> Result<Self, RouteNameError> {
        if Self::is_valid(name.as_bytes()) {
            Ok(Self(name.into()))
        } else {
            let shown = name.chars().take(80).collect();
            Err(RouteNameError { name: shown })
        }
    }

    /// Whether `bytes` spell a route name. Takes bytes because the ring hands over bytes that
    /// nobody has checked yet.
    #[must_use]
    pub fn is_valid(bytes: &[u8]) -> bool {
        let allowed = |byte: u8| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-')
        };
        !bytes.is_empty()
            && bytes.len() <= ROUTE_NAME_BYTES_MAX
            && bytes[0].is_ascii_alphanumeric()
            && bytes.iter().copied().all(allowed)
    }

    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// FNV-1a of the name. Stable across versions and languages: it decides which ring and shard
    /// a route lives on, and producers compute it too.
    #[must_use]
    pub fn stable_hash(&self) -> u64 {
        self.0.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        })
    }
}

impl TryFrom<String> for RouteName {
    type Error = RouteNameError;
    fn try_from(name: String) -> Result<Self, RouteNameError> {
        Self::new(&name)
    }
}

impl From<RouteName> for String {
    fn from(name: RouteName) -> Self {
        name.0.into()
    }
}

impl std::fmt::Display for RouteName {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn accepts_the_alphabet_and_nothing_else() {
        for good in ["a", "access", "0", "a.b_c-d", &"x".repeat(64)] {
            assert!(RouteName::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "-a", "A", "a/b", "a b", "ä", "a\0", &"x".repeat(65)] {
            assert!(RouteName::new(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn hash_is_fnv1a() {
        // Reference values of the FNV-1a 64-bit test suite.
        assert_eq!(RouteName::new("a").expect("valid").stable_hash(), 0xaf63_dc4c_8601_ec8c);
        assert_eq!(RouteName::new("foobar").expect("valid").stable_hash(), 0x8594_4171_f739_67e8);
    }
}
