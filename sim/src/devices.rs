//! The devices' side: `fleet`'s state machines, what they want done, and their downloads.

use crate::api::HOST;
use crate::net::{ConnNo, Down, Up};
use crate::stats::Of;
use crate::world::{Event, World};
use std::collections::BTreeMap;
use updraft_core::device::DEFAULT_MODULE;
use updraft_core::firmware::SignMethod;
use updraft_core::id::DeviceNo;
use updraft_core::time::{SECOND_MS, Timestamp};
use updraft_fleet::{Device, DeviceConfig, Fetch, Input, Output, Qos};

/// Pieces of a download: progress is told after each but the last.
const PIECES: u64 = 4;

/// A device in the world.
pub(crate) struct Node {
    /// Its name, as transcripts show it.
    pub(crate) name: String,
    /// Index of its product.
    pub(crate) product: usize,
    /// Its row on the server.
    pub(crate) no: DeviceNo,
    /// The gateway that speaks for it.
    pub(crate) behind: Option<usize>,
    /// Whether it has the identity of an earlier one.
    pub(crate) twin: bool,
    /// What it does.
    pub(crate) device: Device,
    /// Its connection.
    pub(crate) conn: Option<ConnNo>,
    /// Until then it reaches nobody.
    pub(crate) away_until: Timestamp,
    /// Counts its `WakeAt`s: an overtaken one is void.
    pub(crate) tick: u64,
    /// Counts its downloads: a piece of an overtaken one is void.
    pub(crate) download: u64,
    /// What the running download fetches.
    fetch: Option<Fetch>,
}

impl Node {
    pub(crate) fn new(name: String, product: usize, no: DeviceNo, config: DeviceConfig) -> Self {
        Self {
            name,
            product,
            no,
            behind: None,
            twin: false,
            device: Device::new(config),
            conn: None,
            away_until: Timestamp(0),
            tick: 0,
            download: 0,
            fetch: None,
        }
    }

    /// Its name, in words.
    pub(crate) fn label(&self) -> String {
        if self.twin { format!("{}'s twin", self.name) } else { self.name.clone() }
    }
}

/// A file that packages are made of.
pub(crate) struct Image {
    pub(crate) size: u64,
    pub(crate) digests: BTreeMap<&'static str, String>,
}

impl World {
    /// Tells a device what happened, and does what it wants done.
    pub(crate) fn drive(&mut self, node: usize, input: Input<'_>) {
        let mut wants = Vec::new();
        self.nodes[node].device.handle(self.now, input, &mut wants);
        for want in wants {
            self.carry_out(node, want);
        }
    }

    fn carry_out(&mut self, node: usize, want: Output) {
        let conn = self.nodes[node].conn;
        match want {
            Output::Connect(info) => self.dial(node, info),
            Output::Subscribe(topics) => {
                if let Some(conn) = conn {
                    self.send_up(conn, Up::Subscribe(topics));
                }
            }
            Output::Publish { topic, payload, qos } => {
                if let Some(conn) = conn {
                    self.send_up(conn, Up::Publish(topic, payload, qos == Qos::AtLeastOnce));
                }
            }
            Output::Download(fetch) => {
                self.nodes[node].download += 1;
                self.nodes[node].fetch = Some(fetch);
                self.next_piece(node, 1);
            }
            Output::CancelDownload => {
                self.nodes[node].download += 1;
                self.nodes[node].fetch = None;
            }
            Output::Disconnect => {
                if let Some(no) = conn {
                    self.send_up(no, Up::Bye);
                    self.nodes[node].conn = None;
                    if let Some(conn) = self.conns.get_mut(&no) {
                        conn.client_up = false;
                    }
                    for sub in self.carried(no) {
                        self.client_gone(sub);
                    }
                }
            }
            Output::WakeAt(at) => {
                self.nodes[node].tick += 1;
                let tick = self.nodes[node].tick;
                self.queue_at(at, Event::Tick(node, tick));
            }
        }
    }

    /// A device's time has come.
    pub(crate) fn tick(&mut self, node: usize, tick: u64) {
        if self.nodes[node].tick == tick {
            self.drive(node, Input::Tick);
        }
    }

    /// A message reaches a device.
    pub(crate) fn down(&mut self, no: ConnNo, message: Down) {
        if !self.arrives(no, false) {
            return;
        }
        let node = self.conns[&no].node;
        match message {
            Down::Welcome => {
                self.note(format!("{} is connected", self.nodes[node].label()));
                self.drive(node, Input::Connected);
            }
            Down::Acknowledge => self.drive(node, Input::PubAck),
            Down::Publish(topic, payload, push) => {
                if push {
                    self.send_up(no, Up::Acknowledge);
                }
                self.drive(node, Input::Message { topic: &topic, payload: &payload });
            }
        }
    }

    /// A device notices that its connection is gone.
    pub(crate) fn client_gone(&mut self, no: ConnNo) {
        let Some(conn) = self.conns.get_mut(&no).filter(|conn| conn.client_up) else { return };
        conn.client_up = false;
        let node = conn.node;
        if self.nodes[node].conn == Some(no) {
            self.nodes[node].conn = None;
            self.drive(node, Input::Disconnected);
        }
        for sub in self.carried(no) {
            self.client_gone(sub);
        }
    }

