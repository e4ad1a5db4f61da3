//! Single requests as a table of at most 100 columns, or of as many as they need.

use serde_json::Value;

use crate::output::{self, at, cut, instant, plain, row};

const WIDE_COLUMNS: [&str; 12] = [
    "timestamp",
    "status",
    "method",
    "path",
    "subscription_id",
    "key_id",
    "outcome",
    "code",
    "latency_ms",
    "units",
    "test",
    "request_id",
];
const WIDE_HEADERS: [&str; 12] = [
    "time",
    ">status",
    "method",
    "path",
    "subscription",
    "key",
    "outcome",
    "code",
    ">ms",
    ">units",
    "test",
    "request id",
];
const HEADERS: [&str; 7] = [
    "time",
    ">status",
    "request",
    "subscription",
    "result",
    ">ms",
    ">units",
];
/// Most characters of the columns that can be long. With the others (time 20, status 6, ms 8,
/// units 6) and two spaces between columns a row has at most 100.
const REQUEST_CHARACTERS_MAX: usize = 20;
const SUBSCRIPTION_CHARACTERS_MAX: usize = 12;
const RESULT_CHARACTERS_MAX: usize = 14;

/// Prints what fits a terminal.
///
/// # Errors
/// When standard output cannot be written.
pub fn print(answer: &Value) -> anyhow::Result<()> {
    let rows = items(answer).iter().map(narrow).collect();
    show(answer, &HEADERS, rows)?;
    if !items(answer).is_empty() {
        output::note("--wide shows more columns in full, --json every field.");
    }
    Ok(())
}

/// Prints more columns, each in full.
///
/// # Errors
/// When standard output cannot be written.
pub fn print_wide(answer: &Value) -> anyhow::Result<()> {
    let rows = items(answer)
        .iter()
        .map(|record| row(record, &WIDE_COLUMNS))
        .collect();
    show(answer, &WIDE_HEADERS, rows)
}

fn items(answer: &Value) -> &[Value] {
    super::items(answer, "items")
}

fn show(answer: &Value, headers: &[&str], rows: Vec<Vec<String>>) -> anyhow::Result<()> {
    if rows.is_empty() {
        return output::line("No requests match.");
    }
    output::table(headers, rows)?;
    if let Some(cursor) = at(answer, "next_cursor").as_str() {
        output::note(format!("There are more: --cursor {cursor}"));
    }
    Ok(())
}

/// What happened stands in one column: the code where there is one, else the outcome.
fn narrow(record: &Value) -> Vec<String> {
    let field = |name: &str| plain(at(record, name));
    let request = format!("{} {}", field("method"), field("path"));
    let result = match at(record, "code") {
        Value::Null => field("outcome"),
        code => plain(code),
    };
    let seconds = field("timestamp").get(..19).map(|text| format!("{text}Z"));
    vec![
        seconds.unwrap_or_else(|| instant(&field("timestamp"))),
        field("status"),
        cut(&request, REQUEST_CHARACTERS_MAX),
        cut(&field("subscription_id"), SUBSCRIPTION_CHARACTERS_MAX),
        cut(&result, RESULT_CHARACTERS_MAX),
        cut(&field("latency_ms"), 8),
        cut(&field("units"), 6),
    ]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_longest_record_fits_a_terminal() {
        let long = "x".repeat(300);
        let record = json!({
            "timestamp": "2026-11-23T14:37:12.123456Z", "status": 402, "method": "DELETE",
            "path": format!("/v1/{long}"), "subscription_id": long, "outcome": "upstream_error",
            "code": "subscription_suspended", "latency_ms": 86_400_000.123, "units": 4_294_967_295u64,
        });
        let row = narrow(&record);
        let widths = row.iter().map(|cell| cell.chars().count());
        assert_eq!(row[0], "2026-11-23T14:37:12Z");
        assert_eq!(row[4], "subscription_…");
        assert!(
            widths.sum::<usize>() + 2 * (row.len() - 1) <= 100,
            "{row:?}"
        );
        let text = output::render(&HEADERS, vec![row]);
        assert!(
            text.lines().all(|line| line.chars().count() <= 100),
            "{text}"
        );
    }
}
