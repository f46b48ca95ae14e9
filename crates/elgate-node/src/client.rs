//! `NativeClient`: a producer on a ring.

use crate::error::{coded, with_code};
use crate::task::{Blocking, blocking};
use elgate_client::{Acknowledgement, Client, ConnectOptions, RouteHandle, SubmitError};
use elgate_types::{ErrorCode, Lsn, RouteName};
use napi::bindgen_prelude::{AsyncTask, Either, Float64Array, Function, Uint8Array};
use napi::threadsafe_function::{ThreadsafeFunction, ThreadsafeFunctionCallMode};
use napi::{Env, JsString, Result, Status, sys};
use napi_derive::napi;
use std::cell::RefCell;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

/// A doorbell: weak (never keeps the process alive by itself), no argument, and at most one ring
/// waiting to be heard.
type Doorbell = ThreadsafeFunction<(), (), (), Status, false, true, 1>;

/// Numbers per acknowledgement in the array that `drain` fills.
const NUMBERS_PER_ACKNOWLEDGEMENT: usize = 6;

/// A producer on a ring, this process's or a daemon's.
#[napi]
pub struct NativeClient {
    client: Arc<Client>,
    doorbell: RefCell<Option<Arc<Doorbell>>>,
    acknowledgements: RefCell<Vec<Acknowledgement>>,
}

#[napi]
impl NativeClient {
    /// Attaches to the ring at a path, waiting so long for a daemon to be there.
    #[napi(ts_return_type = "Promise<NativeClient>")]
    pub fn connect(ring_path: String, wait_ms: u32) -> AsyncTask<Blocking<NativeClient>> {
        blocking(move || {
            let options = ConnectOptions { wait: Duration::from_millis(wait_ms.into()) };
            let client = Client::connect(&PathBuf::from(ring_path), options)
                .map_err(|error| coded(error.code(), error))?;
            Ok(Self {
                client: Arc::new(client),
                doorbell: RefCell::new(None),
                acknowledgements: RefCell::new(Vec::new()),
            })
        })
    }

    /// The handle of a route, for `submit` and `post`.
    #[napi]
    pub fn route(&self, env: Env, name: String) -> Result<u32> {
        let name = RouteName::new(&name)
            .map_err(|error| with_code(env, coded(ErrorCode::RouteNameInvalid, error)))?;
        Ok(self.client.route(&name).index())
    }

    /// Submits records that stand one after the other in `packed`, each behind its length (u32,
    /// little-endian). Returns the number of the first operation, or minus an error code.
    #[napi]
    pub fn submit(&self, route: u32, packed: Uint8Array, packed_bytes: u32, count: u32) -> f64 {
        let Some(body) = packed.get(..packed_bytes as usize) else {
            return failed(ErrorCode::SlotCorrupt);
        };
        outcome(self.client.submit_encoded(RouteHandle::from_index(route), count, body))
    }

    /// Submits one record. Returns as `submit` does.
    #[napi]
    pub fn post(&self, route: u32, data: Either<JsString<'_>, Uint8Array>) -> Result<f64> {
        let route = RouteHandle::from_index(route);
        Ok(match data {
            Either::A(text) => {
                let text = text.into_utf8()?;
                outcome(self.client.submit(route, &[text.as_slice()]))
            }
            Either::B(bytes) => outcome(self.client.submit(route, &[&bytes])),
        })
    }

    /// Fills `out` with acknowledgements, six numbers each: first operation, record count, first
    /// LSN, error code or 0, level, route. Returns how many acknowledgements it wrote.
    #[napi]
    pub fn drain(&self, mut out: Float64Array) -> u32 {
        let mut waiting = self.acknowledgements.borrow_mut();
        self.client.drain(&mut waiting);
        // SAFETY: JavaScript is not running while this call does, so nobody else touches the array.
        let numbers = unsafe { out.as_mut() };
        let room = numbers.len() / NUMBERS_PER_ACKNOWLEDGEMENT;
        let count = room.min(waiting.len());
        let groups = numbers.chunks_exact_mut(NUMBERS_PER_ACKNOWLEDGEMENT);
        for (acknowledgement, group) in waiting.drain(..count).zip(groups) {
            group[0] = acknowledgement.op_id as f64;
            group[1] = f64::from(acknowledgement.record_count);
            group[2] = acknowledgement.first_lsn.0 as f64;
            group[3] = acknowledgement.status.map_or(0.0, |code| f64::from(code.row().number));
            group[4] = f64::from(acknowledgement.level as u8);
            group[5] = f64::from(acknowledgement.route.index());
        }
        count as u32
    }

