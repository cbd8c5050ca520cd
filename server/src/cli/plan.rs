//! `updraft plan`: what a batch would do, without making it. It calls PlanOTAJob, like `updraft api`, and says the
//! answer in words.

use crate::cli::api::{KEYS_HELP, Prepared, that_calls, wrong_use};
use crate::cli::out::{Form, Out, Row};
use crate::cli::{complain, say, switch};
use clap::{Arg, ArgMatches, Command};
use serde_json::{Value, json};
use std::process::ExitCode;
use updraft_core::plan::Fate;
use updraft_server::pretty;

/// `updraft plan`.
pub fn command() -> Command {
    let command = Command::new("plan")
        .about("Says what a batch would do, and makes none")
        .after_help(format!(
            "Example: updraft plan FirmwareId=… ProductKey=a1… TargetSelection=ALL MaximumPerMinute=500\n\nThe \
             parameters are those of CreateOTAStaticUpgradeJob; updraft api PlanOTAJob --help-params shows them.\n\n\
             {KEYS_HELP}"
        ))
        .arg(
            Arg::new("params")
                .value_name("NAME=VALUE")
                .num_args(1..)
                .required(true)
                .help("The parameters of the batch"),
        )
        .arg(switch("json", "Prints the answer as it came"));
    that_calls(command)
}

/// Runs it.
pub fn run(args: &ArgMatches) -> anyhow::Result<ExitCode> {
    let prepared = match Prepared::of(args, "PlanOTAJob", false) {
        Ok(prepared) => prepared,
        Err(error) => return Ok(wrong_use(&error)),
    };
    let done = prepared.send()?;
    if args.get_flag("json") {
        say(&pretty::json(&done.body));
        return Ok(done.exit());
    }
    let answer: Value = serde_json::from_str(&done.body).unwrap_or_default();
    if !done.success {
        complain(&format!("updraft: {}", refusal(&answer).unwrap_or(done.body.clone())));
        return Ok(done.exit());
    }
    for line in lines(&answer["Data"]) {
        say(&line);
    }
    say("");
    Out::new(Form::Table).page(&fates(&answer["Data"]))?;
    for note in texts(&answer["Data"]["Notes"]["Note"]) {
        say(&format!("\nNote: {}", visible(note)));
    }
    Ok(done.exit())
}

fn refusal(answer: &Value) -> Option<String> {
    let message = answer["ErrorMessage"].as_str().or(answer["Message"].as_str())?;
    Some(format!("{} ({})", visible(message), visible(answer["Code"].as_str()?)))
}

fn fates(plan: &Value) -> Vec<Row> {
    let row = |fate: &Value| -> Row {
        let name = fate["Fate"].as_str().unwrap_or_default();
        let devices = fate["Devices"].as_i64().unwrap_or_default();
        let mut examples: Vec<&str> = texts(&fate["Examples"]["DeviceName"]).collect();
        if (examples.len() as i64) < devices {
            examples.push("…");
        }
        vec![
            ("Fate", json!(name)),
            ("Devices", json!(grouped(devices))),
            ("Meaning", json!(Fate::from_name(name).map_or("", Fate::meaning))),
            ("Examples", json!(examples)),
        ]
    };
    plan["Fates"]["PlanFate"].as_array().into_iter().flatten().map(row).collect()
}

