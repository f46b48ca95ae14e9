//! Changing the routes of a running engine. What goes wrong with one of them stops no other.

use crate::config::{RouteConfig, check_mirrors, routes_from_json};
use crate::engine::{Engine, State};
use crate::error::EngineError;
use crate::failed_route::FailedRoute;
use crate::open_route::LogPlace;
use crate::shard::{Command, home};
use crate::status::{RouteStatus, code_name};
use elgate_ring::LeftOver;
use elgate_types::{ErrorCode, RouteName};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a reload changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct Reload {
    /// Routes that are new, those included that could not be opened.
    pub added: Vec<RouteName>,
    /// Routes that are gone; their logs stay on disk.
    pub removed: Vec<RouteName>,
    /// Routes with other settings.
    pub changed: Vec<RouteName>,
    /// Routes left alone.
    pub unchanged: Vec<RouteName>,
    /// What did not work. A route that runs goes on as it was.
    pub failed: Vec<RouteFailure>,
}

/// Why a route could not be opened, changed or removed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RouteFailure {
    /// The route.
    pub name: RouteName,
    /// The stable code.
    #[serde(serialize_with = "code_name")]
    pub code: ErrorCode,
    /// What, on what, and what to do.
    pub message: String,
}

impl Reload {
    /// Notes an error; whether there was none.
    fn is_done<T>(&mut self, name: &RouteName, result: Result<T, EngineError>) -> bool {
        if let Err(error) = &result {
            let (code, message) = (error.code(), error.to_string());
            self.failed.push(RouteFailure { name: name.clone(), code, message });
        }
        result.is_ok()
    }
}

impl Engine {
    /// Replaces the set of routes. Routes that do not change are not touched; a changed route goes
    /// on appending while its sink is exchanged. A new route that cannot be opened is there all the
    /// same, and tried again; one that cannot be changed stays as it was. Both are reported.
    ///
    /// # Errors
    /// `ConfigInvalid`, `PathOutsideRoot`, `Closed`: nothing has changed then.
    pub fn apply_routes(
        &self,
        wanted: &BTreeMap<RouteName, RouteConfig>,
    ) -> Result<Reload, EngineError> {
        check_mirrors(&self.surroundings.data_dir, wanted)?;
        let mut state = self.state()?;
        for (name, config) in wanted {
            self.surroundings.check_settings(name, config)?;
            if let Some(current) = state.routes.get(name).filter(|_| !state.failed.contains(name)) {
                self.surroundings.check_change(name, current, config)?;
            }
        }
        let adds = wanted.keys().any(|name| !state.routes.contains_key(name));
        let left_over = Arc::new(if adds { self.left_over()? } else { LeftOver::new() });
        let mut reload = Reload::default();
        let gone = state.routes.keys().filter(|name| !wanted.contains_key(*name));
        for name in gone.cloned().collect::<Vec<_>>() {
            let removed = self.ask(&name, |reply| Command::Remove(name.clone(), reply));
            // Whatever the answer is: from the question on, the shard serves it no more.
            state.routes.remove(&name);
            state.failed.remove(&name);
            state.sinkless.remove(&name);
            reload.is_done(&name, removed);
            reload.removed.push(name);
        }
        for (name, config) in wanted {
            match state.routes.get(name).cloned() {
                None => self.add(&mut state, name, config, &left_over, &mut reload),
                Some(before) => self.change(&mut state, name, &before, config, &mut reload),
            }
        }
        Ok(reload)
    }

    /// [`apply_routes`](Self::apply_routes) from JSON.
    ///
    /// # Errors
    /// As there, and `ConfigInvalid` for JSON that is not a set of routes.
    pub fn apply_routes_json(&self, json: &str) -> Result<Reload, EngineError> {
        self.apply_routes(&routes_from_json(json)?)
    }

