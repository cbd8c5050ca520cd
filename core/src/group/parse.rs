//! Reads the expression of a dynamic group: a descent by hand, bounded in length and depth.

use super::expression::{Expression, Field, STATUSES, Test};
use crate::device::DEFAULT_MODULE;
use crate::limits::{EXPRESSION_CHARS_MAX, EXPRESSION_DEPTH_MAX};
use std::fmt;

/// Why an expression cannot be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Where, in characters from 1.
    pub at: usize,
    /// What was expected there.
    pub expected: String,
    /// What stands there.
    pub found: String,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "at character {}: expected {}, found {}", self.at, self.expected, self.found)
    }
}

/// Whether a character may stand in a word: a field, a key without quotes, `and`.
pub(super) fn in_word(c: char) -> bool {
    c.is_alphanumeric() || matches!(c, '_' | '-' | '.')
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Token {
    Word(String),
    Text(String),
    /// `(`, `)`, `,` or a comparison.
    Mark(&'static str),
    End,
}

impl fmt::Display for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Word(word) => write!(f, "`{}`", Short(word)),
            Self::Text(text) => write!(f, "the text '{}'", Short(text)),
            Self::Mark(mark) => write!(f, "`{mark}`"),
            Self::End => f.write_str("the end"),
        }
    }
}

/// Characters of a word or text that a refusal repeats.
const REPEATED_CHARS: usize = 40;

/// The beginning of a text that may be long.
struct Short<'a>(&'a str);

impl fmt::Display for Short<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().nth(REPEATED_CHARS) {
            Some((end, _)) => write!(f, "{}…", &self.0[..end]),
            None => f.write_str(self.0),
        }
    }
}

/// Longer marks first: `<=` is not `<`.
const MARKS: [&str; 11] = ["<=", ">=", "!=", "<>", "==", "=", "<", ">", "(", ")", ","];
const FIELDS: &str = "a condition on product_key, name, status, version, version.MODULE, tag.KEY, tag.tag_name or \
                      ota_module.name";

struct Parser {
    tokens: Vec<(usize, Token)>,
    next: usize,
    depth: usize,
}

type Parsed<T> = Result<T, Unreadable>;

pub(super) fn parse(text: &str) -> Parsed<Expression> {
    let chars = text.chars().count();
    if chars > EXPRESSION_CHARS_MAX {
        return Err(Unreadable {
            at: EXPRESSION_CHARS_MAX + 1,
            expected: format!("the end, as an expression has at most {EXPRESSION_CHARS_MAX} characters"),
            found: format!("{} more", chars - EXPRESSION_CHARS_MAX),
        });
    }
    let mut parser = Parser { tokens: tokens(text)?, next: 0, depth: 0 };
    let expression = parser.any()?;
    match parser.peek() {
        Token::End => Ok(expression),
        _ => parser.refuse("`and`, `or` or the end"),
    }
}

fn tokens(text: &str) -> Parsed<Vec<(usize, Token)>> {
    let chars: Vec<char> = text.chars().collect();
    let mut tokens = Vec::new();
    let mut at = 0;
    while let Some(&c) = chars.get(at) {
        let start = at;
        if c.is_whitespace() {
            at += 1;
            continue;
        }
        let token = if c == '\'' || c == '"' {
            Token::Text(quoted(&chars, &mut at)?)
        } else if let Some(mark) =
            MARKS.iter().find(|mark| chars[at..].starts_with(&mark.chars().collect::<Vec<_>>()))
        {
            at += mark.len();
            Token::Mark(if *mark == "==" { "=" } else { mark })
        } else if in_word(c) {
            at += chars[at..].iter().take_while(|c| in_word(**c)).count();
            Token::Word(chars[start..at].iter().collect())
        } else {
            let expected = "a field, a text in quotes, a comparison or a parenthesis".to_owned();
            return Err(Unreadable { at: at + 1, expected, found: format!("`{c}`") });
        };
        tokens.push((start + 1, token));
    }
    tokens.push((chars.len() + 1, Token::End));
    Ok(tokens)
}

/// Reads a text in quotes; a doubled quote is one.
fn quoted(chars: &[char], at: &mut usize) -> Parsed<String> {
    let quote = chars[*at];
    let mut text = String::new();
    *at += 1;
    loop {
        match (chars.get(*at), chars.get(*at + 1)) {
            (Some(c), Some(next)) if *c == quote && *next == quote => {
                text.push(quote);
                *at += 2;
            }
            (Some(c), _) if *c == quote => {
                *at += 1;
                return Ok(text);
            }
            (Some(c), _) => {
                text.push(*c);
                *at += 1;
            }
            (None, _) => {
                let expected = format!("`{quote}`, which ends the text");
                return Err(Unreadable { at: *at + 1, expected, found: Token::End.to_string() });
            }
        }
    }
}

impl Parser {
    fn peek(&self) -> &Token {
        self.tokens.get(self.next).map_or(&Token::End, |(_, token)| token)
    }

    fn refuse<T>(&self, expected: &str) -> Parsed<T> {
        let at = self.tokens.get(self.next).map_or(1, |(at, _)| *at);
        Err(Unreadable { at, expected: expected.to_owned(), found: self.peek().to_string() })
    }

    fn is_word(&self, ahead: usize, word: &str) -> bool {
        matches!(self.tokens.get(self.next + ahead), Some((_, Token::Word(found))) if found.eq_ignore_ascii_case(word))
    }

    fn take_word(&mut self, word: &str) -> bool {
        let found = self.is_word(0, word);
        self.next += usize::from(found);
        found
    }

    fn take_mark(&mut self, mark: &str) -> bool {
        let found = matches!(self.peek(), Token::Mark(found) if *found == mark);
        self.next += usize::from(found);
        found
    }

