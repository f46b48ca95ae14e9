//! Opens what a route needs, away from the shard threads: everything here may block.

use crate::config::{EngineConfig, Order, RouteConfig, SinkKind};
use crate::error::EngineError;
use crate::feed::Feed;
use crate::mode::Mode;
use crate::route::Route;
use crate::sink::{
    CursorSaver, FileSink, FileTail, FileTarget, HttpSink, HttpSinkOptions, KeepSink, Remembered,
    Sink, Trouble,
};
use elgate_http::{HttpUrl, RequestEncoder};
use elgate_io::{File, FileIdentity, OpenOptions, Platform};
use elgate_log::{Cursor, LogReader, ReadFrom};
use elgate_net::{ClientOptions, HttpClient, Origin, RetryPolicy};
use elgate_ring::LeftOver;
use elgate_types::{ErrorCode, Lsn, RouteName, mark};
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

/// The reader name of a route's own sink.
const SINK_CURSOR: &str = "sink";

/// Where a log is when its sink is opened.
#[derive(Debug, Clone, Copy)]
pub(crate) struct LogPlace {
    /// The first record kept.
    pub(crate) first: Lsn,
    pub(crate) durable: Lsn,
    /// The last record that any sink was given: the new one is nowhere beyond it.
    pub(crate) taken: Lsn,
}

/// A sink's cursor, and the last record that need not be delivered again.
struct Place {
    cursor: Cursor,
    delivered: Lsn,
}

/// What every route is opened with.
#[derive(Debug, Clone)]
pub(crate) struct Surroundings {
    pub(crate) platform: Arc<dyn Platform>,
    pub(crate) data_dir: PathBuf,
    pub(crate) files_root: PathBuf,
    /// Deliver nothing anywhere: records stay in the log.
    pub(crate) stub: bool,
    /// What the device's probe says of small commits; the log's own default if it says nothing.
    pub(crate) small_writes_in_flight: Option<usize>,
}

impl Surroundings {
    pub(crate) fn new(platform: Arc<dyn Platform>, config: &EngineConfig, mode: Mode) -> Self {
        Self {
            platform,
            data_dir: config.data_dir.clone(),
            files_root: config.files.root.clone(),
            stub: mode == Mode::TestStub,
            small_writes_in_flight: None,
        }
    }

    /// Opens a route: recovers its log, with what the rings may hand over again; finds where its
    /// sink left off.
    pub(crate) fn open(
        &self,
        name: &RouteName,
        config: &RouteConfig,
        left_over: &LeftOver,
    ) -> Result<Route, EngineError> {
        let directory = self.log_directory(name);
        let mut options = config.log_options(name);
        if let Some(rings) = left_over.get(name.as_str()) {
            options.handed_over_again.clone_from(rings);
        }
        if let Some(count) = self.small_writes_in_flight {
            options.small_writes_in_flight_max = count;
        }
        let (log, recovery) =
            elgate_log::open(Arc::clone(&self.platform), &directory, name, options)
                .map_err(|error| EngineError::wrap(error.code(), format!("route {name}"), error))?;
        let durable = log.durable();
        let place = LogPlace { first: log.first_lsn(), durable, taken: durable };
        let sink = self.open_sink(name, config, place)?;
        let feed = Feed::new(Arc::clone(&self.platform), directory);
        let mut route = Route::new(name.clone(), config.clone(), log, feed, sink, recovery.sources);
        let damaged = recovery
            .quarantined
            .iter()
            .map(|gap| format!("records {} to {} ({})", gap.from, gap.to, gap.reason));
        let strange = recovery
            .ignored
            .iter()
            .map(|file| format!("{} is not used: {}", file.path.display(), file.reason));
        let found: Vec<String> = damaged.chain(strange).collect();
        if recovery.torn_bytes > 0 {
            mark::hit("recovery.torn_cut");
        }
        if !found.is_empty() {
            mark::hit("recovery.damage_found");
            let message = format!(
                "damage found in {} of route {name}: {}. {}",
                self.log_directory(name).display(),
                found.join(", "),
                ErrorCode::LogCorrupt.row().advice
            );
            route.note(self.platform.wall_time(), ErrorCode::LogCorrupt, message);
        }
        Ok(route)
    }

