//! Datagrams beside the frames of a link: unreliable, in any order, bounded. Reads none of them.
//!
//! QUIC has them (RFC 9221). A WebSocket carries each as a binary message whose first byte is
//! [`model::relay::KIND`]; a frame begins with 0. Both ends say first that they know them: QUIC by a transport
//! parameter, WebSocket by the header [`HEADER`] of request and response.

use std::collections::VecDeque;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use tokio::sync::Notify;

use crate::limits::{
    DATAGRAM_BATCH_BYTES, DATAGRAM_BYTES_MAX, DATAGRAM_QUEUE_BYTES_MAX, QUIC_FRAME_SHARE_BYTES,
};
use crate::served::Served;

/// Stands in the upgrade request and its response where both ends know datagrams.
pub(crate) const HEADER: &str = "warren-datagrams";
/// The only form of datagrams so far.
pub(crate) const HEADER_VALUE: &str = "1";

/// The datagrams of one link. Clones share them.
#[derive(Clone)]
pub struct Datagrams(Way);

#[derive(Clone)]
enum Way {
    Quic(quinn::Connection),
    Served(Arc<Served>),
    Queues(Arc<Queues>),
}

impl Datagrams {
    /// `None` where the peer knows none.
    pub(crate) fn quic(connection: &quinn::Connection) -> Option<Self> {
        connection.max_datagram_size().map(|_| Self(Way::Quic(connection.clone())))
    }

    /// As [`Self::quic`], of a server.
    pub(crate) fn served(connection: &Arc<Served>) -> Option<Self> {
        connection.datagram_bytes_max().map(|_| Self(Way::Served(Arc::clone(connection))))
    }

    pub(crate) const fn queued(queues: Arc<Queues>) -> Self {
        Self(Way::Queues(queues))
    }

    /// Sends a datagram without waiting. It must begin with [`model::relay::KIND`]. `false`: one is lost, either this
    /// one, because it is longer than [`Self::bytes_max`] or the link ended, or those that waited longest, because
    /// there was no more room ([`DATAGRAM_QUEUE_BYTES_MAX`]).
    pub fn send(&self, datagram: Bytes) -> bool {
        let sent = self.queue(datagram);
        self.flush();
        sent
    }

    /// As [`Self::send`], of one among several: it may wait for [`Self::flush`].
    pub fn queue(&self, datagram: Bytes) -> bool {
        debug_assert_eq!(datagram.first(), Some(&model::relay::KIND), "a WebSocket tells it by that");
        match &self.0 {
            // One look at the connection for each: a relay does little else.
            Way::Served(connection) => connection.queue_datagram(datagram, usable),
            _ if datagram.len() > self.bytes_max() => false,
            Way::Quic(connection) => {
                let room = connection.datagram_send_buffer_space() >= datagram.len();
                connection.send_datagram(datagram).is_ok() && room
            }
            Way::Queues(queues) => queues.out.push(datagram),
        }
    }

    /// What is queued is sent. One packet may carry several, one call to the kernel many.
    pub fn flush(&self) {
        match &self.0 {
            Way::Served(connection) => connection.stir(),
            Way::Quic(_) | Way::Queues(_) => {}
        }
    }

    /// The next datagram of the peer; `None` once the link has ended. Cancel-safe. One caller at a time. While nobody
    /// calls, the oldest are lost. Over WebSocket they come while somebody awaits [`crate::Receiver::recv`].
    pub async fn recv(&self) -> Option<Bytes> {
        match &self.0 {
            Way::Quic(connection) => connection.read_datagram().await.ok(),
            Way::Served(connection) => connection.datagram().await,
            Way::Queues(queues) => queues.into.pop().await,
        }
    }

    /// How long a datagram takes there and back, as the carrier measured it. Only QUIC does.
    pub fn round_trip(&self) -> Option<Duration> {
        match &self.0 {
            Way::Quic(connection) => Some(connection.rtt()),
            Way::Served(connection) => Some(connection.round_trip()),
            Way::Queues(_) => None,
        }
    }

    /// Bytes of the longest datagram that can be sent now: at least 1000, and [`DATAGRAM_BYTES_MAX`] at most.
    pub fn bytes_max(&self) -> usize {
        match &self.0 {
            Way::Quic(connection) => usable(connection.max_datagram_size()),
            Way::Served(connection) => usable(connection.datagram_bytes_max()),
            Way::Queues(_) => DATAGRAM_BYTES_MAX,
        }
    }
}

