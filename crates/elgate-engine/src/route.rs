//! A route as its shard sees it: a log, what it still owes acknowledgements for, and a sink.
//!
//! | file | what |
//! |---|---|
//! | `accept.rs` | submissions in, acknowledgements out |
//! | `report.rs` | what the route says about itself |
//!
//! In: submissions, completions, time. Out: operations, and acknowledgements to post.

use crate::config::RouteConfig;
use crate::feed::{Feed, FeedEvent, gap_advice};
use crate::sink::{Sink, Trouble};
use crate::status::LastError;
use elgate_io::{Arena, Completion, File, Op};
use elgate_log::{LogEvent, LogWriter, SourceSpan};
use elgate_types::{ErrorCode, Level, Lsn, Monotonic, RouteName, WallTime, kill_site, mark};
use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::SyncSender;
use std::time::Duration;

mod accept;
mod report;
#[cfg(test)]
mod simulation;

pub(crate) use accept::{Acknowledgement, Incoming, Verdict};
use accept::{Held, Unacknowledged};

/// How long a log may keep submissions waiting before they are in the way of other routes: a device
/// that hangs says nothing.
pub(crate) const STUCK_AFTER: Duration = Duration::from_secs(1);

/// Which part of a route an operation belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    Log,
    Feed,
    Sink,
}