    /// What the rings may hand over again, should this process die now or have followed one that did.
    fn left_over(&self) -> Result<LeftOver, EngineError> {
        let mut found = LeftOver::new();
        for shard in 0..self.shards.len() {
            for (route, rings) in self.ask_shard(shard, Command::LeftOver)? {
                // A ring has one shard.
                found.entry(route).or_default().extend(rings);
            }
        }
        Ok(found)
    }

    fn add(
        &self,
        state: &mut State,
        name: &RouteName,
        config: &RouteConfig,
        left_over: &Arc<LeftOver>,
        reload: &mut Reload,
    ) {
        let opened = self.surroundings.open(name, config, left_over);
        let installed = match opened {
            Ok(route) => self.ask(name, |reply| Command::Install(Box::new(route), reply)),
            Err(error) => {
                let (name, config) = (name.clone(), config.clone());
                let around = (&self.surroundings, left_over);
                let failed = FailedRoute::new(around, name.clone(), config, &error);
                reload.is_done::<()>(&name, Err(error));
                state.failed.insert(name.clone());
                self.ask(&name, |reply| Command::InstallFailed(Box::new(failed), reply))
            }
        };
        if reload.is_done(name, installed) {
            state.routes.insert(name.clone(), config.clone());
            reload.added.push(name.clone());
        }
    }

    fn change(
        &self,
        state: &mut State,
        name: &RouteName,
        before: &RouteConfig,
        config: &RouteConfig,
        reload: &mut Reload,
    ) {
        if state.failed.contains(name) {
            let again = |reply| Command::Reopen(name.clone(), Box::new(config.clone()), reply);
            let opened = self.ask(name, again);
            // A shard that has opened it meanwhile did so with what it knew.
            let runs = opened.as_ref().unwrap_or(config).clone();
            state.routes.insert(name.clone(), runs);
            if !reload.is_done(name, opened) {
                return;
            }
            state.failed.remove(name);
        }
        if state.routes[name] != *config || state.sinkless.contains(name) {
            let checked = self
                .surroundings
                .check_change(name, &state.routes[name], config)
                .and_then(|()| self.surroundings.check_sink(name, config));
            let exchanged = checked.and_then(|()| self.exchange_sink(state, name, config));
            if !reload.is_done(name, exchanged) {
                return;
            }
        } else if before == config {
            reload.unchanged.push(name.clone());
            return;
        }
        reload.changed.push(name.clone());
    }

    fn exchange_sink(
        &self,
        state: &mut State,
        name: &RouteName,
        config: &RouteConfig,
    ) -> Result<(), EngineError> {
        let retired = self.ask(name, |reply| Command::RetireSink(name.clone(), reply));
        // With that code the shard has kept the sink.
        if !retired.as_ref().is_err_and(|error| error.code() == ErrorCode::LogUnavailable) {
            state.sinkless.insert(name.clone());
        }
        let taken = retired?;
        let status = self.route_status(name)?;
        let place = LogPlace { first: status.first_lsn, durable: status.durable_lsn, taken };
        let install = |config: &RouteConfig| {
            let sink = self.surroundings.open_sink(name, config, place)?;
            let parts = Box::new((sink, config.clone()));
            self.ask(name, |reply| Command::InstallSink(name.clone(), parts, reply))
        };
        let installed = install(config);
        if installed.is_ok() {
            state.routes.insert(name.clone(), config.clone());
        }
        // What ran before still can, unless whatever is in the way of one is in the way of both.
        if installed.is_ok() || install(&state.routes[name]).is_ok() {
            state.sinkless.remove(name);
        }
        installed
    }

    fn route_status(&self, name: &RouteName) -> Result<RouteStatus, EngineError> {
        let (_, routes) = self.ask_shard(home(name, self.shards.len()), Command::Status)?;
        routes.into_iter().find(|route| route.name == *name).ok_or_else(|| {
            EngineError::new(ErrorCode::RouteUnknown, format!("there is no route {name}"))
        })
    }
}
