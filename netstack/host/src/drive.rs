//! The one event loop of a node: carries out what the engine asks for and tells it what came of it. Makes no
//! choice of its own; what blocks is done elsewhere.
//!
//! ```text
//!   commands ─┐                            ┌─▶ hands (a thread): observe, apply
//!   link ─────┤  ┌──────────┐   outputs    ├─▶ link: frames, dialling
//!   answers ──┼─▶│  engine  │─────────────▶├─▶ ledger: written by one blocking task at a time
//!   events ───┤  └──────────┘              ├─▶ names (a task): zones and sockets of Magic DNS
//!   timer ────┘                            └─▶ resolving, logging
//! ```
//!
//! Every queue is bounded: while one is full the engine is not asked for more, and what empties it wakes the loop.

mod begin;
mod carrier;
mod clock;
mod endpoint;
mod forward;
mod handle;
pub mod lookup;
mod moment;
mod names;
mod obey;
mod record;
mod rekey;
mod report;
mod restart;
mod seal;
mod sees;
mod settings;
mod told;

use std::collections::{BTreeSet, VecDeque};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use engine::{Event, Input, Ledger, LedgerError, Node, NodeConfig, Output};
use model::id::CommandId;
use model::wire::Frame;
use model::{Endpoint, PrivateKey, Refusal};
use tokio::sync::Notify;
use tokio::task::{JoinHandle, JoinSet};
use tokio::time::{Instant, sleep_until, timeout};

use self::begin::load;
use self::carrier::Link;
use self::clock::Clock;
use self::endpoint::{RESOLVES_MAX, resolve};
use self::names::NamesTask;
use self::report::Publisher;
use crate::files::{self, FileError, SECRET};
use crate::hands::{Answer, Hands, HandsError, Opened, Task};
use crate::host::{HostConfig, HostReport};
use crate::keyfile::KeyFileError;
use crate::paths::{self, Road, Shell};
use crate::sshd::{SshdSetup, SshdTask};

pub use self::carrier::Server;
pub use self::forward::{BadForwardMode, ForwardMode, ForwardSetup};
pub use self::handle::{Commands, Gone, Handle, channel};
pub use self::moment::Moment;
pub use self::names::{NamesSetup, Sees};
pub use self::rekey::Ended;
pub use self::report::{Counters, LinkReport, NamesReport, PathCounters, PathsReport, RelayReport, Report};
pub use self::restart::Restart;
pub use self::seal::Seal;
pub use self::settings::{BadForward, NamesSettings};
pub use dns::forward::Rule;
pub use dns::serve::Options as NamesOptions;

/// The loop wakes at least so often: a suspended machine's timers stand still, and a watchdog wants a sign.
const WAKE_INTERVAL: Duration = Duration::from_secs(5);
/// Signs of life come at most so often, however busy the loop is.
const ALIVE_INTERVAL: Duration = Duration::from_secs(1);
/// Leaving takes this long at most: the resolver's programs are bounded, and a service manager waits 90 s.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(20);

/// What a node is made of.
#[derive(Debug)]
pub struct Setup {
    /// What the engine is told.
    pub node: NodeConfig,
    /// What the host is told.
    pub host: HostConfig,
    /// The ledger's file.
    pub ledger: PathBuf,
    /// The server, if one is known yet.
    pub server: Option<Server>,
    /// Where Magic DNS answers: [`dns::serve::DNS_PORT`] but in tests.
    pub names_port: u16,
    /// Whether a device may ask its router for a port, so that peers reach it directly.
    pub maps_ports: bool,
    /// Whether a device may meet a peer behind a NAT that gives ports by chance by many sockets, or many guesses.
    pub birthdays: bool,
    /// How Magic DNS answers, and whom.
    pub names: NamesSetup,
    /// Whether and how this machine's sshd is kept.
    pub sshd: SshdSetup,
    /// Who begins the program anew when the server wants it; nobody on a hub.
    pub restart: Option<Restart>,
    /// Where the WireGuard key is kept that is to follow the one in use; nowhere on a hub.
    pub next_key: Option<PathBuf>,
    /// Seals a WireGuard key for a recipient of age, where the node's server may ask for that: on a hub.
    pub seals: Option<Seal>,
    /// Randomness for the engine and for the table of names, fresh at each start.
    pub seed: [u8; 32],
}

