//! Who may make which call.
//!
//! **Invariants.** What a call asks for stands in the OpenAPI document beside its path and is
//! enforced from there, before the handler and before the body is read: a new call cannot forget
//! to be guarded, and the document cannot say anything else than what happens. An operation that
//! declares nothing needs `admin`.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::AUTHORIZATION;
use http::{HeaderMap, Method};
use serde_json::Value;
use tollgate_control::Principal;
use utoipa::openapi::OpenApi;

use crate::error::{ApiError, ApiResult, Code};
use crate::query::Query;
use crate::state::ApiState;

/// Name of the security scheme in the OpenAPI document.
pub(crate) const BEARER: &str = "bearer";

/// One call, as the OpenAPI document declares it.
#[derive(Debug, PartialEq, Eq)]
pub struct Operation {
    /// Its `operationId`.
    pub id: String,
    /// The scope that a token needs; `None`: no token is asked for.
    pub scope: Option<String>,
    /// Names of its query parameters.
    pub parameters: Vec<String>,
}

impl Operation {
    /// Whether the call takes a query parameter of this name.
    #[must_use]
    pub fn takes_parameter(&self, name: &str) -> bool {
        self.parameters.iter().any(|known| known == name)
    }

    fn of(declared: &Value) -> Self {
        let text = |value: &Value| value.as_str().map(str::to_owned);
        let parameters = declared
            .get("parameters")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .filter(|parameter| parameter.get("in").and_then(Value::as_str) == Some("query"))
            .filter_map(|parameter| parameter.get("name").and_then(text))
            .collect();
        Self {
            id: declared
                .get("operationId")
                .and_then(text)
                .unwrap_or_default(),
            scope: scope_of(declared),
            parameters,
        }
    }
}

/// The scope that an operation asks for; an empty requirement opens it.
fn scope_of(declared: &Value) -> Option<String> {
    let fail_closed = || Some("admin".to_owned());
    let Some(requirements) = declared.get("security").and_then(Value::as_array) else {
        return fail_closed();
    };
    let is_empty = |requirement: &Value| requirement.as_object().is_some_and(|map| map.is_empty());
    if requirements.iter().any(is_empty) {
        return None;
    }
    requirements
        .iter()
        .find_map(|requirement| requirement.get(BEARER)?.as_array()?.first()?.as_str())
        .map_or_else(fail_closed, |scope| Some(scope.to_owned()))
}

/// All calls by path and method.
#[derive(Debug, Default)]
pub struct Operations(HashMap<String, HashMap<Method, Arc<Operation>>>);

impl Operations {
    /// Reads them from the document.
    ///
    /// # Errors
    /// When the document cannot be written as JSON.
    pub fn of(document: &OpenApi) -> Result<Self, serde_json::Error> {
        let document = serde_json::to_value(document)?;
        let mut operations = Self::default();
        let paths = document.get("paths").and_then(Value::as_object);
        for (path, item) in paths.into_iter().flatten() {
            let entry = operations.0.entry(path.clone()).or_default();
            for (method, declared) in item.as_object().into_iter().flatten() {
                if let Ok(method) = Method::from_bytes(method.to_uppercase().as_bytes()) {
                    entry.insert(method, Arc::new(Operation::of(declared)));
                }
            }
        }
        Ok(operations)
    }

    /// The call at a path template; `HEAD` follows `GET`.
    #[must_use]
    pub fn find(&self, method: &Method, path: &str) -> Option<&Arc<Operation>> {
        let by_method = self.0.get(path)?;
        let method = if method == Method::HEAD {
            &Method::GET
        } else {
            method
        };
        by_method.get(method)
    }
}

/// Where the guard writes down who called, for the access log.
#[derive(Clone, Default)]
pub(crate) struct CallerName(pub(crate) Arc<OnceLock<String>>);

/// Lets a call pass when its caller may make it and its parameters are known.
pub(crate) async fn guard(
    State((state, operations)): State<(ApiState, Arc<Operations>)>,
    mut request: Request,
    next: Next,
) -> Response {
    let operation = request
        .extensions()
        .get::<MatchedPath>()
        .and_then(|path| operations.find(request.method(), path.as_str()))
        .cloned();
    // Pages and wrong methods: nothing to protect, and 405 is the router's to say.
    let Some(operation) = operation else {
        return next.run(request).await;
    };
    if let Some(scope) = &operation.scope {
        match admit(&state, request.headers(), scope).await {
            Ok(principal) => {
                if let Some(CallerName(name)) = request.extensions().get() {
                    name.get_or_init(|| principal.name.clone());
                }
                request.extensions_mut().insert(principal);
            }
            Err(error) => return error.into_response(),
        }
    }
    if operation.parameters.is_empty()
        && let Some(raw) = request.uri().query()
        && let Err(error) = Query::read(raw, |_| false).finish()
    {
        return error.into_response();
    }
    request.extensions_mut().insert(operation);
    next.run(request).await
}

async fn admit(state: &ApiState, headers: &HeaderMap, scope: &str) -> ApiResult<Principal> {
    let principal = authenticate(state, headers)
        .await?
        .ok_or_else(ApiError::unauthenticated)?;
    check_scope(&principal, scope)?;
    Ok(principal)
}

/// 403 unless the token holds the scope.
pub(crate) fn check_scope(principal: &Principal, scope: &str) -> ApiResult<()> {
    if principal.has_scope(scope) {
        Ok(())
    } else {
        Err(ApiError::new(
            Code::FORBIDDEN,
            format!("the token lacks the scope {scope}"),
        ))
    }
}

/// The owner of the presented access token; `None` when none of ours was presented.
pub(crate) async fn authenticate(
    state: &ApiState,
    headers: &HeaderMap,
) -> ApiResult<Option<Principal>> {
    let Some(token) = bearer(headers) else {
        return Ok(None);
    };
    Ok(state.control().authenticate(token).await?)
}

/// The credential of `Authorization: Bearer`; `None` when there is none or more than one.
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    if values.next().is_some() {
        return None;
    }
    let (scheme, token) = value.split_once(' ')?;
    let token = token.trim();
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_operation_that_declares_nothing_needs_admin() {
        assert_eq!(scope_of(&json!({})).as_deref(), Some("admin"));
        assert_eq!(scope_of(&json!({"security": []})).as_deref(), Some("admin"));
        assert_eq!(
            scope_of(&json!({"security": [{"other": []}]})).as_deref(),
            Some("admin")
        );
        assert_eq!(
            scope_of(&json!({"security": [{"bearer": ["read"]}]})).as_deref(),
            Some("read")
        );
        assert_eq!(
            scope_of(&json!({"security": [{}, {"bearer": ["read"]}]})),
            None
        );
    }

    #[test]
    fn only_a_single_bearer_credential_is_taken() {
        let headers = |values: &[&str]| {
            let mut headers = HeaderMap::new();
            for value in values {
                headers.append(AUTHORIZATION, value.parse().unwrap());
            }
            headers
        };
        assert_eq!(bearer(&headers(&["bearer  abc"])), Some("abc"));
        assert_eq!(bearer(&headers(&["Bearer a", "Bearer b"])), None);
        assert_eq!(bearer(&headers(&["Basic abc"])), None);
        assert_eq!(bearer(&headers(&["Bearer "])), None);
    }
}
