//! One framed link over any carrier: a bounded queue out, frames in, an orderly end. Gives no frame a meaning.
//!
//! ```text
//! open ──close(), last Sender dropped──▶ closing ──the peer read everything and ended too──▶ ended in order
//!  │                                        │
//!  └──the carrier failed, nobody reads──────┴──CLOSE_TIME_MAX──▶ failed
//! ```
//!
//! While closing, everything queued is written, then our side of the stream ends, then what the peer still sends is
//! read and dropped until it ends too. Only then does the carrier close: a carrier closed with bytes unread may take
//! from the peer what it was sent last (a TCP reset, a QUIC close frame).

use std::fmt;
use std::net::SocketAddr;
use std::sync::{Arc, MutexGuard, PoisonError};

use bytes::Bytes;
use model::wire::{Channel, Decoder, Frame, FrameError, encode};
use tokio::sync::{Mutex, Notify, Semaphore};
use tokio::time::timeout;

use crate::credentials::Credentials;
use crate::datagrams::{Datagrams, Queues};
use crate::error::{LinkError, TrySendError};
use crate::half::{ReadHalf, WriteHalf};
use crate::limits::{
    CLOSE_TIME_MAX, FRAME_WIRE_BYTES_MAX, QUEUE_BYTES_MAX, QUEUE_FRAMES_MAX, WRITE_TIME_MAX,
};
use crate::outgoing::{Head, Item, Tail, outgoing};
use crate::route::Route;

/// What carries a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Carrier {
    /// QUIC (RFC 9000).
    Quic,
    /// WebSocket (RFC 6455) over TLS.
    WebSocket,
    /// A unix stream socket (unix(7)).
    Unix,
}

impl fmt::Display for Carrier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Quic => "quic",
            Self::WebSocket => "websocket",
            Self::Unix => "unix",
        })
    }
}

/// A link that stands. Dropped without [`Connection::split`], it closes at once.
pub struct Connection {
    channel: Channel,
    carrier: Carrier,
    remote: Option<SocketAddr>,
    route: Option<Route>,
    credentials: Option<Credentials>,
    read: ReadHalf,
    write: WriteHalf,
}

impl Connection {
    pub(crate) fn new(carrier: Carrier, channel: Channel, read: ReadHalf, write: WriteHalf) -> Self {
        Self { channel, carrier, remote: None, route: None, credentials: None, read, write }
    }

    pub(crate) fn with_remote(self, remote: SocketAddr) -> Self {
        Self { remote: Some(remote), ..self }
    }

    pub(crate) fn with_route(self, route: Route) -> Self {
        Self { route: Some(route), ..self }
    }

    pub(crate) fn with_credentials(self, credentials: Credentials) -> Self {
        Self { credentials: Some(credentials), ..self }
    }

    /// What the signatures of the handshake are bound to.
    pub const fn channel(&self) -> Channel {
        self.channel
    }

    /// What carries it.
    pub const fn carrier(&self) -> Carrier {
        self.carrier
    }

    /// The peer's address when the link was made; QUIC may move to another later. `None` on a unix socket. Behind a
    /// proxy it is what the caller of [`crate::websocket::upgrade`] says.
    pub const fn remote(&self) -> Option<SocketAddr> {
        self.remote
    }

    /// The way over which it was dialled. `None` on a unix socket, and of a server.
    pub const fn route(&self) -> Option<Route> {
        self.route
    }

    /// Who the peer is, as the kernel says. Only on a unix socket.
    pub const fn credentials(&self) -> Option<Credentials> {
        self.credentials
    }

    /// The datagrams beside the frames. `None` where there are none: on a unix socket, and with a peer that knows none.
    pub fn datagrams(&self) -> Option<Datagrams> {
        self.write.datagrams()
    }

    /// The two directions. Starts the task that writes, so it needs a tokio runtime. The link lives until both are
    /// dropped, [`Sender::close`] is done, or the carrier fails.
    pub fn split(self) -> (Sender, Receiver) {
        let (sender, receiver, writing) = self.parts();
        tokio::spawn(writing);
        (sender, receiver)
    }

