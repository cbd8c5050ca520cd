//! `updraft ram put-policy`, `get-policy`, `delete-policy`.

use crate::cli::ram::{line, user_arg};
use crate::cli::{Beside, account, account_arg, admin, complain, need, say, text_arg};
use anyhow::{Context as _, ensure};
use clap::{ArgMatches, Command};
use std::io::Read as _;
use updraft_core::limits::POLICY_CHARS_MAX;
use updraft_server::api::policy;

/// The commands.
pub fn commands() -> [Command; 3] {
    let of_user = |name, about| admin(name, about).arg(account_arg()).arg(user_arg().required(true));
    [
        of_user(
            "put-policy",
            "Gives a RAM user a policy, in place of the one it has. From then on the user can do only what it \
             allows: {\"Version\": \"1\", \"Statement\": [{\"Effect\": \"Allow\", \"Action\": [\"iot:Query*\", \
             \"iot:ListOTAJobByFirmware\"], \"Resource\": \"*\"}]}. An action is iot: and an operation's name; * \
             stands for any characters, ? for one. A Deny wins over every Allow. Resources other than *, \
             conditions and NotAction are refused",
        )
        .arg(text_arg("file", "FILE", "The policy as JSON; - reads it from standard input").required(true)),
        of_user("get-policy", "Prints a RAM user's policy as it was put"),
        of_user(
            "delete-policy",
            "Takes a RAM user's policy away. A user WITHOUT a policy can do everything in the account; to shut a \
             user out, disable its keys and revoke its temporary ones",
        ),
    ]
}

/// Runs one of them.
pub fn run(name: &str, args: &ArgMatches) -> anyhow::Result<()> {
    match name {
        "put-policy" => put(args),
        "get-policy" => get(args),
        _ => delete(args),
    }
}

fn put(args: &ArgMatches) -> anyhow::Result<()> {
    let (user, of) = (need(args, "user")?.to_owned(), need(args, "account")?.to_owned());
    let document = read(need(args, "file")?)?;
    policy::read(&document).map_err(|why| anyhow::anyhow!("the policy is refused: {why}"))?;
    for action in policy::without_effect(&document) {
        complain(&format!("note: {action} is no operation of this release; is it misspelt?"));
    }
    let beside = Beside::open(args)?;
    beside.change(line("put-policy", &of, Some(&user)), move |tx| {
        let account = account(tx, &of)?;
        ensure!(
            tx.ram_user_policy_set(account, &user, Some(&document))?,
            "the account {of} has no user {user}; make it with `ram create-user`"
        );
        Ok(())
    })
}

/// A policy's text; one that is far too long is not read to its end.
pub fn read(file: &str) -> anyhow::Result<String> {
    let most = 4 * POLICY_CHARS_MAX as u64 + 1;
    let mut document = String::new();
    if file == "-" {
        std::io::stdin().take(most).read_to_string(&mut document).context("cannot read the policy")?;
    } else {
        let opened = std::fs::File::open(file).with_context(|| format!("cannot read {file}"))?;
        opened.take(most).read_to_string(&mut document).with_context(|| format!("cannot read {file}"))?;
    }
    Ok(document)
}

fn get(args: &ArgMatches) -> anyhow::Result<()> {
    let (user, of) = (need(args, "user")?.to_owned(), need(args, "account")?.to_owned());
    let wanted = user.clone();
    let found = Beside::open(args)?.read(move |tx| {
        let account = account(tx, &of)?;
        tx.ram_user_find(account, &wanted)?.with_context(|| format!("the account {of} has no user {wanted}"))
    })?;
    let policy = found.policy.with_context(|| format!("{user} has no policy, so it can do everything"))?;
    say(policy.trim_end());
    Ok(())
}

fn delete(args: &ArgMatches) -> anyhow::Result<()> {
    let (user, of) = (need(args, "user")?.to_owned(), need(args, "account")?.to_owned());
    let wanted = user.clone();
    let beside = Beside::open(args)?;
    beside.change(line("delete-policy", &of, Some(&user)), move |tx| {
        let account = account(tx, &of)?;
        let found = tx.ram_user_find(account, &wanted)?;
        let found = found.with_context(|| format!("the account {of} has no user {wanted}"))?;
        ensure!(found.policy.is_some(), "{wanted} has no policy");
        tx.ram_user_policy_set(account, &wanted, None)?;
        Ok(())
    })?;
    complain(&format!("note: {user} can do everything in the account now"));
    Ok(())
}
