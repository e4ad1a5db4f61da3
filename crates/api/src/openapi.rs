//! The OpenAPI document and the router of calls, made together.

use axum::Router;
use serde_json::json;
use utoipa::openapi::path::{Parameter, ParameterBuilder, ParameterIn};
use utoipa::openapi::schema::{ObjectBuilder, Type};
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{
    ContentBuilder, OpenApi as Document, Ref, RefOr, Required, Response, ResponseBuilder,
};
use utoipa::{OpenApi, PartialSchema, ToSchema};
use utoipa_axum::router::OpenApiRouter;

use crate::error::{FieldError, Problem};
use crate::guard::BEARER;
use crate::routes;
use crate::state::ApiState;

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Tollgate",
        description = "Keys, plans, limits and usage of an API gateway that meters exactly. Times \
                       are RFC 3339 in UTC with six decimals; lists take `limit` and `cursor`; \
                       every POST takes `Idempotency-Key`; errors are problem details (RFC 9457) \
                       with a stable `code`.",
        license(name = "Apache-2.0", identifier = "Apache-2.0")
    ),
    components(schemas(FieldError))
)]
struct Base;

/// The router of all calls and the document that describes them.
pub(crate) fn calls() -> (Router<ApiState>, Document) {
    let (router, mut document) = OpenApiRouter::with_openapi(Base::openapi())
        .merge(routes::calls())
        .split_for_parts();
    add_common(&mut document);
    (router, document)
}

/// What all calls have in common: the token, and how they fail.
fn add_common(document: &mut Document) {
    let components = document.components.get_or_insert_default();
    let scheme = HttpBuilder::new()
        .scheme(HttpAuthScheme::Bearer)
        .description(Some(
            "An access token. Scopes: `read`, `write`, `decide`, `ingest`; `admin` holds all.",
        ))
        .build();
    components.add_security_scheme(BEARER, SecurityScheme::Http(scheme));
    components
        .schemas
        .insert(Problem::name().into_owned(), Problem::schema());
    components
        .responses
        .insert("Problem".to_owned(), RefOr::T(problem_response()));
    for item in document.paths.paths.values_mut() {
        if let Some(post) = &mut item.post {
            post.parameters
                .get_or_insert_default()
                .push(RefOr::T(idempotency_key()));
        }
        let operations = [
            &mut item.get,
            &mut item.post,
            &mut item.patch,
            &mut item.delete,
        ];
        for operation in operations.into_iter().flatten() {
            let answers = &mut operation.responses.responses;
            answers
                .entry("default".to_owned())
                .or_insert_with(|| RefOr::Ref(Ref::from_response_name("Problem")));
        }
    }
}

fn idempotency_key() -> Parameter {
    let text = ObjectBuilder::new().schema_type(Type::String).build();
    ParameterBuilder::new()
        .name("Idempotency-Key")
        .parameter_in(ParameterIn::Header)
        .required(Required::False)
        .schema(Some(text))
        .description(Some(
            "1 to 255 visible ASCII characters. The same call with the same key is answered \
             again, not done again, for 24 hours and until a restart.",
        ))
        .build()
}

fn problem_response() -> Response {
    let content = ContentBuilder::new()
        .schema(Some(Ref::from_schema_name(Problem::name())))
        .example(Some(json!({
            "type": "/docs/errors/request_invalid",
            "title": "The request is not valid",
            "status": 400,
            "detail": "not valid: limit",
            "code": "request_invalid",
            "request_id": "req_01kb2m6y8w4x9f3t7d5q1h0z2c",
            "errors": [{"field": "limit", "code": "out_of_range", "detail": "a whole number from 1 to 1000"}]
        })))
        .build();
    ResponseBuilder::new()
        .description("Refused or failed: `code` says why, and has a page under `/docs/errors/`.")
        .content("application/problem+json", content)
        .build()
}