    fn need_mark(&mut self, mark: &str) -> Parsed<()> {
        if self.take_mark(mark) { Ok(()) } else { self.refuse(&format!("`{mark}`")) }
    }

    fn need_text(&mut self) -> Parsed<String> {
        let Token::Text(text) = self.peek() else { return self.refuse("a text in quotes") };
        let text = text.clone();
        self.next += 1;
        Ok(text)
    }

    fn any(&mut self) -> Parsed<Expression> {
        let mut parts = vec![self.all()?];
        while self.take_word("or") {
            parts.push(self.all()?);
        }
        Ok(single(parts, Expression::Any))
    }

    fn all(&mut self) -> Parsed<Expression> {
        let mut parts = vec![self.term()?];
        while self.take_word("and") {
            parts.push(self.term()?);
        }
        Ok(single(parts, Expression::All))
    }

    fn term(&mut self) -> Parsed<Expression> {
        if self.depth > EXPRESSION_DEPTH_MAX {
            return self.refuse(&format!(
                "no more than {EXPRESSION_DEPTH_MAX} parentheses and `not` within each other"
            ));
        }
        self.depth += 1;
        let term = if self.take_word("not") {
            Expression::Not(Box::new(self.term()?))
        } else if self.take_mark("(") {
            let inner = self.any()?;
            self.need_mark(")")?;
            inner
        } else {
            self.condition()?
        };
        self.depth -= 1;
        Ok(term)
    }

    fn condition(&mut self) -> Parsed<Expression> {
        let Token::Word(word) = self.peek().clone() else { return self.refuse(FIELDS) };
        let (named, value, field): (_, _, fn(String) -> Field) = match word.as_str() {
            "tag.tag_name" => ("tag.tag_name", "tag.tag_value", Field::Tag),
            "ota_module.name" => ("ota_module.name", "ota_module.version", Field::Version),
            "tag.tag_value" => return self.refuse("`tag.tag_name = '…' and` before `tag.tag_value`"),
            "ota_module.version" => {
                return self.refuse("`ota_module.name = '…' and` before `ota_module.version`");
            }
            _ => {
                let field = self.field(&word)?;
                return self.test(field);
            }
        };
        // The platform names key and value apart; together they are one condition.
        self.take_word(named);
        self.need_mark("=")?;
        let field = field(self.need_text()?);
        if self.is_word(0, "and") && self.is_word(1, value) {
            self.next += 2;
            return self.test(field);
        }
        Ok(Expression::Is(field, Test::Present))
    }

    fn field(&mut self, word: &str) -> Parsed<Field> {
        let simple = match word {
            "product_key" => Some(Field::ProductKey),
            "name" | "device_name" => Some(Field::Name),
            "status" => Some(Field::Status),
            "version" => Some(Field::Version(DEFAULT_MODULE.to_owned())),
            _ => None,
        };
        if let Some(field) = simple {
            self.next += 1;
            return Ok(field);
        }
        let (make, key): (fn(String) -> Field, &str) = if let Some(key) = word.strip_prefix("tag.") {
            (Field::Tag, key)
        } else if let Some(key) = word.strip_prefix("version.") {
            (Field::Version, key)
        } else {
            return self.refuse(FIELDS);
        };
        self.next += 1;
        if key.is_empty() { Ok(make(self.need_text()?)) } else { Ok(make(key.to_owned())) }
    }

    fn test(&mut self, field: Field) -> Parsed<Expression> {
        let from = self.next;
        let not = self.take_word("not");
        let (is, test) = if self.take_word("in") {
            (!not, Test::In(self.texts()?))
        } else if self.take_word("like") {
            (!not, Test::Like(self.need_text()?))
        } else if let (false, Token::Mark(mark @ ("=" | "!=" | "<>" | "<" | ">" | "<=" | ">="))) =
            (not, self.peek())
        {
            let mark = *mark;
            self.next += 1;
            let text = self.need_text()?;
            match mark {
                "=" => (true, Test::Equal(text)),
                "<" => (true, Test::Less(text)),
                ">" => (true, Test::More(text)),
                "<=" => (false, Test::More(text)),
                ">=" => (false, Test::Less(text)),
                _ => (false, Test::Equal(text)),
            }
        } else if not {
            return self.refuse("`in` or `like`");
        } else {
            return self.refuse("=, !=, <, <=, >, >=, in, like, not in or not like");
        };
        if field == Field::Status {
            self.check_status(from, &test)?;
        }
        Ok(if is { Expression::Is(field, test) } else { Expression::IsNot(field, test) })
    }

    /// A status is one of four words; anything else would be a group without devices, silently.
    fn check_status(&mut self, from: usize, test: &Test) -> Parsed<()> {
        let texts = match test {
            Test::Equal(text) => std::slice::from_ref(text),
            Test::In(texts) => texts,
            _ => {
                self.next = from;
                return self.refuse("=, !=, in or not in after `status`");
            }
        };
        if texts.iter().all(|text| STATUSES.contains(&text.as_str())) {
            return Ok(());
        }
        self.next = from;
        self.refuse("a comparison of `status` with 'ONLINE', 'OFFLINE', 'UNACTIVE' or 'DISABLE'")
    }

    fn texts(&mut self) -> Parsed<Vec<String>> {
        self.need_mark("(")?;
        let mut texts = vec![self.need_text()?];
        while self.take_mark(",") {
            texts.push(self.need_text()?);
        }
        self.need_mark(")")?;
        Ok(texts)
    }
}

/// One part is itself; several are what they are called together.
fn single(mut parts: Vec<Expression>, several: fn(Vec<Expression>) -> Expression) -> Expression {
    if parts.len() > 1 {
        return several(parts);
    }
    // There is always a first one.
    parts.pop().unwrap_or(Expression::All(Vec::new()))
}