    /// Sets the function that is called, at most once until the next `drain`, when there is
    /// something to drain, space in the ring, or a delivery that was watched for.
    #[napi(ts_args_type = "callback: () => void")]
    pub fn on_ready(&self, callback: Function<'_, (), ()>) -> Result<()> {
        let doorbell: Doorbell = callback
            .build_threadsafe_function()
            .weak::<true>()
            .max_queue_size::<1>()
            .callee_handled::<false>()
            .build()?;
        let doorbell = Arc::new(doorbell);
        let ring = Arc::clone(&doorbell);
        self.client.set_doorbell(Box::new(move || {
            // A full queue means that it is ringing already.
            ring.call((), ThreadsafeFunctionCallMode::NonBlocking);
        }));
        *self.doorbell.borrow_mut() = Some(doorbell);
        Ok(())
    }

    /// Keeps the process alive until `unref`.
    #[napi(js_name = "ref")]
    pub fn keep_alive(&self, env: Env) {
        if let Some(doorbell) = &*self.doorbell.borrow() {
            // SAFETY: called on the thread of `env`, with a function that `doorbell` keeps alive.
            unsafe { sys::napi_ref_threadsafe_function(env.raw(), doorbell.raw()) };
        }
    }

    /// Lets the process end although acknowledgements may be outstanding.
    #[napi(js_name = "unref")]
    pub fn let_go(&self, env: Env) {
        if let Some(doorbell) = &*self.doorbell.borrow() {
            // SAFETY: as above.
            unsafe { sys::napi_unref_threadsafe_function(env.raw(), doorbell.raw()) };
        }
    }

    /// Rings the doorbell when the route's sink has passed `lsn`.
    #[napi]
    pub fn watch_delivered(&self, route: u32, lsn: f64) {
        self.client.watch_delivered(RouteHandle::from_index(route), Lsn(lsn as u64));
    }

    /// How far the route's sink has come.
    #[napi]
    pub fn delivered(&self, route: u32) -> f64 {
        self.client.delivered(RouteHandle::from_index(route)).map_or(0.0, |lsn| lsn.0 as f64)
    }

    /// Whether a daemon holds the ring.
    #[napi]
    pub fn daemon_alive(&self) -> bool {
        self.client.daemon_alive()
    }

    /// Where the daemon keeps its logs.
    #[napi]
    pub fn data_dir(&self) -> String {
        self.client.data_dir()
    }

    /// Submissions without an acknowledgement.
    #[napi]
    pub fn outstanding(&self) -> u32 {
        u32::try_from(self.client.outstanding()).unwrap_or(u32::MAX)
    }

    /// Whether a submission to the route would find room now.
    #[napi]
    pub fn space_available(&self, route: u32) -> bool {
        self.client.space_available(RouteHandle::from_index(route))
    }

    /// Rings the doorbell once there is room for a submission to the route.
    #[napi]
    pub fn notify_space(&self, route: u32) {
        self.client.notify_space(RouteHandle::from_index(route));
    }

    /// Detaches. Submissions without an acknowledgement are still carried out.
    #[napi]
    pub fn close(&self) {
        self.client.close();
        *self.doorbell.borrow_mut() = None;
    }
}

fn outcome(result: std::result::Result<u64, SubmitError>) -> f64 {
    match result {
        Ok(op_id) => op_id as f64,
        Err(error) => failed(error.code()),
    }
}

fn failed(code: ErrorCode) -> f64 {
    -f64::from(code.row().number)
}
