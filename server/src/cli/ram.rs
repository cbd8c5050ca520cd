//! `updraft ram …`: RAM users and access keys; policies are in `policy.rs`.

use crate::cli::account::{form, json_arg};
use crate::cli::out::{Out, Row};
use crate::cli::{
    Beside, account, account_arg, admin, check_name, complain, family, limit_flags, need, now, policy, say,
    say_secret, sts, switch, text, text_arg,
};
use anyhow::{Context as _, ensure};
use clap::{Arg, ArgMatches, Command};
use serde_json::json;
use updraft_core::id::AccountNo;
use updraft_server::api::answer::utc;
use updraft_server::config::Config;
use updraft_server::setup::{self, NewKey, fresh_key};
use updraft_store::{AccessKey, AuditLine, Tx};

/// What stands in place of a RAM user's name for keys of the account itself.
const ROOT: &str = "(root)";

/// `--user`.
pub fn user_arg() -> Arg {
    text_arg("user", "NAME", "The RAM user: 1 to 64 letters, digits and . - _")
}

/// `updraft ram …`.
pub fn command() -> Command {
    let ram = |name, about| admin(name, about).arg(account_arg());
    let root = || switch("root", "The account itself instead of a user").conflicts_with("user");
    let force = |help| switch("force", help);
    let key = || Arg::new("id").value_name("ACCESS_KEY_ID").required(true).help("The key's AccessKeyId");
    let last = || force("Also if it is the last key with which the account itself can act");
    family(
        "ram",
        "RAM users, their access keys and policies. Changes act within a second on a running server. A user \
         WITHOUT a policy can do everything in the account, as the account's own key always can; with a policy \
         only what it allows. All users of an account share its quotas",
    )
    .subcommand(limit_flags(
        ram("create-user", "Makes a RAM user; it can do everything until it has a policy")
            .arg(user_arg().required(true)),
    ))
    .subcommand(ram("list-users", "Lists the RAM users by name").arg(json_arg()))
    .subcommand(
        ram("delete-user", "Deletes a RAM user with its policy, its disabled keys and its temporary keys")
            .arg(user_arg().required(true))
            .arg(force("Also if it has keys that still work; they die with it")),
    )
    .subcommand(limit_flags(
        ram(
            "create-access-key",
            "Makes an access key and prints it as JSON; the secret is shown this once. Works beside a running \
             server. The RAM user is made if there is none. A user without a policy has full access to the account",
        )
        .arg(user_arg().required_unless_present("root"))
        .arg(root()),
    ))
    .subcommand(
        ram("list-access-keys", "Lists access keys, without their secrets")
            .arg(user_arg())
            .arg(root())
            .arg(json_arg()),
    )
    .subcommand(ram("disable-access-key", "Switches a key off; enable-access-key undoes it").arg(key()).arg(last()))
    .subcommand(ram("enable-access-key", "Switches a key on again").arg(key()))
    .subcommand(ram("delete-access-key", "Deletes a key for good").arg(key()).arg(last()))
    .subcommand(limit_flags(
        ram(
            "rotate-access-key",
            "Makes a second key of the same holder and prints it as JSON. The old one works on, so that a back \
             end can switch without an outage: rotate, give the back end the new key, disable-access-key the old \
             one, watch, delete-access-key it",
        )
        .arg(key())
        .arg(force("Also if the old key is disabled; the new one is not")),
    ))
    .subcommands(sts::commands())
    .subcommands(policy::commands())
}

/// Runs `updraft ram …`.
pub fn run(args: &ArgMatches) -> anyhow::Result<()> {
    match args.subcommand() {
        Some(("create-user", args)) => create_user(args),
        Some(("list-users", args)) => list_users(args),
        Some(("delete-user", args)) => delete_user(args),
        Some(("create-access-key", args)) => create_key(args),
        Some(("list-access-keys", args)) => list_keys(args),
        Some(("disable-access-key", args)) => change_key(args, KeyChange::Disable),
        Some(("enable-access-key", args)) => change_key(args, KeyChange::Enable),
        Some(("delete-access-key", args)) => change_key(args, KeyChange::Delete),
        Some(("rotate-access-key", args)) => rotate_key(args),
        Some((name @ ("create-sts-token" | "revoke-sts-tokens"), args)) => sts::run(name, args),
        Some((name, args)) => policy::run(name, args),
        None => Ok(()),
    }
}

/// The line of a command about a RAM user.
pub fn line(action: &str, account: &str, user: Option<&str>) -> AuditLine {
    AuditLine {
        account: account.to_owned(),
        ram_user: user.map(str::to_owned),
        action: format!("ram {action}"),
        ..AuditLine::default()
    }
}

