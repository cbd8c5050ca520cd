//! Keys that somebody works on: one upload at a time for a key, and no purge beside it.

use crate::app::App;

/// A key that is taken until this is dropped.
pub struct Busy<'a> {
    app: &'a App,
    object_key: String,
}

impl<'a> Busy<'a> {
    /// Takes a key; `None` while somebody has it.
    pub fn take(app: &'a App, object_key: &str) -> Option<Self> {
        app.busy_keys
            .lock()
            .insert(object_key.to_owned())
            .then(|| Self { app, object_key: object_key.to_owned() })
    }
}

impl Drop for Busy<'_> {
    fn drop(&mut self) {
        self.app.busy_keys.lock().remove(&self.object_key);
    }
}
