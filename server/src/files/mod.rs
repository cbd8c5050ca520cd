//! Files of packages: uploads by form, downloads by signed address, and where the bytes are.

pub mod address;
mod blobs;
mod body;
pub mod download;
pub mod upload;

pub use blobs::{Blobs, Incoming};
pub use body::FileBody;