/// The plan in sentences, each with a head.
fn lines(plan: &Value) -> Vec<String> {
    let text = |at: &str| visible(plan.pointer(at).and_then(Value::as_str).unwrap_or_default());
    let number = |at: &str| plan.pointer(at).and_then(Value::as_i64);
    let count = |at: &str| grouped(number(at).unwrap_or_default());
    let mut lines = vec![
        format!(
            "Package    {}: version {} of the module {}, {} bytes",
            text("/FirmwareId"),
            text("/DestVersion"),
            text("/ModuleName"),
            count("/Downloads/BytesEach")
        ),
        format!("Looked at  {} devices, {}", count("/Devices/Looked"), text("/UtcLooked")),
        format!(
            "Updates    {} devices: {} online, {} offline, {} never online yet, {} disabled",
            count("/Devices/Taken"),
            count("/Devices/Online"),
            count("/Devices/Offline"),
            count("/Devices/NeverOnline"),
            count("/Devices/Disabled")
        ),
    ];
    if number("/Devices/ReplacedTasks") > Some(0) {
        lines.push(format!("Replaces   {} tasks of other batches", count("/Devices/ReplacedTasks")));
    }
    if plan.pointer("/Pushes/UtcFirst").is_some() {
        lines.push(format!(
            "Pushes     {} to devices online now, {} a minute: {} to {}",
            count("/Pushes/Told"),
            count("/Pushes/MaximumPerMinute"),
            text("/Pushes/UtcFirst"),
            text("/Pushes/UtcLast")
        ));
    }
    if number("/Pushes/TooLate") > Some(0) {
        lines.push(format!("Too late   {} devices online now", count("/Pushes/TooLate")));
    }
    if plan.pointer("/Pushes/UtcEndMedian").is_some() {
        lines.push(format!(
            "Ended      by {} as likely as not, by {} in nine of ten cases",
            text("/Pushes/UtcEndMedian"),
            text("/Pushes/UtcEndP90")
        ));
    }
    if number("/Past/Tasks") > Some(0) {
        lines.push(format!(
            "Past       of {} tasks {} succeeded; half took {} at most, nine of ten {}",
            count("/Past/Tasks"),
            count("/Past/Succeeded"),
            span(number("/Past/MedianSeconds").unwrap_or_default()),
            span(number("/Past/P90Seconds").unwrap_or_default())
        ));
    }
    lines.push(downloads(plan));
    lines
}

fn downloads(plan: &Value) -> String {
    let number = |name: &str| plan["Downloads"][name].as_i64();
    let count = |name: &str| grouped(number(name).unwrap_or_default());
    let mut parts = vec![format!("Downloads  {} bytes", count("Bytes"))];
    if number("BytesExpected").is_some_and(|expected| number("Bytes") != Some(expected)) {
        parts.push(format!(", {} with attempts that fail and are repeated", count("BytesExpected")));
    }
    parts.push(format!("; {} bytes a second while devices are told", count("BytesPerSecond")));
    if number("CapPerSecond").is_some() {
        parts.push(format!(", of {} that there are", count("CapPerSecond")));
    }
    if let Some(stretch) = number("StretchSeconds").filter(|stretch| *stretch > 0) {
        parts.push(format!(": they take {} longer than the pushes", span(stretch)));
    }
    parts.concat()
}

fn texts(list: &Value) -> impl Iterator<Item = &str> {
    list.as_array().into_iter().flatten().filter_map(Value::as_str)
}

/// What came over the network cannot steer the terminal.
fn visible(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect()
}

/// A number with a comma for each thousand.
fn grouped(number: i64) -> String {
    let digits = number.unsigned_abs().to_string();
    let mut out = String::from(if number < 0 { "-" } else { "" });
    for (at, digit) in digits.char_indices() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

/// A time of so many seconds, in its two largest units.
fn span(seconds: i64) -> String {
    let (minutes, hours, days) = (seconds / 60, seconds / 3_600, seconds / 86_400);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, ..) => format!("{hours} h {} min", minutes % 60),
        _ => format!("{days} d {} h", hours % 24),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_and_times_are_read_at_a_glance() {
        for (number, expected) in
            [(0, "0"), (999, "999"), (1_000, "1,000"), (-12_345, "-12,345"), (1_000_000, "1,000,000")]
        {
            assert_eq!(grouped(number), expected);
        }
        for (seconds, expected) in
            [(0, "0 s"), (59, "59 s"), (60, "1 min 0 s"), (3_661, "1 h 1 min"), (90_000, "1 d 1 h")]
        {
            assert_eq!(span(seconds), expected);
        }
    }

    #[test]
    fn what_is_not_known_is_not_said() {
        let plan = json!({
            "Devices": {"Looked": 1_200, "Taken": 3, "Online": 0, "ReplacedTasks": 0},
            "Pushes": {"MaximumPerMinute": 10, "Told": 0, "TooLate": 0},
            "Past": {"Tasks": 0},
            "Downloads": {"BytesEach": 7, "Bytes": 21, "BytesPerSecond": 1},
            "Fates": {"PlanFate": [{"Fate": "NEW", "Devices": 3, "Examples": {"DeviceName": ["a\u{1b}", "b"]}}]},
        });
        let said = lines(&plan).join("\n");
        assert!(said.contains("1,200 devices") && said.contains("21 bytes; 1 bytes a second"), "{said}");
        for word in ["Pushes", "Ended", "Past", "Replaces", "Too late", "attempts", "longer"] {
            assert!(!said.contains(word), "{word}: {said}");
        }
        assert_eq!(fates(&plan)[0][3].1, json!(["a\u{1b}", "b", "…"]), "the table makes them visible");
    }
}