fn check_user_count(tx: &mut Tx<'_>, config: &Config, of: AccountNo) -> anyhow::Result<()> {
    let max = config.ram_user_max;
    ensure!(
        tx.ram_user_count(of)? < max,
        "the account has {max} RAM users, as many as it may have: delete one, or raise ram_user_max (--ram-user-max, \
         UPDRAFT_RAM_USER_MAX or --config of this command)"
    );
    Ok(())
}

fn check_key_count(
    tx: &mut Tx<'_>,
    config: &Config,
    of: AccountNo,
    user: Option<&str>,
) -> anyhow::Result<()> {
    let max = config.access_key_max;
    ensure!(
        tx.access_key_count(of, user)?.0 < max,
        "{} has {max} access keys, as many as it may have: delete one that is not used any more, or raise \
         access_key_max (--access-key-max, UPDRAFT_ACCESS_KEY_MAX or --config of this command)",
        user.unwrap_or(ROOT)
    );
    Ok(())
}

fn create_user(args: &ArgMatches) -> anyhow::Result<()> {
    let (user, of) = (need(args, "user")?.to_owned(), need(args, "account")?.to_owned());
    check_name("user", &user)?;
    let beside = Beside::open(args)?;
    let (now, config) = (now(), beside.config.clone());
    let wanted = user.clone();
    beside.change(line("create-user", &of, Some(&user)), move |tx| {
        let account = account(tx, &of)?;
        check_user_count(tx, &config, account)?;
        ensure!(tx.ram_user_insert(account, &wanted, now)?, "the account {of} has a user {wanted} already");
        Ok(())
    })?;
    say(&json!({ "RamUser": user }).to_string());
    Ok(())
}

fn list_users(args: &ArgMatches) -> anyhow::Result<()> {
    let of = need(args, "account")?.to_owned();
    let users = Beside::open(args)?.read(move |tx| {
        let account = account(tx, &of)?;
        Ok(tx.ram_user_list(account)?)
    })?;
    let rows: Vec<Row> = users
        .into_iter()
        .map(|user| {
            let access = if user.policy.is_some() { "policy" } else { "everything" };
            vec![
                ("RamUser", json!(user.name)),
                ("Access", json!(access)),
                ("AccessKeys", json!(user.keys)),
                ("UtcCreate", json!(utc(user.created_at))),
            ]
        })
        .collect();
    Out::new(form(args)).page(&rows)
}

fn delete_user(args: &ArgMatches) -> anyhow::Result<()> {
    let (user, of) = (need(args, "user")?.to_owned(), need(args, "account")?.to_owned());
    let force = args.get_flag("force");
    let beside = Beside::open(args)?;
    beside.change(line("delete-user", &of, Some(&user)), move |tx| {
        let account = account(tx, &of)?;
        let working = tx.access_key_count(account, Some(&user))?.1;
        ensure!(
            working == 0 || force,
            "{user} has {working} access keys that still work; disable them first, or give --force"
        );
        ensure!(tx.ram_user_delete(account, &user)?, "the account {of} has no user {user}");
        Ok(())
    })
}

fn create_key(args: &ArgMatches) -> anyhow::Result<()> {
    let of = need(args, "account")?;
    let user = text(args, "user");
    if let Some(user) = user {
        check_name("user", user)?;
    }
    let beside = Beside::open(args)?;
    let (owner, user) = (of.to_owned(), text(args, "user").map(str::to_owned));
    let (config, now) = (beside.config.clone(), now());
    let (key, holder) = put_new_key(&beside, line("create-access-key", of, None), move |tx| {
        let account = account(tx, &owner)?;
        let made = match &user {
            Some(user) if tx.ram_user_find(account, user)?.is_none() => {
                check_user_count(tx, &config, account)?;
                tx.ram_user_insert(account, user, now)?
            }
            _ => false,
        };
        Ok(Holder { account, user: user.clone(), made })
    })?;
    if let Some(user) = holder.user.filter(|_| holder.made) {
        complain(&format!(
            "note: the RAM user {user} did not exist and was made, without a policy: it can do everything in the \
             account until `ram put-policy` says otherwise"
        ));
    }
    say_secret(&key.json(), of, &key.id)
}

/// Who gets a new key.
struct Holder {
    account: AccountNo,
    user: Option<String>,
    /// Whether the user was made for it.
    made: bool,
}

