//! Talking to the platform's API from the command line.

use std::time::Duration;

use anyhow::{Context, bail};
use reqwest::Method;
use serde_json::Value;

use crate::cli::PlatformArgs;
use crate::config;

/// Longest wait for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(60);

/// The platform, reached over HTTP.
pub struct Platform {
    http: reqwest::Client,
    url: String,
    token: Option<String>,
}

/// What is sent as a body.
pub enum Body {
    /// Nothing.
    Empty,
    /// JSON.
    Json(Value),
    /// A catalog as TOML.
    Toml(String),
}

impl Platform {
    /// Finds the platform from flags, environment and configuration.
    ///
    /// # Errors
    /// When the configuration cannot be read, or the address is no `http://` URL.
    pub fn from_args(args: &PlatformArgs) -> anyhow::Result<Self> {
        let url = match (&args.url, &args.config) {
            (Some(url), _) => url.clone(),
            (None, Some(path)) => format!("http://{}", config::load(path)?.platform_listen),
            (None, None) => "http://127.0.0.1:8081".to_owned(),
        };
        let token = args
            .token
            .clone()
            .or_else(|| std::env::var("TOLLGATE_ADMIN_TOKEN").ok());
        Self::new(&url, token)
    }

    /// The platform at an address.
    ///
    /// # Errors
    /// When the address is no `http://` URL.
    pub fn new(url: &str, token: Option<String>) -> anyhow::Result<Self> {
        if !url.starts_with("http://") {
            bail!("the platform's address must begin with http:// (got {url})");
        }
        let http = reqwest::Client::builder().timeout(ANSWER_TIMEOUT).build()?;
        Ok(Self {
            http,
            url: url.trim_end_matches('/').to_owned(),
            token,
        })
    }

    /// Asks a question.
    ///
    /// # Errors
    /// See [`Self::send`].
    pub async fn get(&self, path: &str, query: &[(&str, String)]) -> anyhow::Result<Value> {
        self.send(Method::GET, path, query, Body::Empty).await
    }

    /// Sends a call and reads its answer; an empty answer is `null`.
    ///
    /// # Errors
    /// When the platform cannot be reached, or refuses: the message is what it said, with every
    /// field it named.
    pub async fn send(
        &self,
        method: Method,
        path: &str,
        query: &[(&str, String)],
        body: Body,
    ) -> anyhow::Result<Value> {
        let mut request = self
            .http
            .request(method, format!("{}{path}", self.url))
            .query(query);
        if let Some(token) = &self.token {
            request = request.bearer_auth(token);
        }
        request = match body {
            Body::Empty => request,
            Body::Json(value) => request.json(&value),
            Body::Toml(text) => request
                .header("content-type", "application/toml")
                .body(text),
        };
        let answer = request
            .send()
            .await
            .map_err(|error| self.unreachable(error))?;
        let status = answer.status();
        let text = answer
            .text()
            .await
            .context("the platform's answer broke off")?;
        if status.is_success() {
            if text.is_empty() {
                return Ok(Value::Null);
            }
            return serde_json::from_str(&text).context("the platform's answer is not JSON");
        }
        let status = status.as_u16();
        let token = match (&self.token, status) {
            (_, s) if s != 401 => None,
            (None, _) => Some(NO_TOKEN),
            (Some(_), _) => Some(WRONG_TOKEN),
        };
        let words = match token {
            Some(words) => format!("{words}\n{MAKE_TOKEN}"),
            None => refusal(status, &text),
        };
        Err(Refused { status, words }.into())
    }

    fn unreachable(&self, error: reqwest::Error) -> anyhow::Error {
        let url = &self.url;
        let words = if error.is_timeout() {
            let seconds = ANSWER_TIMEOUT.as_secs();
            format!(
                "the platform at {url} took the connection and did not answer within {seconds} s; \
                 `tollgate doctor` and its log say what it waits for"
            )
        } else if error.is_connect() {
            format!(
                "nothing answers at {url}; is `tollgate serve` or `tollgate demo` running there? \
                 (--url or --config names another address)"
            )
        } else {
            format!("what listens at {url} is not the platform, or broke off its answer")
        };
        anyhow::Error::new(error).context(words)
    }
}

const NO_TOKEN: &str = "no token was given, and the platform answers nobody without one (401)";
const WRONG_TOKEN: &str = "the platform does not know this token: it is mistyped, has expired, or \
     belongs to another installation (401)";
const MAKE_TOKEN: &str = "Give one with --token or TOLLGATE_TOKEN; \
     `tollgate admin token create --scope admin --config FILE` makes one.";

/// The platform answered, and refused.
#[derive(Debug, thiserror::Error)]
#[error("{words}")]
pub struct Refused {
    /// The HTTP status; 400 is wrong usage.
    pub status: u16,
    words: String,
}

/// A refusal in words.
fn refusal(status: u16, text: &str) -> String {
    let Ok(problem) = serde_json::from_str::<Value>(text) else {
        return format!("the platform answered {status}");
    };
    let field = |name: &str| {
        problem
            .get(name)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let mut words = format!("{} ({status} {})", field("detail"), field("code"));
    if field("code") == "api_not_found" {
        words.push_str("\nThis looks like the gateway; the platform is usually on port 8081.");
    }
    for error in problem
        .get("errors")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
    {
        let part = |name: &str| error.get(name).and_then(Value::as_str).unwrap_or_default();
        let place = match (error.get("line"), error.get("column")) {
            (Some(line), Some(column)) if line.is_u64() => {
                format!("line {line}, column {column}: ")
            }
            _ => String::new(),
        };
        words.push_str(&format!("\n  {place}{}: {}", part("field"), part("detail")));
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_names_every_field_with_its_place() {
        let text = r#"{"detail":"2 problems","code":"request_invalid","errors":[
            {"field":"plan \"free\": quota.units","detail":"not a number","line":3,"column":9},
            {"field":"name","detail":"missing"}]}"#;
        let words = refusal(400, text);
        assert!(
            words.contains("2 problems (400 request_invalid)"),
            "{words}"
        );
        assert!(words.contains("line 3, column 9: plan \"free\": quota.units: not a number"));
        assert!(words.contains("\n  name: missing"));
    }
}
