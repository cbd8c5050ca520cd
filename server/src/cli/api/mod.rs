//! `updraft api`: one signed call of any operation, at any endpoint that speaks this API; and what operations take.
//!
//! Exit status: 0 the call succeeded, 1 it was refused or not answered, 2 the command was not used rightly, or no
//! key was found.

pub mod keys;
pub mod request;
pub mod transport;

use crate::cli::out::{Form, Out, Row};
use crate::cli::{
    complain, config_arg, config_of, key_flag, need, now, runtime, say, switch, text, text_arg,
};
use anyhow::{Context as _, ensure};
use clap::builder::{PossibleValuesParser, ValueParser};
use clap::{Arg, ArgAction, ArgMatches, Command};
use request::{Call, Scheme};
use serde_json::{Value, json};
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use transport::{Answer, Endpoint, Trust};
use updraft_server::api::answer::utc;
use updraft_server::api::catalogue::{self, Entry};
use updraft_server::config::KEYS;
use updraft_server::pretty;
use updraft_server::random::Random;

/// The exit status of wrong use, as clap's own.
const WRONG_USE: u8 = 2;
/// Where a server listens if nobody says otherwise.
const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:8080";
/// Parameters that the command itself sends.
const COMMON: [&str; 10] = [
    "Action",
    "Version",
    "Format",
    "AccessKeyId",
    "Signature",
    "SignatureMethod",
    "SignatureVersion",
    "SignatureNonce",
    "Timestamp",
    "SecurityToken",
];

/// Where the key comes from, and what the exit status says.
pub const KEYS_HELP: &str = "\
The key comes from ALIBABA_CLOUD_ACCESS_KEY_ID, ALIBABA_CLOUD_ACCESS_KEY_SECRET and ALIBABA_CLOUD_SECURITY_TOKEN, \
else from ~/.alibabacloud/credentials.ini (or ALIBABA_CLOUD_CREDENTIALS_FILE), profile ALIBABA_CLOUD_PROFILE; else, \
for a server on this machine, it is the root key in the data folder.

Exit status: 0 success, 1 refused or not answered, 2 wrong use";

/// `updraft api`.
pub fn command() -> Command {
    // Any name: the endpoint may know more than this release.
    command_of(ValueParser::string())
}

/// The same for completions of a shell, which then knows the operations' names.
pub fn command_with_names() -> Command {
    let names: Vec<&str> = catalogue::served().map(|(operation, _)| operation.name).collect();
    command_of(PossibleValuesParser::new(names).into())
}

fn command_of(actions: ValueParser) -> Command {
    let command = Command::new("api")
        .about("Calls an operation of the API and prints its answer")
        .after_help(format!("Example: updraft api QueryProduct ProductKey=a1…\n\n{KEYS_HELP}"))
        .arg(
            Arg::new("action")
                .value_parser(actions)
                .value_name("ACTION")
                .required_unless_present("list")
                .help("The operation; --list shows them"),
        )
        .arg(
            Arg::new("params")
                .value_name("NAME=VALUE")
                .num_args(0..)
                .help("Its parameters, such as TaskId.1=…"),
        )
        .arg(switch("list", "Lists the operations").conflicts_with("action"))
        .arg(
            switch("help-params", "Shows the operation's parameters instead of calling it")
                .requires("action"),
        )
        .arg(text_arg("format", "FORMAT", "json or xml").value_parser(["json", "xml"]).default_value("json"));
    that_calls(command)
}

/// Adds the flags that say where a call goes and whose key signs it.
pub fn that_calls(command: Command) -> Command {
    command
        .arg(text_arg(
            "endpoint",
            "URL",
            "Where: http://HOST:PORT, https://HOST, or HOST (https). Absent: the server that uses the data \
             folder, else http://127.0.0.1:8080",
        ))
        .arg(
            text_arg("signature", "SCHEME", "acs3, as current SDKs sign, or v1")
                .value_parser(["acs3", "v1"])
                .default_value("acs3"),
        )
        .arg(text_arg("region", "ID", "RegionId, for servers that ask for it"))
        .arg(
            text_arg("ca-file", "FILE", "Also trusts the certificates of this PEM file")
                .value_parser(clap::value_parser!(PathBuf)),
        )
        .arg(switch("insecure", "Takes any certificate: only to try something out").conflicts_with("ca-file"))
        .args(key_args())
        .arg(config_arg().action(ArgAction::Set))
        .args(KEYS.iter().filter(|key| key.name == "data_dir").map(key_flag))
}

