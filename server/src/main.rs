//! `updraft`: the command line. Reads arguments, puts the configuration together, runs.

use anyhow::Context as _;
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::io::{IsTerminal as _, Write as _};
use std::path::PathBuf;
use std::sync::Arc;
use updraft_server::clock::{Clock, SystemClock};
use updraft_server::config::{Config, KEYS, documentation, env_name};
use updraft_server::doctor::Report;
use updraft_server::random::Random;
use updraft_server::serve::Server;
use updraft_server::{demo, service, setup};
use updraft_store::Store;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    let matches = cli().get_matches();
    let outcome = match matches.subcommand() {
        Some(("doctor", args)) => return examine(args),
        Some(("serve", args)) => config_of(args).and_then(serve),
        Some(("demo", args)) => run_demo(args),
        Some(("ram", args)) => match args.subcommand() {
            Some(("create-access-key", args)) => create_access_key(args),
            _ => Ok(()),
        },
        Some(("config", _)) => {
            say(&documentation());
            Ok(())
        }
        _ => Ok(()),
    };
    match outcome {
        Ok(()) => std::process::ExitCode::SUCCESS,
        Err(error) => {
            complain(&format!("updraft: {error:#}"));
            std::process::ExitCode::FAILURE
        }
    }
}

/// Data goes to stdout. Nobody may be listening any more, which is no reason for a server to die.
fn say(text: &str) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// Everything but data goes to stderr.
fn complain(text: &str) {
    let _ = writeln!(std::io::stderr(), "{text}");
}

fn cli() -> Command {
    let config_file = Arg::new("config")
        .long("config")
        .value_name("FILE")
        .value_parser(clap::value_parser!(PathBuf))
        .help("A configuration file (TOML); `updraft config` prints one with every key");
    let serve = Command::new("serve")
        .about("Runs the server: API and downloads on one port, MQTT on another, data in one folder")
        .arg(config_file.clone())
        .args(KEYS.iter().map(key_flag));
    let admin_keys = ["data_dir", "database_url", "master_key_file"];
    let admin = |command: Command| {
        command
            .arg(config_file.clone())
            .args(KEYS.iter().filter(|key| admin_keys.contains(&key.name)).map(key_flag))
    };
    Command::new("updraft")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A self-hosted over-the-air update server that speaks Alibaba Cloud IoT Platform's OTA API")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(serve)
        .subcommand(demo_command())
        .subcommand(
            Command::new("doctor")
                .about(
                    "Looks at configuration, disk, database, clock, ports and certificate, and says what to do. \
                     Takes the settings of `serve`, changes nothing, works beside a running server. Exit code 1: \
                     something is broken",
                )
                .arg(config_file.clone())
                .arg(
                    Arg::new("json").long("json").action(ArgAction::SetTrue).help("Prints the findings as JSON"),
                )
                .args(KEYS.iter().map(key_flag)),
        )
        .subcommand(
            Command::new("ram")
                .about("RAM users of the root account and their access keys")
                .subcommand_required(true)
                .arg_required_else_help(true)
                .subcommand(admin(
                    Command::new("create-access-key")
                        .about(
                            "Makes an access key of a RAM user and prints it as JSON; works beside a running \
                             server. A user has full access to the account and shares its quotas.",
                        )
                        .arg(
                            Arg::new("user")
                                .long("user")
                                .value_name("NAME")
                                .required(true)
                                .help("The RAM user: 1 to 64 letters, digits and . - _"),
                        ),
                )),
        )
        .subcommand(Command::new("config").about("Prints every configuration key with its default, as TOML"))
}

fn key_flag(key: &updraft_server::config::Key) -> Arg {
    let default = (key.default)();
    let doc = key.doc.trim().replace('\n', " ");
    let shown = if default.is_empty() { String::new() } else { format!(" [default: {default}]") };
    Arg::new(key.name)
        .long(key.name.replace('_', "-"))
        .value_name("VALUE")
        .action(ArgAction::Set)
        .help(format!("{doc}{shown} [env: {}]", env_name(key.name)))
}

