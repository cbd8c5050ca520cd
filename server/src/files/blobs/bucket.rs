//! Blobs as objects of a bucket: `PREFIX/ab/abcd…`, one for each, and beside them `PREFIX/installation`, which says whose
//! they are.

use super::chunks::{Chunks, Object};
use super::parts::IncomingObject;
use super::place;
use super::trouble::{Trouble, is_away};
use crate::config::Config;
use anyhow::{Context as _, ensure};
use bytes::Bytes;
use futures_util::{FutureExt as _, StreamExt as _, TryStreamExt as _};
use http::Method;
use object_store::aws::{AmazonS3Builder, AmazonS3ConfigKey, Checksum};
use object_store::path::Path;
use object_store::signer::Signer;
use object_store::{BackoffConfig, ClientOptions, ObjectMeta, ObjectStore, ObjectStoreExt as _, RetryConfig};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;
use updraft_core::time::Timestamp;

/// How long the store may take for one request.
const REQUEST: Duration = Duration::from_secs(30);
/// How long it may take to take a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// How long a request is tried again, and how often: a device that waits longer gives up.
const RETRY: Duration = Duration::from_secs(15);
const RETRIES: usize = 5;
const BACKOFF_MAX: Duration = Duration::from_secs(3);
/// The longest time that signatures of S3 are good.
const SIGNED_MAX: Duration = Duration::from_hours(7 * 24);
/// What says whose objects there are under the prefix.
const OWNER: &str = "installation";
/// Names that one page of a list has at most.
const PAGE: usize = 1_000;
/// Names of blobs have 24 characters. What is named otherwise is none of ours.
const NAME_CHARS: usize = 24;

/// A bucket, or the part of it below a prefix.
#[derive(Clone)]
pub struct Bucket {
    store: Arc<dyn ObjectStore>,
    signer: Option<Arc<dyn Signer>>,
    prefix: Path,
    chunks: Arc<Chunks>,
    trouble: Arc<Trouble>,
}

impl fmt::Debug for Bucket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The store would show its credentials' provider.
        f.debug_struct("Bucket").field("prefix", &self.prefix).finish_non_exhaustive()
    }
}

/// Some of a bucket's blobs.
pub struct OldBlobs {
    /// Their names.
    pub names: Vec<String>,
    /// Where the list goes on, if it does.
    pub next: Option<Path>,
}

impl Bucket {
    /// The bucket that the configuration names. Nothing is asked of it yet.
    pub fn configured(config: &Config, bucket: &str, prefix: &str) -> anyhow::Result<Self> {
        let mut builder = match (&config.s3_access_key_id, &config.s3_secret_access_key) {
            (Some(id), Some(secret)) => {
                AmazonS3Builder::new().with_access_key_id(id).with_secret_access_key(secret)
            }
            _ => AmazonS3Builder::from_env(),
        };
        ensure!(
            config.s3_endpoint.is_some() || builder.get_config_value(&AmazonS3ConfigKey::Endpoint).is_none(),
            "the environment names an address of an object store (AWS_ENDPOINT_URL): give it as `s3_endpoint`"
        );
        if let Some(region) = &config.s3_region {
            builder = builder.with_region(region);
        }
        if let Some(endpoint) = &config.s3_endpoint {
            builder = builder.with_endpoint(endpoint_of(endpoint, bucket, config.s3_path_style)?);
        }
        let plain = config.s3_endpoint.as_ref().is_some_and(|endpoint| endpoint.starts_with("http://"));
        let client =
            ClientOptions::new().with_allow_http(plain).with_timeout(REQUEST).with_connect_timeout(CONNECT);
        let backoff = BackoffConfig { max_backoff: BACKOFF_MAX, ..BackoffConfig::default() };
        let store = builder
            .with_bucket_name(bucket)
            .with_virtual_hosted_style_request(!config.s3_path_style)
            // The store refuses what arrives otherwise than it was sent.
            .with_checksum_algorithm(Checksum::SHA256)
            // Objects are deleted one by one: not all stores have the call that deletes many.
            .with_disable_bulk_delete(true)
            .with_client_options(client)
            .with_retry(RetryConfig { backoff, max_retries: RETRIES, retry_timeout: RETRY })
            .build()
            .context("the settings of the object store (`blobs_url`, `s3_…`) cannot be used")?;
        let store = Arc::new(store);
        let signer: Arc<dyn Signer> = Arc::clone(&store) as _;
        Ok(Self { signer: Some(signer), ..Self::new(store, prefix) })
    }

