//! A driver's timers, in order of deadline.

use crate::sys::error;
use crate::{Completion, Outcome, Token};
use elgate_types::Monotonic;
use std::collections::BTreeMap;

#[derive(Debug, Default)]
pub(crate) struct Timers {
    /// Equal deadlines end in the order they were submitted.
    pending: BTreeMap<(Monotonic, u64), Token>,
    serial: u64,
}

impl Timers {
    pub(crate) fn add(&mut self, token: Token, deadline: Monotonic) {
        self.serial += 1;
        self.pending.insert((deadline, self.serial), token);
    }

    pub(crate) fn next_deadline(&self) -> Option<Monotonic> {
        self.pending.first_key_value().map(|(key, _)| key.0)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.pending.is_empty()
    }

    /// Ends those whose time has come.
    pub(crate) fn expire(&mut self, now: Monotonic, completions: &mut Vec<Completion>) {
        while let Some(entry) = self.pending.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let token = entry.remove();
            completions.push(Completion { token, result: Ok(Outcome::Done), buffer: None });
        }
    }

    /// Ends those with this token as cancelled.
    pub(crate) fn cancel(&mut self, token: Token, completions: &mut Vec<Completion>) {
        self.pending.retain(|_, pending| {
            if *pending == token {
                let result = Err(error(libc::ECANCELED));
                completions.push(Completion { token, result, buffer: None });
            }
            *pending != token
        });
    }
}
