//! What is known outside of everything that can fail: what was sent, what was answered, and what
//! has been done to the disks since.

use crate::payload::RecordName;
use elgate_types::{ErrorCode, FlushMode, Level, Lsn};
use std::collections::BTreeMap;

/// One submission.
#[derive(Debug, Clone)]
pub(crate) struct Op {
    pub(crate) route: usize,
    pub(crate) sizes: Vec<usize>,
    pub(crate) state: OpState,
    /// Everything acknowledged on its route before it was sent: its LSNs are beyond that.
    pub(crate) after: Lsn,
    /// Whether the ring had taken it and has not been lost since.
    pub(crate) is_accepted: bool,
    /// How many engines had died when it was sent.
    pub(crate) sent_after_deaths: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum OpState {
    /// On its way: anything may still become of it.
    Sent,
    Acknowledged {
        first: Lsn,
        level: Level,
    },
    /// Refused: none of it may ever be delivered. `is_final` once its slot is known to be free, so
    /// that no replay of the ring can bring it back.
    Refused {
        code: ErrorCode,
        is_final: bool,
    },
    /// Nobody will ever know.
    Unknown,
}

/// What is known of a route.
#[derive(Debug, Clone, Default)]
pub(crate) struct RouteLedger {
    /// Acknowledged records, by LSN, at whatever level they must survive what has happened.
    pub(crate) acknowledged: BTreeMap<Lsn, RecordName>,
    pub(crate) flush: FlushMode,
    /// The engine has said that everything up to here is durable.
    pub(crate) durable: Lsn,
    pub(crate) highest: Lsn,
    /// Acknowledged LSNs that may be given out again, or be gone, without a word: what a disk that
    /// lies costs when the power goes.
    pub(crate) is_lied_to: bool,
    /// Acknowledged records may be gone, but somebody must say so.
    pub(crate) is_damaged: bool,
    /// Submissions may have been refused while nobody was left to hear it.
    pub(crate) has_refused: bool,
}

/// Everything known.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    pub(crate) ops: Vec<Op>,
    pub(crate) routes: Vec<RouteLedger>,
    pub(crate) acknowledged_records: u64,
    pub(crate) refusals: u64,
    engine_deaths: u64,
}

impl Ledger {
    pub(crate) fn send(&mut self, route: usize, sizes: Vec<usize>) -> u64 {
        let after = self.routes[route].highest;
        let sent_after_deaths = self.engine_deaths;
        let state = OpState::Sent;
        self.ops.push(Op { route, sizes, state, after, is_accepted: false, sent_after_deaths });
        self.ops.len() as u64 - 1
    }

    pub(crate) fn op(&mut self, op: u64) -> &mut Op {
        &mut self.ops[op as usize]
    }

    /// Whether a record was ever sent to a route, with that size, and not refused for good.
    pub(crate) fn may_hold(&self, route: usize, name: RecordName, bytes: usize) -> bool {
        self.ops.get(name.op as usize).is_some_and(|op| {
            let refused = matches!(op.state, OpState::Refused { is_final: true, .. });
            op.route == route && op.sizes.get(name.index as usize) == Some(&bytes) && !refused
        })
    }

    pub(crate) fn bytes_of(&self, name: RecordName) -> usize {
        self.ops[name.op as usize].sizes[name.index as usize]
    }

    /// A submission was acknowledged. An error if that contradicts what was said before.
    pub(crate) fn acknowledge(&mut self, op: u64, first: Lsn, level: Level) -> Result<(), String> {
        let Op { route, sizes, after, .. } = self.ops[op as usize].clone();
        let known = &mut self.routes[route];
        if first <= after && !known.is_lied_to {
            return Err(format!(
                "I3: submission {op} got LSN {first} on route {route}, though LSN {after} had been \
                 acknowledged before it was sent"
            ));
        }
        for index in 0..sizes.len() as u32 {
            let lsn = first.plus(u64::from(index));
            let name = RecordName { op, index };
            if let Some(other) = known.acknowledged.insert(lsn, name)
                && other != name
                && !known.is_lied_to
            {
                return Err(format!(
                    "I1: LSN {lsn} of route {route} was acknowledged for {other:?} and again for \
                     {name:?}"
                ));
            }
            known.highest = known.highest.max(lsn);
        }
        self.acknowledged_records += sizes.len() as u64;
        self.op(op).state = OpState::Acknowledged { first, level };
        Ok(())
    }

    pub(crate) fn refuse(&mut self, op: u64, code: ErrorCode) {
        self.refusals += 1;
        // With `Timeout` the engine says itself that it does not know.
        let state = match code {
            ErrorCode::Timeout => OpState::Unknown,
            // Said by an engine that died before it released the slot: the next one may take it.
            _ if self.op(op).sent_after_deaths < self.engine_deaths => OpState::Unknown,
            code => OpState::Refused { code, is_final: false },
        };
        self.op(op).state = state;
        let route = self.op(op).route;
        self.routes[route].has_refused = true;
    }

    /// The rings are empty: nothing that was refused can be replayed any more.
    pub(crate) fn settle_refusals(&mut self) {
        for op in &mut self.ops {
            if let OpState::Refused { is_final, .. } = &mut op.state {
                *is_final = true;
            }
        }
    }

    /// The engine died: what it had refused and not released, the next one may take.
    fn reopen_refusals(&mut self) {
        self.engine_deaths += 1;
        for op in &mut self.ops {
            if matches!(op.state, OpState::Refused { is_final: false, .. }) {
                op.state = OpState::Unknown;
            }
        }
    }

    /// The engine died without the power going. What was acknowledged as accepted is in the page
    /// cache, unless it was being written again elsewhere, or has been dropped (`lossy`: a write or a
    /// sync had failed).
    pub(crate) fn engine_died(&mut self, lossy: bool) {
        self.reopen_refusals();
        if lossy {
            self.forget_unsynced();
        }
        self.forgive_what_nothing_proves();
    }

    /// What is not durable is proven by nothing, so damage to it shows nowhere once the engine that
    /// wrote it is dead.
    pub(crate) fn forgive_what_nothing_proves(&mut self) {
        for route in &mut self.routes {
            route.is_lied_to |= route.is_damaged && route.flush != FlushMode::Auto;
        }
    }

    /// The power went: rings are gone, and what was never synced with them.
    pub(crate) fn power_cut(&mut self) {
        self.reopen_refusals();
        self.forget_unsynced();
        for op in &mut self.ops {
            op.is_accepted = false;
            if op.state == OpState::Sent {
                op.state = OpState::Unknown;
            }
        }
    }

    /// What was acknowledged as accepted only may be gone.
    pub(crate) fn forget_unsynced(&mut self) {
        for route in &mut self.routes {
            if route.flush != FlushMode::Auto {
                let durable = route.durable;
                route.acknowledged.retain(|lsn, _| *lsn <= durable);
                route.highest = durable;
                // Its sink delivers what is written; its numbers begin again where the disk ends.
                route.is_lied_to |= route.flush == FlushMode::None;
            }
        }
        for op in &mut self.ops {
            if self.routes[op.route].flush != FlushMode::Auto {
                op.is_accepted = false;
                op.after = op.after.min(self.routes[op.route].durable);
            }
        }
    }
}
