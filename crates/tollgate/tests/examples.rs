//! What `examples/` holds runs as it stands, against the real binary.

use std::path::Path;
use std::process::{Command, Stdio};

use tollgate_testkit::{Oracle, Setup};

const CATALOG: &str = r#"
[[api]]
id = "widgets"
upstreams = ["{upstream}"]
path_prefix = "/v1"
key_prefix = "hm"
anonymous_plan = "demo"
[[api.route]]
path = "/v1/widgets"
methods = ["GET"]
[[plan]]
id = "demo"
name = "Demo"
limits = [{ max = 20, per = "minute" }]
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_journeys_script_walks_to_its_end() -> anyhow::Result<()> {
    let oracle = Oracle::start()?;
    let catalog = CATALOG.replace("{upstream}", &oracle.url());
    let binary = Setup::new(env!("CARGO_BIN_EXE_tollgate"), &catalog)
        .start()
        .await?;
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../examples/journeys.sh");
    // Twice: what it made the first time must not be in the way of the second.
    for _ in 0..2 {
        let output = Command::new("bash")
            .arg(&script)
            .env("GATEWAY", format!("http://{}", binary.gateway()))
            .env("PLATFORM", format!("http://{}", binary.platform()))
            .env("TOKEN", binary.token())
            .stdin(Stdio::null())
            .output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}\n{errors}");
        assert!(said.contains("every step went as told"), "{said}");
    }
    for (token, sentence) in [
        ("", "No token: "),
        ("not-a-token", "does not know this TOKEN"),
    ] {
        let output = Command::new("bash")
            .arg(&script)
            .env_remove("TOLLGATE_TOKEN")
            .env("GATEWAY", format!("http://{}", binary.gateway()))
            .env("PLATFORM", format!("http://{}", binary.platform()))
            .env("TOKEN", token)
            .stdin(Stdio::null())
            .output()?;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1));
        assert!(errors.contains(sentence), "{errors}");
        assert_eq!(errors.trim().lines().count(), 1, "{errors}");
        assert!(output.stdout.is_empty());
    }
    binary.reconcile().map(drop)
}
