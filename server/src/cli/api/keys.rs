//! Whose key signs: flags, the environment, the credentials file that Alibaba Cloud's SDKs read, or the root key of
//! a server on this machine, in this order; a profile named by a flag goes before the environment.

use crate::cli::{complain, owned, text};
use anyhow::{Context as _, bail, ensure};
use clap::ArgMatches;
use serde_json::Value;
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

const ID: &str = "ALIBABA_CLOUD_ACCESS_KEY_ID";
const SECRET: &str = "ALIBABA_CLOUD_ACCESS_KEY_SECRET";
const TOKEN: &str = "ALIBABA_CLOUD_SECURITY_TOKEN";
const FILE: &str = "ALIBABA_CLOUD_CREDENTIALS_FILE";
const PROFILE: &str = "ALIBABA_CLOUD_PROFILE";

/// A key, and where it was found.
pub struct Key {
    /// AccessKeyId.
    pub id: String,
    /// AccessKeySecret.
    pub secret: String,
    /// SecurityToken, of a temporary key.
    pub token: Option<String>,
    /// Where it was found, for messages.
    pub from: String,
}

/// Finds a key; `local`: the data folder of the server that is called, if it is on this machine.
pub fn find(args: &ArgMatches, local: Option<&Path>) -> anyhow::Result<Key> {
    if let Some(key) = of_flags(args)? {
        return Ok(key);
    }
    let env = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
    let flag = owned(args, "profile");
    match (env(ID), env(SECRET)) {
        _ if flag.is_some() => {}
        (Some(id), Some(secret)) => {
            return Ok(Key { id, secret, token: env(TOKEN), from: "the environment".to_owned() });
        }
        (None, None) => {}
        _ => bail!("{ID} and {SECRET} go together: set both or neither"),
    }
    let profile = flag.or_else(|| env(PROFILE));
    let file = env(FILE)
        .map(PathBuf::from)
        .or_else(|| Some(std::env::home_dir()?.join(".alibabacloud").join("credentials.ini")));
    if let Some(file) = file {
        // Somebody who named a profile or a file wants it; else the file may be missing.
        let wanted = profile.is_some() || env(FILE).is_some();
        if wanted || file.exists() {
            let name = profile.as_deref().unwrap_or("default");
            let found = of_file(&file, name)?;
            ensure!(found.is_some() || !wanted, "{} has no profile [{name}]", file.display());
            if let Some(key) = found {
                return Ok(key);
            }
        }
    }
    let Some(file) = local.map(|folder| folder.join("root-access-key.json")).filter(|file| file.exists())
    else {
        bail!(
            "there is no access key: set {ID} and {SECRET}, or write them to ~/.alibabacloud/credentials.ini, or give \
             the --data-dir of a server on this machine to act as its root account"
        );
    };
    of_root_file(&file)
}

/// A secret on the command line is seen by everybody on the machine.
fn of_flags(args: &ArgMatches) -> anyhow::Result<Option<Key>> {
    let (id, secret) = (text(args, "access-key-id"), text(args, "access-key-secret"));
    match (id, secret) {
        (Some(id), Some(secret)) => {
            complain(&format!(
                "note: other users of this machine can see a secret in the command line; {SECRET} in the environment or \
                 a credentials file hides it"
            ));
            let token = owned(args, "security-token");
            Ok(Some(Key {
                id: id.to_owned(),
                secret: secret.to_owned(),
                token,
                from: "the flags".to_owned(),
            }))
        }
        (None, None) => Ok(None),
        _ => bail!("--access-key-id and --access-key-secret go together: give both or neither"),
    }
}

/// The key of a file as the first start of a server writes it: JSON with AccessKeyId and AccessKeySecret.
pub fn of_root_file(file: &Path) -> anyhow::Result<Key> {
    let text = std::fs::read_to_string(file)
        .with_context(|| format!("cannot read the root key {}", file.display()))?;
    let key: Value = serde_json::from_str(&text).unwrap_or_default();
    let field = |name: &str| {
        let value = key[name].as_str().map(str::to_owned);
        value.with_context(|| format!("{} has no {name}", file.display()))
    };
    let (id, secret) = (field("AccessKeyId")?, field("AccessKeySecret")?);
    Ok(Key { id, secret, token: None, from: file.display().to_string() })
}

/// The key of a profile; `None` if the file has no such profile.
fn of_file(file: &Path, profile: &str) -> anyhow::Result<Option<Key>> {
    let text = std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let Some(section) = sections(&text).remove(profile) else { return Ok(None) };
    let of = |name: &str| section.get(name).filter(|value| !value.is_empty()).cloned();
    let place = format!("[{profile}] of {}", file.display());
    let kind = of("type").unwrap_or_default();
    ensure!(
        matches!(kind.as_str(), "access_key" | "sts"),
        "{place} has the type `{kind}`; this command can use access_key and sts"
    );
    let need = |name: &str| of(name).with_context(|| format!("{place} has no {name}"));
    let token = if kind == "sts" { Some(need("security_token")?) } else { None };
    Ok(Some(Key { id: need("access_key_id")?, secret: need("access_key_secret")?, token, from: place }))
}

/// An INI file as the SDKs read it: `name = value` or `name: value`, names in any capitals, and a `#` ends a value.
fn sections(text: &str) -> BTreeMap<String, BTreeMap<String, String>> {
    let mut all: BTreeMap<String, BTreeMap<String, String>> = BTreeMap::new();
    let mut open: Option<String> = None;
    for line in text.lines().map(str::trim).filter(|line| !line.starts_with(['#', ';'])) {
        if let Some(name) = line.strip_prefix('[').and_then(|line| line.split(']').next()) {
            all.entry(name.to_owned()).or_default();
            open = Some(name.to_owned());
        } else if let (Some(open), Some((name, value))) = (&open, line.split_once(['=', ':'])) {
            let value = value.split('#').next().unwrap_or_default().trim().to_owned();
            all.entry(open.clone()).or_default().insert(name.trim().to_lowercase(), value);
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const INI: &str = "# mine\n[default]\nenable = true\ntype = access_key  # a lasting one\naccess_key_id = me\n\
                       ACCESS_KEY_SECRET: s=cret\n\n[build]\ntype = sts\naccess_key_id=STS.x\naccess_key_secret=y\n\
                       security_token=z\n[role]\ntype = ram_role_arn\n[half]\ntype = access_key\naccess_key_id = a\n";

    #[test]
    fn profiles_are_read_as_the_sdks_read_them() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("credentials.ini");
        std::fs::write(&file, INI).unwrap();
        let key = of_file(&file, "default").unwrap().unwrap();
        assert_eq!((key.id.as_str(), key.secret.as_str(), key.token), ("me", "s=cret", None));
        let key = of_file(&file, "build").unwrap().unwrap();
        assert_eq!((key.id.as_str(), key.token.as_deref()), ("STS.x", Some("z")));
        assert!(of_file(&file, "other").unwrap().is_none());
        for (profile, named) in [("role", "`ram_role_arn`"), ("half", "access_key_secret")] {
            let why = of_file(&file, profile).err().unwrap().to_string();
            assert!(why.contains(named) && why.contains(profile), "{why}");
        }
    }

    proptest! {
        #[test]
        fn nothing_panics(text in r"[\[\]=:#; a-z\n]{0,80}") {
            let _ = sections(&text);
        }
    }
}
