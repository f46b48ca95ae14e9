//! Starting: the lock on the data directory, the rings, the shard threads.

use crate::config::EngineConfig;
use crate::engine::dead_shard;
use crate::error::EngineError;
use crate::mode::Plan;
use crate::pin::pin_current_thread;
use crate::shard::{Intake, Mailbox, Shard, ShardOptions};
use crate::shard_io::ShardIo;
use elgate_io::{File, OpenOptions, Platform, Waker};
use elgate_ring::{Consumer, RingOptions};
use elgate_types::ErrorCode;
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::JoinHandle;
use std::time::Duration;

/// Makes the data directory and locks it. The lock lives as long as the file that is returned.
pub(crate) fn lock_data_dir(platform: &dyn Platform, data_dir: &Path) -> Result<File, EngineError> {
    platform
        .create_directories(data_dir)
        .map_err(|error| EngineError::io("create the data directory", data_dir, &error))?;
    let path = data_dir.join(".lock");
    let options = OpenOptions { read: true, write: true, create: true, ..OpenOptions::default() };
    let fail =
        |error: std::io::Error| EngineError::io("lock the data directory with", &path, &error);
    let file = platform.open(&path, options).map_err(fail)?;
    if !platform.try_lock(&file).map_err(fail)? {
        let mut owner = [0; 16];
        let read = platform.read_at(&file, 0, &mut owner).unwrap_or(0);
        let owner = String::from_utf8_lossy(&owner[..read]);
        return Err(EngineError::new(
            ErrorCode::InUse,
            format!(
                "data directory {} is in use by process {}. {}",
                data_dir.display(),
                owner.trim(),
                ErrorCode::InUse.row().advice
            ),
        ));
    }
    let owner = format!("{:<15}\n", std::process::id());
    platform.write_at(&file, 0, owner.as_bytes(), false).map_err(fail)?;
    Ok(file)
}

/// Opens the ring of each shard; the first shard also gets the rings that an earlier run with more
/// shards left behind, so that nothing in them is forgotten.
pub(crate) fn open_rings(
    config: &EngineConfig,
    shards: usize,
) -> Result<Vec<Vec<Intake>>, EngineError> {
    let data_dir = std::path::absolute(&config.data_dir)
        .map_err(|error| EngineError::io("find", &config.data_dir, &error))?;
    let options = |index: usize| RingOptions {
        ring_index: index as u32,
        ring_count: shards as u32,
        data_dir: data_dir.to_string_lossy().into_owned(),
        ..RingOptions::default()
    };
    let open = |index: usize| {
        let path = elgate_ring::ring_path(&config.ring.path, index as u32);
        Consumer::open(&path, &options(index))
            .map(Intake::new)
            .map_err(|error| EngineError::new(error.code(), error.to_string()))
    };
    let mut intakes = (0..shards)
        .map(|index| open(index).map(|intake| vec![intake]))
        .collect::<Result<Vec<_>, _>>()?;
    let left_behind = (shards..crate::SHARDS_MAX)
        .filter(|&index| elgate_ring::ring_path(&config.ring.path, index as u32).exists());
    for index in left_behind {
        intakes[0].push(open(index)?);
    }
    Ok(intakes)
}

pub(crate) type ShardThread = JoinHandle<Result<Vec<Intake>, EngineError>>;

pub(crate) fn start_shards(
    plan: &Plan,
    spin: Duration,
    io: &Arc<ShardIo>,
    intakes: Vec<Vec<Intake>>,
) -> Result<(Vec<Mailbox>, Vec<ShardThread>), EngineError> {
    let shard_count = plan.shards.len();
    let channels: Vec<_> = (0..shard_count).map(|_| Mailbox::channel()).collect();
    let senders: Vec<_> = channels.iter().map(|(sender, _)| sender.clone()).collect();
    // Drivers are made on the threads that use them; their wakers come back to make mailboxes,
    // and the mailboxes go out again so that shards can reach one another.
    let (ready, started) = sync_channel::<(usize, Result<Waker, EngineError>)>(shard_count);
    let mut threads = Vec::new();
    let mut mailbox_senders = Vec::new();
    for (index, ((_, commands), intakes)) in channels.into_iter().zip(intakes).enumerate() {
        let (peers_sender, peers) = sync_channel::<Vec<Mailbox>>(1);
        mailbox_senders.push(peers_sender);
        let ready = ready.clone();
        let core = plan.shards[index];
        let io = Arc::clone(io);
        let run = move || {
            let pinned = core.and_then(pin_current_thread);
            let driver = match io.open() {
                Ok(driver) => driver,
                Err(error) => {
                    // If nobody listens any more, the start has already failed.
                    let _ = ready.try_send((index, Err(error.clone())));
                    return Err(error);
                }
            };
            let _ = ready.try_send((index, Ok(driver.waker())));
            drop(ready);
            let Ok(peers) = peers.recv() else { return Ok(intakes) };
            let options = ShardOptions { index, shard_count, spin };
            Shard::new(options, driver, pinned, intakes, commands, peers).run()
        };
        let thread =
            std::thread::Builder::new()
                .name(format!("elgate-shard-{index}"))
                .spawn(run)
                .map_err(|error| EngineError::wrap(ErrorCode::Io, "starting a thread", error))?;
        threads.push(thread);
    }
    drop(ready);
    let mut wakers = BTreeMap::new();
    for _ in 0..shard_count {
        let (index, waker) = started.recv().map_err(|_| dead_shard())?;
        wakers.insert(index, waker?);
    }
    let mailboxes: Vec<Mailbox> = senders
        .into_iter()
        .zip(wakers.into_values())
        .map(|(sender, waker)| Mailbox::new(sender, waker))
        .collect();
    for sender in mailbox_senders {
        // A thread that is gone says why when it is joined.
        let _ = sender.try_send(mailboxes.clone());
    }
    Ok((mailboxes, threads))
}
