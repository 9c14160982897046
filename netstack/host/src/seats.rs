//! The places where a node's changes are made: one for the interface that it always has, and on a hub one for each beside it, by its
//! port. Each is opened when something is to be done there, and let go of when nothing of it is left. Chooses no change.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;

use engine::{Change, Observed, Seat};
use model::PublicKey;

use crate::firewall::Firewall;
use crate::host::{Host, HostConfig, HostError, HostReport, supported};
use crate::links::{self, Links};
use crate::paths::Road;
use crate::place::Place;
use crate::rootless::Rootless;
use crate::wireguard::PeerState;

pub(crate) struct Seats {
    config: HostConfig,
    shared: Box<dyn Place>,
    beside: BTreeMap<u16, Host>,
}

impl Seats {
    /// The road is that of the interface which the node always has: a hub steers nobody.
    pub(crate) fn open(config: HostConfig, road: Road) -> Result<Self, HostError> {
        let shared: Box<dyn Place> = match config.stack.clone() {
            Some(stack) => Box::new(Rootless::new(config.clone(), stack, road)),
            None => Box::new(Host::on(config.clone(), road)?),
        };
        Ok(Self { config, shared, beside: BTreeMap::new() })
    }

    /// The ports of interfaces beside the shared one of which something is there, perhaps of a former life.
    pub(crate) fn found(&self) -> Result<BTreeSet<u16>, HostError> {
        if !self.config.forwards {
            return Ok(BTreeSet::new());
        }
        let links = Links::open().and_then(|links| links.all()).map_err(HostError::Netlink)?;
        let ours = links.iter().filter(|link| links::read_link(link).alias.as_deref() == Some(links::ALIAS));
        let interface = &self.config.interface;
        let mut ports: BTreeSet<u16> =
            ours.filter_map(links::name_of).filter_map(|name| interface.port_beside(name)).collect();
        let tables = Firewall::open(interface).and_then(|mut firewall| firewall.beside());
        let tables = supported(tables.map(Some)).map_err(|e| HostError::Firewall(interface.clone(), e))?;
        ports.extend(tables.unwrap_or_default());
        Ok(ports)
    }

    pub(crate) fn report(&self) -> HostReport {
        self.shared.report()
    }

    pub(crate) fn observe(&mut self, seat: Seat) -> Result<Observed, HostError> {
        let observed = self.place(seat)?.observe();
        if let (Seat::Own(port), Ok(found)) = (seat, &observed)
            && found.is_bare()
        {
            self.beside.remove(&port);
        }
        observed
    }

    pub(crate) fn apply(&mut self, seat: Seat, change: &Change) -> Result<(), HostError> {
        let applied = self.place(seat)?.apply(change);
        if let (Seat::Own(port), Change::RemoveInterface | Change::RemoveFirewall, Ok(())) =
            (seat, change, &applied)
        {
            self.beside.remove(&port);
            if matches!(change, Change::RemoveInterface) {
                // Who was there is forgotten, and the file with it, if there was one.
                let _ = std::fs::remove_file(self.config.endpoints_beside(port));
            }
        }
        applied
    }

    /// Of all interfaces.
    pub(crate) fn peers(&mut self) -> Result<BTreeMap<PublicKey, PeerState>, HostError> {
        let mut peers = self.shared.peers()?;
        for host in self.beside.values_mut() {
            peers.extend(host.peers()?);
        }
        Ok(peers)
    }

    pub(crate) fn serve(&mut self, served: BTreeSet<IpAddr>) -> Result<(), HostError> {
        self.shared.serve(served)
    }

    pub(crate) fn glance(&mut self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.shared.glance().hash(&mut hasher);
        for (port, host) in &mut self.beside {
            (port, host.glance()).hash(&mut hasher);
        }
        hasher.finish()
    }

    /// Those of our own engine end with it: the shared one's rules then find no route left that needs them.
    pub(crate) fn leave(&mut self) -> Result<(), HostError> {
        for (_, mut host) in std::mem::take(&mut self.beside) {
            host.leave()?;
        }
        self.shared.leave()
    }

    fn place(&mut self, seat: Seat) -> Result<&mut dyn Place, HostError> {
        let Seat::Own(port) = seat else { return Ok(&mut *self.shared) };
        let host = match self.beside.remove(&port) {
            Some(host) => host,
            None => Host::beside(self.config.clone(), port)?,
        };
        Ok(self.beside.entry(port).or_insert(host))
    }
}
