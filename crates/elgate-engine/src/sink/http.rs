//! The HTTP sink: POSTs each record, with retries, until the endpoint has taken it.
//!
//! At least once: after a crash the records past the cursor are sent again, each under the same
//! `Idempotency-Key: <route>/<lsn>` as before.
//!
//! ```text
//!            ┌───────────── pause (backoff) ◄──────────────┐
//!            ▼                                             │ retry
//!  offered ─► ready ──► under way ──► answered ──┬─────────┘
//!                                                ├─ delivered: the contiguous prefix moves on
//!                                                └─ refused: like retry, and counted apart
//! ```

use super::{CursorSaver, SinkStats, Trouble};
use crate::feed::Feed;
use elgate_http::{RequestEncoder, RequestError, Response};
use elgate_io::{Buffer, Completion, Op};
use elgate_net::{Backoff, ExchangeError, HttpClient, Jitter, RetryPolicy, Verdict, classify};
use elgate_types::{ErrorCode, Lsn, Monotonic, RouteName, WallTime, kill_site, mark, seeded_bug};
use std::collections::VecDeque;
use std::time::Duration;

/// Longest time between saves of the cursor while records flow.
const SAVE_AFTER: Duration = Duration::from_millis(50);
/// Pause after a failed save of the cursor.
const SAVE_RETRY_AFTER: Duration = Duration::from_secs(1);
/// How much of a refused request's answer is shown to the operator.
const EXCERPT_BYTES: usize = 200;
/// Longest pause a far end may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(3_600);
/// How long a retiring sink waits for answers before it gives the exchanges up. They are then
/// repeated under the same key.
const RETIRE_GRACE: Duration = Duration::from_secs(3);

const TOKEN_CURSOR: u32 = 0;
/// Tokens of the client follow the sink's own.
const TOKEN_CLIENT_BASE: u32 = 1;

/// What an HTTP sink is made of.
pub(crate) struct HttpSinkOptions {
    pub(crate) route: RouteName,
    /// As configured, for messages.
    pub(crate) url: String,
    /// Request line and fixed headers.
    pub(crate) encoder: RequestEncoder,
    /// Deliveries at a time; 1 keeps the order of the log.
    pub(crate) concurrency: usize,
    pub(crate) retry: RetryPolicy,
    pub(crate) jitter_seed: u64,
}

/// See the module text.
pub(crate) struct HttpSink {
    options: HttpSinkOptions,
    client: HttpClient,
    jitter: Jitter,
    cursor: CursorSaver,
    next: Lsn,
    delivered: Lsn,
    /// Records taken and not yet part of the delivered prefix, in order of LSN.
    window: VecDeque<Delivery>,
    save_at: Option<Monotonic>,
    /// Whether the last save failed: the next one is not before its time.
    save_failed: bool,
    saved: Lsn,
    stopped: bool,
    /// Set while retiring: when to give up what is under way.
    retire_by: Option<Monotonic>,
    client_closed: bool,
    wall: WallTime,
    trouble: Option<Trouble>,
    stats: SinkStats,
}

struct Delivery {
    lsn: Lsn,
    payload: Box<[u8]>,
    backoff: Backoff,
    /// Whether a stale connection has cost it an attempt; the second time counts.
    retried_at_once: bool,
    state: State,
}

#[derive(PartialEq)]
enum State {
    Ready,
    UnderWay,
    Pausing { until: Monotonic },
    Delivered,
}

impl HttpSink {
    pub(crate) fn new(
        options: HttpSinkOptions,
        client: HttpClient,
        cursor: CursorSaver,
        delivered: Lsn,
    ) -> Self {
        let jitter = Jitter::new(options.jitter_seed);
        Self {
            options,
            client,
            jitter,
            cursor,
            next: delivered.next(),
            delivered,
            window: VecDeque::new(),
            save_at: None,
            save_failed: false,
            saved: delivered,
            stopped: false,
            retire_by: None,
            client_closed: false,
            wall: WallTime::default(),
            trouble: None,
            stats: SinkStats::default(),
        }
    }

