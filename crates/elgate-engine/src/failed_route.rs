//! A route that could not be opened. It keeps what is sent to it, says why, and is tried again.
//!
//! In: submissions, completions, time. Out: the operation that opens it, and in the end the
//! [`Route`], which takes what waited.

use crate::config::{RouteConfig, SinkKind};
use crate::error::EngineError;
use crate::open_route::Surroundings;
use crate::route::{Acknowledgement, Incoming, Route, Verdict};
use crate::shard::{Address, Reply};
use crate::status::{LastError, RouteState, RouteStatus};
use elgate_io::{Completion, Op, Outcome, Platform};
use elgate_ring::LeftOver;
use elgate_types::{ErrorCode, Monotonic, RouteName, WallTime, mark};
use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

/// How long after an attempt that failed the next one is made.
const REOPEN_AFTER: Duration = Duration::from_secs(10);

/// See the module text.
pub(crate) struct FailedRoute {
    pub(crate) name: RouteName,
    config: RouteConfig,
    surroundings: Arc<Surroundings>,
    /// What the rings held when it was first tried: what has come since is in no log.
    left_over: Arc<LeftOver>,
    error: LastError,
    waiting: VecDeque<Waiting>,
    /// Whether producers are asked to wait.
    pub(crate) is_closed_to_producers: bool,
    /// When the next attempt is due, unless one is under way.
    retry_at: Monotonic,
    is_opening: bool,
    /// Who wants to know how an attempt ends.
    asked: Vec<Reply<RouteConfig>>,
    /// Who waits for its end. It takes nothing then.
    removed: Option<Reply<()>>,
}

/// A submission. Its slot stays taken, or its copy set aside: the two bound how many exist.
struct Waiting {
    address: Address,
    op_id: u64,
    record_count: u32,
    is_aside: bool,
    /// The records, each behind its length (u32, little-endian).
    body: Box<[u8]>,
}

impl Waiting {
    fn as_incoming(&self) -> Incoming<'_> {
        let Self { address, op_id, record_count, .. } = *self;
        Incoming { address, op_id, record_count, body: &self.body }
    }
}

/// How an attempt ended.
pub(crate) enum Attempt {
    Opened(Box<Route>),
    Failed,
    /// Nobody wants the route any more.
    Removed,
}

impl FailedRoute {
    pub(crate) fn new(
        (surroundings, left_over): (&Arc<Surroundings>, &Arc<LeftOver>),
        name: RouteName,
        config: RouteConfig,
        error: &EngineError,
    ) -> Self {
        let platform = &surroundings.platform;
        mark::hit("route.open_failed");
        Self {
            name,
            config,
            error: describe(error, platform.wall_time()),
            retry_at: platform.now().after(REOPEN_AFTER),
            surroundings: Arc::clone(surroundings),
            left_over: Arc::clone(left_over),
            waiting: VecDeque::new(),
            is_closed_to_producers: false,
            is_opening: false,
            asked: Vec::new(),
            removed: None,
        }
    }

    /// Takes a submission, unless the route is on its way out.
    pub(crate) fn hold(&mut self, incoming: &Incoming<'_>) -> bool {
        if self.removed.is_some() {
            return false;
        }
        mark::hit("route.held_unopened");
        let &Incoming { address, op_id, record_count, body } = incoming;
        let body = body.into();
        self.waiting.push_back(Waiting { address, op_id, record_count, is_aside: false, body });
        true
    }

    /// The operation that opens the route, when it is time.
    pub(crate) fn poll_op(&mut self, now: Monotonic) -> Option<Op> {
        if self.next_wakeup().is_none_or(|at| at > now) {
            return None;
        }
        self.is_opening = true;
        let surroundings = Arc::clone(&self.surroundings);
        let left_over = Arc::clone(&self.left_over);
        let (name, config) = (self.name.clone(), self.config.clone());
        Some(Op::Blocking(Box::new(move |_: &dyn Platform| {
            Ok(Box::new(surroundings.open(&name, &config, &left_over)))
        })))
    }

    /// When it wants to be polled, completions aside.
    pub(crate) fn next_wakeup(&self) -> Option<Monotonic> {
        (!self.is_opening && self.removed.is_none()).then_some(self.retry_at)
    }

    /// Whether an attempt is under way.
    pub(crate) fn is_opening(&self) -> bool {
        self.is_opening
    }

