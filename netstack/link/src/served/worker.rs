//! What workers do: they open the packets of one connection after the other, and send what it wants to send.

use std::sync::Arc;

use quinn_proto::{ConnectionError, ConnectionEvent, TransportError, TransportErrorCode};
use tokio::task::yield_now;

use super::limits::{SENT_AT_ONCE, WORK_MAX};
use super::{Served, Shared, now};

/// Works until the endpoint is over.
pub(super) async fn work(shared: Arc<Shared>) {
    let (mut buffer, mut packets, mut done) = (Vec::new(), Vec::new(), 0);
    while let Some(served) = shared.queue.next().await {
        done += Hand::new(&shared, served).run(&mut buffer, &mut packets).await;
        if done >= WORK_MAX {
            done = 0;
            yield_now().await;
        }
    }
}

/// A connection in the hand of a worker. Dropped with it, the connection is lost: a mistake in what it is made of ends
/// this one and no other.
pub(super) struct Hand<'a> {
    shared: &'a Shared,
    served: Option<Arc<Served>>,
}

impl Drop for Hand<'_> {
    fn drop(&mut self) {
        let Some(served) = self.served.take() else { return };
        served.lose(internal("the server made a mistake"));
        self.shared.forget(&served);
    }
}

impl<'a> Hand<'a> {
    pub(super) fn new(shared: &'a Shared, served: Arc<Served>) -> Self {
        Self { shared, served: Some(served) }
    }

    /// Says how many packets went either way.
    async fn run(mut self, buffer: &mut Vec<u8>, packets: &mut Vec<ConnectionEvent>) -> usize {
        let Some(served) = &self.served else { return 0 };
        let received = served.begin(packets);
        let mut sent = self.send(served, 0, buffer).await;
        if sent < SENT_AT_ONCE && served.tick(now()) {
            sent = self.send(served, sent, buffer).await;
        }
        let again = self.settle(served);
        if let Some(served) = self.served.take() {
            served.end(again || sent >= SENT_AT_ONCE);
        }
        received + sent + 1
    }

    /// Sends what is to be sent. Says how many packets that makes with those before.
    async fn send(&self, served: &Served, mut sent: usize, buffer: &mut Vec<u8>) -> usize {
        while sent < SENT_AT_ONCE {
            buffer.clear();
            let Some(transmit) = served.transmit(now(), self.shared.socket.segments_max(), buffer) else {
                break;
            };
            sent += transmit.segment_size.map_or(1, |each| transmit.size.div_ceil(each));
            self.shared.socket.send(&transmit, buffer).await;
        }
        sent
    }

    /// Tells the endpoint and those who wait what happened, and when to look again. Whether there is more to send.
    fn settle(&self, served: &Arc<Served>) -> bool {
        let mut state = served.lock();
        let mut again = false;
        while let Some(event) = state.connection.poll_endpoint_events() {
            let answer = self.shared.handle(served.handle(), event);
            again |= answer.is_some();
            answer.into_iter().for_each(|answer| state.connection.handle_event(answer));
        }
        state.tell();
        if state.connection.is_drained() {
            return false;
        }
        if let Some(at) = state.connection.poll_timeout() {
            self.shared.timers.set(served.handle(), at);
        }
        again
    }
}

pub(super) fn internal(reason: &str) -> ConnectionError {
    let code = TransportErrorCode::INTERNAL_ERROR;
    ConnectionError::TransportError(TransportError { code, frame: None, reason: reason.into() })
}
