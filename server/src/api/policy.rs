//! Policy documents of RAM users: JSON in, rules of [`updraft_core::policy`] out.
//!
//! What this release cannot decide by (resources other than `*`, conditions, `NotAction`, principals) is refused
//! when a policy is put, by name: a part that was silently ignored would allow more than its author meant.

use serde::Deserialize;
use std::fmt::Write as _;
use updraft_core::limits::{POLICY_CHARS_MAX, SESSION_POLICY_CHARS_MAX};
use updraft_core::policy::{Effect, Pattern, Policy, Statement};
use updraft_core::text;

/// What stands before an operation's name in a policy.
const PRODUCT: &str = "iot:";

/// The action that a policy has to allow for an operation.
pub fn action(operation: &str) -> String {
    format!("{PRODUCT}{operation}")
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(rename = "Version")]
    version: Option<String>,
    #[serde(rename = "Statement")]
    statement: Vec<Entry>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    #[serde(rename = "Effect")]
    effect: Says,
    #[serde(rename = "Action")]
    action: OneOrMore,
    #[serde(rename = "Resource")]
    resource: Option<OneOrMore>,
}

#[derive(Deserialize)]
enum Says {
    Allow,
    Deny,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMore {
    One(String),
    More(Vec<String>),
}

impl OneOrMore {
    fn all(&self) -> &[String] {
        match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::More(texts) => texts,
        }
    }
}

/// Reads a document; says what is wrong with it and what would be right.
pub fn read(document: &str) -> Result<Policy, String> {
    if !text::at_most(document, POLICY_CHARS_MAX) {
        return Err(format!("a policy may have at most {POLICY_CHARS_MAX} characters"));
    }
    let document: Document = serde_json::from_str(document).map_err(|error| explain(&error))?;
    if let Some(version) = document.version.filter(|version| version != "1") {
        return Err(format!("`Version` must be \"1\" or absent, not \"{version}\""));
    }
    if document.statement.is_empty() {
        return Err("`Statement` is empty; to deny everything, say so: {\"Effect\": \"Deny\", \"Action\": \
                    \"*\"}"
            .to_owned());
    }
    let statements =
        document.statement.iter().enumerate().map(|(at, entry)| {
            statement(entry).map_err(|why| format!("statement {} (from 1): {why}", at + 1))
        });
    Ok(Policy { statements: statements.collect::<Result<_, _>>()? })
}

/// Reads the document of a temporary key's session, which has to be shorter.
pub fn read_session(document: &str) -> Result<Policy, String> {
    if !text::at_most(document, SESSION_POLICY_CHARS_MAX) {
        return Err(format!("a session policy may have at most {SESSION_POLICY_CHARS_MAX} characters"));
    }
    read(document)
}

fn explain(error: &serde_json::Error) -> String {
    let mut why = error.to_string();
    for (field, instead) in [
        ("`Condition`", "conditions are not served; split the policy by user instead"),
        ("`NotAction`", "name the actions with `Action`, or deny some with a second statement"),
        ("`NotResource`", "only the resource \"*\" is served"),
        ("`Principal`", "a policy is put to one user, who is its principal"),
    ] {
        if why.starts_with(&format!("unknown field {field}")) {
            let _ = write!(why, ": {instead}");
        }
    }
    why
}

fn statement(entry: &Entry) -> Result<Statement, String> {
    if let Some(resource) = &entry.resource
        && !(resource.all().len() == 1 && resource.all()[0] == "*")
    {
        return Err("`Resource` must be \"*\" or absent: a user's actions are decided for the whole account"
            .to_owned());
    }
    if entry.action.all().is_empty() {
        return Err("`Action` names nothing".to_owned());
    }
    for name in entry.action.all() {
        let rest = name.strip_prefix(PRODUCT);
        let plain = |rest: &str| rest.chars().all(|c| c.is_ascii_alphanumeric() || c == '*' || c == '?');
        if name != "*" && !rest.is_some_and(|rest| !rest.is_empty() && plain(rest)) {
            return Err(format!(
                "the action \"{name}\" is none: it must be \"*\", or \"iot:\" and the name of an operation, in \
                 which * stands for any characters and ? for one"
            ));
        }
    }
    Ok(Statement {
        effect: match entry.effect {
            Says::Allow => Effect::Allow,
            Says::Deny => Effect::Deny,
        },
        actions: entry.action.all().iter().map(|name| Pattern::new(name)).collect(),
    })
}

