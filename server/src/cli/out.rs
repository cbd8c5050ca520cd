//! What lists look like: an aligned table for people, JSON lines or CSV for programs.
//!
//! A row is the same in all three: fields with the API's names. Rows are written as they come, page by page, so
//! that a list may be longer than memory.

use serde_json::Value;
use std::io::{BufWriter, Stdout, Write as _, stdout};

/// Fields in order.
pub type Row = Vec<(&'static str, Value)>;

/// The form of a list.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// Columns of one width, for people.
    Table,
    /// An object per line.
    Json,
    /// RFC 4180, with a line of names first.
    Csv,
}

/// Writes rows to stdout.
pub struct Out {
    form: Form,
    widths: Vec<usize>,
    begun: bool,
    stdout: BufWriter<Stdout>,
}

impl Out {
    /// Nothing written yet.
    pub fn new(form: Form) -> Self {
        Self { form, widths: Vec::new(), begun: false, stdout: BufWriter::new(stdout()) }
    }

    /// Writes a page of rows, all with the same fields.
    pub fn page(&mut self, rows: &[Row]) -> anyhow::Result<()> {
        let Some(first) = rows.first() else { return Ok(()) };
        let names: Vec<String> = first.iter().map(|(name, _)| (*name).to_owned()).collect();
        let cells: Vec<Vec<String>> = match self.form {
            Form::Json => Vec::new(),
            Form::Table | Form::Csv => rows.iter().map(|row| cells(row, self.form)).collect(),
        };
        match self.form {
            Form::Json => {
                for row in rows {
                    writeln!(self.stdout, "{}", json(row))?;
                }
            }
            Form::Csv => {
                let head = (!self.begun).then_some(&names);
                for line in head.into_iter().chain(&cells) {
                    let line: Vec<String> = line.iter().map(|cell| quoted(cell)).collect();
                    write!(self.stdout, "{}\r\n", line.join(","))?;
                }
            }
            Form::Table => {
                self.widths.resize(names.len(), 0);
                for line in std::iter::once(&names).chain(&cells) {
                    for (width, cell) in self.widths.iter_mut().zip(line) {
                        *width = (*width).max(cell.chars().count());
                    }
                }
                let head = (!self.begun).then_some(&names);
                for line in head.into_iter().chain(&cells) {
                    writeln!(self.stdout, "{}", aligned(line, &self.widths))?;
                }
            }
        }
        self.begun = true;
        self.stdout.flush()?;
        Ok(())
    }

    /// Whether nothing has been written.
    pub fn is_empty(&self) -> bool {
        !self.begun
    }
}

/// One thing in full: an object, or a line per field.
pub fn show(row: &Row, as_json: bool) -> anyhow::Result<()> {
    let mut out = stdout();
    if as_json {
        writeln!(out, "{}", json(row))?;
        return Ok(());
    }
    let width = row.iter().map(|(name, _)| name.len()).max().unwrap_or_default();
    for ((name, _), cell) in row.iter().zip(cells(row, Form::Table)) {
        writeln!(out, "{name:width$}  {cell}")?;
    }
    Ok(())
}

fn json(row: &Row) -> String {
    let fields: Vec<String> = row.iter().map(|(name, value)| format!("\"{name}\":{value}")).collect();
    format!("{{{}}}", fields.join(","))
}

fn cells(row: &Row, form: Form) -> Vec<String> {
    let cell = |value: &Value| match value {
        Value::Null => if form == Form::Table { "-" } else { "" }.to_owned(),
        Value::String(text) if form == Form::Table => visible(text),
        Value::String(text) => text.clone(),
        Value::Array(items) => {
            let items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
            visible(&items.join(" "))
        }
        other => other.to_string(),
    };
    row.iter().map(|(_, value)| cell(value)).collect()
}

/// A text that cannot steer the terminal: devices and callers wrote it.
pub fn visible(text: &str) -> String {
    let text: String = text.chars().map(|c| if c.is_control() { '\u{fffd}' } else { c }).collect();
    if text.is_empty() { "-".to_owned() } else { text }
}

fn quoted(cell: &str) -> String {
    if cell.contains([',', '"', '\n', '\r']) {
        format!("\"{}\"", cell.replace('"', "\"\""))
    } else {
        cell.to_owned()
    }
}

fn aligned(line: &[String], widths: &[usize]) -> String {
    let mut out = String::new();
    for (cell, width) in line.iter().zip(widths) {
        out.push_str(cell);
        let used = cell.chars().count();
        out.extend(std::iter::repeat_n(' ', width.saturating_sub(used) + 2));
    }
    out.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json as value;

    #[test]
    fn a_row_is_the_same_in_every_form() {
        let row: Row =
            vec![("Name", value!("a,\"b\"\u{1b}[2J")), ("Count", value!(3)), ("Gone", Value::Null)];
        assert_eq!(json(&row), r#"{"Name":"a,\"b\"\u001b[2J","Count":3,"Gone":null}"#);
        assert_eq!(cells(&row, Form::Table), ["a,\"b\"\u{fffd}[2J", "3", "-"]);
        assert_eq!(quoted(&cells(&row, Form::Csv)[0]), "\"a,\"\"b\"\"\u{1b}[2J\"");
    }

    #[test]
    fn columns_are_as_wide_as_their_widest_cell() {
        let line = ["a".to_owned(), "b".to_owned()];
        assert_eq!(aligned(&line, &[3, 5]), "a    b");
    }
}
