//! Data for the server, written through the store before it starts: the API would take minutes.

use crate::Scale;
use crate::database::{Database, Engine};
use anyhow::Context as _;
use std::collections::{BTreeMap, HashMap};
use tempfile::TempDir;
use updraft_core::firmware::{FirmwareKind, FirmwareStatus, SignMethod};
use updraft_core::id::{self, DeviceNo, FirmwareNo, InstanceNo, JobNo, ProductNo, TaskNo};
use updraft_core::job::{Conduct, JobType, Schedule, TargetSelection};
use updraft_core::task::{Task, TaskStatus};
use updraft_core::time::Timestamp;
use updraft_fleet::Identity;
use updraft_server::api::device::register_device::SEAL_PURPOSE;
use updraft_server::clock::{Clock as _, SystemClock};
use updraft_server::config::Config;
use updraft_server::files::Blobs;
use updraft_server::files::address::Addresses;
use updraft_server::random::Random;
use updraft_server::seal::MasterKey;
use updraft_server::setup::{self, ROOT_ACCOUNT};
use updraft_store::{Lane, NewDevice, NewFirmware, NewJob, NewProduct, Store, StoreError, Tx};

pub const KEY_ID: &str = "bench-key";
pub const SECRET: &str = "bench-secret-bench-secret-bench";
/// Rows of one transaction.
const CHUNK: usize = 5_000;

/// A device, and how the database calls it.
#[derive(Clone)]
pub struct Seed {
    pub no: DeviceNo,
    pub identity: Identity,
}

/// A data folder with everything in it.
pub struct Seeded {
    pub dir: TempDir,
    pub config: Config,
    pub database: Database,
    /// A product without devices.
    pub empty_key: String,
    /// The package with many batches.
    pub firmware_id: String,
    /// Devices without tasks.
    pub idle: Vec<Seed>,
    /// Devices whose task is IN_PROGRESS.
    pub reporting: Vec<Seed>,
    /// A product with many devices, none of which ever connects.
    pub crowd: Crowd,
    /// A file that can be downloaded.
    pub image: Image,
    instance: InstanceNo,
    product: ProductNo,
    pushing: FirmwareNo,
}

/// Many devices of one product, each with a reported version, and packages for them.
pub struct Crowd {
    pub product_key: String,
    pub devices: usize,
    /// A package for each of the batches that are for them.
    pub firmware_ids: Vec<String>,
}

/// A file of random bytes in the blob store.
pub struct Image {
    /// Path and query of its signed address.
    pub signed: String,
    /// Where its bytes are, below the folder of blobs.
    pub path: String,
    pub bytes: u64,
}

/// Who makes things.
struct Maker {
    store: Store,
    master: MasterKey,
    random: Random,
    now: Timestamp,
    instance: InstanceNo,
    product: ProductNo,
    product_key: String,
}

impl Seeded {
    /// Makes the folder; on the disk of the build, since temporary folders may be in memory.
    pub async fn make(engine: &Engine, scale: Scale) -> anyhow::Result<Self> {
        let dir = tempfile::tempdir_in(env!("CARGO_TARGET_TMPDIR"))?;
        let database = engine.create(dir.path())?;
        let config = Config {
            data_dir: dir.path().to_owned(),
            database_url: database.url(),
            root_access_key_id: Some(KEY_ID.to_owned()),
            root_access_key_secret: Some(SECRET.to_owned()),
            quota_scale: 0.0,
            ..Config::default()
        };
        let (random, now) = (Random::from_seed([3; 32]), SystemClock.now());
        let store = Store::open(&config.database()?)?;
        let master = setup::master_key(&config, &store, &random).await?;
        setup::root_account(&config, &store, &master, &random, now).await?;
        let root = store.write(Lane::Bulk, move |tx| tx.account_ensure(ROOT_ACCOUNT, now)).await?;
        let instance = store.write(Lane::Bulk, move |tx| tx.instance_public(root)).await?;
        let nothing = (ProductNo(0), String::new());
        let mut maker =
            Maker { store, master, random, now, instance, product: nothing.0, product_key: nothing.1 };
        maker.product("bench_empty").await?;
        let empty_key = maker.product_key.clone();
        maker.product("bench_lamps").await?;
        let idle = maker.devices("idle", scale.idle).await?;
        let reporting = maker.devices("busy", scale.reporting).await?;
        let (listed, firmware_id) = maker.firmware("listed").await?;
        maker.one_batch(listed).await?;
        database.batches_copy(listed.0, scale.batches)?;
        let (progressing, _) = maker.firmware("progressing").await?;
        maker.batch_in_progress(progressing, &reporting).await?;
        let (pushing, _) = maker.firmware("pushing").await?;
        let product = maker.product;
        let image = maker.image(&config, scale.image_bytes).await?;
        let crowd = maker.crowd(scale.crowd).await?;
        maker.store.close();
        database.settle()?;
        Ok(Self {
            dir,
            config,
            database,
            empty_key,
            firmware_id,
            idle,
            reporting,
            crowd,
            image,
            instance,
            product,
            pushing,
        })
    }