/// See the module text.
pub(crate) struct Route {
    pub(crate) name: RouteName,
    pub(crate) config: RouteConfig,
    log: LogWriter,
    feed: Feed,
    sink: Option<Sink>,
    /// The last record that a sink was given.
    pub(crate) taken: Lsn,
    /// What the sink had delivered when it was last asked.
    delivered: Lsn,
    paused: bool,
    /// Set at the route's end: takes nothing more.
    ending: bool,
    /// Whether the log has been told to close. Not before it has all that was held.
    log_closing: bool,
    unacknowledged: VecDeque<Unacknowledged>,
    held: VecDeque<Held>,
    /// Since when submissions wait for their log without any progress.
    waiting_since: Option<Monotonic>,
    /// Whether producers are asked to wait, until it [takes again](Self::takes_again).
    pub(crate) is_closed_to_producers: bool,
    /// Submissions found in the log at start-up, by ring and position.
    replayed: HashMap<(u64, u64), SourceSpan>,
    /// The last position of each ring that was found there.
    logged_to: HashMap<u64, u64>,
    flush_waiters: Vec<(Lsn, SyncSender<()>)>,
    parked: Option<String>,
    lost_records: u64,
    appended_records: u64,
    appended_bytes: u64,
    last_error: Option<LastError>,
    /// The last damage found, kept apart so that later trouble does not hide it.
    damage: Option<LastError>,
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
        // In order of position: the last one of a ring stays.
        let logged_to = sources.iter().map(|span| (span.ring_id, span.position)).collect();
        let replayed =
            sources.into_iter().map(|span| ((span.ring_id, span.position), span)).collect();
        Self {
            paused: config.paused,
            name,
            config,
            log,
            feed,
            taken: Lsn(sink.next().0 - 1),
            delivered: sink.delivered(),
            sink: Some(sink),
            ending: false,
            log_closing: false,
            unacknowledged: VecDeque::new(),
            held: VecDeque::new(),
            waiting_since: None,
            is_closed_to_producers: false,
            replayed,
            logged_to,
            flush_waiters: Vec::new(),
            parked: None,
            lost_records: 0,
            appended_records: 0,
            appended_bytes: 0,
            last_error: None,
            damage: None,
            dirty: true,
        }
    }

    /// Writes the log from buffers of this arena, the shard's.
    pub(crate) fn set_arena(&mut self, arena: Arena) {
        self.log.set_arena(arena);
    }

    /// What the log's driver has to hold.
    pub(crate) fn log_lock(&self) -> &File {
        self.log.lock()
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
        self.close_log_in_time();
        while let Some((token, op)) = self.log.poll_op(now) {
            submit(Part::Log, token, op);
        }
        let before = acknowledgements.len();
        self.take_log_events(wall, acknowledgements);
        let waits = !(self.unacknowledged.is_empty() && self.held.is_empty());
        if !waits || acknowledgements.len() > before || self.waiting_since.is_none() {
            self.waiting_since = waits.then_some(now);
        }
        self.answer_flushes();
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
        self.taken = self.taken.max(Lsn(sink.next().0 - 1));
        self.delivered = sink.delivered();
        self.log.set_delivered(self.delivered);
        // More is in memory and the sink has room for it: go on next turn, so that other routes
        // get theirs.
        self.dirty |= !self.paused && sink.wants() && self.feed.is_ahead_of(&self.log, sink.next());
        if sink.next() > self.log.readable() {
            self.feed.release();
        }
        self.note_sink_trouble(wall);
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
                }
                LogEvent::Written { through } => {
                    self.acknowledge_through(through, Level::Accepted, acknowledgements);
                }
                LogEvent::Parked { error } => {
                    mark::hit("log.parked");
                    let message = format!(
                        "the log cannot be written: {error}. {}",
                        ErrorCode::LogUnavailable.row().advice
                    );
                    self.parked = Some(message.clone());
                    self.note(wall, ErrorCode::LogUnavailable, message);
                }
                LogEvent::Resumed => {
                    mark::hit("log.resumed");
                    self.parked = None;
                }
                LogEvent::MirrorLost { error } => {
                    let message = format!(
                        "the mirror of the log cannot be written: {error}. The log goes on \
                         without; the mirror is tried again every ten seconds, and what it \
                         misses is copied then"
                    );
                    self.note(wall, ErrorCode::Io, message);
                }
                LogEvent::HeadLost { path, error } => {
                    mark::hit("log.head_lost");
                    let state = match error {
                        None => "it was made whole again".to_owned(),
                        Some(error) => {
                            format!(
                                "it cannot be made whole again: {error}; it is tried every second"
                            )
                        }
                    };
                    let message = format!(
                        "{} was cut short while it was in use: find the program that did it. \
                         Nothing acknowledged is affected; {state}, and who tailed the log has to \
                         begin again",
                        path.display()
                    );
                    self.note(wall, ErrorCode::Io, message);
                }
                LogEvent::Abandoned { segment, error } => {
                    mark::hit("log.abandoned");
                    let segment = segment.display();
                    let message = format!(
                        "segment {segment} failed ({error}) and was abandoned; nothing \
                         acknowledged is affected, the rest was written again elsewhere"
                    );
                    self.note(wall, ErrorCode::Io, message);
                }
                LogEvent::Rolled { .. } => mark::hit("log.rolled"),
                LogEvent::Retired { .. } => mark::hit("log.retired"),
                _ => {}
            }
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
                // Of a sink that has gone back meanwhile, it is asked again.
                Some(FeedEvent::Missing { from, .. }) if !self.awaits(from) => {}
                Some(FeedEvent::Missing { from, to, reason }) => {
                    mark::hit("feed.gap");
                    self.lost_records += to.0 - from.0 + 1;
                    if let Some(sink) = &mut self.sink {
                        sink.skip(to);
                    }
                    let kept = gap_advice(reason, self.config.mirror.is_some());
                    let message =
                        format!("records {from} to {to} cannot be delivered: {reason}; {kept}");
                    self.note(wall, ErrorCode::LogCorrupt, message);
                }
                Some(FeedEvent::Failed(error)) => {
                    mark::hit("feed.failed");
                    let message = format!("reading the log failed: {error}; it is tried again");
                    self.note(wall, ErrorCode::Io, message);
                }
                None => {}
            },
            Part::Sink => {
                if let Some(sink) = &mut self.sink {
                    sink.handle(token, completion, now, wall);
                }
                // Now, for the state that goes with it is seen from now on.
                self.note_sink_trouble(wall);
            }
        }
    }

    /// When this route wants to be pumped again, completions aside.
    pub(crate) fn next_wakeup(&self) -> Option<Monotonic> {
        let sink = self.sink.as_ref().and_then(Sink::next_wakeup);
        // It is asked for more only while the sink takes any.
        let feeds = !self.paused && self.sink.as_ref().is_some_and(Sink::wants);
        let feed = if feeds { self.feed.next_wakeup() } else { None };
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

    /// Tells those whose records are durable by now. Asked of the log, not of its events: a route that
    /// never syncs by itself has none.
    fn answer_flushes(&mut self) {
        let durable = self.log.durable();
        self.flush_waiters.retain(|(lsn, waiter)| {
            let reached = *lsn <= durable;
            if reached {
                // Nobody waits any more: fine.
                let _ = waiter.try_send(());
            }
            !reached
        });
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

    /// Lets the sink finish what is under way; [`is_retired`](Self::is_retired) says when it has.
    pub(crate) fn retire_sink(&mut self, now: Monotonic) {
        self.dirty = true;
        // The next one may have to compare what this one was given with what the log has.
        self.log.flush();
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

    /// Whether the retired sink is gone, and everything that it was given is durable.
    pub(crate) fn is_retired(&mut self) -> bool {
        self.drop_retired_sink() && self.taken <= self.log.durable()
    }

    /// Whether everything that a sink was given can be read again, as the next one may have to: not
    /// while the log writes again what a failing device has not kept.
    pub(crate) fn is_settled(&self) -> bool {
        self.taken <= self.log.readable()
    }

    /// Goes on with another sink and configuration.
    pub(crate) fn install_sink(&mut self, sink: Sink, config: RouteConfig) {
        self.dirty = true;
        self.paused = config.paused;
        let options = config.log_options(&self.name);
        self.log
            .set_bounds(options.segment_bytes, options.retain)
            .expect("the configuration was checked against the same bounds");
        self.config = config;
        self.sink = Some(sink);
    }

    /// Begins the end of the route: everything appended becomes durable, the sink finishes.
    pub(crate) fn close(&mut self, now: Monotonic) {
        self.retire_sink(now);
        self.ending = true;
        self.close_log_in_time();
    }

    /// A log that is closing takes no more, so what is held goes first.
    fn close_log_in_time(&mut self) {
        if self.ending && !self.log_closing && self.held.is_empty() {
            self.log_closing = true;
            self.log.close();
        }
    }

    /// Whether everything that was begun has ended.
    pub(crate) fn is_closed(&mut self) -> bool {
        self.drop_retired_sink() && self.log_closing && self.log.is_idle()
    }

    /// Whether a route that is to be removed may go though its log is parked: nothing is under way,
    /// and everybody who waited has been told that the outcome is unknown.
    pub(crate) fn is_given_up(&mut self, acknowledgements: &mut Vec<Acknowledgement>) -> bool {
        self.give_up(acknowledgements);
        self.parked.is_some() && self.drop_retired_sink() && self.log.is_quiet()
    }

    /// Whether the sink wants this record next.
    fn awaits(&self, lsn: Lsn) -> bool {
        self.sink.as_ref().is_none_or(|sink| sink.next() == lsn)
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

    /// Whether what it holds in the rings may stay there for long: its log cannot be written, or
    /// does not answer.
    pub(crate) fn is_stuck(&self, now: Monotonic) -> bool {
        let waits_long = self.waiting_since.is_some_and(|since| now.since(since) >= STUCK_AFTER);
        self.parked.is_some() || waits_long
    }

    /// Whether producers that were asked to wait may go on.
    pub(crate) fn takes_again(&self, now: Monotonic) -> bool {
        self.held.is_empty() && !self.is_stuck(now)
    }

    fn note_sink_trouble(&mut self, wall: WallTime) {
        if let Some(trouble) = self.sink.as_mut().and_then(Sink::take_trouble) {
            let Trouble { code, message } = trouble;
            self.last_error = Some(LastError { at_us: wall.0, code, message });
        }
    }

    pub(crate) fn note(&mut self, wall: WallTime, code: ErrorCode, message: String) {
        let error = LastError { at_us: wall.0, code, message };
        if code == ErrorCode::LogCorrupt {
            self.damage = Some(error.clone());
        }
        self.last_error = Some(error);
    }
}