    /// Tells the operator what was found when the sink was opened.
    pub(crate) fn warn(&mut self, finding: Trouble) {
        self.trouble = Some(finding);
    }

    pub(crate) fn next(&self) -> Lsn {
        self.next
    }

    pub(crate) fn wants(&self) -> bool {
        self.retire_by.is_none() && !self.stopped && self.window.len() < self.window_max()
    }

    /// Twice the concurrency, so that a finished delivery has a successor at once.
    fn window_max(&self) -> usize {
        self.options.concurrency * 2
    }

    pub(crate) fn offer(&mut self, feed: &Feed, now: Monotonic) {
        let room = self.window_max() - self.window.len().min(self.window_max());
        if room == 0 {
            return;
        }
        let Self { next, window, .. } = self;
        let mut taken = 0;
        feed.each(*next, &mut |lsn, payload| {
            window.push_back(Delivery {
                lsn,
                payload: payload.into(),
                backoff: Backoff::default(),
                retried_at_once: false,
                state: State::Ready,
            });
            *next = lsn.next();
            taken += 1;
            taken < room
        });
        self.start_ready(now);
    }

    pub(crate) fn skip(&mut self, through: Lsn) {
        self.next = self.next.max(through.next());
        self.advance_prefix();
    }

    /// Starts what may start: in order, and no more than the concurrency allows.
    fn start_ready(&mut self, now: Monotonic) {
        if self.stopped || self.retire_by.is_some() {
            return;
        }
        let mut under_way =
            self.window.iter().filter(|delivery| delivery.state == State::UnderWay).count();
        for index in 0..self.window.len() {
            if under_way >= self.options.concurrency || self.client.capacity() == 0 {
                return;
            }
            let delivery = &self.window[index];
            let may_start = match delivery.state {
                State::Ready => true,
                State::Pausing { until } => until <= now,
                State::UnderWay | State::Delivered => false,
            };
            if may_start {
                let (lsn, payload) = (delivery.lsn, &delivery.payload);
                let request = match self.encode(lsn, payload) {
                    Ok(request) => request,
                    Err(error) => return self.stop(lsn, &error.to_string()),
                };
                if self.client.start(lsn.0, request, now).is_err() {
                    return;
                }
                self.window[index].state = State::UnderWay;
                under_way += 1;
            } else if self.options.concurrency == 1 && delivery.state != State::Delivered {
                // In order: nothing overtakes a record that is being retried.
                return;
            }
        }
    }

    fn encode(&self, lsn: Lsn, payload: &[u8]) -> Result<Buffer, RequestError> {
        let key = format!("{}/{lsn}", self.options.route);
        self.options.encoder.encode(&[("Idempotency-Key", &key)], payload)
    }

    pub(crate) fn poll_op(&mut self, now: Monotonic) -> Option<(u32, Op)> {
        if self.retire_by.is_some_and(|by| by <= now) {
            self.close_client(now);
        }
        self.collect_outcomes(now);
        self.start_ready(now);
        if let Some((token, op)) = self.client.poll_op(now) {
            return Some((token + TOKEN_CLIENT_BASE, op));
        }
        self.collect_outcomes(now);
        self.poll_save(now)
    }

    fn poll_save(&mut self, now: Monotonic) -> Option<(u32, Op)> {
        let at_once = self.may_finish() && !self.save_failed;
        let due = self.save_at.is_some_and(|at| at <= now || at_once);
        if !due {
            return None;
        }
        if self.cursor.is_ahead_of(self.delivered) {
            self.save_at = None;
            return None;
        }
        // Unsynced while records flow: a power cut costs repeats, which their key tells apart.
        let passed = match seeded_bug::is("save-cursor-early") {
            true => Lsn(self.next.0 - 1),
            false => self.delivered,
        };
        let op = self.cursor.save(passed, [0; 4], self.retire_by.is_some())?;
        self.save_at = None;
        self.saved = self.delivered;
        Some((TOKEN_CURSOR, op))
    }

