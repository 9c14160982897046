//! The host of one node: does changes one by one, fails at times, and has a human who changes it behind the node's back.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use engine::{Change, Firewall, Observed, ObservedInterface, ObservedPeer, Seat};
use ipnet::IpNet;
use model::PublicKey;

use crate::dice::Dice;

/// What a fresh WireGuard interface of the kernel has.
const MTU_FRESH: u16 = 1420;
const PORT_ANY: u16 = 40_000;

/// The host of one node.
#[derive(Debug, Default)]
pub struct Host {
    /// As it is.
    pub observed: Observed,
    /// Interfaces of tenants' own, by their ports, with what belongs to each.
    pub beside: BTreeMap<u16, Observed>,
    /// Of operations that fail, in thousandths.
    pub fails_per_mille: usize,
    /// Loses this one peer whenever it is set, and says that it did not: a fault for which a run must fail.
    pub drops_peers: bool,
    /// A human took the firewall, and nobody has looked since.
    pub flushed_unseen: BTreeSet<Seat>,
    /// Leaves one tenant out of the firewall, and says that it did not: a fault for which a run must fail.
    pub forgets_tenants: bool,
    /// The shared interface's firewall as it was last told.
    told_firewall: Option<Firewall>,
    /// Shows peers that it lost as if it had them.
    hidden: Option<(PublicKey, ObservedPeer)>,
}

impl Host {
    /// An interface, and what belongs to it.
    pub fn at(&self, seat: Seat) -> Observed {
        match seat {
            Seat::Shared => self.observed.clone(),
            Seat::Own(port) => self.beside.get(&port).cloned().unwrap_or_default(),
        }
    }

    fn at_mut(&mut self, seat: Seat) -> &mut Observed {
        match seat {
            Seat::Shared => &mut self.observed,
            Seat::Own(port) => self.beside.entry(port).or_default(),
        }
    }

    /// All of them.
    pub fn all(&self) -> impl Iterator<Item = &Observed> {
        [&self.observed].into_iter().chain(self.beside.values())
    }

    /// Interfaces of tenants' own that there are, as a program finds them when it starts.
    pub fn found(&self) -> BTreeSet<u16> {
        let is_there = |observed: &Observed| observed.interface.is_some() || observed.firewall.is_some();
        self.beside.iter().filter(|(_, observed)| is_there(observed)).map(|(port, _)| *port).collect()
    }

    /// Does a change, or says why not. A failed change may have been done all the same.
    pub fn apply(
        &mut self,
        seat: Seat,
        change: &Change,
        own: &PublicKey,
        dice: &mut Dice,
    ) -> Result<(), String> {
        if dice.chance(self.fails_per_mille) {
            if dice.chance(300) {
                self.change(seat, change, own);
            }
            return Err("injected: the operation failed".into());
        }
        let on_interface = !matches!(
            change,
            Change::CreateInterface
                | Change::RemoveInterface
                | Change::SetFirewall(_)
                | Change::RemoveFirewall
                | Change::SetForwarding(_)
                | Change::SetResolver(_)
                | Change::ClearResolver
        );
        match &self.at_mut(seat).interface {
            None if on_interface => return Err("no such device".into()),
            Some(interface) if matches!(change, Change::AddRoute(_)) && !interface.up => {
                return Err("network is down".into());
            }
            _ => {}
        }
        if let Change::AddRoute(net) = change {
            let has =
                |observed: &Observed| observed.interface.as_ref().is_some_and(|i| i.routes.contains(net));
            if !has(&self.at(seat)) && self.all().any(has) {
                return Err("file exists".into());
            }
        }
        self.change(seat, change, own);
        Ok(())
    }

    fn change(&mut self, seat: Seat, change: &Change, own: &PublicKey) {
        let (forgets, drops) = (self.forgets_tenants, self.drops_peers && seat == Seat::Shared);
        let observed = self.at_mut(seat);
        let fresh = matches!(change, Change::CreateInterface) && observed.interface.is_none();
        observed.apply(change, own);
        if let (Change::SetFirewall(told), Some(firewall)) = (change, &mut observed.firewall)
            && forgets
            && seat == Seat::Shared
        {
            firewall.blocks.pop_first();
            self.told_firewall = Some(told.clone());
        }
        let Some(interface) = &mut self.at_mut(seat).interface else { return };
        if fresh {
            *interface = ObservedInterface { mtu: MTU_FRESH, ..ObservedInterface::default() };
        }
        if matches!(change, Change::SetDevice { listen_port: None }) && interface.listen_port == 0 {
            interface.listen_port = PORT_ANY;
        }
        if let Change::SetPeer(peer) = change {
            // An allowed address has one owner, the last that was given it (WireGuard paper, section 2).
            for (_, other) in interface.peers.iter_mut().filter(|(key, _)| **key != peer.key) {
                other.allowed.retain(|net| !peer.allowed.contains(net));
            }
        }
        if let Change::SetPeer(peer) = change
            && drops
            && let Some(lost) = interface.peers.remove(&peer.key)
        {
            self.hidden = Some((peer.key, lost));
        }
    }