    /// Opens a route's sink where it left off. If nobody knows where that was, it starts over with
    /// the first record kept.
    pub(crate) fn open_sink(
        &self,
        name: &RouteName,
        config: &RouteConfig,
        log: LogPlace,
    ) -> Result<Sink, EngineError> {
        if self.stub || config.sink == SinkKind::None {
            return Ok(Sink::Keep(KeepSink::new(log.durable)));
        }
        let directory = self.log_directory(name);
        let cursor = Cursor::open(&*self.platform, &directory, SINK_CURSOR)
            .map_err(|error| EngineError::wrap(error.code(), format!("route {name}"), error))?;
        let lost = cursor.lost();
        let known = match lost {
            Some(_) => Lsn(log.first.0 - 1),
            None => cursor.lsn(),
        };
        let place = Place { cursor, delivered: known.min(log.taken) };
        let mut sink = match config.sink {
            SinkKind::File => self.open_file_sink(name, config, place, log.taken)?,
            _ => self.open_http_sink(name, config, place)?,
        };
        if let Some(lost) = lost {
            mark::hit("sink.cursor_lost");
            let message = format!("route {name}: {lost}");
            sink.warn(Trouble { code: ErrorCode::LogCorrupt, message });
        }
        Ok(sink)
    }

    /// Refuses settings that can work nowhere, whatever is on the disk.
    pub(crate) fn check_settings(
        &self,
        name: &RouteName,
        config: &RouteConfig,
    ) -> Result<(), EngineError> {
        match config.sink {
            SinkKind::File => {
                let path = config.path.as_deref().unwrap_or(Path::new(""));
                let is_inside = |part| matches!(part, Component::Normal(_) | Component::CurDir);
                match path.components().all(is_inside) {
                    true => Ok(()),
                    false => Err(self.outside_root(name, path)),
                }
            }
            SinkKind::Http => http_encoder(name, config).map(drop),
            SinkKind::None => Ok(()),
        }
    }

    /// Refuses what cannot change while a route runs.
    pub(crate) fn check_change(
        &self,
        name: &RouteName,
        current: &RouteConfig,
        config: &RouteConfig,
    ) -> Result<(), EngineError> {
        let refuse = |setting: &str| {
            Err(EngineError::config(format!(
                "routes.{name}.{setting}: cannot change while the route runs. Remove the route, \
                 reload, and add it again, or restart: its log and cursor are kept"
            )))
        };
        if config.flush != current.flush {
            return refuse("flush");
        }
        if config.mirror != current.mirror {
            return refuse("mirror");
        }
        Ok(())
    }

    /// Finds out whether a changed sink could be opened, without disturbing the one that runs.
    pub(crate) fn check_sink(
        &self,
        name: &RouteName,
        config: &RouteConfig,
    ) -> Result<(), EngineError> {
        match config.sink {
            SinkKind::File if !self.stub => self.open_file(name, config).map(drop),
            _ => Ok(()),
        }
    }

    fn open_file_sink(
        &self,
        name: &RouteName,
        config: &RouteConfig,
        place: Place,
        taken: Lsn,
    ) -> Result<Sink, EngineError> {
        let Place { mut cursor, delivered } = place;
        let path = self.files_root.join(config.path.as_deref().unwrap_or(Path::new("")));
        let describe = |error: &std::io::Error| EngineError::io("use", &path, error);
        let file = self.open_file(name, config)?;
        let identity = self.platform.identity(&file).map_err(|error| describe(&error))?;
        let [length, device, inode, boot_id] = cursor.extra();
        // A cursor that was never saved for a file names none: there is no inode 0.
        let remembered = (inode != 0).then_some(Remembered {
            lsn: delivered,
            length,
            identity: FileIdentity { device, inode },
            boot_id,
        });
        let directory = self.log_directory(name);
        let tail = FileTail {
            platform: &*self.platform,
            file: &file,
            framing: config.framing,
            quarantine: &directory.join("quarantine"),
            shown: taken,
        };
        // What recovery could not read keeps no route from opening.
        let mut open_log = |from| {
            let platform = Arc::clone(&self.platform);
            LogReader::open_reading_around(platform, &directory, ReadFrom::Lsn(from))
        };
        let mut position = tail.locate(remembered, &mut open_log).map_err(|error| {
            let subject = format!("route {name}: finding the end of {}", path.display());
            EngineError::wrap(ErrorCode::Io, subject, error)
        })?;
        if remembered.is_none() {
            // The sink before this one was no file, and may have come far.
            position.delivered = delivered;
        }
        if let Err(error) = self.platform.sync(&file) {
            let Some(remembered) = remembered.filter(|_| position.finding.is_none()) else {
                return Err(describe(&error));
            };
            // After a failed sync another one proves nothing: what was written since the cursor
            // was saved is written again.
            mark::hit("sink.file.unsynced_cut");
            tail.cut(remembered.length).map_err(|error| describe(&error))?;
            position.delivered = remembered.lsn;
            position.length = remembered.length;
        }
        // Saved before the first write: what the file holds now is told apart from what comes.
        let boot_id = self.platform.boot_id();
        let extra = [position.length, identity.device, identity.inode, boot_id];
        cursor
            .save_blocking(&*self.platform, position.delivered.max(cursor.lsn()), extra, true)
            .map_err(|error| EngineError::wrap(error.code(), format!("route {name}"), error))?;
        let shown = path.display().to_string();
        let target = FileTarget { path, file, identity, boot_id, framing: config.framing };
        let mut sink = FileSink::new(target, CursorSaver::new(cursor), &position);
        if let Some(finding) = position.finding {
            mark::hit("sink.file.garbled_end");
            let message = format!("{shown}: {finding}");
            sink.warn(Trouble { code: ErrorCode::Io, message });
        }
        Ok(Sink::File(Box::new(sink)))
    }

