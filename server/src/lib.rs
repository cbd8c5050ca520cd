//! Updraft.