    fn may_finish(&self) -> bool {
        self.retire_by.is_some() && !self.is_under_way()
    }

    fn is_under_way(&self) -> bool {
        self.window.iter().any(|delivery| delivery.state == State::UnderWay)
    }

    pub(crate) fn poll_cancel(&mut self) -> Option<u32> {
        self.client.poll_cancel().map(|token| token + TOKEN_CLIENT_BASE)
    }

    pub(crate) fn handle(
        &mut self,
        token: u32,
        completion: Completion,
        now: Monotonic,
        wall: WallTime,
    ) {
        self.wall = wall;
        if token == TOKEN_CURSOR {
            let saved = self.cursor.handle(completion);
            self.save_failed = saved.is_err();
            if let Err(error) = saved {
                self.save_at = Some(now.after(SAVE_RETRY_AFTER));
                self.trouble = Some(Trouble {
                    code: ErrorCode::Io,
                    message: format!("cannot save the cursor: {error}; it is tried again"),
                });
            }
            return;
        }
        self.client.handle(token - TOKEN_CLIENT_BASE, completion, now);
        self.collect_outcomes(now);
    }

    fn collect_outcomes(&mut self, now: Monotonic) {
        while let Some((id, outcome)) = self.client.poll_outcome() {
            kill_site::pass("sink.http.answered");
            let Some(index) = self.window.iter().position(|delivery| delivery.lsn.0 == id) else {
                continue;
            };
            match outcome {
                Ok(response) => match classify(&response, self.wall, RETRY_AFTER_MAX) {
                    Verdict::Delivered => {
                        self.stats.delivered_records += 1;
                        self.stats.delivered_bytes += self.window[index].payload.len() as u64;
                        self.window[index].backoff.reset();
                        self.window[index].state = State::Delivered;
                    }
                    Verdict::Retry { after } => {
                        mark::hit("sink.http.retry");
                        let answer = describe_answer(&response);
                        self.pause(index, after, ErrorCode::FarEndUnavailable, answer, now);
                    }
                    Verdict::Refused => {
                        mark::hit("sink.http.refused");
                        self.stats.refused += 1;
                        let answer = describe_answer(&response);
                        let code = ErrorCode::DeliveryRefused;
                        self.pause(index, Duration::ZERO, code, answer, now);
                    }
                },
                // The far end closed an idle connection as we wrote: no failure of its own.
                Err(ExchangeError::ConnectionLost {
                    before_response: true, reused: true, ..
                }) if !self.window[index].retried_at_once => {
                    self.stats.retries += 1;
                    self.window[index].retried_at_once = true;
                    self.window[index].state = State::Ready;
                }
                Err(error) => {
                    self.pause(index, Duration::ZERO, error.code(), error.to_string(), now);
                }
            }
        }
        self.advance_prefix();
        if self.delivered > self.saved {
            self.save_at.get_or_insert(now.after(SAVE_AFTER));
        }
        if self.may_finish() {
            self.close_client(now);
        }
    }

    /// Puts a delivery off, or stops the route if it has had its attempts.
    fn pause(
        &mut self,
        index: usize,
        after: Duration,
        code: ErrorCode,
        reason: String,
        now: Monotonic,
    ) {
        let delivery = &mut self.window[index];
        let lsn = delivery.lsn;
        if self.retire_by.is_some() {
            delivery.state = State::Ready;
            return;
        }
        self.stats.retries += 1;
        let url = &self.options.url;
        match delivery.backoff.failed(&self.options.retry, &mut self.jitter, after) {
            Some(pause) => {
                delivery.state = State::Pausing { until: now.after(pause) };
                let attempt = delivery.backoff.failures();
                let message =
                    format!("record {lsn} to {url}: {reason}; attempt {attempt}, tried again");
                self.trouble = Some(Trouble { code, message });
            }
            None => {
                mark::hit("sink.http.stopped");
                let attempts = delivery.backoff.failures();
                delivery.backoff.reset();
                delivery.state = State::Ready;
                self.stop(lsn, &format!("{reason}; {attempts} attempts were made"));
            }
        }
    }

