//! Answers names that are of no zone here, by asking others: per suffix, or the machine's own resolvers. Keeps what they
//! say, and stays honest and quick when they say nothing. Who may ask is decided before.
//!
//! ```text
//! question ─▶ ours? refused ─▶ nobody's? answered here ─▶ kept? given ─▶ under way? waits ─▶ group of servers
//!                                                           ▲                                │ 0, 400, 1000, 1800 ms
//!                                                           └──────── kept ◀── checked ◀─────┘
//!                                              fails: an ended answer, or SERVFAIL with the reason (RFC 8914)
//! ```
//!
//! The cache, the health of servers, routes and policy are told the time and touch nothing; `group`, `upstream` and
//! `stream` are the shell.
#![allow(clippy::disallowed_methods, clippy::disallowed_types, reason = "this is a shell of the core")]

mod cache;
mod clock;
mod config;
mod counters;
mod explain;
mod flights;
mod group;
mod health;
mod kept;
mod limits;
mod local;
mod policy;
mod question;
mod response;
mod routes;
mod stream;
mod upstream;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use futures_util::FutureExt as _;
use futures_util::future::BoxFuture;
use model::Name;
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use crate::answer::Transport;
use crate::serve::Forward;

use self::cache::Cache;
use self::explain::Source;
use self::flights::{Boarded, Flights, Outcome, Pilot, Seat};
use self::group::Group;
use self::kept::{Age, EDE_NETWORK_ERROR, EDE_NO_REACHABLE_AUTHORITY, Kept};
use self::limits::{ANSWER_TIME_MAX, PREFETCH_QUEUE, PROBE_DELAY_MAX, STALE_WAIT, UNREACHED_SECONDS};
use self::policy::Reach;
use self::question::{Asked, Key, wire_name};
use self::response::Read;
use self::routes::{Ground, Routes, Way};

pub use self::cache::CacheReport;
pub use self::config::{BadRule, CacheBytes, ForwardConfig, Rule, Target};
pub use self::counters::{Count, ForwardCounters};
pub use self::explain::Origin;
pub use self::health::Condition;
pub use self::limits::{CACHE_BYTES, UPSTREAMS_MAX};
pub use self::routes::{Machine, Mesh};
pub use self::stream::BadAuthorities;

/// What somebody who sent `query` over TCP is given if a server says `response` to it; `None` if that is no answer to it.
/// Asks and keeps nothing: for tools that look at the parsers alone.
pub fn relay(query: &[u8], response: &[u8]) -> Option<Vec<u8>> {
    let asked = Asked::read(query)?;
    match response::read(response, &asked.key, None, |_| false).ok()? {
        Read::Good(kept) | Read::Blocked(kept) => kept.reply(query, &asked, Age::Seconds(0), u16::MAX.into()),
    }
}

/// Why there is no forwarder.
#[derive(Debug, thiserror::Error)]
pub enum ForwardError {
    /// The authorities of the settings.
    #[error(transparent)]
    Authorities(#[from] BadAuthorities),
    /// More servers than are kept an eye on.
    #[error("{0} servers to forward to are too many: {UPSTREAMS_MAX} at most")]
    TooMany(usize),
    /// The kernel has no randomness.
    #[error("the kernel has no random bytes")]
    Random(#[source] getrandom::Error),
}

/// A server, as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UpstreamReport {
    /// For which names; `None` for the rest.
    pub suffix: Option<String>,
    /// The server.
    pub target: Target,
    /// How it is.
    pub condition: Condition,
    /// What an answer takes, once one was measured.
    pub round_trip: Option<Duration>,
    /// Why it gave no answer the last time, if it gave none.
    pub trouble: Option<String>,
}

/// A forwarder. Dropped, it asks nobody any more.
pub struct Forwarder {
    inner: Arc<Inner>,
    tasks: Mutex<JoinSet<()>>,
}

struct Inner {
    ground: Ground,
    known: Mutex<Known>,
    routes: ArcSwap<Routes>,
    cache: Cache,
    flights: Arc<Flights>,
    counters: Arc<ForwardCounters>,
    wishes: mpsc::Sender<Key>,
    /// The probes are due otherwise than thought.
    stirred: Notify,
}

/// What the routes were made of.
#[derive(Clone, Default, PartialEq)]
struct Known {
    machine: Machine,
    mesh: Mesh,
    /// The last network that had resolvers: what is kept was learnt there.
    network: Machine,
}

impl ForwardConfig {
    /// Whether a forwarder can start with it, and what it will trust.
    fn check(&self) -> Result<Arc<rustls::ClientConfig>, ForwardError> {
        if self.upstreams.len() > UPSTREAMS_MAX {
            return Err(ForwardError::TooMany(self.upstreams.len()));
        }
        Ok(stream::client_config(self.authorities.as_deref())?)
    }

