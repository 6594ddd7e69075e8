//! Ports for servers that are told where to listen.

use std::net::{Ipv4Addr, TcpListener};
use std::sync::atomic::{AtomicU32, Ordering};

/// Below what the kernel hands out for outgoing connections, so that nobody takes a port while its server restarts.
const FIRST: u32 = 12_000;
const COUNT: u32 = 20_000;

static NEXT: AtomicU32 = AtomicU32::new(0);

/// The URL of a server on a loopback port, without a slash at its end.
pub fn own_url(port: u16) -> String {
    format!("http://127.0.0.1:{port}")
}

/// A loopback port that nobody listens on, and that this process never gives away a second time (before 20 000 others).
pub fn free_port() -> u16 {
    // Two test runs at once start at different places.
    let start = std::process::id().wrapping_mul(997);
    (0..COUNT)
        .map(|_| FIRST + start.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % COUNT)
        .filter_map(|port| u16::try_from(port).ok())
        .find(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, *port)).is_ok())
        .expect("a free port on 127.0.0.1")
}

#[cfg(test)]
mod tests {
    use super::free_port;

    #[test]
    fn no_port_is_given_twice() {
        let ports: std::collections::BTreeSet<_> = (0..100).map(|_| free_port()).collect();
        assert_eq!(ports.len(), 100);
    }
}
