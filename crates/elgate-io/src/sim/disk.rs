//! The simulated file system: directories, files, locks and mappings.
//!
//! Names have a current and a durable state. What changed since is a list of name operations in
//! order; `sync_directory` commits those that touch the directory (and what they depend on), a
//! power cut commits none of the rest, or with `keep_unsynced` a prefix.

use super::content::Content;
use super::random::Random;
use super::{FaultCounts, FaultPlan};
use crate::SharedMap;
use crate::sys::error;
use elgate_types::limits::BLOCK_BYTES;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;

pub(super) type NodeId = u64;

/// Paths deeper than this do not occur; a bound for the walk.
const DEPTH_MAX: usize = 64;
const ROOT: NodeId = 1;
/// Files below here are memory: gone with the power, never on the disk.
const MEMORY: &str = "/dev/shm";

#[derive(Debug, Default)]
pub(super) struct Names {
    current: BTreeMap<String, NodeId>,
    durable: BTreeMap<String, NodeId>,
}

#[derive(Debug, Default)]
pub(super) struct FileNode {
    pub(super) content: Content,
    mapping: Option<Arc<SharedMap>>,
    /// The handle that holds the lock.
    pub(super) lock: Option<u64>,
    /// The handles that hold locks on single bytes.
    pub(super) byte_locks: BTreeMap<u16, u64>,
    /// Which device it is on.
    device: usize,
    /// Lies in memory: all there is of its bytes is the map.
    is_memory: bool,
}

impl FileNode {
    /// A handle is closed.
    pub(super) fn unlock_all(&mut self, handle: u64) {
        self.lock.take_if(|holder| *holder == handle);
        self.byte_locks.retain(|_, holder| *holder != handle);
    }
}

#[derive(Debug)]
enum Node {
    Directory(Names),
    File(FileNode),
}

/// One atomic change of names: `(directory, name, what it then refers to)`.
#[derive(Debug)]
struct NameOp(Vec<(NodeId, String, Option<NodeId>)>);

#[derive(Debug)]
pub(super) struct Disk {
    nodes: BTreeMap<NodeId, Node>,
    next_node: NodeId,
    /// Where further devices are mounted; device `n` is at index `n - 1`.
    mounts: Vec<Mount>,
    unsynced_names: Vec<NameOp>,
    sequence: u64,
}

/// Where a device is, or was until it was pulled out.
#[derive(Debug)]
struct Mount {
    root: PathBuf,
    is_there: bool,
}

impl Disk {
    pub(super) fn new() -> Self {
        let nodes = BTreeMap::from([(ROOT, Node::Directory(Names::default()))]);
        let mut disk = Self {
            nodes,
            next_node: ROOT + 1,
            mounts: Vec::new(),
            unsynced_names: Vec::new(),
            sequence: 0,
        };
        disk.create_directories(Path::new(MEMORY)).expect("an empty disk has room for it");
        disk
    }

