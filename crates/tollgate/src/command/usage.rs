//! `tollgate usage`: questions to the platform, as tables.

mod records;
mod trends;

use serde_json::Value;

use crate::cli::{PlatformArgs, UsageCommand, UsageFilter};
use crate::client::Platform;
use crate::output::{self, at, plain, row};

/// Runs the command.
///
/// # Errors
/// When the platform refuses or cannot be reached.
pub async fn run(command: UsageCommand) -> anyhow::Result<()> {
    match command {
        UsageCommand::Stats { filter, platform } => {
            ask(&platform, "stats", filter_query(filter), print_stats).await
        }
        UsageCommand::Top {
            by,
            limit,
            filter,
            platform,
        } => {
            let mut query = filter_query(filter);
            query.extend([("by", by), ("limit", limit.to_string())]);
            ask(&platform, "top", query, print_top).await
        }
        UsageCommand::Trends {
            every,
            group_by,
            time_zone,
            filter,
            platform,
        } => {
            let mut query = filter_query(filter);
            query.push(("every", every));
            query.extend(group_by.map(|group| ("group_by", group)));
            query.extend(time_zone.map(|zone| ("time_zone", zone)));
            ask(&platform, "trends", query, trends::print).await
        }
        UsageCommand::Records {
            status,
            outcome,
            min_latency_ms,
            address,
            request_id,
            limit,
            cursor,
            wide,
            filter,
            platform,
        } => {
            let mut query = filter_query(filter);
            query.push(("limit", limit.to_string()));
            query.extend(status.map(|status| ("status", status.to_string())));
            query.extend(outcome.map(|outcome| ("outcome", outcome)));
            query.extend(min_latency_ms.map(|ms| ("min_latency_ms", ms.to_string())));
            query.extend(address.map(|address| ("address", address)));
            query.extend(request_id.map(|id| ("request_id", id)));
            query.extend(cursor.map(|cursor| ("cursor", cursor)));
            let print = if wide {
                records::print_wide
            } else {
                records::print
            };
            ask(&platform, "records", query, print).await
        }
    }
}

type Query = Vec<(&'static str, String)>;

fn filter_query(filter: UsageFilter) -> Query {
    let fields = [
        ("from", filter.from),
        ("to", filter.to),
        ("range", filter.range),
        ("subscription_id", filter.subscription),
        ("organization_id", filter.organization),
        ("api", filter.api),
        ("key_id", filter.key),
        ("route", filter.route),
        ("plan", filter.plan),
        (
            "include_test",
            filter.include_test.then(|| "true".to_owned()),
        ),
    ];
    fields
        .into_iter()
        .filter_map(|(name, value)| value.map(|value| (name, value)))
        .collect()
}

async fn ask(
    args: &PlatformArgs,
    question: &str,
    query: Query,
    print: fn(&Value) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let answer = Platform::from_args(args)?
        .get(&format!("/api/v1/usage/{question}"), &query)
        .await?;
    if args.json {
        output::json(&answer)
    } else {
        print(&answer)
    }
}

fn items<'a>(answer: &'a Value, name: &str) -> &'a [Value] {
    at(answer, name).as_array().map_or(&[], Vec::as_slice)
}

fn print_stats(answer: &Value) -> anyhow::Result<()> {
    let lines = [
        ("requests", "requests"),
        ("units", "units"),
        ("denied", "denied"),
        ("errors", "errors"),
        ("bytes in", "bytes_in"),
        ("bytes out", "bytes_out"),
        ("average per day", "average_per_day"),
        ("latency p50 ms", "latency_ms.p50"),
        ("latency p95 ms", "latency_ms.p95"),
        ("latency p99 ms", "latency_ms.p99"),
        ("latency max ms", "latency_ms.max"),
        ("quota used", "quota.used"),
        ("quota limit", "quota.limit"),
        ("quota resets at", "quota.resets_at"),
    ];
    let mut rows: Vec<Vec<String>> = lines
        .iter()
        .filter(|(_, path)| !path.starts_with("quota") || at(answer, "quota").is_object())
        .map(|(name, path)| vec![(*name).to_owned(), plain(at(answer, path))])
        .collect();
    if let Some(rate) = at(answer, "error_rate").as_f64() {
        rows.push(vec![
            "error rate".to_owned(),
            format!("{:.2} %", rate * 100.0),
        ]);
    }
    for (status, count) in at(answer, "by_status").as_object().into_iter().flatten() {
        rows.push(vec![format!("status {status}"), plain(count)]);
    }
    output::table(&["", ">value"], rows)
}

fn print_top(answer: &Value) -> anyhow::Result<()> {
    let found = items(answer, "items");
    if found.is_empty() {
        return output::line("Nothing to rank: no call in this span has one.");
    }
    let columns = [
        "name",
        "requests",
        "units",
        "denied",
        "errors",
        "latency_ms.p50",
        "latency_ms.p99",
    ];
    let rows = found.iter().map(|item| row(item, &columns)).collect();
    output::table(
        &[
            "name",
            ">requests",
            ">units",
            ">denied",
            ">errors",
            ">p50 ms",
            ">p99 ms",
        ],
        rows,
    )
}
