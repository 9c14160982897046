//! What the loop of a device does for the engine's paths: probes out and in, where the machine is, what its peers are sent
//! and received, where STUN is answered, which relays are connected. Chooses no path, and knows no format.

mod counting;
mod hold;
mod home;
mod lane;
mod mapping;
mod network;
pub mod places;
mod raw;
pub mod relay;
pub mod report;
mod road;
mod sides;
mod suspension;
mod trial;

use std::collections::{BTreeMap, VecDeque};
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use engine::ObservedInterface;
use engine::paths::{PathInput, PathOutput, RelayId, SideId};
use link::Datagrams;
use model::key::IdentitySecret;
use model::relay::{RelayPass, RelayPlace};
use model::wire::Remark;
use model::{AnchorKey, Endpoint, EndpointHost, Nonce, PublicKey, Signed};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use crate::interface::InterfaceName;
use crate::paths::counting::Counting;
use crate::paths::network::Network;
use crate::paths::places::{Bearer, Places};
use crate::paths::report::{PathCounters, PathsReport};
use crate::paths::suspension::Suspension;

pub(crate) use self::lane::{Seen, stands_for_peer};
pub(crate) use self::road::Road;

/// The machine's resolver tries its servers within this time, or there is no network.
const RESOLVE_TIME_MAX: Duration = Duration::from_secs(10);
/// Without a network, or with a resolver that is not up yet.
const RESOLVE_RETRY: Duration = Duration::from_secs(15);
/// Servers of STUN: two ports over each family, and a second machine.
const STUN_SERVERS_MAX: usize = 8;

/// By which relays on other machines know this device, beside its pass.
pub(crate) struct Credentials {
    pub(crate) identity: IdentitySecret,
    pub(crate) instance: Nonce,
    pub(crate) software: Remark,
    /// Of the sockets to them.
    pub(crate) mark: Option<u32>,
}

/// The shell of a device's paths.
pub(crate) struct Shell {
    road: Road,
    heard: mpsc::Receiver<PathInput>,
    networks: watch::Receiver<Network>,
    network: Network,
    watching: Option<JoinHandle<()>>,
    /// WireGuard's; 0 while there is none.
    listen_port: u16,
    /// Whether the router may be asked for a port.
    maps_ports: bool,
    mapping: Option<Mapping>,
    counting: Counting,
    /// WireGuard is the kernel's, as the engine was told.
    is_kernel: bool,
    /// Shown to relays on other machines.
    credentials: Credentials,
    named: Vec<RelayPlace>,
    needed: Vec<RelayId>,
    /// `None` until there is a pass.
    places: Option<Places>,
    /// Hints name it.
    home: Option<RelayId>,
    is_server_up: bool,
    stun: Vec<Endpoint>,
    stun_servers: Vec<SocketAddr>,
    resolving: Option<JoinHandle<Vec<SocketAddr>>>,
    /// By which it is learnt what NATs remember.
    trial: trial::Sockets,
    suspension: Suspension,
    counters: PathCounters,
    /// What the engine is to hear next.
    next: VecDeque<PathInput>,
}

impl Shell {
    /// Begins to watch the machine's networks, in the network namespace of this thread. Where that is not allowed, there
    /// are no addresses to tell, and paths are found by what others see.
    pub(crate) fn start(
        interface: &InterfaceName,
        credentials: Credentials,
        maps_ports: bool,
        birthdays: bool,
    ) -> Self {
        let (road, heard) = Road::new();
        let mark = credentials.mark;
        let (told, networks) = watch::channel(Network::default());
        let watching = match network::Watch::open(interface.clone()) {
            Ok(watch) => Some(tokio::spawn(async move {
                let error = watch.tell(told).await;
                tracing::debug!(%error, "the machine's networks are not watched any more");
            })),
            Err(error) => {
                tracing::info!(%error, "the machine's networks cannot be watched");
                None
            }
        };
        Self {
            road,
            heard,
            networks,
            network: Network::default(),
            watching,
            listen_port: 0,
            maps_ports,
            mapping: None,
            counting: Counting::new(),
            is_kernel: false,
            credentials,
            named: Vec::new(),
            needed: Vec::new(),
            places: None,
            home: None,
            is_server_up: false,
            stun: Vec::new(),
            stun_servers: Vec::new(),
            resolving: None,
            trial: trial::Sockets::new(mark),
            suspension: Suspension::new(),
            counters: PathCounters::default(),
            next: VecDeque::from([PathInput::Birthdays { on: birthdays }]),
        }
    }

