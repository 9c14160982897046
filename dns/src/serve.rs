//! Puts [`Names`] on UDP and TCP. Knows how to listen and how to stay bounded; what to say, the core knows.
//!
//! One task for each socket and one for each TCP connection. hickory-server frames and times the TCP streams; its
//! own server loop is not used, because it makes a task of every datagram without a bound, answers through a queue
//! that drops, and has no bound on connections.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is the shell of the core")]

mod counters;
mod forward;
mod holder;
mod limits;
mod socket;
mod tcp;
mod udp;

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use tokio::task::JoinSet;

use crate::names::Names;

pub use counters::Counters;
pub use forward::Forward;
pub use holder::Holder;
pub use socket::ListenError;

/// Port of DNS (RFC 1035, section 4.2).
pub const DNS_PORT: u16 = 53;

/// Answers on some addresses of this machine, until dropped.
#[derive(Debug)]
pub struct Server {
    names: Arc<Names>,
    port: u16,
    counters: Arc<Counters>,
    listening: BTreeMap<IpAddr, Listener>,
}

#[derive(Debug)]
struct Listener {
    local: SocketAddr,
    tasks: JoinSet<()>,
}

impl Server {
    /// A server that listens nowhere yet. `port` is [`DNS_PORT`], another, or 0 for any free one.
    pub fn new(names: Arc<Names>, port: u16) -> Self {
        Self { names, port, counters: Arc::default(), listening: BTreeMap::new() }
    }

    /// Listens on these addresses, UDP and TCP each, and on no others. What already listens goes on undisturbed; what
    /// failed before is tried again. An address need not be there yet (`IP_FREEBIND`, ip(7)). Must be called within a
    /// tokio runtime.
    ///
    /// Returns an error for each address that could not be opened; the others are served. Calling it again with the
    /// same addresses costs next to nothing, and is how an address that another program held is taken later.
    pub async fn listen(&mut self, addresses: &[IpAddr]) -> Vec<ListenError> {
        self.close_all_but(addresses).await;
        let mut errors = Vec::new();
        for &address in addresses {
            if self.listening.contains_key(&address) {
                continue;
            }
            match socket::open(SocketAddr::new(address, self.port)).await {
                Ok(sockets) => drop(self.listening.insert(address, self.start(sockets))),
                Err(error) => errors.push(error),
            }
        }
        errors
    }

    /// Where it listens, with the ports.
    pub fn listening(&self) -> impl Iterator<Item = SocketAddr> {
        self.listening.values().map(|listener| listener.local)
    }

    /// What was answered since the start; goes on counting.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Closes everything; the addresses are free when this returns.
    pub async fn close(mut self) {
        self.close_all_but(&[]).await;
    }

    async fn close_all_but(&mut self, addresses: &[IpAddr]) {
        let unwanted = self.listening.extract_if(.., |address, listener| {
            // A task that ended by itself has panicked: the address is opened anew.
            !addresses.contains(address) || listener.tasks.try_join_next().is_some()
        });
        for (address, mut listener) in unwanted.collect::<Vec<_>>() {
            listener.tasks.shutdown().await;
            tracing::info!(%address, "stopped answering names");
        }
    }

    fn start(&self, sockets: socket::Sockets) -> Listener {
        let mut tasks = JoinSet::new();
        let (names, counters) = (Arc::clone(&self.names), Arc::clone(&self.counters));
        tasks.spawn(udp::serve(sockets.udp, names, counters));
        let (names, counters) = (Arc::clone(&self.names), Arc::clone(&self.counters));
        tasks.spawn(tcp::serve(sockets.tcp, names, counters));
        tracing::info!(address = %sockets.local, "answering names");
        Listener { local: sockets.local, tasks }
    }
}
