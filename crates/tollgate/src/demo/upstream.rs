//! The example API that the demo puts behind Tollgate: widgets, some slow, some failing.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tollgate_lifecycle::TaskError;

/// Most connections at once; further ones wait.
const CONNECTIONS_MAX: usize = 1_024;

/// Binds a free port of the loopback interface.
///
/// # Errors
/// When there is none.
pub async fn bind() -> std::io::Result<(TcpListener, SocketAddr)> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    Ok((listener, address))
}

/// Serves until told to stop.
///
/// # Errors
/// None; the form is that of a supervised task.
pub async fn run(listener: TcpListener, stop: CancellationToken) -> Result<(), TaskError> {
    let mut connections = JoinSet::new();
    loop {
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            Some(_) = connections.join_next(), if !connections.is_empty() => {}
            accepted = listener.accept(), if connections.len() < CONNECTIONS_MAX => {
                let Ok((stream, _)) = accepted else { continue };
                // Small answers must not wait for the peer's acknowledgement.
                drop(stream.set_nodelay(true));
                connections.spawn(async move {
                    let served = hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service_fn(answer));
                    // A caller that went away is nothing to an example.
                    drop(served.await);
                });
            }
        }
    }
}

async fn answer(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let path = request.uri().path().to_owned();
    let method = request.method().clone();
    let body = request
        .into_body()
        .collect()
        .await
        .map(|body| body.to_bytes())
        .unwrap_or_default();
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (status, value) = match (method, segments.as_slice()) {
        (Method::GET, ["v1", "widgets"]) => (
            StatusCode::OK,
            json!({ "items": (1..=5).map(widget).collect::<Vec<_>>() }),
        ),
        (Method::POST, ["v1", "widgets"]) => (
            StatusCode::CREATED,
            json!({ "id": 6, "received_bytes": body.len() }),
        ),
        (Method::GET, ["v1", "widgets", id]) => match id.parse::<u32>() {
            Ok(id) if id <= 1_000 => (StatusCode::OK, widget(id)),
            _ => (StatusCode::NOT_FOUND, json!({ "error": "no such widget" })),
        },
        (Method::POST, ["v1", "reports"]) => {
            tokio::time::sleep(Duration::from_millis(350)).await;
            (StatusCode::OK, json!({ "pages": 12 }))
        }
        (Method::GET, ["v1", "flaky"]) => (
            StatusCode::INTERNAL_SERVER_ERROR,
            json!({ "error": "the widget press jammed" }),
        ),
        (Method::GET, ["v1", "status"]) => (StatusCode::OK, json!({ "ok": true })),
        _ => (StatusCode::NOT_FOUND, json!({ "error": "nothing here" })),
    };
    let mut response = Response::new(Full::new(Bytes::from(value.to_string())));
    *response.status_mut() = status;
    let json = http::HeaderValue::from_static("application/json");
    response
        .headers_mut()
        .insert(http::header::CONTENT_TYPE, json);
    Ok(response)
}

fn widget(id: u32) -> serde_json::Value {
    const COLOURS: [&str; 4] = ["red", "green", "blue", "black"];
    let colour = COLOURS
        .get(id as usize % COLOURS.len())
        .copied()
        .unwrap_or("red");
    json!({ "id": id, "name": format!("widget {id}"), "colour": colour })
}
