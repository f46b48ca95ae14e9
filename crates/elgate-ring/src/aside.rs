//! Submissions set aside: out of their slots, not yet out of the ring's care.
//!
//! A route whose log takes nothing for now would keep its slots, and the ring would fill up for
//! everybody else. What it holds is copied here instead, and the slots are released: whoever was
//! told `accepted` keeps that promise, because this file lives exactly as long as the ring does.
//!
//! ```text
//!  <ring>.aside, 16 MiB, there only while something is in it
//!  0x0000   magic u64 "ELGASID1" │ version u32 │ 0 u32 │ zeros
//!  0x0040   entry, entry, ... each 8-aligned, in the order in which they were set aside
//!
//!  entry
//!  0x00     state u64            0 nothing from here on, 1 waiting, 2 done (stored last)
//!  0x08     entry_bytes u32      all of it, a multiple of 8 │ crc32c u32 of bytes 0x10..entry_bytes
//!  0x10     ring_id u64          the ring it was taken from
//!  0x18     position u64         its position there: its identity
//!  0x20     owner u16 │ run u16 │ incarnation u32
//!  0x28     fields [56]          the slot header behind the word
//!  0x60     body
//! ```
//!
//! The consumer alone writes it. It trusts the content as little as it trusts a slot: copied, then
//! validated, then parsed; what does not validate costs itself only.

use crate::error::RingError;
use crate::files;
use crate::host::{Host, SharedFile};
use crate::mapping::Memory;
use crate::message::{FIELD_BYTES, Header, Kind};
use crate::sync::{AtomicU64, Ordering};
use elgate_types::{mark, seeded_bug};
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::Arc;

const MAGIC: u64 = u64::from_le_bytes(*b"ELGASID1");
const VERSION: u64 = 1;
/// Four rings full: a route is closed to producers once it has something here, so that no more
/// follows than was already on its way.
const FILE_BYTES: usize = 16 << 20;
const FIRST_ENTRY: usize = 0x40;
const BODY_AT: usize = 0x60;
const CHECKED_FROM: usize = 0x10;

const NOTHING: u64 = 0;
const WAITING: u64 = 1;
const DONE: u64 = 2;

const _: () = assert!(BODY_AT == 0x28 + FIELD_BYTES && FILE_BYTES.is_multiple_of(8));

/// Who sent a submission, and where it was in the ring.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Sender {
    pub(crate) ring_id: u64,
    pub(crate) position: u64,
    pub(crate) run: u16,
    pub(crate) owner: u16,
    /// Of the owner's attachment: its place may be somebody else's by the time of the answer.
    pub(crate) incarnation: u32,
}

/// An entry as it was copied out of the file.
pub(crate) struct Copied {
    pub(crate) sender: Sender,
    pub(crate) header: Header,
    pub(crate) body_bytes: usize,
}

#[derive(Debug, Clone, Copy)]
struct Waiting {
    at: usize,
    /// How long the entry is: what the file says may be somebody else's by now.
    bytes: usize,
    sender: Sender,
}

/// See the module text.
#[derive(Debug)]
pub(crate) struct Aside {
    host: Arc<dyn Host>,
    path: PathBuf,
    file: Option<Mapped>,
    /// Where the next entry goes.
    end: usize,
    /// What is not done, by ring and position.
    waiting: BTreeMap<(u64, u64), Waiting>,
    /// What is done, and its completion perhaps not published yet.
    finished: Vec<Waiting>,
    /// What an earlier consumer left and this one has not handed over yet.
    unread: VecDeque<(u64, u64)>,
    /// Entries found damaged when the file was opened.
    damaged: u64,
}

impl Aside {
    /// Opens what an earlier consumer of the ring at `ring` has left, if anything.
    pub(crate) fn open(host: &Arc<dyn Host>, ring: &Path) -> Result<Self, RingError> {
        let mut aside = Self {
            host: host.clone(),
            path: files::with_suffix(ring, ".aside"),
            file: None,
            end: FIRST_ENTRY,
            waiting: BTreeMap::new(),
            finished: Vec::new(),
            unread: VecDeque::new(),
            damaged: 0,
        };
        // A consumer that was killed while it made a file has left it.
        host.remove(&aside.temporary());
        match host.open_trusted(&aside.path, FILE_BYTES as u64) {
            Err(RingError::Missing { .. }) => {}
            Ok(_) if seeded_bug::is("forget-what-was-set-aside") => host.remove(&aside.path),
            opened => {
                let file = Mapped::new(opened?, &aside.path)?;
                if file.word(0) != MAGIC || file.word(8) != VERSION {
                    let what = "it does not begin with \"ELGASID1\", version 1".to_owned();
                    return Err(RingError::Incompatible { path: aside.path, what });
                }
                aside.find_entries(&file);
                aside.file = Some(file);
                aside.remove_if_done();
            }
        }
        Ok(aside)
    }

