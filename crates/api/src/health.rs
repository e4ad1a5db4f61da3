//! `/livez`, `/readyz` and `/metrics`, for a port of their own.
//!
//! **Owns** how conditions and metrics are shown. **Does not own** them: each is handed over as a
//! closure by whoever knows it. A condition that does not answer within a second counts as not met.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use futures_util::future::{BoxFuture, join_all};
use http::StatusCode;
use http::header::{CACHE_CONTROL, CONTENT_TYPE};
use prometheus_client::registry::Registry;
use serde::Serialize;

/// Longest wait for one condition.
const CONDITION_TIMEOUT: Duration = Duration::from_secs(1);

type Check = dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync;

/// Something that must hold for the process to take traffic.
#[derive(Clone)]
pub struct Condition {
    name: &'static str,
    check: Arc<Check>,
    timeout: Duration,
}

impl Condition {
    /// A condition under a name; the check says why it does not hold, in words without secrets.
    pub fn new(
        name: &'static str,
        check: impl Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name,
            check: Arc::new(check),
            timeout: CONDITION_TIMEOUT,
        }
    }
}

/// What the health port shows.
#[derive(Clone)]
pub struct Health {
    /// Ready when all hold.
    pub conditions: Vec<Condition>,
    /// Everything that is measured.
    pub registry: Arc<Registry>,
}

#[derive(Serialize)]
struct ConditionState {
    name: &'static str,
    ok: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

#[derive(Serialize)]
struct Readiness {
    ready: bool,
    conditions: Vec<ConditionState>,
}

/// The routes of the health port.
pub fn health_router(health: Health) -> Router {
    Router::new()
        .route("/livez", get(live))
        .route("/readyz", get(ready))
        .route("/metrics", get(metrics))
        .with_state(health)
}

async fn live() -> Response {
    ([(CACHE_CONTROL, "no-store")], "ok\n").into_response()
}

async fn ready(State(health): State<Health>) -> Response {
    let checks = health.conditions.iter().map(|condition| async move {
        let answer = tokio::time::timeout(condition.timeout, (condition.check)())
            .await
            .unwrap_or_else(|_| Err("no answer in time".to_owned()));
        ConditionState {
            name: condition.name,
            ok: answer.is_ok(),
            reason: answer.err(),
        }
    });
    let conditions = join_all(checks).await;
    let ready = conditions.iter().all(|condition| condition.ok);
    let status = if ready {
        StatusCode::OK
    } else {
        StatusCode::SERVICE_UNAVAILABLE
    };
    let body = Json(Readiness { ready, conditions });
    (status, [(CACHE_CONTROL, "no-store")], body).into_response()
}

async fn metrics(State(health): State<Health>) -> Response {
    let mut text = String::new();
    match prometheus_client::encoding::text::encode(&mut text, &health.registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use axum::body::Body;
    use http::Request;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    async fn get(health: Health, path: &str) -> (StatusCode, String) {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = health_router(health).oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn health(conditions: Vec<Condition>) -> Health {
        let mut registry = Registry::default();
        let counter: prometheus_client::metrics::counter::Counter = Default::default();
        registry.register("tollgate_things", "Things", counter.clone());
        counter.inc();
        Health {
            conditions,
            registry: Arc::new(registry),
        }
    }

    fn condition(name: &'static str, answer: Result<(), String>) -> Condition {
        Condition::new(name, move || {
            let answer = answer.clone();
            Box::pin(async move { answer })
        })
    }

    #[tokio::test]
    async fn ready_means_that_every_condition_holds() {
        let store = || condition("store", Ok(()));
        let (status, body) = get(health(vec![store()]), "/readyz").await;
        assert_eq!(status, 200);
        assert_eq!(
            body,
            r#"{"ready":true,"conditions":[{"name":"store","ok":true}]}"#
        );
        let counters = condition("counters", Err("being restored".to_owned()));
        let (status, body) = get(health(vec![store(), counters]), "/readyz").await;
        assert_eq!(status, 503);
        assert!(body.contains(r#"{"name":"counters","ok":false,"reason":"being restored"}"#));
    }

    #[tokio::test]
    async fn a_condition_that_does_not_answer_is_not_met() {
        let stuck = Condition {
            timeout: Duration::from_millis(1),
            ..Condition::new("store", || Box::pin(std::future::pending()))
        };
        let (status, body) = get(health(vec![stuck]), "/readyz").await;
        assert_eq!(status, 503);
        assert!(body.contains("no answer in time"));
    }

    #[tokio::test]
    async fn a_living_process_says_so_and_shows_what_it_measures() {
        let (status, _) = get(health(vec![]), "/livez").await;
        assert_eq!(status, 200);
        let (status, body) = get(health(vec![]), "/metrics").await;
        assert_eq!(status, 200);
        assert!(body.contains("tollgate_things_total 1"), "{body}");
    }
}
