//! Where uploaded files are, if not in the data folder.

use super::{Finding, Patient};
use crate::files::blobs::{BlobPlace, Bucket};
use crate::setup;
use anyhow::Context as _;

const CHECK: &str = "files";
const WHY: &str = "Nothing can be uploaded or downloaded without it, and a server does not start.";

/// The folder that nodes share, or the object store. Reads one object, and changes nothing.
pub(super) fn blobs(patient: &Patient<'_>) -> Vec<Finding> {
    let config = patient.config;
    let url = config.blobs_url.clone().unwrap_or_default();
    match config.blobs() {
        Ok(BlobPlace::Shared(path)) => vec![if path.is_dir() {
            Finding::good(CHECK, format!("they are in the folder {}", path.display()))
        } else {
            let what = format!("the folder {} is not there", path.display());
            Finding::broken(CHECK, what, WHY, "Mount it, or make it for the user of the server.")
        }],
        Ok(BlobPlace::Bucket { bucket, prefix }) => {
            let looked =
                Bucket::configured(config, &bucket, &prefix).and_then(|bucket| look(patient, &bucket));
            vec![match looked {
                Ok(true) => Finding::good(CHECK, format!("{url} can be read and is this installation's")),
                Ok(false) => {
                    Finding::good(CHECK, format!("{url} can be read; the first start makes it its own"))
                }
                Err(error) => Finding::broken(
                    CHECK,
                    format!("{url}: {error:#}"),
                    WHY,
                    "Look at `s3_endpoint`, the key and the permissions that docs/operating.md lists.",
                ),
            }]
        }
        // An unusable setting is the configuration's finding.
        Ok(BlobPlace::Own(_)) | Err(_) => Vec::new(),
    }
}

fn look(patient: &Patient<'_>, bucket: &Bucket) -> anyhow::Result<bool> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime = runtime.context("no runtime")?;
    let installation = setup::folder_name(patient.config)?;
    runtime.block_on(async {
        match installation {
            Some(name) => bucket.is_owned_by(&name).await,
            None => bucket.owner().await.map(|_| false),
        }
    })
}
