//! Query parameters, read once and all faults at once.
//!
//! **Invariants.** A parameter that the operation does not declare in the OpenAPI document is a
//! fault, and so is one given twice or one that cannot be decoded; [`Query::finish`] tells all of
//! them together with the values that handlers refused. camelCase and the older names are read as
//! the present ones, so that handlers know one spelling only.

use axum::extract::FromRequestParts;
use http::request::Parts;
use tollgate_model::Timestamp;

use crate::error::{ApiError, ApiResult, FieldError};
use crate::guard::Operation;

/// Most parameters of one call.
const PARAMETERS_MAX: usize = 64;

/// Older names and the present ones.
const OLDER_NAMES: [(&str, &str); 5] = [
    ("tier", "plan"),
    ("api_key_id", "key_id"),
    ("endpoint", "route"),
    ("api_path", "route"),
    ("interval", "every"),
];

#[derive(Debug)]
struct Parameter {
    /// As sent, for messages.
    given: String,
    /// The present spelling.
    name: String,
    value: String,
}

/// The parameters of one call.
#[derive(Debug, Default)]
pub struct Query {
    parameters: Vec<Parameter>,
    errors: Vec<FieldError>,
}

impl Query {
    /// Reads a query string; `known` are the declared names.
    pub(crate) fn read<'a>(raw: &str, known: impl Fn(&str) -> bool + 'a) -> Self {
        let mut query = Self::default();
        for part in raw.split('&').filter(|part| !part.is_empty()) {
            if query.parameters.len() >= PARAMETERS_MAX {
                query.fail("", "out_of_range", "a call has at most 64 parameters");
                break;
            }
            query.read_part(part, &known);
        }
        query
    }

    fn read_part(&mut self, part: &str, known: &dyn Fn(&str) -> bool) {
        let (name, value) = part.split_once('=').unwrap_or((part, ""));
        let (Some(given), Some(value)) = (decode(name), decode(value)) else {
            let shown = decode(name).unwrap_or_else(|| "?".to_owned());
            self.fail(&shown, "invalid", "not valid percent-encoded UTF-8");
            return;
        };
        let name = present_name(&given);
        if !known(&name) {
            self.fail(&given, "unknown", "no such parameter");
        } else if self.parameters.iter().any(|other| other.name == name) {
            self.fail(&given, "duplicate", "given more than once");
        } else if value.is_empty() {
            self.fail(&given, "invalid", "has no value");
        } else {
            self.parameters.push(Parameter { given, name, value });
        }
    }

    fn find(&self, name: &str) -> Option<&Parameter> {
        self.parameters
            .iter()
            .find(|parameter| parameter.name == name)
    }

    /// Notes a fault.
    pub fn fail(&mut self, name: &str, code: &str, detail: impl Into<String>) {
        let field = self
            .find(name)
            .map_or_else(|| name.to_owned(), |parameter| parameter.given.clone());
        self.errors.push(FieldError::new(field, code, detail));
    }

    /// Whether the parameter was given.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.find(name).is_some()
    }

    /// A text of at most 512 bytes.
    pub fn text(&mut self, name: &str) -> Option<String> {
        let value = self.find(name)?.value.clone();
        if value.len() > 512 {
            self.fail(name, "out_of_range", "at most 512 bytes");
            return None;
        }
        Some(value)
    }

    /// A whole number inside a range.
    pub fn number(&mut self, name: &str, range: std::ops::RangeInclusive<u64>) -> Option<u64> {
        let number = self.find(name)?.value.parse::<u64>();
        match number {
            Ok(number) if range.contains(&number) => Some(number),
            other => {
                let code = if other.is_ok() {
                    "out_of_range"
                } else {
                    "wrong_type"
                };
                let detail = format!("a whole number from {} to {}", range.start(), range.end());
                self.fail(name, code, detail);
                None
            }
        }
    }

    /// An instant, RFC 3339 with any offset.
    pub fn timestamp(&mut self, name: &str) -> Option<Timestamp> {
        // A plus sign in a query means a space; in an instant it can only be an offset's sign.
        let text = self.find(name)?.value.replace(' ', "+");
        match Timestamp::parse(&text) {
            Ok(at) => Some(at),
            Err(error) => {
                self.fail(name, "invalid", error.to_string());
                None
            }
        }
    }

    /// `true` or `false`; absent is `false`.
    pub fn flag(&mut self, name: &str) -> bool {
        self.choice(name, "true or false", |text| match text {
            "true" | "1" => Some(true),
            "false" | "0" => Some(false),
            _ => None,
        })
        .unwrap_or(false)
    }

    /// One of a few spellings; `allowed` is told when it is none of them.
    pub fn choice<T>(
        &mut self,
        name: &str,
        allowed: &str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Option<T> {
        let chosen = parse(&self.find(name)?.value);
        if chosen.is_none() {
            self.fail(name, "invalid", format!("one of: {allowed}"));
        }
        chosen
    }

    /// Everything that was wrong, as one answer.
    ///
    /// # Errors
    /// 400 when anything was.
    pub fn finish(self) -> ApiResult<()> {
        if self.errors.is_empty() {
            Ok(())
        } else {
            Err(ApiError::invalid(self.errors))
        }
    }

    /// The value, if nothing was wrong. A value is only withheld after a fault was noted.
    ///
    /// # Errors
    /// 400 with everything that was wrong.
    pub fn finish_with<T>(self, value: Option<T>) -> ApiResult<T> {
        self.finish()?;
        value.ok_or_else(|| ApiError::invalid_field("", "invalid", "the query could not be read"))
    }
}

