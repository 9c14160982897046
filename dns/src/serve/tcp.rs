//! One TCP listener and its connections. Knows no message.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::answerer::Answerer;
use super::closing::Closing;
use super::conversation::converse;
use super::counters::Counters;
use super::limits::{RETRY_DELAY, TCP_CONNECTIONS_MAX, TCP_CONNECTIONS_PER_SOURCE_MAX};
use super::places::Places;

/// Answers until `closing`, and then what the kernel had accepted and received by then. Dropping it closes all at once.
pub(super) async fn serve(listener: TcpListener, answerer: Arc<Answerer>, mut closing: Closing) {
    let mut connections = Connections {
        places: Places::new(TCP_CONNECTIONS_MAX, TCP_CONNECTIONS_PER_SOURCE_MAX),
        tasks: JoinSet::new(),
        answerer,
        closing: closing.clone(),
    };
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, asker)) => connections.open(stream, asker),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections");
                    sleep(RETRY_DELAY).await;
                }
            },
            Some(_) = connections.tasks.join_next() => {}
            () = closing.heard() => break,
        }
    }
    // Accepted by the kernel, not by us yet; the runtime may not have heard of them.
    if let Ok(listener) = listener.into_std() {
        while let Ok((stream, asker)) = listener.accept() {
            if stream.set_nonblocking(true).is_ok()
                && let Ok(stream) = TcpStream::from_std(stream)
            {
                connections.open(stream, asker);
            }
        }
    }
    while connections.tasks.join_next().await.is_some() {}
}

struct Connections {
    places: Arc<Places>,
    tasks: JoinSet<()>,
    answerer: Arc<Answerer>,
    closing: Closing,
}

impl Connections {
    /// Serves a connection, if there is a place for it.
    fn open(&mut self, stream: TcpStream, asker: SocketAddr) {
        let Some(place) = self.places.take(asker.ip()) else {
            self.answerer.counters.count_turned_away();
            return;
        };
        let (answerer, closing) = (Arc::clone(&self.answerer), self.closing.clone());
        let open = Open::new(Arc::clone(&answerer.counters));
        self.tasks.spawn(async move {
            let _held = (place, open);
            converse(stream, asker, answerer, closing).await;
        });
    }
}

/// Counts a connection as open, until dropped.
struct Open(Arc<Counters>);

impl Open {
    fn new(counters: Arc<Counters>) -> Self {
        counters.count_opened();
        Self(counters)
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.count_closed();
    }
}
