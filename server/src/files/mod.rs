//! Files of packages: uploads by form, downloads by signed address, and where the bytes are.

pub mod address;
mod blobs;
pub mod block;
mod body;
mod busy;
pub mod download;
pub mod pace;
pub mod purge;
pub mod reserve;
pub mod upload;

pub use blobs::{Blobs, Incoming, Measure};
pub use body::FileBody;
