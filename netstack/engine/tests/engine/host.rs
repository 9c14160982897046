//! A host as strict as a kernel: refuses what comes in the wrong order, and does what nobody asked for.

use std::collections::BTreeSet;

use engine::{Change, Observed, ObservedInterface, ObservedPeer};
use ipnet::IpNet;
use model::PublicKey;

#[derive(Debug, Clone)]
pub(crate) struct Host {
    pub(crate) state: Observed,
    /// The public half of the key that `SetDevice` sets.
    pub(crate) key: PublicKey,
    /// Peers may dispute addresses. Looking for that costs a walk over all peers, too much for thousands.
    pub(crate) disputed: bool,
}

impl Host {
    pub(crate) fn new(key: PublicKey) -> Self {
        Self { state: Observed::default(), key, disputed: true }
    }

    pub(crate) fn apply(&mut self, change: &Change) -> Result<(), String> {
        let none = || "no such device".to_owned();
        match change {
            Change::CreateInterface => {
                self.state.left = None;
                let fresh = || ObservedInterface { mtu: 1420, ..ObservedInterface::default() };
                self.state.interface.get_or_insert_with(fresh);
            }
            Change::RemoveInterface => {
                self.state.interface.take().or(self.state.left.take().map(|left| *left)).ok_or_else(none)?;
            }
            Change::SetFirewall(firewall) => {
                (self.state.firewall, self.state.spoiled) = (Some(firewall.clone()), false);
            }
            Change::RemoveFirewall => (self.state.firewall, self.state.spoiled) = (None, false),
            Change::SetForwarding(on) => {
                if *on && self.state.firewall.is_none() {
                    return Err("forwarding without a firewall".into());
                }
                self.state.forwarding = *on;
            }
            Change::SetResolver(setting) => {
                self.state.interface.as_ref().ok_or_else(none)?;
                self.state.resolver = Some(setting.clone());
            }
            Change::ClearResolver => self.state.resolver = None,
            on_interface => {
                apply_on(
                    self.state.interface.as_mut().ok_or_else(none)?,
                    on_interface,
                    self.key,
                    self.disputed,
                )?;
            }
        }
        Ok(())
    }

    /// Somebody takes the interface down: its routes go with it.
    pub(crate) fn set_down(&mut self) {
        if let Some(interface) = &mut self.state.interface {
            interface.up = false;
            interface.routes.clear();
        }
    }

    pub(crate) fn interface(&self) -> &ObservedInterface {
        self.state.interface.as_ref().expect("an interface")
    }

    pub(crate) fn interface_mut(&mut self) -> &mut ObservedInterface {
        self.state.interface.as_mut().expect("an interface")
    }
}

fn apply_on(
    interface: &mut ObservedInterface,
    change: &Change,
    key: PublicKey,
    disputed: bool,
) -> Result<(), String> {
    match change {
        Change::SetDevice { listen_port } => {
            interface.public_key = Some(key);
            interface.listen_port = listen_port.unwrap_or(40_000);
        }
        Change::SetMtu(mtu) => interface.mtu = *mtu,
        Change::SetUp => interface.up = true,
        Change::AddAddress(net) => add(&mut interface.addresses, *net)?,
        Change::RemoveAddress(net) => remove(&mut interface.addresses, net)?,
        Change::AddRoute(_) if !interface.up => return Err("network is down".into()),
        Change::AddRoute(net) => add(&mut interface.routes, *net)?,
        Change::RemoveRoute(net) => remove(&mut interface.routes, net)?,
        Change::RemoveStray(net) => remove(&mut interface.strays, net)?,
        Change::SetPeer(setting) => {
            // WireGuard: an allowed address has one owner, the last that was given it.
            for peer in interface.peers.values_mut().filter(|_| disputed) {
                peer.allowed.retain(|net| !setting.allowed.contains(net));
            }
            let peer = interface.peers.entry(setting.key).or_default();
            peer.allowed.clone_from(&setting.allowed);
            peer.keepalive_seconds = setting.keepalive_seconds;
            peer.endpoint = setting.endpoint.or(peer.endpoint);
        }
        Change::RemovePeer(key) => {
            interface.peers.remove(key).ok_or("no such peer")?;
        }
        other => return Err(format!("{other} is not on the interface")),
    }
    Ok(())
}

fn add(nets: &mut BTreeSet<IpNet>, net: IpNet) -> Result<(), String> {
    if nets.insert(net) { Ok(()) } else { Err("file exists".into()) }
}

fn remove(nets: &mut BTreeSet<IpNet>, net: &IpNet) -> Result<(), String> {
    if nets.remove(net) { Ok(()) } else { Err("no such process".into()) }
}

/// A peer as somebody else may have set it.
pub(crate) fn stranger(net: &str) -> ObservedPeer {
    ObservedPeer { allowed: [net.parse().expect("a net")].into(), ..ObservedPeer::default() }
}
