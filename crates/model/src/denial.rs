//! Why a request was refused: stable codes, each with one status (docs/rules.md, "The order of
//! refusals").

/// The code of a refusal at the gate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum DenialCode {
    /// The request could not be read or broke a rule of form.
    RequestInvalid,
    /// The body is longer than the API takes.
    BodyTooLarge,
    /// The request head is longer than a gateway takes.
    HeadersTooLarge,
    /// No API lives at this host and path.
    ApiNotFound,
    /// The API lists its routes and refuses others.
    RouteNotFound,
    /// The path is known, the method is not.
    MethodNotAllowed,
    /// No credential where one is asked for.
    KeyMissing,
    /// The credential is not known.
    KeyInvalid,
    /// The key's time is over.
    KeyExpired,
    /// The key was taken back.
    KeyRevoked,
    /// The key is switched off.
    KeyDisabled,
    /// The subscription does not hold this API.
    ApiNotSubscribed,
    /// The client's address is not on the key's list.
    AddressNotAllowed,
    /// The key lacks the route's scope.
    ScopeMissing,
    /// The subscription is suspended.
    SubscriptionSuspended,
    /// The subscription was cancelled.
    SubscriptionCancelled,
    /// A rate limit was reached.
    RateLimited,
    /// A quota was reached.
    QuotaExceeded,
    /// The upstream could not be reached.
    UpstreamUnreachable,
    /// The upstream broke off or spoke nonsense.
    UpstreamFailed,
    /// The upstream was too slow.
    UpstreamTimeout,
    /// The gateway is shedding load.
    Overloaded,
    /// Counters are being restored.
    CountersUnavailable,
    /// There is no room to write the event down.
    JournalFull,
    /// The gateway has not heard from its platform for too long.
    CatalogStale,
}

impl DenialCode {
    /// Every code, in the order of refusals.
    pub const ALL: [Self; 25] = [
        Self::RequestInvalid,
        Self::BodyTooLarge,
        Self::HeadersTooLarge,
        Self::ApiNotFound,
        Self::RouteNotFound,
        Self::MethodNotAllowed,
        Self::KeyMissing,
        Self::KeyInvalid,
        Self::KeyExpired,
        Self::KeyRevoked,
        Self::KeyDisabled,
        Self::ApiNotSubscribed,
        Self::AddressNotAllowed,
        Self::ScopeMissing,
        Self::SubscriptionSuspended,
        Self::SubscriptionCancelled,
        Self::RateLimited,
        Self::QuotaExceeded,
        Self::UpstreamUnreachable,
        Self::UpstreamFailed,
        Self::UpstreamTimeout,
        Self::Overloaded,
        Self::CountersUnavailable,
        Self::JournalFull,
        Self::CatalogStale,
    ];

    /// The stable code of problem answers, records and docs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::RequestInvalid => "request_invalid",
            Self::BodyTooLarge => "body_too_large",
            Self::HeadersTooLarge => "headers_too_large",
            Self::ApiNotFound => "api_not_found",
            Self::RouteNotFound => "route_not_found",
            Self::MethodNotAllowed => "method_not_allowed",
            Self::KeyMissing => "key_missing",
            Self::KeyInvalid => "key_invalid",
            Self::KeyExpired => "key_expired",
            Self::KeyRevoked => "key_revoked",
            Self::KeyDisabled => "key_disabled",
            Self::ApiNotSubscribed => "api_not_subscribed",
            Self::AddressNotAllowed => "address_not_allowed",
            Self::ScopeMissing => "scope_missing",
            Self::SubscriptionSuspended => "subscription_suspended",
            Self::SubscriptionCancelled => "subscription_cancelled",
            Self::RateLimited => "rate_limited",
            Self::QuotaExceeded => "quota_exceeded",
            Self::UpstreamUnreachable => "upstream_unreachable",
            Self::UpstreamFailed => "upstream_failed",
            Self::UpstreamTimeout => "upstream_timeout",
            Self::Overloaded => "overloaded",
            Self::CountersUnavailable => "counters_unavailable",
            Self::JournalFull => "journal_full",
            Self::CatalogStale => "catalog_stale",
        }
    }

    /// Reads a code back from a record.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|code| code.as_str() == text)
    }

    /// The HTTP status that goes with the code.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::RequestInvalid => 400,
            Self::KeyMissing | Self::KeyInvalid | Self::KeyExpired | Self::KeyRevoked => 401,
            Self::SubscriptionSuspended => 402,
            Self::KeyDisabled
            | Self::ApiNotSubscribed
            | Self::AddressNotAllowed
            | Self::ScopeMissing
            | Self::SubscriptionCancelled => 403,
            Self::ApiNotFound | Self::RouteNotFound => 404,
            Self::MethodNotAllowed => 405,
            Self::BodyTooLarge => 413,
            Self::RateLimited | Self::QuotaExceeded => 429,
            Self::HeadersTooLarge => 431,
            Self::UpstreamUnreachable | Self::UpstreamFailed => 502,
            Self::Overloaded
            | Self::CountersUnavailable
            | Self::JournalFull
            | Self::CatalogStale => 503,
            Self::UpstreamTimeout => 504,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_code_reads_back() {
        for code in DenialCode::ALL {
            assert_eq!(DenialCode::parse(code.as_str()), Some(code));
        }
    }
}
