//! `updraft serve` and `updraft demo`: what runs a server.

use crate::cli::{config_arg, config_of, key_flag, runtime, say};
use anyhow::Context as _;
use clap::{Arg, ArgAction, ArgMatches, Command};
use std::io::IsTerminal as _;
use updraft_server::config::KEYS;
use updraft_server::serve::Server;
use updraft_server::{demo, service};

/// `updraft serve`.
pub fn serve_command() -> Command {
    Command::new("serve")
        .about("Runs the server: API and downloads on one port, MQTT on another, data in one folder")
        .arg(config_arg())
        .args(KEYS.iter().map(key_flag))
}

/// `updraft demo`.
pub fn demo_command() -> Command {
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

/// Runs the server until a signal ends it.
pub fn serve(args: &ArgMatches) -> anyhow::Result<()> {
    let config = config_of(args)?;
    log(&config.log, config.log_format == "json")?;
    // A connection takes a descriptor, and the usual soft limit is a thousand.
    match rlimit::increase_nofile_limit(u64::MAX) {
        Ok(limit) => tracing::info!(limit, "file descriptors: so many connections and files at most"),
        Err(error) => tracing::warn!(%error, "the limit of file descriptors could not be raised"),
    }
    let metrics = metrics_exporter_prometheus::PrometheusBuilder::new().install_recorder()?;
    let runtime = runtime()?;
    let outcome = runtime.block_on(async move {
        let mut signals = service::Signals::new()?;
        // A database that does not answer must not make the start deaf.
        let server = tokio::select! {
            server = Server::start(config, Some(metrics)) => server?,
            () = signals.stop() => anyhow::bail!("stopped before it served"),
        };
        say(&format!("updraft {} serves", env!("CARGO_PKG_VERSION")));
        say(&format!("  API and downloads  {} (plain and TLS)", server.api_addr));
        if let Some(addr) = server.mqtt_addr {
            say(&format!("  MQTT               {addr} (plain and TLS)"));
        }
        if let Some(addr) = server.mqtt_tls_addr {
            say(&format!("  MQTT by TLS        {addr}"));
        }
        if let Some(addr) = server.mqtt_ws_addr {
            say(&format!("  MQTT by WebSocket  {addr} (plain and TLS)"));
        }
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

/// Runs the demo.
pub fn run_demo(args: &ArgMatches) -> anyhow::Result<()> {
    log("warn", false)?;
    let options = demo::Options {
        devices: args.get_one::<u32>("devices").copied().unwrap_or(200),
        keep: args.get_flag("keep"),
    };
    runtime()?.block_on(demo::run(options, wait_for_signal))
}
