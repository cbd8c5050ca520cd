//! JSON and XML with a line for each field, in the order of the wire, for people.

use std::fmt::Write as _;

/// JSON, indented; a text that is no JSON is left as it is.
pub fn json(text: &str) -> String {
    if serde_json::from_str::<serde::de::IgnoredAny>(text).is_err() {
        return text.to_owned();
    }
    let (mut out, mut depth, mut quoted, mut escaped) = (String::new(), 0_usize, false, false);
    let mut rest = text.chars().peekable();
    while let Some(c) = rest.next() {
        if quoted {
            out.push(c);
            quoted = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            '{' | '[' => {
                out.push(c);
                while rest.next_if(char::is_ascii_whitespace).is_some() {}
                if let Some(end) = rest.next_if(|next| matches!(next, '}' | ']')) {
                    out.push(end);
                } else {
                    depth += 1;
                    let _ = write!(out, "\n{}", "  ".repeat(depth));
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                let _ = write!(out, "\n{}{c}", "  ".repeat(depth));
            }
            ',' => {
                let _ = write!(out, ",\n{}", "  ".repeat(depth));
            }
            ':' => out.push_str(": "),
            _ if c.is_ascii_whitespace() => {}
            _ => {
                quoted = c == '"';
                out.push(c);
            }
        }
    }
    out
}

/// XML without attributes that hold `<`, indented.
pub fn xml(text: &str) -> String {
    let (mut out, mut depth) = (String::new(), 0_usize);
    for piece in text.split('<').skip(1) {
        let closes = piece.starts_with('/');
        depth = if closes { depth.saturating_sub(1) } else { depth };
        // An element's end stands behind its text.
        if closes && (!out.ends_with('>') || out.ends_with(&format!("<{}", &piece[1..]))) {
            let _ = write!(out, "<{piece}");
        } else {
            let line = if out.is_empty() { "" } else { "\n" };
            let _ = write!(out, "{line}{}<{piece}", "  ".repeat(depth));
        }
        depth += usize::from(!closes && !piece.starts_with('?'));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::Value;

    #[test]
    fn each_field_has_a_line_and_nothing_else_changes() {
        let text = r#"{"A":"x,\"{:\\","B":[ ], "C":{"D":[{"E":1},{"E":2}]}}"#;
        let shown = json(text);
        assert_eq!(shown.lines().count(), 14, "{shown}");
        assert_eq!(
            serde_json::from_str::<Value>(&shown).unwrap(),
            serde_json::from_str::<Value>(text).unwrap()
        );
        assert_eq!(json(&shown), shown);
        assert_eq!(json("no JSON: {"), "no JSON: {");
        let text = "<?xml version='1.0' encoding='UTF-8'?><R><A>a&lt;b</A><B></B><C><D>1</D><D>2</D></C></R>";
        let expected = "<?xml version='1.0' encoding='UTF-8'?>\n<R>\n  <A>a&lt;b</A>\n  <B></B>\n  <C>\n    \
                        <D>1</D>\n    <D>2</D>\n  </C>\n</R>";
        assert_eq!(xml(text), expected);
    }

    proptest! {
        #[test]
        fn nothing_panics(text in r#"[{}\[\]":,a-z\\<>/? ]{0,60}"#) {
            let _ = json(&text);
            let _ = xml(&text);
        }
    }
}
