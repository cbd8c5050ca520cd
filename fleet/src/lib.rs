//! Virtual devices.
