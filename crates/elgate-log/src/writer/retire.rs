//! Which segments go: those that every reader has passed, as far as age and size ask for it. The
//! next segments are made of them.

use super::LogWriter;
use super::segments::reply;
use crate::catalog::Bounds;
use crate::error::IoFault;
use crate::event::LogEvent;
use crate::retention::{Candidate, Retired, Retirement};
use elgate_io::{BlockingReply, Completion, Op};
use elgate_types::{Lsn, Monotonic};
use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// How often segments are looked at, besides at every roll.
const RETIRE_EVERY: Duration = Duration::from_secs(10);

/// Most files kept beyond the active segment, prepared or retired and waiting to be used again.
pub(crate) const SPARES_MAX: usize = 2;

/// Most segments looked at in one round.
const LOOKS_MAX: usize = 64;

impl LogWriter {
    /// Looks again at the next opportunity.
    pub(super) fn retire_soon(&mut self) {
        self.retire_at = Some(Monotonic(0));
    }

    /// Whether there is anything that retention might remove. Segments in which nothing was ever
    /// acknowledged go first: once what they should have held is gone, they look like damage.
    pub(super) fn may_retire(&self) -> bool {
        let retain = self.options.retain;
        self.segments.len() > 1
            && self.discard.is_empty()
            && !self.closing
            && (retain.max_bytes.is_some() || retain.max_age.is_some())
    }

    pub(super) fn next_retirement(&mut self, now: Monotonic) -> Option<(u32, Op)> {
        let is_due = self.retire_at.is_none_or(|at| at <= now);
        if self.retiring.is_some() || !is_due || !self.may_retire() {
            return None;
        }
        self.retire_at = Some(now.after(RETIRE_EVERY));
        let retirement = Retirement {
            dir: self.dir.clone(),
            mirror: self.options.mirror.clone(),
            retain: self.options.retain,
            unknown: self.unknown(),
            candidates: self.candidates(),
            active_bytes: self.active.as_ref().map_or(0, |active| active.bytes),
            reuse_max: SPARES_MAX.saturating_sub(self.spares.len() + self.reusable.len()),
            reuse_bytes: self.options.segment_bytes,
        };
        let token = self.token();
        self.retiring = Some(token);
        let call = move |platform: &dyn elgate_io::Platform| -> io::Result<BlockingReply> {
            Ok(Box::new(retirement.carry_out(platform)))
        };
        Some((token, Op::Blocking(Box::new(call))))
    }

    /// The oldest segments that nobody has looked at yet. That the candidates before them may
    /// go is then seen in the next round.
    fn unknown(&self) -> Vec<PathBuf> {
        let unknown = self.segments.iter().filter(|span| !span.is_known);
        unknown.take(LOOKS_MAX).map(|span| span.path.clone()).collect()
    }

    /// Takes what the last round has found out about unknown segments.
    fn take_bounds(&mut self, found: Vec<(PathBuf, Option<Bounds>)>) {
        for (path, bounds) in found {
            let Some(at) = self.segments.iter().position(|span| span.path == path) else {
                continue;
            };
            let Some(bounds) = bounds else {
                self.segments.remove(at);
                continue;
            };
            let span = &mut self.segments[at];
            span.sequence = bounds.sequence;
            span.first_lsn = span.first_lsn.or(bounds.first_lsn);
            span.last_time = bounds.last_time;
            span.is_known = true;
            self.retire_soon();
        }
    }

    /// Every segment but the last that has begun, oldest first: the next one's first record
    /// tells where it ends, and all of that is durable.
    fn candidates(&self) -> Vec<Candidate> {
        let known = self.segments.iter().take_while(|span| span.is_known);
        let spans: Vec<_> = known.filter(|span| span.first_lsn.is_some()).collect();
        let next_first = |index: usize| spans.get(index + 1).and_then(|next| next.first_lsn);
        let with_end = spans.iter().enumerate().filter_map(|(index, span)| {
            let last_lsn = Lsn(next_first(index)?.0 - 1);
            // Something durable must be left behind it: else a power cut might leave nothing that
            // tells which numbers have been given out.
            let is_followed = last_lsn < self.durable;
            let may_come_again = self.replayable.first().is_some_and(|first| first <= last_lsn);
            (is_followed && !may_come_again).then(|| Candidate {
                sequence: span.sequence,
                path: span.path.clone(),
                last_lsn,
                bytes: span.bytes,
                last_time: span.last_time,
            })
        });
        with_end.collect()
    }

    pub(super) fn on_retired(&mut self, completion: Completion, _now: Monotonic) {
        let retired = match reply::<Retired>(completion) {
            Ok(retired) => retired,
            Err(error) => {
                let error = IoFault { doing: "remove segments in", path: self.dir.clone(), error };
                self.events.push_back(LogEvent::ChoreFailed { error });
                return;
            }
        };
        if let Some(error) = retired.fault {
            self.events.push_back(LogEvent::ChoreFailed { error });
        }
        self.reusable.extend(retired.reusable);
        self.take_bounds(retired.found);
        if !retired.sequences.is_empty() {
            self.segments.retain(|span| !retired.sequences.contains(&span.sequence));
            self.publish();
            let first = self.first_lsn();
            self.events.push_back(LogEvent::Retired { first, bytes: retired.bytes });
        }
    }
}
