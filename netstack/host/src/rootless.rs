//! A host without any privilege: the engine's packets go to a stack in this process, and of the rest there is only what
//! the node was told. Interface, routes, resolver and firewall of the machine are neither read nor changed.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::net::IpAddr;

use engine::{Change, Observed};
use ipnet::IpNet;
use model::PublicKey;
use stack::Stack;

use crate::host::{HostConfig, HostError, HostReport};
use crate::paths::Road;
use crate::place::Place;
use crate::pointed::{Pointed, Pointing};
use crate::resolver::Owner;
use crate::wireguard::userspace::Userspace;
use crate::wireguard::{PeerState, Wireguard as _, WireguardError};

/// The hands of a node that may touch nothing.
pub(crate) struct Rootless {
    config: HostConfig,
    stack: Stack,
    engine: Userspace,
    pointed: Pointed,
    /// What was asked for and is not the engine's: it is all in force, since nobody else can change it.
    told: Observed,
}

impl Rootless {
    pub(crate) fn new(config: HostConfig, stack: Stack, road: Road) -> Self {
        let engine = Userspace::new(&config.interface, None, Some(stack.clone()), config.tuning, road);
        Self { config, stack, engine, pointed: Pointed::default(), told: Observed::default() }
    }

    fn apply_to_engine(&mut self, change: &Change) -> Result<(), WireguardError> {
        match change {
            Change::CreateInterface => self.engine.create(),
            Change::RemoveInterface => {
                self.pointed.forget_all();
                self.engine.remove()
            }
            Change::SetDevice { listen_port } => self.engine.set_device(&self.config.key, *listen_port),
            Change::SetPeer(peer) => {
                match peer.endpoint.map(|endpoint| self.pointed.set(peer.key, endpoint)) {
                    Some(Pointing::Elsewhere) => self.engine.renew_peer(peer),
                    Some(Pointing::AsBefore) | None => self.engine.set_peer(peer),
                }
            }
            Change::RemovePeer(key) => {
                self.pointed.forget(key);
                self.engine.remove_peer(key)
            }
            _ => Ok(()),
        }
    }

    fn addresses(&self) -> Vec<IpNet> {
        self.told.interface.iter().flat_map(|interface| interface.addresses.iter().copied()).collect()
    }

    fn wireguard(&self, error: WireguardError) -> HostError {
        HostError::Wireguard(self.config.interface.clone(), error)
    }
}

impl Place for Rootless {
    fn report(&self) -> HostReport {
        HostReport {
            backend: self.engine.backend(),
            crypto: Some(self.config.tuning.crypto),
            fallback: None,
            unsteered: None,
            resolver: Owner::Off,
            resolver_trouble: None,
            guests: BTreeSet::new(),
        }
    }

    fn observe(&mut self) -> Result<Observed, HostError> {
        let state = self.engine.read().map_err(|error| self.wireguard(error))?;
        match (&mut self.told.interface, state) {
            (Some(interface), Some(state)) => {
                interface.public_key = state.public_key;
                interface.listen_port = state.listen_port;
                interface.peers = self.pointed.observe(state.peers);
            }
            (told, _) => *told = None,
        }
        Ok(self.told.clone())
    }

    fn apply(&mut self, change: &Change) -> Result<(), HostError> {
        self.apply_to_engine(change).map_err(|error| self.wireguard(error))?;
        self.told.apply(change, &self.config.key.public());
        match change {
            Change::SetMtu(mtu) => self.stack.set_mtu(*mtu),
            Change::AddAddress(_) | Change::RemoveAddress(_) | Change::RemoveInterface => {
                self.stack.set_addresses(&self.addresses());
            }
            _ => {}
        }
        Ok(())
    }

    fn peers(&mut self) -> Result<BTreeMap<PublicKey, PeerState>, HostError> {
        let state = self.engine.read().map_err(|error| self.wireguard(error))?;
        Ok(state.map(|state| state.peers).unwrap_or_default())
    }

