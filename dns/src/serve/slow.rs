//! The slow path of one address: questions that the threads did not answer themselves. A task, and a bounded queue.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Instant;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use nix::libc;
use socket2::Socket;
use tokio::sync::mpsc;

use super::answerer::{Answerer, Reply, Told};
use super::counters::Way;
use super::limits::{SLOW_BATCH, SLOW_MAX, SLOW_PER_SOURCE_MAX};
use super::places::{Place, Places};
use crate::answer::Transport;

/// A question that waits.
pub(super) struct Asked {
    query: Box<[u8]>,
    asker: SocketAddr,
    came: Instant,
    _place: Place,
}

/// The queue, from the threads' side. The task ends when all of them are gone and everything is answered.
#[derive(Clone)]
pub(super) struct Queue {
    asked: mpsc::Sender<Asked>,
    places: Arc<Places>,
}

impl Queue {
    /// The queue and its other end, for [`serve`].
    pub(super) fn new() -> (Self, mpsc::Receiver<Asked>) {
        let (asked, taken) = mpsc::channel(SLOW_MAX);
        (Self { asked, places: Places::new(SLOW_MAX, SLOW_PER_SOURCE_MAX) }, taken)
    }

    /// Whether there was room.
    pub(super) fn put(&self, query: &[u8], asker: SocketAddr, came: Instant) -> bool {
        let Some(place) = self.places.take(asker.ip()) else { return false };
        self.asked.try_send(Asked { query: query.into(), asker, came, _place: place }).is_ok()
    }
}

/// Answers until the queue ends.
pub(super) async fn serve(mut queue: mpsc::Receiver<Asked>, socket: Arc<Socket>, answerer: Arc<Answerer>) {
    let mut taken = Vec::with_capacity(SLOW_BATCH);
    let mut later = FuturesUnordered::new();
    let send = |asker, came, reply| send(&socket, &answerer, asker, came, &reply);
    loop {
        tokio::select! {
            count = queue.recv_many(&mut taken, SLOW_BATCH) => {
                if count == 0 {
                    break;
                }
                for Asked { query, asker, came, .. } in taken.drain(..) {
                    match answerer.ask(&query, asker.ip(), Transport::Udp) {
                        Told::Now(reply) => send(asker, came, reply),
                        Told::Later(reply) => later.push(async move { (asker, came, reply.await) }),
                        Told::Nothing => answerer.counters.count_dropped(),
                    }
                }
            }
            Some((asker, came, reply)) = later.next() => send(asker, came, reply),
        }
    }
    while let Some((asker, came, reply)) = later.next().await {
        send(asker, came, reply);
    }
}

/// An answer that cannot be sent is lost, as a datagram may be; the asker asks again.
fn send(socket: &Socket, answerer: &Answerer, asker: SocketAddr, came: Instant, reply: &Reply) {
    let way = Way { transport: Transport::Udp, path: reply.path };
    answerer.note(asker, way, reply.code, &reply.bytes, came.elapsed());
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    if let Err(error) = socket.send_to_with_flags(&reply.bytes, &asker.into(), flags) {
        tracing::debug!(%asker, %error, "cannot send an answer");
        answerer.counters.count_unsent(1);
    }
}
