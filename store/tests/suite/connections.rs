//! What a store makes of connections that end: at rest, in the middle of a commit, for a while.

use crate::engine::Engine;
use crate::harness::cases;
use crate::help::{block_on, try_read, try_write, write};
use crate::private_postgres::socket_of;
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use tempfile::TempDir;
use updraft_core::time::Timestamp;
use updraft_store::{Location, Store, StoreError, Tx};

cases! {
    OnlyPostgres: connections_that_ended_at_rest_are_replaced_unnoticed,
                  a_commit_whose_answer_was_lost_is_known_to_stand,
                  a_commit_that_never_arrived_is_known_to_have_failed,
                  a_database_that_is_away_refuses_and_is_not_hammered,
                  a_read_leaves_no_transaction_open,
                  a_session_says_who_it_is_and_how_long_it_may_hold_others_up;
}

/// Where a connection is cut.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Cut {
    Nowhere,
    /// The next COMMIT is not handed on.
    BeforeCommit,
    /// The next COMMIT is handed on; its answer is not.
    AfterCommit,
    /// Whoever comes is sent away.
    AtTheDoor,
}

struct Plan {
    cut: Cut,
    open: Vec<UnixStream>,
    /// How many came.
    came: usize,
}

/// A socket in front of the server's.
struct Proxy {
    dir: TempDir,
    plan: Arc<Mutex<Plan>>,
}

impl Proxy {
    fn before(server: PathBuf) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let listener = UnixListener::bind(dir.path().join(".s.PGSQL.5432")).unwrap();
        let plan = Arc::new(Mutex::new(Plan { cut: Cut::Nowhere, open: Vec::new(), came: 0 }));
        let shared = Arc::clone(&plan);
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let client = client.unwrap();
                let mut plan = shared.lock().unwrap();
                plan.came += 1;
                if plan.cut == Cut::AtTheDoor {
                    continue;
                }
                let server = UnixStream::connect(&server).unwrap();
                plan.open.push(client.try_clone().unwrap());
                plan.open.push(server.try_clone().unwrap());
                let (client_again, server_again) = (client.try_clone().unwrap(), server.try_clone().unwrap());
                let for_questions = Arc::clone(&shared);
                std::thread::spawn(move || questions(client, server, &for_questions));
                std::thread::spawn(move || answers(server_again, client_again));
            }
        });
        Self { dir, plan }
    }

    fn cut(&self, cut: Cut) {
        self.plan.lock().unwrap().cut = cut;
    }

    fn came(&self) -> usize {
        self.plan.lock().unwrap().came
    }

    /// Ends all connections, from both sides.
    fn end_all(&self) {
        for stream in self.plan.lock().unwrap().open.drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Hands on what the client says, until it says COMMIT if that is the plan.
fn questions(mut client: UnixStream, mut server: UnixStream, plan: &Mutex<Plan>) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(size @ 1..) = client.read(&mut buffer) {
        let said = &buffer[..size];
        let commits = said.windows(14).any(|words| words == b"sound; COMMIT\0");
        let cut = if commits {
            std::mem::replace(&mut plan.lock().unwrap().cut, Cut::Nowhere)
        } else {
            Cut::Nowhere
        };
        match cut {
            Cut::BeforeCommit => break,
            Cut::AfterCommit => {
                // The client hears nothing more; the server is heard out.
                client.shutdown(Shutdown::Both).unwrap();
                server.write_all(said).unwrap();
                server.shutdown(Shutdown::Write).unwrap();
                return;
            }
            Cut::Nowhere | Cut::AtTheDoor => {
                if server.write_all(said).is_err() {
                    break;
                }
            }
        }
    }
    let _ = client.shutdown(Shutdown::Both);
    let _ = server.shutdown(Shutdown::Both);
}

fn answers(mut server: UnixStream, mut client: UnixStream) {
    let mut buffer = vec![0; 64 * 1024];
    while let Ok(size @ 1..) = server.read(&mut buffer) {
        let _ = client.write_all(&buffer[..size]);
    }
    let _ = client.shutdown(Shutdown::Both);
}

/// A store that reaches the engine's database by way of a proxy.
fn through_a_proxy(engine: &Engine) -> (Proxy, Store) {
    let Location::Postgres(url) = engine.location() else { unreachable!("the cases are PostgreSQL's") };
    let proxy = Proxy::before(socket_of(url));
    let database = url.split("dbname=").nth(1).unwrap();
    let url = format!("postgres://updraft@/{database}?host={}", proxy.dir.path().display());
    let store = Store::open(&Location::parse(&url).unwrap()).expect("the store opens");
    (proxy, store)
}

fn ensure(tx: &mut Tx<'_>, name: &str) -> Result<(), StoreError> {
    tx.account_ensure(name, Timestamp(1)).map(drop)
}

fn there(store: &Store, name: &'static str) -> bool {
    try_read(store, move |tx| tx.account_find(name)).expect("reads work").is_some()
}