    /// Says early what [`Forwarder::start`] would.
    ///
    /// # Errors
    /// [`ForwardError`].
    pub fn verify(&self) -> Result<(), ForwardError> {
        self.check().map(|_| ())
    }
}

impl Forwarder {
    /// Starts one that knows neither machine nor mesh yet. Must be called within a tokio runtime.
    ///
    /// # Errors
    /// [`ForwardError`].
    pub fn start(config: ForwardConfig) -> Result<Self, ForwardError> {
        let tls = config.check()?;
        let cache = Cache::new(config.cache.0);
        let ground = Ground::new(config, tls, getrandom::u64().map_err(ForwardError::Random)?);
        let (wishes, wished) = mpsc::channel(PREFETCH_QUEUE);
        let inner = Arc::new(Inner {
            routes: ArcSwap::from_pointee(Routes::new(&ground, &Machine::default(), &Mesh::default())),
            ground,
            known: Mutex::default(),
            cache,
            flights: Arc::default(),
            counters: Arc::default(),
            wishes,
            stirred: Notify::new(),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&inner).keep(wished));
        Ok(Self { inner, tasks: Mutex::new(tasks) })
    }

    /// The machine is in this network now. If it is another, what servers of the last one said is forgotten; without
    /// any resolver it is kept for the case that the network comes back.
    pub fn set_machine(&self, machine: Machine) {
        self.inner.learn(|known| known.machine = machine);
    }

    /// The mesh is this now.
    pub fn set_mesh(&self, mesh: Mesh) {
        self.inner.learn(|known| known.mesh = mesh);
    }

    /// What was done since the start; goes on counting.
    pub fn counters(&self) -> Arc<ForwardCounters> {
        Arc::clone(&self.inner.counters)
    }

    /// What is kept.
    pub fn cache(&self) -> CacheReport {
        self.inner.cache.report()
    }

    /// All servers.
    pub fn upstreams(&self) -> Vec<UpstreamReport> {
        let routes = self.inner.routes.load();
        routes.named_groups().flat_map(|(suffix, group)| reports(suffix, group)).collect()
    }

    /// Whom it would ask about a name, best first. Nobody, if it is not forwarded.
    pub fn servers_for(&self, name: &Name) -> Vec<UpstreamReport> {
        let routes = self.inner.routes.load();
        let Way::Ask(group) = routes.of(&self.inner.ground, &wire_name(name)) else { return Vec::new() };
        let named = routes.named_groups().find(|(_, other)| Arc::ptr_eq(other, &group));
        named.map(|(suffix, group)| reports(suffix, group)).unwrap_or_default()
    }

    /// Answers as for a program that asks over TCP, and says where the answer comes from. `None`: it is refused.
    pub async fn explain(&self, query: &[u8]) -> (Option<Vec<u8>>, Origin) {
        let (answer, source) = self.answer(query, Transport::Tcp).await;
        (answer, self.inner.origin(source))
    }

