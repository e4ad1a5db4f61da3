//! The platform's and the health port's sockets.

use std::net::SocketAddr;

use anyhow::Context;
use axum::Router;
use tokio::net::TcpListener;
use tollgate_api::{ApiState, Health, health_router, router};
use tollgate_lifecycle::{Supervisor, TaskSpec};

/// Serves the API until the group stops.
///
/// # Errors
/// When the address is taken.
pub async fn platform(
    supervisor: &Supervisor,
    address: SocketAddr,
    state: ApiState,
) -> anyhow::Result<()> {
    serve(supervisor, "platform", address, router(state)?).await
}

/// Serves health and metrics until the group stops.
///
/// # Errors
/// When the address is taken.
pub async fn health(
    supervisor: &Supervisor,
    address: SocketAddr,
    health: Health,
) -> anyhow::Result<()> {
    serve(supervisor, "health", address, health_router(health)).await
}

async fn serve(
    supervisor: &Supervisor,
    name: &'static str,
    address: SocketAddr,
    router: Router,
) -> anyhow::Result<()> {
    let listener = TcpListener::bind(address)
        .await
        .with_context(|| taken(name, address))?;
    let stop = supervisor.stop().soft;
    let service = router.into_make_service_with_connect_info::<SocketAddr>();
    supervisor.spawn(TaskSpec::essential(name), async move {
        axum::serve(listener, service)
            .with_graceful_shutdown(stop.cancelled_owned())
            .await?;
        Ok(())
    });
    Ok(())
}

/// What to say when an address cannot be listened on.
pub fn taken(name: &str, address: SocketAddr) -> String {
    format!(
        "the {name} cannot listen on {address}; if another process has it, stop that or set \
         {name}.listen"
    )
}
