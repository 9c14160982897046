//! The shell on loopback, asked by dig and by clients that behave badly.
#![allow(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "clients need sockets, clocks and threads"
)]

mod aliases;
mod client;
mod datagrams;
mod dig;
mod endings;
mod forwarding;
#[path = "../support/home.rs"]
mod home;
mod logged;
mod sockets;
mod strangers;
mod streams;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use dns::Names;
use dns::serve::{Options, Server};
use model::Generation;

const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// The names of the fixture.
fn home_names() -> Arc<Names> {
    let names = Arc::new(Names::new(home::SEED));
    names.whole(home::TENANT, Generation(7), &home::zone()).expect("alone");
    names
}

/// The names of the fixture, served on a free port of 127.0.0.1.
async fn start() -> (Arc<Names>, Server, SocketAddr) {
    start_with(Options::default()).await
}

async fn start_with(options: Options) -> (Arc<Names>, Server, SocketAddr) {
    let names = home_names();
    let mut server = Server::with(Arc::clone(&names), 0, options);
    let address = listen_somewhere(&mut server, LOOPBACK).await;
    (names, server, address)
}

/// Of a server that wishes for port 0, which is chosen for TCP and may be taken for UDP.
async fn listen_somewhere(server: &mut Server, ip: IpAddr) -> SocketAddr {
    for _ in 0..20 {
        if server.listen(&[ip]).await.is_empty() {
            break;
        }
    }
    server.listening().next().expect("a port of 20 is free for both")
}

/// Another address of this machine.
fn neighbour(number: u8) -> IpAddr {
    IpAddr::from([127, 0, 0, number])
}
