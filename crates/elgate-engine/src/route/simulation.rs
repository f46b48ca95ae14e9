//! One route, log and sink, in virtual time: cases that need a completion at one certain moment. The
//! whole engine under seeded faults and deaths is the matter of `elgate-sim`.

use super::{Acknowledgement, Incoming, Part, Route, Verdict};
use crate::config::RouteConfig;
use crate::open_route::{LogPlace, Surroundings};
use crate::shard::Address;
use crate::sink::Sink;
use crate::status::RouteState;
use elgate_io::sim::{SimDriver, SimWorld};
use elgate_io::{Completion, Driver, Op, Wait};
use elgate_log::SourceSpan;
use elgate_ring::LeftOver;
use elgate_types::{ErrorCode, Level, Lsn, RouteName};
use std::path::Path;
use std::time::Duration;

/// SplitMix64: the test's own decisions, apart from the world's.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        (mixed ^ (mixed >> 27)) % bound
    }
}

struct Run {
    world: SimWorld,
    dice: Dice,
    name: RouteName,
    config: RouteConfig,
    submitted: u64,
    /// First line and number of lines of each submission.
    submissions: Vec<(u64, u64)>,
    /// What the ring holds when the route is opened.
    left_over: LeftOver,
}

impl Run {
    fn new(seed: u64) -> Self {
        let config = r#"{ "sink": "file", "path": "out.log", "segment_bytes": 4194304 }"#;
        Self {
            world: SimWorld::new(seed),
            dice: Dice(seed),
            name: RouteName::new("r").expect("valid"),
            config: serde_json::from_str(config).expect("valid"),
            submitted: 0,
            submissions: Vec::new(),
            left_over: LeftOver::new(),
        }
    }

    fn surroundings(&self) -> Surroundings {
        Surroundings {
            platform: self.world.platform(),
            data_dir: "/data".into(),
            files_root: "/out".into(),
            stub: false,
            small_writes_in_flight: None,
        }
    }

    /// Opens the route, again if a fault got in the way.
    fn open(&self) -> Route {
        for _ in 0..50 {
            match self.surroundings().open(&self.name, &self.config, &self.left_over) {
                Ok(route) => return route,
                Err(_) => self.world.process_crash(),
            }
        }
        panic!("the route did not open in fifty attempts");
    }

    fn submit(&mut self, route: &mut Route, driver: &SimDriver, acks: &mut Vec<Acknowledgement>) {
        let count = 1 + self.dice.below(3);
        self.submissions.push((self.submitted, count));
        self.submitted += count;
        self.replay(route, driver, acks, self.submissions.len() - 1);
    }

    /// Hands the submission of this number over, perhaps not for the first time.
    fn replay(
        &self,
        route: &mut Route,
        driver: &SimDriver,
        acks: &mut Vec<Acknowledgement>,
        submission: usize,
    ) {
        let (first, count) = self.submissions[submission];
        let mut body = Vec::new();
        for number in first..first + count {
            let line = line(number);
            body.extend_from_slice(&(line.len() as u32).to_le_bytes());
            body.extend_from_slice(line.as_bytes());
        }
        let address = Address { shard: 0, intake: 0, ring_id: 1, position: first };
        let incoming = Incoming { address, op_id: first, record_count: count as u32, body: &body };
        route.accept(&incoming, driver.wall_time(), acks);
    }

    fn assert_file_holds_each_line_once(&self) {
        let bytes = self.world.file_bytes(Path::new("/out/out.log")).expect("the file");
        let expected: String = (0..self.submitted).map(|sent| line(sent) + "\n").collect();
        assert!(bytes == expected.as_bytes(), "{}", String::from_utf8_lossy(&bytes));
    }
}

/// Lets the world go on for a moment and hands the route what has completed, once `amend` has seen
/// it.
fn turn_over(
    route: &mut Route,
    driver: &mut SimDriver,
    mut amend: impl FnMut(Part, u32, &mut Completion),
) {
    let mut completions = Vec::new();
    let soon = driver.now().after(Duration::from_millis(5));
    driver.poll(Wait::Until(soon), &mut completions).expect("the simulated driver works");
    for mut completion in completions {
        let (part, token) = parse(completion.token);
        amend(part, token, &mut completion);
        route.handle(part, token, completion, driver.now(), driver.wall_time());
    }
}

/// Lines of many lengths, each naming its number.
fn line(number: u64) -> String {
    format!("{number} {}", "x".repeat((number * 37 % 900) as usize))
}

fn number(part: Part, token: u32) -> u64 {
    (part as u64) << 32 | u64::from(token)
}

fn parse(number: u64) -> (Part, u32) {
    let part = match number >> 32 {
        0 => Part::Log,
        1 => Part::Feed,
        _ => Part::Sink,
    };
    (part, number as u32)
}

