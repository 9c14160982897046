//! The stack's state: the interface of smoltcp, its sockets, and whose they are. Does no waiting and no IO but on the
//! wire that it is given; everything is done under one lock that is never held over a wait.

use std::collections::BTreeSet;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::OwnedFd;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ipnet::IpNet;
use smoltcp::iface::{Config, Interface, PollResult, SocketHandle, SocketSet};
use smoltcp::socket::{Socket, icmp, tcp, udp};
use smoltcp::wire::{
    HardwareAddress, IpAddress, IpCidr, IpEndpoint, IpListenEndpoint, Ipv4Address, Ipv6Address,
};
use tokio::net::UnixDatagram;
use tokio::sync::{Notify, mpsc};

use crate::limits::{
    BATCH_MAX, BUFFER_BYTES, FLOWS_MAX, KEEPALIVE_INTERVAL, KNOCKS_MAX, LINGER_MAX, PORTS, QUESTIONS_MAX,
    SILENCE_MAX,
};
use crate::packet::{Arrival, first_segment};
use crate::wire::{Outcome, Wire};

/// What streams, sockets and the driver hold together.
pub(crate) struct Shared {
    core: Mutex<Core>,
    /// Tells the driver that there is something to do.
    pub(crate) stirred: Notify,
}

impl Shared {
    pub(crate) fn new(arrivals: mpsc::Sender<Arrival>) -> Self {
        Self { core: Mutex::new(Core::new(arrivals)), stirred: Notify::new() }
    }

    /// A panic in smoltcp poisons one packet, not the stack.
    pub(crate) fn lock(&self) -> MutexGuard<'_, Core> {
        self.core.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a turn of the driver left.
pub(crate) struct Turn {
    /// More can be done at once.
    pub(crate) busy: bool,
    /// The descriptor takes no more for now.
    pub(crate) blocked: bool,
    /// The other end of the descriptor is closed.
    pub(crate) gone: bool,
    /// When to take another turn, whatever happens.
    pub(crate) due: Option<Instant>,
}

pub(crate) struct Core {
    began: Instant,
    wire: Wire,
    interface: Interface,
    pub(crate) sockets: SocketSet<'static>,
    addresses: Vec<IpAddr>,
    flows: usize,
    questions: usize,
    /// Connections that nobody holds any more, with the time at which they are ended.
    orphans: Vec<(SocketHandle, Instant)>,
    knocking: BTreeSet<Arrival>,
    arrivals: mpsc::Sender<Arrival>,
    withheld: Vec<(Arrival, Vec<u8>)>,
    next_port: u16,
    /// A descriptor that the driver is to take, or that it is to let go of the one it has.
    pub(crate) exchange: Option<Option<OwnedFd>>,
}

impl Core {
    fn new(arrivals: mpsc::Sender<Arrival>) -> Self {
        let mut wire = Wire::new();
        let interface = interface(&mut wire, &[]);
        Self {
            began: Instant::now(),
            wire,
            interface,
            sockets: SocketSet::new(Vec::new()),
            addresses: Vec::new(),
            flows: 0,
            questions: 0,
            orphans: Vec::new(),
            knocking: BTreeSet::new(),
            arrivals,
            withheld: Vec::new(),
            next_port: u16::try_from(random()).unwrap_or_default().max(*PORTS.start()),
            exchange: None,
        }
    }

    /// Packets go to and come from this descriptor from now on. Every connection over another one ends.
    pub(crate) fn attach(&mut self, fd: OwnedFd) {
        self.detach();
        self.wire.connect();
        self.exchange = Some(Some(fd));
    }

    /// There is no descriptor any more. Every connection ends.
    pub(crate) fn detach(&mut self) {
        for (_, socket) in self.sockets.iter_mut() {
            if let Socket::Tcp(socket) = socket {
                socket.abort();
            }
        }
        self.knocking.clear();
        self.withheld.clear();
        self.wire.disconnect();
        self.exchange = Some(None);
    }

    /// Nobody holds the stack any more: no connection arrives again.
    pub(crate) fn end(&mut self) {
        self.detach();
        let (closed, _) = mpsc::channel(1);
        self.arrivals = closed;
    }

    pub(crate) fn set_mtu(&mut self, mtu: u16) {
        self.wire.set_mtu(mtu);
        self.interface = interface(&mut self.wire, &self.addresses);
    }

