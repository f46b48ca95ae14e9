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

/// Date (as the number YYYYMMDD) and number of a segment's name. For segments of one log, their
/// order is the order of their sequences. `None`: no name that Elgate gives.
pub(crate) fn segment_order(name: &str) -> Option<(u32, u64)> {
    let mut parts = name.strip_suffix(EXTENSION)?.rsplitn(3, '-');
    let (number, date) = (parts.next()?, parts.next()?);
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    let is_ours = is_number(number)
        && (3..=NUMBER_DIGITS_MAX).contains(&number.len())
        && is_number(date)
        && date.len() == 8
        && parts.next().is_some();
    is_ours.then_some((date.parse().ok()?, number.parse().ok()?))
}

/// Of several files that hold the same segment, the one of the lowest rank counts: not one that was
/// copied in part, nor one whose name Elgate did not give.
pub(crate) fn copy_rank<'a>(
    route: &RouteName,
    name: &'a str,
    is_truncated: bool,
) -> (bool, bool, &'a str) {
    let rest = name.strip_prefix(route.as_str());
    let is_ours = rest.is_some_and(|rest| rest.starts_with('-')) && segment_order(name).is_some();
    (is_truncated, !is_ours, name)
}

/// Longer numbers are nobody's counting.
const NUMBER_DIGITS_MAX: usize = 15;

/// `<route>-YYYYMMDD-NNN.wal`: the first number of that day not yet taken. Should the clock have
/// been set back behind the newest name, its day goes on, so that names sort as segments follow.
pub(crate) fn next_segment<'a>(
    route: &RouteName,
    now: WallTime,
    taken: impl Iterator<Item = &'a str>,
) -> String {
    let (year, month, day) = now.date();
    let year = u32::try_from(year.min(9_999)).unwrap_or(0);
    let today = (year * 100 + month) * 100 + day;
    let is_routes = |name: &&str| {
        let rest = name.strip_prefix(route.as_str());
        rest.is_some_and(|rest| rest.starts_with('-') && rest.matches('-').count() == 2)
    };
    let newest = taken.filter(is_routes).filter_map(segment_order).max();
    let (date, number) = match newest {
        Some((date, number)) if date >= today => (date, number + 1),
        _ => (today, 1),
    };
    format!("{route}-{date:08}-{number:03}{EXTENSION}")
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

    #[test]
    fn a_clock_set_back_does_not_set_names_back() {
        let route = RouteName::new("a").expect("valid");
        let name = |day: u64, taken: &[&str]| {
            let now = WallTime(day * 86_400_000_000);
            next_segment(&route, now, taken.iter().copied())
        };
        assert_eq!(name(20_778, &["a-20261123-041.wal"]), "a-20261123-042.wal");
        assert_eq!(name(20_780, &["a-20261123-041.wal"]), "a-20261123-042.wal");
        assert_eq!(name(20_781, &["a-20261123-041.wal"]), "a-20261124-001.wal");
        let others = ["a-b-20261123-001.wal", "a-20261123.wal", "a-99991231-1234567890123456.wal"];
        assert_eq!(name(20_778, &others), "a-20261121-001.wal", "none of them is this route's");
    }

    #[test]
    fn names_sort_as_numbers() {
        assert_eq!(segment_order("a-b-20261121-009.wal"), Some((20_261_121, 9)));
        assert!(segment_order("a-20261121-1000.wal") > segment_order("a-20261121-999.wal"));
        assert!(segment_order("a-20261122-001.wal") > segment_order("a-20261121-1000.wal"));
        for name in ["20261121-001.wal", "a-20261121-1.wal", "a-20261121-+01.wal", "a-001.wal"] {
            assert_eq!(segment_order(name), None, "{name}");
        }
    }
}