    /// Takes the completion of the operation that `poll_op` returned.
    pub(crate) fn handle(
        &mut self,
        completion: Completion,
        now: Monotonic,
        wall: WallTime,
    ) -> Attempt {
        self.is_opening = false;
        let result = match completion.result {
            Ok(Outcome::Reply(reply)) => reply.downcast::<Result<Route, EngineError>>().ok(),
            _ => None,
        };
        let unknown = || EngineError::new(ErrorCode::Io, "the attempt to open it was broken off");
        let result = result.map_or_else(|| Err(unknown()), |result| *result);
        if let Some(reply) = self.removed.take() {
            // Who asked for the end may have given up.
            let _ = reply.try_send(Ok(()));
            return Attempt::Removed;
        }
        match result {
            Ok(route) => {
                mark::hit("route.reopened");
                self.answer(&Ok(route.config.clone()));
                Attempt::Opened(Box::new(route))
            }
            Err(error) => {
                mark::hit("route.open_failed");
                self.retry_at = now.after(REOPEN_AFTER);
                self.error = describe(&error, wall);
                self.answer(&Err(error));
                Attempt::Failed
            }
        }
    }

    /// Tries again now, with this configuration; `reply` hears with which one it runs then.
    pub(crate) fn reopen(
        &mut self,
        config: RouteConfig,
        now: Monotonic,
        reply: Reply<RouteConfig>,
    ) {
        self.config = config;
        self.retry_at = now;
        self.asked.push(reply);
    }

    fn answer(&mut self, result: &Result<RouteConfig, EngineError>) {
        for reply in self.asked.drain(..) {
            // The asker may have given up: then nobody needs the answer.
            let _ = reply.try_send(result.clone());
        }
    }

    /// Hands what waited, in order, to the route that it was sent to.
    pub(crate) fn hand_over(
        self,
        route: &mut Route,
        wall: WallTime,
        acknowledgements: &mut Vec<Acknowledgement>,
    ) {
        route.is_closed_to_producers = self.is_closed_to_producers;
        for waiting in &self.waiting {
            route.accept(&waiting.as_incoming(), wall, acknowledgements);
        }
    }

    /// Begins its end: everybody who waits is told that the outcome is unknown, since the log may
    /// hold it from an earlier life. Returns the reply if there is nothing to wait for.
    pub(crate) fn remove(
        &mut self,
        reply: Reply<()>,
        acknowledgements: &mut Vec<Acknowledgement>,
    ) -> Option<Reply<()>> {
        let timeout = |waiting: Waiting| waiting.as_incoming().refused(ErrorCode::Timeout);
        acknowledgements.extend(self.waiting.drain(..).map(timeout));
        self.answer(&Err(self.unavailable()));
        if self.is_opening {
            self.removed = Some(reply);
            return None;
        }
        Some(reply)
    }

    /// Asks the rings to set aside what waits.
    pub(crate) fn set_aside(&mut self, acknowledgements: &mut Vec<Acknowledgement>) {
        for waiting in self.waiting.iter_mut().filter(|waiting| !waiting.is_aside) {
            waiting.is_aside = true;
            let (address, verdict) = (waiting.address, Verdict::SetAside);
            acknowledgements.push(Acknowledgement { address, verdict });
        }
    }

    /// Asks again for what a ring could not set aside.
    pub(crate) fn ask_again_to_set_aside(&mut self) {
        self.waiting.iter_mut().for_each(|waiting| waiting.is_aside = false);
    }

    /// How many records wait for it.
    pub(crate) fn waiting_records(&self) -> u64 {
        self.waiting.iter().map(|waiting| u64::from(waiting.record_count)).sum()
    }

    /// Why something that needs the route open cannot be done.
    pub(crate) fn unavailable(&self) -> EngineError {
        EngineError::new(ErrorCode::LogUnavailable, self.error.message.clone())
    }

    pub(crate) fn status(&self) -> RouteStatus {
        let sink = match self.config.sink {
            SinkKind::File => "file",
            SinkKind::Http => "http",
            SinkKind::None => "none",
        };
        let memory: usize = self.waiting.iter().map(|waiting| waiting.body.len()).sum();
        RouteStatus {
            memory_bytes: memory as u64,
            last_error: Some(self.error.clone()),
            ..RouteStatus::blank(self.name.clone(), sink, RouteState::Failed)
        }
    }
}

fn describe(error: &EngineError, at: WallTime) -> LastError {
    let what = error.to_string();
    let what = what.trim_end_matches('.');
    let message = format!(
        "{what}. What is sent to the route waits. It is tried again every {} s and at each reload: \
         set right what is in the way, or choose another path",
        REOPEN_AFTER.as_secs()
    );
    LastError { at_us: at.0, code: error.code(), message }
}