fn demo_command() -> Command {
    Command::new("demo")
        .about(
            "Shows a fleet upgrade in a minute: a server in a temporary folder, virtual devices on real MQTT and \
             HTTP, a package verified on one device and rolled out to the others",
        )
        .arg(
            Arg::new("devices")
                .long("devices")
                .value_name("N")
                .value_parser(clap::value_parser!(u32).range(10..=5_000))
                .default_value("200")
                .help("How many virtual devices"),
        )
        .arg(
            Arg::new("keep")
                .long("keep")
                .action(ArgAction::SetTrue)
                .help("Leaves the server running afterwards and prints its addresses and keys; Ctrl-C ends it"),
        )
}

fn config_of(args: &ArgMatches) -> anyhow::Result<Config> {
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

fn log(filter: &str, json: bool) -> anyhow::Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(filter).context("`log` is not a filter")?;
    let colours = std::io::stderr().is_terminal();
    let builder =
        tracing_subscriber::fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    if json {
        builder.json().with_span_list(false).init();
    } else {
        builder.init();
    }
    Ok(())
}

fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    Ok(tokio::runtime::Builder::new_multi_thread().enable_all().build()?)
}

fn serve(config: Config) -> anyhow::Result<()> {
    log(&config.log, config.log_format == "json")?;
    // A connection takes a descriptor, and the usual soft limit is a thousand.
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => tracing::info!(limit, "file descriptors: so many connections and files at most"),
        Err(error) => tracing::warn!(%error, "the limit of file descriptors could not be raised"),
    }
    let metrics = metrics_exporter_prometheus::PrometheusBuilder::new().install_recorder()?;
    let runtime = runtime()?;
    let outcome = runtime.block_on(async move {
        let signals = service::Signals::new()?;
        let server = Server::start(config, Some(metrics)).await?;
        say(&format!("updraft {} serves", env!("CARGO_PKG_VERSION")));
        say(&format!("  API and downloads  {} (plain and TLS)", server.api_addr));
        say(&format!("  MQTT               {} (plain and TLS)", server.mqtt_addr));
        say(&format!("  data               {}", server.data_dir.display()));
        if let Some(path) = &server.root_key_file {
            say(&format!("  root access key    {}", path.display()));
        }
        if let Some(path) = &server.ca_file {
            say(&format!("  CA to trust        {}", path.display()));
        }
        service::run(server, signals).await
    });
    // After a second signal nothing is waited for any more.
    runtime.shutdown_background();
    outcome
}

async fn wait_for_signal() -> anyhow::Result<()> {
    service::Signals::new()?.stop().await;
    Ok(())
}

fn run_demo(args: &ArgMatches) -> anyhow::Result<()> {
    log("warn", false)?;
    let options = demo::Options {
        devices: args.get_one::<u32>("devices").copied().unwrap_or(200),
        keep: args.get_flag("keep"),
    };
    runtime()?.block_on(demo::run(options, wait_for_signal))
}

fn examine(args: &ArgMatches) -> std::process::ExitCode {
    let report = match config_of(args) {
        Ok(config) => Report::of(&config, SystemClock.now()),
        Err(error) => Report::of_bad_configuration(&error),
    };
    say(&if args.get_flag("json") { report.json().to_string() } else { report.table() });
    if report.is_broken() { std::process::ExitCode::FAILURE } else { std::process::ExitCode::SUCCESS }
}

fn create_access_key(args: &ArgMatches) -> anyhow::Result<()> {
    let config = config_of(args)?;
    let user: &String = args.get_one("user").context("--user is missing")?;
    anyhow::ensure!(
        updraft_core::text::module_name(user),
        "the user's name must be 1 to 64 letters, digits and . - _"
    );
    let random = Random::from_system()?;
    let store = Arc::new(
        Store::open_beside(&config.database()?)
            .context("give the --data-dir or --database-url of a server that has run at least once")?,
    );
    let key = runtime()?.block_on(async {
        let master = setup::master_key(&config, &store, &random).await?;
        setup::create_ram_key(&store, &master, &random, user, SystemClock.now()).await
    })?;
    say(&key.json());
    Ok(())
}
