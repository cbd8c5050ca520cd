//! Files of packages: uploads by form, downloads by signed address, and where the bytes are.

pub mod address;
pub mod blobs;
pub mod block;
mod body;
mod busy;
pub mod direct;
pub mod download;
pub mod pace;
pub mod purge;
pub mod reserve;
pub mod sweep;
pub mod upload;

pub use blobs::{Blobs, Incoming, Measure, Opened};
pub use body::FileBody;
