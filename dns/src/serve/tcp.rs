//! One TCP listener and its connections: a query at a time on each, the next when the answer is out.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_util::StreamExt;
use hickory_server::net::DnsStreamHandle;
use hickory_server::net::runtime::iocompat::AsyncIoTokioAsStd;
use hickory_server::net::tcp::TcpStream as Framed;
use hickory_server::proto::op::SerialMessage;
use hickory_server::server::TimeoutStream;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{self, JoinSet};
use tokio::time::sleep;

use super::counters::Counters;
use super::limits::{RETRY_DELAY, TCP_CONNECTIONS_MAX, TCP_CONNECTIONS_PER_SOURCE_MAX, TCP_IDLE_MAX};
use crate::answer::Transport;
use crate::names::Names;

/// Answers until dropped, which closes the connections too.
pub(super) async fn serve(listener: TcpListener, names: Arc<Names>, counters: Arc<Counters>) {
    let mut connections = Connections::default();
    loop {
        tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok((stream, asker)) if connections.has_room(asker.ip()) => {
                    let (names, counters) = (Arc::clone(&names), Arc::clone(&counters));
                    connections.start(asker.ip(), converse(stream, asker, names, counters));
                }
                Ok(_) => counters.count_turned_away(),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept connections");
                    sleep(RETRY_DELAY).await;
                }
            },
            () = connections.ended(), if !connections.open.is_empty() => {}
        }
    }
}

/// The open connections and where they come from.
#[derive(Default)]
struct Connections {
    tasks: JoinSet<()>,
    open: Vec<(task::Id, IpAddr)>,
}

impl Connections {
    fn has_room(&self, source: IpAddr) -> bool {
        let of_source = self.open.iter().filter(|(_, other)| *other == source).count();
        self.open.len() < TCP_CONNECTIONS_MAX && of_source < TCP_CONNECTIONS_PER_SOURCE_MAX
    }

    fn start(&mut self, source: IpAddr, connection: impl Future<Output = ()> + Send + 'static) {
        let id = self.tasks.spawn(connection).id();
        self.open.push((id, source));
    }

    async fn ended(&mut self) {
        let id = match self.tasks.join_next_with_id().await {
            Some(Ok((id, ()))) => id,
            Some(Err(error)) => error.id(),
            None => return,
        };
        self.open.retain(|(other, _)| *other != id);
    }
}

async fn converse(stream: TcpStream, asker: SocketAddr, names: Arc<Names>, counters: Arc<Counters>) {
    // One answer at a time is under way: the stream is not read before the last one is out.
    let (stream, mut answers) = Framed::from_stream_with_buffer_size(AsyncIoTokioAsStd(stream), asker, 1);
    let mut queries = TimeoutStream::new(stream, TCP_IDLE_MAX);
    while let Some(Ok(query)) = queries.next().await {
        let answer = names.answer(query.bytes(), asker.ip(), Transport::Tcp);
        let Some((bytes, code)) = answer.into_reply() else {
            counters.count_dropped();
            return;
        };
        counters.count_answer(code);
        if answers.send(SerialMessage::new(bytes, asker)).is_err() {
            counters.count_unsent();
            return;
        }
    }
}
