//! Updraft.
fn main() {}
