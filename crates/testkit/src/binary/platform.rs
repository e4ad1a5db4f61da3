//! Asking the platform of a running binary.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::{Context, ensure};
use http::Method;
use serde_json::{Value, json};

use super::Binary;
use crate::client::{self, Call, Reply};

/// Records in one page.
const PAGE: usize = 1_000;

impl Binary {
    /// Sends a call to the platform with the operator's token.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn ask(&self, call: Call) -> anyhow::Result<Reply> {
        let bearer = format!("Bearer {}", self.token());
        client::send(self.platform(), &call.header("Authorization", &bearer)).await
    }

    /// `GET`, which must be answered 200.
    ///
    /// # Errors
    /// When it is not; the error holds the answer.
    pub async fn get(&self, path: &str) -> anyhow::Result<Value> {
        let reply = self.ask(Call::get(path)).await?;
        ensure!(
            reply.status == 200,
            "GET {path}: {} {}",
            reply.status,
            reply.text()
        );
        reply.json()
    }

    /// `POST` of JSON, which must be answered 2xx; `null` where the answer has no body.
    ///
    /// # Errors
    /// When it is not; the error holds the answer.
    pub async fn post(&self, path: &str, body: &Value) -> anyhow::Result<Value> {
        let reply = self.ask(Call::post_json(path, body)).await?;
        let fine = (200..300).contains(&reply.status);
        ensure!(fine, "POST {path}: {} {}", reply.status, reply.text());
        if reply.body.is_empty() {
            return Ok(Value::Null);
        }
        reply.json()
    }

    /// Makes a key; answers its id and its text. The text may not appear in the output.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn create_key(&self, subscription: &str) -> anyhow::Result<(String, String)> {
        self.create_key_with(json!({"subscription_id": subscription, "name": "test"}))
            .await
    }

    /// Makes a key with more fields.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn create_key_with(&self, body: Value) -> anyhow::Result<(String, String)> {
        let made = self.post("/api/v1/keys", &body).await?;
        let text = |name: &str| {
            let value = made.get(name).and_then(Value::as_str).map(str::to_owned);
            value.with_context(|| format!("the new key has no {name}: {made}"))
        };
        let (id, key) = (text("id")?, text("key")?);
        self.keep_secret(&key);
        Ok((id, key))
    }

    /// Revokes a key.
    ///
    /// # Errors
    /// When it is not answered 204.
    pub async fn revoke(&self, id: &str) -> anyhow::Result<()> {
        let path = format!("/api/v1/keys/{id}");
        let reply = self.ask(Call::new(Method::DELETE, path)).await?;
        ensure!(
            reply.status == 204,
            "revoke: {} {}",
            reply.status,
            reply.text()
        );
        Ok(())
    }

    /// Ships and folds what waits.
    ///
    /// # Errors
    /// When it is refused.
    pub async fn flush(&self) -> anyhow::Result<()> {
        self.post("/api/v1/usage/flush", &json!({})).await.map(drop)
    }

    /// A figure without labels, as `/metrics` shows it.
    ///
    /// # Errors
    /// When it is not there, or no whole number.
    pub async fn metric(&self, name: &str) -> anyhow::Result<u64> {
        let text = client::send(self.health(), &Call::get("/metrics")).await?;
        let text = text.text();
        let of_name = |line: &str| {
            line.strip_prefix(name)?
                .strip_prefix(' ')
                .map(str::to_owned)
        };
        let value = text.lines().find_map(of_name);
        let value = value.and_then(|value| value.trim().parse::<u64>().ok());
        value.with_context(|| format!("{name} in\n{text}"))
    }

    /// All records that a query finds, over all pages, after a flush.
    ///
    /// # Errors
    /// When a page cannot be read.
    pub async fn records(&self, query: &str) -> anyhow::Result<Vec<Value>> {
        self.flush().await?;
        let mut records = Vec::new();
        let mut cursor = None;
        loop {
            let more = cursor.map(|cursor: String| format!("&cursor={cursor}"));
            let more = more.unwrap_or_default();
            let path = format!("/api/v1/usage/records?limit={PAGE}&{query}{more}");
            let page = self.get(&path).await?;
            let items = page.get("items").and_then(Value::as_array);
            records.extend(items.context("a page has items")?.iter().cloned());
            cursor = page
                .get("next_cursor")
                .and_then(Value::as_str)
                .map(str::to_owned);
            if cursor.is_none() {
                return Ok(records);
            }
        }
    }

    /// The same by id.
    ///
    /// # Errors
    /// When a page cannot be read, or an id is recorded twice.
    pub async fn records_by_id(&self, query: &str) -> anyhow::Result<HashMap<String, Value>> {
        let mut records = HashMap::new();
        for record in self.records(query).await? {
            let id = record.get("id").and_then(Value::as_str);
            let id = id.context("a record has an id")?.to_owned();
            let twice = records.insert(id.clone(), record);
            ensure!(twice.is_none(), "{id} is recorded twice");
        }
        Ok(records)
    }

    /// The quota that a subscription has used, after a flush.
    ///
    /// # Errors
    /// When the answer has no `quota.used`.
    pub async fn quota_used(&self, subscription: &str) -> anyhow::Result<u64> {
        self.flush().await?;
        let path = format!("/api/v1/usage/stats?subscription_id={subscription}&range=24h");
        let stats = self.get(&path).await?;
        let used = stats.pointer("/quota/used").and_then(Value::as_u64);
        used.with_context(|| format!("no quota.used in {stats}"))
    }

    /// `tollgate reconcile` must find no difference; answers what it said.
    ///
    /// # Errors
    /// When it finds one.
    pub fn reconcile(&self) -> anyhow::Result<String> {
        self.run_well(&["reconcile"])
    }

    /// Sends a request through the gateway with a key.
    ///
    /// # Errors
    /// When there is no answer.
    pub async fn call(&self, key: &str, path: &str) -> anyhow::Result<Reply> {
        client::send(self.gateway(), &Call::get(path).key(key)).await
    }

    /// Waits until the gateway has restored its counters and answers something else than 503.
    ///
    /// # Errors
    /// When it does not in time.
    pub async fn wait_serving(&self, path: &str, deadline: Duration) -> anyhow::Result<()> {
        let serving = async || {
            let answer = client::send(self.gateway(), &Call::get(path)).await;
            answer.is_ok_and(|answer| answer.status != 503)
        };
        crate::wait_until("the gateway serves", deadline, serving)
            .await
            .map(drop)
    }
}
