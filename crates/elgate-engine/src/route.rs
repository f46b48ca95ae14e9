//! A route as its shard sees it: a log, what it still owes acknowledgements for, and a sink.
//!
//! In: submissions, completions, time. Out: operations, and acknowledgements to post.

use crate::config::RouteConfig;
use crate::feed::{Feed, FeedEvent};
use crate::shard::Address;
use crate::sink::Sink;
use crate::status::{LastError, RouteState, RouteStatus};
use elgate_io::{Completion, Op};
use elgate_log::{
    AppendError, LogEvent, LogStats, LogWriter, Source, SourceSpan, WRITE_TIME_BOUNDS_US,
};
use elgate_ring::Submission;
use elgate_types::{ErrorCode, FlushMode, Level, Lsn, Monotonic, RouteName, WallTime, kill_site};
use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::SyncSender;

/// Which part of a route an operation belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Log,
    Feed,
    Sink,
}

/// A submission that is in the log but not yet acknowledged.
struct Unacknowledged {
    address: Address,
    op_id: u64,
    first_lsn: Lsn,
    last_lsn: Lsn,
    record_count: u32,
}

/// A submission the log had no room for. Its slot stays taken, so the ring bounds how many exist.
struct Held {
    address: Address,
    op_id: u64,
    record_count: u32,
    progress: Progress,
    /// The records, each behind its length (u32, little-endian).
    body: Box<[u8]>,
}

/// How far a submission has got into the log.
#[derive(Debug, Clone, Copy, Default)]
struct Progress {
    appended: u32,
    first_lsn: Option<Lsn>,
}

/// A submission on its way into a route.
pub(crate) struct Incoming<'a> {
    pub(crate) address: Address,
    pub(crate) op_id: u64,
    pub(crate) record_count: u32,
    /// The records, each behind its length (u32, little-endian).
    pub(crate) body: &'a [u8],
}

impl<'a> Incoming<'a> {
    pub(crate) fn from(address: Address, submission: &Submission<'a>) -> Self {
        Self {
            address,
            op_id: submission.op_id,
            record_count: submission.record_count,
            body: submission.body(),
        }
    }

    /// The acknowledgement of a submission that was not taken.
    pub(crate) fn refused(&self, code: ErrorCode) -> Acknowledgement {
        let mut refused =
            acknowledge(self.address, self.op_id, Lsn::ZERO, self.record_count, Level::Accepted);
        refused.completion.status = Some(code);
        refused
    }
}

/// An acknowledgement for the ring that a submission came from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Acknowledgement {
    pub(crate) address: Address,
    pub(crate) completion: elgate_ring::Completion,
}

/// See the module text.
pub(crate) struct Route {
    pub(crate) name: RouteName,
    pub(crate) config: RouteConfig,
    log: LogWriter,
    feed: Feed,
    sink: Option<Sink>,
    /// What the sink had delivered when it was last asked.
    delivered: Lsn,
    paused: bool,
    unacknowledged: VecDeque<Unacknowledged>,
    held: VecDeque<Held>,
    /// Submissions found in the log at start-up, by ring and position.
    replayed: HashMap<(u64, u64), SourceSpan>,
    flush_waiters: Vec<(Lsn, SyncSender<()>)>,
    parked: Option<String>,
    lost_records: u64,
    appended_records: u64,
    appended_bytes: u64,
    last_error: Option<LastError>,
    pub(crate) dirty: bool,
}

impl Route {
    pub(crate) fn new(
        name: RouteName,
        config: RouteConfig,
        log: LogWriter,
        feed: Feed,
        sink: Sink,
        sources: Vec<SourceSpan>,
    ) -> Self {
        let replayed =
            sources.into_iter().map(|span| ((span.ring_id, span.position), span)).collect();
        Self {
            paused: config.paused,
            name,
            config,
            log,
            feed,
            delivered: sink.delivered(),
            sink: Some(sink),
            unacknowledged: VecDeque::new(),
            held: VecDeque::new(),
            replayed,
            flush_waiters: Vec::new(),
            parked: None,
            lost_records: 0,
            appended_records: 0,
            appended_bytes: 0,
            last_error: None,
            dirty: true,
        }
    }

