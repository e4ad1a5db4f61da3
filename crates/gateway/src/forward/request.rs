//! The request as the upstream sees it.

use std::net::IpAddr;

use http::header::{CONNECTION, CONTENT_LENGTH, HOST, HeaderName, TE, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Request, Uri, Version};
use http_body::Body;
use tollgate_model::{RequestId, Upstream};

use super::body::RequestBody;
use crate::address::FORWARDED_FOR;
use crate::authenticate::Caller;
use crate::head::{client_request_id, trace_parent};
use crate::headers::{strip_request, takes_trailers};

const FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const FORWARDED_CLIENT: HeaderName = HeaderName::from_static(FORWARDED_FOR);
const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
const CLIENT_REQUEST_ID: HeaderName = HeaderName::from_static("x-client-request-id");
const TRACE_PARENT: HeaderName = HeaderName::from_static("traceparent");
const TRACE_STATE: HeaderName = HeaderName::from_static("tracestate");
const SUBSCRIPTION: HeaderName = HeaderName::from_static("x-tollgate-subscription");
const ORGANIZATION: HeaderName = HeaderName::from_static("x-tollgate-organization");
const KEY_ID: HeaderName = HeaderName::from_static("x-tollgate-key-id");

/// What the upstream is told besides the client's own words.
pub(crate) struct Outgoing<'a> {
    pub(crate) id: RequestId,
    pub(crate) caller: &'a Caller,
    pub(crate) upstream: &'a Upstream,
    pub(crate) preserve_host: bool,
    pub(crate) bearer_is_ours: bool,
    /// The connection's peer.
    pub(crate) peer: IpAddr,
    /// Whether the peer's own `X-Forwarded-*` are believed.
    pub(crate) peer_is_trusted: bool,
    /// The upgrade to ask for.
    pub(crate) upgrade: Option<&'a HeaderValue>,
    /// Whether trailers are wanted though the client did not ask for them.
    pub(crate) wants_trailers: bool,
}

