//! What this host is like for a node, and one change to it at a time. Decides nothing; every call blocks for as
//! long as the kernel takes, so it lives on a thread of its own.

mod error;
mod left;

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;
use std::path::PathBuf;
use std::time::{Instant, SystemTime};

use engine::{Change, Observed, ObservedInterface, PeerSetting, ResolverSetting};
use ipnet::IpNet;
use model::{PrivateKey, PublicKey};
use nix::errno::Errno;

use crate::chain::chain;
use crate::endpoints::Endpoints;
use crate::firewall::{Firewall, Pair, Table};
use crate::forwarding;
use crate::guests;
use crate::interface::InterfaceName;
use crate::links::{Kind, Link, Links, MARK};
use crate::netlink::NetlinkError;
use crate::paths::Road;
use crate::pointed::{Pointed, Pointing};
use crate::resolver::{Owner, Resolver, ResolverConfig, Trouble};
use crate::wireguard::kernel::Kernel;
use crate::wireguard::userspace::Userspace;
use crate::wireguard::{Backend, Crypto, DeviceState, Mode, PeerState, Tuning, Wireguard, WireguardError};

pub use self::error::HostError;

/// What a host is told once.
#[derive(Debug, Clone)]
pub struct HostConfig {
    /// The WireGuard interface.
    pub interface: InterfaceName,
    /// The node's WireGuard key.
    pub key: PrivateKey,
    /// Which engine.
    pub mode: Mode,
    /// A hub forwards between devices and has a firewall table; a device has neither.
    pub forwards: bool,
    /// Who is told of the mesh's names.
    pub resolver: ResolverConfig,
    /// Where the original of the resolver's file is kept, and a hub's file of endpoints.
    pub state: PathBuf,
    /// Where `wg` finds the socket of the userspace engine; `None`: nowhere.
    pub uapi_directory: Option<PathBuf>,
    /// What the mesh's packets go to instead of an interface of this machine. Nothing of the machine is changed then,
    /// and no privilege is needed; the mode and the resolver do not count.
    pub stack: Option<stack::Stack>,
    /// How the userspace engine works.
    pub tuning: Tuning,
}

impl HostConfig {
    /// What the underlay's own sockets carry (`SO_MARK`, socket(7)), so that nothing leads them into the tunnel. `None`
    /// where no route of the machine does.
    pub fn mark(&self) -> Option<u32> {
        self.stack.is_none().then_some(MARK)
    }

    /// Where the endpoints of a hub's interface beside the shared one are remembered.
    pub(crate) fn endpoints_beside(&self, port: u16) -> PathBuf {
        self.state.join(format!("endpoints-{port}"))
    }
}

/// What is in use, for status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostReport {
    /// The engine in use.
    pub backend: Backend,
    /// What seals packets, if the engine is our own.
    pub crypto: Option<Crypto>,
    /// Why it is not the kernel's, where that was preferred.
    pub fallback: Option<String>,
    /// Why packets of each peer cannot be sent their own way, if so: then the hub carries them.
    pub unsteered: Option<String>,
    /// Who resolves names on this machine.
    pub resolver: Owner,
    /// Why it could not be told of the mesh's the last time.
    pub resolver_trouble: Option<Trouble>,
    /// Networks of containers and virtual machines here, which resolve names as this machine does. None on a hub.
    pub guests: BTreeSet<IpNet>,
}

impl HostReport {
    /// The engine for people: `kernel`, or `userspace, avx512` and why it is not the kernel's.
    pub fn engine(&self) -> String {
        let mut text = self.backend.to_string();
        if let Some(crypto) = self.crypto {
            text.push_str(&format!(", {crypto}"));
        }
        if let Some(reason) = &self.fallback {
            text.push_str(&format!(": {reason}"));
        }
        text
    }

    /// Whether packets of each peer can be sent their own way.
    pub const fn steers(&self) -> bool {
        self.unsteered.is_none()
    }
}

/// The hands of one node.
pub struct Host {
    config: HostConfig,
    links: Links,
    firewall: Option<Firewall>,
    resolver: Resolver,
    guests: BTreeSet<IpNet>,
    engine: Box<dyn Wireguard>,
    road: Road,
    fallback: Option<String>,
    /// Why the resolver could not be read the last time.
    resolver_problem: Option<String>,
    endpoints: Endpoints,
    pointed: Pointed,
}

