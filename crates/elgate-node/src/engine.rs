//! `NativeEngine`: an engine in this process.

use crate::error::{coded, with_code};
use crate::task::{Blocking, blocking};
use elgate_engine::{Engine, EngineConfig, EngineError};
use elgate_types::{ErrorCode, RouteName};
use napi::bindgen_prelude::AsyncTask;
use napi::{Env, Result};
use napi_derive::napi;
use std::sync::Arc;
use std::time::Duration;

/// An engine in this process.
#[napi]
pub struct NativeEngine {
    engine: Arc<Engine>,
}

fn convert(error: EngineError) -> napi::Error {
    coded(error.code(), error)
}

fn json(value: &impl serde::Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|error| coded(ErrorCode::Internal, error))
}

fn route_name(name: &str) -> Result<RouteName> {
    RouteName::new(name).map_err(|error| coded(ErrorCode::RouteNameInvalid, error))
}

#[napi]
impl NativeEngine {
    /// Starts an engine from its whole configuration, as JSON.
    #[napi(ts_return_type = "Promise<NativeEngine>")]
    pub fn open(config_json: String) -> AsyncTask<Blocking<NativeEngine>> {
        blocking(move || {
            let config = EngineConfig::from_json(&config_json).map_err(convert)?;
            let engine = Engine::open(&config).map_err(convert)?;
            Ok(Self { engine: Arc::new(engine) })
        })
    }

    /// Replaces the set of routes. Resolves with what changed, as JSON.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn apply_routes(&self, routes_json: String) -> AsyncTask<Blocking<String>> {
        let engine = Arc::clone(&self.engine);
        blocking(move || json(&engine.apply_routes_json(&routes_json).map_err(convert)?))
    }

    /// Stops delivering a route's records.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn pause(&self, route: String) -> AsyncTask<Blocking<()>> {
        let engine = Arc::clone(&self.engine);
        blocking(move || engine.pause(&route_name(&route)?).map_err(convert))
    }

    /// Delivers a route's records again.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn resume(&self, route: String) -> AsyncTask<Blocking<()>> {
        let engine = Arc::clone(&self.engine);
        blocking(move || engine.resume(&route_name(&route)?).map_err(convert))
    }

    /// Resolves once everything the route has taken is on stable storage.
    #[napi(ts_return_type = "Promise<void>")]
    pub fn flush(&self, route: String) -> AsyncTask<Blocking<()>> {
        let engine = Arc::clone(&self.engine);
        blocking(move || engine.flush(&route_name(&route)?).map_err(convert))
    }

    /// How everything is, as JSON.
    #[napi]
    pub fn status(&self, env: Env) -> Result<String> {
        self.engine
            .status()
            .map_err(convert)
            .and_then(|status| json(&status))
            .map_err(|error| with_code(env, error))
    }

    /// The path of the first ring, for `NativeClient.connect`.
    #[napi]
    pub fn ring_path(&self) -> String {
        self.engine.ring_path().to_string_lossy().into_owned()
    }

    /// Drains for at most so many milliseconds, then stops. Resolves with the outcome, as JSON.
    #[napi(ts_return_type = "Promise<string>")]
    pub fn close(&self, drain_ms: u32) -> AsyncTask<Blocking<String>> {
        let engine = Arc::clone(&self.engine);
        let drain = Duration::from_millis(drain_ms.into());
        blocking(move || json(&engine.close(drain).map_err(convert)?))
    }
}