/// A failed write is waited out for a second; a sync that began before it may take longer.
#[test]
fn a_sync_that_outlasts_the_pause_after_a_failed_write_loses_nothing() {
    let mut run = Run::new(7);
    let mut route = run.open();
    let mut driver = run.world.driver();
    let mut acks = Vec::new();
    let (mut slow_sync, mut slow_cut, mut failed) = (None, None, false);
    for turn in 0..3_000 {
        if turn == 0 || (slow_sync.is_some() && !failed) {
            run.submit(&mut route, &driver, &mut acks);
        }
        // By then the device moves again: the sync ends, then what was begun after it.
        let released = match turn {
            1_000 => slow_sync.take(),
            1_100 => slow_cut.take(),
            _ => None,
        };
        if let Some((token, op)) = released {
            driver.submit(token, op);
        }
        let mut refused = Vec::new();
        route.pump(
            driver.now(),
            driver.wall_time(),
            &mut |part, token, op| match op {
                Op::Sync { .. } if part == Part::Sink && slow_sync.is_none() && !failed => {
                    slow_sync = Some((number(part, token), op));
                }
                Op::Write { buffer, .. }
                    if part == Part::Sink && slow_sync.is_some() && !failed && token == 1 =>
                {
                    failed = true;
                    let error = std::io::Error::from(std::io::ErrorKind::StorageFull);
                    let buffer = Some(buffer);
                    refused.push(Completion { token: 0, result: Err(error), buffer });
                }
                Op::Blocking(_) if part == Part::Sink && turn < 1_100 => {
                    slow_cut = Some((number(part, token), op));
                }
                op => driver.submit(number(part, token), op),
            },
            &mut acks,
        );
        for completion in refused {
            route.handle(Part::Sink, 1, completion, driver.now(), driver.wall_time());
        }
        turn_over(&mut route, &mut driver, |_, _, _| ());
    }
    assert!(failed && route.is_drained(), "{:?}", route.status());
    run.assert_file_holds_each_line_once();
}

/// While nothing else is to be written to the file, only the next save can tell that all is well.
#[test]
fn a_file_sink_goes_on_once_its_cursor_can_be_saved() {
    const CURSOR: u32 = 3;
    let mut run = Run::new(7);
    let mut route = run.open();
    let mut driver = run.world.driver();
    let mut acks = Vec::new();
    run.submit(&mut route, &driver, &mut acks);
    let mut failed = false;
    for _ in 0..1_000 {
        let mut refused = None;
        route.pump(
            driver.now(),
            driver.wall_time(),
            &mut |part, token, op| match op {
                Op::Write { buffer, .. } if part == Part::Sink && token == CURSOR && !failed => {
                    failed = true;
                    refused = Some(buffer);
                }
                op => driver.submit(number(part, token), op),
            },
            &mut acks,
        );
        if let Some(buffer) = refused {
            let error = std::io::Error::from(std::io::ErrorKind::StorageFull);
            let completion = Completion { token: 0, result: Err(error), buffer: Some(buffer) };
            route.handle(Part::Sink, CURSOR, completion, driver.now(), driver.wall_time());
            run.submit(&mut route, &driver, &mut acks);
        }
        turn_over(&mut route, &mut driver, |_, _, _| ());
    }
    assert!(failed && route.is_drained(), "{:?}", route.status());
}

#[test]
fn a_retiring_sink_is_not_held_up_by_a_cursor_that_cannot_be_saved() {
    let run = Run::new(7);
    run.open();
    let config = r#"{ "sink": "http", "url": "http://far.test/", "segment_bytes": 4194304 }"#;
    let config: RouteConfig = serde_json::from_str(config).expect("valid");
    let place = LogPlace { first: Lsn(1), durable: Lsn(9), taken: Lsn(9) };
    let opened = run.surroundings().open_sink(&run.name, &config, place);
    let mut sink = opened.expect("the sink opens");
    let driver = run.world.driver();
    let now = driver.now();
    sink.skip(Lsn(5));
    sink.retire(now);
    let fail = |sink: &mut Sink, now| {
        let Some((token, Op::Write { buffer, .. })) = sink.poll_op(now) else { return false };
        let result = Err(std::io::Error::from(std::io::ErrorKind::StorageFull));
        let completion = Completion { token: 0, result, buffer: Some(buffer) };
        sink.handle(token, completion, now, driver.wall_time());
        true
    };
    assert!(fail(&mut sink, now), "the cursor is saved");
    assert!(!fail(&mut sink, now), "and not again at once");
    assert!(sink.is_idle(), "nobody waits for it");
    assert!(fail(&mut sink, now.after(Duration::from_secs(2))), "but it is tried again");
}