    /// A batch with a task for each of these devices, due now; written beside the running server.
    pub async fn push_now(&self, devices: &[Seed]) -> anyhow::Result<()> {
        let store = Store::open(&self.config.database()?)?;
        let devices: Vec<DeviceNo> = devices.iter().map(|device| device.no).collect();
        let new = new_job(self.instance, self.product, self.pushing, "pushed");
        let now = SystemClock.now();
        store
            .write(Lane::Bulk, move |tx| {
                let job = tx.job_insert(&new, now)?;
                tasks(tx, job, &devices, TaskStatus::Queued, Some(now), now)
            })
            .await?;
        store.close();
        Ok(())
    }
}

fn new_job(instance: InstanceNo, product: ProductNo, firmware: FirmwareNo, job_id: &str) -> NewJob {
    NewJob {
        instance,
        job_id: job_id.to_owned(),
        firmware,
        product,
        job_type: JobType::Upgrade,
        target_selection: TargetSelection::Specific,
        need_push: true,
        // As fast as it goes: the API would not give more than 10,000 a minute.
        per_minute: None,
        timeout_minutes: None,
        need_confirm: false,
        src_versions: Vec::new(),
        gray_percent: None,
        retry: None,
        schedule: Schedule::default(),
        conduct: Conduct::default(),
        tags: Vec::new(),
        expanded: true,
        expand_upto: DeviceNo(0),
    }
}

fn tasks(
    tx: &mut Tx<'_>,
    job: JobNo,
    devices: &[DeviceNo],
    status: TaskStatus,
    slot_at: Option<Timestamp>,
    now: Timestamp,
) -> Result<(), StoreError> {
    let count = devices.len() as i64;
    let rows: Vec<Task> = devices
        .iter()
        .zip(1..)
        .map(|(device, ordinal)| {
            let no = TaskNo { job, ordinal };
            let working = status == TaskStatus::InProgress;
            Task { slot_at, working, ..Task::new(no, *device, status, Some("1.0.0".to_owned()), now) }
        })
        .collect();
    tx.tasks_insert(&rows)?;
    tx.counts_add(&BTreeMap::from([((job, status), count)]))?;
    tx.job_expansion_set(job, DeviceNo(0), true, count)
}

impl Maker {
    /// Makes a product, for which everything is made from now on.
    async fn product(&mut self, name: &str) -> anyhow::Result<()> {
        self.product_key = id::product_key(&self.random.bytes("product_key"));
        let new = NewProduct {
            instance: self.instance,
            product_key: self.product_key.clone(),
            name: name.to_owned(),
            secret_sealed: Vec::new(),
            node_type: 0,
            data_format: 0,
            net_type: "WIFI".to_owned(),
            commodity_code: "iothub".to_owned(),
            description: None,
            protocol_type: None,
            category_key: None,
            validate_type: 1,
            certified: false,
        };
        let now = self.now;
        let made = self.store.write(Lane::Bulk, move |tx| tx.product_insert(&new, now)).await?;
        self.product = made.context("the product's name is taken")?;
        Ok(())
    }

    /// Devices of a product of their own that have reported their version.
    async fn crowd(&mut self, count: usize) -> anyhow::Result<Crowd> {
        self.product("bench_crowd").await?;
        for first in (0..count).step_by(CHUNK) {
            let made = self.register("crowd", first, count.min(first + CHUNK)).await?;
            let reports: Vec<_> =
                made.into_iter().map(|(no, _)| (no, "default".to_owned(), "1.0.0".to_owned())).collect();
            let now = self.now;
            self.store.write(Lane::Bulk, move |tx| tx.versions_put(&reports, now)).await?;
        }
        let mut firmware_ids = Vec::new();
        for name in ["for_all", "for_a_share", "for_a_list", "for_a_rule"] {
            firmware_ids.push(self.firmware(name).await?.1);
        }
        Ok(Crowd { product_key: self.product_key.clone(), devices: count, firmware_ids })
    }

