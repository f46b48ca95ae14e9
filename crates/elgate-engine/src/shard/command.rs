//! What other threads may ask of a shard, and the mailbox they ask through.

use crate::config::RouteConfig;
use crate::error::EngineError;
use crate::failed_route::FailedRoute;
use crate::route::{Acknowledgement, Route};
use crate::shard::Address;
use crate::sink::Sink;
use crate::status::{RouteStatus, ShardStatus};
use elgate_io::Waker;
use elgate_ring::LeftOver;
use elgate_types::{Lsn, Monotonic, RouteName};
use std::sync::mpsc::{SyncSender, TrySendError, sync_channel};

/// Where a command's answer goes: a channel of capacity one that the asker waits on.
pub(crate) type Reply<T> = SyncSender<Result<T, EngineError>>;

/// A submission found on a ring of another shard than its route's.
pub(crate) struct Foreign {
    pub(crate) address: Address,
    pub(crate) op_id: u64,
    pub(crate) record_count: u32,
    pub(crate) route: RouteName,
    pub(crate) body: Box<[u8]>,
}

impl std::fmt::Debug for Command {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("Command")
    }
}

/// One request to a shard.
pub(crate) enum Command {
    /// Begin to take submissions: every route that the configuration names is there.
    StartIntake(Reply<()>),
    /// Tell what the shard's rings may hand over again.
    LeftOver(Reply<LeftOver>),
    /// Start serving a route.
    Install(Box<Route>, Reply<()>),
    /// Keep what is sent to a route that could not be opened, and try again.
    InstallFailed(Box<FailedRoute>, Reply<()>),
    /// Try again now to open a route, with this configuration. The answer is what it runs with,
    /// which is another one if it has been opened already.
    Reopen(RouteName, Box<RouteConfig>, Reply<RouteConfig>),
    /// Stop a route's sink and drop it; the log goes on. The answer is the last record that any sink
    /// was given; `LogUnavailable` if the next one could not find its place now: the sink stays.
    RetireSink(RouteName, Reply<Lsn>),
    /// Give a route without a sink a new one.
    InstallSink(RouteName, Box<(Sink, RouteConfig)>, Reply<()>),
    /// Stop serving a route; its log stays on disk.
    Remove(RouteName, Reply<()>),
    /// Stop delivering.
    Pause(RouteName, Reply<()>),
    /// Deliver again.
    Resume(RouteName, Reply<()>),
    /// Make everything appended so far durable; the channel hears when it is.
    Flush(RouteName, SyncSender<()>, Reply<()>),
    /// Tell how things are.
    Status(Reply<(ShardStatus, Vec<RouteStatus>)>),
    /// Stop taking submissions, deliver what is there until the deadline, then end the thread.
    /// The answer lists routes with records still undelivered.
    Stop {
        /// When to give up delivering.
        deadline: Monotonic,
        /// Whether rings that are empty at the end are removed.
        remove_rings: bool,
        /// Hears when the shard has ended its work.
        reply: Reply<Vec<(RouteName, u64)>>,
    },
    /// Take a submission that landed on another shard's ring.
    Foreign(Foreign),
    /// Post the acknowledgement of a submission that was passed on.
    ForeignDone(Acknowledgement),
}

/// The sending side of a shard's mailbox.
#[derive(Debug, Clone)]
pub(crate) struct Mailbox {
    sender: SyncSender<Command>,
    waker: Waker,
}

/// How many commands may wait in a mailbox. Passed-on submissions are bounded by the slots of the
/// rings they came from, everything else by who is asking.
const MAILBOX_COMMANDS: usize = 4_096;

impl Mailbox {
    /// The channel a shard reads its commands from.
    pub(crate) fn channel() -> (SyncSender<Command>, std::sync::mpsc::Receiver<Command>) {
        sync_channel(MAILBOX_COMMANDS)
    }

    pub(crate) fn new(sender: SyncSender<Command>, waker: Waker) -> Self {
        Self { sender, waker }
    }

    /// Sends without waiting; hands the command back if the mailbox is full or its shard gone.
    pub(crate) fn try_send(&self, command: Command) -> Result<(), Command> {
        let sent = self.sender.try_send(command);
        self.waker.wake();
        sent.map_err(|error| match error {
            TrySendError::Full(command) | TrySendError::Disconnected(command) => command,
        })
    }
}