/// The flags that name a key.
pub fn key_args() -> [Arg; 4] {
    [
        text_arg("profile", "NAME", "The profile of the credentials file"),
        text_arg("access-key-id", "ID", "The AccessKeyId"),
        text_arg("access-key-secret", "SECRET", "Its secret; visible to other users of the machine"),
        text_arg("security-token", "TOKEN", "The token of a temporary key").requires("access-key-secret"),
    ]
}

/// Runs it.
pub fn run(args: &ArgMatches) -> anyhow::Result<ExitCode> {
    if args.get_flag("list") {
        return list().map(|()| ExitCode::SUCCESS);
    }
    let prepared = match prepare(args) {
        Ok(Some(prepared)) => prepared,
        Ok(None) => return Ok(ExitCode::SUCCESS),
        Err(error) => return Ok(wrong_use(&error)),
    };
    let done = prepared.send()?;
    say(&if done.xml { done.body.clone() } else { pretty::json(&done.body) });
    Ok(done.exit())
}

/// The command was not used rightly, or no key was found.
pub fn wrong_use(error: &anyhow::Error) -> ExitCode {
    complain(&format!("updraft: {error:#}"));
    ExitCode::from(WRONG_USE)
}

/// What the arguments ask for; `None`: help, which was given.
fn prepare(args: &ArgMatches) -> anyhow::Result<Option<Prepared>> {
    let action = text(args, "action").context("the operation is missing; --list shows them")?;
    if args.get_flag("help-params") {
        let entry = catalogue::find(action);
        let entry = entry.with_context(|| format!("{action} is no operation{}", perhaps(action)))?;
        help(entry)?;
        return Ok(None);
    }
    Prepared::of(args, action, text(args, "format") == Some("xml")).map(Some)
}

/// A call that is ready to be sent.
pub struct Prepared {
    endpoint: Endpoint,
    tls: Option<rustls::ClientConfig>,
    request: http::Request<http_body_util::Full<bytes::Bytes>>,
    xml: bool,
    key_from: String,
}

/// What was answered.
pub struct Done {
    /// The body, as it came.
    pub body: String,
    /// Whether it says that the call succeeded.
    pub success: bool,
    xml: bool,
}

impl Done {
    /// The exit status that says so.
    pub fn exit(&self) -> ExitCode {
        if self.success { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }
}

impl Prepared {
    /// A call of this operation with the parameters of the arguments ([`that_calls`], and `params`).
    pub fn of(args: &ArgMatches, action: &str, xml: bool) -> anyhow::Result<Self> {
        let mut params = pairs(args)?;
        hints(action, catalogue::find(action), &params);
        if let Some(region) = text(args, "region") {
            params.push(("RegionId".to_owned(), region.to_owned()));
        }
        let data_dir = config_of(args)?.data_dir;
        let endpoint = match text(args, "endpoint") {
            Some(given) => Endpoint::parse(given)?,
            None => Endpoint::parse(&running(&data_dir).unwrap_or_else(|| DEFAULT_ENDPOINT.to_owned()))?,
        };
        let trust = Trust {
            ca_file: args.get_one::<PathBuf>("ca-file").map(PathBuf::as_path),
            insecure: args.get_flag("insecure"),
        };
        let tls = endpoint.tls.then(|| transport::tls(&trust)).transpose()?;
        let key = keys::find(args, endpoint.is_local().then_some(data_dir.as_path()))?;
        let timestamp = utc(now()).get(..19).unwrap_or_default().to_owned() + "Z";
        let call = Call {
            action,
            params: &params,
            format: if xml { "XML" } else { "JSON" },
            host: &endpoint.host(),
            timestamp: &timestamp,
            nonce: &Random::from_system()?.secret("nonce"),
        };
        let scheme = if need(args, "signature")? == "v1" { Scheme::V1 } else { Scheme::Acs3 };
        let request = request::signed(&call, &key, scheme)?;
        Ok(Self { endpoint, tls, request, xml, key_from: key.from })
    }