    /// What is below `prefix` in a store, without addresses of its own.
    pub fn new(store: Arc<dyn ObjectStore>, prefix: &str) -> Self {
        let (chunks, trouble) = (Arc::default(), Arc::default());
        Self { store, signer: None, prefix: Path::from(prefix), chunks, trouble }
    }

    /// Makes sure that the bucket can be used and belongs to this installation; an unused prefix does from now on.
    pub async fn claim(&self, installation: &str) -> anyhow::Result<()> {
        let (path, ours) = (self.owner_path(), owner(installation));
        if self.is_owned_by(installation).await? {
            return Ok(());
        }
        let put = self.store.put(&path, ours.into()).await;
        put.map_err(|error| self.trouble.of(&error)).context("nothing can be written to the object store")?;
        self.trouble.over();
        Ok(())
    }

    /// Whether what is below the prefix belongs to this installation; false: to nobody yet.
    ///
    /// # Errors
    /// The bucket cannot be read, or belongs to another installation.
    pub async fn is_owned_by(&self, installation: &str) -> anyhow::Result<bool> {
        let Some(found) = self.owner().await? else { return Ok(false) };
        ensure!(
            found == owner(installation).as_bytes(),
            "the objects below the prefix of `blobs_url` belong to another installation, whose files would be removed; \
             give another prefix"
        );
        Ok(true)
    }

    /// What says whose objects there are; `None`: nobody's yet.
    ///
    /// # Errors
    /// The bucket cannot be read.
    pub async fn owner(&self) -> anyhow::Result<Option<Bytes>> {
        let path = self.owner_path();
        let read = async { self.store.get(&path).await?.bytes().await };
        match read.await.map_err(|error| self.trouble.of(&error)) {
            Ok(found) => {
                self.trouble.over();
                Ok(Some(found))
            }
            Err(error) if !is_away(&error) => Ok(None),
            Err(error) => Err(error).context("the object store cannot be used"),
        }
    }

    /// Looks whether an object of this size is there.
    pub async fn has(&self, name: &str, size: i64) -> io::Result<bool> {
        match self.object(name, size).ready(super::First::Nothing).await {
            Ok(()) => Ok(true),
            Err(error) if is_away(&error) => Err(error),
            Err(_) => Ok(false),
        }
    }

    /// Some of the blobs that were uploaded before `before`, behind the path `after`.
    pub async fn old(&self, after: Option<&Path>, before: Timestamp) -> io::Result<OldBlobs> {
        let listed = match after {
            Some(after) => self.store.list_with_offset(Some(&self.prefix), after),
            None => self.store.list(Some(&self.prefix)),
        };
        let page: Vec<ObjectMeta> =
            listed.take(PAGE).try_collect().await.map_err(|error| self.trouble.of(&error))?;
        self.trouble.over();
        let next = (page.len() == PAGE).then(|| page.last().map(|meta| meta.location.clone())).flatten();
        let old = page.iter().filter(|meta| meta.last_modified.timestamp_millis() < before.0);
        Ok(OldBlobs { names: old.filter_map(|meta| self.name_of(&meta.location)).collect(), next })
    }

    /// Removes a blob.
    pub async fn remove(&self, name: &str) -> io::Result<()> {
        self.store.delete(&self.path(name)).await.map_err(|error| self.trouble.of(&error))?;
        self.trouble.over();
        Ok(())
    }

    /// See [`super::Blobs::direct_url`].
    pub(super) fn direct_url(&self, name: &str, seconds: i64) -> Option<String> {
        let signer = self.signer.as_ref()?;
        let good = Duration::from_secs(seconds.unsigned_abs()).min(SIGNED_MAX);
        // Signing waits for nothing, but for credentials of the machine that are being renewed.
        let url = signer.signed_url(Method::GET, &self.path(name), good).now_or_never()?;
        url.inspect_err(|error| tracing::warn!(%error, "no address of the object store can be signed"))
            .ok()
            .map(String::from)
    }