/// Makes and stores a key of the holder that is found, in the same transaction.
fn put_new_key(
    beside: &Beside,
    line: AuditLine,
    find: impl Fn(&mut Tx<'_>) -> anyhow::Result<Holder> + Send + 'static,
) -> anyhow::Result<(NewKey, Holder)> {
    let key = fresh_key(&beside.random);
    let sealed = setup::seal_key(&beside.master_key()?, &key)?;
    let line = AuditLine { access_key: Some(key.id.clone()), ..line };
    let (now, config) = (now(), beside.config.clone());
    let holder = beside.change_told(line, move |tx, line| {
        let holder = find(tx)?;
        line.ram_user.clone_from(&holder.user);
        check_key_count(tx, &config, holder.account, holder.user.as_deref())?;
        tx.access_key_put(&sealed.of(holder.account, holder.user.clone()), now)?;
        Ok(holder)
    })?;
    Ok((key, holder))
}

fn list_keys(args: &ArgMatches) -> anyhow::Result<()> {
    let of = need(args, "account")?.to_owned();
    let keys = Beside::open(args)?.read(move |tx| {
        let account = account(tx, &of)?;
        Ok(tx.access_key_list(account)?)
    })?;
    let (user, root) = (text(args, "user"), args.get_flag("root"));
    let rows: Vec<Row> = keys
        .into_iter()
        .filter(|key| user.is_none_or(|user| key.ram_user.as_deref() == Some(user)))
        .filter(|key| !root || key.ram_user.is_none())
        .map(|key| {
            vec![
                ("AccessKeyId", json!(key.id)),
                ("RamUser", json!(key.ram_user.unwrap_or_else(|| ROOT.to_owned()))),
                ("Status", json!(if key.enabled { "Active" } else { "Inactive" })),
                ("UtcCreate", json!(utc(key.created_at))),
            ]
        })
        .collect();
    Out::new(form(args)).page(&rows)
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum KeyChange {
    Disable,
    Enable,
    Delete,
}

/// The account's key of this id.
fn find_key(tx: &mut Tx<'_>, of: &str, id: &str) -> anyhow::Result<AccessKey> {
    let account = account(tx, of)?;
    tx.access_key_find(id)?.filter(|key| key.account == account).with_context(|| {
        format!("the account {of} has no access key {id}; `ram list-access-keys` shows them")
    })
}

fn change_key(args: &ArgMatches, change: KeyChange) -> anyhow::Result<()> {
    let (id, of) = (need(args, "id")?.to_owned(), need(args, "account")?.to_owned());
    let force = change != KeyChange::Enable && args.get_flag("force");
    let action = match change {
        KeyChange::Disable => "disable-access-key",
        KeyChange::Enable => "enable-access-key",
        KeyChange::Delete => "delete-access-key",
    };
    let line = AuditLine { access_key: Some(id.clone()), ..line(action, &of, None) };
    Beside::open(args)?.change_told(line, move |tx, line| {
        let key = find_key(tx, &of, &id)?;
        line.ram_user.clone_from(&key.ram_user);
        if change == KeyChange::Enable {
            return Ok(tx.access_key_switch(&id, true)?);
        }
        let last = key.enabled && key.ram_user.is_none() && tx.access_key_count(key.account, None)?.1 == 1;
        ensure!(
            !last || force,
            "{id} is the last key with which the account {of} itself can act; make another one first \
             (`ram create-access-key --root`), or give --force"
        );
        if change == KeyChange::Disable {
            tx.access_key_switch(&id, false)?;
        } else {
            tx.access_key_delete(&id)?;
        }
        Ok(())
    })
}

fn rotate_key(args: &ArgMatches) -> anyhow::Result<()> {
    let (id, of) = (need(args, "id")?.to_owned(), need(args, "account")?.to_owned());
    let force = args.get_flag("force");
    let beside = Beside::open(args)?;
    let line = AuditLine { subject: format!("OldAccessKeyId={id}"), ..line("rotate-access-key", &of, None) };
    let owner = of.clone();
    let (key, _) = put_new_key(&beside, line, move |tx| {
        let old = find_key(tx, &owner, &id)?;
        ensure!(
            old.enabled || force,
            "{id} is disabled, and the new key would not be; enable-access-key it first, or give --force"
        );
        if let Some(user) = &old.ram_user {
            let found = tx.ram_user_find(old.account, user)?;
            ensure!(found.is_some(), "the account {owner} has no user {user}, who held {id}");
        }
        Ok(Holder { account: old.account, user: old.ram_user, made: false })
    })?;
    say_secret(&key.json(), &of, &key.id)
}