    /// What a look at the host gives.
    pub fn observe(&mut self, seat: Seat, dice: &mut Dice) -> Result<Observed, String> {
        if dice.chance(self.fails_per_mille) {
            return Err("injected: the host cannot be read".into());
        }
        self.flushed_unseen.remove(&seat);
        let mut seen = self.at(seat);
        if seat != Seat::Shared {
            return Ok(seen);
        }
        if let (Some(interface), Some((key, peer))) = (&mut seen.interface, &self.hidden) {
            interface.peers.insert(*key, peer.clone());
        }
        if let (Some(firewall), Some(told)) = (&mut seen.firewall, &self.told_firewall) {
            firewall.clone_from(told);
        }
        Ok(seen)
    }

    /// The machine boots: the kernel forgets.
    pub fn reboot(&mut self) {
        self.observed = Observed::default();
        self.beside.clear();
    }

    /// Somebody changes something. Says what, unless there was nothing to change.
    pub fn meddle(&mut self, dice: &mut Dice) -> Option<&'static str> {
        let ports: Vec<u16> = self.found().into_iter().collect();
        let seat = match dice.pick(&ports) {
            Some(port) if dice.chance(400) => Seat::Own(*port),
            _ => Seat::Shared,
        };
        if dice.chance(100) && self.at_mut(seat).firewall.take().is_some() {
            self.flushed_unseen.insert(seat);
            return Some("nft flush ruleset");
        }
        let observed = self.at_mut(seat);
        if dice.chance(100) && observed.resolver.take().is_some() {
            return Some("overwrites the resolver");
        }
        if dice.chance(200) && observed.interface.take().is_some() {
            return Some("ip link del wg0");
        }
        meddle_with(observed.interface.as_mut()?, dice)
    }

    /// Peers roam, fall silent and are heard again, as they do.
    pub fn live(&mut self, dice: &mut Dice) {
        let all = [&mut self.observed].into_iter().chain(self.beside.values_mut());
        let peers = all.filter_map(|observed| observed.interface.as_mut()).flat_map(|i| i.peers.values_mut());
        for peer in peers.filter(|peer| peer.endpoint.is_some()) {
            peer.stale = dice.chance(200);
            if dice.chance(200) {
                let [a, b] = dice.bytes();
                peer.endpoint = Some(SocketAddr::new(IpAddr::from([203, 0, 113, a]), 1024 + u16::from(b)));
            }
        }
    }

    /// Every peer is heard again.
    pub fn calm(&mut self) {
        let all = [&mut self.observed].into_iter().chain(self.beside.values_mut());
        let peers = all.filter_map(|observed| observed.interface.as_mut()).flat_map(|i| i.peers.values_mut());
        peers.for_each(|peer| peer.stale = false);
        self.fails_per_mille = 0;
    }
}

fn meddle_with(interface: &mut ObservedInterface, dice: &mut Dice) -> Option<&'static str> {
    Some(match dice.below(8) {
        0 => {
            let keys: Vec<PublicKey> = interface.peers.keys().copied().collect();
            interface.peers.remove(dice.pick(&keys)?);
            "wg set wg0 peer … remove"
        }
        1 => {
            interface.peers.insert(PublicKey::from_bytes(dice.bytes()), ObservedPeer::default());
            "wg set wg0 peer <stranger>"
        }
        2 => {
            take_one(&mut interface.addresses, dice)?;
            "ip addr del"
        }
        3 => {
            take_one(&mut interface.routes, dice)?;
            "ip route del"
        }
        4 => {
            interface.up = false;
            interface.routes.clear();
            "ip link set wg0 down"
        }
        5 => {
            interface.mtu = 1300;
            "ip link set wg0 mtu 1300"
        }
        6 => {
            let [a, b] = dice.bytes();
            let server = IpAddr::from([203, 0, 113, a]);
            interface.strays.insert(IpNet::new(server, 24 + b % 9).ok()?.trunc());
            "ip route add … dev wg0"
        }
        _ => {
            let peer = interface.peers.values_mut().next()?;
            peer.allowed.clear();
            "wg set wg0 peer … allowed-ips \"\""
        }
    })
}

fn take_one<T: Copy + Ord>(from: &mut BTreeSet<T>, dice: &mut Dice) -> Option<T> {
    let all: Vec<T> = from.iter().copied().collect();
    dice.pick(&all).and_then(|one| from.take(one))
}