    fn serve(&mut self, _served: BTreeSet<IpAddr>) -> Result<(), HostError> {
        Ok(())
    }

    fn glance(&mut self) -> u64 {
        let mut hasher = DefaultHasher::new();
        matches!(self.engine.read(), Ok(Some(_))).hash(&mut hasher);
        hasher.finish()
    }

    fn leave(&mut self) -> Result<(), HostError> {
        self.engine.remove().map_err(|error| self.wireguard(error))
    }
}

#[cfg(test)]
mod tests {
    use engine::{PeerSetting, ResolverSetting};
    use model::PrivateKey;

    use super::*;
    use crate::resolver::{ResolverConfig, ResolverMode};
    use crate::wireguard::{Backend, Mode, Tuning};

    fn rootless(directory: &std::path::Path, stack: &Stack) -> Rootless {
        let config = HostConfig {
            interface: "wg0".parse().unwrap(),
            key: PrivateKey::from_bytes([3; 32]),
            mode: Mode::Auto,
            forwards: false,
            resolver: ResolverConfig {
                mode: ResolverMode::Auto,
                file: directory.join("resolv.conf"),
                ..ResolverConfig::off()
            },
            state: directory.into(),
            uapi_directory: None,
            tuning: Tuning::default(),
            stack: Some(stack.clone()),
        };
        Rootless::new(config, stack.clone(), Road::idle())
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn everything_that_is_asked_for_is_in_force_and_the_machine_is_not_touched() {
        let directory = tempfile::tempdir().unwrap();
        let (stack, _incoming) = Stack::start();
        let mut host = rootless(directory.path(), &stack);
        assert_eq!(host.observe().unwrap(), Observed::default());
        let own: IpNet = "100.64.0.2/32".parse().unwrap();
        let peer = PeerSetting {
            key: PrivateKey::from_bytes([4; 32]).public(),
            allowed: ["100.64.0.0/16".parse().unwrap()].into(),
            endpoint: Some("192.0.2.1:51820".parse().unwrap()),
            keepalive_seconds: 25,
        };
        let resolver = ResolverSetting {
            servers: vec!["100.64.0.2".parse().unwrap()],
            domain: "home.internal".parse().unwrap(),
            search: Vec::new(),
            reverse: Vec::new(),
        };
        let key = host.config.key.public();
        let mut expected = Observed::default();
        for change in [
            Change::CreateInterface,
            Change::SetDevice { listen_port: None },
            Change::SetMtu(1380),
            Change::AddAddress(own),
            Change::AddAddress("fd00::2/128".parse().unwrap()),
            Change::RemoveAddress("fd00::2/128".parse().unwrap()),
            Change::SetUp,
            Change::SetPeer(peer),
            Change::AddRoute("100.64.0.0/16".parse().unwrap()),
            Change::SetResolver(resolver),
        ] {
            host.apply(&change).unwrap();
            expected.apply(&change, &key);
            let mut observed = host.observe().unwrap();
            let interface = observed.interface.as_mut().unwrap();
            if let Some(expected) = &mut expected.interface {
                expected.listen_port = interface.listen_port;
            }
            assert_eq!(observed, expected, "after {change}");
        }
        assert_eq!(host.report().backend, Backend::Netstack);
        assert_eq!(stack.addresses(), ["100.64.0.2".parse::<IpAddr>().unwrap()]);
        assert_eq!(host.peers().unwrap().len(), 1);
        let before = host.glance();
        host.apply(&Change::RemoveInterface).unwrap();
        assert_ne!(host.glance(), before);
        assert_eq!(host.observe().unwrap().interface, None);
        assert_eq!(stack.addresses(), [] as [IpAddr; 0]);
        assert_eq!(std::fs::read_dir(directory.path()).unwrap().count(), 0, "nothing was written");
    }
}
