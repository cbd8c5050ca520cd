//! `updraft migrate`.

use crate::cli::backup::Bar;
use crate::cli::{admin, complain, config_of, need, say, switch, text_arg};
use clap::{ArgMatches, Command};
use serde_json::json;
use std::time::Duration;
use updraft_server::migrate::{self, Moved};
use updraft_store::{Begun, SameTable};

/// `updraft migrate`.
pub fn command() -> Command {
    admin(
        "migrate",
        "Brings all data of a server from SQLite to PostgreSQL and compares both, row by row. The server must be \
         stopped. The SQLite database is only read; uploaded files and keys stay in the data folder, which is needed \
         further on. If it is interrupted, run it again: it goes on where it was",
    )
    .arg(
        text_arg(
            "to",
            "URL",
            "The PostgreSQL database, postgres://USER:PASSWORD@HOST/DATABASE: an empty one, or one that an interrupted \
             run has begun to fill",
        )
        .env("UPDRAFT_MIGRATE_TO")
        .hide_env_values(true)
        .required(true),
    )
    .arg(switch("verify-only", "Brings nothing, and only compares the two databases"))
}

/// Runs it.
pub fn run(args: &ArgMatches) -> anyhow::Result<()> {
    let (config, to) = (config_of(args)?, need(args, "to")?);
    let bar = Bar::new()?;
    let mut progress = |what, done, all| bar.show(what, done, all);
    if args.get_flag("verify-only") {
        let tables = migrate::verify(&config, to, &mut progress)?;
        bar.end();
        say(&json!({ "rows": rows(&tables), "tables": listed(&tables) }).to_string());
        complain("updraft: both databases hold the same");
        return Ok(());
    }
    let moved = migrate::migrate(&config, to, &mut progress)?;
    bar.end();
    tell(&moved);
    Ok(())
}

fn rows(tables: &[SameTable]) -> u64 {
    tables.iter().map(|table| table.rows).sum()
}

fn listed(tables: &[SameTable]) -> Vec<serde_json::Value> {
    tables
        .iter()
        .map(|table| json!({ "table": table.name, "rows": table.rows, "sha256": table.sha256 }))
        .collect()
}

fn tell(moved: &Moved) {
    let Moved { transferred, data_dir, database, took, copy_took } = moved;
    let tables = &transferred.tables;
    say(&json!({
        "rows": rows(tables),
        "copied": transferred.copied,
        "begun": match transferred.begun {
            Begun::Fresh => "fresh",
            Begun::Resumed => "resumed",
            Begun::Again => "again",
        },
        "seconds": took.as_secs_f64(),
        "rows_per_second": per_second(transferred.copied, *copy_took),
        "tables": listed(tables),
    })
    .to_string());
    match transferred.begun {
        Begun::Fresh => {}
        Begun::Resumed => complain("updraft: it went on where an earlier run had been interrupted"),
        Begun::Again => complain(
            "updraft: it began anew, since the SQLite database has changed since an earlier run, or that run had found \
             a difference",
        ),
    }
    let (folder, database) = (data_dir.display(), database.display());
    complain(&format!(
        "updraft: all {} rows are in PostgreSQL, and the same there\n\
         \n\
         Next: serve it with the same data folder, which has the uploaded files and the keys:\n\
         \x20 updraft serve --data-dir {folder} --database-url postgres://…\n\
         Give the same `database_url` to every command (or set UPDRAFT_DATABASE_URL, or the key in the configuration \
         file). Keep {database} as it is: it is the backup of this moment. To go back, serve the data folder without \
         `database_url`; what happened on PostgreSQL is then missing.",
        rows(tables)
    ));
}

fn per_second(rows: u64, took: Duration) -> u64 {
    let seconds = took.as_secs_f64();
    if seconds > 0.0 { (rows as f64 / seconds) as u64 } else { rows }
}
