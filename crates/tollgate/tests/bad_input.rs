//! What comes in wrong is refused with the place and the reason, and goes no further.

use std::path::Path;
use std::process::Output;
use std::time::Duration;

use anyhow::{Context, ensure};
use serde_json::{Value, json};
use tollgate_testkit::client::{self, Call};
use tollgate_testkit::{Binary, Oracle, Setup, raw, wait_until};

const SOON: Duration = Duration::from_secs(10);

const CATALOG: &str = r#"
[[api]]
id = "widgets"
upstreams = ["{upstream}"]
path_prefix = "/v1"
key_prefix = "hm"
anonymous_plan = "anyone"
[[plan]]
id = "anyone"
name = "Anyone"
quota = { units = 1000, every = "day", on_exceeded = "block" }
[[organization]]
id = "acme"
name = "Acme"
[[subscription]]
id = "acme"
organization = "acme"
apis = ["widgets"]
plan = "anyone"
"#;

async fn start() -> anyhow::Result<(Oracle, Binary)> {
    let oracle = Oracle::start()?;
    let catalog = CATALOG.replace("{upstream}", &oracle.url());
    let binary = Setup::new(env!("CARGO_BIN_EXE_tollgate"), &catalog)
        .start()
        .await?;
    Ok((oracle, binary))
}

fn tollgate(folder: &Path, arguments: &[&str]) -> anyhow::Result<Output> {
    let program = env!("CARGO_BIN_EXE_tollgate");
    let output = std::process::Command::new(program)
        .args(arguments)
        .current_dir(folder)
        .env("NO_COLOR", "1")
        .output()?;
    Ok(output)
}

fn said(output: &Output) -> String {
    let (out, err) = (&output.stdout, &output.stderr);
    format!(
        "{}{}",
        String::from_utf8_lossy(out),
        String::from_utf8_lossy(err)
    )
}

#[test]
fn every_problem_of_the_configuration_is_told_with_its_place() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    let text = "[gateway]\nlisten = \"nowhere\"\nworkerz = 3\n[journal]\nsync = \"sometimes\"\n";
    std::fs::write(folder.path().join("tollgate.toml"), text)?;
    for command in [["config", "check"].as_slice(), &["serve"]] {
        let mut arguments = command.to_vec();
        arguments.extend(["--config", "tollgate.toml"]);
        let output = tollgate(folder.path(), &arguments)?;
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        for place in ["line 2, column 10", "line 3, column 1", "line 5, column 8"] {
            assert!(said.contains(place), "{place} is missing:\n{said}");
        }
    }
    Ok(())
}

#[test]
fn wrong_usage_is_told_and_exits_2() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    for arguments in [["surprise"].as_slice(), &["serve"], &["serve", "--config"]] {
        let output = tollgate(folder.path(), arguments)?;
        assert_eq!(
            output.status.code(),
            Some(2),
            "{arguments:?}: {}",
            said(&output)
        );
    }
    let missing = tollgate(folder.path(), &["serve", "--config", "missing.toml"])?;
    assert_eq!(missing.status.code(), Some(2), "{}", said(&missing));
    Ok(())
}

#[tokio::test]
async fn a_broken_catalog_is_told_with_places_and_the_last_good_one_stays() -> anyhow::Result<()> {
    let (oracle, binary) = start().await?;
    let good = CATALOG.replace("{upstream}", &oracle.url());
    let broken = good
        .replace("path_prefix = \"/v1\"", "path_prefix = \"v1\"")
        .replace("plan = \"anyone\"", "plan = \"nobody\"");
    std::fs::write(binary.folder().join("broken.toml"), &broken)?;
    for command in ["apply", "diff"] {
        let output = binary.run(&[command, "-f", "broken.toml"])?;
        let said = said(&output);
        assert_eq!(output.status.code(), Some(2), "{said}");
        assert!(said.contains("line 5, column "), "{said}");
        assert!(said.contains("nobody"), "{said}");
    }
    // The watched file breaks under a running gateway.
    binary.write_catalog(&broken)?;
    binary.hang_up()?;
    wait_until("the broken catalog is told", SOON, async || {
        binary.output().contains("nobody")
    })
    .await?;
    let reply = client::send(binary.gateway(), &Call::get("/v1/things")).await?;
    assert_eq!(reply.status, 200, "{}", reply.text());
    // And is mended.
    binary.write_catalog(&good.replace("units = 1000", "units = 77"))?;
    binary.hang_up()?;
    wait_until("the mended catalog is in force", SOON, async || {
        let reply = client::send(binary.gateway(), &Call::get("/v1/things")).await;
        reply.is_ok_and(|reply| reply.number("x-ratelimit-limit") == Some(77))
    })
    .await?;
    Ok(())
}

