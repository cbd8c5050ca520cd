//! `updraft account …` and `updraft instance …`: tenants, and the worlds within one.

use crate::cli::out::{Form, Out, Row};
use crate::cli::{
    Beside, account, account_arg, admin, check_name, family, need, now, say, say_secret, switch, text_arg,
};
use anyhow::{Context as _, ensure};
use clap::{ArgMatches, Command};
use serde_json::{Value, json};
use updraft_core::id;
use updraft_server::api::answer::utc;
use updraft_server::setup::{self, fresh_key};
use updraft_store::AuditLine;

/// `updraft account …`.
pub fn account_command() -> Command {
    let name = text_arg("name", "NAME", "Its name: 1 to 64 letters, digits and . - _").required(true);
    family("account", "Accounts: each with keys, users, quotas, products, packages and batches of its own")
        .subcommand(
            admin(
                "create",
                "Makes an account and prints its name and its first access key as JSON. The secret is shown this \
                 once; the key can do everything in the account",
            )
            .arg(name),
        )
        .subcommand(admin("list", "Lists the accounts by age").arg(json_arg()))
}

/// `updraft instance …`.
pub fn instance_command() -> Command {
    let name = text_arg("name", "NAME", "Its name: 1 to 64 letters, digits and . - _").required(true);
    family(
        "instance",
        "Instances: worlds of their own within an account, named by IotInstanceId in a call. Every account has a \
         public one, which calls without IotInstanceId mean",
    )
    .subcommand(
        admin("create", "Makes an instance and prints its IotInstanceId as JSON")
            .arg(name)
            .arg(account_arg()),
    )
    .subcommand(admin("list", "Lists an account's instances by age").arg(account_arg()).arg(json_arg()))
}

/// `--json` of lists.
pub fn json_arg() -> clap::Arg {
    switch("json", "Prints JSON, one object per line, instead of a table")
}

/// The form that `--json` asks for.
pub fn form(args: &ArgMatches) -> Form {
    if args.get_flag("json") { Form::Json } else { Form::Table }
}

/// Runs `updraft account …`.
pub fn run_account(args: &ArgMatches) -> anyhow::Result<()> {
    match args.subcommand() {
        Some(("create", args)) => create_account(args),
        Some(("list", args)) => {
            let accounts = Beside::open(args)?.read(|tx| Ok(tx.account_list()?))?;
            let row = |(name, at)| -> Row { vec![("Account", json!(name)), ("UtcCreate", json!(utc(at)))] };
            let rows: Vec<Row> = accounts.into_iter().map(row).collect();
            Out::new(form(args)).page(&rows)
        }
        _ => Ok(()),
    }
}

/// Runs `updraft instance …`.
pub fn run_instance(args: &ArgMatches) -> anyhow::Result<()> {
    match args.subcommand() {
        Some(("create", args)) => create_instance(args),
        Some(("list", args)) => {
            let name = need(args, "account")?.to_owned();
            let instances = Beside::open(args)?.read(move |tx| {
                let account = account(tx, &name)?;
                Ok(tx.instance_list(account)?)
            })?;
            let rows: Vec<Row> = instances
                .into_iter()
                .map(|instance| {
                    let public = instance.instance_id.is_none();
                    vec![
                        ("IotInstanceId", json!(instance.instance_id)),
                        ("Name", if public { json!("(public)") } else { Value::String(instance.name) }),
                        ("UtcCreate", json!(utc(instance.created_at))),
                    ]
                })
                .collect();
            Out::new(form(args)).page(&rows)
        }
        _ => Ok(()),
    }
}

fn create_account(args: &ArgMatches) -> anyhow::Result<()> {
    let name = need(args, "name")?.to_owned();
    check_name("account", &name)?;
    let beside = Beside::open(args)?;
    let master = beside.master_key()?;
    let key = fresh_key(&beside.random);
    let sealed = setup::seal_key(&master, &key)?;
    let now = now();
    let line = AuditLine {
        account: name.clone(),
        access_key: Some(key.id.clone()),
        action: "account create".to_owned(),
        ..AuditLine::default()
    };
    let wanted = name.clone();
    beside.change(line, move |tx| {
        let account = tx.account_insert(&wanted, now)?;
        let account = account.with_context(|| format!("there is an account {wanted} already"))?;
        Ok(tx.access_key_put(&sealed.of(account, None), now)?)
    })?;
    let made = json!({ "Account": name, "AccessKeyId": key.id, "AccessKeySecret": key.secret });
    say_secret(&made.to_string(), &name, &key.id)
}

fn create_instance(args: &ArgMatches) -> anyhow::Result<()> {
    let (name, of) = (need(args, "name")?.to_owned(), need(args, "account")?.to_owned());
    check_name("instance", &name)?;
    let beside = Beside::open(args)?;
    let instance_id = id::instance_id(&beside.random.bytes("instance_id"));
    let now = now();
    let line = AuditLine {
        account: of.clone(),
        instance: instance_id.clone(),
        action: "instance create".to_owned(),
        subject: format!("Name={name}"),
        ..AuditLine::default()
    };
    let (new, wanted) = (instance_id.clone(), name.clone());
    beside.change(line, move |tx| {
        let account = account(tx, &of)?;
        let made = tx.instance_insert(account, &new, &wanted, now)?;
        ensure!(made.is_some(), "the account {of} has an instance {wanted} already");
        Ok(())
    })?;
    say(&json!({ "IotInstanceId": instance_id, "Name": name }).to_string());
    Ok(())
}