    async fn answer(&self, query: &[u8], transport: Transport) -> (Option<Vec<u8>>, Source) {
        let inner = &self.inner;
        let refused = || {
            inner.counters.refused.add();
            (None, Source::Refused)
        };
        let Some(asked) = Asked::read(query) else { return refused() };
        let limit = match transport {
            Transport::Udp => asked.datagram_bytes_max(),
            Transport::Tcp => u16::MAX.into(),
        };
        let reply = |kept: &Kept, age: Age| kept.reply(query, &asked, age, limit);
        let now = |kept: &Kept, source| (reply(kept, Age::Seconds(0)), source);
        let failed = |error, source| now(&failure(&asked.key, error), source);
        let known = |kept: &Kept, age| match kept.is_answer() {
            true => (reply(kept, age), Source::Kept(kept.server, age)),
            false => (reply(kept, age), Source::Nobody),
        };
        let group = match inner.routes.load().of(&inner.ground, asked.key.name()) {
            Way::Refuse => return refused(),
            Way::Here(place) => {
                inner.counters.local.add();
                return now(&place.answer(&asked.key), Source::Here);
            }
            Way::Looped(number) => {
                inner.looped(number);
                return failed(EDE_NETWORK_ERROR, Source::Loop);
            }
            Way::Ask(group) => group,
        };
        if let Some(given) = inner.given(&asked.key, known) {
            return given;
        }
        let is_known = || inner.cache.has_fresh(asked.key.as_bytes(), inner.ground.clock.now());
        let seat = match inner.flights.board(&asked.key, Some(&asked), is_known) {
            Boarded::First(pilot, seat) => {
                self.spawn(Arc::clone(inner).fly(pilot, group));
                Some(seat)
            }
            Boarded::Later(seat) => {
                inner.counters.shared.add();
                Some(seat)
            }
            Boarded::Looped => {
                inner.counters.looped.add();
                return failed(EDE_NETWORK_ERROR, Source::Loop);
            }
            Boarded::Known => None,
            Boarded::Full => {
                inner.counters.crowded.add();
                None
            }
        };
        match inner.wait(&asked.key, seat).await {
            Some(outcome) if !outcome.is_failure => now(&outcome.kept, Source::Server(outcome.kept.server)),
            outcome => {
                inner.cache.settle_for_stale(asked.key.as_bytes(), inner.ground.clock.now());
                inner.given(&asked.key, known).unwrap_or_else(|| match outcome {
                    Some(outcome) => now(&outcome.kept, Source::Nobody),
                    None => failed(EDE_NO_REACHABLE_AUTHORITY, Source::Nobody),
                })
            }
        }
    }

    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        tasks.spawn(task);
        while tasks.try_join_next().is_some() {}
    }
}

fn reports(suffix: Option<&[u8]>, group: &Group) -> Vec<UpstreamReport> {
    let servers = group.upstreams.iter().zip(group.conditions());
    let reports = servers.map(|(upstream, (condition, round_trip))| UpstreamReport {
        suffix: suffix.map(question::text),
        target: upstream.target().clone(),
        condition,
        round_trip,
        trouble: upstream.trouble(),
    });
    reports.collect()
}

/// What is said when no server has a part in it.
fn failure(key: &Key, extended_error: u16) -> Kept {
    Kept::failure(key.as_bytes(), extended_error, UNREACHED_SECONDS)
}

impl Forward for Forwarder {
    fn cached(&self, buffer: &mut [u8], length: usize) -> Option<usize> {
        let asked = Asked::read(buffer.get(..length)?)?;
        let limit = asked.datagram_bytes_max();
        self.inner.given(&asked.key, |kept, age| kept.write(buffer, &asked, age, limit))?
    }

    fn forward(&self, query: Vec<u8>, transport: Transport) -> BoxFuture<'_, Option<Vec<u8>>> {
        async move { self.answer(&query, transport).await.0 }.boxed()
    }
}

impl Inner {
    /// Gives `take` the answer that is kept, and sees to it that a fresh one comes in time.
    fn given<T>(&self, key: &Key, take: impl FnOnce(&Kept, Age) -> T) -> Option<T> {
        let found = self.cache.find(key.as_bytes(), self.ground.clock.now(), |found| {
            (take(found.kept, found.age), found.refresh)
        });
        let (taken, refresh) = found?;
        if refresh {
            // Full: it is asked for when it has ended.
            let _ = self.wishes.try_send(*key);
        }
        Some(taken)
    }

