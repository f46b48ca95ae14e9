//! The last things that happened, for whoever has to understand a failing seed.

use elgate_types::Monotonic;
use std::cell::RefCell;
use std::collections::VecDeque;

/// How many are remembered.
const LINES_MAX: usize = 120;

#[derive(Default)]
pub(crate) struct Story {
    lines: RefCell<VecDeque<String>>,
    /// Whether everything is printed as it happens.
    aloud: bool,
}

impl Story {
    pub(crate) fn new(aloud: bool) -> Self {
        Self { lines: RefCell::default(), aloud }
    }

    #[expect(clippy::print_stderr, reason = "asked for with --story")]
    pub(crate) fn tell(&self, now: Monotonic, what: std::fmt::Arguments<'_>) {
        let line = format!("{:>12.6} s  {what}", (now.0 as f64 - 1e9) / 1e9);
        if self.aloud {
            eprintln!("{line}");
        }
        let mut lines = self.lines.borrow_mut();
        if lines.len() == LINES_MAX {
            lines.pop_front();
        }
        lines.push_back(line);
    }

    pub(crate) fn text(&self) -> String {
        let lines: Vec<String> = self.lines.borrow().iter().cloned().collect();
        lines.join("\n")
    }
}