/// A write may stop within a record. What the cursor then says of the file is where the last whole
/// one ends: else, after a crash, the rest of it would be taken for somebody else's.
#[test]
fn a_cursor_never_counts_part_of_a_record() {
    let is_write = |part, token| part == Part::Sink && token == 1;
    let mut run = Run::new(3);
    let mut route = run.open();
    let mut driver = run.world.driver();
    let mut acks = Vec::new();
    let (mut writes, mut full_bytes, mut rest_is_held) = (0, None, false);
    for turn in 0..200 {
        if turn == 0 || (writes == 1 && run.submitted < 4) {
            run.submit(&mut route, &driver, &mut acks);
        }
        route.pump(
            driver.now(),
            driver.wall_time(),
            &mut |part, token, op| match op {
                Op::Write { .. } if is_write(part, token) && writes == 0 => {
                    writes = 1;
                    driver.submit(number(part, token), op);
                }
                Op::Write { file, offset, mut buffer, durable }
                    if is_write(part, token) && full_bytes.is_none() =>
                {
                    full_bytes = Some(buffer.len());
                    buffer.set_length(buffer.len() - 5);
                    let op = Op::Write { file, offset, buffer, durable };
                    driver.submit(number(part, token), op);
                }
                // The device takes its time with the rest.
                Op::Write { .. } if is_write(part, token) => rest_is_held = true,
                op => driver.submit(number(part, token), op),
            },
            &mut acks,
        );
        turn_over(&mut route, &mut driver, |part, token, completion| {
            if is_write(part, token)
                && let (Some(bytes), Some(buffer)) = (full_bytes, &mut completion.buffer)
            {
                buffer.set_length(bytes);
            }
        });
    }
    assert!(rest_is_held, "a write came up short, and was gone on with");
    drop((route, driver));
    run.world.process_crash();

    let mut route = run.open();
    let mut driver = run.world.driver();
    for _ in 0..200 {
        let now = driver.now();
        let wall = driver.wall_time();
        let mut submit = |part, token, op| driver.submit(number(part, token), op);
        route.pump(now, wall, &mut submit, &mut acks);
        turn_over(&mut route, &mut driver, |_, _, _| ());
    }
    assert!(route.is_drained(), "{:?}", route.status());
    run.assert_file_holds_each_line_once();
}

/// In flush mode `none` a sink is given what is only written, and a failed sync has that written
/// again: meanwhile another sink could not compare what its file holds.
#[test]
fn a_route_is_unsettled_while_its_log_writes_again_what_was_delivered() {
    let mut run = Run::new(7);
    run.config.flush = elgate_types::FlushMode::None;
    let mut route = run.open();
    let mut driver = run.world.driver();
    let mut acks = Vec::new();
    run.submit(&mut route, &driver, &mut acks);
    let (mut fails, mut is_held, mut held) = (false, false, Vec::new());
    for turn in 0..1_000 {
        if turn == 500 {
            assert!(route.is_drained() && route.is_settled(), "{:?}", route.status());
            let (done, _) = std::sync::mpsc::sync_channel(1);
            route.flush(done);
            fails = true;
        }
        route.pump(
            driver.now(),
            driver.wall_time(),
            &mut |part, token, op| match op {
                Op::Write { .. } if part == Part::Log && is_held => held.push((token, op)),
                op => driver.submit(number(part, token), op),
            },
            &mut acks,
        );
        turn_over(&mut route, &mut driver, |part, _, completion| {
            if part == Part::Log && fails && !is_held {
                (fails, is_held) = (false, true);
                completion.result = Err(std::io::Error::from_raw_os_error(5));
            }
        });
    }
    assert!(is_held && !route.is_settled(), "{:?}", route.status());
    for (token, op) in held.drain(..) {
        driver.submit(number(Part::Log, token), op);
    }
    for _ in 0..500 {
        let (now, wall) = (driver.now(), driver.wall_time());
        let mut submit = |part, token, op| driver.submit(number(part, token), op);
        route.pump(now, wall, &mut submit, &mut acks);
        turn_over(&mut route, &mut driver, |_, _, _| ());
    }
    assert!(route.is_settled(), "{:?}", route.status());
}