    /// As [`Self::split`], with the writing itself: nothing is sent and nothing ends while nobody polls it. For those who
    /// have a task for the link anyway.
    pub fn parts(self) -> (Sender, Receiver, impl Future<Output = ()> + Send + 'static) {
        let (queue, queued) = outgoing();
        let shared = Arc::new(Shared {
            read: Mutex::new(Some(self.read)),
            room: Arc::new(Semaphore::new(QUEUE_BYTES_MAX)),
            written: Notify::new(),
            outcome: std::sync::Mutex::new(None),
            ended: Notify::new(),
        });
        let writing = write_until_end(self.write, queued, shared.clone());
        let receiver = Receiver { shared: shared.clone(), decoder: Decoder::new() };
        (Sender { queue, shared }, receiver, writing)
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Connection({}, {:?}, {:?})", self.carrier, self.remote, self.credentials)
    }
}

struct Shared {
    /// Locked while a frame is awaited; taken out when the link ends, so that nothing stays open.
    read: Mutex<Option<ReadHalf>>,
    /// Bytes that may still be queued.
    room: Arc<Semaphore>,
    /// Room came back, or the link ended.
    written: Notify,
    /// How the link ended.
    outcome: std::sync::Mutex<Option<Result<(), LinkError>>>,
    /// It has an outcome now.
    ended: Notify,
}

impl Shared {
    fn outcome(&self) -> MutexGuard<'_, Option<Result<(), LinkError>>> {
        self.outcome.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The first to end it says how.
    fn end(&self, outcome: Result<(), LinkError>) {
        self.outcome().get_or_insert(outcome);
        self.ended.notify_waiters();
        self.room.close();
        self.written.notify_waiters();
    }

    /// Waits for the end.
    async fn ended(&self) -> Result<(), LinkError> {
        loop {
            // Listens from here on, so that an end after the look below is heard.
            let ended = self.ended.notified();
            if let Some(outcome) = &*self.outcome() {
                return outcome.clone();
            }
            ended.await;
        }
    }

    fn error(&self) -> LinkError {
        match &*self.outcome() {
            Some(Err(error)) => error.clone(),
            Some(Ok(())) | None => LinkError::Closed,
        }
    }
}

/// The way out of a link. Clones share one queue; when the last is dropped, the link closes in order.
#[derive(Clone)]
pub struct Sender {
    queue: Tail,
    shared: Arc<Shared>,
}

impl Sender {
    /// Queues a frame, and waits for room: at most [`QUEUE_FRAMES_MAX`] frames and [`QUEUE_BYTES_MAX`] bytes wait.
    /// Cancelled, it has queued nothing.
    ///
    /// # Errors
    /// The link is closing or ended.
    pub async fn send(&self, frame: &Frame) -> Result<(), LinkError> {
        let bytes = wire_bytes(frame)?;
        let room = self.shared.room.clone().acquire_many_owned(permits(&bytes)).await;
        let room = room.map_err(|_| self.shared.error())?;
        if self.queue.push(Item::Frame(bytes, room)) { Ok(()) } else { Err(self.shared.error()) }
    }

    /// Queues a frame if there is room now.
    ///
    /// # Errors
    /// There is no room, or the link is closing or ended.
    pub fn try_send(&self, frame: &Frame) -> Result<(), TrySendError> {
        use tokio::sync::TryAcquireError::{Closed, NoPermits};
        let bytes = wire_bytes(frame)?;
        let room = self.shared.room.clone().try_acquire_many_owned(permits(&bytes)).map_err(|e| match e {
            NoPermits => TrySendError::Full,
            Closed => self.shared.error().into(),
        })?;
        if self.queue.push(Item::Frame(bytes, room)) { Ok(()) } else { Err(self.shared.error().into()) }
    }

    /// Waits until nothing is queued: all was given to the carrier. Takes no room from those that send meanwhile.
    ///
    /// # Errors
    /// The link is closing or ended.
    pub async fn drained(&self) -> Result<(), LinkError> {
        loop {
            // Listens from here on, so that what is written after the look below is heard.
            let written = self.shared.written.notified();
            if self.shared.room.is_closed() {
                return Err(self.shared.error());
            }
            if self.shared.room.available_permits() == QUEUE_BYTES_MAX {
                return Ok(());
            }
            written.await;
        }
    }

    /// Closes: writes what is queued, then `last` (a `Refused` or a `Retry`, which says why), and waits until the peer
    /// has read all of it and ended its side. Frames of the peer that nobody received by then are dropped. Takes
    /// [`CLOSE_TIME_MAX`] at most; then the carrier is cut.
    ///
    /// # Errors
    /// The peer did not read to the end.
    pub async fn close(&self, last: Option<&Frame>) -> Result<(), LinkError> {
        let orderly = async {
            if let Some(frame) = last {
                self.send(frame).await?;
            }
            // Refused only when the link ends already: then the outcome says how.
            let _ = self.queue.push(Item::End);
            self.shared.ended().await
        };
        timeout(CLOSE_TIME_MAX, orderly).await.unwrap_or_else(|_| {
            self.shared.end(Err(LinkError::Unread));
            Err(LinkError::Unread)
        })
    }