    /// Takes a submission. Its acknowledgement follows through `acknowledgements`, perhaps at
    /// once.
    pub(crate) fn accept(
        &mut self,
        incoming: &Incoming<'_>,
        wall: WallTime,
        acknowledgements: &mut Vec<Acknowledgement>,
    ) {
        self.dirty = true;
        let &Incoming { address, op_id, record_count, .. } = incoming;
        let mut progress = Progress::default();
        if !self.replayed.is_empty()
            && let Some(span) = self.replayed.remove(&(address.ring_id, address.position))
        {
            if span.record_count >= record_count {
                let level = self.reached();
                let done = acknowledge(address, op_id, span.first_lsn, record_count, level);
                acknowledgements.push(done);
                return;
            }
            progress = Progress { appended: span.record_count, first_lsn: Some(span.first_lsn) };
        }
        let complete = self.held.is_empty()
            && match self.append(address, incoming.body, &mut progress, wall) {
                Ok(()) => true,
                Err(AppendError::TooLarge { .. }) => {
                    // The ring has the same limit, so an honest producer never gets here.
                    acknowledgements.push(incoming.refused(ErrorCode::PayloadTooLarge));
                    return;
                }
                Err(_) => false,
            };
        if !complete {
            let body = incoming.body.into();
            self.held.push_back(Held { address, op_id, record_count, progress, body });
        } else if let Some(first_lsn) = progress.first_lsn {
            self.expect_durable(address, op_id, first_lsn, record_count);
        }
    }

    /// Appends a submission's records, going on from where an earlier attempt stopped.
    fn append(
        &mut self,
        address: Address,
        body: &[u8],
        progress: &mut Progress,
        wall: WallTime,
    ) -> Result<(), AppendError> {
        let source = Source { ring_id: address.ring_id, position: address.position };
        for payload in elgate_ring::records(body).skip(progress.appended as usize) {
            let lsn = self.log.append(payload, source, wall)?;
            progress.first_lsn.get_or_insert(lsn);
            progress.appended += 1;
            self.appended_records += 1;
            self.appended_bytes += payload.len() as u64;
        }
        Ok(())
    }

    fn expect_durable(&mut self, address: Address, op_id: u64, first_lsn: Lsn, record_count: u32) {
        let last_lsn = Lsn(first_lsn.0 + u64::from(record_count) - 1);
        self.unacknowledged.push_back(Unacknowledged {
            address,
            op_id,
            first_lsn,
            last_lsn,
            record_count,
        });
    }

    /// Appends what was held, as far as the log has room again.
    fn append_held(&mut self, wall: WallTime) {
        while let Some(mut held) = self.held.pop_front() {
            if self.append(held.address, &held.body, &mut held.progress, wall).is_err() {
                self.held.push_front(held);
                return;
            }
            if let Some(first_lsn) = held.progress.first_lsn {
                self.expect_durable(held.address, held.op_id, first_lsn, held.record_count);
            }
        }
    }

    /// Gives up the slots this route holds because its log is parked, so that the ring does not
    /// fill up for the others. What had not been appended is refused; of the rest the outcome is
    /// unknown, since the log may still write it when its device returns.
    pub(crate) fn shed(&mut self, acknowledgements: &mut Vec<Acknowledgement>) {
        if self.parked.is_none() {
            return;
        }
        for entry in self.unacknowledged.drain(..) {
            let Unacknowledged { address, op_id, first_lsn, record_count, .. } = entry;
            let mut unknown = acknowledge(address, op_id, first_lsn, record_count, Level::Accepted);
            unknown.completion.status = Some(ErrorCode::Timeout);
            acknowledgements.push(unknown);
        }
        for held in self.held.drain(..) {
            let first_lsn = held.progress.first_lsn.unwrap_or(Lsn::ZERO);
            let code = match held.progress.appended {
                0 => ErrorCode::LogUnavailable,
                _ => ErrorCode::Timeout,
            };
            let mut refused = acknowledge(
                held.address,
                held.op_id,
                first_lsn,
                held.record_count,
                Level::Accepted,
            );
            refused.completion.status = Some(code);
            acknowledgements.push(refused);
        }
    }

