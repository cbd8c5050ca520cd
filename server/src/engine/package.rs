//! What a device is told about a batch's package.

use crate::app::App;
use crate::device::link::{Package, PackageFile};
use crate::files::direct;
use updraft_core::job::DownloadProtocol;
use updraft_core::time::Timestamp;
use updraft_store::{Firmware, Job};

/// The package with an address for each of its files that is good from `now` on.
pub fn of(app: &App, firmware: &Firmware, job: &Job, now: Timestamp) -> Package {
    let method = firmware.sign_method;
    Package {
        version: firmware.dest_version.clone(),
        module: firmware.module.clone(),
        differential: firmware.differs_from().is_some(),
        sign_method: method,
        files: firmware
            .files
            .iter()
            .map(|file| PackageFile {
                name: file.name.clone().unwrap_or_default(),
                size: file.size,
                path: direct::url(app, file)
                    .unwrap_or_else(|| app.addresses.device_path(&file.object_key, now)),
                sign: file.digest(method).to_owned(),
                md5: file.md5.clone(),
            })
            .collect(),
        stream: (job.conduct.download == DownloadProtocol::Mqtt).then_some(job.no.0),
        tags: job.tags.clone(),
        udi: firmware.udi.clone(),
    }
}