    /// Connections from an address that is gone end.
    pub(crate) fn set_addresses(&mut self, nets: &[IpNet]) {
        self.addresses = nets.iter().map(IpNet::addr).collect();
        self.interface = interface(&mut self.wire, &self.addresses);
    }

    pub(crate) fn addresses(&self) -> &[IpAddr] {
        &self.addresses
    }

    /// Our address that a peer is spoken to from.
    ///
    /// # Errors
    /// There is no descriptor, or no address of that family, or the peer is this stack itself.
    pub(crate) fn source_for(&self, to: IpAddr) -> io::Result<IpAddr> {
        let unreachable = |what| io::Error::new(io::ErrorKind::NetworkUnreachable, what);
        if !self.wire.is_connected() {
            return Err(unreachable("the mesh's interface is down"));
        }
        if to.is_unspecified() || to.is_multicast() || self.addresses.contains(&to) {
            return Err(unreachable("no address of another device"));
        }
        let source = self.addresses.iter().find(|own| own.is_ipv4() == to.is_ipv4());
        source.copied().ok_or_else(|| unreachable("there is no address of this family"))
    }

    pub(crate) fn tcp(&mut self, handle: SocketHandle) -> &mut tcp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    pub(crate) fn udp(&mut self, handle: SocketHandle) -> &mut udp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    pub(crate) fn icmp(&mut self, handle: SocketHandle) -> &mut icmp::Socket<'static> {
        self.sockets.get_mut(handle)
    }