    /// Runs everything that can run, handing operations to `submit`.
    pub(crate) fn pump(
        &mut self,
        now: Monotonic,
        wall: WallTime,
        submit: &mut dyn FnMut(Part, u32, Op),
        acknowledgements: &mut Vec<Acknowledgement>,
    ) {
        self.dirty = false;
        if !self.held.is_empty() {
            self.append_held(wall);
        }
        while let Some((token, op)) = self.log.poll_op(now) {
            submit(Part::Log, token, op);
        }
        self.take_log_events(wall, acknowledgements);
        self.pump_sink(now, wall, submit);
    }

    fn pump_sink(&mut self, now: Monotonic, wall: WallTime, submit: &mut dyn FnMut(Part, u32, Op)) {
        let Some(sink) = &mut self.sink else { return };
        if !self.paused {
            Self::feed_sink(sink, &self.feed, now);
            if sink.wants()
                && let Some(op) = self.feed.poll_op(&self.log, sink.next(), now)
            {
                submit(Part::Feed, 0, op);
            }
            Self::feed_sink(sink, &self.feed, now);
        }
        while let Some((token, op)) = sink.poll_op(now) {
            submit(Part::Sink, token, op);
        }
        self.delivered = sink.delivered();
        self.log.set_delivered(self.delivered);
        if let Some(trouble) = sink.take_trouble() {
            self.last_error =
                Some(LastError { at_us: wall.0, code: trouble.code, message: trouble.message });
        }
        // More is in memory and the sink has room for it: go on next turn, so that other routes
        // get theirs.
        self.dirty |= !self.paused
            && sink.wants()
            && (self.feed.holds(sink.next()) || self.log.cached(sink.next()).is_some());
        if sink.next() > self.log.durable() {
            self.feed.release();
        }
    }

    /// Offers the batch at hand until the sink has it all or wants no more.
    fn feed_sink(sink: &mut Sink, feed: &Feed, now: Monotonic) {
        while sink.wants() && feed.holds(sink.next()) {
            let before = sink.next();
            sink.offer(feed, now);
            if sink.next() == before {
                return;
            }
        }
    }

    /// Operations to cancel.
    pub(crate) fn poll_cancel(&mut self) -> Option<(Part, u32)> {
        self.sink.as_mut()?.poll_cancel().map(|token| (Part::Sink, token))
    }

    fn take_log_events(&mut self, wall: WallTime, acknowledgements: &mut Vec<Acknowledgement>) {
        while let Some(event) = self.log.poll_event() {
            match event {
                LogEvent::Durable { through } => {
                    kill_site::pass("log.durable.before_ack");
                    self.acknowledge_through(through, Level::Durable, acknowledgements);
                    if let Some(sink) = &mut self.sink {
                        sink.advance(through);
                    }
                    self.flush_waiters.retain(|(lsn, waiter)| {
                        let reached = *lsn <= through;
                        if reached {
                            // Nobody waits any more: fine.
                            let _ = waiter.try_send(());
                        }
                        !reached
                    });
                }
                LogEvent::Written { through } => {
                    self.acknowledge_through(through, Level::Accepted, acknowledgements);
                }
                LogEvent::Parked { error } => {
                    let message = format!(
                        "the log cannot be written: {error}. {}",
                        ErrorCode::LogUnavailable.row().advice
                    );
                    self.parked = Some(message.clone());
                    self.note(wall, ErrorCode::LogUnavailable, message);
                }
                LogEvent::Resumed => self.parked = None,
                LogEvent::Abandoned { segment, error } => {
                    let segment = segment.display();
                    let message = format!(
                        "segment {segment} failed ({error}) and was abandoned; nothing \
                         acknowledged is affected, the rest was written again elsewhere"
                    );
                    self.note(wall, ErrorCode::Io, message);
                }
                _ => {}
            }
        }
    }

