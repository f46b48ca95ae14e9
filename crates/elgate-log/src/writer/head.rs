//! A head file that somebody has cut short while it was mapped: it is made whole again, and says
//! what it said before. Whoever else had it mapped has to open it anew.

use super::LogWriter;
use crate::error::IoFault;
use crate::event::LogEvent;
use crate::recovery::process_start_time;
use elgate_io::{BlockingReply, Completion, Op, Outcome, Platform, SharedMap};
use elgate_types::Monotonic;
use std::io;
use std::sync::Arc;
use std::time::Duration;

/// How long after a failed attempt the next one is made.
const MEND_AGAIN_AFTER: Duration = Duration::from_secs(1);

/// What the chore gives back.
type Mended = Result<Arc<SharedMap>, IoFault>;

impl LogWriter {
    pub(super) fn next_mending(&mut self, now: Monotonic) -> Option<(u32, Op)> {
        let is_due = self.mend_at.is_none_or(|at| at <= now);
        if !self.head.is_lost() || self.mending.is_some() || self.closing || !is_due {
            return None;
        }
        self.mend_at = None;
        let token = self.token();
        self.mending = Some(token);
        let mend = self.head.mend();
        let call = move |platform: &dyn Platform| -> io::Result<BlockingReply> {
            Ok(Box::new(mend(platform)))
        };
        Some((token, Op::Blocking(Box::new(call))))
    }

    pub(super) fn on_mended(&mut self, completion: Completion, now: Monotonic) {
        self.mending = None;
        let path = self.head.path().to_owned();
        let mended = match completion.result {
            Ok(Outcome::Reply(reply)) => reply.downcast::<Mended>().ok(),
            _ => None,
        };
        let Some(mended) = mended else {
            self.mend_at = Some(now.after(MEND_AGAIN_AFTER));
            return;
        };
        let error = match *mended {
            Ok(map) => {
                self.head.go_on_in(map);
                if let Some(active) = &self.active {
                    self.head.begin_index(active.sequence, active.footer.index.entries());
                }
                let marks = self.watermarks();
                self.head.start(self.log_id, self.options.flush, &marks, process_start_time());
                None
            }
            Err(fault) => {
                self.mend_at = Some(now.after(MEND_AGAIN_AFTER));
                Some(fault)
            }
        };
        self.events.push_back(LogEvent::HeadLost { path, error });
    }
}
