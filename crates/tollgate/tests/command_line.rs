//! What the command line says: where names, tokens or the platform are wrong, how wide its tables
//! are, and that what the demo prints and the README shows works when it is pasted.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};

use anyhow::Context;
use tollgate_testkit::{Oracle, Setup, free_port};

const PROGRAM: &str = env!("CARGO_BIN_EXE_tollgate");

const CATALOG: &str = r#"
[[api]]
id = "widgets"
upstreams = ["{upstream}"]
path_prefix = "/v1"
key_prefix = "hm"
[[plan]]
id = "free"
[[organization]]
id = "acme"
[[subscription]]
id = "acme-widgets-of-the-europe-department"
organization = "acme"
apis = ["widgets"]
plan = "free"
"#;

const SUBSCRIPTION: &str = "acme-widgets-of-the-europe-department";

fn errors(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).into_owned()
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn names_tokens_and_addresses_that_are_wrong_are_told_apart() -> anyhow::Result<()> {
    let oracle = Oracle::start()?;
    let binary = Setup::new(PROGRAM, &CATALOG.replace("{upstream}", &oracle.url()))
        .start()
        .await?;
    for question in ["stats", "top", "trends", "records"] {
        for (flag, name) in [
            ("--subscription", "nobody"),
            ("--organization", "nobody"),
            ("--api", "nothing"),
            ("--plan", "nothing"),
            ("--key", "key_nothing"),
        ] {
            let output = binary.run(&["usage", question, flag, name])?;
            assert_eq!(output.status.code(), Some(1), "{question} {flag}");
            let errors = errors(&output);
            assert!(errors.contains("not_found"), "{question} {flag}: {errors}");
        }
        binary.run_well(&["usage", question, "--subscription", SUBSCRIPTION])?;
    }
    let output = binary.run(&["keys", "list", "--subscription", "nobody"])?;
    assert_eq!(output.status.code(), Some(1));
    assert!(errors(&output).contains("subscription_not_found"));

    let url = format!("http://{}", binary.platform());
    let stats = |url: &str, token: Option<&str>| {
        let mut command = binary.command(&["usage", "stats", "--url", url]);
        command
            .env_remove("TOLLGATE_TOKEN")
            .env_remove("TOLLGATE_ADMIN_TOKEN")
            .args(token.iter().flat_map(|token| ["--token", token]))
            .output()
    };
    let nobody = stats(&url, None)?;
    let stranger = stats(&url, Some("some-other-installations-token"))?;
    let nowhere = stats(&format!("http://{}", free_port()?), Some("x"))?;
    for (output, words) in [
        (&nobody, "no token was given"),
        (&stranger, "does not know this token"),
        (&nowhere, "nothing answers at"),
    ] {
        assert_eq!(output.status.code(), Some(1));
        assert!(errors(output).contains(words), "{}", errors(output));
    }
    assert!(errors(&nobody).contains("TOLLGATE_TOKEN"));
    assert!(!errors(&nowhere).contains("admin token create"));
    binary.reconcile().map(drop)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tables_fit_a_terminal_and_json_has_everything() -> anyhow::Result<()> {
    let oracle = Oracle::start()?;
    let binary = Setup::new(PROGRAM, &CATALOG.replace("{upstream}", &oracle.url()))
        .start()
        .await?;
    let (_, key) = binary.create_key(SUBSCRIPTION).await?;
    let path = format!("/v1/widgets/{}", "long".repeat(50));
    binary.call(&key, &path).await?;
    binary.flush().await?;
    let table = binary.run_well(&["usage", "records"])?;
    for line in table.lines() {
        assert!(line.chars().count() <= 100, "{line}");
    }
    assert!(!table.contains(&path) && table.contains("GET /v1/widgets/"));
    let wide = binary.run_well(&["usage", "records", "--wide"])?;
    assert!(wide.contains(&path) && wide.contains("req_") && wide.contains(SUBSCRIPTION));
    let json = binary.run_well(&["usage", "records", "--json"])?;
    assert!(json.contains(&path) && json.contains("user_agent"));
    let trends = binary.run_well(&["usage", "trends", "--range", "24h"])?;
    assert!(trends.contains(" to "), "{trends}");
    assert!(trends.lines().count() <= 5, "{trends}");
    let metrics = tollgate_testkit::client::send(
        binary.health(),
        &tollgate_testkit::client::Call::get("/metrics"),
    )
    .await?
    .text();
    for line in [
        "tollgate_usage_waiting_entries 0",
        "tollgate_usage_waiting_seconds 0.0",
        "tollgate_usage_events_total 1",
        "tollgate_usage_quarantined_events_total 0",
        "tollgate_usage_batch_conflicts_total 0",
    ] {
        assert!(metrics.contains(line), "{line}\n{metrics}");
    }
    binary.reconcile().map(drop)
}

/// A demo on free ports, ended when dropped.
struct Demo(Child);

impl Drop for Demo {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

#[test]
fn what_the_demo_prints_and_the_readme_shows_works_when_pasted() -> anyhow::Result<()> {
    let (gateway, platform, health) = (free_port()?, free_port()?, free_port()?);
    let folder = tempfile::tempdir()?;
    let mut command = Command::new(PROGRAM);
    command.args(["demo", "--no-traffic", "--for", "60s"]);
    command.arg("--data").arg(folder.path());
    for (flag, address) in [
        ("--gateway", gateway),
        ("--platform", platform),
        ("--health", health),
    ] {
        command.args([flag, &address.to_string()]);
    }
    let mut demo = Demo(command.stdout(Stdio::piped()).spawn()?);
    let mut printed = String::new();
    for line in BufReader::new(demo.0.stdout.take().context("stdout")?).lines() {
        let line = line?;
        printed.push_str(&line);
        printed.push('\n');
        if line.contains("Ctrl-C ends everything") {
            break;
        }
    }
    let lines = printed.lines().filter(|line| line.starts_with("  "));
    let lines = lines.filter(|line| {
        ["export ", "tollgate", "curl "]
            .iter()
            .any(|word| line.trim_start().starts_with(word))
    });
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../README.md");
    let readme = std::fs::read_to_string(readme)?;
    let tour = readme.split("## A first tour").nth(1).context("a tour")?;
    let tour = tour.split("```").nth(1).context("a block")?;
    let tour = tour.replace("127.0.0.1:8080", &gateway.to_string());
    let script: String = lines
        .flat_map(|line| [line.trim_start(), "\n"])
        .chain([tour.as_str()])
        .collect();
    let output = Command::new("bash")
        .args(["-euo", "pipefail", "-c", &script])
        .stdin(Stdio::null())
        .output()?;
    let said = said(&output);
    assert!(
        output.status.success(),
        "{script}\n{said}\n{}",
        errors(&output)
    );
    for words in [
        "HTTP/1.1 200",
        "HTTP/1.1 429",
        "X-Demo-Mode",
        "rate_limited",
    ] {
        let found = said.to_lowercase().contains(&words.to_lowercase());
        assert!(found, "{words}\n{said}");
    }
    Ok(())
}
