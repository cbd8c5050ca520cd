//! Whether a database takes writes: what the last one met, and damage, which is remembered until the end.
//!
//! A full disk or a database server that is away ends by itself, and so does this note of it. A damaged file does
//! not: what it answers may be wrong, so nothing more is written to it and nothing more is acknowledged.

use crate::error::StoreError;
use parking_lot::Mutex;

/// What the world did to the last writes.
#[derive(Default)]
pub(crate) struct Vital(Mutex<Option<StoreError>>);

impl Vital {
    /// Notes what kept a write from the disk.
    pub(crate) fn hurt(&self, error: &StoreError) {
        let mut known = self.0.lock();
        if let Some(StoreError::Damaged(_)) = known.as_ref() {
            return;
        }
        // Once for each kind: a busy server would fill the log, and the disk, with it.
        let told = known
            .as_ref()
            .is_some_and(|known| std::mem::discriminant(known) == std::mem::discriminant(error));
        if !told {
            tracing::error!(%error, "the database takes no writes: calls and devices are told to come again");
        }
        *known = Some(error.clone());
    }

    /// Notes what a read met: only damage says something about writes.
    pub(crate) fn misread(&self, error: &StoreError) {
        if let StoreError::Damaged(_) = error {
            self.hurt(error);
        }
    }

    /// Notes that something was written after all.
    pub(crate) fn recovered(&self) {
        let mut known = self.0.lock();
        if known.as_ref().is_some_and(|error| !matches!(error, StoreError::Damaged(_))) {
            tracing::info!("the database takes writes again");
            *known = None;
        }
    }

    /// Why nothing can be written, as far as is known.
    pub(crate) fn trouble(&self) -> Option<StoreError> {
        self.0.lock().clone()
    }

    /// The damage that was found, if any was.
    pub(crate) fn damage(&self) -> Option<StoreError> {
        self.trouble().filter(|error| matches!(error, StoreError::Damaged(_)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_full_disk_is_forgotten_and_damage_never() {
        let vital = Vital::default();
        vital.misread(&StoreError::Full(String::new()));
        assert!(vital.trouble().is_none(), "a read says nothing about the disk");
        vital.hurt(&StoreError::Full(String::new()));
        assert!(matches!(vital.trouble(), Some(StoreError::Full(_))));
        assert!(vital.damage().is_none());
        vital.recovered();
        assert!(vital.trouble().is_none());
        vital.misread(&StoreError::Damaged("page 7".to_owned()));
        vital.recovered();
        vital.hurt(&StoreError::Full(String::new()));
        assert!(matches!(vital.damage(), Some(StoreError::Damaged(words)) if words == "page 7"));
    }
}
