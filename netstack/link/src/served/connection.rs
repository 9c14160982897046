//! One connection that is served: the state of its protocol, and who waits for what of it.
//!
//! ```text
//! idle ──stir()──▶ queued ──begin()──▶ running ──end()──▶ idle
//!                    ▲                    │ stir()
//!                    └──────end()──── stirred
//! ```
//!
//! Only the worker that runs it sends packets and sets its timer, so that those of one connection keep their order; anybody
//! may read and write meanwhile.

use std::collections::VecDeque;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use quinn_proto::{
    Chunk, Connection, ConnectionError, ConnectionEvent, ConnectionHandle, Dir, Event, FinishError,
    ReadError, ReadableError, StreamEvent, StreamId, Transmit, VarInt, WriteError,
};

use super::limits::{PACKETS_AT_ONCE, WAITING_EACH_MAX};
use super::queue::Queue;

/// Why a stream or a connection gives nothing and takes nothing.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum ServedError {
    #[error("connection lost")]
    Lost(#[from] ConnectionError),
    #[error("sending stopped by peer: error {0}")]
    Stopped(VarInt),
    #[error("stream reset by peer: error {0}")]
    Reset(VarInt),
    #[error("closed stream")]
    Closed,
}

/// One connection. Whoever has it may use it; one reader, one writer and one reader of datagrams at a time.
pub(crate) struct Served {
    handle: ConnectionHandle,
    queue: Arc<Queue<Self>>,
    inbox: Mutex<Inbox>,
    state: Mutex<State>,
}

struct Inbox {
    phase: Phase,
    packets: VecDeque<ConnectionEvent>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Phase {
    Idle,
    Queued,
    Running,
    /// Running, and something came up since.
    Stirred,
}

pub(super) struct State {
    pub(super) connection: Connection,
    /// Why it is over.
    error: Option<ConnectionError>,
    reads: Option<Waker>,
    writes: Option<Waker>,
    datagrams: Option<Waker>,
}

impl Served {
    pub(super) fn new(
        handle: ConnectionHandle,
        connection: Connection,
        queue: Arc<Queue<Self>>,
    ) -> Arc<Self> {
        Arc::new(Self {
            handle,
            queue,
            inbox: Mutex::new(Inbox { phase: Phase::Idle, packets: VecDeque::new() }),
            state: Mutex::new(State { connection, error: None, reads: None, writes: None, datagrams: None }),
        })
    }

    pub(super) const fn handle(&self) -> ConnectionHandle {
        self.handle
    }

    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn inbox(&self) -> MutexGuard<'_, Inbox> {
        self.inbox.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A packet came for it, and it is to be stirred.
    pub(super) fn deliver(&self, packet: ConnectionEvent) {
        let mut inbox = self.inbox();
        if inbox.packets.len() < WAITING_EACH_MAX {
            inbox.packets.push_back(packet);
            self.queue.packets_wait(1);
        }
    }

    /// Something is to be done: a worker looks after it soon.
    pub(crate) fn stir(self: &Arc<Self>) {
        let mut inbox = self.inbox();
        match inbox.phase {
            Phase::Idle => inbox.phase = Phase::Queued,
            Phase::Running => return inbox.phase = Phase::Stirred,
            Phase::Queued | Phase::Stirred => return,
        }
        drop(inbox);
        self.queue.push(Arc::clone(self));
    }

    /// A worker has it in hand: opens what came. Says how many packets there were. `packets` is room of the worker's, empty before
    /// and after.
    pub(super) fn begin(&self, packets: &mut Vec<ConnectionEvent>) -> usize {
        {
            let mut inbox = self.inbox();
            inbox.phase = Phase::Running;
            let count = inbox.packets.len().min(PACKETS_AT_ONCE);
            packets.extend(inbox.packets.drain(..count));
        }
        let count = packets.len();
        self.queue.packets_taken(count);
        let mut state = self.lock();
        if state.connection.is_drained() {
            packets.clear();
            return count;
        }
        for packet in packets.drain(..) {
            state.connection.handle_event(packet);
        }
        count
    }

    /// Does what its time has come for, and says whether there was something. Not before what the packets led to is sent: a peer
    /// that moved is sent something first, or nothing would be under way to it of which an answer could be missed.
    pub(super) fn tick(&self, now: Instant) -> bool {
        let mut state = self.lock();
        let is_due = state.connection.poll_timeout().is_some_and(|at| at <= now);
        if is_due {
            state.connection.handle_timeout(now);
        }
        is_due
    }

