//! The client: routes to lanes, numbers to operations, one doorbell over all.

use crate::bell::Bell;
use crate::error::{ClientError, SubmitError};
use crate::lane::{Lane, Payload};
use crate::routes::{RouteHandle, Routes};
use crate::watch::Watch;
use elgate_ring::{Producer, RingError, examine};
use elgate_types::{ErrorCode, Level, Lsn, RouteName};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

/// How to connect.
#[derive(Debug, Clone, Copy, Default)]
pub struct ConnectOptions {
    /// How long to wait for a daemon that is not there yet.
    pub wait: Duration,
}

/// What became of a submission.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acknowledgement {
    /// What [`Client::submit`] returned.
    pub op_id: u64,
    /// The route it was for.
    pub route: RouteHandle,
    /// LSN of its first record; the others follow without gaps. Zero on failure.
    pub first_lsn: Lsn,
    /// How many records it had.
    pub record_count: u32,
    /// `None` on success. `RingCorrupt` and `Timeout` mean that the outcome is unknown; every other
    /// code, that the records were not taken.
    pub status: Option<ErrorCode>,
    /// How far the records have come. Meaningful on success.
    pub level: Level,
}

/// A program's connection to Elgate, usable from all its threads.
///
/// What [`submit`](Self::submit) took is *accepted*: it survives this process, dropping and closing
/// included. Its acknowledgement comes through [`drain`](Self::drain). After a fork the child's
/// first use attaches anew; acknowledgements of the parent's submissions stay with the parent. (As
/// with every lock: fork while no other thread is inside the client.)
#[derive(Debug)]
pub struct Client {
    lanes: Vec<Arc<Lane>>,
    routes: Routes,
    bell: Arc<Bell>,
    watch: Arc<Watch>,
    next_op_id: AtomicU64,
    data_dir: String,
}

/// Most rings a daemon can have; a broken ring file does not make us open more.
const LANES_MAX: u32 = 1_024;
const CONNECT_RETRY_EVERY: Duration = Duration::from_millis(5);

impl Client {
    /// Connects to the daemon that serves the ring at `ring_path`, its first.
    ///
    /// # Errors
    /// [`ClientError::DaemonUnavailable`] if none does before `options.wait` is over; else what is
    /// wrong with the ring.
    pub fn connect(ring_path: &Path, options: ConnectOptions) -> Result<Self, ClientError> {
        let producer = attach_when_served(ring_path, options.wait)?;
        let data_dir = producer.data_dir();
        let bell = Arc::new(Bell::default());
        let lanes: Vec<Arc<Lane>> = (0..producer.ring_count().min(LANES_MAX))
            .map(|index| {
                Arc::new(Lane::new(elgate_ring::ring_path(ring_path, index), bell.clone()))
            })
            .collect();
        lanes[0].adopt(producer);
        let watch = Arc::new(Watch::new(&data_dir, bell.clone(), lanes.clone()));
        let next_op_id = AtomicU64::new(1);
        Ok(Self { lanes, routes: Routes::new(), bell, watch, next_op_id, data_dir })
    }

    /// The handle of a route, which need not exist yet: whether it does is said by the
    /// acknowledgement. At most 1,024 different names; a handle beyond that is refused when used.
    #[must_use]
    pub fn route(&self, name: &RouteName) -> RouteHandle {
        self.routes.handle(name, self.lanes.len())
    }

    /// The name behind a handle.
    #[must_use]
    pub fn route_name(&self, route: RouteHandle) -> Option<&RouteName> {
        self.routes.get(route).map(|route| &route.name)
    }

    /// Submits records for a route as one group, to be appended one after the other. Returns the
    /// number of the first; the others have the numbers that follow. Never blocks.
    ///
    /// # Errors
    /// [`SubmitError`]; see there for what has happened.
    pub fn submit(&self, route: RouteHandle, records: &[&[u8]]) -> Result<u64, SubmitError> {
        self.submit_payload(route, Payload::Records(records))
    }

    /// As [`submit`](Self::submit), for records already encoded one after the other, each
    /// `{ length u32 little-endian, payload }`.
    ///
    /// # Errors
    /// As `submit`, and [`SubmitError::Records`] if they are not encoded like that.
    pub fn submit_encoded(
        &self,
        route: RouteHandle,
        record_count: u32,
        body: &[u8],
    ) -> Result<u64, SubmitError> {
        self.submit_payload(route, Payload::Encoded { record_count, body })
    }

