//! Failures of rooms, as the API tells them.

use tollgate_control::{ControlError, Problem};
use tollgate_metering::MeteringError;
use tollgate_store::{Entity, StoreError, StoreErrorKind};

use super::{ApiError, Code, FieldError};

impl From<Problem> for FieldError {
    fn from(problem: Problem) -> Self {
        Self {
            field: problem.field,
            code: problem.code.as_str().to_owned(),
            detail: problem.detail,
            line: problem.line,
            column: problem.column,
        }
    }
}

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> Self {
        let code = match error {
            ControlError::Invalid(problems) => {
                return Self::invalid(problems.into_iter().map(FieldError::from).collect());
            }
            ControlError::Store(error) => return error.into(),
            ControlError::PepperMismatch => return Self::internal(error),
            ControlError::NotFound {
                kind: "subscription",
                ..
            } => Code::SUBSCRIPTION_NOT_FOUND,
            ControlError::NotFound { .. } => Code::NOT_FOUND,
            ControlError::Conflict(_) => Code::CONFLICT,
            ControlError::AlreadyExists { .. } => Code::ALREADY_EXISTS,
            ControlError::ManagedByFile { .. } => Code::MANAGED_BY_FILE,
            ControlError::Impossible(_) => Code::UNPROCESSABLE,
        };
        Self::new(code, error.to_string())
    }
}

impl From<MeteringError> for ApiError {
    fn from(error: MeteringError) -> Self {
        match error {
            MeteringError::Invalid { field, detail } => {
                Self::invalid_field(field, "invalid", detail)
            }
            MeteringError::TooMuch { .. } => Self::new(Code::UNPROCESSABLE, error.to_string()),
            MeteringError::Store(error) => error.into(),
            MeteringError::Source(_) => {
                Self::new(Code::UNAVAILABLE, "the journal cannot be read now").caused(error)
            }
            MeteringError::Lagging { .. } => {
                Self::new(Code::UNAVAILABLE, "not everything was taken in in time").caused(error)
            }
        }
    }
}

impl From<StoreError> for ApiError {
    /// Rooms answer for what is missing or taken; what still arrives here is the store's own.
    fn from(error: StoreError) -> Self {
        let (code, detail) = match error.kind {
            StoreErrorKind::Conflict if error.entity == Entity::Call => (
                Code::IDEMPOTENCY_IN_FLIGHT,
                "another call with this Idempotency-Key took over; this one changed nothing",
            ),
            StoreErrorKind::NotFound => (Code::NOT_FOUND, "it is not there (any more)"),
            StoreErrorKind::Conflict => (Code::CONFLICT, "it was changed meanwhile; try again"),
            StoreErrorKind::AlreadyExists => (
                Code::ALREADY_EXISTS,
                "a thing of this name is there already",
            ),
            StoreErrorKind::Unavailable => (Code::UNAVAILABLE, "the store cannot be reached now"),
            StoreErrorKind::Corrupt | StoreErrorKind::Unstorable => return Self::internal(error),
        };
        Self::new(code, detail).caused(error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use tollgate_control::ProblemCode;

    #[test]
    fn every_problem_of_the_input_is_told_with_its_place() {
        let problems = vec![
            Problem {
                line: Some(3),
                column: Some(9),
                ..Problem::new(
                    "plan \"free\": quota.units",
                    ProblemCode::OutOfRange,
                    "must be 1",
                )
            },
            Problem::new("name", ProblemCode::Missing, "is missing"),
        ];
        let error = ApiError::from(ControlError::Invalid(problems));
        assert_eq!(error.code, Code::REQUEST_INVALID);
        assert_eq!(error.errors[0].line, Some(3));
        assert_eq!(error.errors[0].code, "out_of_range");
        assert_eq!(error.errors[1].field, "name");
    }

    #[test]
    fn what_the_store_says_is_for_the_log_alone() {
        for kind in [StoreErrorKind::Unavailable, StoreErrorKind::Corrupt] {
            let error = StoreError::caused(kind, Entity::Key, "SELECT secret FROM host-7");
            let error = ApiError::from(ControlError::Store(error));
            assert!(error.code.status.is_server_error());
            assert!(!error.detail.contains("SELECT"), "{}", error.detail);
            assert!(error.source.unwrap().to_string().contains("host-7"));
        }
    }
}
