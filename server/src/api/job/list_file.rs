//! `DnListFileUrl`: from an uploaded list of names to the numbers of devices.
//!
//! All of it happens beside the writer, on a thread of its own: the file is read and sorted, and its names are
//! looked up in that order, so that a million of them are one walk along an index. Only the numbers go into the
//! transaction that makes the batch.

use crate::api::error::{ApiError, Code};
use crate::app::App;
use crate::files::address::list_key_of;
use crate::files::blobs::{First, is_away};
use crate::files::{Opened, purge};
use std::io::Read as _;
use std::sync::Arc;
use tokio::runtime::Handle;
use tokio::sync::Semaphore;
use updraft_core::id::{DeviceNo, InstanceNo, ProductNo};
use updraft_core::list_file::{Faults, ListReader, ListRefused, Listed};
use updraft_store::{StoreError, UploadedFile};

/// Lists that are read at a time; a million names take 50 MB meanwhile. Further calls wait.
static READING: Semaphore = Semaphore::const_new(2);
/// Bytes of the file that are read at once.
const PIECE_BYTES: usize = 256 * 1024;
/// Names that one read of the database looks up, or devices that it walks past.
const READ_ROWS: usize = 5_000;
/// Walking past this many devices costs as much as looking one up.
const WALK_FACTOR: usize = 6;

/// The devices of the list behind `url`, in the order of their numbers.
pub async fn devices(
    app: &Arc<App>,
    instance: InstanceNo,
    product_key: &str,
    url: &str,
) -> Result<Vec<DeviceNo>, ApiError> {
    let unusable = || {
        ApiError::with(
            Code::InvalidListFile,
            "DnListFileUrl must be a FileUrl given by GenerateDeviceNameListURL, and the list must be uploaded.",
        )
    };
    let object_key = list_key_of(url).ok_or_else(unusable)?.to_owned();
    let product_key = product_key.to_owned();
    let (file, product) = app
        .store
        .read(move |tx| {
            Ok::<_, ApiError>((
                tx.file_find(instance, &object_key)?,
                tx.product_find(instance, &product_key)?.ok_or(Code::ProductNotFound)?,
            ))
        })
        .await?;
    let file = file.ok_or_else(unusable)?;
    if file.unused_since.is_none_or(|since| since < purge::too_old_before(app, app.now())) {
        return Err(ApiError::with(
            Code::InvalidListFile,
            "The list of DnListFileUrl was uploaded too long ago (upload_unused_seconds) and is purged: \
             upload it again.",
        ));
    }
    let _turn = READING.acquire().await.map_err(|_| Code::ServiceUnavailable)?;
    let (app, here) = (Arc::clone(app), Handle::current());
    let size = usize::try_from(product.device_count).unwrap_or_default();
    tokio::task::spawn_blocking(move || {
        let names = read(&app, &here, &file)?;
        let find = Find { app: &app, here: &here, product: product.no };
        find.all(&names, size)
    })
    .await
    .unwrap_or_else(|_| Err(Code::SystemException.into()))
}

/// The list's names, sorted. Blocks.
fn read(app: &App, here: &Handle, list: &UploadedFile) -> Result<Vec<Listed>, ApiError> {
    let gone = |error: std::io::Error| {
        if is_away(&error) {
            return Code::ServiceUnavailable.into();
        }
        tracing::error!(%error, blob = list.blob, "a list file cannot be read");
        ApiError::with(Code::InvalidListFile, "The list of DnListFileUrl cannot be read: upload it again.")
    };
    let mut opened = here.block_on(app.blobs.read(&list.blob, list.size, First::At(0))).map_err(gone)?;
    let names_max = usize::try_from(app.config.list_names_max).unwrap_or(usize::MAX);
    let mut reader = ListReader::new(names_max);
    let (mut piece, mut at) = (vec![0; PIECE_BYTES], 0);
    loop {
        let got = match &mut opened {
            Opened::File(file) => file.read(&mut piece).map_err(gone)?,
            Opened::Object(object) if at == object.size() => 0,
            Opened::Object(object) => {
                let chunk = here.block_on(object.chunk_at(at)).map_err(gone)?;
                piece = chunk.into();
                piece.len()
            }
        };
        if got == 0 {
            return reader.finish().map_err(refused);
        }
        at += got as u64;
        reader.feed(piece.get(..got).unwrap_or_default()).map_err(refused)?;
    }
}

