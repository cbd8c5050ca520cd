//! What the demo prints: progress on a terminal to stderr, answers to stdout.

use crate::serve::Server;
use anyhow::Context as _;
use indicatif::{ProgressBar, ProgressStyle};
use std::fmt;
use updraft_core::task::TaskStatus;

/// The demo's output.
pub struct Show {
    style: ProgressStyle,
}

/// How many tasks are in each state.
#[derive(Default)]
pub struct Counts([u64; 7]);

impl Counts {
    /// Notes the tasks in a state.
    pub fn set(&mut self, status: TaskStatus, n: u64) {
        self.0[status.code() as usize] = n;
    }

    /// Tasks in a final state.
    pub fn ended(&self) -> u64 {
        TaskStatus::ALL.iter().filter(|s| !s.is_open()).map(|s| self.0[s.code() as usize]).sum()
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = TaskStatus::ALL.iter().filter(|status| self.0[status.code() as usize] > 0);
        let parts: Vec<String> =
            shown.map(|status| format!("{} {}", status.name(), self.0[status.code() as usize])).collect();
        f.write_str(&parts.join("  "))
    }
}

impl Show {
    /// Output on this process's terminal.
    pub fn new() -> Self {
        let style = ProgressStyle::with_template("  [{bar:30}] {pos}/{len}  {msg}")
            .unwrap_or_else(|_| ProgressStyle::default_bar())
            .progress_chars("=> ");
        Self { style }
    }

    /// A progress bar; invisible where there is no terminal.
    pub fn bar(&self, length: u64, message: &'static str) -> ProgressBar {
        ProgressBar::new(length).with_style(self.style.clone()).with_message(message)
    }
}

/// A line of the story.
#[expect(clippy::print_stderr, reason = "the story is for people; stdout has the answers")]
pub fn line(text: &str) {
    eprintln!("{text}");
}

/// An answer of the server, as it came: data, so to stdout.
#[expect(clippy::print_stdout, reason = "the answers are the demo's data")]
pub fn answer(title: &str, body: &str) {
    line(&format!("\n{title}"));
    println!("{body}");
}

/// Where the kept server is, and how to call it.
#[expect(clippy::print_stdout, reason = "the addresses are what --keep is for")]
pub fn addresses(server: &Server) -> anyhow::Result<()> {
    let key_file = server.root_key_file.as_ref().context("the root key was not written")?;
    let key = std::fs::read_to_string(key_file)?;
    println!("\nThe server stays up until Ctrl-C:");
    println!("  UPDRAFT_API={}", server.api_addr);
    let mqtt = server.mqtt_addr.context("the demo's server has devices connected")?;
    println!("  UPDRAFT_MQTT_HOST={} UPDRAFT_MQTT_PORT={}", mqtt.ip(), mqtt.port());
    println!("  root access key: {key}");
    Ok(())
}
