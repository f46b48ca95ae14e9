//! Sinks: readers of a log that carry its records to a far end.
//!
//! | file | what |
//! |---|---|
//! | `file.rs` | appends records to a file |
//! | `file_tail.rs` | finds, after a crash, which records the file already holds |
//! | `file_mend.rs` | sets aside and cuts off what else is at its end |
//! | `http.rs` | POSTs records to an endpoint |
//! | `keep.rs` | leaves records in the log |
//! | `cursor_saver.rs` | saves how far a sink has come |
//!
//! A sink is sans-I/O: it is offered records, returns operations, and is handed completions.

mod cursor_saver;
mod file;
mod file_mend;
mod file_tail;
mod http;
mod keep;

pub(crate) use cursor_saver::CursorSaver;
pub(crate) use file::{FileSink, FileTarget};
pub(crate) use file_tail::{FilePosition, FileTail, Remembered};
pub(crate) use http::{HttpSink, HttpSinkOptions};
pub(crate) use keep::KeepSink;

use crate::feed::Feed;
use elgate_io::{Completion, Op};
use elgate_types::{ErrorCode, Lsn, Monotonic, WallTime};

/// A sink of any kind.
pub(crate) enum Sink {
    File(Box<FileSink>),
    Http(Box<HttpSink>),
    Keep(KeepSink),
}

/// What a sink has been through.
#[derive(Debug, Clone, Default)]
pub(crate) struct SinkStats {
    pub(crate) delivered_records: u64,
    pub(crate) delivered_bytes: u64,
    pub(crate) retries: u64,
    pub(crate) refused: u64,
}

/// Trouble worth telling the operator.
#[derive(Debug, Clone)]
pub(crate) struct Trouble {
    pub(crate) code: ErrorCode,
    pub(crate) message: String,
}

macro_rules! each_kind {
    ($sink:expr, $inner:ident => $call:expr) => {
        match $sink {
            Sink::File($inner) => $call,
            Sink::Http($inner) => $call,
            Sink::Keep($inner) => $call,
        }
    };
}

impl Sink {
    /// The first record it has not been given yet.
    pub(crate) fn next(&self) -> Lsn {
        each_kind!(self, sink => sink.next())
    }

    /// Whether it would take a record now.
    pub(crate) fn wants(&self) -> bool {
        each_kind!(self, sink => sink.wants())
    }

    /// Takes what it can of the batch at hand.
    pub(crate) fn offer(&mut self, feed: &Feed, now: Monotonic) {
        each_kind!(self, sink => sink.offer(feed, now));
    }

    /// The records up to `through` can never be delivered: goes on after them.
    pub(crate) fn skip(&mut self, through: Lsn) {
        each_kind!(self, sink => sink.skip(through));
    }

    /// The log is durable through `through`.
    pub(crate) fn advance(&mut self, through: Lsn) {
        if let Self::Keep(sink) = self {
            sink.advance(through);
        }
    }

    /// The next operation to carry out.
    pub(crate) fn poll_op(&mut self, now: Monotonic) -> Option<(u32, Op)> {
        each_kind!(self, sink => sink.poll_op(now))
    }

    /// The next operation to cancel.
    pub(crate) fn poll_cancel(&mut self) -> Option<u32> {
        match self {
            Self::Http(sink) => sink.poll_cancel(),
            Self::File(_) | Self::Keep(_) => None,
        }
    }

    /// Takes the completion of an operation.
    pub(crate) fn handle(
        &mut self,
        token: u32,
        completion: Completion,
        now: Monotonic,
        wall: WallTime,
    ) {
        match self {
            Self::File(sink) => sink.handle(token, completion, now),
            Self::Http(sink) => sink.handle(token, completion, now, wall),
            Self::Keep(_) => {}
        }
    }

    /// Everything up to this record has reached the far end.
    pub(crate) fn delivered(&self) -> Lsn {
        each_kind!(self, sink => sink.delivered())
    }

    /// When it wants to be polled again, completions aside.
    pub(crate) fn next_wakeup(&self) -> Option<Monotonic> {
        each_kind!(self, sink => sink.next_wakeup())
    }

    /// Takes no more records; finishes what is under way and saves its cursor.
    pub(crate) fn retire(&mut self, now: Monotonic) {
        each_kind!(self, sink => sink.retire(now));
    }

    /// Whether nothing is under way and the cursor is saved.
    pub(crate) fn is_idle(&self) -> bool {
        each_kind!(self, sink => sink.is_idle())
    }

    /// Resumes after having stopped for good reason (attempts exhausted).
    pub(crate) fn resume(&mut self, now: Monotonic) {
        if let Self::Http(sink) = self {
            sink.resume(now);
        }
    }

    /// Whether it has given up until somebody resumes it.
    pub(crate) fn has_stopped(&self) -> bool {
        matches!(self, Self::Http(sink) if sink.has_stopped())
    }

    /// Whether its last attempt failed and it is trying again.
    pub(crate) fn is_retrying(&self) -> bool {
        each_kind!(self, sink => sink.is_retrying())
    }

    /// Tells the operator what was found when it was opened.
    pub(crate) fn warn(&mut self, finding: Trouble) {
        match self {
            Self::File(sink) => sink.warn(finding),
            Self::Http(sink) => sink.warn(finding),
            Self::Keep(_) => {}
        }
    }

    /// Trouble since the last call.
    pub(crate) fn take_trouble(&mut self) -> Option<Trouble> {
        each_kind!(self, sink => sink.take_trouble())
    }

    pub(crate) fn stats(&self) -> SinkStats {
        each_kind!(self, sink => sink.stats())
    }

    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::File(_) => "file",
            Self::Http(_) => "http",
            Self::Keep(_) => "none",
        }
    }
}
