//! `updraft completions`: what a shell needs to complete commands, flags and the names of operations.

use clap::{Arg, ArgMatches, Command};
use clap_complete::{Shell, generate};
use std::io::Write as _;
use updraft_server::api::catalogue;

/// `updraft completions`.
pub fn command() -> Command {
    Command::new("completions")
        .about("Prints completions for a shell, such as: updraft completions bash > /etc/bash_completion.d/updraft")
        .arg(
            Arg::new("shell")
                .value_name("SHELL")
                .required(true)
                .value_parser(["bash", "zsh", "fish"])
                .help("The shell"),
        )
}

/// Prints them for a command line.
pub fn run(args: &ArgMatches, mut whole: Command) -> anyhow::Result<()> {
    let shell = match crate::cli::need(args, "shell")? {
        "bash" => Shell::Bash,
        "zsh" => Shell::Zsh,
        _ => Shell::Fish,
    };
    let mut out = Vec::new();
    generate(shell, &mut whole, "updraft", &mut out);
    if shell == Shell::Fish {
        // The generator leaves out the values of what is no flag.
        let names: Vec<&str> = catalogue::served().map(|(operation, _)| operation.name).collect();
        writeln!(
            out,
            "complete -c updraft -n \"__fish_seen_subcommand_from api\" -f -a \"{}\"",
            names.join(" ")
        )?;
    }
    // A closed pipe is no fault of ours.
    let _ = std::io::stdout().write_all(&out);
    Ok(())
}