    /// For the hands, which put the device there.
    pub(crate) fn road(&self) -> Road {
        self.road.clone()
    }

    /// For people.
    pub(crate) fn report(&self) -> PathsReport {
        PathsReport {
            stun_servers: self.stun_servers.clone(),
            mapped: self.mapping.as_ref().and_then(|mapping| *mapping.opened.borrow()),
            relays: self.relays(),
            counters: self.counters,
        }
    }

    /// Does what the engine wants.
    pub(crate) fn carry_out(&mut self, output: PathOutput) {
        match output {
            PathOutput::Probe { to, bytes } => {
                self.counters.probes_total += 1;
                self.road.probe(to, &bytes);
            }
            PathOutput::Try { quiet, to, bytes } => self.trial.send(quiet, to, &bytes),
            PathOutput::Relay { relay, to, bytes } => {
                self.counters.probes_total += 1;
                self.road.relays().inspect(|relays| relays.send(relay, to, &bytes));
            }
            PathOutput::Hint { to, sealed, over_relays: _ } => {
                self.road.relays().inspect(|relays| relays.send_everywhere(to, &sealed));
            }
            PathOutput::Steer { peer, way } => {
                tracing::debug!(%peer, %way, "path");
                self.counters.changes_total.count(way);
                self.road.steer(&peer, Some(way));
            }
            PathOutput::Race { peer, on } => {
                tracing::debug!(%peer, on, "relays are raced");
                self.road.race(&peer, on);
                if on {
                    self.places.iter_mut().for_each(Places::doubt);
                }
            }
            PathOutput::OpenSides { peer, first, count } => self.open_sides(&peer, first, count),
            PathOutput::CloseSides { peer, but } => self.close_sides(&peer, but),
            PathOutput::Peer { key, device } => self.road.know(key, device),
            PathOutput::StunAt(endpoints) => {
                if self.stun != endpoints {
                    self.stun = endpoints;
                    self.resolve();
                }
            }
            PathOutput::Places(named) => {
                self.places.iter_mut().for_each(|places| places.set(&named));
                self.named = named;
            }
            PathOutput::Need(relays) => {
                self.places.iter_mut().for_each(|places| places.need(relays.iter().copied()));
                self.needed = relays;
            }
            PathOutput::Pass { pass, anchor } => self.show(pass, anchor),
            PathOutput::Double { peer, over } => {
                tracing::debug!(%peer, on = over.is_some(), "packets go both ways");
                self.counters.doubts_total += u64::from(self.road.double(&peer, over));
            }
            PathOutput::Closely { peer, on } => self.counting.closely(peer, on),
            PathOutput::Watch { peer, on: true } => {
                self.counting.watch(peer, true);
                self.want_port();
            }
            PathOutput::Watch { peer, on: false } => {
                self.counting.watch(peer, false);
                self.road.steer(&peer, None);
            }
        }
    }

    /// Where they cannot be, the engine does without.
    fn open_sides(&mut self, peer: &PublicKey, first: SideId, count: u16) {
        let ids = (0..count).map(|number| SideId(first.0.wrapping_add(number.into())));
        match self.road.open_sides(peer, ids, self.credentials.mark) {
            Ok(()) => tracing::debug!(%peer, count, "side sockets"),
            Err(error) => {
                tracing::info!(%peer, count, %error, "side sockets cannot be opened");
                self.counters.birthdays_total.failed += 1;
                self.next.push_back(PathInput::SidesFailed(*peer));
            }
        }
    }

    fn close_sides(&mut self, peer: &PublicKey, but: Option<SideId>) {
        let before = self.road.close_sides(peer, but);
        tracing::debug!(%peer, before, is_met = but.is_some(), "side sockets are closed");
        self.counters.birthdays_total.met += u64::from(but.is_some());
        // A single one was met before, and is not needed any more.
        self.counters.birthdays_total.missed += u64::from(but.is_none() && before > 1);
    }