#[tokio::test]
async fn a_broken_catalog_at_start_exits_2() -> anyhow::Result<()> {
    let folder = tempfile::tempdir()?;
    std::fs::write(
        folder.path().join("tollgate.toml"),
        "[store]\nurl = \"sqlite://t.db\"\n[catalog]\nfile = \"catalog.toml\"\n",
    )?;
    std::fs::write(
        folder.path().join("catalog.toml"),
        "[[api]]\nid = \"A b\"\nsurprise = 1\n",
    )?;
    let output = tollgate(
        folder.path(),
        &["config", "check", "--config", "tollgate.toml"],
    )?;
    let said = said(&output);
    assert_eq!(output.status.code(), Some(2), "{said}");
    assert!(
        said.contains("line 2, column 6") && said.contains("line 3, column 1"),
        "{said}"
    );
    Ok(())
}

/// Heads that no two parsers read alike, or that nobody may send.
fn unreadable() -> Vec<(&'static str, Vec<u8>)> {
    let head = |lines: &str| format!("GET /v1/x HTTP/1.1\r\n{lines}\r\n").into_bytes();
    let post = |lines: &str| {
        format!("POST /v1/x HTTP/1.1\r\nHost: a\r\n{lines}\r\n0\r\n\r\n").into_bytes()
    };
    vec![
        (
            "garbage",
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n".to_vec(),
        ),
        (
            "HTTP/2 without TLS",
            b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec(),
        ),
        (
            "a version that is none",
            b"GET /v1/x HTTP/9.9\r\nHost: a\r\n\r\n".to_vec(),
        ),
        ("no Host", head("")),
        ("two Hosts", head("Host: a\r\nHost: b\r\n")),
        ("a Host that is none", head("Host: a/b\r\n")),
        ("a space before the colon", head("Host : a\r\n")),
        ("a folded line", head("Host: a\r\nX-A: b\r\n c\r\n")),
        ("a NUL in a value", head("Host: a\r\nX-A: b\0c\r\n")),
        ("a bare CR in a value", head("Host: a\r\nX-A: b\rc\r\n")),
        (
            "length and chunked",
            post("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n"),
        ),
        (
            "two lengths",
            post("Content-Length: 5\r\nContent-Length: 6\r\n"),
        ),
        ("a signed length", post("Content-Length: +5\r\n")),
        ("a list of lengths", post("Content-Length: 5, 6\r\n")),
        ("an unknown coding", post("Transfer-Encoding: xchunked\r\n")),
        (
            "chunked not last",
            post("Transfer-Encoding: chunked, gzip\r\n"),
        ),
    ]
}

#[tokio::test]
async fn what_cannot_be_read_is_answered_400_and_closed_and_never_forwarded() -> anyhow::Result<()>
{
    let (oracle, binary) = start().await?;
    for (what, bytes) in unreadable() {
        let reply = raw::exchange(binary.gateway(), &bytes, SOON).await?;
        let got = String::from_utf8_lossy(&reply.bytes).into_owned();
        assert_eq!(reply.status(), Some(400), "{what}: {got}");
        assert!(reply.closed, "{what}: the connection stays open");
        assert_eq!(reply.answers(), 1, "{what}: {got}");
        assert_eq!(oracle.count(), 0, "{what} was forwarded");
    }
    let many = "X-A: b\r\n".repeat(300);
    let wide = format!("X-A: {}\r\n", "b".repeat(200_000));
    for (what, lines) in [("too many headers", many), ("a head too large", wide)] {
        let bytes = format!("GET /v1/x HTTP/1.1\r\nHost: a\r\n{lines}\r\n");
        let reply = raw::exchange(binary.gateway(), bytes.as_bytes(), SOON).await?;
        assert_eq!(reply.status(), Some(431), "{what}");
        assert!(reply.closed, "{what}");
    }
    assert_eq!(oracle.count(), 0);
    Ok(())
}

