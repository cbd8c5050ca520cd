//! The configuration: one table of keys.
//!
//! Every key is a flag of `serve` (`--api-addr`), an environment variable (`UPDRAFT_API_ADDR`) and a line of
//! the file given by `--config` (`api_addr = "…"`); flags win over the environment, the environment over the
//! file. `updraft config` prints the table with its texts, so the documentation cannot drift from the code.

mod documentation;

pub use documentation::documentation;

use crate::api::quota::OwnQps;
use crate::networks::Networks;
use crate::nodes::Role;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

/// A configuration that cannot be used, and why.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct ConfigError(pub(crate) String);

/// What the table says of one key.
#[derive(Debug, Clone, Copy)]
pub struct Key {
    /// Its name in the file.
    pub name: &'static str,
    /// What it does, its unit.
    pub doc: &'static str,
    /// The value that it has if nobody sets it, as it would be written.
    pub default: fn() -> String,
}

/// A type that a key can have.
trait Setting: Sized {
    fn read(text: &str) -> Result<Self, String>;
    fn show(&self) -> String;
}

macro_rules! plain_settings {
    ($($ty:ty: $what:literal),+ $(,)?) => {$(
        impl Setting for $ty {
            fn read(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!("`{text}` is not {}", $what))
            }
            fn show(&self) -> String {
                self.to_string()
            }
        }
    )+};
}

plain_settings! {
    String: "a text",
    SocketAddr: "an address with port, such as 127.0.0.1:8080",
    bool: "true or false",
    i64: "a whole number",
    u32: "a whole number, 0 or more",
    f64: "a number",
    Role: "all, api, gateway or worker",
}

impl Setting for PathBuf {
    fn read(text: &str) -> Result<Self, String> {
        Ok(Self::from(text))
    }
    fn show(&self) -> String {
        self.display().to_string()
    }
}

