//! `tollgate bench`, in its smallest form: it measures what it says, and judges it.

use std::process::Command;

use serde_json::Value;

#[test]
fn bench_admission_measures_every_stage_and_restores_every_counter() -> anyhow::Result<()> {
    let output = Command::new(env!("CARGO_BIN_EXE_tollgate"))
        .args([
            "bench",
            "admission",
            "--keys",
            "1000",
            "--decisions",
            "1000",
        ])
        .arg("--json")
        .output()?;
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    let told: Value = serde_json::from_slice(&output.stdout)?;
    for (run, used) in ["uniform", "skewed"].into_iter().enumerate() {
        let run = &told["runs"][run];
        assert_eq!(run["use"], used);
        for stage in ["hash_ns", "decide_ns", "settle_ns"] {
            let at = |part: &str| run[stage][part].as_u64();
            assert!(at("p50") > Some(0) && at("p50") <= at("p99"), "{run}");
        }
        assert!(run["all_cores"].as_u64() > Some(0));
    }
    assert_eq!(
        told["decision_ns"]["p50"],
        told["runs"][0]["decide_ns"]["p50"]
    );
    assert_eq!(
        told["decision_ns"]["p99"],
        told["runs"][0]["decide_ns"]["p99"]
    );
    assert!(told["decisions_per_s"].as_u64() > Some(0) && told["rss_bytes"].as_u64() > Some(0));
    assert_eq!(told["keys"], 1_000);
    // A tenth of the keys with three windows each, and the quota of every subscription.
    assert_eq!(told["memory"]["counters"], 400);
    let judged = told["targets"].as_array().map_or(0, Vec::len);
    assert_eq!(
        judged, 4,
        "memory and start are promised for a million keys"
    );
    for target in told["targets"].as_array().into_iter().flatten() {
        assert_eq!(target["met"] == true, target["why"].is_null(), "{target}");
    }
    Ok(())
}