impl<S: Send + Sync> FromRequestParts<S> for Query {
    type Rejection = ApiError;

    async fn from_request_parts(parts: &mut Parts, _state: &S) -> Result<Self, ApiError> {
        let operation = parts.extensions.get::<std::sync::Arc<Operation>>();
        Ok(Self::read(parts.uri.query().unwrap_or(""), |name| {
            operation.is_some_and(|operation| operation.takes_parameter(name))
        }))
    }
}

/// The present spelling of a parameter or field.
pub(crate) fn present_name(given: &str) -> String {
    let mut name = String::with_capacity(given.len() + 4);
    for letter in given.chars() {
        if letter.is_ascii_uppercase() {
            if !name.is_empty() {
                name.push('_');
            }
            name.push(letter.to_ascii_lowercase());
        } else {
            name.push(letter);
        }
    }
    OLDER_NAMES
        .iter()
        .find(|(older, _)| *older == name)
        .map_or(name, |(_, present)| (*present).to_owned())
}

/// Undoes `application/x-www-form-urlencoded`; `None` for bad escapes and bad UTF-8.
pub(crate) fn decode(text: &str) -> Option<String> {
    let mut bytes = text.bytes();
    let mut out = Vec::with_capacity(text.len());
    while let Some(byte) = bytes.next() {
        out.push(match byte {
            b'+' => b' ',
            b'%' => {
                let high = hex(bytes.next()?)?;
                let low = hex(bytes.next()?)?;
                high * 16 + low
            }
            other => other,
        });
    }
    String::from_utf8(out).ok()
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit)
        .to_digit(16)
        .and_then(|value| u8::try_from(value).ok())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(raw: &str) -> Query {
        Query::read(raw, |name| {
            ["limit", "from", "key_id", "plan"].contains(&name)
        })
    }

    #[test]
    fn every_wrong_parameter_is_named_in_one_answer() {
        let mut query = read("limit=0&from=yesterday&x=1&limit=2&key_id=&plan=%zz");
        assert_eq!(query.number("limit", 1..=1000), None);
        assert_eq!(query.timestamp("from"), None);
        let error = query.finish().unwrap_err();
        let mut named: Vec<_> = error
            .errors
            .iter()
            .map(|e| (e.field.as_str(), e.code.as_str()))
            .collect();
        named.sort_unstable();
        assert_eq!(
            named,
            [
                ("from", "invalid"),
                ("key_id", "invalid"),
                ("limit", "duplicate"),
                ("limit", "out_of_range"),
                ("plan", "invalid"),
                ("x", "unknown"),
            ]
        );
    }

    #[test]
    fn older_and_camel_case_names_are_read_as_the_present_ones() {
        for (given, present) in [
            ("userId", "user_id"),
            ("apiKeyId", "key_id"),
            ("tier", "plan"),
            ("subscriptionKey", "subscription_key"),
            ("endpoint", "route"),
            ("minLatencyMs", "min_latency_ms"),
            ("group_by", "group_by"),
        ] {
            assert_eq!(present_name(given), present);
        }
        let mut query = read("apiKeyId=key_1");
        assert_eq!(query.text("key_id").as_deref(), Some("key_1"));
    }

    #[test]
    fn the_fault_is_told_under_the_name_that_was_sent() {
        let mut query = read("tier=gold");
        query.fail("plan", "x", "y");
        assert_eq!(query.finish().unwrap_err().errors[0].field, "tier");
    }

    #[test]
    fn an_offset_with_a_bare_plus_sign_is_read() {
        let mut query = read("from=2026-11-23T14:00:00+01:00");
        assert_eq!(
            query.timestamp("from"),
            Timestamp::parse("2026-11-23T13:00:00Z").ok()
        );
    }
}