    fn find_entries(&mut self, file: &Mapped) {
        let mut body = Vec::new();
        while self.end + BODY_AT <= FILE_BYTES {
            let state = file.state(self.end).load(Ordering::Acquire); // pairs with `add` and `finish`
            if state == NOTHING {
                return;
            }
            let bytes = file.word(self.end + 8) as u32 as usize;
            let fits =
                bytes >= BODY_AT && bytes.is_multiple_of(8) && bytes <= FILE_BYTES - self.end;
            if !fits {
                // Where the next one begins is unknown: nothing more fits in here.
                self.damaged += 1;
                self.end = FILE_BYTES;
                return;
            }
            if state == WAITING {
                let copied = file.read(self.end, &mut body).map(|Copied { sender, .. }| sender);
                let name = |sender: &Sender| (sender.ring_id, sender.position);
                // One that comes twice is damage, too: no consumer writes it.
                match copied.filter(|sender| !self.waiting.contains_key(&name(sender))) {
                    Some(sender) => {
                        let name = name(&sender);
                        self.waiting.insert(name, Waiting { at: self.end, bytes, sender });
                        self.unread.push_back(name);
                    }
                    None => {
                        self.damaged += 1;
                        file.state(self.end).store(DONE, Ordering::Release); // pairs with the load above
                    }
                }
            }
            self.end += bytes;
        }
    }

