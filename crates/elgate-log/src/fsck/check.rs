//! What all parts of one check share: what to do, what has been found, how far it has come.

use super::image::Image;
use super::report::{Finding, FindingKind, FindingOutcome, FsckOptions, FsckReport};
use crate::error::IoFault;
use crate::head::Watermarks;
use elgate_io::Platform;
use elgate_types::Lsn;
use std::ops::Range;
use std::path::{Path, PathBuf};

/// What to do about what a repair would set right.
const RUN_REPAIR: &str = "run it again with --repair while nothing writes the log";

pub(super) struct Check<'a> {
    pub(super) platform: &'a dyn Platform,
    pub(super) dir: &'a Path,
    pub(super) options: &'a FsckOptions,
    /// While a writer has the log open: the last record that was durable when the check began.
    pub(super) live: Option<Lsn>,
    /// What the last writer left in the head file.
    pub(super) last_writer: Option<Watermarks>,
    pub(super) report: FsckReport,
    pub(super) progress: &'a mut dyn FnMut(u64, u64),
    pub(super) bytes_total: u64,
}

/// Something that is wrong and for which the right bytes are known.
pub(super) struct Wrong {
    pub(super) kind: FindingKind,
    pub(super) offset: u64,
    /// First and last record concerned.
    pub(super) lsns: Option<(Lsn, Lsn)>,
    pub(super) what: String,
    /// Otherwise a crash, or a mirror's device that was away, may leave it so, and the next start
    /// sees to it by itself.
    pub(super) is_error: bool,
}

/// What a mirror lacks of one segment.
#[derive(Debug, Default)]
pub(super) struct Lag {
    pub(super) batches: u64,
    pub(super) bytes: u64,
    /// The log has lost a batch before these. Nothing more is copied: it would state that the batch
    /// was durable, and so vouch for whatever the mirror has in its place.
    pub(super) stays: bool,
}

impl Check<'_> {
    /// Reports something that is wrong, and puts the right bytes there if that is wanted.
    pub(super) fn set_right(
        &mut self,
        image: &mut Image,
        wrong: Wrong,
        right: &[u8],
    ) -> Result<(), IoFault> {
        let Wrong { kind, offset, lsns, what, is_error } = wrong;
        let mut finding = Finding {
            kind,
            outcome: if is_error { FindingOutcome::Repairable } else { FindingOutcome::Note },
            path: image.path.clone(),
            bytes: Some(offset..offset + right.len() as u64),
            lsns,
            what,
            advice: RUN_REPAIR.to_owned(),
            copy: None,
        };
        if self.options.repair {
            finding.copy = image.replace(self.platform, offset, right)?;
            finding.outcome =
                if is_error { FindingOutcome::Repaired } else { FindingOutcome::Note };
            finding.advice = match &finding.copy {
                Some(copy) => format!("what was there before is kept in {}", copy.display()),
                None => String::new(),
            };
        }
        self.report.add(finding);
        Ok(())
    }

    /// Reports something that nothing here sets right, or that is not wrong at all.
    pub(super) fn report(
        &mut self,
        kind: FindingKind,
        outcome: FindingOutcome,
        path: &Path,
        what: String,
        advice: &str,
    ) {
        self.report.add(Finding {
            kind,
            outcome,
            path: path.to_owned(),
            bytes: None,
            lsns: None,
            what,
            advice: advice.to_owned(),
            copy: None,
        });
    }

    /// Reports something whose remedy is not a matter of bytes in place; `remedy` carries it out.
    pub(super) fn remedy(
        &mut self,
        kind: FindingKind,
        path: &Path,
        what: String,
        is_error: bool,
        remedy: impl FnOnce(&dyn Platform) -> Result<(), IoFault>,
    ) -> Result<(), IoFault> {
        let (outcome, advice) = match self.options.repair {
            true => (FindingOutcome::Repaired, "it is right now"),
            false => (FindingOutcome::Repairable, RUN_REPAIR),
        };
        if self.options.repair {
            remedy(self.platform)?;
        }
        let outcome = if is_error { outcome } else { FindingOutcome::Note };
        self.report(kind, outcome, path, what, advice);
        Ok(())
    }

    /// Reports a range that is lost.
    pub(super) fn lost(
        &mut self,
        path: &Path,
        bytes: Option<Range<u64>>,
        lsns: Option<(Lsn, Lsn)>,
        what: String,
        copy: Option<PathBuf>,
    ) {
        let records = lsns.map_or(0, |(first, last)| last.0 - first.0 + 1);
        self.report.lost_records += records;
        let mirror = match &self.options.mirror {
            Some(_) => "no copy of it validates: restore the file from a backup and run it again",
            None => {
                "name a mirror with --mirror, or restore the file from a backup, and run it again"
            }
        };
        let advice = match &copy {
            Some(copy) => format!("{mirror}; what is there is also kept in {}", copy.display()),
            None => mirror.to_owned(),
        };
        self.report.add(Finding {
            kind: if records > 0 { FindingKind::Gap } else { FindingKind::Batch },
            outcome: FindingOutcome::Left,
            path: path.to_owned(),
            bytes,
            lsns,
            what,
            advice,
            copy,
        });
    }

    /// Says how far it has come.
    pub(super) fn advance(&mut self, bytes: u64) {
        self.report.bytes += bytes;
        (self.progress)(self.report.bytes, self.bytes_total);
    }
}
