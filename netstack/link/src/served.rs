//! QUIC connections of a server, ten thousand of them on one socket: quinn-proto speaks the protocol, a few tasks drive it.
//!
//! ```text
//! socket ──receive──▶ packets of each connection ─┐
//! reader, writer ──stir──▶                        ├─▶ queue ──▶ workers, one a core ──▶ socket
//! timers ──stir──▶ ───────────────────────────────┘
//! ```
//!
//! A connection has no task, no channel and no buffer of its own: what quinn keeps for each of them, an idle link would pay
//! for (ARCHITECTURE, "Decisions"). Locks are taken in this order: a connection, the endpoint, then timers, inbox and queue.

mod connection;
mod limits;
mod queue;
mod session;
mod socket;
mod timers;
mod worker;

use std::collections::VecDeque;
use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::available_parallelism;
use std::time::Instant;

use bytes::BytesMut;
use quinn_proto::{
    ConnectionError, ConnectionEvent, ConnectionHandle, DatagramEvent, EndpointConfig, EndpointEvent,
    Incoming, RetryError, ServerConfig, Transmit,
};
use quinn_udp::RecvMeta;
use tokio::sync::{Notify, watch};
use tokio::task::yield_now;

pub(crate) use self::connection::{CLOSE_CODE, Held, Served, ServedError};
use self::limits::RECEIVE_TIME_MAX;
use self::queue::Queue;
pub(crate) use self::session::{Sessions, VERSION};
use self::socket::Socket;
use self::timers::Timers;
use self::worker::internal;

/// A socket and the connections on it. Dropped, it takes no new ones; those that stand live on until they end.
pub(crate) struct Endpoint(Arc<Shared>);

struct Shared {
    socket: Socket,
    state: Mutex<State>,
    queue: Arc<Queue<Served>>,
    timers: Timers,
    /// Somebody wants in, or nobody ever will.
    arrivals: Notify,
    /// No connection is left.
    idle: Notify,
    over: watch::Sender<bool>,
}

struct State {
    inner: quinn_proto::Endpoint,
    /// By handle.
    served: Vec<Option<Arc<Served>>>,
    /// Those who want in, as many as [`ServerConfig::max_incoming`] says.
    incoming: VecDeque<Incoming>,
    /// Nobody takes new ones any more.
    is_left: bool,
    is_lost: bool,
}

impl Endpoint {
    /// Needs a tokio runtime.
    pub(crate) fn new(
        config: EndpointConfig,
        server: ServerConfig,
        socket: std::net::UdpSocket,
    ) -> io::Result<Self> {
        let socket = Socket::new(socket)?;
        let config = Arc::new(config);
        let buffer = socket.buffer(usize::try_from(config.get_max_udp_payload_size()).unwrap_or(usize::MAX));
        let inner = quinn_proto::Endpoint::new(config, Some(Arc::new(server)), !socket.may_fragment(), None);
        let shared = Arc::new(Shared {
            socket,
            state: Mutex::new(State {
                inner,
                served: Vec::new(),
                incoming: VecDeque::new(),
                is_left: false,
                is_lost: false,
            }),
            queue: Arc::default(),
            timers: Timers::default(),
            arrivals: Notify::new(),
            idle: Notify::new(),
            over: watch::Sender::new(false),
        });
        tokio::spawn(receive(Life(shared.clone()), buffer));
        tokio::spawn(keep_time(shared.clone()));
        for _ in 0..available_parallelism().map_or(1, usize::from) {
            tokio::spawn(employ(shared.clone()));
        }
        Ok(Self(shared))
    }

    pub(crate) fn local_address(&self) -> io::Result<SocketAddr> {
        self.0.socket.local_address()
    }

    /// Connections at this moment, half-open ones included.
    pub(crate) fn connections(&self) -> usize {
        self.0.lock().inner.open_connections()
    }

    /// For connections that come from now on; `None` takes no more.
    pub(crate) fn set_server_config(&self, config: Option<ServerConfig>) {
        self.0.lock().inner.set_server_config(config.map(Arc::new));
    }

    /// The next one who wants in, to be given to [`Self::admit`], [`Self::refuse`] or [`Self::retry`]. `None` if the socket
    /// failed for good. Cancel-safe.
    pub(crate) async fn arrival(&self) -> Option<Incoming> {
        loop {
            let arrivals = self.0.arrivals.notified();
            {
                let mut state = self.0.lock();
                if state.is_lost {
                    return None;
                }
                if let Some(incoming) = state.incoming.pop_front() {
                    return Some(incoming);
                }
            }
            arrivals.await;
        }
    }

