//! The demo's customers: a steady, believable stream of calls, some over their limit, some slow,
//! some wrong.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use reqwest::Method;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

/// Calls under way at most; when the gateway is slower than the customers, they wait.
const IN_FLIGHT_MAX: usize = 256;

/// One example customer.
#[derive(Debug, Clone)]
pub struct Customer {
    /// The secret; empty for callers without a key.
    pub key: String,
    /// How often it calls, relative to the others.
    pub weight: u32,
}

/// Calls until told to stop.
///
/// # Errors
/// When no HTTP client can be made.
pub async fn run(
    gateway: SocketAddr,
    customers: Vec<Customer>,
    requests_per_second: u32,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let http = reqwest::Client::builder()
        .timeout(Duration::from_secs(10))
        .build()?;
    let permits = Arc::new(Semaphore::new(IN_FLIGHT_MAX));
    // A fixed seed: every demo shows the same customers doing the same things.
    let mut rng = StdRng::seed_from_u64(7);
    let mut calls = JoinSet::new();
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / requests_per_second.max(1));
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            Some(_) = calls.join_next(), if !calls.is_empty() => {}
            _ = ticks.tick() => {
                let Ok(permit) = Arc::clone(&permits).acquire_owned().await else { return Ok(()) };
                let Some(customer) = pick(&customers, &mut rng) else { continue };
                let call = next_call(&http, gateway, customer, &mut rng);
                calls.spawn(async move {
                    // What the answer was is in Tollgate's own records.
                    if let Ok(answer) = call.send().await {
                        drop(answer.bytes().await);
                    }
                    drop(permit);
                });
            }
        }
    }
}

fn pick<'a>(customers: &'a [Customer], rng: &mut StdRng) -> Option<&'a Customer> {
    let total: u32 = customers.iter().map(|customer| customer.weight).sum();
    let mut drawn = rng.random_range(0..total.max(1));
    customers.iter().find(|customer| {
        let mine = drawn < customer.weight;
        drawn = drawn.saturating_sub(customer.weight);
        mine
    })
}

fn next_call(
    http: &reqwest::Client,
    gateway: SocketAddr,
    customer: &Customer,
    rng: &mut StdRng,
) -> reqwest::RequestBuilder {
    let id: u32 = rng.random_range(1..1_030);
    let (method, path) = match rng.random_range(0..100) {
        0..55 => (Method::GET, format!("/v1/widgets/{id}")),
        55..80 => (Method::GET, "/v1/widgets".to_owned()),
        80..88 => (Method::POST, "/v1/widgets".to_owned()),
        88..92 => (Method::POST, "/v1/reports".to_owned()),
        92..95 => (Method::GET, "/v1/flaky".to_owned()),
        95..98 => (Method::GET, "/v1/status".to_owned()),
        _ => (Method::GET, format!("/v1/gadgets/{id}")),
    };
    const AGENTS: [&str; 3] = ["widget-sdk-python/2.1", "widget-sdk-js/4.0", "curl/8.5"];
    let agent = AGENTS
        .get(id as usize % AGENTS.len())
        .copied()
        .unwrap_or("curl/8.5");
    let mut call = http
        .request(method.clone(), format!("http://{gateway}{path}"))
        .header("user-agent", agent);
    if method == Method::POST {
        call = call.json(&serde_json::json!({ "colour": "green", "id": id }));
    }
    if customer.key.is_empty() {
        call
    } else {
        call.header("x-api-key", &customer.key)
    }
}
