//! `updraft ram create-sts-token` and `revoke-sts-tokens`: temporary keys.

use crate::cli::policy::read;
use crate::cli::ram::{line, user_arg};
use crate::cli::{
    Beside, account, account_arg, admin, complain, limit_flags, need, now, owned, say, say_secret, switch,
    text, text_arg,
};
use anyhow::{Context as _, ensure};
use clap::{Arg, ArgMatches, Command};
use serde_json::json;
use updraft_core::id::AccountNo;
use updraft_core::limits::STS_SECONDS;
use updraft_core::text::session_name;
use updraft_core::time::SECOND_MS;
use updraft_server::api::access::SEAL_PURPOSE;
use updraft_server::api::answer::utc;
use updraft_server::api::{policy, sts};
use updraft_store::{AuditLine, StsKey, Tx};

/// The commands.
pub fn commands() -> [Command; 2] {
    let of_holder = |name, about| {
        let root = switch("root", "The account itself instead of a user").conflicts_with("user");
        let user = user_arg().required_unless_present("root");
        admin(name, about).arg(account_arg()).arg(user).arg(root)
    };
    [
        limit_flags(
            of_holder(
                "create-sts-token",
                "Makes a temporary key and prints it as JSON; secret and token are shown this once. Works beside a \
                 running server. The key can do what its user may at the time of a call, and no more than its \
                 session policy allows. It ends by itself, with its user, or by revoke-sts-tokens; disabling the \
                 user's lasting keys does not end it",
            )
            .arg(
                Arg::new("duration-seconds")
                    .long("duration-seconds")
                    .value_name("N")
                    .value_parser(clap::value_parser!(i64).range(STS_SECONDS))
                    .default_value("3600")
                    .help("How long it works: 900 to 43200"),
            )
            .arg(text_arg(
                "policy",
                "FILE",
                "A session policy as JSON, in the form of put-policy; - reads it from standard input",
            ))
            .arg(
                text_arg("session-name", "NAME", "Who will use it: 2 to 64 letters, digits and . @ - _")
                    .default_value("session"),
            ),
        ),
        of_holder("revoke-sts-tokens", "Ends all temporary keys of a user, or of the account itself, within a second"),
    ]
}

/// Runs one of them.
pub fn run(name: &str, args: &ArgMatches) -> anyhow::Result<()> {
    if name == "create-sts-token" { create(args) } else { revoke(args) }
}

/// The account, and its user if one is named, who must exist.
fn holder(tx: &mut Tx<'_>, of: &str, user: Option<&str>) -> anyhow::Result<AccountNo> {
    let account = account(tx, of)?;
    if let Some(user) = user {
        let found = tx.ram_user_find(account, user)?;
        found.with_context(|| {
            format!("the account {of} has no user {user}; make it with `ram create-user`")
        })?;
    }
    Ok(account)
}

fn session_policy(args: &ArgMatches) -> anyhow::Result<Option<String>> {
    let Some(file) = text(args, "policy") else { return Ok(None) };
    let document = read(file)?;
    policy::read_session(&document).map_err(|why| anyhow::anyhow!("the session policy is refused: {why}"))?;
    for action in policy::without_effect(&document) {
        complain(&format!("note: {action} is no operation of this release; is it misspelt?"));
    }
    Ok(Some(document))
}

fn create(args: &ArgMatches) -> anyhow::Result<()> {
    let (of, user) = (need(args, "account")?.to_owned(), owned(args, "user"));
    let session = need(args, "session-name")?.to_owned();
    ensure!(
        session_name(&session),
        "the session name {session:?} must be 2 to 64 letters, digits and . @ - _"
    );
    let seconds = args.get_one::<i64>("duration-seconds").copied().unwrap_or(3_600);
    let document = session_policy(args)?;
    let beside = Beside::open(args)?;
    let fresh = sts::fresh(&beside.random);
    let (now, max) = (now(), beside.config.sts_key_max);
    // Whole seconds, as they are printed.
    let expires_at = updraft_core::time::Timestamp((now.0 / SECOND_MS + seconds) * SECOND_MS);
    let key = StsKey {
        id: fresh.id.clone(),
        account: AccountNo(0),
        ram_user: user.clone(),
        session_name: session.clone(),
        policy: document,
        secret_sealed: beside.master_key()?.seal(SEAL_PURPOSE, &fresh.secret)?,
        token_hash: sts::hash(&fresh.token),
        created_at: now,
        expires_at,
    };
    let line = AuditLine {
        access_key: Some(fresh.id.clone()),
        subject: format!("SessionName={session} DurationSeconds={seconds}"),
        ..line("create-sts-token", &of, user.as_deref())
    };
    let (owner, holder_name) = (of.clone(), user.clone());
    beside.change(line, move |tx| {
        let account = holder(tx, &owner, holder_name.as_deref())?;
        ensure!(
            tx.sts_key_count(account, holder_name.as_deref(), now)? < max,
            "{} has {max} temporary keys that still work, as many as it may have: wait for one to expire, end them \
             with `ram revoke-sts-tokens`, or raise sts_key_max (--sts-key-max, UPDRAFT_STS_KEY_MAX or --config of \
             this command)",
            holder_name.as_deref().unwrap_or("the account itself")
        );
        tx.sts_key_insert(&StsKey { account, ..key.clone() })?;
        Ok(())
    })?;
    let printed = json!({
        "AccessKeyId": fresh.id,
        "AccessKeySecret": fresh.secret,
        "SecurityToken": fresh.token,
        "Expiration": utc(expires_at)[..19].to_owned() + "Z",
        "Account": of,
        "RamUser": user,
        "SessionName": session,
    });
    say_secret(&printed.to_string(), &of, &fresh.id)
}

fn revoke(args: &ArgMatches) -> anyhow::Result<()> {
    let (of, user) = (need(args, "account")?.to_owned(), owned(args, "user"));
    let beside = Beside::open(args)?;
    let (now, line) = (now(), line("revoke-sts-tokens", &of, user.as_deref()));
    let working = beside.change(line, move |tx| {
        let account = holder(tx, &of, user.as_deref())?;
        Ok(tx.sts_keys_revoke(account, user.as_deref(), now)?)
    })?;
    say(&json!({ "Revoked": working }).to_string());
    Ok(())
}