impl Host {
    /// Opens what is needed in the network namespace of this thread. Changes nothing but the rules that a killed process
    /// left without an interface. Not for an asynchronous task:
    /// this and every other call blocks, and panics there.
    pub fn open(config: HostConfig) -> Result<Self, HostError> {
        Self::on(config, Road::idle())
    }

    /// As [`Self::open`], with the road on which our own engine's device is put.
    pub(crate) fn on(config: HostConfig, road: Road) -> Result<Self, HostError> {
        let endpoints = config.state.join("endpoints");
        Self::with(config, road, endpoints)
    }

    /// As [`Self::open`], for a hub's interface beside the one that tenants share.
    pub(crate) fn beside(config: HostConfig, port: u16) -> Result<Self, HostError> {
        let endpoints = config.endpoints_beside(port);
        let interface = config.interface.beside(port);
        Self::with(HostConfig { interface, ..config }, Road::idle(), endpoints)
    }

    fn with(config: HostConfig, road: Road, endpoints: PathBuf) -> Result<Self, HostError> {
        let links = Links::open().map_err(HostError::Netlink)?;
        links.clear_rules(None).map_err(HostError::Rules)?;
        let firewall = config.forwards.then(|| Firewall::open(&config.interface)).transpose();
        let resolver = Resolver::new(&config.resolver, &config.interface, &config.state);
        let (engine, fallback) = choose(&config, &road)?;
        if engine.backend() == Backend::Kernel {
            road.look_ahead();
        }
        // A device is told where its peers are; a hub only ever hears it from them.
        let endpoints = Endpoints::open(config.forwards.then_some(endpoints));
        let (pointed, resolver_problem, guests) = (Pointed::default(), None, BTreeSet::new());
        Ok(Self {
            config,
            links,
            firewall: firewall.map_err(HostError::Netlink)?,
            resolver,
            guests,
            engine,
            road,
            fallback,
            resolver_problem,
            endpoints,
            pointed,
        })
    }

    /// What is in use.
    pub fn report(&self) -> HostReport {
        HostReport {
            backend: self.engine.backend(),
            crypto: (self.engine.backend() != Backend::Kernel).then_some(self.config.tuning.crypto),
            fallback: self.fallback.clone(),
            unsteered: self.road.obstacle().filter(|_| self.engine.backend() == Backend::Kernel),
            resolver: self.resolver.owner(),
            resolver_trouble: self.resolver.trouble(),
            guests: self.guests.clone(),
        }
    }

    /// All that concerns the node, or an error; never a part of it. A resolver that cannot be read is one that is
    /// not set: the tunnel does not wait for it.
    pub fn observe(&mut self) -> Result<Observed, HostError> {
        let interface = self.observe_own()?;
        let left = if interface.is_none() { self.observe_left()? } else { None };
        let (table, forwarding) = match &mut self.firewall {
            None => (None, false),
            Some(firewall) => {
                let table = supported(firewall.read())
                    .map_err(|e| HostError::Firewall(self.config.interface.clone(), e))?;
                (table, forwarding::read(&self.config.interface)?)
            }
        };
        let spoiled = matches!(table, Some(Table::Spoiled));
        let firewall = if let Some(Table::Allows(pairs)) = table { Some(to_blocks(pairs)) } else { None };
        if !self.config.forwards {
            // A kernel that does not say has no guests that matter: what the node is to do is known.
            self.guests = guests::networks(&self.links).unwrap_or_default();
        }
        Ok(Observed { interface, left, firewall, spoiled, forwarding, resolver: self.observe_resolver() })
    }