/// What a ring still holds is handed over again by whoever takes the ring on. That it is in the log
/// already is known by the log alone, so retention leaves it there.
#[test]
fn retention_leaves_what_a_ring_may_hand_over_again() {
    const SUBMISSIONS: usize = 1_100;
    const ON_THE_RING: usize = 200;
    let mut run = Run::new(5);
    run.config.retain.max_bytes = Some(4 << 20);
    let mut driver = run.world.driver();
    let mut acks = Vec::new();
    let turn = |route: &mut Route, driver: &mut SimDriver, acks: &mut Vec<Acknowledgement>| {
        let (now, wall) = (driver.now(), driver.wall_time());
        route.pump(now, wall, &mut |part, id, op| driver.submit(number(part, id), op), acks);
        turn_over(route, driver, |_, _, _| ());
    };
    let mut route = run.open();
    for submission in 1..=SUBMISSIONS {
        run.submit(&mut route, &driver, &mut acks);
        while acks.len() < submission {
            turn(&mut route, &mut driver, &mut acks);
        }
    }
    drop((route, driver));
    run.world.process_crash();
    let (lowest, _) = run.submissions[SUBMISSIONS - ON_THE_RING];
    run.left_over.insert(run.name.to_string(), [(1, lowest)].into());

    // One that dies before all routes are open, and so before it looks at any ring.
    let mut route = run.open();
    let mut driver = run.world.driver();
    for _ in 0..400 {
        turn(&mut route, &mut driver, &mut acks);
    }
    drop((route, driver));
    run.world.process_crash();

    let mut route = run.open();
    let mut driver = run.world.driver();
    for submission in SUBMISSIONS - ON_THE_RING..SUBMISSIONS {
        run.replay(&mut route, &driver, &mut acks, submission);
    }
    for _ in 0..400 {
        turn(&mut route, &mut driver, &mut acks);
    }
    assert!(route.is_drained(), "{:?}", route.status());
    let bytes = run.world.file_bytes(Path::new("/out/out.log")).expect("the file");
    let lines = bytes.iter().filter(|byte| **byte == b'\n').count() as u64;
    assert_eq!(lines, run.submitted, "lines in the file, of those submitted");
    run.assert_file_holds_each_line_once();
}

#[test]
fn a_submission_that_was_passed_over_is_not_logged_behind_later_ones() {
    let mut run = Run::new(1);
    let mut route = run.open();
    let driver = run.world.driver();
    let mut acks = Vec::new();
    run.submissions = vec![(0, 1), (1, 1), (2, 1)];
    let span = SourceSpan { ring_id: 1, position: 1, first_lsn: Lsn(1), record_count: 1 };
    route.replayed.insert((1, 1), span);
    route.logged_to.insert(1, 1);
    for submission in 0..3 {
        run.replay(&mut route, &driver, &mut acks, submission);
    }
    assert_eq!(route.log.next_lsn(), Lsn(2), "the last one alone is appended");
    let code = |ack: &Acknowledgement| match ack.verdict {
        Verdict::Finished(completion) => completion.status,
        Verdict::SetAside => None,
    };
    assert_eq!(acks.iter().map(code).collect::<Vec<_>>(), [Some(ErrorCode::Timeout), None]);
}

#[test]
fn a_submission_logged_in_part_before_is_acknowledged_with_its_last_record() {
    let mut run = Run::new(1);
    let mut route = run.open();
    let driver = run.world.driver();
    let mut acks = Vec::new();
    let lines = |run: &mut Run, count| {
        run.submissions.push((run.submitted, count));
        run.submitted += count;
        run.submissions.len() - 1
    };
    // The first of its three records is in the log; another ring's come before the rest.
    let begun = lines(&mut run, 3);
    let first = SourceSpan { ring_id: 1, position: 0, first_lsn: Lsn(1), record_count: 1 };
    let other = lines(&mut run, 2);
    run.replay(&mut route, &driver, &mut acks, other);
    route.replayed.insert((1, 0), first);
    run.replay(&mut route, &driver, &mut acks, begun);
    let last = Lsn(route.log.next_lsn().0 - 1);
    assert_eq!(last, Lsn(4), "two of the other, two that were missing");
    route.acknowledge_through(Lsn(3), Level::Durable, &mut acks);
    assert_eq!(acks.len(), 1, "the other");
    route.acknowledge_through(last, Level::Durable, &mut acks);
    assert_eq!(acks.len(), 2);
}

#[test]
fn a_route_that_stops_says_why_at_once() {
    let mut run = Run::new(1);
    let config = r#"{ "sink": "http", "url": "http://127.0.0.1:9/", "segment_bytes": 4194304,
        "retry": { "max_attempts": 1 } }"#;
    run.config = serde_json::from_str(config).expect("valid");
    let mut route = run.open();
    let mut driver = run.world.driver();
    let mut acks = Vec::new();
    run.submit(&mut route, &driver, &mut acks);
    for _ in 0..400 {
        let (now, wall) = (driver.now(), driver.wall_time());
        let submit = &mut |part, id, op| driver.submit(number(part, id), op);
        route.pump(now, wall, submit, &mut acks);
        turn_over(&mut route, &mut driver, |_, _, _| ());
        // Whoever asks now is answered before the route is pumped again.
        let status = route.status();
        if status.state == RouteState::Stopped {
            let said = status.last_error.expect("it says why").message;
            assert!(said.contains("resume the route"), "{said}");
            return;
        }
    }
    panic!("it never stopped: {:?}", route.status());
}