impl Outgoing<'_> {
    /// The request to send. Path and query go as they came.
    pub(crate) fn build(&self, parts: Parts, body: RequestBody) -> Request<RequestBody> {
        let mut headers = parts.headers;
        let told = self.told(&headers);
        let trailers = self.wants_trailers || takes_trailers(&headers);
        strip_request(&mut headers, self.bearer_is_ours);
        if !told.contains_key(TRACE_STATE) {
            headers.remove(TRACE_STATE);
        }
        for (name, value) in &told {
            headers.insert(name.clone(), value.clone());
        }
        if !body.is_end_stream() && !headers.contains_key(CONTENT_LENGTH) {
            headers.insert(TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        if let Some(upgrade) = self.upgrade {
            headers.insert(CONNECTION, HeaderValue::from_static("upgrade"));
            headers.insert(UPGRADE, upgrade.clone());
        } else if trailers {
            headers.insert(CONNECTION, HeaderValue::from_static("te"));
            headers.insert(TE, HeaderValue::from_static("trailers"));
        }
        let target = parts.uri.path_and_query().cloned();
        let mut request = Request::new(body);
        *request.method_mut() = parts.method;
        *request.uri_mut() = Uri::from(target.unwrap_or(PathAndQuery::from_static("/")));
        *request.version_mut() = Version::HTTP_11;
        *request.headers_mut() = headers;
        request
    }

    /// Our own headers, some of them out of the client's.
    fn told(&self, client: &HeaderMap) -> HeaderMap {
        let mut told = HeaderMap::with_capacity(16);
        let mut tell = |name: HeaderName, text: &str| {
            if let Ok(value) = HeaderValue::from_str(text) {
                told.insert(name, value);
            }
        };
        if let Some(key) = &self.caller.key {
            tell(KEY_ID, key.id.as_str());
        }
        if let Some(subscription) = self.caller.subscription() {
            tell(SUBSCRIPTION, subscription.id.as_str());
            tell(ORGANIZATION, subscription.organization.as_str());
        }
        tell(REQUEST_ID, self.id.as_str());
        if let Some(id) = client_request_id(client) {
            tell(CLIENT_REQUEST_ID, id);
        }
        self.tell_forwarded(client, &mut told);
        match trace_parent(client) {
            Some((_, value)) => {
                told.insert(TRACE_PARENT, value.clone());
                if let Some(state) = client.get(TRACE_STATE) {
                    told.insert(TRACE_STATE, state.clone());
                }
            }
            None => {
                if let Ok(value) = HeaderValue::from_str(&new_trace_parent(self.id)) {
                    told.insert(TRACE_PARENT, value);
                }
            }
        }
        told
    }

    fn tell_forwarded(&self, client: &HeaderMap, told: &mut HeaderMap) {
        let client_host = client.get(HOST);
        let own_host = HeaderValue::from_str(&self.upstream.authority()).ok();
        let host = match client_host {
            Some(host) if self.preserve_host => Some(host.clone()),
            _ => own_host,
        };
        if let Some(host) = host {
            told.insert(HOST, host);
        }
        let trusted = |name: &HeaderName| client.get(name).filter(|_| self.peer_is_trusted);
        if let Some(host) = trusted(&FORWARDED_HOST).or(client_host) {
            told.insert(FORWARDED_HOST, host.clone());
        }
        let proto = trusted(&FORWARDED_PROTO)
            .filter(|v| matches!(v.as_bytes(), b"http" | b"https"))
            .cloned()
            .unwrap_or(HeaderValue::from_static("http"));
        told.insert(FORWARDED_PROTO, proto);
        let mut chain = String::new();
        if self.peer_is_trusted {
            for line in client.get_all(FORWARDED_CLIENT) {
                if let Ok(line) = line.to_str() {
                    chain.push_str(line);
                    chain.push_str(", ");
                }
            }
        }
        chain.push_str(&self.peer.to_string());
        if let Ok(chain) = HeaderValue::from_str(&chain) {
            told.insert(FORWARDED_CLIENT, chain);
        }
    }
}

/// A trace that begins here.
fn new_trace_parent(id: RequestId) -> String {
    let (trace, parent) = new_trace(id);
    format!("00-{trace:032x}-{parent:016x}-00")
}

/// The id of a trace that begins here, as it stands in `traceparent`.
pub(crate) fn new_trace_id(id: RequestId) -> String {
    format!("{:032x}", new_trace(id).0)
}

/// A trace's id and our part's, made of the request's id, which is unique already.
fn new_trace(id: RequestId) -> (u128, u64) {
    let mut hash: u128 = 0xcbf2_9ce4_8422_2325_8422_2325_cbf2_9ce4;
    for byte in id.as_str().bytes() {
        hash = (hash ^ u128::from(byte)).wrapping_mul(0x0000_0000_0100_0000_0000_0000_0000_013b);
    }
    let parent = (hash >> 64) as u64 ^ hash as u64;
    // All zeros is the one value that a trace id must not have.
    (hash | 1, parent | 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KnownKey;
    use crate::testing::{key, payer, plan, subscription};
    use std::sync::Arc;

    fn parts(headers: &[(&str, &str)]) -> Parts {
        let mut request = Request::builder().uri("/v1/x?q=%2e%2e//");
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        request.body(()).unwrap().into_parts().0
    }

    fn told(headers: &[(&str, &str)], change: impl FnOnce(&mut Outgoing<'_>)) -> HeaderMap {
        let caller = Caller {
            key: Some(Arc::new(KnownKey::new(&key("key_1", 1), 1))),
            payer: Some(payer(subscription("sub", "p", &[]), plan("p"))),
            ..Caller::default()
        };
        let upstream = Upstream {
            tls: false,
            host: "up.internal".into(),
            port: 9001,
        };
        let mut outgoing = Outgoing {
            id: RequestId::from_uuid(7),
            caller: &caller,
            upstream: &upstream,
            preserve_host: false,
            bearer_is_ours: false,
            peer: "10.0.0.9".parse().unwrap(),
            peer_is_trusted: false,
            upgrade: None,
            wants_trailers: false,
        };
        change(&mut outgoing);
        outgoing.told(&parts(headers).headers)
    }

    #[test]
    fn the_upstream_is_told_who_calls_and_from_where() {
        let told = told(
            &[("host", "api.example.com"), ("x-request-id", "mine")],
            |_| {},
        );
        for (name, value) in [
            ("x-tollgate-subscription", "sub"),
            ("x-tollgate-organization", "org"),
            ("x-tollgate-key-id", "key_1"),
            ("x-request-id", "req_00000000000000000000000007"),
            ("x-client-request-id", "mine"),
            ("x-forwarded-for", "10.0.0.9"),
            ("x-forwarded-proto", "http"),
            ("x-forwarded-host", "api.example.com"),
            ("host", "up.internal:9001"),
        ] {
            assert_eq!(told[name], value, "{name}");
        }
        assert!(trace_parent(&told).is_some());
    }

    #[test]
    fn forwarded_headers_go_on_from_trusted_peers_only() {
        let client = [
            ("host", "a"),
            ("x-forwarded-for", "1.1.1.1"),
            ("x-forwarded-host", "b"),
            ("x-forwarded-proto", "https"),
        ];
        let plain = told(&client, |_| {});
        assert_eq!(plain["x-forwarded-for"], "10.0.0.9");
        assert_eq!(plain["x-forwarded-host"], "a");
        assert_eq!(plain["x-forwarded-proto"], "http");
        let trusted = told(&client, |o| o.peer_is_trusted = true);
        assert_eq!(trusted["x-forwarded-for"], "1.1.1.1, 10.0.0.9");
        assert_eq!(trusted["x-forwarded-host"], "b");
        assert_eq!(trusted["x-forwarded-proto"], "https");
    }

    #[test]
    fn the_clients_host_and_trace_are_kept_where_asked() {
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let told = told(&[("host", "a"), ("traceparent", trace)], |o| {
            o.preserve_host = true;
        });
        assert_eq!(told["host"], "a");
        assert_eq!(told["traceparent"], trace);
    }
}
