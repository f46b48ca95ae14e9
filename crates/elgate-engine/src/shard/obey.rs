//! Carrying out commands: routes come, change and go.

use super::stop::{StopPhase, Stopping, answer};
use super::{Command, Foreign, Reply, Shard};
use crate::error::EngineError;
use crate::failed_route::FailedRoute;
use crate::route::{Incoming, Route, Verdict};
use elgate_ring::LeftOver;
use elgate_types::{ErrorCode, Lsn, RouteName, mark};

/// A change to a route that is answered once something has ended.
pub(super) enum Closing {
    Sink(usize, Reply<Lsn>),
    Route(usize, Reply<()>),
}

impl Shard {
    pub(super) fn take_commands(&mut self) -> bool {
        let mut any = false;
        while let Ok(command) = self.commands.try_recv() {
            any = true;
            self.obey(command);
        }
        any
    }

    fn obey(&mut self, command: Command) {
        let now = self.driver.now();
        match command {
            Command::StartIntake(reply) => {
                self.intake_open = true;
                answer(&reply, Ok(()));
            }
            Command::Install(route, reply) => answer(&reply, self.install(route)),
            Command::InstallFailed(route, reply) => {
                let result = self.check_is_new(&route.name).map(|()| self.failed.add(*route));
                answer(&reply, result);
            }
            Command::Reopen(name, config, reply) => match self.find(&name) {
                Ok(slot) => {
                    let route = self.routes[slot].as_ref();
                    answer(&reply, route.map(|it| it.config.clone()).ok_or_else(|| unknown(&name)));
                }
                Err(error) => match self.failed.get_mut(&name) {
                    Some(failed) => failed.reopen(*config, now, reply),
                    None => answer(&reply, Err(error)),
                },
            },
            Command::RetireSink(name, reply) => match self.find_settled(&name) {
                Ok(slot) => {
                    self.touch(slot, |route| route.retire_sink(now));
                    self.closing.push(Closing::Sink(slot, reply));
                }
                Err(error) => answer(&reply, Err(error)),
            },
            Command::InstallSink(name, parts, reply) => {
                let (sink, config) = *parts;
                let result = self
                    .find(&name)
                    .map(|slot| self.touch(slot, |route| route.install_sink(sink, config)));
                answer(&reply, result);
            }
            Command::Remove(name, reply) => match self.find(&name) {
                Ok(slot) => {
                    self.by_name.remove(name.as_str().as_bytes());
                    self.touch(slot, |route| route.close(now));
                    self.closing.push(Closing::Route(slot, reply));
                }
                Err(_) => self.failed.remove(&name, reply, &mut self.acknowledgements),
            },
            Command::Pause(name, reply) => {
                let result = self.find(&name).map(|slot| self.touch(slot, Route::pause));
                answer(&reply, result);
            }
            Command::Resume(name, reply) => {
                let result =
                    self.find(&name).map(|slot| self.touch(slot, |route| route.resume(now)));
                answer(&reply, result);
            }
            Command::Flush(name, done, reply) => {
                let result =
                    self.find(&name).map(|slot| self.touch(slot, |route| route.flush(done)));
                answer(&reply, result);
            }
            Command::Status(reply) => {
                let routes = self.routes.iter().flatten().map(|route| route.status());
                let routes = routes.chain(self.failed.iter().map(FailedRoute::status)).collect();
                answer(&reply, Ok((self.status(now), routes)));
            }
            Command::LeftOver(reply) => {
                let mut found = LeftOver::new();
                self.intakes.iter().for_each(|intake| intake.left_over(&mut found));
                answer(&reply, Ok(found));
            }
            Command::Stop { deadline, remove_rings, reply } => {
                let phase = StopPhase::Draining;
                self.stopping = Some(Stopping { deadline, remove_rings, reply, phase });
            }
            Command::Foreign(foreign) => self.accept_foreign(&foreign),
            Command::ForeignDone(acknowledgement) => match acknowledgement.verdict {
                Verdict::Finished(_) => {
                    self.passed_on.finish(&acknowledgement.address);
                    self.acknowledgements.push(acknowledgement);
                }
                // The ring's own shard knows when that is needed.
                Verdict::SetAside => {}
            },
        }
    }

