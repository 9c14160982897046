//! The shell on loopback, asked by dig and by clients that behave badly.
#![allow(clippy::disallowed_types, reason = "clients need sockets")]

mod dig;
#[path = "../support/home.rs"]
mod home;
mod sockets;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use dns::Names;
use dns::serve::Server;
use model::Generation;

const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// The names of the fixture, served on a free port of 127.0.0.1.
async fn start() -> (Arc<Names>, Server, SocketAddr) {
    let names = Arc::new(Names::new(home::SEED));
    names.whole(home::TENANT, Generation(7), &home::zone()).expect("alone");
    let mut server = Server::new(Arc::clone(&names), 0);
    // Port 0 is chosen for TCP and may be taken for UDP.
    for _ in 0..20 {
        if server.listen(&[LOOPBACK]).await.is_empty() {
            break;
        }
    }
    let address = server.listening().next().expect("a port of 20 is free for both");
    (names, server, address)
}
