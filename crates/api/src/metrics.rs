//! What the platform's API measures of itself.

use std::sync::atomic::AtomicU64;

use http::{Method, StatusCode};
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Registry, Unit};

/// Few values each: methods beyond the usual ones are `OTHER`.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    method: &'static str,
    status: u16,
}

/// Counters and latencies of the API; clones share them.
#[derive(Debug, Clone)]
pub struct ApiMetrics {
    requests: Family<Labels, Counter<u64, AtomicU64>>,
    latency: Histogram,
}

impl Default for ApiMetrics {
    fn default() -> Self {
        let edges_s = [
            0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 5.0, 30.0,
        ];
        Self {
            requests: Family::default(),
            latency: Histogram::new(edges_s),
        }
    }
}

impl ApiMetrics {
    /// Makes new ones that are visible in the registry.
    #[must_use]
    pub fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        registry.register(
            "api_requests",
            "Calls of the platform's API by method and status",
            metrics.requests.clone(),
        );
        registry.register_with_unit(
            "api_latency",
            "Time to answer a call of the platform's API",
            Unit::Seconds,
            metrics.latency.clone(),
        );
        metrics
    }

    pub(crate) fn answered(&self, method: &Method, status: StatusCode, latency_us: u64) {
        let method = match *method {
            Method::GET => "GET",
            Method::HEAD => "HEAD",
            Method::POST => "POST",
            Method::PATCH => "PATCH",
            Method::DELETE => "DELETE",
            _ => "OTHER",
        };
        let labels = Labels {
            method,
            status: status.as_u16(),
        };
        self.requests.get_or_create(&labels).inc();
        self.latency.observe(latency_us as f64 / 1_000_000.0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_counted_by_method_and_status() {
        let mut registry = Registry::default();
        let metrics = ApiMetrics::register(&mut registry);
        metrics.answered(&Method::GET, StatusCode::OK, 1_500);
        metrics.answered(&Method::PUT, StatusCode::METHOD_NOT_ALLOWED, 10);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        for line in [
            "api_requests_total{method=\"GET\",status=\"200\"} 1",
            "api_requests_total{method=\"OTHER\",status=\"405\"} 1",
            "api_latency_seconds_count 2",
        ] {
            assert!(text.contains(line), "{text}");
        }
    }
}