    /// A device loses its power: what was not in its flash is gone.
    pub(crate) fn power_cycle(&mut self, node: usize, off_ms: i64) {
        self.note(format!("{} loses its power", self.nodes[node].label()));
        let versions = self.flash(node);
        self.reboot(node, off_ms, versions);
    }

    /// Somebody puts another version of a module on a device, which is off meanwhile.
    pub(crate) fn reflash(&mut self, node: usize, off_ms: i64, module: &str, version: &str) {
        let mut versions = self.flash(node);
        for (_, runs) in versions.iter_mut().filter(|(of, _)| of == module) {
            version.clone_into(runs);
        }
        self.reboot(node, off_ms, versions);
    }

    /// What is in a device's flash: its modules and their versions.
    fn flash(&self, node: usize) -> Vec<(String, String)> {
        let device = &self.nodes[node].device;
        let runs = |(module, version): &(String, String)| {
            (module.clone(), device.version(module).unwrap_or(version).to_owned())
        };
        device.config().versions.iter().map(runs).collect()
    }

    fn reboot(&mut self, node: usize, off_ms: i64, versions: Vec<(String, String)>) {
        self.switch_off(node);
        let node_ref = &mut self.nodes[node];
        let mut config = DeviceConfig { versions, ..node_ref.device.config().clone() };
        config.seed = config.seed.wrapping_add(1);
        node_ref.device = Device::new(config);
        let tick = node_ref.tick;
        self.at(off_ms, Event::Tick(node, tick));
    }

    /// Takes a device's power: its connection ends without a word, and nothing wakes it.
    pub(crate) fn switch_off(&mut self, node: usize) {
        if let Some(no) = self.nodes[node].conn.take() {
            if self.wire(no) != no {
                self.send_up(no, Up::Bye);
            }
            if let Some(conn) = self.conns.get_mut(&no) {
                conn.client_up = false;
            }
            for sub in self.carried(no) {
                self.client_gone(sub);
            }
            if self.wire(no) != no {
                return self.stop(node);
            }
            let notices_ms = self.net.range(0, 60 * SECOND_MS);
            self.cut(no, true, 0, notices_ms);
        }
        self.stop(node);
    }

    fn stop(&mut self, node: usize) {
        let node = &mut self.nodes[node];
        node.download += 1;
        node.fetch = None;
        node.tick += 1;
    }

    fn next_piece(&mut self, node: usize, piece: u64) {
        let Some(fetch) = &self.nodes[node].fetch else { return };
        let left = fetch.size.saturating_sub(fetch.from_byte);
        let whole_ms = match fetch.bytes_per_second {
            Some(rate) => (left * 1_000 / rate.max(1)) as i64,
            None if self.rates.calm => 4 * SECOND_MS,
            None => self.downloads.range(SECOND_MS, 20 * SECOND_MS),
        };
        let download = self.nodes[node].download;
        self.at(whole_ms / PIECES as i64, Event::Piece(node, download, piece));
    }

    /// A piece of a download has come, or has not.
    pub(crate) fn piece(&mut self, node: usize, download: u64, piece: u64) {
        if self.nodes[node].download != download {
            return;
        }
        let Some(fetch) = self.nodes[node].fetch.clone() else { return };
        let broken = self.downloads.percent(self.rates.broken_downloads);
        let digest =
            if broken || self.nodes[node].away_until > self.now { None } else { self.fetched(&fetch) };
        let Some(digest) = digest else {
            self.note(format!("{}: its download breaks off", self.nodes[node].label()));
            self.stats.count(Of::Fault, "a download that breaks off");
            self.nodes[node].fetch = None;
            self.drive(node, Input::DownloadFailed);
            return;
        };
        if piece < PIECES {
            let bytes = fetch.from_byte + (fetch.size - fetch.from_byte) * piece / PIECES;
            self.drive(node, Input::DownloadProgress { bytes });
            if self.nodes[node].download == download {
                self.next_piece(node, piece + 1);
            }
        } else {
            self.nodes[node].fetch = None;
            self.drive(node, Input::Downloaded { digest: &digest, size: fetch.size });
        }
    }

    /// The digest of what is behind an address, if the server is up and honours it now.
    fn fetched(&self, fetch: &Fetch) -> Option<String> {
        let running = self.server.running.as_ref()?;
        let path = fetch.url.strip_prefix("http://")?.strip_prefix(HOST)?.strip_prefix('/')?;
        let token = path.strip_prefix("d/")?;
        let head = running.app.addresses.check_device_path(token, self.server.clock.peek())?;
        let file = self.server.read(move |tx| tx.file_find_below(&head)).ok()??;
        let image = self.images.get(file.object_key.as_str()).filter(|image| image.size == fetch.size)?;
        let method = match fetch.digest {
            SignMethod::Md5 => "md5",
            SignMethod::Sha256 => "sha256",
        };
        image.digests.get(method).cloned()
    }

    /// The version that a device really runs.
    pub(crate) fn truth(&self, node: usize) -> &str {
        self.nodes[node].device.version(DEFAULT_MODULE).unwrap_or_default()
    }
}