    fn submit_payload(
        &self,
        handle: RouteHandle,
        payload: Payload<'_>,
    ) -> Result<u64, SubmitError> {
        let route = self.routes.get(handle).ok_or(SubmitError::UnknownHandle)?;
        self.lanes[route.lane].submit(&self.next_op_id, handle, &route.name, payload)
    }

    /// Appends the acknowledgements that have arrived; returns how many. Within a route they come
    /// in the order of submission, unless submissions fail.
    pub fn drain(&self, out: &mut Vec<Acknowledgement>) -> usize {
        let before = out.len();
        self.bell.answer();
        for lane in &self.lanes {
            lane.drain(out);
        }
        out.len() - before
    }

    /// Sets what a background thread calls when there is something to drain, or when something
    /// that was watched for has happened; once, until [`drain`](Self::drain) is called. It may
    /// drain.
    pub fn set_doorbell(&self, doorbell: Box<dyn Fn() + Send + Sync>) {
        self.bell.set(Arc::from(doorbell));
    }

    /// Waits until there is something to drain, at most `timeout`. Whether there is.
    pub fn wait_acks(&self, timeout: Duration) -> bool {
        self.bell.wait_until_rung(timeout)
    }

    /// Submissions whose acknowledgement has not been drained.
    #[must_use]
    pub fn outstanding(&self) -> usize {
        self.lanes.iter().map(|lane| lane.outstanding()).sum()
    }

    /// Whether a submission to the route, as large as the last one refused, would find room now.
    #[must_use]
    pub fn space_available(&self, route: RouteHandle) -> bool {
        let route = self.routes.get(route);
        route.is_some_and(|route| self.watch.has_space(route.lane, &route.name))
    }

    /// Rings the doorbell once there is room for a submission to the route.
    pub fn notify_space(&self, handle: RouteHandle) {
        if let Some(route) = self.routes.get(handle) {
            self.watch.watch_space(handle, route.lane, &route.name);
        }
    }

    /// Waits until there is room for a submission to the route, at most `timeout`. Whether there is.
    /// While 2,048 submissions await acknowledgement it waits for one instead: drain it.
    pub fn wait_for_space(&self, handle: RouteHandle, timeout: Duration) -> bool {
        let Some(route) = self.routes.get(handle) else { return false };
        let lane = &self.lanes[route.lane];
        if !lane.window_open() {
            self.wait_acks(timeout);
        } else if let Some(producer) = lane.producer() {
            producer.wait_for_space(&route.name, timeout);
        }
        self.space_available(handle)
    }

    /// How far the sink of a route has come: every record up to this LSN has been delivered. `None`
    /// if the route has no log (yet).
    #[must_use]
    pub fn delivered(&self, route: RouteHandle) -> Option<Lsn> {
        self.watch.delivered(route, self.route_name(route)?)
    }

    /// Rings the doorbell once [`delivered`](Self::delivered) has reached `lsn`.
    pub fn watch_delivered(&self, route: RouteHandle, lsn: Lsn) {
        if let Some(name) = self.route_name(route) {
            self.watch.watch_delivered(route, name, lsn);
        }
    }

    /// Whether a daemon serves the ring at this moment.
    #[must_use]
    pub fn daemon_alive(&self) -> bool {
        self.lanes[0].producer().is_some_and(|producer| producer.consumer_alive())
    }

    /// Where the daemon keeps its logs. Empty if the ring does not say.
    #[must_use]
    pub fn data_dir(&self) -> String {
        self.data_dir.clone()
    }

    /// Ends the background threads and detaches. Submissions without an acknowledgement are still
    /// carried out; nobody will be told.
    pub fn close(&self) {
        self.bell.close();
        self.watch.close();
        for lane in &self.lanes {
            lane.close();
        }
    }
}

impl Drop for Client {
    fn drop(&mut self) {
        self.close();
    }
}

/// Attaches once a daemon serves the ring. Errors that time does not mend are returned at once.
fn attach_when_served(path: &Path, wait: Duration) -> Result<Producer, ClientError> {
    let tries = 1 + wait.as_nanos() / CONNECT_RETRY_EVERY.as_nanos();
    for attempt in 0..tries {
        if attempt > 0 {
            std::thread::park_timeout(CONNECT_RETRY_EVERY);
        }
        let served = examine(path)?.is_some_and(|ring| ring.consumer_alive);
        if !served {
            continue;
        }
        match Producer::attach(path) {
            Err(RingError::Missing { .. } | RingError::Poisoned { .. }) => {}
            other => return Ok(other?),
        }
    }
    Err(ClientError::DaemonUnavailable { path: path.to_owned() })
}