    /// Opens the file of a route below the root, creating it if it is missing.
    fn open_file(&self, name: &RouteName, config: &RouteConfig) -> Result<File, EngineError> {
        let relative = config.path.as_deref().unwrap_or(Path::new(""));
        let options = OpenOptions {
            read: true,
            write: true,
            create: true,
            append: true,
            mode: 0o644,
            ..OpenOptions::default()
        };
        self.platform
            .create_directories(&self.files_root)
            .map_err(|error| EngineError::io("create", &self.files_root, &error))?;
        let file = self
            .platform
            .open_beneath(&self.files_root, relative, options)
            .map_err(|error| self.describe_open_error(name, relative, &error))?;
        // A file may be new: without its name, its stable content would be gone with the power.
        let path = self.files_root.join(relative);
        let directory = path.parent().unwrap_or(&self.files_root);
        self.platform
            .sync_directory(directory)
            .map_err(|error| EngineError::io("sync", directory, &error))?;
        Ok(file)
    }

    fn describe_open_error(
        &self,
        name: &RouteName,
        relative: &Path,
        error: &std::io::Error,
    ) -> EngineError {
        match error.raw_os_error() {
            Some(libc::EXDEV | libc::ELOOP) => self.outside_root(name, relative),
            _ => EngineError::io(
                &format!("open the file of route {name}:"),
                &self.files_root.join(relative),
                error,
            ),
        }
    }

    fn outside_root(&self, name: &RouteName, path: &Path) -> EngineError {
        EngineError::new(
            ErrorCode::PathOutsideRoot,
            format!(
                "routes.{name}.path: {} leads out of the sink root {}. {}",
                path.display(),
                self.files_root.display(),
                ErrorCode::PathOutsideRoot.row().advice
            ),
        )
    }

    fn open_http_sink(
        &self,
        name: &RouteName,
        config: &RouteConfig,
        place: Place,
    ) -> Result<Sink, EngineError> {
        let Place { cursor, delivered } = place;
        let (url, encoder) = http_encoder(name, config)?;
        let concurrency = match config.order {
            Order::Route => 1,
            Order::None => config.concurrency as usize,
        };
        let timeout = Duration::from_millis(config.timeout_ms.into());
        let client_options = ClientOptions {
            connections_max: concurrency,
            connect_timeout: timeout.min(CONNECT_TIMEOUT_MAX),
            response_timeout: timeout,
            ..ClientOptions::default()
        };
        let client = HttpClient::new(Origin::from(&url), client_options);
        let options = HttpSinkOptions {
            route: name.clone(),
            url: config.url.clone().unwrap_or_default(),
            encoder,
            concurrency,
            retry: RetryPolicy {
                initial_ms: config.retry.initial_ms.into(),
                max_ms: config.retry.max_ms.into(),
                max_attempts: config.retry.max_attempts,
            },
            jitter_seed: self.platform.random_u64(),
        };
        let sink = HttpSink::new(options, client, CursorSaver::new(cursor), delivered);
        Ok(Sink::Http(Box::new(sink)))
    }

    fn log_directory(&self, name: &RouteName) -> PathBuf {
        self.data_dir.join(name.as_str())
    }
}

/// Longest wait for a connection, however patient the route is with answers.
const CONNECT_TIMEOUT_MAX: Duration = Duration::from_secs(10);

/// Request line and fixed headers of a route, checked.
fn http_encoder(
    name: &RouteName,
    config: &RouteConfig,
) -> Result<(HttpUrl, RequestEncoder), EngineError> {
    let wrong = |setting: &str, error: &dyn std::fmt::Display| {
        EngineError::config(format!("routes.{name}.{setting}: {error}"))
    };
    let url = HttpUrl::parse(config.url.as_deref().unwrap_or_default())
        .map_err(|error| wrong("url", &error))?;
    let mut encoder = RequestEncoder::new("POST", &url)
        .and_then(|encoder| encoder.header("Content-Type", &config.content_type))
        .map_err(|error| wrong("content_type", &error))?;
    for (header, value) in &config.headers {
        encoder = encoder
            .header(header, value)
            .map_err(|error| wrong(&format!("headers.{header}"), &error))?;
    }
    Ok((url, encoder))
}