    fn acknowledge_through(
        &mut self,
        through: Lsn,
        level: Level,
        acknowledgements: &mut Vec<Acknowledgement>,
    ) {
        while self.unacknowledged.front().is_some_and(|entry| entry.last_lsn <= through) {
            let Some(entry) = self.unacknowledged.pop_front() else { return };
            acknowledgements.push(acknowledge(
                entry.address,
                entry.op_id,
                entry.first_lsn,
                entry.record_count,
                level,
            ));
        }
    }

    /// Takes the completion of one of this route's operations.
    pub(crate) fn handle(
        &mut self,
        part: Part,
        token: u32,
        completion: Completion,
        now: Monotonic,
        wall: WallTime,
    ) {
        self.dirty = true;
        match part {
            Part::Log => self.log.handle(token, completion, now),
            Part::Feed => match self.feed.handle(completion, now) {
                Some(FeedEvent::Missing { from, to, reason }) => {
                    self.lost_records += to.0 - from.0 + 1;
                    if let Some(sink) = &mut self.sink {
                        sink.skip(to);
                    }
                    let message = format!(
                        "records {from} to {to} cannot be delivered: {reason}; damaged bytes are \
                         kept in the log's quarantine folder"
                    );
                    self.note(wall, ErrorCode::LogCorrupt, message);
                }
                Some(FeedEvent::Failed(error)) => {
                    let message = format!("reading the log failed: {error}; it is tried again");
                    self.note(wall, ErrorCode::Io, message);
                }
                None => {}
            },
            Part::Sink => {
                if let Some(sink) = &mut self.sink {
                    sink.handle(token, completion, now, wall);
                }
            }
        }
    }

    /// When this route wants to be pumped again, completions aside.
    pub(crate) fn next_wakeup(&self) -> Option<Monotonic> {
        let sink = self.sink.as_ref().and_then(Sink::next_wakeup);
        let feed = if self.paused { None } else { self.feed.next_wakeup() };
        [self.log.next_wakeup(), feed, sink].into_iter().flatten().min()
    }

    /// Asks for everything appended so far to be made durable.
    pub(crate) fn flush(&mut self, done: SyncSender<()>) {
        self.dirty = true;
        self.log.flush();
        let through = Lsn(self.log.next_lsn().0 - 1);
        if through <= self.log.durable() {
            // Nobody waits any more: fine.
            let _ = done.try_send(());
        } else {
            self.flush_waiters.push((through, done));
        }
    }

    pub(crate) fn pause(&mut self) {
        self.paused = true;
    }

    pub(crate) fn resume(&mut self, now: Monotonic) {
        self.dirty = true;
        self.paused = false;
        if let Some(sink) = &mut self.sink {
            sink.resume(now);
        }
    }

    /// Lets the sink finish what is under way; `take_retired_sink` yields it when it has.
    pub(crate) fn retire_sink(&mut self, now: Monotonic) {
        self.dirty = true;
        if let Some(sink) = &mut self.sink {
            sink.retire(now);
        }
    }

    /// Drops the retired sink once it is idle. `true` when there is no sink any more.
    pub(crate) fn drop_retired_sink(&mut self) -> bool {
        if self.sink.as_ref().is_some_and(Sink::is_idle) && !self.feed.is_busy() {
            self.sink = None;
            self.feed.release();
        }
        self.sink.is_none()
    }

    /// Goes on with another sink and configuration.
    pub(crate) fn install_sink(&mut self, sink: Sink, config: RouteConfig) {
        self.dirty = true;
        self.paused = config.paused;
        let options = crate::open_route::log_options(&config);
        self.log
            .set_bounds(options.segment_bytes, options.retain)
            .expect("the configuration was checked against the same bounds");
        self.config = config;
        self.sink = Some(sink);
    }