fn connections_that_ended_at_rest_are_replaced_unnoticed(engine: &Engine) {
    let (proxy, store) = through_a_proxy(engine);
    write(&store, |tx| ensure(tx, "first"));
    assert!(there(&store, "first"));
    proxy.end_all();
    write(&store, |tx| ensure(tx, "second"));
    // Each of the readers had a connection, or has none yet.
    for _ in 0..16 {
        assert!(there(&store, "second"));
    }
}

fn a_commit_whose_answer_was_lost_is_known_to_stand(engine: &Engine) {
    let (proxy, store) = through_a_proxy(engine);
    write(&store, |tx| ensure(tx, "first"));
    proxy.cut(Cut::AfterCommit);
    let effects = Arc::new(Mutex::new(0));
    let counted = Arc::clone(&effects);
    let written = store.write_then(
        updraft_store::Lane::Interactive,
        |tx| ensure(tx, "unheard"),
        move |()| *counted.lock().unwrap() += 1,
    );
    block_on(written).expect("it stands, and that was found out");
    assert_eq!(*effects.lock().unwrap(), 1);
    assert!(there(&store, "unheard"));
    write(&store, |tx| ensure(tx, "next"));
}

fn a_commit_that_never_arrived_is_known_to_have_failed(engine: &Engine) {
    let (proxy, store) = through_a_proxy(engine);
    write(&store, |tx| ensure(tx, "first"));
    proxy.cut(Cut::BeforeCommit);
    let refused = try_write(&store, |tx| ensure(tx, "lost")).expect_err("nothing was committed");
    assert!(matches!(refused, StoreError::Unavailable(_)), "{refused}");
    assert!(!refused.to_string().contains("not known"), "{refused}");
    assert!(!there(&store, "lost"));
    write(&store, |tx| ensure(tx, "lost"));
    assert!(there(&store, "lost"));
}

fn a_database_that_is_away_refuses_and_is_not_hammered(engine: &Engine) {
    let (proxy, store) = through_a_proxy(engine);
    write(&store, |tx| ensure(tx, "first"));
    proxy.cut(Cut::AtTheDoor);
    proxy.end_all();
    let before = proxy.came();
    let mut refused = 0;
    while proxy.came() < before + 3 {
        let error = try_write(&store, |tx| ensure(tx, "second")).expect_err("nobody is let in");
        assert!(error.is_retryable(), "{error}");
        refused += 1;
    }
    assert!(refused > 30, "{refused} calls made 3 connections");
    proxy.cut(Cut::Nowhere);
    // Until the pause is over.
    while try_write(&store, |tx| ensure(tx, "second")).is_err() {
        std::thread::yield_now();
    }
    assert!(there(&store, "second"));
}

/// Nobody waits for the answer to the COMMIT of a read; it must be sent all the same.
fn a_read_leaves_no_transaction_open(engine: &Engine) {
    let store = engine.open();
    let mut outside = engine.outside();
    let open = "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND application_name = 'updraft' AND xact_start IS NOT NULL
                  AND pid <> pg_backend_pid()";
    // After five seconds the server would end such a session, and all would look well.
    let stale = "SELECT count(*) FROM pg_stat_activity
                 WHERE datname = current_database() AND state LIKE 'idle in transaction%'
                   AND state_change < clock_timestamp() - interval '3 seconds'";
    for _ in 0..20 {
        assert!(
            try_read(&store, |tx| {
                tx.account_find("nobody")?;
                tx.account_find("somebody")
            })
            .expect("reads work")
            .is_none()
        );
        let refused: Result<(), _> = try_read(&store, |tx| {
            tx.account_find("nobody")?;
            Err(StoreError::Conflict("on purpose"))
        });
        assert!(refused.is_err());
        while outside.number(open) > 0 {
            assert_eq!(outside.number(stale), 0);
            std::thread::yield_now();
        }
    }
}

fn a_session_says_who_it_is_and_how_long_it_may_hold_others_up(engine: &Engine) {
    let store = engine.open();
    write(&store, |tx| ensure(tx, "first"));
    let mut outside = engine.outside();
    let sql = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'updraft'";
    assert!(outside.number(sql) >= 1);
    // A closure that stands still is a node that hangs: its transaction is ended, so that others can write.
    let (entered, begun) = std::sync::mpsc::channel();
    let (go_on, goes_on) = std::sync::mpsc::channel::<()>();
    let goes_on = Mutex::new(goes_on);
    let hanging = std::thread::spawn(move || {
        let outcome = try_write(&store, move |tx| {
            ensure(tx, "hanging")?;
            let _ = entered.send(());
            let _ = goes_on.lock().unwrap().recv();
            ensure(tx, "too late")
        });
        (store, outcome)
    });
    begun.recv().unwrap();
    let idle = "SELECT count(*) FROM pg_stat_activity
                WHERE datname = current_database() AND state = 'idle in transaction'";
    assert_eq!(outside.number(idle), 1);
    while outside.number(idle) > 0 {
        std::thread::yield_now();
    }
    drop(go_on);
    let (store, outcome) = hanging.join().unwrap();
    assert!(matches!(outcome, Err(StoreError::Unavailable(_))), "{outcome:?}");
    assert!(!there(&store, "hanging"));
    write(&store, |tx| ensure(tx, "hanging"));
}