    fn check_is_new(&self, name: &RouteName) -> Result<(), EngineError> {
        let is_there = self.by_name.contains_key(name.as_str().as_bytes());
        if is_there || self.failed.get(name).is_some() {
            return Err(EngineError::config(format!("route {name} exists already")));
        }
        Ok(())
    }

    pub(super) fn install(&mut self, mut route: Box<Route>) -> Result<(), EngineError> {
        self.check_is_new(&route.name)?;
        let key: Box<[u8]> = route.name.as_str().as_bytes().into();
        let slot = match self.routes.iter().position(Option::is_none) {
            Some(slot) => slot,
            None => {
                self.routes.push(None);
                self.routes.len() - 1
            }
        };
        route.set_arena(self.driver.arena());
        self.driver.hold(route.log_lock());
        self.routes[slot] = Some(route);
        self.by_name.insert(key, slot);
        self.dirty.push(slot);
        Ok(())
    }

    fn accept_foreign(&mut self, foreign: &Foreign) {
        mark::hit("shard.passed_on");
        let incoming = Incoming {
            address: foreign.address,
            op_id: foreign.op_id,
            record_count: foreign.record_count,
            body: &foreign.body,
        };
        let wall = self.driver.wall_time();
        let Self { routes, by_name, failed, acknowledgements, dirty, .. } = self;
        let slot = by_name.get(foreign.route.as_str().as_bytes()).copied();
        match slot.and_then(|slot| Some((slot, routes[slot].as_mut()?))) {
            Some((slot, route)) => {
                if !route.dirty {
                    dirty.push(slot);
                }
                route.accept(&incoming, wall, acknowledgements);
            }
            None if failed.hold(&foreign.route, &incoming) => {}
            None => acknowledgements.push(incoming.refused(ErrorCode::RouteUnknown)),
        }
    }

    fn find(&self, name: &RouteName) -> Result<usize, EngineError> {
        self.by_name.get(name.as_str().as_bytes()).copied().ok_or_else(|| {
            self.failed.get(name).map_or_else(|| unknown(name), FailedRoute::unavailable)
        })
    }

    /// As `find`, of a route whose next sink would find its place in the log.
    fn find_settled(&self, name: &RouteName) -> Result<usize, EngineError> {
        let slot = self.find(name)?;
        match &self.routes[slot] {
            Some(route) if !route.is_settled() => Err(EngineError::new(
                ErrorCode::LogUnavailable,
                format!(
                    "route {name} stays as it is: its log is writing again what a failing device \
                     has not kept. Try again when it is done"
                ),
            )),
            _ => Ok(slot),
        }
    }

    pub(super) fn touch(&mut self, slot: usize, change: impl FnOnce(&mut Route)) {
        if let Some(route) = &mut self.routes[slot] {
            if !route.dirty {
                route.dirty = true;
                self.dirty.push(slot);
            } else if !self.dirty.contains(&slot) {
                self.dirty.push(slot);
            }
            change(route);
        }
    }

    pub(super) fn finish_closing(&mut self) {
        if self.closing.is_empty() {
            return;
        }
        for closing in std::mem::take(&mut self.closing) {
            match closing {
                Closing::Sink(slot, reply) => {
                    let route = self.routes[slot].as_mut();
                    match route.map(|route| (route.is_retired(), route.taken)) {
                        Some((false, _)) => self.closing.push(Closing::Sink(slot, reply)),
                        gone => answer(&reply, Ok(gone.map_or(Lsn::ZERO, |(_, taken)| taken))),
                    }
                }
                Closing::Route(slot, reply) => {
                    let Self { routes, acknowledgements, driver, .. } = self;
                    let ended = routes[slot]
                        .as_mut()
                        .map(|route| route.is_closed() || route.is_given_up(acknowledgements));
                    match ended {
                        Some(false) => self.closing.push(Closing::Route(slot, reply)),
                        _ => {
                            if let Some(route) = routes[slot].take() {
                                driver.release(route.log_lock());
                            }
                            answer(&reply, Ok(()));
                        }
                    }
                }
            }
        }
    }
}

pub(super) fn unknown(name: &RouteName) -> EngineError {
    let advice = ErrorCode::RouteUnknown.row().advice;
    EngineError::new(ErrorCode::RouteUnknown, format!("there is no route {name}. {advice}"))
}