    /// The interface, when the host was looked at.
    pub(crate) fn observed(&mut self, interface: Option<&ObservedInterface>) {
        let port = interface.map_or(0, |interface| interface.listen_port);
        if std::mem::replace(&mut self.listen_port, port) != port {
            self.tell_addresses();
            self.want_port();
        }
        // It is looked at once a second, and a look costs with the number of its peers.
        let is_kernel = interface.is_some() && self.road.device(|_| ()).is_none();
        if std::mem::replace(&mut self.is_kernel, is_kernel) != is_kernel {
            self.next.push_back(PathInput::Counts { closely: !is_kernel });
        }
    }

    /// Has the router asked for a port, once somebody is talked to: a device that is idle asks nobody for anything.
    fn want_port(&mut self) {
        let exit = self.network.exits[0].as_ref();
        let wish = mapping::Wish::new(
            exit.and_then(|exit| exit.router),
            exit.and_then(|exit| exit.own),
            self.listen_port,
        );
        let wish = wish.filter(|_| self.maps_ports && (self.mapping.is_some() || !self.counting.is_empty()));
        if self.mapping.as_ref().map(|mapping| mapping.wish) != wish {
            self.mapping = wish.map(Mapping::begin);
            self.next.push_back(PathInput::Mapped(None));
        }
    }

    /// The next thing that the engine must hear of paths. Cancel-safe.
    pub(crate) async fn next(&mut self) -> PathInput {
        if self.suspension.was() {
            self.moved();
        }
        loop {
            if let Some(input) = self.next.pop_front() {
                return input;
            }
            tokio::select! {
                Some(input) = self.heard.recv() => return match input {
                    PathInput::Relays(relays) => self.connected(relays),
                    other => other,
                },
                input = self.trial.hear() => return input,
                () = reach(&mut self.places) => if let Some(input) = self.measured() { return input },
                Ok(()) = self.networks.changed() => self.another_network(),
                servers = finished(&mut self.resolving) => {
                    self.resolving = None;
                    self.stun_servers.clone_from(&servers);
                    return PathInput::StunServers(servers);
                }
                address = mapped(&mut self.mapping) => return PathInput::Mapped(address),
                peers = self.counting.due() => self.count(&peers),
            }
        }
    }

    /// The link to the server carries datagrams of the tenant's devices from now on.
    pub(crate) fn server_up(&mut self, datagrams: Option<Datagrams>) {
        self.set_server_up(true);
        if let (Some(relays), Some(datagrams)) = (self.road.relays(), datagrams) {
            relays.connected(RelayId::SERVER, datagrams);
        }
    }

    /// There is no link to the server, so that all relays are needed.
    pub(crate) fn server_down(&mut self) {
        self.set_server_up(false);
    }

    fn set_server_up(&mut self, up: bool) {
        if std::mem::replace(&mut self.is_server_up, up) != up {
            self.places.iter_mut().for_each(|places| places.set_server_up(up));
        }
    }

    fn show(&mut self, pass: Signed<RelayPass>, anchor: AnchorKey) {
        let Some(relays) = self.road.relays() else { return };
        let places = self.places.get_or_insert_with(|| {
            let Credentials { identity, instance, software, mark } = &self.credentials;
            let (identity, software) = (identity.clone(), software.clone());
            let bearer = Bearer { identity, anchor, instance: *instance, software, mark: *mark };
            let mut places = Places::new(relays.clone(), bearer);
            places.set_server_up(self.is_server_up);
            places.set(&self.named);
            places.need(self.needed.iter().copied());
            places
        });
        places.set_pass(pass);
    }

    fn another_network(&mut self) {
        let network = self.networks.borrow_and_update().clone();
        let before = std::mem::replace(&mut self.network, network);
        tracing::debug!(addresses = ?self.network.addresses, "where this machine is");
        self.tell_addresses();
        if before != Network::default() && self.network.is_elsewhere_than(&before) {
            self.moved();
        }
    }

    fn tell_addresses(&mut self) {
        let port = self.listen_port;
        let addresses = self.network.addresses.iter().filter(|_| port != 0);
        let addresses = addresses.map(|ip| SocketAddr::new(*ip, port)).collect();
        self.next.push_back(PathInput::Interfaces(addresses));
    }

