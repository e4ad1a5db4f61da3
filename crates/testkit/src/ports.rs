//! Free ports for servers that are started and restarted.

use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

use anyhow::bail;

/// Below the range from which the system takes the ports of outgoing connections, so that no
/// client's connection sits on a server's port while it is being restarted.
const FIRST: u32 = 11_000;
const COUNT: u32 = 21_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// An address on the loopback that nobody listens on.
///
/// # Errors
/// When a thousand candidates are all taken.
pub fn free_port() -> anyhow::Result<SocketAddr> {
    // Test processes run side by side: each begins at a place of its own.
    let begin = std::process::id().wrapping_mul(97);
    for _ in 0..1_000 {
        let step = NEXT.fetch_add(1, Ordering::Relaxed);
        let port = FIRST + begin.wrapping_add(step) % COUNT;
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, u16::try_from(port)?));
        if TcpListener::bind(address).is_ok() {
            return Ok(address);
        }
    }
    bail!("no free port found")
}