    /// Makes one change; one that is made already is fine.
    pub fn apply(&mut self, change: &Change) -> Result<(), HostError> {
        let interface = self.config.interface.clone();
        let wireguard = |e| HostError::Wireguard(interface.clone(), e);
        let link_error = |what| {
            let interface = interface.clone();
            move |source| HostError::Interface { what, interface, source }
        };
        match change {
            Change::CreateInterface => self.create(),
            Change::RemoveInterface => {
                self.pointed.forget_all();
                self.endpoints.forget_all();
                self.engine.remove().map_err(wireguard)?;
                self.remove_left()?;
                self.links.clear_rules(None).map_err(HostError::Rules)
            }
            Change::SetDevice { listen_port } => {
                self.engine.set_device(&self.config.key, *listen_port).map_err(wireguard)
            }
            Change::SetMtu(mtu) => {
                let index = self.index()?;
                self.links.set_mtu(index, *mtu).map_err(link_error("mtu"))
            }
            Change::SetUp => {
                let index = self.index()?;
                match self.links.set_up(index) {
                    // The kernel's WireGuard takes its port when the interface comes up.
                    Err(error) if error.errno() == Some(Errno::EADDRINUSE as i32) => {
                        let port = self.read_engine()?.map_or(0, |state| state.listen_port);
                        Err(wireguard(WireguardError::PortTaken { port }))
                    }
                    done => done.map_err(link_error("state")),
                }
            }
            Change::AddAddress(net) => self.net("address", *net, Links::add_address),
            Change::RemoveAddress(net) => self.net("address", *net, Links::remove_address),
            Change::AddRoute(net) => self.net("route", *net, Links::add_route),
            Change::RemoveStray(net) => self.net("route", *net, Links::remove_stray),
            Change::RemoveRoute(net) => self.net("route", *net, Links::remove_route),
            Change::SetPeer(peer) => self.set_peer(peer).map_err(wireguard),
            Change::RemovePeer(key) => {
                self.pointed.forget(key);
                self.endpoints.forget(key);
                self.engine.remove_peer(key).map_err(wireguard)
            }
            Change::SetFirewall(firewall) => self.set_firewall(&firewall.blocks),
            Change::RemoveFirewall => match &mut self.firewall {
                Some(firewall) => firewall.remove().map_err(|e| HostError::Firewall(interface, e)),
                None => Ok(()),
            },
            Change::SetForwarding(on) => Ok(forwarding::set(&interface, *on)?),
            Change::SetResolver(setting) => Ok(self.resolver.set(setting)?),
            Change::ClearResolver => Ok(self.resolver.clear()?),
        }
    }

    fn net(
        &mut self,
        what: &'static str,
        net: IpNet,
        act: impl FnOnce(&Links, u32, IpNet) -> Result<(), NetlinkError>,
    ) -> Result<(), HostError> {
        let (index, interface) = (self.index()?, self.config.interface.clone());
        act(&self.links, index, net).map_err(|source| HostError::Net { what, net, interface, source })
    }

    /// The peers with what is volatile, for people and metrics.
    pub fn peers(&mut self) -> Result<BTreeMap<PublicKey, PeerState>, HostError> {
        Ok(self.read_engine()?.map(|state| state.peers).unwrap_or_default())
    }

    /// Names are answered at these addresses now: the machine's resolver is told of no others. Until the first call
    /// whoever applies a setting vouches for all of its servers.
    pub fn serve(&mut self, served: BTreeSet<IpAddr>) -> Result<(), HostError> {
        Ok(self.resolver.serve(served)?)
    }

    /// A number that differs when somebody changed what gives no event: peers, forwarding, the resolver. Says
    /// nothing of what it was, and is no more than a reason to observe.
    pub fn glance(&mut self) -> u64 {
        let mut hasher = DefaultHasher::new();
        if let Ok(Some(state)) = self.read_engine() {
            state.public_key.hash(&mut hasher);
            (state.listen_port, state.mark).hash(&mut hasher);
            for (key, peer) in &state.peers {
                (key, &peer.allowed, peer.keepalive_seconds, peer.endpoint.is_some()).hash(&mut hasher);
            }
        }
        self.endpoints.save_if_due(Instant::now());
        self.road.obstacle().hash(&mut hasher);
        if self.firewall.is_some() {
            forwarding::read(&self.config.interface).ok().hash(&mut hasher);
        }
        let index = self.links.find(&self.config.interface).ok().flatten().map(|link| link.index);
        self.resolver.glance(index, &mut hasher);
        hasher.finish()
    }

    /// What stays when the process ends: the kernel's WireGuard, its routes and firewall; the resolver is put back,
    /// since nobody answers on our addresses any more.
    pub fn leave(&mut self) -> Result<(), HostError> {
        if self.read_engine().is_ok() {
            self.endpoints.save(Instant::now());
        }
        self.resolver.clear()?;
        if self.engine.backend() == Backend::Userspace {
            let own = self.find()?.map(|link| link.index);
            self.links.clear_rules(own).map_err(HostError::Rules)?;
        }
        Ok(())
    }

