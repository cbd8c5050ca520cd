//! Updraft store.