/// Why a node did not start, or ended without being told to.
#[derive(Debug, thiserror::Error)]
pub enum DriveError {
    /// The ledger's file.
    #[error("ledger")]
    LedgerFile(#[source] FileError),
    /// The ledger's content, so that nothing of it can be trusted. It is left as it is.
    #[error("ledger {}", path.display())]
    Ledger {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: LedgerError,
    },
    /// The file of the key that is to follow.
    #[error("the next WireGuard key")]
    NextKey(#[from] KeyFileError),
    /// The host.
    #[error(transparent)]
    Hands(#[from] HandsError),
    /// Forwarding.
    #[error("forwarding of names")]
    Forward(#[from] dns::forward::ForwardError),
    /// The kernel's events.
    #[error("events of the kernel")]
    Events(#[source] io::Error),
    /// The thread that works on the host panicked.
    #[error("the thread that works on the host died")]
    HandsDied,
}

/// Runs a node until it is told to stop. Kernel WireGuard, routes and firewall stay then, so that no packet is
/// lost while a program is replaced; the resolver is put back.
///
/// # Errors
/// See [`DriveError`]. A ledger of which nothing is sound, or a host that cannot be opened, ends it at once.
pub async fn drive(
    setup: Setup,
    mut commands: Commands,
    mut moments: impl FnMut(Moment) + Send,
) -> Result<Ended, DriveError> {
    let mut driver = Box::pin(Driver::start(setup, &commands)).await?;
    let ended = driver.run(&mut commands, &mut moments).await;
    moments(Moment::Stopping);
    driver.stop().await;
    ended
}

struct Driver {
    clock: Clock,
    node: Box<Node>,
    hands: Hands,
    host: HostReport,
    /// Interfaces beside the shared one that were there at the start, by their ports.
    found: BTreeSet<u16>,
    link: Link,
    /// `None` for a hub, whose peers come to it.
    paths: Option<Box<Shell>>,
    names: NamesTask,
    sshd: SshdTask,
    seals: Option<(Seal, PrivateKey)>,
    changed: Arc<Notify>,
    events: JoinHandle<io::Error>,
    ledger: PathBuf,
    writing: Option<JoinHandle<Result<(), FileError>>>,
    unwritten: VecDeque<Vec<u8>>,
    resolving: JoinSet<(Endpoint, Option<SocketAddr>)>,
    counters: Counters,
    join_refused: Option<Refusal>,
    restart: Option<Restart>,
    next_key: Option<PathBuf>,
    /// The server has the next key, for this command if one wanted it.
    rekeyed: Option<Option<CommandId>>,
    publisher: Publisher,
    ready: bool,
    alive_at: Option<Instant>,
    facts_at: Option<Instant>,
}

impl Driver {
    async fn start(mut setup: Setup, commands: &Commands) -> Result<Self, DriveError> {
        setup.host.resolver.port = setup.names_port;
        let path = setup.ledger.clone();
        let bytes = tokio::task::spawn_blocking(move || files::read(&path))
            .await
            .expect("reading a file does not panic");
        let ledger = match bytes.map_err(DriveError::LedgerFile)? {
            None => Ledger::new(),
            Some(bytes) => load(&bytes, &setup.ledger)?,
        };
        // Without an interface there are no addresses of this machine to answer at.
        let names_port = setup.host.stack.is_none().then_some(setup.names_port);
        let changed = Arc::new(Notify::new());
        // Subscribed before the first look, so that nothing between the two is missed.
        let events = begin::watch(&setup.host, &changed).await.map_err(DriveError::Events)?;
        let (mark, paths) = (setup.host.mark(), begin::paths(&setup).map(Box::new));
        let names = NamesTask::start(names_port, setup.names, &setup.host.resolver.file, &setup.seed)?;
        let road = paths.as_ref().map_or_else(Road::idle, |paths| paths.road());
        let (hands, Opened { report: host, found }) = Hands::start(setup.host, road).await?;
        names.set_owner(host.resolver);
        let seals = setup.seals.map(|seal| (seal, setup.node.wireguard.clone()));
        Ok(Self {
            seals,
            clock: Clock::new(),
            node: Box::new(Node::new(setup.node, ledger, setup.seed)),
            hands,
            host,
            found,
            link: Link::new(setup.server, mark),
            paths,
            names,
            sshd: SshdTask::start(setup.sshd, &setup.seed),
            changed,
            events,
            ledger: setup.ledger,
            writing: None,
            unwritten: VecDeque::new(),
            resolving: JoinSet::new(),
            counters: Counters::default(),
            join_refused: None,
            restart: setup.restart,
            next_key: setup.next_key,
            rekeyed: None,
            publisher: commands.publisher(),
            ready: false,
            alive_at: None,
            facts_at: None,
        })
    }

    async fn run(
        &mut self,
        commands: &mut Commands,
        moments: &mut (impl FnMut(Moment) + Send),
    ) -> Result<Ended, DriveError> {
        self.tell_engine();
        let found = std::mem::take(&mut self.found);
        self.tell(Input::Found(found));
        self.tell_next_key()?;
        if let Some(command) = self.restart.as_ref().and_then(|restart| restart.done) {
            self.tell(Input::Restarted { command });
        }
        loop {
            self.tell_facts();
            self.drain();
            if let Some(command) = self.rekeyed.take() {
                return Ok(Ended::Rekeyed { command });
            }
            self.publish(moments);
            self.show_alive(moments);
            let wake = self.wake_at();
            // While the engine's wishes wait for room, the server waits too.
            let room = self.has_room();
            tokio::select! {
                answer = self.hands.answer() => {
                    let answer = answer.ok_or(DriveError::HandsDied)?;
                    self.answered(answer, moments);
                }
                input = self.link.next(), if room => self.take_link(input),
                result = finished(&mut self.writing) => {
                    self.writing = None;
                    self.tell(Input::Persisted(result.map_err(|e| crate::chain::chain(&e))));
                }
                Some(done) = self.resolving.join_next() => {
                    if let Ok((endpoint, address)) = done {
                        self.tell(Input::Resolved { endpoint, address });
                    }
                }
                input = paths::next(&mut self.paths), if room => self.take_path(input),
                said = self.sshd.next(), if room => self.tell(Input::Ssh(said)),
                () = self.names.stirred() => self.publisher.touch(),
                () = self.changed.notified() => self.tell(Input::HostChanged),
                failed = &mut self.events => {
                    return Err(DriveError::Events(failed.unwrap_or_else(io::Error::other)));
                }
                command = commands.next() => match command {
                    Some(command) => self.obey(command),
                    None => return Ok(Ended::Stopped),
                },
                () = sleep_until(wake) => self.node.handle_timeout(self.clock.now()),
            }
        }
    }

    fn show_alive(&mut self, moments: &mut (impl FnMut(Moment) + Send)) {
        if self.alive_at.is_none_or(|at| at.elapsed() >= ALIVE_INTERVAL) {
            self.alive_at = Some(Instant::now());
            moments(Moment::Alive);
        }
    }

    /// The paths hear of the link before the engine does.
    fn take_link(&mut self, input: Input) {
        if let Some(paths) = &mut self.paths {
            match &input {
                Input::Received(Frame::Attached(_) | Frame::Enrolled(_)) => {
                    paths.server_up(self.link.datagrams());
                }
                Input::LinkDown { .. } => paths.server_down(),
                _ => {}
            }
        }
        self.tell(input);
    }

    fn tell(&mut self, input: Input) {
        self.node.handle(input, self.clock.now());
        self.publisher.touch();
    }

    /// Carries out what the engine wants, as far as there is room.
    fn drain(&mut self) {
        self.names.tell(&mut self.hands);
        while self.has_room() {
            let Some(output) = self.node.poll_output() else { return };
            self.carry_out(output);
        }
    }

    fn has_room(&self) -> bool {
        self.hands.has_room()
            && !self.names.is_full()
            && self.unwritten.is_empty()
            && self.resolving.len() < RESOLVES_MAX
    }

    fn carry_out(&mut self, output: Output) {
        match output {
            Output::Dial => {
                self.counters.dials_total += 1;
                self.link.dial();
            }
            Output::Hangup => {
                self.link.hang_up();
                self.take_link(Input::LinkDown { reason: "hung up".into() });
            }
            Output::Send(frame) => {
                if let Err(reason) = self.link.send(&frame) {
                    self.take_link(Input::LinkDown { reason });
                }
            }
            Output::Persist(bytes) => {
                self.unwritten.push_back(bytes);
                self.write_next();
            }
            Output::Observe(seat) => {
                self.counters.observations_total += 1;
                self.hands.give(Task::Observe(seat));
            }
            Output::Apply(seat, change) => {
                tracing::debug!(%change, interface = %seat, "applying");
                self.hands.give(Task::Apply(seat, change));
            }
            Output::Names(update) => self.names.give(update),
            Output::Path(output) => {
                if let Some(paths) = &mut self.paths {
                    paths.carry_out(output);
                }
            }
            Output::Ssh(output) => self.sshd.give(output),
            Output::Seal { recipient } => self.tell(Input::Sealed(self.sealed_for(recipient.as_str()))),
            Output::Resolve(endpoint) => drop(self.resolving.spawn(resolve(endpoint))),
            Output::Event(event) => {
                if let Event::JoinRefused(refusal) = &event {
                    self.join_refused = Some(refusal.clone());
                }
                if let Some(restart) = &self.restart {
                    restart.hear(&event);
                }
                self.hear_of_keys(&event);
                record::record(&event);
                self.publisher.touch();
            }
        }
    }

    fn answered(&mut self, answer: Answer, moments: &mut (impl FnMut(Moment) + Send)) {
        match answer {
            Answer::Observed(seat, observed, host) => {
                self.take_host(host);
                if let (Some(paths), Ok(observed)) = (&mut self.paths, &observed) {
                    paths.observed(observed.interface.as_ref());
                }
                self.tell(Input::Observed(seat, observed));
                if !self.ready {
                    self.ready = true;
                    moments(Moment::Ready);
                }
            }
            Answer::Applied(seat, change, result, host) => {
                if let Some(host) = host {
                    self.take_host(host);
                }
                match &result {
                    Ok(()) => self.counters.changes_total += 1,
                    Err(_) => self.counters.changes_failed_total += 1,
                }
                self.tell(Input::Applied { seat, change, result });
            }
            Answer::Changed | Answer::Served => self.tell(Input::HostChanged),
            // Only asked for when the loop has ended.
            Answer::Left(_) => {}
        }
    }

    fn write_next(&mut self) {
        if self.writing.is_none()
            && let Some(bytes) = self.unwritten.pop_front()
        {
            let path = self.ledger.clone();
            let write = move || files::replace(&path, &bytes, SECRET);
            self.writing = Some(tokio::task::spawn_blocking(write));
        }
    }

    fn wake_at(&mut self) -> Instant {
        self.write_next();
        let due = self.node.poll_timeout().map(|deadline| self.clock.instant(deadline.at));
        let latest = Instant::now() + WAKE_INTERVAL;
        due.into_iter().chain(self.publisher.due()).fold(latest, Instant::min)
    }

    fn publish(&mut self, moments: &mut (impl FnMut(Moment) + Send)) {
        if self.publisher.is_due() {
            let began = Instant::now();
            let report = self.report();
            moments(Moment::Status(report.line()));
            self.publisher.publish(report, began.elapsed());
        }
    }

    fn report(&self) -> Report {
        Report {
            node: self.node.status(),
            host: self.host.clone(),
            server: self.link.server().map(ToString::to_string),
            link: self.link.report(),
            names: self.names.report(),
            sshd: self.sshd.report(),
            paths: self.paths.as_ref().map(|paths| paths.report()).unwrap_or_default(),
            join_refused: self.join_refused.clone(),
            counters: self.counters,
        }
    }

    /// Puts the host in the state in which it is left, and ends every task.
    async fn stop(mut self) {
        let leave = async {
            if let Some(writing) = self.writing.take() {
                let _ = writing.await;
            }
            if let Some(last) = self.unwritten.pop_back() {
                let _ =
                    tokio::task::spawn_blocking(move || files::replace(&self.ledger, &last, SECRET)).await;
            }
            self.link.hang_up();
            self.names.end().await;
            while !self.hands.has_room() && self.hands.answer().await.is_some() {}
            self.hands.give(Task::Leave);
            while let Some(answer) = self.hands.answer().await {
                if let Answer::Left(result) = answer {
                    if let Err(reason) = result {
                        tracing::warn!(code = "leave-failed", reason, "the host was not left as it was");
                    }
                    break;
                }
            }
            self.hands.end().await;
        };
        if timeout(LEAVE_TIME_MAX, leave).await.is_err() {
            tracing::warn!(code = "leave-failed", "leaving took too long");
        }
        self.events.abort();
    }
}

/// The result of a task that may not be there; then it never comes.
async fn finished(task: &mut Option<JoinHandle<Result<(), FileError>>>) -> Result<(), FileError> {
    match task {
        Some(task) => task.await.expect("writing a file does not panic"),
        None => std::future::pending().await,
    }
}
