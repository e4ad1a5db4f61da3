//! What the reader promises to every document.

use serde_json::json;

use super::*;

fn lines(problems: Vec<Problem>) -> Vec<String> {
    let line = |p: Problem| format!("{} {}", p.field, p.code.as_str());
    problems.into_iter().map(line).collect()
}

#[test]
fn positions_count_characters_and_lines_from_one() {
    let document = Document::from_toml("a = \"ä\"\r\nb = [\"äö\", 5]\n").unwrap();
    let reader = Reader::new(&document);
    let read = reader.root().table(|table| {
        let _a = table.optional("a").and_then(|f| f.text());
        table
            .required("b")
            .and_then(|f| f.list(9, |item| item.text().map(str::to_owned)))
    });
    let problems = reader.finish(read).unwrap_err();
    assert_eq!((problems[0].line, problems[0].column), (Some(2), Some(12)));
    assert_eq!(
        problems[0].to_string(),
        "line 2, column 12: b[1]: expected text, found a number (wrong_type)"
    );
}

#[test]
fn elements_are_named_by_their_id_or_their_place() {
    let document =
        Document::from_toml("[[x]]\nid = \"one\"\nn = 1\n[[x]]\n[x.y]\nn = 1\n").unwrap();
    let reader = Reader::new(&document);
    let read = reader.root().table(|table| {
        table.required("x")?.list(9, |item| {
            item.table(|t| {
                let _id = t.optional("id");
                let _y = t.optional("y").and_then(|y| y.table(|_| Some(())));
                Some(())
            })
        })
    });
    let told = lines(reader.finish(read).unwrap_err());
    assert_eq!(told, ["x \"one\": n unknown", "x[1].y.n unknown"]);
}

#[test]
fn a_field_given_under_two_names_is_told() {
    let json = json!({"timeZone": "UTC", "time_zone": "UTC", "tier": 1, "plan": null});
    let document = Document::from_json(&json);
    let reader = Reader::new(&document);
    let read = reader.root().table(|table| {
        let zone = table.required("time_zone").map(|_| ());
        let _plan = table.optional_as("plan", &["tier"]);
        zone
    });
    let mut told = lines(reader.finish(read).unwrap_err());
    told.sort();
    assert_eq!(told, ["tier duplicate", "time_zone duplicate"]);
    // In TOML there is one spelling.
    let document = Document::from_toml("timeZone = 1").unwrap();
    let reader = Reader::new(&document);
    let read = reader.root().table(|table| {
        let _zone = table.optional("time_zone");
        Some(())
    });
    let problems = reader.finish(read).unwrap_err();
    assert_eq!(
        problems[0].detail,
        "is not known; did you mean `time_zone`?"
    );
}

#[test]
fn overrides_are_read_as_the_type_that_is_asked_for() {
    let mut document = Document::from_toml("[journal]\ndir = \"x\"\n").unwrap();
    document.set_override(&["journal", "dir"], "7");
    document.set_override(&["gateway", "workers"], "4");
    document.set_override(&["gateway", "trusted_proxies"], "[\"10.0.0.0/8\", \"::1\"]");
    document.set_override(&["gateway", "colour"], "not toml = [");
    document.set_override(&["journal", "disk_max"], "4GiB");
    let reader = Reader::new(&document);
    let read = reader.root().table(|root| {
        let journal = root.required("journal")?.table(|t| {
            let dir = t.required("dir")?.text()?;
            let disk = t.required("disk_max")?.bytes(0..=u64::MAX)?;
            Some((dir.to_owned(), disk))
        })?;
        let gateway = root.required("gateway")?.table(|t| {
            let workers = t.required("workers")?.integer(0..=9)?;
            let proxies = t
                .required("trusted_proxies")?
                .list(9, |item| item.network())?;
            Some((workers, proxies.len()))
        })?;
        Some((journal, gateway))
    });
    assert_eq!(read, Some((("7".to_owned(), 4 << 30), (4, 2))));
    // What it sets that nobody knows is told, without a place in the file.
    let problems = reader.finish(read).unwrap_err();
    assert_eq!(problems[0].line, None);
    assert_eq!(lines(problems), ["gateway.colour unknown"]);
}

#[test]
fn a_document_full_of_mistakes_is_told_within_bounds() {
    let text: String = (0..500).map(|n| format!("x{n} = 1\n")).collect();
    let document = Document::from_toml(&text).unwrap();
    let reader = Reader::new(&document);
    let read = reader.root().table(|_| Some(()));
    let problems = reader.finish(read).unwrap_err();
    assert_eq!(problems.len(), 201);
    assert_eq!(problems[200].detail, "300 more problems are not listed");
}

#[test]
fn a_value_that_could_not_be_read_is_never_taken_for_a_good_one() {
    let document = Document::from_json(&json!({}));
    let reader = Reader::new(&document);
    assert!(reader.finish::<()>(None).is_err());
    let reader = Reader::new(&document);
    let read = reader.root().table(|table| {
        let _missing = table.required("a");
        Some(1)
    });
    assert_eq!(read, Some(1));
    assert_eq!(lines(reader.finish(read).unwrap_err()), ["a missing"]);
}

#[test]
fn networks_have_no_stray_bits_and_days_no_time() {
    let json = json!({
        "good": ["10.0.0.0/8", "192.0.2.1", "2001:db8::/32"],
        "bad": ["10.0.0.1/8", "10.0.0.0/33", "localhost"],
        "days": ["2026-02-28", "2026-02-29", "2026-02-28T10:00:00", "28.2.2026"],
    });
    let document = Document::from_json(&json);
    let reader = Reader::new(&document);
    let read = reader.root().table(|table| {
        let good = table.required("good")?.list(9, |f| f.network());
        assert_eq!(good.map(|networks| networks.len()), Some(3));
        let _bad = table.required("bad")?.list(9, |f| f.network());
        table.required("days")?.list(9, |f| f.date())
    });
    let told = lines(reader.finish(read).unwrap_err());
    assert_eq!(
        told,
        [
            "bad[0] invalid",
            "bad[1] invalid",
            "bad[2] invalid",
            "days[1] invalid",
            "days[2] invalid",
            "days[3] invalid"
        ]
    );
}