fn refused(why: ListRefused) -> ApiError {
    let words = match why {
        ListRefused::Empty => "The list has no device name.".to_owned(),
        ListRefused::TooMany(max) => {
            format!("The list has more than {max} names (list_names_max): divide it among several batches.")
        }
        ListRefused::Wrong(faults) => {
            format!(
                "The list has what is no device name (4 to 32 of A-Z a-z 0-9 - _ @ . :), in file order: {faults}."
            )
        }
        ListRefused::Doubled(faults) => format!("The list names devices more than once: {faults}."),
    };
    ApiError::with(Code::InvalidTargets, words)
}

/// Looks names up.
struct Find<'a> {
    app: &'a App,
    here: &'a Handle,
    product: ProductNo,
}

impl Find<'_> {
    /// The numbers of all of these names of a product with `size` devices; the first unknown ones are the error.
    fn all(&self, names: &[Listed], size: usize) -> Result<Vec<DeviceNo>, ApiError> {
        let mut found =
            Found { names, next: 0, devices: Vec::with_capacity(names.len()), unknown: Faults::default() };
        if size <= names.len().saturating_mul(WALK_FACTOR) {
            self.walk(&mut found)?;
        } else {
            self.each(&mut found)?;
        }
        found.finish()
    }

    fn walk(&self, found: &mut Found<'_>) -> Result<(), StoreError> {
        let (product, limit) = (self.product, READ_ROWS as i64);
        let Some(last) = found.names.last().map(|listed| listed.name().to_owned()) else { return Ok(()) };
        let mut after = String::new();
        loop {
            let upto = last.clone();
            let behind = after.clone();
            let page = self.here.block_on(
                self.app.store.read(move |tx| tx.device_numbers_between(product, &behind, &upto, limit)),
            )?;
            let Some((name, _)) = page.last() else { return Ok(()) };
            after.clone_from(name);
            for (name, device) in &page {
                found.meet(name, *device);
            }
            if page.len() < READ_ROWS {
                return Ok(());
            }
        }
    }

    fn each(&self, found: &mut Found<'_>) -> Result<(), StoreError> {
        let product = self.product;
        for chunk in found.names.chunks(READ_ROWS) {
            let chunk: Vec<Listed> = chunk.to_vec();
            let rows = self.here.block_on(self.app.store.read(move |tx| {
                let names: Vec<&str> = chunk.iter().map(Listed::name).collect();
                tx.device_numbers(product, &names)
            }))?;
            for (name, device) in &rows {
                found.meet(name, *device);
            }
        }
        Ok(())
    }
}

/// A sorted list that meets sorted devices.
struct Found<'a> {
    names: &'a [Listed],
    next: usize,
    devices: Vec<DeviceNo>,
    unknown: Faults,
}

impl Found<'_> {
    fn meet(&mut self, name: &str, device: DeviceNo) {
        while let Some(listed) = self.names.get(self.next) {
            match listed.name().cmp(name) {
                std::cmp::Ordering::Less => self.unknown.note(listed),
                std::cmp::Ordering::Equal => self.devices.push(device),
                std::cmp::Ordering::Greater => return,
            }
            self.next += 1;
            if listed.name() == name {
                return;
            }
        }
    }

    fn finish(mut self) -> Result<Vec<DeviceNo>, ApiError> {
        for listed in self.names.get(self.next..).unwrap_or_default() {
            self.unknown.note(listed);
        }
        if !self.unknown.is_empty() {
            let words = format!("These devices of the list are not of the product: {}.", self.unknown);
            return Err(ApiError::with(Code::TargetNotFound, words));
        }
        self.devices.sort_unstable();
        Ok(self.devices)
    }
}