    /// Whether nothing is set aside.
    pub(crate) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// How many submissions are set aside.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len()
    }

    /// Entries that did not validate when the file was opened.
    pub(crate) fn damaged(&self) -> u64 {
        self.damaged
    }

    /// Who sent what is set aside.
    pub(crate) fn senders(&self) -> impl Iterator<Item = &Sender> {
        self.waiting.values().map(|waiting| &waiting.sender)
    }

    /// The next submission that an earlier consumer left, its body copied to `body`.
    pub(crate) fn next_unread(&mut self, body: &mut Vec<u8>) -> Option<Copied> {
        while let Some(name) = self.unread.pop_front() {
            let (Some(waiting), Some(file)) = (self.waiting.get(&name), &self.file) else {
                continue;
            };
            match file.read(waiting.at, body).filter(|copied| copied.sender == waiting.sender) {
                Some(copied) => return Some(copied),
                None => {
                    // Overwritten since it was found.
                    self.damaged += 1;
                    self.finish(name.0, name.1);
                }
            }
        }
        None
    }

    /// Looks at everything that is kept.
    pub(crate) fn each_kept(&self, body: &mut Vec<u8>, look: &mut dyn FnMut(&Copied, &[u8])) {
        let Some(file) = &self.file else { return };
        for waiting in self.waiting.values().chain(&self.finished) {
            let copied = file.read(waiting.at, body);
            if let Some(copied) = copied.filter(|copied| copied.sender == waiting.sender) {
                look(&copied, body);
            }
        }
    }

    /// Keeps a submission whose fields and body the caller has copied and validated.
    ///
    /// # Errors
    /// [`RingError`]: no file can be made, or it is full. The submission stays where it is.
    pub(crate) fn add(
        &mut self,
        sender: Sender,
        fields: &[u8; FIELD_BYTES],
        body: &[u8],
    ) -> Result<(), RingError> {
        let bytes = (BODY_AT + body.len()).next_multiple_of(8);
        if self.file.is_none() {
            self.file = Some(self.create()?);
            self.end = FIRST_ENTRY;
        } else if FILE_BYTES - self.end < bytes {
            self.compact()?;
        }
        let (Some(file), true) = (&self.file, FILE_BYTES - self.end >= bytes) else {
            let full = std::io::Error::other("it is full: 16 MiB of other submissions wait in it");
            return Err(files::failed("write to", &self.path, full));
        };
        file.write(self.end, bytes, &sender, fields, body);
        // A consumer that was killed may have left its bytes here: nothing follows this entry.
        if self.end + bytes < FILE_BYTES {
            file.state(self.end + bytes).store(NOTHING, Ordering::Relaxed);
        }
        // Pairs with the acquire load in `find_entries`: with the state, all of the entry.
        file.state(self.end).store(WAITING, Ordering::Release);
        let name = (sender.ring_id, sender.position);
        self.waiting.insert(name, Waiting { at: self.end, bytes, sender });
        self.end += bytes;
        mark::hit("ring.set_aside");
        Ok(())
    }

    /// Says that a submission is beyond this process's death, or refused. It stays in the file until
    /// [`forget_finished`](Self::forget_finished). `None`: it is not here.
    pub(crate) fn finish(&mut self, ring_id: u64, position: u64) -> Option<Sender> {
        let waiting = self.waiting.remove(&(ring_id, position))?;
        self.finished.push(waiting);
        Some(waiting.sender)
    }

    /// Gives up what is finished, once whoever sent it can see so.
    pub(crate) fn forget_finished(&mut self) {
        if self.finished.is_empty() {
            return;
        }
        for Waiting { at, .. } in self.finished.drain(..) {
            if let Some(file) = &self.file {
                file.state(at).store(DONE, Ordering::Release); // pairs with `find_entries`
            }
        }
        self.remove_if_done();
    }

    fn remove_if_done(&mut self) {
        let is_done = self.waiting.is_empty() && self.finished.is_empty();
        if is_done && self.file.take().is_some() {
            self.host.remove(&self.path);
        }
    }

    /// An empty file under the final name: complete before it has it.
    fn create(&self) -> Result<Mapped, RingError> {
        let (temporary, file) = self.create_unnamed()?;
        self.give_name(&temporary)?;
        Ok(file)
    }

    /// Always the same: the ring has one consumer, which holds its lock.
    fn temporary(&self) -> PathBuf {
        files::with_suffix(&self.path, ".new")
    }

    fn create_unnamed(&self) -> Result<(PathBuf, Mapped), RingError> {
        let temporary = self.temporary();
        self.host.remove(&temporary);
        let file = self.host.create_sized(&temporary, FILE_BYTES as u64, files::PRIVATE)?;
        let file = Mapped::new(file, &temporary)?;
        file.set_word(0, MAGIC);
        file.set_word(8, VERSION);
        Ok((temporary, file))
    }

    fn give_name(&self, temporary: &Path) -> Result<(), RingError> {
        self.host.rename(temporary, &self.path).map_err(|source| {
            self.host.remove(temporary);
            files::failed("create", &self.path, source)
        })
    }

    /// Gives the file a name again that somebody has removed: the next consumer would not find it.
    pub(crate) fn keep_name(&mut self) {
        if self.file.is_some() && self.host.is_gone(&self.path) {
            // Should there be no room for it, it is tried again.
            let _ = self.compact();
        }
    }

    /// Moves what still waits to a fresh file, which takes the name.
    fn compact(&mut self) -> Result<(), RingError> {
        let Some(old) = &self.file else { return Ok(()) };
        let (temporary, fresh) = self.create_unnamed()?;
        let kept = self.waiting.values().chain(&self.finished);
        let mut in_order: Vec<Waiting> = kept.copied().collect();
        in_order.sort_unstable_by_key(|waiting| waiting.at);
        let (mut end, mut body) = (FIRST_ENTRY, Vec::new());
        let mut moved = BTreeMap::new();
        for Waiting { at, bytes, sender } in in_order {
            old.copy_entry(at, bytes, &fresh, end, &mut body);
            fresh.state(end).store(WAITING, Ordering::Release); // pairs with `find_entries`
            moved.insert((sender.ring_id, sender.position), Waiting { at: end, bytes, sender });
            end += bytes;
        }
        let name = |one: &Waiting| (one.sender.ring_id, one.sender.position);
        let finished = self.finished.iter().filter_map(|one| moved.remove(&name(one))).collect();
        self.give_name(&temporary)?;
        mark::hit("ring.aside_compacted");
        (self.file, self.waiting, self.end) = (Some(fresh), moved, end);
        self.finished = finished;
        Ok(())
    }
}

/// The mapped file. As with the ring, no reference to its plain bytes ever exists.
#[derive(Debug)]
struct Mapped {
    memory: Memory,
    _file: Box<dyn SharedFile>,
}

impl Mapped {
    fn new(file: Box<dyn SharedFile>, path: &Path) -> Result<Self, RingError> {
        Ok(Self { memory: Memory::map(&*file, FILE_BYTES, path)?, _file: file })
    }

    /// The state of the entry at `at`.
    fn state(&self, at: usize) -> &AtomicU64 {
        assert!(at.is_multiple_of(8) && at + 8 <= FILE_BYTES, "an entry lies in the file");
        // SAFETY: aligned (the mapping is page-aligned), in range, alive with self, and only ever
        // accessed atomically.
        unsafe { &*self.memory.base().add(at).cast::<AtomicU64>() }
    }