    /// The worker is done with it, or not: then it waits for its next turn.
    pub(super) fn end(self: &Arc<Self>, again: bool) {
        let mut inbox = self.inbox();
        let more = again || inbox.phase == Phase::Stirred || !inbox.packets.is_empty();
        inbox.phase = if more { Phase::Queued } else { Phase::Idle };
        if !more {
            // An idle connection keeps no room.
            inbox.packets = VecDeque::new();
        }
        drop(inbox);
        if more {
            self.queue.push(Arc::clone(self));
        }
    }

    pub(super) fn transmit(&self, now: Instant, segments_max: usize, into: &mut Vec<u8>) -> Option<Transmit> {
        self.lock().connection.poll_transmit(now, segments_max, into)
    }

    /// Ends it, as if the peer had gone.
    pub(super) fn lose(&self, error: ConnectionError) {
        self.lock().lose(error);
    }

    /// Closes it at once. What the peer has not read may be lost to it.
    pub(super) fn close(self: &Arc<Self>) {
        let mut state = self.lock();
        state.connection.close(super::now(), CLOSE_CODE, Bytes::new());
        state.lose(ConnectionError::LocallyClosed);
        drop(state);
        self.stir();
    }

    /// Waits until the peer has proven itself and opened a stream, that is, said something on it.
    pub(crate) async fn opened(&self) -> Result<StreamId, ConnectionError> {
        poll_fn(|context| {
            let mut state = self.lock();
            if let Some(error) = &state.error {
                return Poll::Ready(Err(error.clone()));
            }
            if !state.connection.is_handshaking()
                && let Some(stream) = state.connection.streams().accept(Dir::Bi)
            {
                return Poll::Ready(Ok(stream));
            }
            wait(&mut state.reads, context)
        })
        .await
    }

    /// The next bytes of the stream, `None` at its end. Cancel-safe.
    pub(crate) async fn read(
        self: &Arc<Self>,
        stream: StreamId,
        bytes_max: usize,
    ) -> Result<Option<Bytes>, ServedError> {
        poll_fn(|context| {
            let mut state = self.lock();
            let mut reading = state.connection.recv_stream(stream);
            let mut chunks = match reading.read(true) {
                Ok(chunks) => chunks,
                Err(ReadableError::ClosedStream | ReadableError::IllegalOrderedRead) => {
                    return Poll::Ready(Err(ServedError::Closed));
                }
            };
            let read = chunks.next(bytes_max);
            let told = chunks.finalize().should_transmit();
            let read = match read {
                Ok(chunk) => Poll::Ready(Ok(chunk.map(|Chunk { bytes, .. }| bytes))),
                Err(ReadError::Reset(code)) => Poll::Ready(Err(ServedError::Reset(code))),
                Err(ReadError::Blocked) => match &state.error {
                    Some(error) => Poll::Ready(Err(error.clone().into())),
                    None => wait(&mut state.reads, context),
                },
            };
            drop(state);
            if told {
                self.stir();
            }
            read
        })
        .await
    }

    /// Gives all bytes to the stream. Not cancel-safe.
    pub(crate) async fn write(self: &Arc<Self>, stream: StreamId, bytes: Bytes) -> Result<(), ServedError> {
        let mut left = [bytes];
        poll_fn(|context| {
            let mut state = self.lock();
            while !left[0].is_empty() {
                if let Some(error) = &state.error {
                    return Poll::Ready(Err(error.clone().into()));
                }
                match state.connection.send_stream(stream).write_chunks(&mut left) {
                    Ok(_) => self.stir(),
                    Err(WriteError::Blocked) => return wait(&mut state.writes, context),
                    Err(WriteError::Stopped(code)) => return Poll::Ready(Err(ServedError::Stopped(code))),
                    Err(WriteError::ClosedStream) => return Poll::Ready(Err(ServedError::Closed)),
                }
            }
            Poll::Ready(Ok(()))
        })
        .await
    }

    /// Says that nothing more will be written.
    pub(crate) fn finish(self: &Arc<Self>, stream: StreamId) -> Result<(), ServedError> {
        match self.lock().connection.send_stream(stream).finish() {
            // Who stopped us hears nothing more anyway.
            Ok(()) | Err(FinishError::Stopped(_)) => {}
            Err(FinishError::ClosedStream) => return Err(ServedError::Closed),
        }
        self.stir();
        Ok(())
    }

