//! Ports of loopback that nobody had before: who still asks for a server that has ended must not find another one there.

use std::net::Ipv4Addr;
use std::sync::atomic::{AtomicU32, Ordering};
use tokio::net::TcpListener;

/// Below what the kernel hands out for outgoing connections, so that nobody takes a port while its server restarts.
const FIRST: u32 = 12_000;
const COUNT: u32 = 20_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The URL of a server on a loopback port, without a slash at its end.
pub fn own_url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// A loopback port that nobody listens on, and that this process never gives away a second time (before 20 000 others):
/// for servers that are told where to listen.
pub fn free_port() -> u16 {
    let is_free = |port: &u16| std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok();
    candidates().find(is_free).expect("a free port on 127.0.0.1")
}

/// Listens on such a port.
pub async fn listener() -> TcpListener {
    for port in candidates() {
        if let Ok(listener) = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).await {
            return listener;
        }
    }
    panic!("no port is free on 127.0.0.1");
}

/// The URL of what listens there, without a slash at its end.
pub fn url_of(listener: &TcpListener) -> String {
    own_url(listener.local_addr().expect("a listener's address").port())
}

fn candidates() -> impl Iterator<Item = u16> {
    // Two test runs at once start at different places.
    let start = std::process::id().wrapping_mul(997);
    let next = move |_| FIRST + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT;
    (0..COUNT).map(next).filter_map(|port| u16::try_from(port).ok())
}

#[cfg(test)]
mod tests {
    use super::{free_port, listener, own_url, url_of};
    use std::collections::BTreeSet;

    #[tokio::test]
    async fn no_port_is_given_twice_even_when_its_listener_has_ended() {
        let mut urls: BTreeSet<_> = (0..50).map(|_| own_url(free_port())).collect();
        for _ in 0..50 {
            urls.insert(url_of(&listener().await));
        }
        assert_eq!(urls.len(), 100);
    }
}