    fn copy_out(&self, at: usize, bytes: &mut [u8]) {
        assert!(at <= FILE_BYTES && bytes.len() <= FILE_BYTES - at, "the bytes lie in the file");
        // SAFETY: in range; the destination is ours. Another process may write meanwhile: the copy
        // is then garbage, which is what its validation is for.
        unsafe {
            let source = self.memory.base().add(at);
            std::ptr::copy_nonoverlapping(source, bytes.as_mut_ptr(), bytes.len());
        }
    }

    fn copy_in(&self, at: usize, bytes: &[u8]) {
        assert!(at <= FILE_BYTES && bytes.len() <= FILE_BYTES - at, "the bytes lie in the file");
        // SAFETY: in range, and the consumer is the only one that writes here.
        unsafe {
            let target = self.memory.base().add(at);
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), target, bytes.len());
        }
    }

    fn word(&self, at: usize) -> u64 {
        let mut bytes = [0; 8];
        self.copy_out(at, &mut bytes);
        u64::from_le_bytes(bytes)
    }

    fn set_word(&self, at: usize, value: u64) {
        self.copy_in(at, &value.to_le_bytes());
    }

    /// Everything of an entry but its state.
    fn write(
        &self,
        at: usize,
        bytes: usize,
        sender: &Sender,
        fields: &[u8; FIELD_BYTES],
        body: &[u8],
    ) {
        let mut front = [0; BODY_AT - CHECKED_FROM];
        front[0x00..0x08].copy_from_slice(&sender.ring_id.to_le_bytes());
        front[0x08..0x10].copy_from_slice(&sender.position.to_le_bytes());
        front[0x10..0x12].copy_from_slice(&sender.owner.to_le_bytes());
        front[0x12..0x14].copy_from_slice(&sender.run.to_le_bytes());
        front[0x14..0x18].copy_from_slice(&sender.incarnation.to_le_bytes());
        front[0x18..].copy_from_slice(fields);
        let padding = &[0; 8][..bytes - BODY_AT - body.len()];
        let mut crc = crc32c::crc32c_append(crc32c::crc32c(&front), body);
        crc = crc32c::crc32c_append(crc, padding);
        self.set_word(at + 8, bytes as u64 | u64::from(crc) << 32);
        self.copy_in(at + CHECKED_FROM, &front);
        self.copy_in(at + BODY_AT, body);
        self.copy_in(at + BODY_AT + body.len(), padding);
    }

    /// Copies the entry at `at`, whose size has been checked, and validates the copy; its body is
    /// left in `body`.
    fn read(&self, at: usize, body: &mut Vec<u8>) -> Option<Copied> {
        let sizes = self.word(at + 8);
        let (bytes, crc) = (sizes as u32 as usize, (sizes >> 32) as u32);
        let checked = bytes.checked_sub(CHECKED_FROM).filter(|_| bytes <= FILE_BYTES - at)?;
        body.resize(checked, 0);
        self.copy_out(at + CHECKED_FROM, body);
        let front = body.get(..BODY_AT - CHECKED_FROM)?;
        if crc32c::crc32c(body) != crc {
            return None;
        }
        let u64_at =
            |at: usize| u64::from_le_bytes([0, 1, 2, 3, 4, 5, 6, 7].map(|i| front[at + i]));
        let placed = u64_at(0x10);
        let sender = Sender {
            ring_id: u64_at(0x00),
            position: u64_at(0x08),
            owner: placed as u16,
            run: (placed >> 16) as u16,
            incarnation: (placed >> 32) as u32,
        };
        let fields: [u8; FIELD_BYTES] = front[0x18..].try_into().ok()?;
        let header = Header::decode(&fields);
        let body_bytes = header.body_bytes as usize;
        body.drain(..BODY_AT - CHECKED_FROM);
        let valid = header.fits(sender.run)
            && header.validate(&fields, body.get(..body_bytes)?) == Some(Kind::Append);
        valid.then_some(Copied { sender, header, body_bytes })
    }

    /// Copies an entry of `bytes` but for its state. Its length is written as it was: an entry that
    /// was scribbled over stays one that does not validate, and hides none of those behind it.
    fn copy_entry(&self, at: usize, bytes: usize, to: &Self, to_at: usize, scratch: &mut Vec<u8>) {
        scratch.resize(bytes - 8, 0);
        self.copy_out(at + 8, scratch);
        scratch[..4].copy_from_slice(&(bytes as u32).to_le_bytes());
        to.copy_in(to_at + 8, scratch);
    }
}
