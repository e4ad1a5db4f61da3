//! `tollgate reconcile`: the proof that journal, records, buckets and quotas agree, from the files
//! and the store, also beside a running server.

use std::process::ExitCode;
use std::sync::Arc;

use tollgate_journal::DiskFilesystem;
use tollgate_lifecycle::SystemClock;
use tollgate_metering::{
    FolderJournal, JournalView, ReconcileLine, ReconcileOptions, ReconcileReport, reconcile,
};
use tollgate_model::Clock;
use tollgate_store::UsageStore;

use crate::cli::ReconcileArgs;
use crate::server::open_store;
use crate::{config, output};

/// Runs the command; exit status 1 where something differs.
///
/// # Errors
/// When the store or the journal cannot be read.
pub async fn run(args: ReconcileArgs) -> anyhow::Result<ExitCode> {
    let config = config::load(&args.config)?;
    anyhow::ensure!(
        config.store.file().is_none_or(std::path::Path::exists),
        "there is no store at {}: nothing was ever counted here",
        config.store
    );
    let store: Arc<dyn UsageStore> = open_store(&config).await?;
    let journal: Option<Arc<dyn JournalView>> = if config.journal_dir.is_dir() {
        FolderJournal::find(Arc::new(DiskFilesystem), &config.journal_dir)?
            .map(|folder| Arc::new(folder) as Arc<dyn JournalView>)
    } else {
        None
    };
    let now = SystemClock::new().now().wall;
    let options = ReconcileOptions {
        period: args.period,
    };
    let report = reconcile(&store, journal, now, &options).await?;
    if args.json {
        output::json(&serde_json::to_value(&report)?)?;
    } else {
        print(&report)?;
    }
    Ok(if report.ok {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print(report: &ReconcileReport) -> anyhow::Result<()> {
    let number = |value: Option<u64>| value.map_or_else(|| "-".to_owned(), |n| n.to_string());
    let mark = |line: &ReconcileLine| match (line.ok, line.left) {
        (true, None) => "?",
        (true, Some(_)) => "ok",
        (false, _) => "!!",
    };
    let rows = report
        .lines
        .iter()
        .map(|line| {
            vec![
                mark(line).to_owned(),
                line.name.clone(),
                number(line.left),
                number(line.right),
                line.difference
                    .map_or_else(|| "-".to_owned(), |n| n.to_string()),
                line.in_words.clone(),
            ]
        })
        .collect();
    let headers = [
        "",
        "what",
        ">one side",
        ">other side",
        ">difference",
        "in words",
    ];
    output::table(&headers, rows)?;
    if report.ok {
        let unchecked = report.lines.iter().filter(|line| line.left.is_none());
        return output::line(match unchecked.count() {
            0 => "Every ledger tells the same.".to_owned(),
            n => format!("Every ledger that could be asked tells the same; {n} could not (?)."),
        });
    }
    let differ: Vec<&ReconcileLine> = report.lines.iter().filter(|line| !line.ok).collect();
    output::line(format!(
        "\n{} of {} comparisons differ.",
        differ.len(),
        report.lines.len()
    ))?;
    for advice in advices(&differ) {
        output::line(advice)?;
    }
    output::line(
        "\nRequests are served and limits hold meanwhile. Keep the journal folder and the store as \
         they are, and report this with the output of `tollgate reconcile --json`.",
    )
}

/// What the differences mean and what to do, each said once with the lines that it is about.
fn advices(differ: &[&ReconcileLine]) -> Vec<String> {
    let mut said: Vec<(&str, &str, Vec<&str>)> = Vec::new();
    for line in differ {
        let (Some(means), Some(todo)) = (&line.means, &line.todo) else {
            continue;
        };
        match said.iter_mut().find(|(known, ..)| known == means) {
            Some((.., names)) => names.push(&line.name),
            None => said.push((means, todo, vec![&line.name])),
        }
    }
    let words = |(means, todo, names): &(&str, &str, Vec<&str>)| {
        format!(
            "\n  {}\n    means: {means}\n    do:    {todo}",
            names.join(", ")
        )
    };
    said.iter().map(words).collect()
}
