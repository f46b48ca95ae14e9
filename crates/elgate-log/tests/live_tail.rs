//! A reader in another thread follows a real log on a real file system while it is written,
//! rolled and closed: every record once, in order.

mod support;

use elgate_io::{BackendChoice, DriverOptions, OsPlatform, Platform, Wait, open_driver};
use elgate_log::{LogOptions, LogReader, LogWriter, ReadBatch, ReadFrom, Source, open};
use elgate_types::{FlushMode, Lsn, WallTime};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use support::{SEGMENT_BYTES, payload, route};

const RECORDS: u64 = 3_000;

fn write(writer: &mut LogWriter, platform: Arc<dyn Platform>, flush_every: u64) {
    let mut driver =
        open_driver(BackendChoice::default(), &DriverOptions::default()).expect("a driver");
    let mut completions = Vec::new();
    let mut next = 1;
    while !(next > RECORDS && writer.is_idle()) {
        while next <= RECORDS {
            let bytes = (next * 37 % 9_000) as usize;
            match writer.append(&payload(next, bytes), Source::default(), platform.wall_time()) {
                Ok(lsn) => assert_eq!(lsn, Lsn(next)),
                Err(_) => break,
            }
            next += 1;
            if next % flush_every == 0 {
                writer.flush();
            }
            if next % 7 == 0 {
                break;
            }
        }
        if next > RECORDS {
            writer.close();
        }
        while let Some((token, op)) = writer.poll_op(driver.now()) {
            driver.submit(u64::from(token), op);
        }
        let wait = if next <= RECORDS { Wait::Never } else { Wait::Forever };
        if driver.in_flight() > 0 {
            driver.poll(wait, &mut completions).expect("polls");
        }
        for completion in completions.drain(..) {
            let token = u32::try_from(completion.token).expect("a writer's token");
            writer.handle(token, completion, driver.now());
        }
        while writer.poll_event().is_some() {}
    }
}

fn follow(dir: &Path) -> u64 {
    let mut reader =
        LogReader::open(Arc::new(OsPlatform::new()), dir, ReadFrom::Lsn(Lsn(1))).expect("opens");
    let mut next = 1;
    while next <= RECORDS {
        match reader.next_batch().expect("reads") {
            ReadBatch::CaughtUp => {
                reader.wait(Duration::from_millis(200));
            }
            ReadBatch::Gap { from, to, reason } => panic!("{from}..{to} {reason:?}"),
            ReadBatch::Records(batch) => {
                for record in &batch {
                    assert_eq!(record.lsn, Lsn(next));
                    let bytes = (next * 37 % 9_000) as usize;
                    assert_eq!(record.payload, payload(next, bytes), "record {next}");
                    assert!(record.time > WallTime(0));
                    next += 1;
                }
            }
        }
    }
    next - 1
}

fn follows(options: LogOptions) {
    let folder = tempfile::tempdir().expect("a folder");
    let dir = folder.path().join("orders");
    let platform: Arc<dyn Platform> = Arc::new(OsPlatform::new());
    let (mut writer, recovery) =
        open(platform.clone(), &dir, &route(), options.clone()).expect("opens");
    assert_eq!(recovery.next_lsn, Lsn(1));
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..2).map(|_| scope.spawn(|| follow(&dir))).collect();
        write(&mut writer, platform.clone(), 50);
        for reader in readers {
            assert_eq!(reader.join().expect("reads"), RECORDS);
        }
    });
    assert!(writer.stats().segments >= 3, "it rolled");
    drop(writer);
    assert_eq!(follow(&dir), RECORDS, "offline");
    let (writer, recovery) = open(platform, &dir, &route(), options).expect("opens again");
    assert_eq!((recovery.next_lsn, recovery.torn_bytes), (Lsn(RECORDS + 1), 0));
    drop(writer);
}

fn options(flush: FlushMode, direct: bool) -> LogOptions {
    LogOptions { segment_bytes: SEGMENT_BYTES, flush, direct, ..LogOptions::default() }
}

#[test]
fn durable_and_direct() {
    follows(options(FlushMode::Auto, true));
}

#[test]
fn durable_through_the_page_cache() {
    follows(options(FlushMode::Auto, false));
}

#[test]
fn flushed_by_hand() {
    follows(options(FlushMode::Manual, true));
}

#[test]
fn never_flushed() {
    follows(options(FlushMode::None, true));
}