    /// Gives up until somebody resumes the route. The record stays first in line.
    fn stop(&mut self, lsn: Lsn, reason: &str) {
        self.stopped = true;
        let url = &self.options.url;
        let message = format!(
            "record {lsn} to {url}: {reason}. The route has stopped; mend the far end, then \
             resume the route: nothing is lost"
        );
        self.trouble = Some(Trouble { code: ErrorCode::DeliveryRefused, message });
    }

    fn advance_prefix(&mut self) {
        while self.window.front().is_some_and(|delivery| delivery.state == State::Delivered) {
            self.window.pop_front();
        }
        // Everything taken before the first record still waiting has been delivered.
        let first_waiting = self.window.front().map_or(self.next, |delivery| delivery.lsn);
        self.delivered = self.delivered.max(Lsn(first_waiting.0 - 1));
    }

    pub(crate) fn delivered(&self) -> Lsn {
        self.delivered
    }

    pub(crate) fn next_wakeup(&self) -> Option<Monotonic> {
        let retry = self.next_retry().filter(|_| !self.stopped && self.retire_by.is_none());
        let retire = self.retire_by.filter(|_| self.is_under_way() && !self.client_closed);
        let save = self.save_at.filter(|_| !self.cursor.is_saving());
        [retry, retire, save, self.client.next_wakeup()].into_iter().flatten().min()
    }

    /// When a delivery that was put off can be tried again. Not while there is no room for it:
    /// then the end of another one is what it waits for.
    fn next_retry(&self) -> Option<Monotonic> {
        let under_way =
            self.window.iter().filter(|delivery| delivery.state == State::UnderWay).count();
        if under_way >= self.options.concurrency || self.client.capacity() == 0 {
            return None;
        }
        let pauses = self.window.iter().filter_map(|delivery| match delivery.state {
            State::Pausing { until } => Some(until),
            State::Ready | State::UnderWay | State::Delivered => None,
        });
        pauses.min()
    }

    pub(crate) fn retire(&mut self, now: Monotonic) {
        self.retire_by = Some(now.after(RETIRE_GRACE));
        if self.delivered > self.saved {
            self.save_at.get_or_insert(now);
        }
        if self.may_finish() {
            self.close_client(now);
        }
    }

    /// Closes connections, giving up what is under way on them.
    fn close_client(&mut self, now: Monotonic) {
        if !self.client_closed {
            self.client_closed = true;
            self.client.close(now);
        }
    }

    pub(crate) fn is_idle(&self) -> bool {
        // A cursor that cannot be saved holds nobody up: what it does not cover is sent again,
        // under the same keys.
        let saved = self.save_at.is_none() || (self.retire_by.is_some() && self.save_failed);
        !self.is_under_way() && self.client.is_quiet() && !self.cursor.is_saving() && saved
    }

    pub(crate) fn resume(&mut self, now: Monotonic) {
        self.stopped = false;
        for delivery in &mut self.window {
            if matches!(delivery.state, State::Pausing { .. }) {
                delivery.state = State::Ready;
            }
        }
        self.start_ready(now);
    }

    pub(crate) fn has_stopped(&self) -> bool {
        self.stopped
    }

    pub(crate) fn is_retrying(&self) -> bool {
        self.window.iter().any(|delivery| delivery.backoff.failures() > 0)
    }

    pub(crate) fn take_trouble(&mut self) -> Option<Trouble> {
        self.trouble.take()
    }

    pub(crate) fn stats(&self) -> SinkStats {
        self.stats.clone()
    }
}

fn describe_answer(response: &Response) -> String {
    let end = response.body_excerpt.len().min(EXCERPT_BYTES);
    let excerpt = String::from_utf8_lossy(&response.body_excerpt[..end]);
    let excerpt: String = excerpt.chars().map(|c| if c.is_control() { ' ' } else { c }).collect();
    match excerpt.trim() {
        "" => format!("the far end answered {}", response.status),
        text => format!("the far end answered {} ({text})", response.status),
    }
}