#[tokio::test]
async fn paths_that_could_be_read_in_two_ways_are_refused() -> anyhow::Result<()> {
    let (oracle, binary) = start().await?;
    for path in [
        "/v1//x",
        "/v1/./x",
        "/v1/../x",
        "/v1/%2e%2e/x",
        "/v1/.%2E/x",
        "/v1/a%2Fb",
        "/v1/a%5Cb",
        "/v1/a%00b",
        "/v1/a%zz",
        "/v1/a%2",
    ] {
        let bytes = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let reply = raw::exchange(binary.gateway(), bytes.as_bytes(), SOON).await?;
        assert_eq!(reply.status(), Some(400), "{path}");
    }
    let call = Call::get("/v1/x")
        .key("hm_one")
        .header("X-Subscription-Key", "hm_two");
    let reply = client::send(binary.gateway(), &call).await?;
    assert_eq!(
        (reply.status, reply.code()),
        (400, "request_invalid".to_owned())
    );
    assert_eq!(oracle.count(), 0);

    // The query is not touched, and what looks alike is another path.
    for path in ["/v1/x?a=../b&c=%zz//", "/v1/x/", "/v1/%41"] {
        let bytes = format!("GET {path} HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n");
        let reply = raw::exchange(binary.gateway(), bytes.as_bytes(), SOON).await?;
        assert_eq!(reply.status(), Some(200), "{path}");
        assert_eq!(oracle.last()?.path, path);
    }
    Ok(())
}

#[tokio::test]
async fn a_second_request_behind_a_broken_one_is_never_answered() -> anyhow::Result<()> {
    let (oracle, binary) = start().await?;
    let bytes = b"POST /v1/a HTTP/1.1\r\nHost: a\r\nContent-Length: 4\r\n\
                  Transfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /v1/b HTTP/1.1\r\nHost: a\r\n\r\n";
    let reply = raw::exchange(binary.gateway(), bytes, SOON).await?;
    assert_eq!((reply.status(), reply.answers()), (Some(400), 1));
    assert_eq!(oracle.count(), 0);
    // Two good ones on one connection are two.
    let bytes = b"GET /v1/a HTTP/1.1\r\nHost: a\r\n\r\n\
                  GET /v1/b HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
    let reply = raw::exchange(binary.gateway(), bytes, SOON).await?;
    assert_eq!((reply.status(), reply.answers()), (Some(200), 2));
    assert_eq!(oracle.count(), 2);
    Ok(())
}

#[tokio::test]
async fn the_platform_names_every_field_that_is_wrong() -> anyhow::Result<()> {
    let (_oracle, binary) = start().await?;
    let wrong = json!({"subscription_id": 7, "surprise": true, "expires_at": "tomorrow"});
    let reply = binary.ask(Call::post_json("/api/v1/keys", &wrong)).await?;
    assert_eq!(reply.status, 400, "{}", reply.text());
    let body = reply.json()?;
    let errors = body.get("errors").and_then(Value::as_array);
    let fields: Vec<&str> = errors
        .context("errors")?
        .iter()
        .filter_map(|error| error.get("field")?.as_str())
        .collect();
    ensure!(!fields.is_empty(), "{body}");
    for field in ["subscription_id", "surprise", "expires_at"] {
        ensure!(fields.contains(&field), "{field} is missing: {body}");
    }
    let broken = Call::new(http::Method::POST, "/api/v1/keys")
        .header("Content-Type", "application/json")
        .body("{\"subscription_id\": ");
    assert_eq!(binary.ask(broken).await?.status, 400);
    let unknown = json!({"subscription_id": "nobody", "name": "x"});
    let reply = binary
        .ask(Call::post_json("/api/v1/keys", &unknown))
        .await?;
    assert!(
        matches!(reply.status, 404 | 422),
        "{} {}",
        reply.status,
        reply.text()
    );
    let nobody = Call::get("/api/v1/keys").header("Authorization", "Bearer wrong");
    assert_eq!(client::send(binary.platform(), &nobody).await?.status, 401);
    Ok(())
}