    /// Waits for the outcome; less long if there is something else to say meanwhile.
    async fn wait(&self, key: &Key, seat: Option<Seat>) -> Option<Arc<Outcome>> {
        let has_stale = self.cache.has_stale(key.as_bytes(), self.ground.clock.now());
        let patience = if has_stale { STALE_WAIT } else { ANSWER_TIME_MAX * 2 };
        timeout(patience, seat?.wait()).await.ok().flatten()
    }

    /// Asks, keeps and tells.
    async fn fly(self: Arc<Self>, pilot: Box<Pilot>, group: Arc<Group>) {
        self.counters.asked.add();
        let key = *pilot.key();
        let routes = self.routes.load_full();
        let reach = match group.is_for_suffix {
            true => Reach::Everywhere,
            false => routes.policy.reach(key.name(), &self.ground.places),
        };
        let forbidden = |address| routes.policy.forbids(reach, address);
        let (kept, is_failure) = match group.resolve(&key, pilot.ids(), &forbidden).await {
            Ok(Read::Good(kept)) => (kept, false),
            Ok(Read::Blocked(kept)) => {
                self.counters.blocked.add();
                tracing::debug!(name = question::text(key.name()), "an answer leads where its name may not");
                (kept, false)
            }
            Err(failure) => {
                self.counters.failed.add();
                (failure.kept(&key), true)
            }
        };
        if group.probe_at().is_some() {
            self.stirred.notify_one();
        }
        // What was learnt in another network is of no use in this one.
        let now = self.ground.clock.now();
        if Arc::ptr_eq(&routes, &self.routes.load())
            && !(is_failure && self.cache.settle_for_stale(key.as_bytes(), now))
        {
            self.cache.put(kept.clone(), now);
        }
        pilot.land(Outcome { kept, is_failure });
    }

    /// Takes in what changed and makes the routes anew.
    fn learn(&self, change: impl FnOnce(&mut Known)) {
        let mut known = self.known.lock().unwrap_or_else(PoisonError::into_inner);
        let before = known.clone();
        change(&mut known);
        if *known == before {
            return;
        }
        if !known.machine.resolvers.is_empty() {
            known.network = known.machine.clone();
        }
        self.routes.store(Arc::new(Routes::new(&self.ground, &known.machine, &known.mesh)));
        if known.mesh != before.mesh || known.network != before.network {
            self.cache.clear();
        }
        self.stirred.notify_one();
    }

    fn looped(&self, number: u32) {
        self.counters.looped.add();
        let routes = self.routes.load();
        for group in routes.groups().filter(|group| group.looped(number)) {
            for upstream in group.upstreams.iter().filter(|upstream| upstream.number == number) {
                upstream.tell_of_loop();
            }
        }
        self.stirred.notify_one();
    }

    /// Probes servers when it is time to, and fetches what is wanted.
    async fn keep(self: Arc<Self>, mut wished: mpsc::Receiver<Key>) {
        let mut tasks = JoinSet::new();
        loop {
            let routes = self.routes.load_full();
            for group in routes.groups() {
                let due = group.due();
                if !due.is_empty() {
                    let (inner, group) = (Arc::clone(&self), Arc::clone(group));
                    tasks.spawn(async move { group.probe(due, |number| inner.ground.probe(number)).await });
                }
            }
            let due = routes.groups().filter_map(|group| group.probe_at()).min();
            let wait = due.map_or(PROBE_DELAY_MAX, |at| at.since(self.ground.clock.now()));
            tokio::select! {
                () = sleep(wait) => {}
                () = self.stirred.notified() => {}
                Some(_) = tasks.join_next() => {}
                Some(key) = wished.recv() => {
                    if let Some(flight) = self.refresh(&key) {
                        tasks.spawn(flight);
                    }
                }
            }
        }
    }

    fn refresh(self: &Arc<Self>, key: &Key) -> Option<impl Future<Output = ()> + Send + use<>> {
        let Way::Ask(group) = self.routes.load().of(&self.ground, key.name()) else { return None };
        let Boarded::First(pilot, _) = self.flights.board(key, None, || false) else { return None };
        self.counters.refreshed.add();
        Some(Arc::clone(self).fly(pilot, group))
    }
}