    fn create(&mut self) -> Result<(), HostError> {
        let interface = self.config.interface.clone();
        self.remove_left()?;
        if let Some(link) = self.find()? {
            self.refuse_foreign(&link)?;
        }
        match self.engine.create() {
            Err(error @ WireguardError::NoKernelSupport) if self.config.mode == Mode::Auto => {
                self.fallback = Some(error.to_string());
                self.engine = userspace(&self.config, &self.road);
                self.engine.create().map_err(|e| HostError::Wireguard(interface.clone(), e))?;
            }
            other => other.map_err(|e| HostError::Wireguard(interface.clone(), e))?,
        }
        let index = self.index()?;
        self.links.set_alias(index).map_err(|source| self.interface_error("alias", source))?;
        // Machines with IPv6 off by default still have a mesh; where it cannot be switched on, adding the
        // address says so.
        let switch = format!("/proc/sys/net/ipv6/conf/{interface}/disable_ipv6");
        if std::fs::read(&switch).is_ok_and(|text| text.first() == Some(&b'1')) {
            let _ = std::fs::write(&switch, "0");
        }
        Ok(())
    }

    /// A peer that the engine lost is set with the endpoint that it had. One that is elsewhere may have lost its session there: a
    /// hub's other interface knows none, and would be silent for a quarter of a minute.
    fn set_peer(&mut self, peer: &PeerSetting) -> Result<(), WireguardError> {
        if let Some(endpoint) = peer.endpoint {
            return match self.pointed.set(peer.key, endpoint) {
                Pointing::Elsewhere => self.engine.renew_peer(peer),
                Pointing::AsBefore => self.engine.set_peer(peer),
            };
        }
        match self.endpoints.take(&peer.key, SystemTime::now()) {
            None => self.engine.set_peer(peer),
            lost => self.engine.resume_peer(&PeerSetting { endpoint: lost, ..peer.clone() }),
        }
    }

    fn set_firewall(&mut self, blocks: &BTreeSet<[IpNet; 2]>) -> Result<(), HostError> {
        let pairs = blocks.iter().map(|pair| match pair {
            [IpNet::V4(v4), IpNet::V6(v6)] | [IpNet::V6(v6), IpNet::V4(v4)] => Ok((*v4, *v6)),
            [a, b] => Err(HostError::Blocks(*a, *b)),
        });
        let pairs = pairs.collect::<Result<BTreeSet<Pair>, _>>()?;
        let Some(firewall) = &mut self.firewall else { return Ok(()) };
        firewall.set(&pairs).map_err(|e| HostError::Firewall(self.config.interface.clone(), e))
    }

    fn interface_error(&self, what: &'static str, source: NetlinkError) -> HostError {
        HostError::Interface { what, interface: self.config.interface.clone(), source }
    }

    fn find(&mut self) -> Result<Option<Link>, HostError> {
        let found = self.links.find(&self.config.interface);
        found.map_err(|source| self.interface_error("state", source))
    }

    fn index(&mut self) -> Result<u32, HostError> {
        let link = self.find()?;
        link.map(|link| link.index).ok_or_else(|| HostError::Missing(self.config.interface.clone()))
    }

    /// Without support in the kernel there is no interface of the kernel's. What is read is remembered.
    fn read_engine(&mut self) -> Result<Option<DeviceState>, HostError> {
        let state = self.engine.read().or_else(|error| match error {
            WireguardError::NoKernelSupport => Ok(None),
            other => Err(HostError::Wireguard(self.config.interface.clone(), other)),
        })?;
        let none = BTreeMap::new();
        self.endpoints.note(state.as_ref().map_or(&none, |state| &state.peers), SystemTime::now());
        Ok(state)
    }

    /// Our interface and its engine's state, if there is one and it is ours.
    fn own_link(&mut self) -> Result<Option<(Link, DeviceState)>, HostError> {
        let state = self.read_engine()?;
        match (self.find()?, state) {
            (Some(link), Some(state)) => {
                if state.public_key != Some(self.config.key.public()) {
                    self.refuse_foreign(&link)?;
                }
                Ok(Some((link, state)))
            }
            _ => Ok(None),
        }
    }

