//! Files that a driver without a ring keeps open for its user.

use crate::File;
use std::sync::Arc;

/// Keeps files open. What a thread writes is done before its process has closed its files: the
/// kernel closes them when the last thread is gone, and no thread goes while it is in a write.
#[derive(Default)]
pub(crate) struct Held(Vec<File>);

impl Held {
    pub(crate) fn hold(&mut self, file: &File) {
        if !self.0.iter().any(|held| Arc::ptr_eq(&held.0, &file.0)) {
            self.0.push(file.clone());
        }
    }

    pub(crate) fn files(&self) -> impl Iterator<Item = &File> {
        self.0.iter()
    }

    pub(crate) fn release(&mut self, file: &File) {
        self.0.retain(|held| !Arc::ptr_eq(&held.0, &file.0));
    }
}