    /// Begins the handshake.
    pub(crate) fn admit(&self, incoming: Incoming) -> Result<Held, ConnectionError> {
        let mut answer = Vec::new();
        let mut state = self.0.lock();
        if state.is_lost {
            state.inner.ignore(incoming);
            return Err(internal(SOCKET_GONE));
        }
        match state.inner.accept(incoming, now(), &mut answer, None) {
            Ok((handle, connection)) => {
                let served = Served::new(handle, connection, self.0.queue.clone());
                if state.served.len() <= handle.0 {
                    state.served.resize(handle.0 + 1, None);
                }
                state.served[handle.0] = Some(served.clone());
                drop(state);
                served.stir();
                Ok(Held(served))
            }
            Err(error) => {
                drop(state);
                error.response.iter().for_each(|transmit| self.0.respond(transmit, &answer));
                Err(error.cause)
            }
        }
    }

    pub(crate) fn refuse(&self, incoming: Incoming) {
        let mut answer = Vec::new();
        let transmit = self.0.lock().inner.refuse(incoming, &mut answer);
        self.0.respond(&transmit, &answer);
    }

    /// Asks for a proof of the address.
    pub(crate) fn retry(&self, incoming: Incoming) -> Result<(), RetryError> {
        let mut answer = Vec::new();
        let transmit = self.0.lock().inner.retry(incoming, &mut answer)?;
        self.0.respond(&transmit, &answer);
        Ok(())
    }

    /// Takes no new one.
    pub(crate) fn leave(&self) {
        let mut state = self.0.lock();
        state.inner.set_server_config(None);
        while let Some(incoming) = state.incoming.pop_front() {
            state.inner.ignore(incoming);
        }
    }

    /// Waits until there is no connection any more.
    pub(crate) async fn idle(&self) {
        loop {
            let idle = self.0.idle.notified();
            if self.connections() == 0 || self.0.lock().is_lost {
                return;
            }
            idle.await;
        }
    }

    /// Closes every connection.
    pub(crate) fn close(&self) {
        let served: Vec<_> = self.0.lock().served.iter().flatten().cloned().collect();
        served.iter().for_each(|served| served.close());
    }
}