    /// Renews credentials of the machine before addresses are signed with them.
    pub async fn renew(&self) {
        if let Some(signer) = &self.signer {
            let signed = signer.signed_url(Method::GET, &self.owner_path(), REQUEST).await;
            if let Err(error) = signed {
                self.trouble.of(&error);
            }
        }
    }

    pub(super) fn create(&self, name: String, bytes_max: i64) -> IncomingObject {
        IncomingObject::new(self.clone(), name, bytes_max)
    }

    /// A blob of `size` bytes; it is not looked whether it is there.
    pub fn object(&self, name: &str, size: i64) -> Object {
        Object {
            store: Arc::clone(&self.store),
            chunks: Arc::clone(&self.chunks),
            trouble: Arc::clone(&self.trouble),
            path: self.path(name),
            name: name.into(),
            size: size.unsigned_abs(),
        }
    }

    pub(super) fn store(&self) -> &dyn ObjectStore {
        &*self.store
    }

    pub(super) fn trouble(&self) -> &Trouble {
        &self.trouble
    }

    pub(super) fn path(&self, name: &str) -> Path {
        Path::from(format!("{}/{}", self.prefix, place(name)))
    }

    fn owner_path(&self) -> Path {
        Path::from(format!("{}/{OWNER}", self.prefix))
    }

    /// The blob that an object is, if it is one.
    fn name_of(&self, path: &Path) -> Option<String> {
        let name = path.filename()?;
        let ours = name.len() == NAME_CHARS && name.bytes().all(|byte| byte.is_ascii_alphanumeric());
        (ours && self.path(name) == *path).then(|| name.to_owned())
    }
}

/// What the object says that names the owner: not the installation's name itself, which is the database's business.
fn owner(installation: &str) -> String {
    hex::encode(Sha256::digest(installation))
}

