//! Elgate's side of the acknowledgements: one writer per participant, flushed in batches.

use crate::acks::{AckMap, Completion, ENTRIES};
use crate::error::RingError;
use crate::layout::PARTICIPANT_COUNT;
use crate::mapping::RingMap;
use crate::participant::ParticipantWord;
use crate::process::ProcessIdentity;
use crate::protocol::take_flag;
use crate::sync::{Ordering, fence};
use elgate_io::futex;
use std::collections::VecDeque;

/// Completions held for a participant whose ring is full. One that keeps to its limit of
/// outstanding submissions never needs them.
const BACKLOG_MAX: usize = 4_096;

/// The writers of all participants.
#[derive(Debug)]
pub(crate) struct AckWriters {
    places: Vec<Place>,
    /// Participants with entries that are not yet visible, or a backlog.
    dirty: Vec<u16>,
    /// Completions whose participant's file could not be opened yet, with their owner and position.
    waiting: VecDeque<(u16, u64, Completion)>,
    /// Completions that nobody could be told.
    dropped: u64,
}

#[derive(Debug)]
enum Place {
    Unknown,
    /// This incarnation has no usable file.
    Absent(u32),
    Ready(Box<AckWriter>),
}

impl AckWriters {
    pub(crate) fn new() -> Self {
        let places = (0..PARTICIPANT_COUNT).map(|_| Place::Unknown).collect();
        Self { places, dirty: Vec::new(), waiting: VecDeque::new(), dropped: 0 }
    }

    /// Completions dropped because their participant was gone, or did not read and had more
    /// outstanding than it may.
    pub(crate) fn dropped(&self) -> u64 {
        self.dropped
    }

    /// Completions that wait for room.
    pub(crate) fn backlog(&self) -> usize {
        let lengths = self.dirty.iter().map(|&index| match &self.places[usize::from(index)] {
            Place::Ready(writer) => writer.backlog.len(),
            _ => 0,
        });
        lengths.sum::<usize>() + self.waiting.len()
    }

    /// Posts a completion; visible after the next [`publish`](Self::publish).
    pub(crate) fn post(
        &mut self,
        ring: &RingMap,
        owner: u16,
        position: u64,
        completion: Completion,
    ) {
        let behind = self.waiting.iter().any(|(waiting, ..)| *waiting == owner);
        let writer = match self.writer(ring, owner) {
            Ok(Some(writer)) if !behind => writer,
            Ok(None) => {
                self.dropped += 1;
                return;
            }
            Ok(Some(_)) | Err(_) => {
                if self.waiting.len() == BACKLOG_MAX {
                    self.waiting.pop_front();
                    self.dropped += 1;
                }
                return self.waiting.push_back((owner, position, completion));
            }
        };
        let dropped = writer.post(position, completion);
        let newly_dirty = !std::mem::replace(&mut writer.dirty, true);
        self.dropped += u64::from(dropped);
        if newly_dirty {
            self.dirty.push(owner);
        }
    }

    /// Makes everything posted visible, and wakes each sleeping reader once.
    pub(crate) fn publish(&mut self, ring: &RingMap) {
        for (owner, position, completion) in std::mem::take(&mut self.waiting) {
            self.post(ring, owner, position, completion);
        }
        if self.dirty.is_empty() {
            return;
        }
        for &index in &self.dirty {
            if let Place::Ready(writer) = &mut self.places[usize::from(index)] {
                writer.flush();
            }
        }
        // Pairs with the fence in `AckWaiter::wait`: either the reader's last look sees the new
        // entries, or we see its flag.
        fence(Ordering::SeqCst);
        let places = &mut self.places;
        self.dirty.retain(|&index| {
            let Place::Ready(writer) = &mut places[usize::from(index)] else { return false };
            wake_if_sleeping(&writer.acks);
            writer.dirty = !writer.backlog.is_empty();
            writer.dirty
        });
    }

    /// Who sits at an index, as it said when it attached.
    pub(crate) fn owner(&mut self, ring: &RingMap, index: u16) -> Option<ProcessIdentity> {
        self.writer(ring, index).ok().flatten().map(|writer| writer.acks.owner())
    }

