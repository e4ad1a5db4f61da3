//! Printing: tables for people, JSON for programs. A reader that goes away (a closed pipe) is no
//! error.

use std::io::Write;

use comfy_table::{Cell, CellAlignment, ContentArrangement, Table, presets};
use serde_json::Value;

/// Prints a line.
///
/// # Errors
/// When standard output cannot be written, but for a closed pipe.
pub fn line(text: impl AsRef<str>) -> anyhow::Result<()> {
    let mut out = std::io::stdout().lock();
    let written = writeln!(out, "{}", text.as_ref()).and_then(|()| out.flush());
    ignore_closed_pipe(written)
}

/// Prints a line to standard error.
pub fn note(text: impl AsRef<str>) {
    // Nothing is left to tell if standard error is gone.
    drop(writeln!(std::io::stderr(), "{}", text.as_ref()));
}

/// Prints indented JSON.
///
/// # Errors
/// As [`fn@line`].
pub fn json(value: &Value) -> anyhow::Result<()> {
    line(serde_json::to_string_pretty(value)?)
}

fn ignore_closed_pipe(written: std::io::Result<()>) -> anyhow::Result<()> {
    match written {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Prints rows under headers; columns whose header begins with `>` are aligned to the right.
///
/// # Errors
/// As [`fn@line`].
pub fn table(headers: &[&str], rows: Vec<Vec<String>>) -> anyhow::Result<()> {
    line(render(headers, rows))
}

/// What [`table`] prints.
#[must_use]
pub fn render(headers: &[&str], rows: Vec<Vec<String>>) -> String {
    let mut table = Table::new();
    table
        .load_style(presets::NOTHING)
        .set_content_arrangement(ContentArrangement::Disabled);
    let right = |n: usize| headers.get(n).is_some_and(|header| header.starts_with('>'));
    let cell = |n: usize, text: &str| {
        let alignment = if right(n) {
            CellAlignment::Right
        } else {
            CellAlignment::Left
        };
        Cell::new(text).set_alignment(alignment)
    };
    table.set_header(
        headers
            .iter()
            .enumerate()
            .map(|(n, header)| cell(n, header.trim_start_matches('>'))),
    );
    for row in rows {
        table.add_row(row.iter().enumerate().map(|(n, text)| cell(n, text)));
    }
    table.trim_fmt()
}

/// An instant without a fraction of zeros.
#[must_use]
pub fn instant(text: &str) -> String {
    match text.strip_suffix(".000000Z") {
        Some(whole) => format!("{whole}Z"),
        None => text.to_owned(),
    }
}

/// At most so many characters; what is longer ends in `…`.
#[must_use]
pub fn cut(text: &str, characters_max: usize) -> String {
    if text.chars().count() <= characters_max {
        return text.to_owned();
    }
    let mut cut: String = text
        .chars()
        .take(characters_max.saturating_sub(1))
        .collect();
    cut.push('…');
    cut
}

/// A JSON value as a table shows it: text without quotes, nothing for null.
#[must_use]
pub fn plain(value: &Value) -> String {
    match value {
        Value::Null => "-".to_owned(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}

/// The value at a dotted path.
#[must_use]
pub fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.')
        .fold(value, |value, name| value.get(name).unwrap_or(&Value::Null))
}

/// One row of a table from the dotted paths of its columns.
#[must_use]
pub fn row(value: &Value, paths: &[&str]) -> Vec<String> {
    paths.iter().map(|path| plain(at(value, path))).collect()
}
