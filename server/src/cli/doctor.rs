//! `updraft doctor`: what a server needs, looked at before it is missed.

use crate::cli::{config_arg, config_of, key_flag, now, say, switch};
use clap::{ArgMatches, Command};
use std::process::ExitCode;
use updraft_server::config::KEYS;
use updraft_server::doctor::Report;

/// `updraft doctor`.
pub fn command() -> Command {
    Command::new("doctor")
        .about(
            "Looks at configuration, disk, database, clock, ports and certificate, and says what to do. Takes the \
             settings of `serve`, changes nothing, works beside a running server. Exit code 1: something is broken",
        )
        .arg(config_arg())
        .arg(switch("json", "Prints the findings as JSON"))
        .args(KEYS.iter().map(key_flag))
}

/// Runs it.
pub fn run(args: &ArgMatches) -> ExitCode {
    let report = match config_of(args) {
        Ok(config) => Report::of(&config, now()),
        Err(error) => Report::of_bad_configuration(&error),
    };
    say(&if args.get_flag("json") { report.json().to_string() } else { report.table() });
    if report.is_broken() { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