    /// A file as an upload leaves it, and an address for it.
    async fn image(&self, config: &Config, bytes: usize) -> anyhow::Result<Image> {
        let blobs = Blobs::open(&config.data_dir.join("blobs"))?;
        let mut incoming = blobs.create("benchimage".to_owned(), bytes as i64).await?;
        let mut content = vec![0; bytes];
        getrandom::fill(&mut content)?;
        incoming.write(&content).await?;
        let name = incoming.keep().await?;
        let (instance, now, key) = (self.instance, self.now, "ota/bench/image.bin");
        let (blob, size) = (name.clone(), bytes as i64);
        self.store
            .write(Lane::Bulk, move |tx| {
                tx.file_ticket_insert(instance, key, now)?;
                tx.file_uploaded(key, &blob, size, "0", "0", now)
            })
            .await?;
        let signed = Addresses::new(&self.master, config).download_path(key, now);
        let path = format!("{}/{name}", name.get(..2).unwrap_or_default());
        Ok(Image { signed, path, bytes: bytes as u64 })
    }

    async fn devices(&self, kind: &str, count: usize) -> anyhow::Result<Vec<Seed>> {
        let mut made = Vec::with_capacity(count);
        for first in (0..count).step_by(CHUNK) {
            let of_chunk = self.register(kind, first, count.min(first + CHUNK)).await?;
            made.extend(of_chunk.into_iter().map(|(no, identity)| Seed { no, identity }));
        }
        Ok(made)
    }

    /// Registers the devices of these numbers, in one transaction.
    async fn register(
        &self,
        kind: &str,
        first: usize,
        behind: usize,
    ) -> anyhow::Result<Vec<(DeviceNo, Identity)>> {
        let (mut rows, mut identities) = (Vec::new(), Vec::new());
        for number in first..behind {
            let name = format!("{kind}-{number:06}");
            let secret = self.random.secret("device_secret");
            rows.push(NewDevice {
                product: self.product,
                iot_id: id::alphanumeric(&self.random.bytes::<32>("iot_id")),
                secret_sealed: self.master.seal(SEAL_PURPOSE, &secret)?,
                nickname: None,
                name: name.clone(),
            });
            identities.push(Identity::new(&self.product_key, name, secret));
        }
        let (product, now) = (self.product, self.now);
        let made = self.store.write(Lane::Bulk, move |tx| tx.devices_insert(product, &rows, now)).await?;
        let numbers: HashMap<String, DeviceNo> = made.into_iter().collect();
        identities
            .into_iter()
            .map(|identity| {
                let no = numbers.get(&identity.device_name).context("a device's name is taken")?;
                Ok((*no, identity))
            })
            .collect()
    }

    async fn firmware(&self, name: &str) -> anyhow::Result<(FirmwareNo, String)> {
        let firmware_id = id::firmware_id(&self.random.bytes("firmware_id"));
        let (instance, product, now) = (self.instance, self.product, self.now);
        let (id, name) = (firmware_id.clone(), name.to_owned());
        let no = self
            .store
            .write(Lane::Bulk, move |tx| {
                let key = format!("ota/{name}/image.bin");
                tx.file_ticket_insert(instance, &key, now)?;
                tx.file_uploaded(&key, &name, 65_536, "0", "0", now)?;
                let file = tx.file_find(instance, &key)?;
                let file = file.ok_or_else(|| StoreError::Internal("no file".to_owned()))?;
                let new = NewFirmware {
                    instance,
                    product,
                    firmware_id: id.clone(),
                    name: name.clone(),
                    description: None,
                    dest_version: "2.0.0".to_owned(),
                    module: "default".to_owned(),
                    kind: FirmwareKind::Full,
                    src_version: None,
                    status: FirmwareStatus::NoVerification,
                    sign_method: SignMethod::Md5,
                    size: 65_536,
                    files: vec![(file.no, None)],
                    udi: None,
                };
                tx.firmware_insert(&new, now)
            })
            .await?;
        Ok((no.context("the package's name is taken")?, firmware_id))
    }

    /// A batch without tasks.
    async fn one_batch(&self, firmware: FirmwareNo) -> anyhow::Result<()> {
        let new = new_job(self.instance, self.product, firmware, &id::job_id(&self.random.bytes("job_id")));
        let now = self.now;
        self.store.write(Lane::Bulk, move |tx| tx.job_insert(&new, now).map(drop)).await?;
        Ok(())
    }

    async fn batch_in_progress(&self, firmware: FirmwareNo, devices: &[Seed]) -> anyhow::Result<()> {
        let devices: Vec<DeviceNo> = devices.iter().map(|device| device.no).collect();
        let new = new_job(self.instance, self.product, firmware, "progressing");
        let now = self.now;
        self.store
            .write(Lane::Bulk, move |tx| {
                let job = tx.job_insert(&new, now)?;
                tasks(tx, job, &devices, TaskStatus::InProgress, None, now)
            })
            .await?;
        Ok(())
    }
}
