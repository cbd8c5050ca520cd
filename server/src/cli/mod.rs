//! The command line: one file per family of commands. Here is what they share.
//!
//! A command beside a running server opens the same database. What it changes acts on the server because that
//! looks again: at access keys and policies twice a second, at batches at least once a second.

pub mod account;
pub mod api;
pub mod audit;
pub mod backup;
pub mod browse;
pub mod completions;
pub mod doctor;
pub mod explain;
pub mod history;
pub mod job;
pub mod migrate;
pub mod node;
pub mod out;
pub mod page;
pub mod plan;
pub mod policy;
pub mod ram;
pub mod run;
pub mod simulate;
pub mod sts;
pub mod watch;

use anyhow::Context as _;
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::io::Write as _;
use std::path::PathBuf;
use std::sync::Arc;
use updraft_core::id::AccountNo;
use updraft_core::time::Timestamp;
use updraft_server::clock::{Clock as _, SystemClock};
use updraft_server::config::{Config, KEYS, env_name};
use updraft_server::random::Random;
use updraft_server::seal::MasterKey;
use updraft_server::setup::{self, ROOT_ACCOUNT};
use updraft_store::{AuditLine, Lane, Store, Tx};

/// The settings that commands beside a server need.
const ADMIN_KEYS: [&str; 3] = ["data_dir", "database_url", "master_key_file"];

/// The limits that some of them enforce.
const LIMIT_KEYS: [&str; 3] = ["ram_user_max", "access_key_max", "sts_key_max"];

/// The present.
pub fn now() -> Timestamp {
    SystemClock.now()
}

/// Data goes to stdout. Nobody may be listening any more, which is no reason for a server to die.
pub fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// A new key's secret goes to stdout, this once: that nobody got it is an error.
pub fn say_secret(text: &str, account: &str, key_id: &str) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    // As a text: a closed pipe is no quiet end here.
    writeln!(out, "{text}").and_then(|()| out.flush()).map_err(|error| {
        anyhow::anyhow!(
            "the access key was made but could not be printed, so its secret is lost ({error}): delete it \
             (`ram delete-access-key {key_id} --account {account}`; --force if it is the only one) and make another"
        )
    })
}

/// Everything but data goes to stderr.
pub fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

/// `--config`.
pub fn config_arg() -> Arg {
    Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help("A configuration file (TOML); `updraft config` prints one with every key")
}

/// The flag of a configuration key.
pub fn key_flag(key: &updraft_server::config::Key) -> Arg {
    let default = (key.default)();
    let doc = key.doc.trim().replace('\n', " ");
    let shown = if default.is_empty() { String::new() } else { format!(" [default: {default}]") };
    Arg::new(key.name)
        .long(key.name.replace('_', "-"))
        .value_name("VALUE")
        .action(ArgAction::Set)
        .help(format!("{doc}{shown} [env: {}]", env_name(key.name)))
}

/// The configuration that arguments, environment and file make together.
pub fn config_of(args: &ArgMatches) -> anyhow::Result<Config> {
    let file: Option<&PathBuf> = args.get_one("config");
    let flags: Vec<(&'static str, String)> = KEYS
        .iter()
        .filter_map(|key| {
            let value = args.try_get_one::<String>(key.name).ok().flatten()?;
            Some((key.name, value.clone()))
        })
        .collect();
    let env = |name: &str| std::env::var(name).ok();
    Ok(Config::gather(file.map(PathBuf::as_path), env, &flags)?)
}

/// What async code runs on.
pub fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

/// A family of commands: `updraft NAME …`.
pub fn family(name: &'static str, about: &'static str) -> Command {
    Command::new(name).about(about).subcommand_required(true).arg_required_else_help(true)
}

/// A command beside a server.
pub fn admin(name: &'static str, about: impl Into<String>) -> Command {
    Command::new(name)
        .about(about.into())
        .arg(config_arg())
        .args(KEYS.iter().filter(|key| ADMIN_KEYS.contains(&key.name)).map(key_flag))
}

/// The limits that commands enforce: settings of the command, not of the running server.
pub fn limit_flags(command: Command) -> Command {
    command.args(KEYS.iter().filter(|key| LIMIT_KEYS.contains(&key.name)).map(key_flag))
}

/// A flag that takes a text.
pub fn text_arg(name: &'static str, value: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).value_name(value).help(help)
}

/// A flag that is there or not.
pub fn switch(name: &'static str, help: &'static str) -> Arg {
    Arg::new(name).long(name).action(ArgAction::SetTrue).help(help)
}

/// `--account`.
pub fn account_arg() -> Arg {
    text_arg("account", "NAME", "The account").default_value(ROOT_ACCOUNT)
}

/// `--account` as a filter.
pub fn account_filter_arg() -> Arg {
    text_arg("account", "NAME", "Only of this account")
}

/// The text of an argument, if it was given.
pub fn text<'a>(args: &'a ArgMatches, name: &str) -> Option<&'a str> {
    args.get_one::<String>(name).map(String::as_str)
}