    /// Sends the first segment of a connection.
    pub(crate) fn connect(&mut self, to: SocketAddr) -> io::Result<SocketHandle> {
        let from = self.source_for(to.ip())?;
        let handle = self.add_flow()?;
        let port = self.port();
        let socket = self.sockets.get_mut::<tcp::Socket<'_>>(handle);
        let local = IpListenEndpoint { addr: Some(from.into()), port };
        if let Err(error) = socket.connect(self.interface.context(), IpEndpoint::from(to), local) {
            self.remove_flow(handle);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, error.to_string()));
        }
        Ok(handle)
    }

    /// Lets a first segment in to a socket that waits for it alone.
    pub(crate) fn admit(&mut self, arrival: Arrival) -> io::Result<SocketHandle> {
        let packet = self.take_withheld(arrival).ok_or(io::ErrorKind::ConnectionAborted)?;
        let handle = self.add_flow()?;
        let to = IpListenEndpoint { addr: Some(arrival.to.ip().into()), port: arrival.to.port() };
        let listens = self.tcp(handle).listen(to).is_ok();
        self.wire.release(packet);
        let now = self.now();
        self.interface.poll_ingress_single(now, &mut self.wire, &mut self.sockets);
        if listens && self.tcp(handle).state() == tcp::State::SynReceived {
            return Ok(handle);
        }
        self.tcp(handle).abort();
        self.remove_flow(handle);
        Err(io::ErrorKind::ConnectionAborted.into())
    }

    /// Lets a first segment in where nobody listens, so that a reset answers it.
    pub(crate) fn turn_away(&mut self, arrival: Arrival) {
        if let Some(packet) = self.take_withheld(arrival) {
            self.wire.release(packet);
        }
    }

    fn take_withheld(&mut self, arrival: Arrival) -> Option<Vec<u8>> {
        self.knocking.remove(&arrival);
        let at = self.withheld.iter().position(|(other, _)| *other == arrival)?;
        Some(self.withheld.swap_remove(at).1)
    }

    /// Ends a connection in order where that is possible; nobody holds it any more.
    pub(crate) fn orphan(&mut self, handle: SocketHandle) {
        let socket = self.tcp(handle);
        if socket.can_recv() {
            // Bytes that nobody will read: their sender must hear of it (RFC 9293, 3.6.1).
            socket.abort();
        } else {
            socket.close();
        }
        self.orphans.push((handle, Instant::now() + LINGER_MAX));
    }

    pub(crate) fn add_udp(&mut self, socket: udp::Socket<'static>) -> io::Result<SocketHandle> {
        self.add_question(|sockets| sockets.add(socket))
    }

    pub(crate) fn add_icmp(&mut self, socket: icmp::Socket<'static>) -> io::Result<SocketHandle> {
        self.add_question(|sockets| sockets.add(socket))
    }

    fn add_question(
        &mut self,
        add: impl FnOnce(&mut SocketSet<'static>) -> SocketHandle,
    ) -> io::Result<SocketHandle> {
        if self.questions >= QUESTIONS_MAX {
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "too many questions at once"));
        }
        self.questions += 1;
        Ok(add(&mut self.sockets))
    }

    pub(crate) fn remove_question(&mut self, handle: SocketHandle) {
        self.questions -= 1;
        self.sockets.remove(handle);
    }

    /// A port of the dynamic range that no socket has.
    pub(crate) fn port(&mut self) -> u16 {
        let taken: BTreeSet<u16> = self.sockets.iter().filter_map(|(_, socket)| local_port(socket)).collect();
        loop {
            let port = self.next_port;
            self.next_port = if port == *PORTS.end() { *PORTS.start() } else { port + 1 };
            // Fewer sockets than ports: one is free.
            if !taken.contains(&port) {
                return port;
            }
        }
    }

    fn add_flow(&mut self) -> io::Result<SocketHandle> {
        if self.flows >= FLOWS_MAX {
            self.reclaim();
        }
        if self.flows >= FLOWS_MAX {
            return Err(io::Error::new(io::ErrorKind::QuotaExceeded, "too many connections"));
        }
        let buffer = || tcp::SocketBuffer::new(vec![0; BUFFER_BYTES]);
        let mut socket = tcp::Socket::new(buffer(), buffer());
        socket.set_congestion_control(tcp::CongestionControl::Cubic);
        socket.set_nagle_enabled(false);
        socket.set_timeout(Some(SILENCE_MAX.into()));
        socket.set_keep_alive(Some(KEEPALIVE_INTERVAL.into()));
        self.flows += 1;
        Ok(self.sockets.add(socket))
    }

    fn remove_flow(&mut self, handle: SocketHandle) {
        self.flows -= 1;
        self.sockets.remove(handle);
    }

    /// A connection of which both sides know that it is over waits only for stray segments; it makes room first.
    fn reclaim(&mut self) {
        let is_over =
            |set: &SocketSet<'_>, handle| set.get::<tcp::Socket<'_>>(handle).state() == tcp::State::TimeWait;
        if let Some(at) = self.orphans.iter().position(|(handle, _)| is_over(&self.sockets, *handle)) {
            let (handle, _) = self.orphans.remove(at);
            self.remove_flow(handle);
        }
    }

    /// Moves packets both ways, as many as are one turn's.
    pub(crate) fn turn(&mut self, line: Option<&UnixDatagram>) -> Turn {
        let mut turn = Turn { busy: false, blocked: false, gone: false, due: None };
        self.sweep();
        let now = self.now();
        self.interface.poll_maintenance(now);
        let mut moved = self.take_in(line, &mut turn);
        while self.interface.poll_egress(self.now(), &mut self.wire, &mut self.sockets) != PollResult::None {
            moved = true;
            if !self.flush(line, &mut turn) {
                break;
            }
        }
        self.flush(line, &mut turn);
        let now = self.now();
        let due = self.interface.poll_at(now, &self.sockets);
        turn.due = match due {
            _ if turn.blocked => None,
            // Nothing moved although something is due: it waits for something else, and is looked at again soon.
            Some(at) if at <= now && !moved => Some(Instant::now() + Duration::from_millis(1)),
            Some(at) => {
                Some(self.began + Duration::from_micros(u64::try_from(at.total_micros()).unwrap_or(0)))
            }
            None => None,
        };
        turn.busy = turn.busy || self.wire.has_packet();
        let linger = self.orphans.iter().map(|(_, at)| *at).min();
        turn.due = turn.due.into_iter().chain(linger).min();
        turn
    }

    /// Reads and handles packets.
    fn take_in(&mut self, line: Option<&UnixDatagram>, turn: &mut Turn) -> bool {
        let mut moved = false;
        for read in 0.. {
            if read >= BATCH_MAX {
                turn.busy = true;
                break;
            }
            if !self.wire.has_packet() && !self.read(line, turn) {
                break;
            }
            moved = true;
            let now = self.now();
            self.interface.poll_ingress_single(now, &mut self.wire, &mut self.sockets);
        }
        moved
    }

    fn read(&mut self, line: Option<&UnixDatagram>, turn: &mut Turn) -> bool {
        let Some(line) = line else { return false };
        match self.wire.read(line) {
            Outcome::Done => {
                self.filter();
                true
            }
            Outcome::WouldBlock => false,
            Outcome::Gone => {
                turn.gone = true;
                false
            }
        }
    }

    /// Holds a new connection's first segment back until it is known whether somebody takes it.
    fn filter(&mut self) {
        let Some(arrival) = first_segment(self.wire.packet()) else { return };
        if !self.addresses.contains(&arrival.to.ip()) || self.arrivals.is_closed() || self.has_flow(arrival) {
            return;
        }
        let packet = self.wire.withhold();
        let is_new = !self.knocking.contains(&arrival);
        if is_new && self.knocking.len() < KNOCKS_MAX && self.arrivals.try_send(arrival).is_ok() {
            self.knocking.insert(arrival);
            self.withheld.push((arrival, packet));
        }
    }

    fn has_flow(&self, arrival: Arrival) -> bool {
        let (from, to) = (IpEndpoint::from(arrival.from), IpEndpoint::from(arrival.to));
        self.sockets.iter().any(|(_, socket)| match socket {
            Socket::Tcp(socket) => {
                socket.remote_endpoint() == Some(from) && socket.local_endpoint() == Some(to)
            }
            _ => false,
        })
    }

    /// Writes what waits; `false` if that is not all.
    fn flush(&mut self, line: Option<&UnixDatagram>, turn: &mut Turn) -> bool {
        let Some(line) = line else { return true };
        let outcome = self.wire.flush(line);
        turn.blocked = outcome == Outcome::WouldBlock;
        turn.gone |= outcome == Outcome::Gone;
        outcome == Outcome::Done
    }

    /// Lets go of connections that are over.
    fn sweep(&mut self) {
        let now = Instant::now();
        let mut kept = Vec::with_capacity(self.orphans.len());
        for (handle, until) in std::mem::take(&mut self.orphans) {
            let connected = self.wire.is_connected();
            let socket = self.tcp(handle);
            if socket.can_recv() || now >= until {
                socket.abort();
            }
            // A reset that is still to be sent keeps the socket's tuple.
            let is_over =
                socket.state() == tcp::State::Closed && (socket.remote_endpoint().is_none() || !connected);
            if is_over || now >= until {
                self.remove_flow(handle);
            } else {
                kept.push((handle, until));
            }
        }
        self.orphans = kept;
    }

    fn now(&self) -> smoltcp::time::Instant {
        let micros = self.began.elapsed().as_micros();
        smoltcp::time::Instant::from_micros(i64::try_from(micros).unwrap_or(i64::MAX))
    }
}

