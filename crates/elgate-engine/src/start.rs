//! Starting: the rings, the shards.

use crate::config::EngineConfig;
use crate::error::EngineError;
use crate::mode::Plan;
use crate::shard::{Command, Intake, Mailbox, ShardOptions, ShardStart};
use crate::shard_io::ShardIo;
use crate::world::{ShardEnd, World};
use elgate_io::File;
use elgate_ring::{Consumer, Host, RingOptions};
use elgate_types::Monotonic;
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

/// Opens the ring of each shard; the first shard also gets the rings that an earlier run with more
/// shards left behind, so that nothing in them is forgotten.
pub(crate) fn open_rings(
    host: &Arc<dyn Host>,
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
        Consumer::open_on(host, &path, &options(index))
            .map(Intake::new)
            .map_err(|error| EngineError::new(error.code(), error.to_string()))
    };
    let mut intakes = (0..shards)
        .map(|index| open(index).map(|intake| vec![intake]))
        .collect::<Result<Vec<_>, _>>()?;
    let left_behind = (shards..crate::SHARDS_MAX)
        .filter(|&index| !host.is_gone(&elgate_ring::ring_path(&config.ring.path, index as u32)));
    for index in left_behind {
        intakes[0].push(open(index)?);
    }
    Ok(intakes)
}

/// Where the shards are reached, and their ends.
type Started = (Vec<Mailbox>, Vec<Box<dyn ShardEnd>>);

/// Starts a shard for each entry of the plan.
pub(crate) fn start_shards(
    world: &dyn World,
    plan: &Plan,
    spin: Duration,
    io: &Arc<ShardIo>,
    intakes: Vec<Vec<Intake>>,
    lock: &File,
) -> Result<Started, EngineError> {
    let shard_count = plan.shards.len();
    // Set once all run: the way from shard to shard.
    let peers = Arc::new(OnceLock::new());
    let mut mailboxes = Vec::new();
    let mut running = Vec::new();
    for (index, intakes) in intakes.into_iter().enumerate() {
        let (sender, commands) = Mailbox::channel();
        let options = ShardOptions { index, shard_count, spin, core: plan.shards[index] };
        let peers = Arc::clone(&peers);
        let start =
            ShardStart::new(options, intakes, commands, peers, Arc::clone(io), lock.clone());
        match world.start(start) {
            Ok(shard) => {
                mailboxes.push(Mailbox::new(sender, shard.waker));
                running.push(shard.end);
            }
            Err(error) => {
                stop(&mailboxes, running);
                return Err(error);
            }
        }
    }
    // Nobody has been told to take anything yet, so nobody has looked for a peer.
    let _ = peers.set(mailboxes.clone());
    Ok((mailboxes, running))
}

/// Ends shards that have done nothing yet.
fn stop(mailboxes: &[Mailbox], running: Vec<Box<dyn ShardEnd>>) {
    for mailbox in mailboxes {
        let (reply, _) = sync_channel(1);
        let deadline = Monotonic::default();
        // A shard that is gone needs no stopping.
        drop(mailbox.try_send(Command::Stop { deadline, remove_rings: false, reply }));
    }
    for end in running {
        drop(end.join());
    }
}
