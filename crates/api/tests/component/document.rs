//! The OpenAPI document and the pages, against what is really answered.

use serde_json::{Value, json};

use crate::app::{App, names, request};

/// The fields that the document declares for a schema, sorted.
fn declared(document: &Value, schema: &str) -> Vec<String> {
    let schema = &document["components"]["schemas"][schema];
    assert!(schema.is_object(), "no such schema");
    let mut out = Vec::new();
    collect(document, schema, &mut out);
    out.sort();
    out
}

fn collect(document: &Value, schema: &Value, out: &mut Vec<String>) {
    if let Some(name) = schema["$ref"].as_str() {
        let name = name.rsplit('/').next().unwrap();
        return collect(document, &document["components"]["schemas"][name], out);
    }
    for part in schema["allOf"].as_array().into_iter().flatten() {
        collect(document, part, out);
    }
    if let Some(fields) = schema["properties"].as_object() {
        out.extend(fields.keys().cloned());
    }
}

#[tokio::test]
async fn objects_have_exactly_the_declared_fields() {
    let app = App::start().await;
    let answer = app
        .send(request("GET", "/openapi.json", String::new()))
        .await;
    assert_eq!(answer.header("content-type"), "application/json");
    let document = answer.expect(200);
    let key = app.key("acme-widgets").await;
    assert_eq!(names(&key), declared(&document, "CreatedKey"));
    let id = key["id"].as_str().unwrap();
    let shown = [
        ("Key", format!("/api/v1/keys/{id}")),
        ("ApiObject", "/api/v1/apis/widgets".to_owned()),
        ("PlanObject", "/api/v1/plans/free".to_owned()),
        ("LimitObject", "/api/v1/limits/strict".to_owned()),
        (
            "OrganizationObject",
            "/api/v1/organizations/acme".to_owned(),
        ),
        (
            "SubscriptionObject",
            "/api/v1/subscriptions/acme-widgets".to_owned(),
        ),
    ];
    for (schema, path) in shown {
        let object = app.get(&path).await.expect(200);
        assert_eq!(names(&object), declared(&document, schema), "{schema}");
    }
}

#[tokio::test]
async fn every_field_that_makes_a_key_is_declared_and_taken() {
    let app = App::start().await;
    let document = serde_json::to_value(tollgate_api::openapi_document()).unwrap();
    let body = json!({
        "subscription_id": "acme-widgets", "name": "k", "scopes": ["widgets:read"],
        "expires_at": "2027-01-01T00:00:00Z", "allowed_addresses": ["10.0.0.0/8"],
        "limits": [{ "max": 3, "per": "minute" }], "quota": { "units": 9, "every": "day" },
        "test": true, "external_id": "7", "metadata": { "a": 1 },
    });
    assert_eq!(names(&body), declared(&document, "NewKey"));
    let key = app.call("POST", "/api/v1/keys", &body).await.expect(201);
    assert!(key["key"].as_str().unwrap().starts_with("hm_test_"));
    assert_eq!(key["metadata"], json!({ "a": 1 }));
    assert_eq!(key["quota"]["units"], 9);
}

#[test]
fn every_reference_of_the_document_leads_somewhere() {
    fn walk(document: &Value, value: &Value) {
        if let Some(path) = value["$ref"].as_str() {
            let pointer = path.strip_prefix('#').unwrap();
            assert!(document.pointer(pointer).is_some(), "{path}");
        }
        match value {
            Value::Object(fields) => fields.values().for_each(|value| walk(document, value)),
            Value::Array(items) => items.iter().for_each(|value| walk(document, value)),
            _ => {}
        }
    }
    let document = serde_json::to_value(tollgate_api::openapi_document()).unwrap();
    walk(&document, &document);
}

#[tokio::test]
async fn the_pages_need_no_token_and_list_every_call() {
    let app = App::start().await;
    let page = app.send(request("GET", "/docs", String::new())).await;
    assert_eq!(page.status, 200);
    assert_eq!(page.header("content-type"), "text/html; charset=utf-8");
    let document = serde_json::to_value(tollgate_api::openapi_document()).unwrap();
    for path in document["paths"].as_object().unwrap().keys() {
        assert!(
            page.text.contains(&format!("<code>{path}</code>")),
            "{path}"
        );
    }
    let start = app.send(request("GET", "/", String::new())).await;
    assert!(start.text.contains("href=\"/docs\""));
    let problem = app.get("/nowhere").await.expect(404);
    let explained = app
        .send(request(
            "GET",
            problem["type"].as_str().unwrap(),
            String::new(),
        ))
        .await;
    assert_eq!(explained.status, 200);
    assert!(explained.text.contains("<h1>not_found</h1>"));
    for page in [page, start, explained] {
        assert!(!page.text.contains("<script") && !page.text.contains("src="));
        assert!(!page.text.contains("https://") && !page.text.contains("http://"));
    }
}