    /// Whether the link is of no use any more.
    pub fn is_closed(&self) -> bool {
        self.queue.is_closed()
    }
}

impl fmt::Debug for Sender {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Sender({} bytes free)", self.shared.room.available_permits())
    }
}

fn wire_bytes(frame: &Frame) -> Result<Bytes, FrameError> {
    let bytes = encode(frame);
    if bytes.len() > FRAME_WIRE_BYTES_MAX {
        return Err(FrameError::TooLong(bytes.len()));
    }
    Ok(bytes.into())
}

/// The room that a frame takes: a small one as much as leaves room for [`QUEUE_FRAMES_MAX`].
fn permits(bytes: &Bytes) -> u32 {
    let room = bytes.len().max(QUEUE_BYTES_MAX / QUEUE_FRAMES_MAX);
    u32::try_from(room).expect("a frame is under a megabyte")
}

async fn write_until_end(mut write: WriteHalf, mut queue: Head, shared: Arc<Shared>) {
    let outcome = tokio::select! {
        outcome = write_queue(&mut write, &mut queue, &shared) => outcome,
        // Somebody gave up on an orderly end.
        _ = shared.ended() => Err(LinkError::Unread),
    };
    drop(queue);
    shared.end(outcome);
    drop(write);
    // A receiver that waits was woken by `end`.
    drop(shared.read.lock().await.take());
}

async fn write_queue(write: &mut WriteHalf, queue: &mut Head, shared: &Shared) -> Result<(), LinkError> {
    let datagrams = write.queues();
    loop {
        let writing = tokio::select! {
            biased;
            item = queue.pop() => match item {
                Some(Item::Frame(bytes, room)) => {
                    let written = timeout(WRITE_TIME_MAX, write.write(bytes)).await;
                    drop(room);
                    shared.written.notify_waiters();
                    written
                }
                Some(Item::End) | None => break,
            },
            some = waiting(datagrams.as_deref()) => {
                timeout(WRITE_TIME_MAX, write.write_datagrams(some)).await
            }
        };
        writing.map_err(|_| LinkError::Stalled)??;
    }
    queue.close();
    timeout(CLOSE_TIME_MAX, finish(write, shared)).await.map_err(|_| LinkError::Unread)?
}

/// Never ready where the carrier carries datagrams by itself.
async fn waiting(queues: Option<&Queues>) -> Vec<Bytes> {
    match queues {
        Some(queues) => queues.out.some().await,
        None => std::future::pending().await,
    }
}

async fn finish(write: &mut WriteHalf, shared: &Shared) -> Result<(), LinkError> {
    write.finish().await?;
    if let Some(read) = shared.read.lock().await.as_mut() {
        while read.read().await?.is_some() {}
    }
    write.confirmed().await
}

/// The way in of a link.
pub struct Receiver {
    shared: Arc<Shared>,
    decoder: Decoder,
}

impl Receiver {
    /// The next frame. Cancel-safe: a frame is given out whole or stays. Holds one frame and
    /// [`crate::limits::READ_BYTES_MAX`] at most; while nobody calls, the carrier slows the peer down.
    ///
    /// # Errors
    /// The link ended or failed, or the peer sent what is no frame: then [`Sender::close`] may still say so.
    pub async fn recv(&mut self) -> Result<Frame, LinkError> {
        loop {
            if let Some(frame) = self.decoder.next_frame()? {
                return Ok(frame);
            }
            let read = async {
                match self.shared.read.lock().await.as_mut() {
                    Some(half) => half.read().await,
                    None => Err(self.shared.error()),
                }
            };
            let bytes = tokio::select! {
                biased;
                bytes = read => bytes?,
                _ = self.shared.ended() => return Err(self.shared.error()),
            };
            match bytes {
                Some(bytes) => self.decoder.push(&bytes),
                None if self.decoder.holds_part() => {
                    return Err(LinkError::Lost("the peer ended within a frame".into()));
                }
                None => return Err(LinkError::Closed),
            }
        }
    }
}

impl fmt::Debug for Receiver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Receiver(ended: {:?})", *self.shared.outcome())
    }
}