    /// Waits until the peer has all that was written before [`Self::finish`], or wants no more of it.
    pub(crate) async fn confirmed(&self, stream: StreamId) -> Result<(), ConnectionError> {
        poll_fn(|context| {
            let mut state = self.lock();
            match (state.connection.send_stream(stream).stopped(), &state.error) {
                (Err(_) | Ok(Some(_)), _) => Poll::Ready(Ok(())),
                (Ok(None), Some(error)) => Poll::Ready(Err(error.clone())),
                (Ok(None), None) => wait(&mut state.writes, context),
            }
        })
        .await
    }

    /// The longest datagram that fits now; `None` if the peer takes none.
    pub(crate) fn datagram_bytes_max(&self) -> Option<usize> {
        self.lock().connection.datagrams().max_size()
    }

    /// Has a datagram sent when it is stirred. `false`: one is lost, this one, or those that waited longest. `bytes_max` says how long
    /// it may be, of how many fit a packet.
    pub(crate) fn queue_datagram(&self, datagram: Bytes, bytes_max: fn(Option<usize>) -> usize) -> bool {
        let mut state = self.lock();
        if state.error.is_some() {
            return false;
        }
        let mut datagrams = state.connection.datagrams();
        if datagram.len() > bytes_max(datagrams.max_size()) {
            return false;
        }
        let room = datagrams.send_buffer_space() >= datagram.len();
        datagrams.send(datagram, true).is_ok() && room
    }

    /// The next datagram of the peer; `None` once the connection has ended. Cancel-safe.
    pub(crate) async fn datagram(&self) -> Option<Bytes> {
        poll_fn(|context| {
            let mut state = self.lock();
            match state.connection.datagrams().recv() {
                Some(datagram) => Poll::Ready(Some(datagram)),
                None if state.error.is_some() => Poll::Ready(None),
                None => wait(&mut state.datagrams, context),
            }
        })
        .await
    }

    pub(crate) fn round_trip(&self) -> Duration {
        self.lock().connection.rtt()
    }

    pub(crate) fn remote(&self) -> SocketAddr {
        self.lock().connection.remote_address()
    }

    /// What only both ends know (RFC 8446, section 7.5). Needs a complete handshake.
    pub(crate) fn exporter(&self, label: &[u8]) -> [u8; 32] {
        let mut exporter = [0; 32];
        let state = self.lock();
        let exported = state.connection.crypto_session().export_keying_material(&mut exporter, label, &[]);
        assert!(exported.is_ok(), "the handshake is complete and 32 bytes are not too many");
        exporter
    }
}

/// A connection that is closed when this is dropped.
pub(crate) struct Held(pub(super) Arc<Served>);

impl Deref for Held {
    type Target = Arc<Served>;

    fn deref(&self) -> &Arc<Served> {
        &self.0
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// The only code of a close: why a link ends is said by its last frame.
pub(crate) const CLOSE_CODE: VarInt = VarInt::from_u32(0);

impl Drop for Served {
    fn drop(&mut self) {
        let left = self.inbox.get_mut().unwrap_or_else(PoisonError::into_inner).packets.len();
        self.queue.packets_taken(left);
    }
}

impl State {
    /// Wakes whoever waits for what happened.
    pub(super) fn tell(&mut self) {
        while let Some(event) = self.connection.poll() {
            match event {
                Event::ConnectionLost { reason } => self.lose(reason),
                Event::Connected
                | Event::Stream(StreamEvent::Opened { .. } | StreamEvent::Readable { .. }) => {
                    wake(&mut self.reads);
                }
                Event::Stream(
                    StreamEvent::Writable { .. } | StreamEvent::Finished { .. } | StreamEvent::Stopped { .. },
                ) => wake(&mut self.writes),
                Event::DatagramReceived => wake(&mut self.datagrams),
                Event::HandshakeDataReady
                | Event::DatagramsUnblocked
                | Event::Stream(StreamEvent::Available { .. }) => {}
            }
        }
    }

    /// The first error stays.
    fn lose(&mut self, error: ConnectionError) {
        self.error.get_or_insert(error);
        [&mut self.reads, &mut self.writes, &mut self.datagrams].into_iter().for_each(wake);
    }
}

fn wake(waker: &mut Option<Waker>) {
    if let Some(waker) = waker.take() {
        waker.wake();
    }
}

fn wait<T>(slot: &mut Option<Waker>, context: &Context<'_>) -> Poll<T> {
    match slot {
        Some(waker) => waker.clone_from(context.waker()),
        None => *slot = Some(context.waker().clone()),
    }
    Poll::Pending
}
