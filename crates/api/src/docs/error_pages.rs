//! The pages that explain error codes, as they stand in `docs/errors/`.

macro_rules! pages {
    ($($name:literal),* $(,)?) => {
        &[$(($name, include_str!(concat!("../../../../docs/errors/", $name, ".md")))),*]
    };
}

/// Every page by its code.
pub(super) const ERROR_PAGES: &[(&str, &str)] = pages![
    "address_not_allowed",
    "already_exists",
    "api_not_found",
    "api_not_subscribed",
    "body_too_large",
    "catalog_stale",
    "conflict",
    "counters_unavailable",
    "forbidden",
    "headers_too_large",
    "idempotency_answer_lost",
    "idempotency_in_flight",
    "idempotency_mismatch",
    "internal",
    "journal_full",
    "key_disabled",
    "key_expired",
    "key_invalid",
    "key_missing",
    "key_revoked",
    "managed_by_file",
    "method_not_allowed",
    "not_found",
    "overloaded",
    "quota_exceeded",
    "rate_limited",
    "request_invalid",
    "route_not_found",
    "scope_missing",
    "subscription_cancelled",
    "subscription_not_found",
    "subscription_suspended",
    "timeout",
    "unauthenticated",
    "unavailable",
    "unprocessable",
    "upstream_failed",
    "upstream_timeout",
    "upstream_unreachable",
];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::Code;
    use tollgate_model::DenialCode;

    #[test]
    fn every_code_that_can_be_answered_has_its_page() {
        let codes = Code::ALL.iter().map(|code| code.name);
        let denials = DenialCode::ALL.iter().map(|code| code.as_str());
        for code in codes.chain(denials) {
            let page = ERROR_PAGES.iter().find(|(name, _)| *name == code);
            let (_, text) = page.unwrap_or_else(|| panic!("no page for {code}"));
            assert!(text.starts_with(&format!("# {code}\n")), "{code}");
        }
        for code in Code::ALL {
            let (_, text) = ERROR_PAGES.iter().find(|(n, _)| *n == code.name).unwrap();
            let status = format!("HTTP status {}.", code.status.as_u16());
            assert!(text.contains(&status), "{} is not {status}", code.name);
        }
    }
}