/// Every destination is on the wire; whoever is at its other end knows which there are.
fn interface(wire: &mut Wire, addresses: &[IpAddr]) -> Interface {
    let mut config = Config::new(HardwareAddress::Ip);
    config.random_seed = random();
    let mut interface = Interface::new(config, wire, smoltcp::time::Instant::ZERO);
    interface.update_ip_addrs(|all| {
        for address in addresses {
            let bits = if address.is_ipv4() { 32 } else { 128 };
            if all.push(IpCidr::new(IpAddress::from(*address), bits)).is_err() {
                tracing::warn!(%address, "a device has no room for so many addresses");
            }
        }
    });
    let routes = interface.routes_mut();
    let (v4, v6) = (Ipv4Address::UNSPECIFIED, Ipv6Address::UNSPECIFIED);
    routes.add_default_ipv4_route(v4).expect("there is room for two routes");
    routes.add_default_ipv6_route(v6).expect("there is room for two routes");
    interface
}

/// For sequence numbers and ports. Without it connections could be guessed, so there is no going on.
pub(crate) fn random() -> u64 {
    getrandom::u64().expect("the kernel gives randomness")
}

fn local_port(socket: &Socket<'_>) -> Option<u16> {
    match socket {
        Socket::Tcp(socket) => socket.local_endpoint().map(|local| local.port),
        Socket::Udp(socket) => Some(socket.endpoint().port),
        Socket::Icmp(_) => None,
    }
}
