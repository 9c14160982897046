//! Puts [`Names`] on UDP and TCP. Knows how to listen and how to stay bounded; what to say, the core knows.
//!
//! ```text
//!  UDP ─recvmmsg─▶ limiter ─▶ hot path ─sendmmsg─▶             a thread for each socket
//!                                └──▶ bounded queue ─▶ slow path, forwarder ─▶   a task for each address
//!  TCP ─▶ hot path, else slow path, forwarder ─▶                 a task for each connection
//! ```
//! Only addresses that were named are bound, and the core refuses askers of no tenant: it is open to nobody else.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is the shell of the core")]

mod answerer;
mod closing;
mod conversation;
mod counters;
mod forward;
mod framing;
mod holder;
mod limiter;
mod limits;
mod places;
mod querylog;
mod question;
mod slow;
mod socket;
mod tcp;
mod udp;

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use tokio::sync::Notify;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;

use self::answerer::Answerer;
use self::closing::{Close, Closing, Ends, Life};
use self::limits::CLOSE_TIME_MAX;
use self::udp::Threads;
use crate::names::Names;

pub use counters::{BUCKETS_MICROS, Counters, Histogram, Path, Way};
pub use forward::Forward;
pub use holder::{Held, Holder, holders};
pub use limiter::Limit;
#[cfg(feature = "forward")]
pub(crate) use limits::FORWARDED_PER_SOURCE_MAX;
pub use limits::{LIMIT_PER_SECOND_DEFAULT, UDP_THREADS_MAX};
pub use socket::ListenError;

/// Port of DNS (RFC 1035, section 4.2).
pub const DNS_PORT: u16 = 53;

/// How names are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Options {
    /// Threads that answer over UDP on each address, from 1 to [`UDP_THREADS_MAX`].
    pub threads: usize,
    /// Answers to one source over UDP, by each thread. This machine's own programs are not limited.
    pub limit: Option<Limit>,
    /// Logs one of so many questions; 0 logs none.
    pub log_sample: u32,
    /// Whether another process of the same user may take the same addresses, as a successor does before this one ends
    /// (`SO_REUSEPORT`, socket(7)). If not, whoever has an address already is told of by [`ListenError::InUse`].
    pub shared: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self { threads: 1, limit: Some(Limit::default()), log_sample: 0, shared: false }
    }
}

/// Answers on some addresses of this machine, until dropped.
#[derive(Debug)]
pub struct Server {
    answerer: Arc<Answerer>,
    port: u16,
    options: Options,
    listening: BTreeMap<IpAddr, Listener>,
    ended: Arc<Notify>,
}

#[derive(Debug)]
struct Listener {
    local: SocketAddr,
    threads: Threads,
    /// The slow path, and TCP.
    tasks: JoinSet<()>,
    close: Close,
    ends: Arc<Ends>,
}

impl Server {
    /// A server that listens nowhere yet. `port` is [`DNS_PORT`], another, or 0 for any free one.
    pub fn new(names: Arc<Names>, port: u16) -> Self {
        Self::with(names, port, Options::default())
    }

    /// As [`Self::new`], not quite as usual.
    pub fn with(names: Arc<Names>, port: u16, options: Options) -> Self {
        let answerer = Arc::new(Answerer::new(names, &options));
        Self { answerer, port, options, listening: BTreeMap::new(), ended: Arc::default() }
    }

    /// From now on, what is of no zone of the asker's is forwarded. Without, it is refused.
    pub fn forward(&self, forward: Arc<dyn Forward>) {
        self.answerer.set_forward(forward);
    }

    /// Listens on these addresses, UDP and TCP each, and on no others. What already listens goes on undisturbed; what
    /// failed before is tried again. An address need not be there yet (`IP_FREEBIND`, ip(7)). Must be called within a
    /// tokio runtime.
    ///
    /// Returns an error for each address that could not be opened; the others are served. Calling it again with the
    /// same addresses costs next to nothing, and is how an address that another program held is taken later. Addresses
    /// that are not wanted any more are closed as by [`Self::close`].
    pub async fn listen(&mut self, addresses: &[IpAddr]) -> Vec<ListenError> {
        self.close_all_but(addresses).await;
        let mut errors = Vec::new();
        for &address in addresses {
            if self.listening.contains_key(&address) {
                continue;
            }
            let at = SocketAddr::new(address, self.port);
            let opened = socket::open(at, &self.options).await;
            let started = opened.and_then(|sockets| {
                self.start(sockets).map_err(|source| ListenError::Open { address: at, source })
            });
            match started {
                Ok(listener) => drop(self.listening.insert(address, listener)),
                Err(error) => errors.push(error),
            }
        }
        errors
    }

    /// Returns when something has ended without being told to, by a mistake of ours; or may have. [`Self::listen`] opens
    /// its address anew. Cancel-safe.
    pub async fn ended(&self) {
        self.ended.notified().await;
    }

    /// Where it listens, with the ports.
    pub fn listening(&self) -> impl Iterator<Item = SocketAddr> {
        self.listening.values().map(|listener| listener.local)
    }

    /// What was answered since the start; goes on counting.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.answerer.counters)
    }

    /// Closes everything; the addresses are free when this returns. Takes nothing more in, answers every query that
    /// the sockets have received, and waits two seconds at most for forwarders and slow readers.
    pub async fn close(mut self) {
        self.close_all_but(&[]).await;
    }

    async fn close_all_but(&mut self, addresses: &[IpAddr]) {
        let unwanted = self.listening.extract_if(.., |address, listener| {
            // What ended without being told to has panicked: the address is opened anew.
            !addresses.contains(address) || listener.ends.one_has()
        });
        let closing: Vec<_> = unwanted.map(|(_, listener)| listener.close()).collect();
        join_all(closing).await;
    }

    fn start(&self, sockets: socket::Sockets) -> io::Result<Listener> {
        let (queue, asked) = slow::Queue::new();
        let answering = Arc::clone(&sockets.udp[0]);
        let (close, closing) = Closing::channel();
        let (local, limit) = (sockets.local, self.options.limit);
        let ends = Ends::new(Arc::clone(&self.ended));
        let threads = Threads::start(sockets.udp, local, limit, &self.answerer, &queue, &ends)?;
        let mut tasks = JoinSet::new();
        let (life, slow) = (Life::of(&ends), slow::serve(asked, answering, Arc::clone(&self.answerer)));
        tasks.spawn(slow.map(|()| drop(life)));
        let (life, tcp) = (Life::of(&ends), tcp::serve(sockets.tcp, Arc::clone(&self.answerer), closing));
        tasks.spawn(tcp.map(|()| drop(life)));
        tracing::info!(address = %local, "answering names");
        Ok(Listener { local, threads, tasks, close, ends })
    }
}

impl Listener {
    async fn close(self) {
        let Self { local, threads, mut tasks, close, ends: _ } = self;
        // Both doors at once, before anybody waits.
        threads.stop();
        close.send_replace(true);
        // With the threads goes the queue, and with it the slow path.
        if let Err(error) = spawn_blocking(move || threads.join()).await {
            tracing::debug!(%error, "the runtime ends");
        }
        let rest = async { while tasks.join_next().await.is_some() {} };
        if timeout(CLOSE_TIME_MAX, rest).await.is_err() {
            tasks.shutdown().await;
        }
        tracing::info!(address = %local, "stopped answering names");
    }
}