    /// Forgets the participant at an index.
    pub(crate) fn forget(&mut self, index: u16) {
        self.places[usize::from(index)] = Place::Unknown;
        self.dirty.retain(|&dirty| dirty != index);
        self.waiting.retain(|(waiting, ..)| *waiting != index);
    }

    /// Wakes every participant, so that it looks around.
    pub(crate) fn wake_all(&mut self, ring: &RingMap) {
        for index in 1..PARTICIPANT_COUNT {
            if let Ok(Some(writer)) = self.writer(ring, index) {
                wake_if_sleeping(&writer.acks);
            }
        }
    }

    /// The writer of a participant, if it has a file.
    ///
    /// # Errors
    /// As [`AckMap::open`]: ask again later.
    fn writer(&mut self, ring: &RingMap, index: u16) -> Result<Option<&mut AckWriter>, RingError> {
        if index == 0 || index >= PARTICIPANT_COUNT {
            return Ok(None);
        }
        // Pairs with the release store in `Seat::take`: with the word, its file.
        let word = ParticipantWord(ring.participant(index).load(Ordering::Acquire));
        if !word.is_attached() {
            return Ok(None);
        }
        let incarnation = word.incarnation();
        let place = &mut self.places[usize::from(index)];
        let known = match place {
            Place::Unknown => false,
            Place::Absent(of) => *of == incarnation,
            Place::Ready(writer) => writer.incarnation == incarnation,
        };
        if !known {
            *place = match AckMap::open(ring, index, incarnation)? {
                Some(acks) => Place::Ready(Box::new(AckWriter::new(acks, incarnation))),
                None => Place::Absent(incarnation),
            };
            self.dirty.retain(|&dirty| dirty != index);
        }
        match &mut self.places[usize::from(index)] {
            Place::Ready(writer) => Ok(Some(writer)),
            _ => Ok(None),
        }
    }
}

fn wake_if_sleeping(acks: &AckMap) {
    // Ordered by the fence in `publish`.
    if take_flag(acks.reader_state()) {
        futex::wake(acks.reader_state(), 1);
    }
}

#[derive(Debug)]
struct AckWriter {
    acks: AckMap,
    incarnation: u32,
    /// Entries put, visible or not. Ours alone; the shared counter is never read again.
    written: u64,
    /// The participant's counter when we last looked.
    read: u64,
    backlog: VecDeque<(u64, Completion)>,
    dirty: bool,
}

impl AckWriter {
    fn new(acks: AckMap, incarnation: u32) -> Self {
        // Relaxed: only Elgate stores it, and our predecessor is dead.
        let written = acks.written().load(Ordering::Relaxed);
        Self { acks, incarnation, written, read: written, backlog: VecDeque::new(), dirty: false }
            .with_read()
    }

    fn with_read(mut self) -> Self {
        self.look();
        self
    }

    fn look(&mut self) {
        // Pairs with the release store in `AckReader::drain`: the entries before it may be
        // overwritten.
        self.read = self.acks.read().load(Ordering::Acquire);
    }

    fn has_room(&mut self) -> bool {
        if self.written.wrapping_sub(self.read) < ENTRIES {
            return true;
        }
        self.look();
        // A counter that makes no sense reads as full: its writer hurts itself only.
        self.written.wrapping_sub(self.read) < ENTRIES
    }

    /// Returns whether an older completion had to go.
    fn post(&mut self, position: u64, completion: Completion) -> bool {
        if self.backlog.is_empty() && self.has_room() {
            self.acks.put(self.written, position, &completion);
            self.written = self.written.wrapping_add(1);
            return false;
        }
        let full = self.backlog.len() == BACKLOG_MAX;
        if full {
            self.backlog.pop_front();
        }
        self.backlog.push_back((position, completion));
        full
    }

    fn flush(&mut self) {
        while !self.backlog.is_empty() && self.has_room() {
            if let Some((position, completion)) = self.backlog.pop_front() {
                self.acks.put(self.written, position, &completion);
                self.written = self.written.wrapping_add(1);
            }
        }
        // Pairs with the acquire load in `AckReader::drain`.
        self.acks.written().store(self.written, Ordering::Release);
    }
}
