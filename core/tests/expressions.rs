//! Expressions of dynamic groups: what they mean, what is refused and where, and that printing loses nothing.

use proptest::prelude::*;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use updraft_core::group::expression::{Expression, Facts, Field, Test, order};
use updraft_core::limits::{EXPRESSION_CHARS_MAX, EXPRESSION_DEPTH_MAX};

fn texts(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn lamp() -> Facts {
    Facts {
        product_key: "a1lamp".to_owned(),
        name: "lamp-007".to_owned(),
        status: "ONLINE",
        tags: texts(&[("city", "Hangzhou"), ("floor", "10"), ("a key", "it's")]),
        versions: texts(&[("default", "1.10.0"), ("mcu", "2.0")]),
    }
}

fn matches(text: &str) -> bool {
    Expression::parse(text).unwrap_or_else(|error| panic!("{text}: {error}")).matches(&lamp())
}

#[test]
fn conditions_mean_what_they_say() {
    for text in [
        "product_key = 'a1lamp'",
        "product_key=\"a1lamp\" and name='lamp-007'",
        "device_name like 'lamp-%' AND tag.city = 'Hangzhou'",
        "name like '%007' and name like '%-%' and name like 'l%p%7' and name like 'lamp-007' and name like '%'",
        "status = 'ONLINE' and status != 'OFFLINE' and status in ('OFFLINE', 'ONLINE')",
        "version >= '1.9.0' and version < '1.11' and version <= '1.10.0' and version > '1.2'",
        "version.mcu = '2.0' and not version.radio = '1.0'",
        "tag.floor > '9' and tag.floor not in ('1', '2')",
        "tag.'a key' = 'it''s' and tag.\"a key\" = \"it's\"",
        "tag.nothing != 'x' and tag.nothing not in ('x') and tag.nothing not like 'x%'",
        "not (tag.nothing = 'x' or tag.nothing < 'x' or tag.nothing <= 'x' or tag.nothing >= 'x')",
        "tag.tag_name = 'city' and tag.tag_value = 'Hangzhou'",
        "tag.tag_name = 'city' and tag.tag_value like 'Hang%' and product_key = 'a1lamp'",
        "ota_module.name = 'mcu' and ota_module.version = '2.0'",
        "ota_module.name = 'mcu' and not ota_module.name = 'radio'",
        // `and` binds closer than `or`, and `not` closer than both.
        "name = 'lamp-007' or name = 'x' and name = 'y'",
        "not name = 'x' and name = 'lamp-007'",
        "not not name <> 'x'",
    ] {
        assert!(matches(text), "{text}");
    }
    for text in [
        "product_key = 'A1LAMP'",
        "name like 'lamp' or name like '%l%l%' or name like 'lamp-007%7'",
        "(name = 'lamp-007' or name = 'x') and name = 'y'",
        "version > '1.10.0'",
        "tag.tag_name = 'city' and tag.tag_value = '10'",
        "tag.tag_name = 'nothing'",
    ] {
        assert!(!matches(text), "{text}");
    }
}

#[test]
fn an_error_says_where_and_what() {
    for (text, at, part) in [
        ("", 1, "a condition on product_key"),
        ("name", 5, "=, !=, <, <=, >, >=, in, like"),
        ("name = lamp", 8, "a text in quotes"),
        ("name = 'lamp", 13, "`'`, which ends the text"),
        ("name = 'a' name = 'b'", 12, "`and`, `or` or the end"),
        ("name = 'a' and", 15, "a condition on"),
        ("colour = 'red'", 1, "a condition on"),
        ("(name = 'a'", 12, "`)`"),
        ("name in ('a' 'b')", 14, "`)`"),
        ("name in ()", 10, "a text in quotes"),
        ("name not = 'a'", 10, "`in` or `like`"),
        ("status = 'AWAY'", 8, "'DISABLE'"),
        ("status like 'ON%'", 8, "after `status`"),
        ("tag. = 'x'", 6, "a text in quotes"),
        ("tag.tag_value = 'x'", 1, "`tag.tag_name = '…' and` before"),
        ("tag.tag_name != 'x'", 14, "`=`"),
        ("ota_module.version = 'x'", 1, "before `ota_module.version`"),
        ("路 = 'x' ; name = 'y'", 9, "a field, a text"),
    ] {
        let error = Expression::parse(text).expect_err(text);
        assert!(error.at == at && error.expected.contains(part), "{text}: {error}");
    }
}

#[test]
fn an_error_repeats_only_the_beginning_of_what_it_found() {
    let error = Expression::parse(&"路".repeat(41)).unwrap_err();
    assert_eq!(error.found, format!("`{}…`", "路".repeat(40)));
    let error = Expression::parse(&format!("'{}'", "x".repeat(40))).unwrap_err();
    assert_eq!(error.found, format!("the text '{}'", "x".repeat(40)));
}

#[test]
fn length_and_depth_are_bounded() {
    let long = |chars: usize| format!("name = '{}'", "x".repeat(chars - 9));
    assert!(Expression::parse(&long(EXPRESSION_CHARS_MAX)).is_ok());
    let error = Expression::parse(&long(EXPRESSION_CHARS_MAX + 1)).unwrap_err();
    assert!(error.at == 1_025 && error.to_string().contains("at most 1024 characters"), "{error}");
    for (open, close) in [("(", ")"), ("not ", "")] {
        let deep = |levels: usize| format!("{}name = 'x'{}", open.repeat(levels), close.repeat(levels));
        assert!(Expression::parse(&deep(EXPRESSION_DEPTH_MAX)).is_ok());
        let error = Expression::parse(&deep(EXPRESSION_DEPTH_MAX + 1)).unwrap_err();
        assert!(error.expected.contains("within each other"), "{error}");
    }
    // Not a matter of depth.
    let wide = vec!["name = 'x'"; 60].join(" or ");
    assert!(Expression::parse(&wide).is_ok());
}

#[test]
fn an_expression_knows_what_it_asks_for() {
    let asks = |text: &str| {
        let expression = Expression::parse(text).unwrap();
        (expression.asks_status(), expression.asks_version())
    };
    assert_eq!(asks("name = 'x' and tag.status = 'x'"), (false, false));
    assert_eq!(asks("name = 'x' or not (status = 'ONLINE')"), (true, false));
    assert_eq!(asks("version.mcu = 'x'"), (false, true));
    assert_eq!(asks("ota_module.name = 'mcu'"), (false, true));
}

#[test]
fn an_expression_is_printed_without_needless_parentheses() {
    for text in [
        "not name = 'x'",
        "not (name = 'x' or name = 'y')",
        "not (name = 'x' and name = 'y')",
        "name = 'x' and (name = 'y' or not name = 'z')",
        "name = 'x' or name = 'y' and name = 'z'",
        "tag.tag_name = 'a'",
        "version = '1' and version.mcu = '2'",
    ] {
        let printed = Expression::parse(text).unwrap().to_string();
        assert_eq!(printed.replace("device_name", "name"), text);
    }
}

#[test]
fn digits_count_as_numbers() {
    for (less, more) in [
        ("1.9", "1.10"),
        ("a", "b"),
        ("1", "1.0"),
        ("9", "10"),
        ("a2b", "a10"),
        ("", "a"),
        ("1", "a"),
        (".", "1"),
    ] {
        assert_eq!(order(less, more), Ordering::Less, "{less} {more}");
        assert_eq!(order(more, less), Ordering::Greater, "{less} {more}");
    }
    assert_eq!(order("1.01", "1.1"), Ordering::Equal);
    assert_eq!(order(&"9".repeat(40), &"8".repeat(41)), Ordering::Less);
}

fn some_text() -> impl Strategy<Value = String> {
    "[a-z0-9.'\" %_路-]{0,6}"
}

fn some_condition() -> impl Strategy<Value = Expression> {
    let field = prop_oneof![
        Just(Field::ProductKey),
        Just(Field::Name),
        some_text().prop_map(Field::Version),
        Just(Field::Version("default".to_owned())),
        some_text().prop_map(Field::Tag),
        Just(Field::Tag("tag_value".to_owned())),
    ];
    let test = prop_oneof![
        some_text().prop_map(Test::Equal),
        some_text().prop_map(Test::Less),
        some_text().prop_map(Test::More),
        some_text().prop_map(Test::Like),
        prop::collection::vec(some_text(), 1..3).prop_map(Test::In),
    ];
    let status = prop::sample::select(vec!["ONLINE", "DISABLE"])
        .prop_map(|status| Expression::Is(Field::Status, Test::Equal(status.to_owned())));
    let present = some_text().prop_map(|key| Expression::Is(Field::Tag(key), Test::Present));
    let compared = (field, test, any::<bool>()).prop_map(|(field, test, is)| {
        if is { Expression::Is(field, test) } else { Expression::IsNot(field, test) }
    });
    prop_oneof![4 => compared, 1 => status, 1 => present]
}

fn some_expression() -> impl Strategy<Value = Expression> {
    some_condition().prop_recursive(4, 12, 3, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expression::All),
            prop::collection::vec(inner.clone(), 2..4).prop_map(Expression::Any),
            inner.prop_map(|inner| Expression::Not(Box::new(inner))),
        ]
    })
}

