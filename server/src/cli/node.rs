//! `updraft node list`: the nodes that serve the database, read beside them.

use crate::cli::out::{Form, Out, Row};
use crate::cli::{Beside, admin, complain, family, switch};
use clap::{ArgMatches, Command};
use serde_json::json;
use updraft_server::api::answer::utc;
use updraft_server::nodes::roles;

/// `updraft node …`.
pub fn command() -> Command {
    let about = "Lists the nodes that serve the database, the eldest first. One that was killed is listed until another \
                 one gives it up (`node_lease_seconds`) or, if it served alone, until the next start";
    let list =
        admin("list", about).arg(switch("json", "Prints JSON, one object per line, instead of a table"));
    family("node", "The nodes that serve one database together").subcommand(list)
}

/// Runs `updraft node …`.
pub fn run(args: &ArgMatches) -> anyhow::Result<()> {
    let Some((_, args)) = args.subcommand() else { return Ok(()) };
    let beside = Beside::open(args)?;
    let (nodes, devices) = beside.read(|tx| Ok((tx.nodes()?, tx.nodes_devices()?)))?;
    let rows: Vec<Row> = nodes
        .iter()
        .map(|node| {
            vec![
                ("Node", json!(node.id)),
                ("Name", json!(node.name)),
                ("Role", json!(roles(node.roles))),
                ("UtcSince", json!(utc(node.started_at))),
                ("Release", json!(node.version)),
                ("DevicesOnline", json!(devices.get(&node.id).copied().unwrap_or_default())),
            ]
        })
        .collect();
    let mut out = Out::new(if args.get_flag("json") { Form::Json } else { Form::Table });
    out.page(&rows)?;
    if rows.is_empty() && !args.get_flag("json") {
        complain("note: no node serves this database");
    }
    Ok(())
}
