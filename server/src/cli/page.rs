//! Long lists, page by page: what `list` and `export` share.

use crate::cli::out::{Form, Out, Row};
use crate::cli::{account_filter_arg, admin, complain, family, switch, text, text_arg};
use clap::{Arg, ArgMatches, Command};

/// Rows read at once.
pub const PAGE_ROWS: i64 = 1_000;

/// A thing's commands: `list` and `export` with these filters, and `show`.
pub fn commands(
    name: &'static str,
    about: &'static str,
    what: &'static str,
    filters: &[Arg],
    show: &[Arg],
) -> Command {
    let list = admin("list", format!("Lists {what} as a table"))
        .args(filters)
        .arg(
            text_arg("limit", "N", "At most so many; 0: all")
                .value_parser(clap::value_parser!(u32))
                .default_value("100"),
        )
        .arg(switch("json", "Prints JSON, one object per line, instead of a table"));
    let export =
        admin("export", format!("Writes all {what} to standard output, however many")).args(filters).arg(
            text_arg("format", "FORMAT", "csv or json (one object per line)")
                .value_parser(["csv", "json"])
                .default_value("csv"),
        );
    let show = admin("show", "Shows one in full")
        .args(show)
        .arg(switch("json", "Prints a JSON object instead of lines"));
    family(name, about).subcommand(list).subcommand(show).subcommand(export)
}

/// The filters by account and product.
pub fn place_args() -> [Arg; 2] {
    [account_filter_arg(), text_arg("product", "PRODUCT_KEY", "Only of this product")]
}

/// Writes a list in the form that the command asks for; `fetch` reads so many rows behind a key, each with its
/// own.
pub fn run(
    args: &ArgMatches,
    exporting: bool,
    first: i64,
    fetch: impl Fn(i64, i64) -> anyhow::Result<Vec<(i64, Row)>>,
) -> anyhow::Result<()> {
    let limit = if exporting { 0 } else { args.get_one::<u32>("limit").copied().unwrap_or_default() };
    let form = match exporting.then(|| text(args, "format")).flatten() {
        Some("json") => Form::Json,
        Some(_) => Form::Csv,
        None if args.get_flag("json") => Form::Json,
        None => Form::Table,
    };
    let mut out = Out::new(form);
    let mut left = if limit == 0 { i64::MAX } else { i64::from(limit) };
    let mut key = first;
    loop {
        // One more than is shown tells whether there are more.
        let wanted = PAGE_ROWS.min(left.saturating_add(1));
        let mut rows = fetch(key, wanted)?;
        let full = rows.len() as i64 == wanted;
        let more = rows.len() as i64 > left;
        rows.truncate(usize::try_from(left).unwrap_or(usize::MAX));
        if let Some((last, _)) = rows.last() {
            key = *last;
        }
        left -= rows.len() as i64;
        let rows: Vec<Row> = rows.into_iter().map(|(_, row)| row).collect();
        out.page(&rows)?;
        if more {
            complain(&format!("note: there are more than {limit}; --limit 0 shows all"));
        }
        if more || !full {
            if form == Form::Table && out.is_empty() {
                complain("note: there is none");
            }
            return Ok(());
        }
    }
}