/// What a QUIC packet with room for so many bytes of a datagram is used for.
fn usable(fits: Option<usize>) -> usize {
    fits.unwrap_or(0).saturating_sub(QUIC_FRAME_SHARE_BYTES).min(DATAGRAM_BYTES_MAX)
}

impl fmt::Debug for Datagrams {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Datagrams(up to {} bytes)", self.bytes_max())
    }
}

/// The datagrams of a WebSocket that wait, each way.
#[derive(Default)]
pub(crate) struct Queues {
    pub(crate) out: Queue,
    pub(crate) into: Queue,
}

/// Ends the queues with the half of the carrier that holds it.
pub(crate) struct Feed(pub(crate) Arc<Queues>);

impl Drop for Feed {
    fn drop(&mut self) {
        self.0.out.close();
        self.0.into.close();
    }
}

/// Datagrams that wait. The oldest give way to the newest: late ones are worth less.
#[derive(Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    news: Notify,
}

#[derive(Default)]
struct Waiting {
    datagrams: VecDeque<Bytes>,
    bytes: usize,
    is_closed: bool,
}

impl Waiting {
    fn pop(&mut self) -> Option<Bytes> {
        let datagram = self.datagrams.pop_front()?;
        self.bytes -= cost(&datagram);
        Some(datagram)
    }
}

/// A datagram with what keeps it.
const fn cost(datagram: &Bytes) -> usize {
    datagram.len() + size_of::<Bytes>()
}

impl Queue {
    /// `false`: one was lost.
    pub(crate) fn push(&self, datagram: Bytes) -> bool {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        if waiting.is_closed {
            return false;
        }
        let mut all_kept = true;
        while waiting.bytes + cost(&datagram) > DATAGRAM_QUEUE_BYTES_MAX && waiting.pop().is_some() {
            all_kept = false;
        }
        waiting.bytes += cost(&datagram);
        waiting.datagrams.push_back(datagram);
        drop(waiting);
        self.news.notify_one();
        all_kept
    }

    async fn pop(&self) -> Option<Bytes> {
        loop {
            let news = self.news.notified();
            {
                let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
                match waiting.pop() {
                    Some(datagram) => return Some(datagram),
                    None if waiting.is_closed => return None,
                    None => {}
                }
            }
            news.await;
        }
    }

    /// Those that wait, [`DATAGRAM_BATCH_BYTES`] of them, once there are some. Cancel-safe; never after the end.
    pub(crate) async fn some(&self) -> Vec<Bytes> {
        loop {
            let news = self.news.notified();
            let some = self.batch();
            if !some.is_empty() {
                return some;
            }
            news.await;
        }
    }

    fn batch(&self) -> Vec<Bytes> {
        let mut waiting = self.waiting.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut some, mut bytes) = (Vec::new(), 0);
        while bytes < DATAGRAM_BATCH_BYTES
            && let Some(datagram) = waiting.pop()
        {
            bytes += datagram.len();
            some.push(datagram);
        }
        some
    }

    fn close(&self) {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner).is_closed = true;
        self.news.notify_one();
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt as _;

    use super::*;

    #[test]
    fn the_oldest_give_way_and_the_end_is_told_after_what_waits() {
        let queue = Queue::default();
        let datagram = |fill: u8| Bytes::from(vec![fill; DATAGRAM_BYTES_MAX]);
        let fits = DATAGRAM_QUEUE_BYTES_MAX / cost(&datagram(0));
        assert!(queue.pop().now_or_never().is_none());
        for n in 0..fits {
            assert!(queue.push(datagram(n as u8)));
        }
        assert!(!queue.push(datagram(99)));
        let batch = queue.batch();
        assert_eq!(batch.len(), DATAGRAM_BATCH_BYTES.div_ceil(DATAGRAM_BYTES_MAX));
        assert_eq!(batch[0][0], 1);
        queue.close();
        assert!(!queue.push(datagram(7)));
        let mut left = Vec::new();
        while let Some(next) = queue.pop().now_or_never().expect("it does not wait any more") {
            left.push(next[0]);
        }
        assert_eq!((left.len(), left.last()), (fits - batch.len(), Some(&99)));
        assert_eq!(queue.waiting.lock().unwrap().bytes, 0);
    }
}
