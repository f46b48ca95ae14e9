//! What the files of a log are called.

use elgate_types::{RouteName, WallTime};
use std::path::{Path, PathBuf};

/// The segment under preparation; renamed once it is whole.
pub(crate) const PREPARING: &str = "segment.preparing";

/// Retired segments that wait to be used again are called this and their sequence.
const RETIRED: &str = "segment.retired.";

const EXTENSION: &str = ".wal";

/// Whether a name could be a segment's.
pub(crate) fn is_segment(name: &str) -> bool {
    name.ends_with(EXTENSION)
}

/// Where a segment goes when retention gives it up and its blocks are to be used again.
pub(crate) fn retired_path(dir: &Path, sequence: u64) -> PathBuf {
    dir.join(format!("{RETIRED}{sequence}"))
}

/// Whether a name is a retired segment's.
pub(crate) fn is_retired(name: &str) -> bool {
    name.strip_prefix(RETIRED).is_some_and(|sequence| sequence.parse::<u64>().is_ok())
}

/// `<route>-YYYYMMDD-NNN.wal`: the first number of that day not yet taken.
pub(crate) fn next_segment<'a>(
    route: &RouteName,
    now: WallTime,
    taken: impl Iterator<Item = &'a str>,
) -> String {
    let (year, month, day) = now.date();
    let stem = format!("{route}-{year:04}{month:02}{day:02}-");
    let number = |name: &str| -> Option<u64> {
        name.strip_prefix(&stem)?.strip_suffix(EXTENSION)?.parse().ok()
    };
    let last = taken.filter_map(number).max().unwrap_or(0);
    format!("{stem}{:03}{EXTENSION}", last.saturating_add(1))
}

pub(crate) fn head_path(dir: &Path) -> PathBuf {
    dir.join("head")
}

pub(crate) fn cursors_dir(dir: &Path) -> PathBuf {
    dir.join("cursors")
}

pub(crate) fn quarantine_dir(dir: &Path) -> PathBuf {
    dir.join("quarantine")
}

pub(crate) fn cursor_path(dir: &Path, name: &str) -> PathBuf {
    cursors_dir(dir).join(format!("{name}.cursor"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_count_within_the_day_and_widen() {
        let route = RouteName::new("a-b").expect("valid");
        let now = WallTime(20_778 * 86_400_000_000);
        let name = |taken: &[&str]| next_segment(&route, now, taken.iter().copied());
        assert_eq!(name(&[]), "a-b-20261121-001.wal");
        assert_eq!(
            name(&["a-b-20261120-007.wal", "x", "a-b-20261121-x.wal"]),
            "a-b-20261121-001.wal"
        );
        assert_eq!(name(&["a-b-20261121-009.wal", "a-b-20261121-002.wal"]), "a-b-20261121-010.wal");
        assert_eq!(name(&["a-b-20261121-999.wal"]), "a-b-20261121-1000.wal");
    }
}
