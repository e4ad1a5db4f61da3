//! What of a request's target may be written down: never a key or token.
//!
//! Older callers put keys into the query. Names are decoded and stripped before they are
//! compared, so that another spelling of the name does not let a value through.

use http::Uri;
use tollgate_model::KeySecret;

use crate::query::decode;

const REDACTED: &str = "REDACTED";
/// Longest target that is logged, in bytes.
const TARGET_BYTES_MAX: usize = 1_024;

/// Parameters whose values are secrets, lower case and without punctuation.
const SECRET_NAMES: [&str; 9] = [
    "subscriptionkey",
    "xsubscriptionkey",
    "key",
    "apikey",
    "token",
    "accesstoken",
    "secret",
    "password",
    "authorization",
];

/// Path and query without secrets, cut to a bounded length.
#[must_use]
pub fn target(uri: &Uri) -> String {
    let path: Vec<&str> = uri.path().split('/').map(segment).collect();
    let mut out = path.join("/");
    if let Some(query) = uri.query() {
        out.push('?');
        let shown: Vec<String> = query.split('&').map(part).collect();
        out.push_str(&shown.join("&"));
    }
    cut(&out)
}

/// A key where its id belongs is a slip that must not end in a log.
fn segment(text: &str) -> &str {
    if KeySecret::has_valid_checksum(text) {
        REDACTED
    } else {
        text
    }
}

fn part(text: &str) -> String {
    let Some((name, value)) = text.split_once('=') else {
        // A bare value could be a key pasted in the wrong place.
        return if text.len() > 32 {
            REDACTED.to_owned()
        } else {
            text.to_owned()
        };
    };
    // A name that cannot be decoded could be anything.
    let is_secret = decode(name).is_none_or(|name| {
        let plain: String = name
            .chars()
            .filter(char::is_ascii_alphanumeric)
            .map(|letter| letter.to_ascii_lowercase())
            .collect();
        SECRET_NAMES.contains(&plain.as_str())
    });
    if is_secret || KeySecret::has_valid_checksum(value) {
        format!("{name}={REDACTED}")
    } else {
        text.to_owned()
    }
}

fn cut(text: &str) -> String {
    let mut end = text.len().min(TARGET_BYTES_MAX);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or("").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_in_queries_are_redacted_however_their_name_is_spelled() {
        for name in [
            "subscription_key",
            "subscriptionKey",
            "subscription%5Fkey",
            "SUBSCRIPTIONKEY",
            "subscription-key",
            "key",
            "apiKey",
            "token",
            "%zz",
        ] {
            let uri: Uri = format!("/api/v1/quota/check?a=1&{name}=hm_secret")
                .parse()
                .unwrap();
            let shown = target(&uri);
            assert!(!shown.contains("hm_secret"), "{shown}");
            assert!(shown.contains("a=1"), "{shown}");
        }
    }

    #[test]
    fn targets_are_cut() {
        let uri: Uri = format!("/{}", "x".repeat(5_000)).parse().unwrap();
        assert_eq!(target(&uri).len(), TARGET_BYTES_MAX);
    }
}
