//! What the kernel answers, made up where it cannot be provoked.

use super::*;
use crate::{Buffer, DriverOptions, Outcome};

const FULL: i32 = 4_096;

fn driver(commit: Commit) -> Option<UringDriver> {
    // Without io_uring there is nothing to test.
    UringDriver::new(&DriverOptions { commit, ..DriverOptions::default() }).ok()
}

/// A durable write that the kernel is said to work on.
fn under_way(driver: &mut UringDriver, stage: Stage) -> Key {
    let file = crate::File::from(std::os::fd::OwnedFd::from(
        tempfile::tempfile().expect("a temporary file"),
    ));
    let buffer = Buffer::copy_of(&[1; FULL as usize]);
    let kernel = Kernel::Write { file, offset: 0, buffer, durable: true };
    driver.in_flight += 1;
    driver.slab.insert(InFlight { token: 5, kernel, cancelled: false, queued: false, stage })
}

fn result(completions: Vec<Completion>) -> Result<usize, i32> {
    let [completion] = <[Completion; 1]>::try_from(completions).expect("one completion");
    assert!(completion.token == 5 && completion.buffer.is_some());
    match completion.result {
        Ok(Outcome::Bytes(count)) => Ok(count),
        Ok(other) => panic!("{other:?}"),
        Err(error) => Err(error.raw_os_error().unwrap_or(0)),
    }
}

#[test]
fn a_chain_is_over_with_its_second_result_and_worth_the_weaker_of_both() {
    let Some(mut driver) = driver(Commit::Link) else { return };
    for (write, sync, expected) in [
        (FULL, 0, Ok(4_096)),
        (512, -libc::ECANCELED, Ok(512)),
        (FULL, -libc::EIO, Err(libc::EIO)),
        (-libc::ENOSPC, -libc::ECANCELED, Err(libc::ENOSPC)),
    ] {
        for sync_first in [false, true] {
            let key = under_way(&mut driver, Stage::Linked(Chain::default()));
            let mut parts = [(key, write), (key | SYNC_PART, sync)];
            if sync_first {
                parts.reverse();
            }
            let mut completions = Vec::new();
            driver.advance(parts[0].0, parts[0].1, &mut completions);
            assert!(completions.is_empty());
            driver.advance(parts[1].0, parts[1].1, &mut completions);
            assert_eq!(result(completions), expected, "{write} {sync} {sync_first}");
        }
    }
}

#[test]
fn a_chain_that_may_have_been_split_is_synced_once_more() {
    let Some(mut driver) = driver(Commit::Link) else { return };
    let key = under_way(&mut driver, Stage::Linked(Chain::default()));
    driver.suspect_chains();
    let mut completions = Vec::new();
    driver.advance(key | SYNC_PART, 0, &mut completions);
    driver.advance(key, FULL, &mut completions);
    assert!(completions.is_empty(), "nothing is known of stable storage yet");
    let stage = driver.slab.get(key).map(|found| found.stage);
    assert_eq!(stage, Some(Stage::SyncAgain { written: FULL }));
    driver.poll(Wait::Forever, &mut completions).expect("polls");
    assert_eq!(result(completions), Ok(4_096));
}

#[test]
fn a_full_queue_takes_a_chain_whole_or_not_at_all() {
    let Some(mut driver) = driver(Commit::Link) else { return };
    let room = driver.ring.params().sq_entries() as usize;
    let file = crate::File::from(std::os::fd::OwnedFd::from(
        tempfile::tempfile().expect("a temporary file"),
    ));
    driver.submit(1, crate::Op::Sync { file: file.clone() });
    for index in 0..room {
        let buffer = Buffer::copy_of(&[1; 64]);
        let offset = index as u64 * 64;
        let file = file.clone();
        driver.submit(2, crate::Op::Write { file, offset, buffer, durable: true });
    }
    assert_eq!(driver.ring.submission().len(), room - 1, "one place left, and two needed");
    let mut completions = Vec::new();
    while driver.in_flight > 0 {
        driver.poll(Wait::Forever, &mut completions).expect("polls");
    }
    assert_eq!(completions.len(), room + 1);
    assert!(completions.iter().all(|completion| completion.result.is_ok()));
}

#[test]
fn a_kernel_without_the_flag_is_asked_in_another_way_for_good() {
    let Some(mut driver) = driver(Commit::Dsync) else { return };
    let key = under_way(&mut driver, Stage::Single);
    let mut completions = Vec::new();
    driver.advance(key, -libc::EOPNOTSUPP, &mut completions);
    assert!(completions.is_empty());
    driver.poll(Wait::Forever, &mut completions).expect("polls");
    assert_eq!(result(completions), Ok(4_096));
    assert_eq!(driver.commit, Commit::Link);
    driver.set_commit(Commit::Dsync);
    assert_eq!(driver.commits(), [Commit::Link, Commit::Blocking]);
    assert_eq!(driver.commit, Commit::Link, "not asked again");
}

#[test]
fn the_sync_of_a_chain_waits_for_its_write() {
    let Some(mut driver) = driver(Commit::Link) else { return };
    // Nothing can be written there, and syncing it would succeed.
    let readable = std::fs::File::open("/proc/self/exe").expect("opens");
    let file = crate::File::from(std::os::fd::OwnedFd::from(readable));
    let buffer = Buffer::copy_of(&[1; 64]);
    driver.submit(5, crate::Op::Write { file, offset: 0, buffer, durable: true });
    driver.ring.submitter().submit_and_wait(2).expect("submits");
    let results: Vec<_> =
        driver.ring.completion().map(|result| (result.user_data(), result.result())).collect();
    let mut completions = Vec::new();
    for (key, result) in &results {
        driver.owed -= 1;
        driver.advance(*key, *result, &mut completions);
    }
    assert_eq!(result(completions), Err(libc::EBADF));
    for (key, result) in results {
        let is_sync = key & SYNC_PART != 0;
        assert_eq!(result, if is_sync { -libc::ECANCELED } else { -libc::EBADF });
    }
}