    /// An interface that Warren made carries its alias; one without is an administrator's and not touched.
    fn refuse_foreign(&self, link: &Link) -> Result<(), HostError> {
        let what = match (&link.kind, self.engine.backend()) {
            (Kind::Wireguard, Backend::Kernel) | (Kind::Tun, Backend::Userspace)
                if link.alias.as_deref() == Some(crate::links::ALIAS) =>
            {
                return Ok(());
            }
            (Kind::Wireguard, _) => "a WireGuard interface that somebody else made".to_owned(),
            (Kind::Tun, _) => "a TUN device of another program".to_owned(),
            (Kind::Other(kind), _) => format!("a {kind}"),
        };
        Err(HostError::Occupied { interface: self.config.interface.clone(), what })
    }

    fn observe_own(&mut self) -> Result<Option<ObservedInterface>, HostError> {
        let Some((link, state)) = self.own_link()? else { return Ok(None) };
        match self.observe_interface(&link, state) {
            // It went while it was looked at.
            Err(_) if self.own_link()?.is_none() => Ok(None),
            observed => observed.map(Some),
        }
    }

    fn observe_interface(&mut self, link: &Link, state: DeviceState) -> Result<ObservedInterface, HostError> {
        let addresses = self.links.addresses(link.index).map_err(|s| self.interface_error("addresses", s))?;
        let routes = self.links.routes(link.index).map_err(|s| self.interface_error("routes", s))?;
        let strays = self.links.main_routes(link.index).map_err(|s| self.interface_error("routes", s))?;
        let peers = self.pointed.observe(state.peers);
        Ok(ObservedInterface {
            up: link.up,
            mtu: u16::try_from(link.mtu).unwrap_or(u16::MAX),
            // One whose packets could be led back into it is to be set anew.
            public_key: state.public_key.filter(|_| state.mark == MARK),
            listen_port: state.listen_port,
            peers,
            addresses,
            routes,
            strays,
        })
    }

    /// Logs once per change of reason.
    fn observe_resolver(&mut self) -> Option<ResolverSetting> {
        let (setting, problem) = match self.resolver.read() {
            Ok(setting) => (setting, None),
            Err(error) => (None, Some(chain(&error))),
        };
        if let Some(reason) = problem.as_ref().filter(|_| problem != self.resolver_problem) {
            tracing::warn!(code = "resolver-unreadable", reason, "the machine's resolver cannot be read");
        }
        self.resolver_problem = problem;
        setting
    }
}

fn choose(config: &HostConfig, road: &Road) -> Result<(Box<dyn Wireguard>, Option<String>), HostError> {
    if config.mode == Mode::Userspace {
        return Ok((userspace(config, road), None));
    }
    let kernel = match config.mode {
        Mode::Auto => Kernel::probe().and_then(|()| Kernel::open(&config.interface, road.clone())),
        _ => Kernel::open(&config.interface, road.clone()),
    };
    match kernel {
        Ok(kernel) => Ok((Box::new(kernel), None)),
        Err(error) if config.mode == Mode::Auto => Ok((userspace(config, road), Some(chain(&error)))),
        Err(error) => Err(HostError::Wireguard(config.interface.clone(), error)),
    }
}

fn userspace(config: &HostConfig, road: &Road) -> Box<dyn Wireguard> {
    let uapi_directory = config.uapi_directory.clone();
    Box::new(Userspace::new(&config.interface, uapi_directory, None, config.tuning, road.clone()))
}

/// A kernel without nf_tables has no table, which the change that sets one then says.
pub(crate) fn supported<T>(result: Result<Option<T>, NetlinkError>) -> Result<Option<T>, NetlinkError> {
    let absent = [Errno::EINVAL, Errno::EOPNOTSUPP, Errno::EPROTONOSUPPORT, Errno::EAFNOSUPPORT];
    match result {
        Err(error) if absent.iter().any(|errno| error.errno() == Some(*errno as i32)) => Ok(None),
        other => other,
    }
}

fn to_blocks(pairs: BTreeSet<Pair>) -> engine::Firewall {
    engine::Firewall { blocks: pairs.into_iter().map(|(v4, v6)| [IpNet::V4(v4), IpNet::V6(v6)]).collect() }
}
