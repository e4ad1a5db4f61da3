//! Who may make which call, for every call of the OpenAPI document.

use http::header::AUTHORIZATION;
use serde_json::Value;

use crate::app::{App, request};

/// Calls that need no token, and why.
const OPEN: [&str; 2] = [
    // The key itself suffices.
    "check_quota",
    // Made with the caller's own key.
    "get_me",
];

struct Operation {
    id: String,
    method: String,
    path: String,
    parameters: Vec<String>,
    scope: Option<String>,
}

fn operations() -> Vec<Operation> {
    let document = serde_json::to_value(tollgate_api::openapi_document()).unwrap();
    let mut out = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            let empty = Vec::new();
            let parameters = operation["parameters"].as_array().unwrap_or(&empty);
            out.push(Operation {
                id: operation["operationId"].as_str().unwrap().to_owned(),
                method: method.to_uppercase(),
                path: path.replace("{id}", "nothing"),
                parameters: parameters
                    .iter()
                    .filter(|parameter| parameter["in"] == "query")
                    .map(|parameter| parameter["name"].as_str().unwrap().to_owned())
                    .collect(),
                scope: operation["security"]
                    .as_array()
                    .into_iter()
                    .flatten()
                    .filter_map(|need| need["bearer"][0].as_str())
                    .map(str::to_owned)
                    .next(),
            });
        }
    }
    assert!(out.len() > 30, "only {} operations", out.len());
    out
}

async fn call(app: &App, operation: &Operation, token: Option<&str>) -> crate::app::Answer {
    let mut request = request(&operation.method, &operation.path, String::new());
    if let Some(token) = token {
        let value = format!("Bearer {token}").parse().unwrap();
        request.headers_mut().insert(AUTHORIZATION, value);
    }
    app.send(request).await
}

#[tokio::test]
async fn every_call_needs_a_token_but_the_declared_open_ones() {
    let app = App::start().await;
    let key = app.key("acme-widgets").await["key"]
        .as_str()
        .unwrap()
        .to_owned();
    for operation in operations() {
        let is_open = OPEN.contains(&operation.id.as_str());
        for token in [None, Some("tg_unknown"), Some(key.as_str())] {
            if is_open && token == Some(key.as_str()) {
                continue;
            }
            let answer = call(&app, &operation, token).await;
            assert_eq!(answer.problem(401), "unauthenticated", "{}", operation.id);
            assert_eq!(answer.header("www-authenticate"), "Bearer");
        }
    }
}

#[tokio::test]
async fn every_call_takes_its_own_scope_and_admin_and_no_other() {
    let app = App::start().await;
    let scopes = ["read", "write", "decide", "ingest", "admin"];
    for scope in scopes {
        let token = app.token(scope).await;
        for operation in operations() {
            if OPEN.contains(&operation.id.as_str()) {
                continue;
            }
            let wanted = operation.scope.as_deref().unwrap();
            assert!(scopes.contains(&wanted), "{}", operation.id);
            let answer = call(&app, &operation, Some(&token)).await;
            if scope == wanted || scope == "admin" {
                let status = answer.status.as_u16();
                assert!(![401, 403].contains(&status), "{} {scope}", operation.id);
            } else {
                assert_eq!(answer.problem(403), "forbidden", "{} {scope}", operation.id);
            }
        }
    }
}

#[test]
fn reading_needs_read_and_changing_needs_write() {
    for operation in operations() {
        let scope = operation.scope.as_deref();
        let expected = match (operation.id.as_str(), operation.method.as_str()) {
            ("get_me", _) => None,
            ("check_quota" | "verify_key", _) => Some("decide"),
            // Who did what is for operators.
            ("list_audit", _) => Some("admin"),
            // Changes nothing.
            ("diff_catalog", _) => Some("read"),
            (_, "GET") => Some("read"),
            _ => Some("write"),
        };
        assert_eq!(scope, expected, "{}", operation.id);
    }
}

#[tokio::test]
async fn an_expired_token_opens_nothing() {
    let app = App::start().await;
    let now = tollgate_model::Clock::now(app.clock.as_ref()).wall;
    let tokens = app.control.tokens();
    let made = tokens
        .create(None, &["admin".to_owned()], Some(now.plus_us(60_000_000)))
        .await
        .unwrap();
    let authorization = format!("Bearer {}", made.secret.reveal());
    let headers = [("authorization", authorization.as_str())];
    let answer = app.call_with("GET", "/api/v1/keys", &headers, "").await;
    answer.expect(200);
    app.clock.advance_s(60);
    let answer = app.call_with("GET", "/api/v1/keys", &headers, "").await;
    assert_eq!(answer.problem(401), "unauthenticated");
}

#[tokio::test]
async fn every_call_refuses_parameters_that_it_does_not_declare() {
    let app = App::start().await;
    for operation in operations() {
        let path = format!("{}?no_such=1&noSuch=2", operation.path);
        let answer = app.call(&operation.method, &path, "{}").await;
        let faults = answer.faults();
        for name in ["no_such", "noSuch"] {
            let fault = (name.to_owned(), "unknown".to_owned());
            assert!(faults.contains(&fault), "{}: {faults:?}", operation.id);
        }
    }
}

#[tokio::test]
async fn every_declared_parameter_is_read() {
    let app = App::start().await;
    for operation in operations() {
        for parameter in &operation.parameters {
            // Too long for any text, and neither number, time nor choice.
            let path = format!("{}?{parameter}={}", operation.path, "x".repeat(600));
            let answer = app.call(&operation.method, &path, "{}").await;
            // `user_id` is looked up first.
            if parameter == "user_id" && answer.status == 404 {
                continue;
            }
            let faults = answer.faults();
            let named = faults.iter().any(|(field, _)| field == parameter);
            assert!(named, "{} {parameter}: {faults:?}", operation.id);
        }
    }
}

#[test]
fn operations_have_ids_of_their_own_and_say_how_they_fail() {
    let mut ids: Vec<String> = operations().into_iter().map(|o| o.id).collect();
    let count = ids.len();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), count);
    let document = serde_json::to_value(tollgate_api::openapi_document()).unwrap();
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let each = document["paths"].as_object().unwrap().values();
    for operation in each.flat_map(|item| item.as_object().unwrap().values()) {
        let default = &operation["responses"]["default"]["$ref"];
        assert_eq!(*default, Value::from("#/components/responses/Problem"));
    }
}