    /// The machine is elsewhere, or slept: names may mean other addresses, too.
    fn moved(&mut self) {
        self.next.push_back(PathInput::Moved);
        self.road.moved();
        self.trial.close();
        self.want_port();
        let mapped = self.mapping.as_ref().and_then(|mapping| *mapping.opened.borrow());
        self.next.push_back(PathInput::Mapped(mapped));
        self.places.iter_mut().for_each(Places::moved);
        self.resolve();
    }

    fn count(&mut self, peers: &[PublicKey]) {
        for peer in peers {
            if let Some((sent, received)) = self.road.counted(peer) {
                self.next.push_back(PathInput::Counted { peer: *peer, sent, received });
            }
        }
    }

    fn resolve(&mut self) {
        if let Some(before) = self.resolving.take() {
            before.abort();
        }
        let endpoints = self.stun.clone();
        self.resolving = match endpoints.is_empty() {
            true => None,
            false => Some(tokio::spawn(async move {
                loop {
                    let servers = resolve(&endpoints).await;
                    if !servers.is_empty() {
                        return servers;
                    }
                    sleep(RESOLVE_RETRY).await;
                }
            })),
        };
    }
}

/// A port of the router that is kept open.
struct Mapping {
    wish: mapping::Wish,
    opened: watch::Receiver<Option<SocketAddr>>,
}

impl Mapping {
    /// Ends when it is dropped.
    fn begin(wish: mapping::Wish) -> Self {
        let (told, opened) = watch::channel(None);
        tokio::spawn(mapping::keep(wish, told));
        Self { wish, opened }
    }
}

/// The next that the router says.
async fn mapped(mapping: &mut Option<Mapping>) -> Option<SocketAddr> {
    if let Some(mapping) = mapping
        && mapping.opened.changed().await.is_ok()
    {
        return *mapping.opened.borrow_and_update();
    }
    std::future::pending().await
}

/// What the engine must hear of paths, of which a hub has none. Cancel-safe.
pub(crate) async fn next(shell: &mut Option<Box<Shell>>) -> PathInput {
    match shell {
        Some(shell) => shell.next().await,
        None => std::future::pending().await,
    }
}

impl Drop for Shell {
    fn drop(&mut self) {
        self.watching.iter().for_each(JoinHandle::abort);
        self.resolving.iter().for_each(JoinHandle::abort);
    }
}

/// The addresses of servers, one family after the other for each.
async fn resolve(endpoints: &[Endpoint]) -> Vec<SocketAddr> {
    // Two ports of one machine have one name, which is looked up once.
    let mut names: BTreeMap<String, Vec<IpAddr>> = BTreeMap::new();
    let mut servers = Vec::new();
    for endpoint in endpoints.iter().take(STUN_SERVERS_MAX) {
        let addresses = match &endpoint.host {
            EndpointHost::Address(address) => vec![*address],
            EndpointHost::Name(name) => {
                let name = name.to_string();
                if !names.contains_key(&name) {
                    names.insert(name.clone(), lookup(&name).await);
                }
                names[&name].clone()
            }
        };
        servers.extend(addresses.into_iter().map(|address| SocketAddr::new(address, endpoint.port)));
    }
    servers.truncate(STUN_SERVERS_MAX);
    servers
}

/// One address of each family at most: a server has its state in no other.
async fn lookup(name: &str) -> Vec<IpAddr> {
    let found = timeout(RESOLVE_TIME_MAX, tokio::net::lookup_host((name, 0))).await;
    let found: Vec<IpAddr> = match found {
        Ok(Ok(found)) => found.map(|address| address.ip()).collect(),
        Ok(Err(error)) => {
            tracing::debug!(name, %error, "where STUN is answered cannot be found out");
            Vec::new()
        }
        Err(_) => Vec::new(),
    };
    let first = |v4: bool| found.iter().copied().find(|address| address.is_ipv4() == v4);
    first(true).into_iter().chain(first(false)).collect()
}

/// Waits for news of relays on other machines, which there may be none of.
async fn reach(places: &mut Option<Places>) {
    match places {
        Some(places) => places.run().await,
        None => std::future::pending().await,
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// The result of a task that may not be there; then it never comes.
async fn finished(task: &mut Option<JoinHandle<Vec<SocketAddr>>>) -> Vec<SocketAddr> {
    match task {
        Some(task) => task.await.unwrap_or_default(),
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests;
