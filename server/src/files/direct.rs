//! `downloads_direct`: addresses of the object store instead of this server's.

use crate::app::App;
use updraft_store::FirmwareFile;

/// The address in the object store of a package's file, if downloads go there.
pub fn url(app: &App, file: &FirmwareFile) -> Option<String> {
    if !app.config.downloads_direct {
        return None;
    }
    app.blobs.direct_url(file.blob.as_deref()?, app.config.download_url_seconds)
}

/// The address of a file for a client that knows the server as `base`; `path` is a path there or a whole address.
pub fn address(base: &str, path: &str) -> String {
    // Paths begin with `/`.
    if path.starts_with('/') { format!("{base}{path}") } else { path.to_owned() }
}
