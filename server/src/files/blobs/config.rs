//! Where uploaded files are, as the configuration says it.

use crate::config::{Config, ConfigError};
use std::path::PathBuf;

/// Where uploaded files are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BlobPlace {
    /// A folder of this server alone.
    Own(PathBuf),
    /// A folder that other nodes may be using, too.
    Shared(PathBuf),
    /// A bucket of an object store.
    Bucket {
        /// Its name.
        bucket: String,
        /// What the objects' paths begin with; without `/` at its ends, perhaps empty.
        prefix: String,
    },
}

impl Config {
    /// Refuses settings of uploaded files that make no sense together.
    pub(crate) fn check_blobs(&self) -> Result<(), ConfigError> {
        let refuse = |why: &str| Err(ConfigError(why.to_owned()));
        if self.s3_access_key_id.is_some() != self.s3_secret_access_key.is_some() {
            return refuse("`s3_access_key_id` and `s3_secret_access_key` go together: give both or neither");
        }
        if let Some(url) = &self.s3_endpoint
            && !(url.starts_with("http://") || url.starts_with("https://"))
        {
            return refuse("`s3_endpoint` must begin with http:// or https://");
        }
        if self.downloads_direct && !matches!(self.blobs()?, BlobPlace::Bucket { .. }) {
            return refuse("`downloads_direct` needs an object store: a `blobs_url` that begins with s3://");
        }
        self.blobs().map(drop)
    }

    /// Where uploaded files are.
    ///
    /// # Errors
    /// `blobs_url` names no such place.
    pub fn blobs(&self) -> Result<BlobPlace, ConfigError> {
        let Some(url) = &self.blobs_url else { return Ok(BlobPlace::Own(self.data_dir.join("blobs"))) };
        if let Some(path) = url.strip_prefix("file:")
            && path.starts_with('/')
        {
            // `file:///path` is the same.
            return Ok(BlobPlace::Shared(PathBuf::from(format!("/{}", path.trim_start_matches('/')))));
        }
        if let Some(rest) = url.strip_prefix("s3://") {
            let (bucket, prefix) = rest.split_once('/').unwrap_or((rest, ""));
            let prefix = prefix.trim_matches('/');
            let plain = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b));
            if !bucket.is_empty() && plain(bucket) && plain(prefix) && !prefix.split('/').any(|p| p == "..") {
                return Ok(BlobPlace::Bucket { bucket: bucket.to_owned(), prefix: prefix.to_owned() });
            }
        }
        let why = "`blobs_url` must be s3://BUCKET, s3://BUCKET/PREFIX (A-Z a-z 0-9 - _ . /) or file:/PATH";
        Err(ConfigError(why.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_in_a_folder_or_in_a_bucket() {
        let place = |url: &str| {
            let flags = [("blobs_url", url.to_owned()), ("data_dir", "/data".to_owned())];
            Config::gather(None, |_| None, &flags).and_then(|config| config.blobs())
        };
        let bucket = |bucket: &str, prefix: &str| BlobPlace::Bucket {
            bucket: bucket.to_owned(),
            prefix: prefix.to_owned(),
        };
        for (url, expected) in [
            ("", BlobPlace::Own(PathBuf::from("/data/blobs"))),
            ("file:/mnt/blobs", BlobPlace::Shared(PathBuf::from("/mnt/blobs"))),
            ("file:///mnt/blobs", BlobPlace::Shared(PathBuf::from("/mnt/blobs"))),
            ("s3://bucket", bucket("bucket", "")),
            ("s3://bucket/", bucket("bucket", "")),
            ("s3://bucket/a/b/", bucket("bucket", "a/b")),
        ] {
            assert_eq!(place(url).unwrap(), expected, "{url}");
        }
        for bad in
            ["s3:bucket", "s3://", "s3:///prefix", "s3://b/a?x", "s3://b/../c", "file:rel", "/mnt", "gs://b"]
        {
            assert!(place(bad).unwrap_err().to_string().contains("blobs_url"), "{bad}");
        }
        for (key, value) in [
            ("s3_access_key_id", "id"),
            ("s3_secret_access_key", "secret"),
            ("s3_endpoint", "store:9000"),
            ("downloads_direct", "true"),
        ] {
            let error = Config::gather(None, |_| None, &[(key, value.to_owned())]).unwrap_err().to_string();
            assert!(error.contains(key) && !error.contains("`secret`"), "{error}");
        }
    }
}
