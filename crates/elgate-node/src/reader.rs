//! `NativeReader`: tails a log, in any process.

use crate::error::coded;
use crate::task::{Blocking, blocking};
use elgate_io::{OsPlatform, Platform};
use elgate_log::{Cursor, LogReader, ReadBatch, ReadFrom};
use elgate_types::{ErrorCode, Lsn, WallTime};
use napi::Result;
use napi::bindgen_prelude::{AsyncTask, Float64Array, Uint8Array};
use napi_derive::napi;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

/// Tails a log.
#[napi]
pub struct NativeReader {
    /// Apart from the cursor, so that a commit never waits for a read that waits for records.
    reader: Arc<Mutex<Option<LogReader>>>,
    cursor: Arc<Mutex<Option<Cursor>>>,
}

/// Some records: `data` holds their payloads, `index` four numbers for each (LSN, time in
/// microseconds, offset, length), `gaps` what could not be read, as JSON.
#[napi(object)]
pub struct NativeRecords {
    pub data: Uint8Array,
    pub index: Float64Array,
    pub gaps: String,
    pub caught_up: bool,
}

/// What the pool produces; turned into typed arrays on the JavaScript thread.
#[derive(Default)]
struct Records {
    data: Vec<u8>,
    index: Vec<f64>,
    gaps: Vec<serde_json::Value>,
    caught_up: bool,
}

#[napi]
impl NativeReader {
    /// Opens the log in a directory. `from` is `start`, `end`, an LSN, or `time:` and
    /// microseconds since the Unix epoch. With a reader's name its saved cursor comes first.
    #[napi(ts_return_type = "Promise<NativeReader>")]
    pub fn open(
        directory: String,
        from: String,
        reader: Option<String>,
    ) -> AsyncTask<Blocking<NativeReader>> {
        blocking(move || {
            let platform: Arc<dyn Platform> = Arc::new(OsPlatform::new());
            let directory = PathBuf::from(directory);
            let mut from = parse_from(&from)?;
            let cursor = match reader {
                Some(name) => {
                    let cursor = Cursor::open(&*platform, &directory, &format!("reader.{name}"))
                        .map_err(|error| coded(error.code(), error))?;
                    if cursor.lsn() > Lsn::ZERO {
                        from = ReadFrom::Lsn(cursor.lsn().next());
                    } else if cursor.lost().is_some() {
                        from = ReadFrom::Start;
                    }
                    Some(cursor)
                }
                None => None,
            };
            let reader = LogReader::open(platform, &directory, from)
                .map_err(|error| coded(error.code(), error))?;
            Ok(Self {
                reader: Arc::new(Mutex::new(Some(reader))),
                cursor: Arc::new(Mutex::new(cursor)),
            })
        })
    }

    /// Reads up to about `max_bytes` of payload, waiting so long for a first record.
    #[napi(ts_return_type = "Promise<NativeRecords>")]
    pub fn read(&self, max_bytes: u32, wait_ms: u32) -> AsyncTask<Blocking<NativeRecords>> {
        let reader = Arc::clone(&self.reader);
        blocking(move || {
            let mut guard = lock(&reader);
            let reader = guard.as_mut().ok_or_else(closed)?;
            let wait = Duration::from_millis(wait_ms.into());
            let records = read(reader, max_bytes as usize, wait)?;
            let gaps = serde_json::Value::Array(records.gaps).to_string();
            Ok(NativeRecords {
                data: records.data.into(),
                index: records.index.into(),
                gaps,
                caught_up: records.caught_up,
            })
        })
    }

    /// Saves that this reader has finished with everything up to `lsn`.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn commit(&self, lsn: f64) -> AsyncTask<Blocking<()>> {
        let cursor = Arc::clone(&self.cursor);
        blocking(move || {
            let mut guard = lock(&cursor);
            let Some(cursor) = &mut *guard else {
                return Err(coded(
                    ErrorCode::Usage,
                    "only an open, named reader can commit: pass { reader: \"name\" } to tail(), \
                     and commit before leaving its loop",
                ));
            };
            cursor
                .save_blocking(&OsPlatform::new(), Lsn(lsn as u64), [0; 4], false)
                .map_err(|error| coded(error.code(), error))
        })
    }

    /// How far this reader has committed; 0 without a name or a commit.
    #[napi]
    pub fn committed(&self) -> f64 {
        lock(&self.cursor).as_ref().map_or(0.0, |cursor| cursor.lsn().0 as f64)
    }

    /// What became of this reader's saved position, if it could not be read.
    #[napi]
    pub fn lost(&self) -> Option<String> {
        lock(&self.cursor).as_ref().and_then(Cursor::lost)
    }

    /// Closes the log, and gives the reader's name free. A read or commit under way ends first.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn close(&self) -> AsyncTask<Blocking<()>> {
        let (reader, cursor) = (Arc::clone(&self.reader), Arc::clone(&self.cursor));
        blocking(move || {
            *lock(&reader) = None;
            *lock(&cursor) = None;
            Ok(())
        })
    }
}

fn lock<T>(shared: &Mutex<T>) -> MutexGuard<'_, T> {
    shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
}

fn closed() -> napi::Error {
    coded(ErrorCode::Closed, "the reader was closed")
}

fn parse_from(from: &str) -> Result<ReadFrom> {
    let wrong = || {
        coded(
            ErrorCode::Usage,
            format!("cannot read from {from:?}: use start, end, an LSN or a time"),
        )
    };
    match from {
        "start" => Ok(ReadFrom::Start),
        "end" => Ok(ReadFrom::End),
        _ => match from.strip_prefix("time:") {
            Some(time) => time.parse().map(|us| ReadFrom::Time(WallTime(us))).map_err(|_| wrong()),
            None => from.parse().map(|lsn| ReadFrom::Lsn(Lsn(lsn))).map_err(|_| wrong()),
        },
    }
}

fn read(reader: &mut LogReader, max_bytes: usize, wait: Duration) -> Result<Records> {
    let mut records = Records::default();
    let mut waited = false;
    while records.data.len() < max_bytes {
        match reader.next_batch().map_err(|error| coded(error.code(), error))? {
            ReadBatch::Records(batch) => {
                for record in batch.records() {
                    records.index.extend([
                        record.lsn.0 as f64,
                        record.time.0 as f64,
                        records.data.len() as f64,
                        record.payload.len() as f64,
                    ]);
                    records.data.extend_from_slice(record.payload);
                }
            }
            ReadBatch::Gap { from, to, reason } => records.gaps.push(serde_json::json!({
                "from": from.0, "to": to.0, "reason": reason.to_string(),
            })),
            ReadBatch::CaughtUp => {
                let nothing = records.index.is_empty() && records.gaps.is_empty();
                if !nothing || waited || wait.is_zero() {
                    records.caught_up = true;
                    break;
                }
                waited = true;
                reader.wait(wait);
            }
        }
    }
    Ok(records)
}