/// The actions of a document that stand for no operation of this release: perhaps misspelt.
pub fn without_effect(document: &str) -> Vec<String> {
    let Ok(document) = serde_json::from_str::<Document>(document) else { return Vec::new() };
    let names = document.statement.iter().flat_map(|entry| entry.action.all());
    let known = |name: &&String| {
        let pattern = Pattern::new(name);
        crate::api::OPERATIONS.iter().any(|operation| pattern.matches(&action(operation.name)))
    };
    names.filter(|name| !known(name)).cloned().collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn of(statement: &str) -> Result<Policy, String> {
        read(&format!(r#"{{"Version": "1", "Statement": [{statement}]}}"#))
    }

    #[test]
    fn a_document_is_read_as_it_says() {
        let policy = of(
            r#"{"Effect": "Allow", "Action": ["iot:Query*", "iot:ListOTAJobByFirmware"], "Resource": "*"},
                           {"Effect": "Deny", "Action": "iot:QueryProduct?*"}"#,
        )
        .unwrap();
        assert!(policy.allows(&action("QueryOTAJob")) && policy.allows(&action("ListOTAJobByFirmware")));
        assert!(policy.allows(&action("QueryProduct")) && !policy.allows(&action("QueryProductList")));
        assert!(!policy.allows(&action("CreateProduct")));
        assert!(of(r#"{"Effect": "Allow", "Action": "*", "Resource": ["*"]}"#).unwrap().allows("iot:X"));
    }

    #[test]
    fn what_cannot_be_decided_by_is_refused_by_name() {
        for (statement, named) in [
            (r#"{"Effect": "Allow", "Action": "*", "Condition": {}}"#, "conditions are not served"),
            (r#"{"Effect": "Allow", "NotAction": "iot:CreateProduct"}"#, "a second statement"),
            (r#"{"Effect": "Allow", "Action": "*", "NotResource": "*"}"#, "NotResource"),
            (r#"{"Effect": "Allow", "Action": "*", "Principal": "*"}"#, "Principal"),
            (r#"{"Effect": "Allow", "Action": "*", "Resource": "acs:iot:*:*:product/a1"}"#, "`Resource`"),
            (r#"{"Effect": "Allow", "Action": "*", "Resource": []}"#, "`Resource`"),
            (r#"{"Effect": "Allow", "Action": "*", "Resource": ["*", "acs:iot:*"]}"#, "`Resource`"),
            (r#"{"Effect": "allow", "Action": "*"}"#, "allow"),
            (r#"{"Effect": "Allow", "Effect": "Deny", "Action": "*"}"#, "duplicate field"),
            (r#"{"Effect": "Allow"}"#, "Action"),
            (r#"{"Action": "*"}"#, "Effect"),
            (r#"{"Effect": "Allow", "Action": []}"#, "names nothing"),
            (r#"{"Effect": "Allow", "Action": "oss:*"}"#, "oss:*"),
            (r#"{"Effect": "Allow", "Action": "iot:"}"#, "\"iot:\""),
            (r#"{"Effect": "Allow", "Action": "iot:Query OTA"}"#, "iot:Query OTA"),
            ("", "empty"),
        ] {
            let why = of(statement).unwrap_err();
            assert!(why.contains(named), "{statement}: {why}");
        }
        assert!(read(r#"{"Version": "2", "Statement": []}"#).unwrap_err().contains("Version"));
        assert!(read(r#"{"Statement": {"Effect": "Allow", "Action": "*"}}"#).is_err());
        assert!(read(&" ".repeat(POLICY_CHARS_MAX + 1)).unwrap_err().contains("6144"));
        let good = r#"{"Statement": [{"Effect": "Allow", "Action": "*"}]}"#;
        assert!(read_session(&format!("{good:2048}")).is_ok());
        assert!(read_session(&format!("{good:2049}")).unwrap_err().contains("2048"));
        assert!(
            of(r#"{"Effect": "Deny", "Action": "*"},{"Effect": "Allow", "Action": "x"}"#)
                .unwrap_err()
                .starts_with("statement 2")
        );
    }

    #[test]
    fn actions_of_no_operation_are_told() {
        let document =
            r#"{"Statement": [{"Effect": "Allow", "Action": ["iot:Query*", "iot:CreateOTAFirmwre"]}]}"#;
        assert_eq!(without_effect(document), ["iot:CreateOTAFirmwre"]);
    }

    proptest! {
        #[test]
        fn nothing_panics(document in r#"[{}\[\]":,a-zA-Z*?1 ]{0,80}"#) {
            let _ = read(&document);
        }
    }
}
