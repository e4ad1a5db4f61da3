//! Catalog objects: APIs, plans, limits, organizations, subscriptions.
//!
//! All five are listed, made, read, changed and deleted alike; one macro writes the calls so that
//! each has its entry in the OpenAPI document. What their fields mean, and what is wrong with them,
//! is for `control` to say.

mod operations;
mod schema;
mod subscription;

use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::state::ApiState;

macro_rules! object_calls {
    ($module:ident, $kind:ident, $body:ident, $one:literal, $path:literal, $path_id:literal,
     [$list:literal, $create:literal, $get:literal, $patch:literal, $delete:literal]) => {
        mod $module {
            use axum::Json;
            use axum::extract::State;
            use http::StatusCode;
            use serde_json::Value;
            use tollgate_store::ObjectKind;

            use super::operations;
            use super::schema::$body;
            use crate::body::JsonObject;
            use crate::error::ApiResult;
            use crate::extract::{By, Id};
            use crate::page::List;
            use crate::query::Query;
            use crate::state::ApiState;

            const KIND: ObjectKind = ObjectKind::$kind;

            /// List them, newest first.
            #[utoipa::path(
                get, path = $path, tag = "Catalog", operation_id = $list,
                security(("bearer" = ["read"])),
                params(
                    ("limit" = Option<u32>, Query, description = "1 to 1000, 50 by default."),
                    ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before."),
                    ("organization_id" = Option<String>, Query, description = "Only what belongs to this organization."),
                ),
                responses((status = 200, description = "A page.", body = List<$body>))
            )]
            pub async fn list(
                State(state): State<ApiState>,
                query: Query,
            ) -> ApiResult<Json<List<Value>>> {
                operations::list(&state, KIND, query).await.map(Json)
            }

            /// Make one.
            ///
            /// The id is made too unless one is given.
            #[utoipa::path(
                post, path = $path, tag = "Catalog", operation_id = $create,
                security(("bearer" = ["write"])),
                request_body = $body,
                responses((status = 201, description = "Made; gateways here decide by it already.", body = $body))
            )]
            pub async fn create(
                State(state): State<ApiState>,
                By(actor): By,
                JsonObject(input): JsonObject,
            ) -> ApiResult<(StatusCode, Json<Value>)> {
                let made = operations::create(&state, KIND, input, &actor).await?;
                Ok((StatusCode::CREATED, Json(made)))
            }

            /// Read one.
            #[utoipa::path(
                get, path = $path_id, tag = "Catalog", operation_id = $get,
                security(("bearer" = ["read"])),
                params(("id" = String, Path, description = "Its id.")),
                responses((status = 200, description = $one, body = $body))
            )]
            pub async fn get(
                State(state): State<ApiState>,
                Id(id): Id,
            ) -> ApiResult<Json<Value>> {
                operations::get(&state, KIND, &id).await.map(Json)
            }

            /// Change one by a JSON merge patch.
            ///
            /// Fields that are not named stay; `null` takes a field away. What the catalog file
            /// declares is refused with `managed_by_file`.
            #[utoipa::path(
                patch, path = $path_id, tag = "Catalog", operation_id = $patch,
                security(("bearer" = ["write"])),
                params(("id" = String, Path, description = "Its id.")),
                request_body = $body,
                responses((status = 200, description = "As it is now.", body = $body))
            )]
            pub async fn patch(
                State(state): State<ApiState>,
                By(actor): By,
                Id(id): Id,
                JsonObject(patch): JsonObject,
            ) -> ApiResult<Json<Value>> {
                operations::patch(&state, KIND, &id, patch, &actor)
                    .await
                    .map(Json)
            }

            /// Delete one that nothing refers to.
            #[utoipa::path(
                delete, path = $path_id, tag = "Catalog", operation_id = $delete,
                security(("bearer" = ["write"])),
                params(("id" = String, Path, description = "Its id.")),
                responses((status = 204, description = "Gone."))
            )]
            pub async fn delete(
                State(state): State<ApiState>,
                By(actor): By,
                Id(id): Id,
            ) -> ApiResult<StatusCode> {
                operations::delete(&state, KIND, &id, &actor).await?;
                Ok(StatusCode::NO_CONTENT)
            }
        }
    };
}

object_calls!(
    apis,
    Api,
    ApiObject,
    "An API with its routes.",
    "/api/v1/apis",
    "/api/v1/apis/{id}",
    [
        "list_apis",
        "create_api",
        "get_api",
        "patch_api",
        "delete_api"
    ]
);
object_calls!(
    plans,
    Plan,
    PlanObject,
    "A plan.",
    "/api/v1/plans",
    "/api/v1/plans/{id}",
    [
        "list_plans",
        "create_plan",
        "get_plan",
        "patch_plan",
        "delete_plan"
    ]
);
object_calls!(
    limits,
    Limit,
    LimitObject,
    "A named limit.",
    "/api/v1/limits",
    "/api/v1/limits/{id}",
    [
        "list_limits",
        "create_limit",
        "get_limit",
        "patch_limit",
        "delete_limit"
    ]
);
object_calls!(
    organizations,
    Organization,
    OrganizationObject,
    "An organization.",
    "/api/v1/organizations",
    "/api/v1/organizations/{id}",
    [
        "list_organizations",
        "create_organization",
        "get_organization",
        "patch_organization",
        "delete_organization"
    ]
);
object_calls!(
    subscriptions,
    Subscription,
    SubscriptionObject,
    "A subscription, with its state and usage.",
    "/api/v1/subscriptions",
    "/api/v1/subscriptions/{id}",
    [
        "list_subscriptions",
        "create_subscription",
        "get_subscription",
        "patch_subscription",
        "delete_subscription"
    ]
);

macro_rules! all_calls {
    ($($module:ident),*) => {
        OpenApiRouter::new()
            $(
                .routes(routes!($module::list, $module::create))
                .routes(routes!($module::get, $module::patch, $module::delete))
            )*
    };
}

/// Calls about catalog objects.
pub(super) fn calls() -> OpenApiRouter<ApiState> {
    all_calls!(apis, plans, limits, organizations, subscriptions)
}