impl Setting for Networks {
    fn read(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl Setting for OwnQps {
    fn read(text: &str) -> Result<Self, String> {
        Self::parse(text)
    }
    fn show(&self) -> String {
        self.to_string()
    }
}

impl<T: Setting> Setting for Option<T> {
    fn read(text: &str) -> Result<Self, String> {
        if text.is_empty() { Ok(None) } else { T::read(text).map(Some) }
    }
    fn show(&self) -> String {
        self.as_ref().map_or_else(String::new, Setting::show)
    }
}

macro_rules! config {
    ($($(#[doc = $doc:literal])+ $name:ident: $ty:ty = $default:expr;)+) => {
        /// The values of all keys.
        #[derive(Debug, Clone)]
        pub struct Config {
            $($(#[doc = $doc])+ pub $name: $ty,)+
        }

        impl Default for Config {
            fn default() -> Self {
                Self { $($name: $default,)+ }
            }
        }

        /// All keys, in the order in which they are documented.
        pub const KEYS: &[Key] = &[$(Key {
            name: stringify!($name),
            doc: concat!($($doc),+),
            default: || { let value: $ty = $default; value.show() },
        }),+];

        impl Config {
            /// Sets one key from its text.
            pub fn set(&mut self, name: &str, text: &str) -> Result<(), ConfigError> {
                match name {
                    $(stringify!($name) => {
                        self.$name = Setting::read(text)
                            .map_err(|why| ConfigError(format!("`{name}`: {why}")))?;
                    })+
                    _ => return Err(ConfigError(format!(
                        "there is no key `{name}`; `updraft config` lists them"
                    ))),
                }
                Ok(())
            }
        }
    };
}

config! {
    /// The data folder: database, files, keys, certificates.
    data_dir: PathBuf = PathBuf::from("./updraft-data");
    /// The address of the API, uploads and downloads (plain HTTP and TLS on one port). Port 0 picks a free one.
    api_addr: SocketAddr = SocketAddr::from(([0, 0, 0, 0], 8080));
    /// The address that devices connect to by MQTT (plain and TLS on one port). Port 0 picks a free one.
    mqtt_addr: SocketAddr = SocketAddr::from(([0, 0, 0, 0], 1883));
    /// A port of its own for devices that connect by TLS, where nothing else is spoken. Empty: no such port.
    mqtt_tls_addr: Option<SocketAddr> = Some(SocketAddr::from(([0, 0, 0, 0], 8883)));
    /// A port of its own for MQTT over WebSocket (plain and TLS), beside the devices' ports, which speak it too.
    /// Empty: no such port.
    mqtt_ws_addr: Option<SocketAddr> = None;
    /// Addresses and networks of load balancers, between commas, which begin each connection with a header of the
    /// PROXY protocol (version 1 or 2), on all ports but that of metrics. From them a connection without one is
    /// closed; from everybody else none is taken. Empty: nobody sends any.
    proxy_protocol_from: Networks = Networks::default();
    /// The base address that upload and download URLs begin with, such as `http://ota.example.com:8080`.
    /// Empty: the address that the caller itself connected to.
    public_url: Option<String> = None;
    /// The database: `sqlite:PATH`, or `postgres://USER:PASSWORD@HOST/NAME?sslmode=verify-full&sslrootcert=PATH`.
    /// Empty: `updraft.db` in the data folder.
    database_url: Option<String> = None;
    /// What this node does: `all`, or one of `api` (answers calls), `gateway` (has devices connected, and serves their
    /// downloads) and `worker` (carries batches out) of several nodes that share a PostgreSQL database and `blobs_url`.
    role: Role = Role::All;
    /// What people call this node. Empty: the name of its host.
    node_name: Option<String> = None;
    /// A node that gives no sign of life for so long, in seconds, is given up by the others: its devices are offline
    /// until they come back.
    node_lease_seconds: u32 = 10;
    /// A node that cannot reach the database for so long, in seconds, lets its devices go, if they could connect to
    /// another one. 0: never.
    node_cut_off_seconds: u32 = 60;
    /// How long a node that stops still serves after `/readyz` has said that it does not, in seconds: as long as load
    /// balancers take to notice.
    drain_delay_seconds: u32 = 0;
    /// Where uploaded files are: `s3://BUCKET/PREFIX`, an object store that speaks S3; or `file:/PATH`, a folder that all
    /// nodes mount. Empty: `blobs` in the data folder.
    blobs_url: Option<String> = None;
    /// The address of the object store, such as `https://s3.example.com:9000`, without the bucket. Empty: AWS.
    s3_endpoint: Option<String> = None;
    /// The region of the bucket. Empty: `AWS_REGION`, or us-east-1.
    s3_region: Option<String> = None;
    /// The access key of the object store. Empty: what the machine has, as AWS's SDKs find it: `AWS_ACCESS_KEY_ID` and
    /// so on, a web identity, the role of the container or the instance.
    s3_access_key_id: Option<String> = None;
    /// The secret of `s3_access_key_id`.
    s3_secret_access_key: Option<String> = None;
    /// Whether the bucket stands in the path of an address (`https://store/BUCKET/…`, as MinIO and others want it) and
    /// not in its host (`https://BUCKET.store/…`, as AWS wants it).
    s3_path_style: bool = false;
    /// Whether devices and back ends are given signed addresses of the object store, and fetch files there. They are
    /// long, good for `download_url_seconds` and seven days at most, and not subject to limits of downloads. False:
    /// files come through this server.
    downloads_direct: bool = false;
    /// A certificate chain (PEM). Empty: a local CA makes one, exported as `tls/ca.pem` in the data folder.
    tls_cert: Option<PathBuf> = None;
    /// The private key of `tls_cert` (PEM).
    tls_key: Option<PathBuf> = None;
    /// The master key that seals secrets: 64 hexadecimal digits. Empty: `master.key` in the data folder, made
    /// on first start. Without it no stored secret can be read: keep a copy elsewhere.
    master_key_file: Option<PathBuf> = None;
    /// The AccessKeyId of the root account. Empty: made on first start.
    root_access_key_id: Option<String> = None;
    /// The AccessKeySecret of `root_access_key_id`.
    root_access_key_secret: Option<String> = None;
    /// What is logged, as `tracing` filters: `info`, `warn`, `updraft_server=debug`, …
    log: String = "info".to_owned();
    /// `text` or `json`.
    log_format: String = "text".to_owned();
    /// Multiplies every API quota (calls per second); 0 switches the quotas off.
    quota_scale: f64 = 1.0;
    /// Calls per second of single operations in place of the platform's numbers, before `quota_scale`:
    /// `ListOTAJobByFirmware=100,CreateProduct=5`, or in the file a table `[quota_qps]` with a line for each. 0: no limit.
    quota_qps: OwnQps = OwnQps::default();
    /// How far a signature's time may be off, in seconds, either way.
    timestamp_skew_seconds: i64 = 900;
    /// Most nonces remembered within the skew; beyond it calls are refused until older ones expire.
    nonce_max: u32 = 4_000_000;
    /// Largest body of an API call, in bytes. 10,000 names of devices with nicknames take up to 4.6 million.
    api_body_bytes_max: u32 = 5_242_880;
    /// How long the head of an HTTP request, the body of a call, or the next piece of an upload may take, in seconds.
    http_seconds: u32 = 30;
    /// How long a new connection may take to say its first byte, and then to finish a TLS handshake, in seconds.
    handshake_seconds: u32 = 10;
    /// How long a client of the HTTP port may take nothing of its answer before it is cut off, in seconds. The
    /// system sees a slow link take something only when a large part of its buffer is free again, so this is
    /// many times what a device needs to erase its flash memory.
    http_write_seconds: u32 = 900;
    /// Most connections of one address (IPv6: of one /64) to the API's port. 0: no limit.
    api_connections_per_address: u32 = 2_000;
    /// Calls with an unknown key or a wrong signature that one address may make in a minute; then all its
    /// calls are refused until the minute is over. 0: no limit.
    api_failures_per_minute: u32 = 1_000;
    /// Most connections of one address (IPv6: of one /64) to the devices' port that have not logged in yet. 0: no limit.
    mqtt_strangers_per_address: u32 = 2_000;
    /// Logins with an unknown device or a wrong password that one address may try in a minute; then all its
    /// logins are refused until the minute is over. 0: no limit.
    mqtt_failures_per_minute: u32 = 1_000;
    /// Addresses and networks without these limits, between commas: load balancers, the NAT of a large site.
    limit_exempt: Networks = Networks::parse("127.0.0.0/8,::1").unwrap_or_default();
    /// How often certificate files are looked at for new ones, in seconds. SIGHUP looks at once. 0: only SIGHUP does.
    tls_reload_seconds: u32 = 60;
    /// A separate address for `GET /metrics`. Empty: on the API's port.
    metrics_addr: Option<SocketAddr> = None;
    /// How long an upload may start after its ticket was given, in seconds.
    upload_ticket_seconds: i64 = 60;
    /// Largest uploaded file, in bytes.
    file_bytes_max: i64 = updraft_core::limits::FILE_BYTES_MAX;
    /// Largest list of devices (`DnListFileUrl`), in bytes: a million names of 32 characters fit.
    list_file_bytes_max: i64 = 41_943_040;
    /// Most names in such a list, and so most devices of one batch by list file.
    list_names_max: u32 = 1_000_000;
    /// How long an upload may wait to become a package, and how long a list of devices can be used, in seconds; then it
    /// is purged.
    upload_unused_seconds: i64 = 3_600;
    /// Bytes of the data folder's disk that uploads leave free, for the database above all: an upload that would
    /// take of them is refused. 0: no reserve.
    disk_reserve_bytes: i64 = 1_073_741_824;
    /// How long a signed download address is good, in seconds.
    download_url_seconds: i64 = 86_400;
    /// How long the token is good that a device gets by `/auth` for its messages by HTTP, in seconds.
    http_token_seconds: u32 = 604_800;
    /// Bytes a second of all downloads together, by HTTP and by MQTT; those that run share them fairly. 0: no cap.
    download_bytes_per_second: i64 = 0;
    /// Bytes a second of each download by HTTP, and of each device that downloads by MQTT. 0: no cap.
    download_device_bytes_per_second: i64 = 0;
    /// Most downloads by HTTP at a time; who comes when there are as many is told when to come back (503 with
    /// `Retry-After`). 0: no limit.
    download_connections_max: u32 = 0;
    /// Most products of an instance.
    product_max: i64 = 1_000;
    /// Most packages of an instance.
    firmware_max: i64 = 500;
    /// Most devices of a product.
    devices_per_product_max: i64 = 10_000_000;
    /// How long a registration in bulk can be asked for after its last change, in days. Its devices stay.
    device_apply_days: i64 = 30;
    /// Checks of names that a product keeps without a registration that followed; the oldest goes first.
    device_checks_max: i64 = 100;
    /// Most static device groups of an instance, groups within groups among them.
    group_max: i64 = 1_000;
    /// Most dynamic device groups of an instance: each device that changes is held against all of them.
    dynamic_group_max: i64 = 10;
    /// Most levels of device groups within each other, the first one counted.
    group_depth_max: i64 = 3;
    /// Most modules of a product besides `default`.
    module_max: i64 = 10;
    /// How long a device that was told of a package for one of its modules, and says nothing, keeps its other modules
    /// waiting, in minutes. Longer than its updates take if it does not report progress.
    module_turn_minutes: i64 = 60;
    /// Most devices behind one gateway. `thing/topo/get` lists 2,500 of them at most.
    gateway_subs_max: i64 = 2_000;
    /// Most devices that a gateway puts behind itself, or takes from there, with one message.
    gateway_topo_batch_max: u32 = 30;
    /// Most devices whose secrets a gateway asks for with one message.
    gateway_register_batch_max: u32 = 30;
    /// Most devices that a gateway logs in or out with one message.
    gateway_login_batch_max: u32 = 50;
    /// Devices that a gateway may log in per second; further ones are refused. 0: no limit.
    gateway_logins_per_second: u32 = 200;
    /// Most RAM users of an account. The commands that make them look at it, not the server.
    ram_user_max: i64 = 1_000;
    /// Most access keys of one RAM user, and of an account itself; a change of keys needs two at a time.
    /// The commands that make keys look at it, not the server.
    access_key_max: i64 = 5;
    /// Most temporary keys of one RAM user, and of an account itself, that work at a time. The command that makes
    /// them looks at it, not the server.
    sts_key_max: i64 = 1_000;
    /// How long lines of the audit log are kept, in days.
    audit_days: i64 = 365;
    /// Most lines of the audit log; beyond it the account with the most loses lines: refused calls first, commands last.
    audit_rows_max: i64 = 1_000_000;
    /// How long lines of tasks' histories are kept, in days.
    history_days: i64 = 90;
    /// Most lines of tasks' histories; beyond it the oldest go. A task has three or four; a line takes about 80 bytes.
    history_rows_max: i64 = 10_000_000;
    /// Rows that one transaction of the engine touches at most: tasks made, pushed, timed out or cancelled.
    engine_chunk_rows: u32 = 2_000;
    /// The length of a minute of `TimeoutInMinutes`, in milliseconds: for rehearsals and tests.
    minute_ms: i64 = 60_000;
    /// How long a new MQTT connection may take to log in, in seconds.
    mqtt_connect_seconds: u32 = 10;
    /// How long the session of a device that wishes so is kept while the device is away, in seconds: what it has
    /// subscribed to, and what it has not acknowledged. In memory only. 0: no session is kept.
    mqtt_session_seconds: u32 = 604_800;
    /// Most sessions that are kept while their devices are away; beyond it the one that would end first goes. Each takes
    /// about half a KiB, and what waits for it.
    mqtt_kept_sessions_max: u32 = 100_000;
    /// Connections of devices that may go on to a TLS handshake and a login in any second; further ones wait, first
    /// come, first served. A fleet that comes back all at once after a restart is served as fast as this. 0: no limit.
    mqtt_logins_per_second: u32 = 5_000;
    /// The longest such wait, in seconds; who would wait longer is closed at once, and comes again when its SDK
    /// thinks fit. Longer than devices wait for the answer to their login helps nobody.
    mqtt_admission_wait_seconds: u32 = 4;
    /// How long a device that has registered itself by MQTT may take to disconnect, in seconds; then it is disconnected.
    mqtt_register_seconds: u32 = 15;
    /// Whether devices may register themselves by TLS only, as on the platform. False: those that have no TLS, too.
    register_by_tls_only: bool = false;
    /// Messages that one device may send in a second; more are dropped. 0: no limit.
    mqtt_uplink_per_second: u32 = 30;
    /// Longest payload of a message that a device sends by MQTT, in bytes; a longer one ends its connection. Questions
    /// of gateways about many devices at a time are the longest that are of use.
    mqtt_payload_bytes_max: u32 = 262_144;
    /// Blocks that one device may download by MQTT in a second; further ones wait. 0: no limit.
    mqtt_blocks_per_second: u32 = 100;
    /// Bytes of blocks that all devices together have not taken yet; further blocks wait, and are refused after
    /// five seconds.
    mqtt_block_bytes_max: i64 = 268_435_456;
    /// Largest package of a batch with `DownloadProtocol=MQTT`, in bytes.
    mqtt_file_bytes_max: i64 = 16_777_216;
    /// `ListOTAJobByFirmware` says `COMPLETE` and `VERFIY_FIRMWARE`, as its page does. True: it says
    /// `COMPLETED` and `VERIFY_FIRMWARE`, as QueryOTAJob and the newer pages do.
    modern_spelling: bool = false;
    /// How long calls and downloads in progress may take to end after SIGTERM, in seconds.
    drain_seconds: u32 = 20;
}

impl Config {
    /// Puts the sources together: defaults, then the file, then the environment, then flags.
    pub fn gather(
        file: Option<&Path>,
        env: impl Fn(&str) -> Option<String>,
        flags: &[(&'static str, String)],
    ) -> Result<Self, ConfigError> {
        let mut config = Self::default();
        if let Some(path) = file {
            config.read_file(path)?;
        }
        for key in KEYS {
            if let Some(value) = env(&env_name(key.name)) {
                config.set(key.name, &value)?;
            }
        }
        for (name, value) in flags {
            config.set(name, value)?;
        }
        config.check()?;
        Ok(config)
    }

    fn read_file(&mut self, path: &Path) -> Result<(), ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| ConfigError(format!("cannot read {}: {error}", path.display())))?;
        let table: toml::Table =
            text.parse().map_err(|error| ConfigError(format!("{}: {error}", path.display())))?;
        for (name, value) in table {
            let text = match value {
                toml::Value::String(text) => text,
                toml::Value::Integer(number) => number.to_string(),
                toml::Value::Float(number) => number.to_string(),
                toml::Value::Boolean(flag) => flag.to_string(),
                toml::Value::Table(lines) => {
                    let lines: Vec<String> =
                        lines.iter().map(|(line, value)| format!("{line}={value}")).collect();
                    lines.join(",")
                }
                toml::Value::Datetime(_) | toml::Value::Array(_) => {
                    return Err(ConfigError(format!(
                        "{}: `{name}` must be a text, number or boolean",
                        path.display()
                    )));
                }
            };
            self.set(&name, &text).map_err(|error| ConfigError(format!("{}: {error}", path.display())))?;
        }
        Ok(())
    }

    fn check(&self) -> Result<(), ConfigError> {
        let refuse = |why: &str| Err(ConfigError(why.to_owned()));
        if self.tls_cert.is_some() != self.tls_key.is_some() {
            return refuse("`tls_cert` and `tls_key` go together: give both or neither");
        }
        if self.root_access_key_id.is_some() != self.root_access_key_secret.is_some() {
            return refuse(
                "`root_access_key_id` and `root_access_key_secret` go together: give both or neither",
            );
        }
        if let Some(url) = &self.public_url
            && !(url.starts_with("http://") || url.starts_with("https://"))
        {
            return refuse("`public_url` must begin with http:// or https://");
        }
        if !(self.quota_scale.is_finite() && self.quota_scale >= 0.0) {
            return refuse("`quota_scale` must be 0 or more");
        }
        if self.download_bytes_per_second < 0 || self.download_device_bytes_per_second < 0 {
            return refuse(
                "`download_bytes_per_second` and `download_device_bytes_per_second` must be 0 (no cap) or more",
            );
        }
        if self.minute_ms < 1
            || self.module_turn_minutes < 1
            || self.timestamp_skew_seconds < 1
            || self.upload_ticket_seconds < 1
            || self.upload_unused_seconds < 1
            || self.engine_chunk_rows < 1
        {
            return refuse(
                "`minute_ms`, `module_turn_minutes`, `timestamp_skew_seconds`, `upload_ticket_seconds`, \
                 `upload_unused_seconds` and `engine_chunk_rows` must be 1 or more",
            );
        }
        if self.ram_user_max < 0
            || self.access_key_max < 1
            || self.sts_key_max < 0
            || self.audit_days < 1
            || self.audit_rows_max < 1
            || self.history_days < 1
            || self.history_rows_max < 1
        {
            return refuse(
                "`ram_user_max` and `sts_key_max` must be 0 or more, `access_key_max`, `audit_days`, `audit_rows_max`, `history_days` and `history_rows_max` 1 or more",
            );
        }
        if self.devices_per_product_max < 0 || self.device_apply_days < 1 || self.device_checks_max < 1 {
            return refuse(
                "`devices_per_product_max` must be 0 or more, `device_apply_days` and `device_checks_max` 1 or more",
            );
        }
        if self.upload_unused_seconds < self.upload_ticket_seconds {
            return refuse("`upload_unused_seconds` must not be shorter than `upload_ticket_seconds`");
        }
        self.check_blobs()?;
        self.check_role()?;
        if !matches!(self.log_format.as_str(), "text" | "json") {
            return refuse("`log_format` must be `text` or `json`");
        }
        Ok(())
    }

    /// The base of public addresses, without a final `/`.
    pub fn public_base(&self) -> Option<&str> {
        self.public_url.as_deref().map(|url| url.trim_end_matches('/'))
    }

    /// Where the database is.
    pub fn database(&self) -> Result<updraft_store::Location, ConfigError> {
        match &self.database_url {
            None => Ok(updraft_store::Location::Sqlite(self.data_dir.join("updraft.db"))),
            Some(url) => updraft_store::Location::parse(url).ok_or_else(|| {
                ConfigError("`database_url` must begin with sqlite: or postgres://".to_owned())
            }),
        }
    }
}

/// The environment variable of a key.
pub fn env_name(key: &str) -> String {
    format!("UPDRAFT_{}", key.to_uppercase())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_the_environment_and_it_over_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("updraft.toml");
        std::fs::write(&file, "minute_ms = 1\nnonce_max = 2\nfirmware_max = 3\n").unwrap();
        let env = |name: &str| match name {
            "UPDRAFT_NONCE_MAX" => Some("20".to_owned()),
            "UPDRAFT_FIRMWARE_MAX" => Some("30".to_owned()),
            _ => None,
        };
        let config = Config::gather(Some(&file), env, &[("firmware_max", "300".to_owned())]).unwrap();
        assert_eq!((config.minute_ms, config.nonce_max, config.firmware_max), (1, 20, 300));
    }

    #[test]
    fn unknown_keys_and_bad_values_are_refused_by_name() {
        let none = |_: &str| None;
        let error = Config::default().set("minut_ms", "1").unwrap_err().to_string();
        assert!(error.contains("minut_ms"), "{error}");
        let error = Config::gather(None, none, &[("api_addr", "8080".to_owned())]).unwrap_err().to_string();
        assert!(error.contains("api_addr") && error.contains("127.0.0.1:8080"), "{error}");
        assert!(Config::gather(None, none, &[("tls_cert", "x.pem".to_owned())]).is_err());
        let error =
            Config::gather(None, none, &[("quota_qps", "Querry=1".to_owned())]).unwrap_err().to_string();
        assert!(error.contains("quota_qps") && error.contains("`Querry`"), "{error}");
    }

    #[test]
    fn quotas_of_operations_are_a_table_of_the_file() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("updraft.toml");
        let read = |text: &str| {
            std::fs::write(&file, text).unwrap();
            Config::gather(Some(&file), |_| None, &[])
        };
        let config = read("quota_scale = 2.0\n[quota_qps]\nQueryProduct = 7\nCreateProduct = 0\n").unwrap();
        assert_eq!(config.quota_qps.to_string(), "CreateProduct=0,QueryProduct=7");
        for (bad, named) in [
            ("[quota_qps]\nQuerry = 7\n", "`Querry`"),
            ("[quota_qps]\nQueryProduct = \"7,CreateProduct=1\"\n", "whole number"),
            ("[quota_qps.QueryProduct]\nx = 1\n", "whole number"),
            ("[data_dirs]\nx = 1\n", "data_dirs"),
        ] {
            let error = read(bad).unwrap_err().to_string();
            assert!(error.contains(named), "{bad}: {error}");
        }
    }
}