proptest! {
    #[test]
    fn printing_and_reading_again_is_the_same(expression in some_expression()) {
        let text = expression.to_string();
        prop_assume!(text.chars().count() <= EXPRESSION_CHARS_MAX);
        prop_assert_eq!(Expression::parse(&text).map_err(|error| format!("{text}: {error}")), Ok(expression));
    }

    #[test]
    fn nothing_panics(text in any::<String>()) {
        let _ = Expression::parse(&text).map(|expression| expression.matches(&Facts::default()));
    }

    #[test]
    fn nearly_right_expressions_do_not_panic(parts in prop::collection::vec(
        prop::sample::select(vec![
            "name", "tag.", "tag.a", "version", "status", "tag.tag_name", "tag.tag_value", "and", "or", "not", "in",
            "like", "(", ")", ",", "=", "<=", "<>", "'x'", "\"%\"", "'ONLINE'", "'",
        ]), 0..20,
    )) {
        if let Ok(expression) = Expression::parse(&parts.join(" ")) {
            let text = expression.to_string();
            prop_assert_eq!(Expression::parse(&text), Ok(expression), "{}", text);
        }
    }

    #[test]
    fn the_order_of_texts_is_one(a in "[a0-1.]{0,6}", b in "[a0-1.]{0,6}", c in "[a0-1.]{0,6}") {
        prop_assert_eq!(order(&a, &b), order(&b, &a).reverse());
        if order(&a, &b) != Ordering::Greater && order(&b, &c) != Ordering::Greater {
            prop_assert!(order(&a, &c) != Ordering::Greater, "{} {} {}", a, b, c);
        }
    }
}
