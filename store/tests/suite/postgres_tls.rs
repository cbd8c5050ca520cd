//! TLS to the database: what libpq's `sslmode` promises, against a server with a certificate.

use crate::harness::cases;
use crate::private_postgres::{Server, Tls};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use tempfile::TempDir;
use updraft_store::{Location, Store};

cases! {
    Once: the_certificate_is_checked_as_sslmode_says, who_wants_no_tls_is_told_that_the_server_does,
          a_certificate_that_signed_itself_is_its_own_authority, clients_have_certificates_too,
          a_wrong_password_is_refused_and_not_repeated;
}

const HBA: &str = "local all all trust\n\
                   hostssl all certified 127.0.0.1/32 cert\n\
                   hostssl all secretive 127.0.0.1/32 scram-sha-256\n\
                   hostssl all all 127.0.0.1/32 trust\n";

struct World {
    server: Server,
    port: u16,
    dir: TempDir,
}

/// An authority, with what it signs.
struct Authority {
    params: CertificateParams,
    key: KeyPair,
    pem: String,
}

fn named(names: &[&str], common_name: &str) -> CertificateParams {
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

impl Authority {
    fn new(name: &str) -> Self {
        let mut params = named(&[], name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self { params, key, pem }
    }

    /// A certificate and its key.
    fn signs(&self, names: &[&str], common_name: &str) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let issuer = Issuer::from_params(&self.params, &self.key);
        (named(names, common_name).signed_by(&key, &issuer).unwrap().pem(), key.serialize_pem())
    }
}

fn free_port() -> u16 {
    std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

impl World {
    fn start(cert: String, key: String, ca: String) -> Self {
        let tls = Tls { port: free_port(), cert, key, ca, hba: HBA };
        let server = Server::start_with(Some(&tls)).expect("a server with TLS starts");
        Self { server, port: tls.port, dir: tempfile::tempdir().unwrap() }
    }

    /// The server that the cases share; it ends with the process.
    fn shared() -> &'static Self {
        static WORLD: OnceLock<World> = OnceLock::new();
        WORLD.get_or_init(|| {
            let (mine, other) = (Authority::new("mine"), Authority::new("other"));
            let (cert, key) = mine.signs(&["localhost"], "localhost");
            let world = Self::start(cert, key, mine.pem.clone());
            let (cert, key) = mine.signs(&[], "certified");
            world.server.admin(
                "CREATE ROLE certified LOGIN SUPERUSER;
                 CREATE ROLE secretive LOGIN SUPERUSER PASSWORD 'geheim'",
            );
            for (name, text) in
                [("mine.pem", &mine.pem), ("other.pem", &other.pem), ("me.pem", &cert), ("me.key", &key)]
            {
                std::fs::write(world.file(name), text).unwrap();
            }
            world
        })
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// Opens a store on a new database; why it could not be.
    fn try_as(&self, user: &str, host: &str, parameters: &str) -> Result<String, String> {
        let database = self.server.database_create();
        let url = format!("postgres://{user}@{host}:{}/{database}?{parameters}", self.port);
        let store = Store::open(&Location::parse(&url).unwrap()).map_err(|error| error.to_string())?;
        // The store's threads connect when they are needed.
        let here = tokio::runtime::Builder::new_current_thread().build().unwrap();
        here.block_on(store.probe()).map_err(|error| error.to_string())?;
        let encrypted = self.encrypted(&database);
        store.close();
        Ok(encrypted)
    }

    fn opens(&self, host: &str, parameters: &str) -> Result<String, String> {
        self.try_as("updraft", host, parameters)
    }

    /// Whether the sessions of a database use TLS, and what they call themselves.
    fn encrypted(&self, database: &str) -> String {
        let mut client = postgres::Client::connect(&self.server.url("postgres"), postgres::NoTls).unwrap();
        let sql = "SELECT string_agg(DISTINCT application_name || ':' || ssl, ',')
                   FROM pg_stat_activity JOIN pg_stat_ssl USING (pid) WHERE datname = $1";
        client.query_one(sql, &[&database]).unwrap().get(0)
    }
}

fn root(path: &Path) -> String {
    format!("sslrootcert={}", path.display())
}

/// Asserts that a refusal says `words`, and what to do.
fn assert_refused(outcome: Result<String, String>, words: &[&str]) {
    let said = outcome.expect_err("it must be refused");
    assert!(words.iter().all(|word| said.contains(word)), "{said}");
}

const TLS: &str = "updraft:true";

fn the_certificate_is_checked_as_sslmode_says() {
    let world = World::shared();
    let (mine, other) = (root(&world.file("mine.pem")), root(&world.file("other.pem")));
    let by_address = |more: String| world.opens("127.0.0.1", &more);
    for mode in ["verify-full", "verify-ca", "require"] {
        assert_eq!(world.opens("localhost", &format!("sslmode={mode}&{mine}")).as_deref(), Ok(TLS), "{mode}");
    }
    // The certificate does not hold the address.
    assert_refused(by_address(format!("sslmode=verify-full&{mine}")), &["not valid for name", "verify-ca"]);
    assert_eq!(by_address(format!("sslmode=verify-ca&{mine}")).as_deref(), Ok(TLS));
    // Another authority: refused by whoever names one.
    for mode in ["verify-full", "verify-ca", "require", "prefer"] {
        let outcome = world.opens("localhost", &format!("sslmode={mode}&{other}"));
        assert_refused(outcome, &["UnknownIssuer", "sslrootcert must name"]);
    }
    assert_refused(world.opens("localhost", "sslmode=verify-full&sslrootcert=system"), &["UnknownIssuer"]);
    // Who names none checks nothing.
    assert_eq!(by_address("sslmode=require".to_owned()).as_deref(), Ok(TLS));
    assert_eq!(by_address("sslmode=prefer".to_owned()).as_deref(), Ok(TLS));
}

fn who_wants_no_tls_is_told_that_the_server_does() {
    let refused = World::shared().opens("localhost", "sslmode=disable");
    assert_refused(refused, &["no encryption", "28000", "say sslmode=verify-full"]);
}

fn a_certificate_that_signed_itself_is_its_own_authority() {
    // As the documentation of PostgreSQL has it made: an authority that shows its own certificate.
    let mut params = named(&["localhost"], "localhost");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().unwrap();
    let pem = params.self_signed(&key).unwrap().pem();
    let world = World::start(pem.clone(), key.serialize_pem(), pem.clone());
    std::fs::write(world.file("own.pem"), &pem).unwrap();
    let own = root(&world.file("own.pem"));
    assert_eq!(world.opens("localhost", &format!("sslmode=verify-full&{own}")).as_deref(), Ok(TLS));
    let refused = world.opens("127.0.0.1", &format!("sslmode=verify-full&{own}"));
    assert_refused(refused, &["not valid for name"]);
    world.server.stop();
}

fn clients_have_certificates_too() {
    let world = World::shared();
    let mine = root(&world.file("mine.pem"));
    let (cert, key) = (world.file("me.pem"), world.file("me.key"));
    let parameters =
        format!("sslmode=verify-full&{mine}&sslcert={}&sslkey={}", cert.display(), key.display());
    assert_eq!(world.try_as("certified", "localhost", &parameters).as_deref(), Ok(TLS));
    let without = world.try_as("certified", "localhost", &format!("sslmode=verify-full&{mine}"));
    assert_refused(without, &["certificate"]);
}

fn a_wrong_password_is_refused_and_not_repeated() {
    let world = World::shared();
    let parameters = format!("sslmode=verify-full&{}", root(&world.file("mine.pem")));
    assert_eq!(world.try_as("secretive:geheim", "localhost", &parameters).as_deref(), Ok(TLS));
    let said = world.try_as("secretive:verraten", "localhost", &parameters).unwrap_err();
    assert!(said.contains("password authentication failed") && !said.contains("verraten"), "{said}");
}