    pub(super) fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }

    /// Bytes of all files of a device, in whole blocks.
    pub(super) fn used_bytes(&self, device: usize) -> u64 {
        self.nodes
            .values()
            .map(|node| match node {
                Node::File(file) if !file.is_memory && file.device == device => {
                    file.content.allocated_bytes()
                }
                Node::File(_) | Node::Directory(_) => 0,
            })
            .sum()
    }

    pub(super) fn file(&mut self, node: NodeId) -> io::Result<&mut FileNode> {
        match self.nodes.get_mut(&node) {
            Some(Node::File(file)) => Ok(file),
            _ => Err(error(libc::EISDIR)),
        }
    }

    fn names(&self, node: NodeId) -> io::Result<&Names> {
        match self.nodes.get(&node) {
            Some(Node::Directory(names)) => Ok(names),
            _ => Err(error(libc::ENOTDIR)),
        }
    }

    fn lookup(&self, path: &Path) -> io::Result<NodeId> {
        let mut node = ROOT;
        for name in self.components(path)? {
            let names = self.names(node)?;
            node = *names.current.get(&name).ok_or_else(|| error(libc::ENOENT))?;
        }
        Ok(node)
    }

    /// The directory and the name of a path's last component.
    fn parent(&self, path: &Path) -> io::Result<(NodeId, String)> {
        let mut names = self.components(path)?;
        let name = names.pop().ok_or_else(|| error(libc::EISDIR))?;
        let mut node = ROOT;
        for name in names {
            let parent = self.names(node)?;
            node = *parent.current.get(&name).ok_or_else(|| error(libc::ENOENT))?;
        }
        self.names(node)?;
        Ok((node, name))
    }

    /// The file at `path`, made if it is missing and `create` says so.
    pub(super) fn open(
        &mut self,
        path: &Path,
        create: bool,
        create_new: bool,
    ) -> io::Result<NodeId> {
        let (directory, name) = self.parent(path)?;
        let existing = self.names(directory)?.current.get(&name).copied();
        match existing {
            Some(_) if create_new => Err(error(libc::EEXIST)),
            Some(node) => self.file(node).map(|_| node),
            None if create || create_new => {
                let is_memory = path.starts_with(MEMORY);
                let device = self.device_below(path);
                let file = FileNode { is_memory, device, ..FileNode::default() };
                let node = self.add_node(Node::File(file));
                self.apply(NameOp(vec![(directory, name, Some(node))]));
                Ok(node)
            }
            None => Err(error(libc::ENOENT)),
        }
    }

    pub(super) fn create_directories(&mut self, path: &Path) -> io::Result<()> {
        let mut node = ROOT;
        for name in self.components(path)? {
            let existing = self.names(node)?.current.get(&name).copied();
            node = match existing {
                Some(child) => child,
                None => {
                    let child = self.add_node(Node::Directory(Names::default()));
                    self.apply(NameOp(vec![(node, name, Some(child))]));
                    self.commit_names(node);
                    child
                }
            };
        }
        self.names(node).map(drop)
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<(String, u64, bool)>> {
        if self.mounts.iter().any(|mount| mount.root == path && !mount.is_there) {
            return Ok(Vec::new());
        }
        let names = self.names(self.lookup(path)?)?;
        let entry = |(name, node): (&String, &NodeId)| match self.nodes.get(node) {
            Some(Node::File(file)) => (name.clone(), file.content.size(), false),
            _ => (name.clone(), 0, true),
        };
        Ok(names.current.iter().map(entry).collect())
    }

    pub(super) fn rename(&mut self, from: &Path, to: &Path) -> io::Result<()> {
        let (from_directory, from_name) = self.parent(from)?;
        let (to_directory, to_name) = self.parent(to)?;
        if self.device_below(from) != self.device_below(to) {
            return Err(error(libc::EXDEV));
        }
        let node = self.lookup(from)?;
        if let Ok(replaced) = self.lookup(to) {
            if replaced == node {
                return Ok(());
            }
            self.file(replaced)?;
        }
        self.apply(NameOp(vec![
            (from_directory, from_name, None),
            (to_directory, to_name, Some(node)),
        ]));
        Ok(())
    }

    pub(super) fn remove(&mut self, path: &Path) -> io::Result<()> {
        let (directory, name) = self.parent(path)?;
        let node = self.lookup(path)?;
        self.file(node)?;
        self.apply(NameOp(vec![(directory, name, None)]));
        Ok(())
    }

    pub(super) fn sync_directory(&mut self, path: &Path) -> io::Result<()> {
        let node = self.lookup(path)?;
        self.names(node)?;
        self.commit_names(node);
        Ok(())
    }

    /// The map of a file: one per file for as long as the process lives, so that all who map it
    /// share memory.
    pub(super) fn map(&mut self, node: NodeId, bytes: usize) -> io::Result<Arc<SharedMap>> {
        let file = self.file(node)?;
        if bytes == 0 || file.content.size() < bytes as u64 {
            return Err(error(libc::EINVAL));
        }
        if let Some(map) = &file.mapping
            && map.bytes() >= bytes
        {
            return Ok(map.clone());
        }
        if file.mapping.is_some() {
            // A longer map of a mapped file would need the old words to move.
            return Err(error(libc::ENOMEM));
        }
        let map = Arc::new(SharedMap::in_memory(bytes));
        file.mapping = Some(map.clone());
        if !file.is_memory {
            store_map(&map, &file.content);
        }
        Ok(map)
    }

    /// Brings what was stored through the map into the file. Call before looking at the content.
    pub(super) fn pull_map(&mut self, node: NodeId) -> io::Result<()> {
        let sequence = self.next_sequence();
        let file = self.file(node)?;
        let Some(map) = file.mapping.clone().filter(|_| !file.is_memory) else { return Ok(()) };
        let mut stored = [0; BLOCK_BYTES];
        let mut written = [0; BLOCK_BYTES];
        for start in (0..map.bytes()).step_by(BLOCK_BYTES) {
            let length = BLOCK_BYTES.min(map.bytes() - start);
            for (index, word) in stored[..length].chunks_mut(8).enumerate() {
                // Acquire: sees whole what a store with release semantics published.
                let value = map.u64_at(start + index * 8).load(Ordering::Acquire);
                word.copy_from_slice(&value.to_ne_bytes());
            }
            let length = file.content.read(start as u64, &mut written[..length]);
            if stored[..length] != written[..length] {
                file.content.write(start as u64, &stored[..length], sequence);
            }
        }
        Ok(())
    }

    /// Shows a write to those who mapped the file.
    pub(super) fn push_map(&mut self, node: NodeId) -> io::Result<()> {
        let file = self.file(node)?;
        if let Some(map) = file.mapping.as_ref().filter(|_| !file.is_memory) {
            store_map(map, &file.content);
        }
        Ok(())
    }

    /// The process is gone: locks are free, maps belong to nobody; what was written stays.
    pub(super) fn process_crash(&mut self) {
        let files: Vec<NodeId> = self.nodes.keys().copied().collect();
        for node in files {
            if self.pull_map(node).is_ok()
                && let Ok(file) = self.file(node)
            {
                file.lock = None;
                file.byte_locks.clear();
                if !file.is_memory {
                    file.mapping = None;
                }
            }
        }
    }

    /// What is on the platters is all there is.
    pub(super) fn power_cut(
        &mut self,
        plans: &[FaultPlan],
        random: &mut Random,
        counts: &mut FaultCounts,
    ) {
        self.process_crash();
        let names = std::mem::take(&mut self.unsynced_names);
        let kept = if plans[0].keep_unsynced { random.index(names.len() + 1) } else { 0 };
        for op in names.into_iter().take(kept) {
            self.make_durable(&op);
        }
        if let Ok(memory) = self.lookup(Path::new(MEMORY))
            && let Some(Node::Directory(names)) = self.nodes.get_mut(&memory)
        {
            *names = Names::default();
        }
        let horizon = random.below(self.sequence + 2);
        for node in self.nodes.values_mut() {
            match node {
                Node::Directory(names) => names.current = names.durable.clone(),
                Node::File(file) => {
                    file.content.power_cut(&plans[file.device], horizon, random, counts);
                }
            }
        }
        self.forget_unreachable();
    }

    /// The path of a file, if it has a name.
    pub(super) fn path_of(&self, wanted: NodeId) -> Option<String> {
        self.walk().into_iter().find(|(node, _)| *node == wanted).map(|(_, path)| path)
    }

    /// The files of a device whose path ends so, in order of path.
    pub(super) fn files_ending_with(&self, device: usize, suffix: &str) -> Vec<NodeId> {
        let fits = |(node, path): &(NodeId, String)| {
            path.ends_with(suffix) && self.device_of(*node) == device
        };
        let found = self.walk().into_iter().filter(fits);
        found.map(|(node, _)| node).collect()
    }

    /// Every file with its path.
    fn walk(&self) -> Vec<(NodeId, String)> {
        let mut files = Vec::new();
        let mut pending = vec![(ROOT, String::new())];
        while let Some((node, path)) = pending.pop() {
            match self.nodes.get(&node) {
                Some(Node::Directory(names)) => {
                    let below = names.current.iter().rev();
                    pending.extend(below.map(|(name, child)| (*child, format!("{path}/{name}"))));
                }
                Some(Node::File(_)) => files.push((node, path)),
                None => {}
            }
        }
        files
    }

    // --- further devices ---

    pub(super) fn mount(&mut self, root: &Path) -> io::Result<()> {
        self.create_directories(root)?;
        self.mounts.push(Mount { root: root.to_owned(), is_there: true });
        Ok(())
    }

    /// The number of the device at `root`.
    pub(super) fn mounted_at(&self, root: &Path) -> io::Result<usize> {
        let found = self.mounts.iter().position(|mount| mount.root == root);
        found.map(|index| index + 1).ok_or_else(|| error(libc::ENODEV))
    }

    /// The device that a path is on.
    pub(super) fn device_below(&self, path: &Path) -> usize {
        let found = self.mounts.iter().position(|mount| path.starts_with(&mount.root));
        found.map_or(0, |index| index + 1)
    }

    pub(super) fn device_of(&self, node: NodeId) -> usize {
        match self.nodes.get(&node) {
            Some(Node::File(file)) => file.device,
            _ => 0,
        }
    }

    /// A device goes away. Its names stay: what renames a file has synced it before.
    pub(super) fn pull(
        &mut self,
        device: usize,
        plan: &FaultPlan,
        random: &mut Random,
        counts: &mut FaultCounts,
    ) {
        let horizon = random.below(self.sequence + 2);
        for node in self.nodes.values_mut() {
            if let Node::File(file) = node
                && file.device == device
            {
                file.mapping = None;
                file.content.power_cut(plan, horizon, random, counts);
            }
        }
        if let Some(mount) = self.mounts.get_mut(device - 1) {
            mount.is_there = false;
        }
    }

    /// A device is there again; `blank`: with nothing on it.
    pub(super) fn put_back(&mut self, device: usize, blank: bool) -> io::Result<()> {
        let Some(mount) = self.mounts.get_mut(device - 1) else {
            return Err(error(libc::ENODEV));
        };
        mount.is_there = true;
        if blank {
            let root = mount.root.clone();
            let node = self.lookup(&root)?;
            self.nodes.insert(node, Node::Directory(Names::default()));
        }
        Ok(())
    }

    fn add_node(&mut self, node: Node) -> NodeId {
        let id = self.next_node;
        self.next_node += 1;
        self.nodes.insert(id, node);
        id
    }

    fn apply(&mut self, op: NameOp) {
        for (directory, name, target) in &op.0 {
            if let Some(Node::Directory(names)) = self.nodes.get_mut(directory) {
                set(&mut names.current, name, *target);
            }
        }
        self.unsynced_names.push(op);
    }

    fn make_durable(&mut self, op: &NameOp) {
        for (directory, name, target) in &op.0 {
            if let Some(Node::Directory(names)) = self.nodes.get_mut(directory) {
                set(&mut names.durable, name, *target);
            }
        }
    }

    /// Commits every operation that touches `directory`, and before each those it overwrites.
    fn commit_names(&mut self, directory: NodeId) {
        let mut needed: BTreeSet<(NodeId, String)> = BTreeSet::new();
        let mut committed = Vec::new();
        let mut remaining = Vec::new();
        for op in std::mem::take(&mut self.unsynced_names).into_iter().rev() {
            let touches = op.0.iter().any(|(node, name, _)| {
                *node == directory || needed.contains(&(*node, name.clone()))
            });
            if touches {
                needed.extend(op.0.iter().map(|(node, name, _)| (*node, name.clone())));
                committed.push(op);
            } else {
                remaining.push(op);
            }
        }
        remaining.reverse();
        self.unsynced_names = remaining;
        for op in committed.iter().rev() {
            self.make_durable(op);
        }
    }

    fn forget_unreachable(&mut self) {
        let mut reachable = BTreeSet::new();
        let mut pending = vec![ROOT];
        while let Some(node) = pending.pop() {
            if reachable.insert(node)
                && let Some(Node::Directory(names)) = self.nodes.get(&node)
            {
                pending.extend(names.current.values());
            }
        }
        self.nodes.retain(|node, _| reachable.contains(node));
    }

    /// Looks a file up by path, for tests that read or damage it.
    pub(super) fn file_at(&mut self, path: &Path) -> io::Result<&mut FileNode> {
        let node = self.lookup(path)?;
        self.pull_map(node)?;
        self.file(node)
    }
}

