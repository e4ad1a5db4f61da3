//! The stable codes of problem answers: one table. Each has a page under `docs/errors/`.

use http::StatusCode;

/// A stable error code with its status and words.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Code {
    /// What clients branch on.
    pub name: &'static str,
    /// The HTTP status that goes with it.
    pub status: StatusCode,
    /// A short name for people; the same for every occurrence.
    pub title: &'static str,
}

const fn code(name: &'static str, status: StatusCode, title: &'static str) -> Code {
    Code {
        name,
        status,
        title,
    }
}

impl Code {
    /// The request cannot be read, or breaks a rule of form.
    pub const REQUEST_INVALID: Self = code(
        "request_invalid",
        StatusCode::BAD_REQUEST,
        "The request is not valid",
    );
    /// No access token, or one that is not known or has expired.
    pub const UNAUTHENTICATED: Self = code(
        "unauthenticated",
        StatusCode::UNAUTHORIZED,
        "Access needs a valid token",
    );
    /// The token lacks the scope that the call asks for.
    pub const FORBIDDEN: Self = code(
        "forbidden",
        StatusCode::FORBIDDEN,
        "The token may not do this",
    );
    /// Nothing lives at this path.
    pub const NOT_FOUND: Self = code("not_found", StatusCode::NOT_FOUND, "There is no such thing");
    /// No subscription of this id, or no single one of this organization.
    pub const SUBSCRIPTION_NOT_FOUND: Self = code(
        "subscription_not_found",
        StatusCode::NOT_FOUND,
        "There is no such subscription",
    );
    /// The path is known, the method is not.
    pub const METHOD_NOT_ALLOWED: Self = code(
        "method_not_allowed",
        StatusCode::METHOD_NOT_ALLOWED,
        "This call has another method",
    );
    /// The state of things does not allow the change.
    pub const CONFLICT: Self = code(
        "conflict",
        StatusCode::CONFLICT,
        "The change does not fit the present state",
    );
    /// A thing of this name is there already.
    pub const ALREADY_EXISTS: Self = code(
        "already_exists",
        StatusCode::CONFLICT,
        "A thing of this name is there already",
    );
    /// The object belongs to the declarative file.
    pub const MANAGED_BY_FILE: Self = code(
        "managed_by_file",
        StatusCode::CONFLICT,
        "The object belongs to the catalog file",
    );
    /// A call with the same idempotency key is still running.
    pub const IDEMPOTENCY_IN_FLIGHT: Self = code(
        "idempotency_in_flight",
        StatusCode::CONFLICT,
        "The first call with this idempotency key is still running",
    );
    /// The call was done, and its answer is not there to be given again.
    pub const IDEMPOTENCY_ANSWER_LOST: Self = code(
        "idempotency_answer_lost",
        StatusCode::CONFLICT,
        "The call was done before, and its answer was not kept",
    );
    /// The body is longer than a call takes.
    pub const BODY_TOO_LARGE: Self = code(
        "body_too_large",
        StatusCode::PAYLOAD_TOO_LARGE,
        "The body is too large",
    );
    /// Well-formed, but it cannot be.
    pub const UNPROCESSABLE: Self = code(
        "unprocessable",
        StatusCode::UNPROCESSABLE_ENTITY,
        "The request is well-formed but cannot be carried out",
    );
    /// The idempotency key was used with another body.
    pub const IDEMPOTENCY_MISMATCH: Self = code(
        "idempotency_mismatch",
        StatusCode::UNPROCESSABLE_ENTITY,
        "The idempotency key belongs to another request",
    );
    /// Asked too often from one address.
    pub const RATE_LIMITED: Self = code(
        "rate_limited",
        StatusCode::TOO_MANY_REQUESTS,
        "Asked too often",
    );
    /// A fault of ours.
    pub const INTERNAL: Self = code(
        "internal",
        StatusCode::INTERNAL_SERVER_ERROR,
        "Something went wrong here",
    );
    /// The store or a part of the system cannot answer now.
    pub const UNAVAILABLE: Self = code(
        "unavailable",
        StatusCode::SERVICE_UNAVAILABLE,
        "The service cannot answer right now",
    );
    /// The call took longer than calls may.
    pub const TIMEOUT: Self = code(
        "timeout",
        StatusCode::SERVICE_UNAVAILABLE,
        "The call took too long",
    );

    /// Every code, by status.
    pub const ALL: [Self; 18] = [
        Self::REQUEST_INVALID,
        Self::UNAUTHENTICATED,
        Self::FORBIDDEN,
        Self::NOT_FOUND,
        Self::SUBSCRIPTION_NOT_FOUND,
        Self::METHOD_NOT_ALLOWED,
        Self::CONFLICT,
        Self::ALREADY_EXISTS,
        Self::MANAGED_BY_FILE,
        Self::IDEMPOTENCY_IN_FLIGHT,
        Self::IDEMPOTENCY_ANSWER_LOST,
        Self::BODY_TOO_LARGE,
        Self::UNPROCESSABLE,
        Self::IDEMPOTENCY_MISMATCH,
        Self::RATE_LIMITED,
        Self::INTERNAL,
        Self::UNAVAILABLE,
        Self::TIMEOUT,
    ];
}