/// The endpoint as the library wants it: with the bucket in its host, unless that is in the path.
fn endpoint_of(endpoint: &str, bucket: &str, path_style: bool) -> anyhow::Result<String> {
    let endpoint = endpoint.trim_end_matches('/');
    let (scheme, host) =
        endpoint.split_once("://").context("`s3_endpoint` must begin with http:// or https://")?;
    Ok(if path_style { endpoint.to_owned() } else { format!("{scheme}://{bucket}.{host}") })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Blobs;
    use crate::files::blobs::{First, Opened};
    use object_store::memory::InMemory;

    const NAME: &str = "abcdefghijklmnopqrstuvwx";
    const MIB: usize = 1024 * 1024;

    fn bytes(count: usize) -> Vec<u8> {
        (0..count).map(|n| (n * 31 % 251) as u8).collect()
    }

    async fn put(bucket: &Bucket, content: &[u8], piece: usize) {
        let mut incoming = bucket.create(NAME.to_owned(), 1 << 30);
        for piece in content.chunks(piece) {
            incoming.write(piece).await.unwrap();
        }
        assert_eq!(incoming.keep().await.unwrap(), NAME);
    }

    #[tokio::test]
    async fn what_was_uploaded_is_read_whatever_its_size() {
        let bucket = Bucket::new(Arc::new(InMemory::new()), "pre/fix");
        for (size, piece) in
            [(0, 1), (7, 2), (5 * MIB, MIB), (5 * MIB + 1, 64 * 1024 + 3), (16 * MIB, 7 * MIB)]
        {
            // Names are never used again, so what is kept of the one before would be taken for this one.
            let bucket = Bucket::new(Arc::clone(&bucket.store), "pre/fix");
            let content = bytes(size);
            put(&bucket, &content, piece).await;
            let blobs = Blobs::Bucket(bucket);
            let Opened::Object(object) = blobs.read(NAME, size as i64, First::At(0)).await.unwrap() else {
                panic!("it is in a bucket");
            };
            assert!(object.read(0, size).await.unwrap() == content, "{size}");
            for at in [1, size / 2, size.saturating_sub(1)].into_iter().filter(|at| *at < size) {
                assert_eq!(object.read(at as u64, 1).await.unwrap(), content[at..=at]);
            }
        }
    }

    #[tokio::test]
    async fn an_object_that_is_missing_or_of_another_size_is_served_to_nobody() {
        let bucket = Bucket::new(Arc::new(InMemory::new()), "");
        put(&bucket, &bytes(1_000), 1_000).await;
        let blobs = Blobs::Bucket(bucket.clone());
        for first in [First::Nothing, First::At(0), First::At(999)] {
            assert!(blobs.read(NAME, 1_000, first).await.is_ok());
            let other = Blobs::Bucket(Bucket::new(Arc::clone(&bucket.store), ""));
            for size in [999, 1_001] {
                let error = other.read(NAME, size, first).await.err().unwrap();
                assert!(!is_away(&error) && error.kind() == io::ErrorKind::InvalidData, "{error}");
            }
            let error = blobs.read("another", 1_000, first).await.err().unwrap();
            assert!(!is_away(&error) && error.kind() == io::ErrorKind::NotFound, "{error}");
        }
        assert!(bucket.has(NAME, 1_000).await.unwrap() && !bucket.has("another", 1).await.unwrap());
        blobs.remove(NAME).await.unwrap();
        assert!(!bucket.has(NAME, 1_000).await.unwrap());
    }

    #[tokio::test]
    async fn an_unfinished_upload_leaves_no_object() {
        let bucket = Bucket::new(Arc::new(InMemory::new()), "p");
        let mut incoming = bucket.create(NAME.to_owned(), 1 << 30);
        incoming.write(&bytes(11 * MIB)).await.unwrap();
        drop(incoming);
        tokio::task::yield_now().await;
        assert_eq!(bucket.old(None, Timestamp(i64::MAX)).await.unwrap().names.len(), 0);
    }

    #[tokio::test]
    async fn a_prefix_belongs_to_one_installation() {
        let bucket = Bucket::new(Arc::new(InMemory::new()), "p");
        assert!(!bucket.is_owned_by("one").await.unwrap());
        bucket.claim("one").await.unwrap();
        bucket.claim("one").await.unwrap();
        let error = bucket.claim("two").await.unwrap_err().to_string();
        assert!(error.contains("another installation"), "{error}");
        Bucket::new(Arc::clone(&bucket.store), "q").claim("two").await.unwrap();
    }

    #[tokio::test]
    async fn only_old_blobs_of_this_prefix_are_listed() {
        let store: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let bucket = Bucket::new(Arc::clone(&store), "p");
        bucket.claim("one").await.unwrap();
        put(&bucket, b"content", 7).await;
        for other in
            ["p/ab/short", "p/zz/abcdefghijklmnopqrstuvwx", "q/ab/abcdefghijklmnopqrstuvwx", "p/ab/dir/x"]
        {
            store.put(&Path::from(other), "x".into()).await.unwrap();
        }
        assert_eq!(bucket.old(None, Timestamp(i64::MAX)).await.unwrap().names, [NAME]);
        assert_eq!(bucket.old(None, Timestamp(0)).await.unwrap().names.len(), 0, "too young");
    }

    #[test]
    fn addresses_of_the_store_hold_the_bucket_where_it_wants_it() {
        let config = |path_style| Config {
            s3_endpoint: Some("https://store.example.com:9000/".to_owned()),
            s3_access_key_id: Some("id".to_owned()),
            s3_secret_access_key: Some("secret".to_owned()),
            s3_path_style: path_style,
            ..Config::default()
        };
        for (path_style, begins) in [
            (true, "https://store.example.com:9000/bucket/pre/fix/ab/abcd?"),
            (false, "https://bucket.store.example.com:9000/pre/fix/ab/abcd?"),
        ] {
            let bucket = Bucket::configured(&config(path_style), "bucket", "pre/fix").unwrap();
            let url = bucket.direct_url("abcd", 1_000_000).unwrap();
            assert!(url.starts_with(begins) && url.contains("X-Amz-Expires=604800"), "{url}");
            assert!(bucket.direct_url("abcd", 60).unwrap().contains("X-Amz-Expires=60&"));
            assert!(!format!("{bucket:?}").contains("secret"));
        }
    }
}
