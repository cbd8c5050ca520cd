//! Policies of RAM users: which actions a user may take.
//!
//! A decision looks at a policy and the name of an action, and at nothing else. An explicit deny wins over every
//! allow; what no statement names is denied. That a user without any policy may do everything is the caller's
//! rule ([`permits`]), since there is no policy to ask.

/// What a statement says of the actions that it names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// They may be taken, unless another statement denies them.
    Allow,
    /// They may not be taken, whatever else is said.
    Deny,
}

/// The name of an action, or a pattern of names: `*` stands for any characters or none, `?` for exactly one.
/// Capitals do not matter.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern(Vec<u8>);

/// Some actions, and whether they are allowed or denied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Statement {
    /// What it says of them.
    pub effect: Effect,
    /// The actions; one match is enough.
    pub actions: Vec<Pattern>,
}

/// All statements about one user.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Policy {
    /// In no particular order.
    pub statements: Vec<Statement>,
}

impl Pattern {
    /// Reads a pattern.
    pub fn new(text: &str) -> Self {
        Self(text.to_ascii_lowercase().into_bytes())
    }

    /// Whether it stands for this name. Takes at most (length of the pattern) × (length of the name) steps.
    pub fn matches(&self, name: &str) -> bool {
        let (pattern, name) = (self.0.as_slice(), name.as_bytes());
        let (mut at, mut in_name) = (0, 0);
        // Where to go on after the last star, if what was tried behind it does not fit.
        let mut star: Option<(usize, usize)> = None;
        while in_name < name.len() {
            match pattern.get(at) {
                Some(b'*') => {
                    star = Some((at, in_name));
                    at += 1;
                }
                Some(wanted) if *wanted == b'?' || *wanted == name[in_name].to_ascii_lowercase() => {
                    at += 1;
                    in_name += 1;
                }
                _ => {
                    // Back to the star, which stands for one letter more.
                    let Some((of, upto)) = star else { return false };
                    (at, in_name) = (of, upto + 1);
                }
            }
        }
        pattern[at..].iter().all(|rest| *rest == b'*')
    }
}

impl Policy {
    /// Whether the action (`iot:QueryOTAJob`) may be taken.
    pub fn allows(&self, action: &str) -> bool {
        let says = |effect| {
            let mut of = self.statements.iter().filter(|statement| statement.effect == effect);
            of.any(|statement| statement.actions.iter().any(|pattern| pattern.matches(action)))
        };
        !says(Effect::Deny) && says(Effect::Allow)
    }
}

/// Whether somebody with this policy may take the action; without any policy everything may be done.
pub fn permits(policy: Option<&Policy>, action: &str) -> bool {
    policy.is_none_or(|policy| policy.allows(action))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn policy(statements: &[(Effect, &[&str])]) -> Policy {
        let statement = |(effect, actions): &(Effect, &[&str])| Statement {
            effect: *effect,
            actions: actions.iter().map(|text| Pattern::new(text)).collect(),
        };
        Policy { statements: statements.iter().map(statement).collect() }
    }

    #[test]
    fn patterns_match_as_the_table_says() {
        for (pattern, name, expected) in [
            ("iot:QueryOTAJob", "iot:QueryOTAJob", true),
            ("iot:queryotajob", "iot:QueryOTAJob", true),
            ("iot:QueryOTAJob", "iot:QueryOTAJobs", false),
            ("iot:QueryOTAJob", "iot:QueryOTAJo", false),
            ("iot:Query*", "iot:QueryOTAJob", true),
            ("iot:Query*", "iot:ListOTAJobByFirmware", false),
            ("iot:*Job", "iot:QueryOTAJob", true),
            ("iot:*Job", "iot:CancelOTATaskByJob", true),
            ("iot:*Job", "iot:ListOTAJobByFirmware", false),
            ("iot:*OTA*Job*", "iot:ListOTAJobByFirmware", true),
            ("iot:QueryOTAJo?", "iot:QueryOTAJob", true),
            ("iot:QueryOTAJob?", "iot:QueryOTAJob", false),
            ("*", "iot:QueryOTAJob", true),
            ("*", "", true),
            ("**", "x", true),
            ("?", "", false),
            ("", "", true),
            ("", "x", false),
            ("a*b*c", "abbbcbc", true),
            ("a*b*c", "abbbcb", false),
        ] {
            assert_eq!(Pattern::new(pattern).matches(name), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn decisions_are_as_the_table_says() {
        use Effect::{Allow, Deny};
        /// Statements, and whether they let a call through.
        type Row = (&'static [(Effect, &'static [&'static str])], bool);
        let table: [Row; 8] = [
            (&[], false),
            (&[(Allow, &["iot:A"])], true),
            (&[(Allow, &["iot:B"])], false),
            (&[(Allow, &["iot:B", "iot:A"])], true),
            (&[(Deny, &["iot:A"])], false),
            (&[(Allow, &["*"]), (Deny, &["iot:A"])], false),
            (&[(Deny, &["iot:*"]), (Allow, &["iot:A"])], false),
            (&[(Deny, &["iot:B"]), (Allow, &["iot:*"])], true),
        ];
        for (statements, expected) in table {
            assert_eq!(policy(statements).allows("iot:A"), expected, "{statements:?}");
        }
        assert!(permits(None, "iot:A"));
        assert!(!permits(Some(&Policy::default()), "iot:A"));
    }

    /// The meaning of patterns, said as briefly as possible.
    fn meaning(pattern: &[u8], name: &[u8]) -> bool {
        match (pattern.split_first(), name.split_first()) {
            (None, None) => true,
            (Some((b'*', rest)), _) => (0..=name.len()).any(|skip| meaning(rest, &name[skip..])),
            (Some((first, rest)), Some((letter, tail))) => {
                (*first == b'?' || first.eq_ignore_ascii_case(letter)) && meaning(rest, tail)
            }
            _ => false,
        }
    }

    fn statements() -> impl Strategy<Value = Policy> {
        let actions = proptest::collection::vec("[aAb*?]{0,4}", 0..3);
        let statement = (any::<bool>(), actions).prop_map(|(allow, actions)| Statement {
            effect: if allow { Effect::Allow } else { Effect::Deny },
            actions: actions.iter().map(|text| Pattern::new(text)).collect(),
        });
        proptest::collection::vec(statement, 0..5).prop_map(|statements| Policy { statements })
    }

    proptest! {
        #[test]
        fn a_pattern_matches_what_it_means(pattern in "[aAb*?]{0,8}", name in "[aAb]{0,8}") {
            prop_assert_eq!(Pattern::new(&pattern).matches(&name), meaning(pattern.as_bytes(), name.as_bytes()));
        }

        #[test]
        fn a_deny_never_gives_and_an_allow_never_takes(policy in statements(), more in "[ab*?]{0,4}", name in "[ab]{0,4}") {
            let with = |effect| {
                let mut policy = policy.clone();
                policy.statements.push(Statement { effect, actions: vec![Pattern::new(&more)] });
                policy.allows(&name)
            };
            prop_assert!(policy.allows(&name) || !with(Effect::Deny));
            prop_assert!(!policy.allows(&name) || with(Effect::Allow));
        }

        #[test]
        fn the_order_of_statements_does_not_matter(policy in statements(), name in "[ab]{0,4}") {
            let mut turned = policy.clone();
            turned.statements.reverse();
            prop_assert_eq!(policy.allows(&name), turned.allows(&name));
        }
    }
}