    /// Begins the end of the route: everything appended becomes durable, the sink finishes.
    pub(crate) fn close(&mut self, now: Monotonic) {
        self.retire_sink(now);
        self.log.close();
    }

    /// Whether everything that was begun has ended.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.drop_retired_sink() && self.log.is_idle() && self.held.is_empty()
    }

    /// Whether waiting would bring nothing more to its far end: everything is there, or the route
    /// does not deliver until somebody does something about it.
    pub(crate) fn is_drained(&self) -> bool {
        let stuck = self.paused
            || self.parked.is_some()
            || self.sink.as_ref().is_none_or(Sink::has_stopped);
        let arrived = Lsn(self.log.next_lsn().0 - 1);
        (self.undelivered() == 0 || (stuck && self.log.durable() == arrived))
            && self.held.is_empty()
    }

    /// Records appended but not delivered.
    pub(crate) fn undelivered(&self) -> u64 {
        let delivered = self.sink.as_ref().map_or(self.delivered, Sink::delivered);
        (self.log.next_lsn().0 - 1).saturating_sub(delivered.0)
    }

    pub(crate) fn is_parked(&self) -> bool {
        self.parked.is_some()
    }

    /// What a receipt may say of a record found in the log at start-up.
    fn reached(&self) -> Level {
        if self.config.flush == FlushMode::None { Level::Accepted } else { Level::Durable }
    }

    pub(crate) fn note(&mut self, wall: WallTime, code: ErrorCode, message: String) {
        self.last_error = Some(LastError { at_us: wall.0, code, message });
    }

    pub(crate) fn status(&self) -> RouteStatus {
        let log = self.log.stats();
        let sink = self.sink.as_ref();
        let stats = sink.map(Sink::stats).unwrap_or_default();
        let delivered = sink.map_or(self.delivered, Sink::delivered);
        let state = if self.parked.is_some() {
            RouteState::Parked
        } else if sink.is_some_and(Sink::has_stopped) {
            RouteState::Stopped
        } else if self.paused {
            RouteState::Paused
        } else if sink.is_some_and(Sink::is_retrying) {
            RouteState::Retrying
        } else {
            RouteState::Running
        };
        RouteStatus {
            name: self.name.clone(),
            sink: sink.map_or("none", Sink::kind),
            state,
            first_lsn: self.log.first_lsn(),
            durable_lsn: self.log.durable(),
            next_lsn: self.log.next_lsn(),
            delivered_lsn: delivered,
            lag_records: self.undelivered(),
            lost_records: self.lost_records,
            wal_bytes: log.bytes_on_disk,
            wal_segments: log.segments,
            memory_bytes: log.memory_bytes,
            appended_records_total: self.appended_records,
            appended_bytes_total: self.appended_bytes,
            delivered_records_total: stats.delivered_records,
            delivered_bytes_total: stats.delivered_bytes,
            retries_total: stats.retries,
            refused_total: stats.refused,
            batches_total: log.batches,
            written_bytes_total: log.written_bytes,
            write_seconds_sum: log.write_time_total.as_secs_f64(),
            write_latency_buckets: latency_buckets(&log),
            last_error: self.last_error.clone(),
        }
    }
}

fn acknowledge(
    address: Address,
    op_id: u64,
    first_lsn: Lsn,
    record_count: u32,
    level: Level,
) -> Acknowledgement {
    let completion =
        elgate_ring::Completion { op_id, first_lsn, record_count, status: None, level };
    Acknowledgement { address, completion }
}

/// Cumulative counts by upper bound in seconds, as Prometheus wants them; the last is infinity's.
fn latency_buckets(log: &LogStats) -> Vec<(f64, u64)> {
    let bounds = WRITE_TIME_BOUNDS_US.iter().map(|us| *us as f64 / 1e6);
    let mut below = 0;
    bounds
        .zip(log.write_times)
        .map(|(bound, count)| {
            below += count;
            (bound, below)
        })
        .collect()
}
