//! `updraft`: puts the command line together and runs the command.

mod cli;

use clap::{ArgMatches, Command};
use cli::{
    account, api, audit, backup, browse, complain, completions, doctor, explain, is_closed_pipe, job,
    migrate, node, plan, ram, run, say, simulate,
};
use std::process::ExitCode;
use updraft_server::config::documentation;

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let matches = command_line().get_matches();
    if let Some(("doctor", args)) = matches.subcommand() {
        return doctor::run(args);
    }
    let outcome = match matches.subcommand() {
        Some(("api", args)) => api::run(args),
        Some(("plan", args)) => plan::run(args),
        Some(("simulate", args)) => simulate::run(args),
        _ => dispatch(&matches).map(|()| ExitCode::SUCCESS),
    };
    outcome.unwrap_or_else(|error| {
        if is_closed_pipe(&error) {
            return ExitCode::SUCCESS;
        }
        complain(&format!("updraft: {error:#}"));
        ExitCode::FAILURE
    })
}

fn command_line() -> Command {
    Command::new("updraft")
        .version(env!("CARGO_PKG_VERSION"))
        .about("A self-hosted over-the-air update server that speaks Alibaba Cloud IoT Platform's OTA API")
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(run::serve_command())
        .subcommand(run::demo_command())
        .subcommand(simulate::command())
        .subcommand(doctor::command())
        .subcommand(backup::backup_command())
        .subcommand(backup::restore_command())
        .subcommand(migrate::command())
        .subcommand(account::account_command())
        .subcommand(account::instance_command())
        .subcommand(ram::command())
        .subcommands(browse::all_commands())
        .subcommand(job::job_command())
        .subcommand(job::task_command())
        .subcommand(node::command())
        .subcommand(plan::command())
        .subcommand(explain::command())
        .subcommand(audit::command())
        .subcommand(api::command())
        .subcommand(completions::command())
        .subcommand(Command::new("config").about("Prints every configuration key with its default, as TOML"))
}

fn dispatch(matches: &ArgMatches) -> anyhow::Result<()> {
    match matches.subcommand() {
        Some(("serve", args)) => run::serve(args),
        Some(("demo", args)) => run::run_demo(args),
        Some(("backup", args)) => backup::run_backup(args),
        Some(("restore", args)) => backup::run_restore(args),
        Some(("migrate", args)) => migrate::run(args),
        Some(("account", args)) => account::run_account(args),
        Some(("instance", args)) => account::run_instance(args),
        Some(("ram", args)) => ram::run(args),
        Some(("product", args)) => browse::run_product(args),
        Some(("device", args)) => browse::run_device(args),
        Some(("firmware", args)) => browse::run_firmware(args),
        Some(("job", args)) => job::run_job(args),
        Some(("task", args)) => job::run_task(args),
        Some(("node", args)) => node::run(args),
        Some(("explain", args)) => explain::run(args),
        Some(("audit", args)) => audit::run(args),
        Some(("completions", args)) => {
            let whole = command_line().mut_subcommand("api", |_| api::command_with_names());
            completions::run(args, whole)
        }
        Some(("config", _)) => {
            say(&documentation());
            Ok(())
        }
        _ => Ok(()),
    }
}
