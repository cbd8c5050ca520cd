//! The command line.

use crate::process::OTHER;
use clap::builder::PossibleValuesParser;
use clap::{Arg, ArgAction, Command};
use std::path::PathBuf;

/// What is measured.
pub struct Arguments {
    pub sqlite: bool,
    pub postgres: bool,
    pub quick: bool,
    pub growth: bool,
    pub write_docs: bool,
    /// Empty: all of them.
    only: Vec<Part>,
}

/// A part of the run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    Api,
    Devices,
    Memory,
    Downloads,
    Million,
    Inside,
    None,
}

impl Part {
    const ALL: [(&str, Self); 7] = [
        ("api", Self::Api),
        ("devices", Self::Devices),
        ("memory", Self::Memory),
        ("downloads", Self::Downloads),
        ("million", Self::Million),
        ("inside", Self::Inside),
        ("none", Self::None),
    ];

    /// Whether the database has a part in it.
    pub fn is_of_database(self) -> bool {
        matches!(self, Self::Api | Self::Devices | Self::Million)
    }
}

impl Arguments {
    /// Reads the command line; ends the process for `--help` and for nonsense.
    pub fn read() -> anyhow::Result<Self> {
        let flag = |name: &'static str, help: &'static str| {
            Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
        };
        let matches = Command::new("product")
            .about("Measures the server; a full run of one engine takes about five minutes, growth as long again")
            .arg(
                Arg::new("engine")
                    .long("engine")
                    .default_value("sqlite")
                    .value_parser(PossibleValuesParser::new(["sqlite", "postgres", "both"]))
                    .help("Which database; PostgreSQL is started for the run and need not be running"),
            )
            .arg(
                Arg::new("only")
                    .long("only")
                    .action(ArgAction::Append)
                    .value_parser(PossibleValuesParser::new(Part::ALL.map(|(name, _)| name)))
                    .help("Only this part; may be given several times"),
            )
            .arg(flag("growth", "Also what hot paths cost with 1k, 10k, 100k and 1M devices and batches"))
            .arg(flag("write-docs", "Write the figures into docs/performance.md and docs/performance/"))
            .arg(flag("quick", "A short run, to see that it works: its figures mean little"))
            .arg(
                Arg::new("server")
                    .long("server")
                    .value_parser(clap::value_parser!(PathBuf))
                    .help("Another updraft than the one that was built with this benchmark, to compare"),
            )
            .arg(flag("bench", "What cargo gives").hide(true))
            .get_matches();
        if let Some(server) = matches.get_one::<PathBuf>("server") {
            OTHER.set(server.clone()).map_err(|_| anyhow::anyhow!("--server is set twice"))?;
        }
        let engine = matches.get_one::<String>("engine").map_or("sqlite", String::as_str);
        let only = matches.get_many::<String>("only").into_iter().flatten();
        let part = |name: &String| Part::ALL.iter().find(|(other, _)| other == name).map(|(_, part)| *part);
        Ok(Self {
            sqlite: engine != "postgres",
            postgres: engine != "sqlite",
            quick: matches.get_flag("quick"),
            growth: matches.get_flag("growth"),
            write_docs: matches.get_flag("write-docs"),
            only: only.filter_map(part).collect(),
        })
    }

    /// Whether a part is asked for.
    pub fn has(&self, part: Part) -> bool {
        self.only.is_empty() || self.only.contains(&part)
    }
}