#[cfg(test)]
impl Endpoint {
    /// What happens to a connection whose worker breaks off.
    pub(crate) fn break_off(&self, served: &Arc<Served>) {
        drop(worker::Hand::new(&self.0, served.clone()));
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        self.leave();
        let mut state = self.0.lock();
        state.is_left = true;
        self.0.end_if_done(&state);
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn served(&self, handle: ConnectionHandle) -> Option<Arc<Served>> {
        self.lock().served.get(handle.0).cloned().flatten()
    }

    /// What a connection wants of the endpoint, and the answer.
    fn handle(&self, handle: ConnectionHandle, event: EndpointEvent) -> Option<ConnectionEvent> {
        let mut state = self.lock();
        let is_drained = event.is_drained();
        let answer = state.inner.handle_event(handle, event);
        if is_drained {
            // The handle may be another's as soon as the lock is given back.
            self.timers.remove(handle);
            let gone = state.served.get_mut(handle.0).and_then(Option::take);
            self.end_if_done(&state);
            drop(state);
            drop(gone);
        }
        answer
    }

    /// A connection that is lost without a word to its peer.
    fn forget(&self, served: &Arc<Served>) {
        let is_known = self.served(served.handle()).is_some_and(|known| Arc::ptr_eq(&known, served));
        if is_known {
            self.handle(served.handle(), EndpointEvent::drained());
        }
    }

    fn end_if_done(&self, state: &State) {
        if state.inner.open_connections() == 0 {
            self.idle.notify_one();
            if state.is_left {
                self.end();
            }
        }
    }

    fn end(&self) {
        self.queue.close();
        self.over.send_replace(true);
    }

    /// Answers somebody who has no connection. Lost where there is no room: a peer that gets none asks again.
    fn respond(&self, transmit: &Transmit, bytes: &[u8]) {
        if let Err(error) = self.socket.try_send(transmit, bytes) {
            tracing::debug!(%error, to = %transmit.destination, "quic answer not sent");
        }
    }

    async fn receive_until_it_fails(&self, buffer: &mut [u8]) -> io::Error {
        loop {
            self.queue.room().await;
            let more = self.socket.readable().await.and_then(|()| self.receive(buffer));
            match more {
                Ok(true) => yield_now().await,
                Ok(false) => {}
                Err(error) => return error,
            }
        }
    }

    /// Takes from the socket what is there, for a while. Whether there may be more.
    fn receive(&self, buffer: &mut [u8]) -> io::Result<bool> {
        let mut touched = None;
        let received = self.receive_round(buffer, &mut touched);
        touched.iter().for_each(Served::stir);
        received
    }

    fn receive_round(&self, buffer: &mut [u8], touched: &mut Option<Arc<Served>>) -> io::Result<bool> {
        let began = now();
        loop {
            let received = self.socket.receive(buffer, |meta, bytes| self.take(meta, bytes, touched, began));
            match received {
                Ok(()) if began.elapsed() < RECEIVE_TIME_MAX => {}
                Ok(()) => return Ok(true),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                // Anybody on the way can bring it about, and it says nothing to QUIC.
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
                Err(error) => return Err(error),
            }
        }
    }

    /// `touched` is to be stirred: once for all of its packets that come in a row, since a worker takes it with the first that it is
    /// told of.
    fn take(&self, meta: &RecvMeta, bytes: &[u8], touched: &mut Option<Arc<Served>>, now: Instant) {
        let mut packets = BytesMut::from(bytes);
        let mut answer = Vec::new();
        let mut state = self.lock();
        while !packets.is_empty() {
            let packet = packets.split_to(meta.stride.min(packets.len()));
            answer.clear();
            let ecn = socket::congestion(meta);
            match state.inner.handle(now, meta.addr, meta.dst_ip, ecn, packet, &mut answer) {
                Some(DatagramEvent::ConnectionEvent(handle, event)) => {
                    if let Some(Some(served)) = state.served.get(handle.0) {
                        served.deliver(event);
                        if touched.as_ref().is_none_or(|before| !Arc::ptr_eq(before, served)) {
                            touched.replace(Arc::clone(served)).iter().for_each(Served::stir);
                        }
                    }
                }
                Some(DatagramEvent::NewConnection(incoming)) => {
                    state.incoming.push_back(incoming);
                    self.arrivals.notify_one();
                }
                Some(DatagramEvent::Response(transmit)) => self.respond(&transmit, &answer),
                None => {}
            }
        }
    }
}

/// What ends with the task that receives: without it no connection hears anything any more.
struct Life(Arc<Shared>);

impl Drop for Life {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.is_lost = true;
        while let Some(incoming) = state.incoming.pop_front() {
            state.inner.ignore(incoming);
        }
        let served = std::mem::take(&mut state.served);
        drop(state);
        served.iter().flatten().for_each(|served| served.lose(internal(SOCKET_GONE)));
        self.0.end();
        self.0.arrivals.notify_one();
        self.0.idle.notify_one();
    }
}

/// What connections say that end with their socket.
const SOCKET_GONE: &str = "the socket is gone";

async fn receive(life: Life, mut buffer: Vec<u8>) {
    let mut over = life.0.over.subscribe();
    tokio::select! {
        _ = over.wait_for(|over| *over) => {}
        error = life.0.receive_until_it_fails(&mut buffer) => {
            tracing::error!(%error, "the UDP socket of QUIC failed");
        }
    }
}

/// Wakes connections whose time has come.
async fn keep_time(shared: Arc<Shared>) {
    let mut over = shared.over.subscribe();
    loop {
        let sooner = shared.timers.sooner.notified();
        let next = shared.timers.next();
        let due = async {
            match next {
                Some(at) => tokio::time::sleep_until(at.into()).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            _ = over.wait_for(|over| *over) => return,
            () = sooner => continue,
            () = due => {}
        }
        for handle in shared.timers.due(now()) {
            shared.served(handle).iter().for_each(Served::stir);
        }
    }
}

/// A worker, and the next one where it breaks off.
async fn employ(shared: Arc<Shared>) {
    while let Err(error) = tokio::spawn(worker::work(shared.clone())).await {
        if !error.is_panic() {
            return;
        }
        tracing::error!("a connection broke off by a mistake of the server");
    }
}

/// The runtime's clock, which tests may hold.
fn now() -> Instant {
    tokio::time::Instant::now().into_std()
}
