//! Failures of rooms, as the API tells them.
use tollgate_control::ControlError;

use super::ApiError;

impl From<ControlError> for ApiError {
    fn from(error: ControlError) -> Self {
        ApiError::internal(error)
    }
}
