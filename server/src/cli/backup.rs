//! `updraft backup` and `updraft restore`.

use crate::cli::browse::positional;
use crate::cli::{admin, complain, config_of, say, switch};
use clap::{ArgMatches, Command};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde_json::json;
use std::io::{IsTerminal as _, stderr};
use std::path::{Path, PathBuf};
use updraft_server::backup::{self, Manifest};

/// `updraft backup`.
pub fn backup_command() -> Command {
    admin(
        "backup",
        "Copies a server's database, files and keys into a new folder, beside the running server. What is in the \
         backup opens every secret: keep it as you keep the data folder",
    )
    .arg(positional("to", "FOLDER", "The folder to make").value_parser(clap::value_parser!(PathBuf)))
}

/// `updraft restore`.
pub fn restore_command() -> Command {
    admin(
        "restore",
        "Makes a data folder (--data-dir, absent or empty) of a backup, every file compared with what was backed up",
    )
    .arg(positional("from", "FOLDER", "The backup").value_parser(clap::value_parser!(PathBuf)))
    .arg(switch("check", "Only compares the backup with what was backed up, and makes nothing"))
}

fn path<'a>(args: &'a ArgMatches, name: &str) -> &'a Path {
    // clap has refused the command without it.
    args.get_one::<PathBuf>(name).map_or_else(|| Path::new(""), PathBuf::as_path)
}

/// Takes a backup.
pub fn run_backup(args: &ArgMatches) -> anyhow::Result<()> {
    let (config, to) = (config_of(args)?, path(args, "to"));
    let bar = Bar::new()?;
    let manifest = backup::take(&config, to, &mut |what, done, all| bar.show(what, done, all))?;
    bar.end();
    tell("the backup is complete", &manifest, to);
    if !manifest.files.contains_key("master.key") {
        complain(
            "updraft: the master key is not in the data folder (`master_key_file`), and so not in the backup: keep a \
             copy of it, or no secret can be read after a restore",
        );
    }
    Ok(())
}

/// Makes a data folder of a backup, or looks whether that could be done.
pub fn run_restore(args: &ArgMatches) -> anyhow::Result<()> {
    let (config, from) = (config_of(args)?, path(args, "from"));
    let bar = Bar::new()?;
    let mut progress = |what, done, all| bar.show(what, done, all);
    if args.get_flag("check") {
        let manifest = backup::check(from, &mut progress)?;
        bar.end();
        tell("the backup is sound", &manifest, from);
    } else {
        let manifest = backup::restore(from, &config, &mut progress)?;
        bar.end();
        tell("restored; start it with `updraft serve --data-dir …`", &manifest, &config.data_dir);
    }
    Ok(())
}

fn tell(what: &str, manifest: &Manifest, folder: &Path) {
    say(&json!({
        "folder": folder.display().to_string(),
        "taken_at": manifest.taken_at,
        "release": manifest.release,
        "files": manifest.files.len(),
        "bytes": manifest.bytes(),
        "damaged": manifest.damaged,
        "not_copied": manifest.not_copied.len(),
    })
    .to_string());
    complain(&format!("updraft: {what}"));
    if !manifest.elsewhere.is_empty() {
        complain(&format!(
            "updraft: the backup does not hold the {} uploaded files in {} (`blobs_url`), only their sizes and digests \
             (`not_copied` of {}): devices can download those that are still there",
            manifest.not_copied.len(),
            manifest.elsewhere,
            backup::MANIFEST,
        ));
    }
    if !manifest.damaged.is_empty() {
        complain(&format!(
            "updraft: {} uploaded files were missing or damaged when the backup was taken (`damaged` above); devices \
             cannot download them: upload their packages again",
            manifest.damaged.len()
        ));
    }
}

/// Progress on a terminal.
pub struct Bar(ProgressBar);

impl Bar {
    /// A bar that shows nothing yet; on no terminal it never does.
    pub fn new() -> anyhow::Result<Self> {
        let live = stderr().is_terminal();
        let target = if live { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        let bar = ProgressBar::with_draw_target(Some(0), target);
        bar.set_style(ProgressStyle::with_template("{msg:8} [{bar:30}] {percent} %")?.progress_chars("=> "));
        Ok(Self(bar))
    }

    /// Shows what is being done, and how much of it.
    pub fn show(&self, what: &'static str, done: u64, all: u64) {
        self.0.set_message(what);
        self.0.set_length(all);
        self.0.set_position(done);
    }

    /// Takes it away.
    pub fn end(&self) {
        self.0.finish_and_clear();
    }
}