    /// Sends it. Of a key that is not known it says where it came from.
    pub fn send(self) -> anyhow::Result<Done> {
        let answer = runtime()?.block_on(transport::send(&self.endpoint, self.tls, self.request))?;
        let success = is_success(&answer, self.xml);
        if !success
            && (answer.body.contains("InvalidAccessKeyId") || answer.body.contains("SignatureDoesNotMatch"))
        {
            let (from, host) = (self.key_from, self.endpoint.host());
            complain(&format!("note: the key came from {from}; {host} answered"));
        }
        Ok(Done { body: answer.body, success, xml: self.xml })
    }
}

fn pairs(args: &ArgMatches) -> anyhow::Result<Vec<(String, String)>> {
    let mut found: Vec<(String, String)> = Vec::new();
    for given in args.get_many::<String>("params").into_iter().flatten() {
        let (name, value) = given
            .split_once('=')
            .filter(|(name, _)| !name.is_empty())
            .with_context(|| format!("`{given}` must be NAME=VALUE"))?;
        ensure!(!COMMON.contains(&name), "{name} is made by the command itself");
        ensure!(found.iter().all(|(known, _)| known != name), "{name} is given twice");
        found.push((name.to_owned(), value.to_owned()));
    }
    Ok(found)
}

/// Tells what looks like a mistake. The call is made all the same: the endpoint may know more than this release.
fn hints(action: &str, entry: Option<&Entry>, params: &[(String, String)]) {
    let Some(entry) = entry else {
        complain(&format!("note: this release knows no operation {action}{}", perhaps(action)));
        return;
    };
    for (name, _) in params.iter().filter(|(name, _)| name != "RegionId") {
        let head = name.split('.').next().unwrap_or_default();
        if !entry.request.iter().any(|parameter| parameter.name == head) {
            complain(&format!(
                "note: {action} has no parameter {head}; --help-params shows those that it has"
            ));
        }
    }
}

/// `; is it X?` if a known name differs in capitals only, or begins so.
fn perhaps(action: &str) -> String {
    let all = &catalogue::catalogue().operations;
    let lower = action.to_lowercase();
    let alike = |entry: &&Entry| entry.name.to_lowercase() == lower;
    let begins = |entry: &&Entry| entry.name.to_lowercase().starts_with(&lower);
    let found = all.iter().find(alike).or_else(|| all.iter().find(begins));
    found.map_or_else(String::new, |entry| format!("; is it {}?", entry.name))
}

/// The address of the server that uses a data folder.
fn running(data_dir: &Path) -> Option<String> {
    let run: Value = serde_json::from_str(&std::fs::read_to_string(data_dir.join("run.json")).ok()?).ok()?;
    let addr: SocketAddr = run["api_addr"].as_str()?.parse().ok()?;
    // Nobody is at 0.0.0.0.
    let ip = match addr.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
        IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::V6(std::net::Ipv6Addr::LOCALHOST),
        ip => ip,
    };
    Some(format!("http://{}", SocketAddr::new(ip, addr.port())))
}

fn is_success(answer: &Answer, xml: bool) -> bool {
    let says_so = if xml {
        answer.body.contains("<Success>true</Success>")
    } else {
        serde_json::from_str::<Value>(&answer.body).is_ok_and(|body| body["Success"] == true)
    };
    answer.status == 200 && says_so
}

fn list() -> anyhow::Result<()> {
    let row =
        |entry: &Entry| -> Row { vec![("Operation", json!(entry.name)), ("About", json!(entry.about))] };
    let rows: Vec<Row> = catalogue::served().map(|(_, entry)| row(entry)).collect();
    Out::new(Form::Table).page(&rows)
}

fn help(entry: &Entry) -> anyhow::Result<()> {
    let served = updraft_server::api::find(&entry.name);
    say(&entry.about);
    let rows = entry.request.iter().flat_map(|parameter| {
        let required = served.is_some_and(|operation| operation.required.contains(&parameter.name.as_str()));
        parameter.wire(1).into_iter().map(move |wire| -> Row {
            let name = if parameter.is_list() { wire.name.replacen(".1", ".N", 1) } else { wire.name };
            let limits = if wire.limits.is_empty() { &parameter.limits } else { &wire.limits };
            vec![
                ("Parameter", json!(name)),
                ("Type", json!(wire.kind)),
                ("Required", json!(if required { "yes" } else { "" })),
                ("Limits", json!(catalogue::in_words(limits))),
                ("Meaning", json!(parameter.about())),
            ]
        })
    });
    Out::new(Form::Table).page(&rows.collect::<Vec<_>>())?;
    if served.is_none() {
        complain(&format!("note: {} is not served by this release", entry.name));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, body: &str) -> Answer {
        Answer { status, body: body.to_owned() }
    }

    #[test]
    fn only_a_success_is_one() {
        assert!(is_success(&answer(200, r#"{"Success":true}"#), false));
        assert!(is_success(&answer(200, "<R><Success>true</Success></R>"), true));
        for (status, body) in [(200, r#"{"Success":false}"#), (500, r#"{"Success":true}"#), (200, "")] {
            assert!(!is_success(&answer(status, body), false), "{status} {body}");
        }
        assert!(!is_success(&answer(200, "<R><Success>false</Success></R>"), true));
    }

    #[test]
    fn misspelt_operations_are_guessed() {
        assert_eq!(perhaps("queryproduct"), "; is it QueryProduct?");
        assert_eq!(perhaps("CreateOTAStat"), "; is it CreateOTAStaticUpgradeJob?");
        assert_eq!(perhaps("FlyToTheMoon"), "");
    }
}
