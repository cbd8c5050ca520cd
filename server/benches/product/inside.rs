//! Where the time of a call goes: its parts, one after another, in this process and one thread.

use crate::Scale;
use crate::api::Caller;
use crate::report::Report;
use crate::seed::{SECRET, Seeded};
use std::hint::black_box;
use std::sync::Arc;
use std::time::Instant;
use updraft_core::id::{DeviceNo, TaskNo};
use updraft_core::page::Page;
use updraft_core::time::{MINUTE_MS, Timestamp};
use updraft_server::api::nonce::Nonces;
use updraft_server::api::params::Params;
use updraft_server::api::rpc;
use updraft_server::api::sign::{V1Hash, v1_signature, v1_string_to_sign};
use updraft_server::app::App;
use updraft_server::clock::SystemClock;
use updraft_server::device::link::{DeviceLink, Downlink};
use updraft_server::files::Blobs;
use updraft_server::random::Random;
use updraft_server::setup::{self, ROOT_ACCOUNT};
use updraft_store::{Store, StoreError};

struct NoDevices;

impl DeviceLink for NoDevices {
    fn listening(&self, _: DeviceNo) -> bool {
        false
    }
    fn send(&self, _: DeviceNo, _: Downlink) {}
    fn withdraw(&self, _: DeviceNo, _: TaskNo, _: i64) {}
    fn kick(&self, _: DeviceNo) {}
}

/// Measures the parts of a signed call of ListOTAJobByFirmware.
pub async fn measure(seeded: &Seeded, scale: Scale, report: &mut Report) -> anyhow::Result<()> {
    let config = seeded.config.clone();
    let random = Random::from_system()?;
    let store = Arc::new(Store::open(&config.database()?)?);
    let master = setup::master_key(&config, &store, &random).await?;
    let blobs = Blobs::open(&config.data_dir.join("blobs"))?;
    let app = App::new(config, store, Arc::new(SystemClock), random, master, blobs, Arc::new(NoDevices));
    let count = scale.calls / 10;
    let caller = Caller::new("h".to_owned())?;
    let list = [("FirmwareId", seeded.firmware_id.as_str()), ("CurrentPage", "1"), ("PageSize", "10")];
    let queries: Vec<String> =
        (0..count).map(|_| caller.query("ListOTAJobByFirmware", "JSON", &list)).collect();
    let micros = |start: Instant| start.elapsed().as_secs_f64() * 1e6 / count as f64;

    report.part("Inside: parts of a signed call, one thread");
    let start = Instant::now();
    for query in &queries {
        let (parts, ()) = http::Request::get(format!("/?{query}")).body(())?.into_parts();
        let answer = rpc::answer(Arc::clone(&app), "http://h".to_owned(), parts, bytes::Bytes::new()).await;
        anyhow::ensure!(answer.status() == 200, "a call was refused");
    }
    report.row("the whole call behind HTTP", &format!("{:.1} µs", micros(start)), "");

    let start = Instant::now();
    let params: Vec<Params> = queries.iter().filter_map(|query| Params::read(query, b"").ok()).collect();
    report.row("  reading the query", &format!("{:.1} µs", micros(start)), "");
    let start = Instant::now();
    let strings: Vec<String> = params.iter().map(|params| v1_string_to_sign("GET", params)).collect();
    report.row("  the string to sign", &format!("{:.1} µs", micros(start)), "");
    let start = Instant::now();
    for string in &strings {
        black_box(v1_signature(V1Hash::Sha1, SECRET, string));
    }
    report.row("  its HMAC-SHA1", &format!("{:.1} µs", micros(start)), "");
    let (start, nonces) = (Instant::now(), Nonces::new(4_000_000));
    for string in &strings {
        let _ = black_box(nonces.take("key", string, Timestamp(MINUTE_MS), Timestamp(0)));
    }
    report.row("  the nonce", &format!("{:.1} µs", micros(start)), "");

    let instance = app
        .store
        .read(|tx| {
            let root = tx.account_find(ROOT_ACCOUNT)?.unwrap_or_default();
            tx.instance_public(root)
        })
        .await?;
    let page = Page::new(1, 10, 200).unwrap_or_else(|| unreachable!("a page of ten rows exists"));
    let start = Instant::now();
    for _ in 0..count {
        let id = seeded.firmware_id.clone();
        let found = app.store.glance(move |tx| tx.job_list_by_firmware(instance, &id, page));
        black_box(found.await.map_err(|error: StoreError| error)?.is_some());
    }
    report.row("  reading package, product and ten batches", &format!("{:.1} µs", micros(start)), "");
    let start = Instant::now();
    for _ in 0..count {
        black_box(app.random.request_id());
    }
    report.row("  the RequestId", &format!("{:.1} µs", micros(start)), "");
    report.note("the rest of the whole call: lookups, checks, rendering");
    Ok(())
}