/// The text of an argument, to keep.
pub fn owned(args: &ArgMatches, name: &str) -> Option<String> {
    text(args, name).map(str::to_owned)
}

/// The text of an argument that the command line requires.
pub fn need<'a>(args: &'a ArgMatches, name: &str) -> anyhow::Result<&'a str> {
    text(args, name).with_context(|| format!("--{name} is missing"))
}

/// A database, opened beside the server that uses it.
pub struct Beside {
    /// The configuration, as far as it was given to the command.
    pub config: Config,
    /// The database.
    pub store: Arc<Store>,
    /// Identifiers and secrets.
    pub random: Random,
    runtime: tokio::runtime::Runtime,
}

impl Beside {
    /// Opens the database that the arguments name.
    pub fn open(args: &ArgMatches) -> anyhow::Result<Self> {
        let config = config_of(args)?;
        setup::look_first(&config, setup::LOOK_BESIDE)?;
        let store = Store::open_beside(&config.database()?)
            .context("give the --data-dir or --database-url of a server that has run at least once")?;
        Ok(Self { config, store: Arc::new(store), random: Random::from_system()?, runtime: runtime()? })
    }

    /// The key that seals secrets; it and the database must belong together.
    pub fn master_key(&self) -> anyhow::Result<MasterKey> {
        self.runtime.block_on(setup::master_key_beside(&self.config, &self.store))
    }

    /// Reads.
    pub fn read<T: Send + 'static>(
        &self,
        run: impl Fn(&mut Tx<'_>) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        self.runtime.block_on(self.store.read(run))
    }

    /// Waits.
    pub fn pause(&self, time: std::time::Duration) {
        self.runtime.block_on(async { tokio::time::sleep(time).await });
    }

    /// Changes something, and says so in the audit log, in one transaction. `line` need not have time, user
    /// and outcome.
    pub fn change<T: Send + 'static>(
        &self,
        line: AuditLine,
        run: impl Fn(&mut Tx<'_>) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        self.change_told(line, move |tx, _| run(tx))
    }

    /// Like [`Beside::change`]; `run` may add to the line what it finds. No other command changes accounts,
    /// users or keys meanwhile.
    pub fn change_told<T: Send + 'static>(
        &self,
        line: AuditLine,
        run: impl Fn(&mut Tx<'_>, &mut AuditLine) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let outcome = "ok".to_owned();
        let line = AuditLine { at: now(), os_user: Some(os_user()), outcome, ..line };
        self.runtime.block_on(self.store.write(Lane::Interactive, move |tx| {
            tx.admin_lock()?;
            let mut line = line.clone();
            let answer = run(tx, &mut line)?;
            tx.audit_insert(&line)?;
            Ok(answer)
        }))
    }
}

/// The account of this name.
pub fn account(tx: &mut Tx<'_>, name: &str) -> anyhow::Result<AccountNo> {
    tx.account_find(name)?
        .with_context(|| format!("there is no account {name}; `updraft account list` shows them"))
}

/// Refuses a name that is none.
pub fn check_name(what: &str, name: &str) -> anyhow::Result<()> {
    anyhow::ensure!(
        updraft_core::text::module_name(name),
        "the {what}'s name must be 1 to 64 letters, digits and . - _"
    );
    Ok(())
}

/// Who runs this command: the process's user, and who became root by sudo.
fn os_user() -> String {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(process) = std::fs::metadata("/proc/self") else { return "unknown".to_owned() };
    let users = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let uid = process.uid().to_string();
    let named = users.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)? == uid).then(|| name.to_owned())
    });
    let name = named.unwrap_or_else(|| format!("uid {uid}"));
    match std::env::var("SUDO_USER") {
        Ok(before) if uid == "0" => format!("{name} (sudo by {before})"),
        _ => name,
    }
}

/// Whether a command ended because nobody reads its output any more, as behind `| head`.
pub fn is_closed_pipe(error: &anyhow::Error) -> bool {
    let io = error.downcast_ref::<std::io::Error>();
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
