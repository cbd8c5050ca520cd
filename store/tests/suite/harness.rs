//! Turns cases into trials, and owns the PostgreSQL server that half of them use.

use crate::engine::Engine;
use crate::private_postgres::Server;
use libtest_mimic::{Arguments, Failed, Trial};
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use updraft_store::Store;

/// A case with its name.
#[derive(Clone, Copy)]
pub struct Case {
    pub name: &'static str,
    pub run: Run,
}

/// What a case is given, and where it runs.
#[derive(Clone, Copy)]
pub enum Run {
    /// A fresh store, on both engines.
    Store(fn(&Store)),
    /// A fresh database, on both engines.
    Engine(fn(&Engine)),
    /// A fresh database of the one engine that the case is about.
    OnlyPostgres(fn(&Engine)),
    /// No database: the case makes its own.
    Once(fn()),
}

/// Lists the cases of a file.
macro_rules! cases {
    ($($kind:ident: $($name:ident),+;)+) => {
        pub const CASES: &[crate::harness::Case] = &[$($(
            crate::harness::Case { name: stringify!($name), run: crate::harness::Run::$kind($name) },
        )+)+];
    };
}
pub(crate) use cases;

/// The server is started by the first case that needs it: a run of `sqlite::` needs none.
type Shared = Arc<OnceLock<Result<Server, String>>>;

/// Runs the cases that the command line selects, then stops the server.
pub fn run(cases: &[Case]) -> ExitCode {
    let args = Arguments::from_args();
    let server = Shared::default();
    let trials = cases.iter().flat_map(|case| trials(*case, &server)).collect();
    let conclusion = libtest_mimic::run(&args, trials);
    if let Some(Ok(server)) = server.get() {
        server.stop();
    }
    conclusion.exit_code()
}

fn trials(case: Case, server: &Shared) -> Vec<Trial> {
    match case.run {
        Run::Store(run) => vec![
            on_sqlite(case.name, move |engine| run(&engine.open())),
            on_postgres(case.name, server, move |engine| run(&engine.open())),
        ],
        Run::Engine(run) => vec![on_sqlite(case.name, run), on_postgres(case.name, server, run)],
        Run::OnlyPostgres(run) => vec![on_postgres(case.name, server, run)],
        Run::Once(run) => vec![Trial::test(case.name, move || {
            run();
            Ok(())
        })],
    }
}

fn on_sqlite(name: &str, run: impl FnOnce(&Engine) + Send + 'static) -> Trial {
    Trial::test(format!("sqlite::{name}"), move || {
        run(&Engine::sqlite());
        Ok(())
    })
}

fn on_postgres(name: &str, server: &Shared, run: impl FnOnce(&Engine) + Send + 'static) -> Trial {
    let server = Arc::clone(server);
    Trial::test(format!("postgres::{name}"), move || {
        let server = server.get_or_init(Server::start).as_ref().map_err(Failed::from)?;
        run(&Engine::postgres(server));
        Ok(())
    })
}