fn set(names: &mut BTreeMap<String, NodeId>, name: &str, target: Option<NodeId>) {
    match target {
        Some(node) => names.insert(name.to_owned(), node),
        None => names.remove(name),
    };
}

fn store_map(map: &SharedMap, content: &Content) {
    let mut bytes = vec![0; map.bytes()];
    content.read(0, &mut bytes);
    for (index, word) in bytes.chunks_exact(8).enumerate() {
        let value = u64::from_ne_bytes(word.try_into().expect("chunks of eight"));
        let cell = map.u64_at(index * 8);
        if cell.load(Ordering::Acquire) != value {
            cell.store(value, Ordering::Release); // pairs with acquire loads through the map
        }
    }
}

impl Disk {
    /// The names in a path, if nothing that was pulled out is on it.
    fn components(&self, path: &Path) -> io::Result<Vec<String>> {
        let is_gone = |mount: &Mount| !mount.is_there && path != mount.root;
        if self.mounts.iter().any(|mount| path.starts_with(&mount.root) && is_gone(mount)) {
            return Err(error(libc::ENOENT));
        }
        components(path)
    }
}

/// The names in a path. The simulated working directory is the root.
fn components(path: &Path) -> io::Result<Vec<String>> {
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) => {
                let name = name.to_str().ok_or_else(|| error(libc::EILSEQ))?;
                names.push(name.to_owned());
            }
            Component::ParentDir => return Err(error(libc::EINVAL)),
            _ => {}
        }
    }
    if names.len() > DEPTH_MAX { Err(error(libc::ENAMETOOLONG)) } else { Ok(names) }
}
