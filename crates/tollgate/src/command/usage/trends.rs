//! A series as a table. Points without requests are drawn together: they are there in `--json`.

use serde_json::Value;

use crate::output::{self, at, instant, plain, row};

const COLUMNS: [&str; 7] = [
    "start",
    "group",
    "requests",
    "units",
    "denied",
    "errors",
    "latency_ms.p99",
];
const HEADERS: [&str; 7] = [
    "start",
    "group",
    ">requests",
    ">units",
    ">denied",
    ">errors",
    ">p99 ms",
];
/// As many empty points in a row are drawn together.
const TOGETHER_MIN: usize = 3;

/// Prints a series.
///
/// # Errors
/// When standard output cannot be written.
pub fn print(answer: &Value) -> anyhow::Result<()> {
    let points = super::items(answer, "points");
    if points.iter().all(is_empty) {
        let (first, last) = (points.first(), points.last());
        let start = |point: Option<&Value>| point.map_or("-".to_owned(), start_of);
        return output::line(format!(
            "No requests in {} points from {} to {}.",
            points.len(),
            start(first),
            start(last)
        ));
    }
    let grouped = points.iter().any(|point| at(point, "group").is_string());
    let shown = |n: usize| grouped || n != 1;
    let headers: Vec<&str> = keep(&HEADERS, shown).copied().collect();
    let rows = rows(points)
        .into_iter()
        .map(|cells| keep(&cells, shown).cloned().collect())
        .collect();
    output::table(&headers, rows)
}

fn keep<T>(cells: &[T], shown: impl Fn(usize) -> bool) -> impl Iterator<Item = &T> {
    cells
        .iter()
        .enumerate()
        .filter_map(move |(n, cell)| shown(n).then_some(cell))
}

fn rows(points: &[Value]) -> Vec<Vec<String>> {
    let mut rows = Vec::new();
    for run in points.chunk_by(|a, b| is_empty(a) && is_empty(b)) {
        match run {
            [first, .., last] if run.len() >= TOGETHER_MIN => {
                let text = format!("{} to {}", start_of(first), start_of(last));
                let mut cells = vec![text, "-".to_owned(), "0".to_owned()];
                cells.resize(COLUMNS.len(), "-".to_owned());
                rows.push(cells);
            }
            run => rows.extend(run.iter().map(cells_of)),
        }
    }
    rows
}

fn cells_of(point: &Value) -> Vec<String> {
    let mut cells = row(point, &COLUMNS);
    if let Some(start) = cells.first_mut() {
        *start = instant(start);
    }
    cells
}

fn start_of(point: &Value) -> String {
    instant(&plain(at(point, "start")))
}

fn is_empty(point: &Value) -> bool {
    at(point, "requests").as_u64() == Some(0)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn point(hour: u8, requests: u64) -> Value {
        json!({
            "start": format!("2026-11-23T{hour:02}:00:00.000000Z"),
            "requests": requests, "units": requests, "denied": 0, "errors": 0,
            "latency_ms": { "p99": null },
        })
    }

    #[test]
    fn empty_points_in_a_row_are_one_line_and_others_stand_alone() {
        let counts = [0, 0, 0, 0, 5, 0, 0, 7];
        let points: Vec<Value> = (0u8..).zip(counts).map(|(h, n)| point(h, n)).collect();
        let rows = rows(&points);
        let starts: Vec<&str> = rows.iter().map(|row| row[0].as_str()).collect();
        assert_eq!(
            starts,
            [
                "2026-11-23T00:00:00Z to 2026-11-23T03:00:00Z",
                "2026-11-23T04:00:00Z",
                "2026-11-23T05:00:00Z",
                "2026-11-23T06:00:00Z",
                "2026-11-23T07:00:00Z",
            ]
        );
        assert_eq!(rows[0][2], "0");
        assert!(rows.iter().all(|row| row.len() == COLUMNS.len()));
    }
}
