//! Which changes bring a host nearer to what it should be. Pure: knows no time, no failure and no order of events.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use ipnet::IpNet;
use model::PublicKey;

use crate::change::{Change, PeerSetting, Subject};
use crate::desired::{Desired, DesiredInterface};
use crate::observed::{Observed, ObservedInterface, ObservedPeer};

/// An interface as it is right after it was made.
static BARE: LazyLock<ObservedInterface> = LazyLock::new(ObservedInterface::default);

/// Everything that has to change, in the order of work. Empty if and only if the host is settled; done one after the
/// other, they settle it.
pub fn changes(desired: &Desired, observed: &Observed) -> Vec<Change> {
    subjects(desired, observed).into_iter().filter_map(|s| change_of(desired, observed, &s)).collect()
}

/// Everything that may have to change, in the order of work.
pub(crate) fn subjects(desired: &Desired, observed: &Observed) -> BTreeSet<Subject> {
    let mut subjects = subjects_but_peers(desired, observed);
    if let Some(wanted) = &desired.interface {
        subjects.extend(wanted.peers.keys().copied().map(Subject::Peer));
        let found = observed.interface.iter().flat_map(|i| i.peers.keys());
        subjects.extend(found.copied().map(Subject::Peer));
    }
    subjects
}

/// As [`subjects`], without the peers.
pub(crate) fn subjects_but_peers(desired: &Desired, observed: &Observed) -> BTreeSet<Subject> {
    let mut subjects = BTreeSet::from([
        Subject::Firewall,
        Subject::Interface,
        Subject::Device,
        Subject::Mtu,
        Subject::Up,
        Subject::Forwarding,
        Subject::Resolver,
        Subject::InterfaceGone,
        Subject::FirewallGone,
    ]);
    if let Some(wanted) = &desired.interface {
        subjects.extend(wanted.addresses.iter().copied().map(Subject::Address));
        subjects.extend(wanted.routes.iter().copied().map(Subject::Route));
    }
    if let (Some(_), Some(found)) = (&desired.interface, &observed.interface) {
        subjects.extend(found.addresses.iter().copied().map(Subject::Address));
        subjects.extend(found.routes.iter().copied().map(Subject::Route));
        subjects.extend(found.strays.iter().copied().map(Subject::Stray));
    }
    subjects
}

/// What has to change about one subject. `None`: nothing.
pub(crate) fn change_of(desired: &Desired, observed: &Observed, subject: &Subject) -> Option<Change> {
    match subject {
        Subject::Firewall => {
            let wanted = desired.firewall.as_ref()?;
            (observed.firewall.as_ref() != Some(wanted)).then(|| Change::SetFirewall(wanted.clone()))
        }
        Subject::Forwarding => {
            (desired.forwarding && !observed.forwarding).then_some(Change::SetForwarding(true))
        }
        Subject::Resolver => match (&desired.resolver, &observed.resolver) {
            (wanted, found) if wanted == found => None,
            (Some(wanted), _) => Some(Change::SetResolver(wanted.clone())),
            (None, _) => desired.spoken_for.is_none().then_some(Change::ClearResolver),
        },
        Subject::InterfaceGone => {
            let found = observed.there()?;
            (desired.interface.is_none() && may_go(desired, found)).then_some(Change::RemoveInterface)
        }
        Subject::FirewallGone => {
            let is_there = observed.firewall.is_some() || observed.spoiled;
            let is_left = desired.firewall.is_none() && is_there;
            // An interface that stays is guarded.
            let stays = observed.there().is_some_and(|found| !may_go(desired, found));
            (is_left && !stays).then_some(Change::RemoveFirewall)
        }
        Subject::Interface => {
            (desired.interface.is_some() && observed.interface.is_none()).then_some(Change::CreateInterface)
        }
        Subject::Device
        | Subject::Mtu
        | Subject::Address(_)
        | Subject::Up
        | Subject::Peer(_)
        | Subject::Route(_)
        | Subject::Stray(_) => {
            let wanted = desired.interface.as_ref()?;
            let found = observed.interface.as_ref().unwrap_or(&BARE);
            let change = change_on_interface(wanted, found, subject)?;
            may_make(desired, found, &change).then_some(change)
        }
    }
}

fn change_on_interface(
    wanted: &DesiredInterface,
    found: &ObservedInterface,
    subject: &Subject,
) -> Option<Change> {
    match subject {
        Subject::Device => {
            let same_key = found.public_key == Some(wanted.public_key);
            let same_port = wanted.listen_port.is_none_or(|port| port == found.listen_port);
            (!same_key || !same_port).then_some(Change::SetDevice { listen_port: wanted.listen_port })
        }
        Subject::Mtu => (found.mtu != wanted.mtu).then_some(Change::SetMtu(wanted.mtu)),
        Subject::Up => (!found.up).then_some(Change::SetUp),
        Subject::Address(net) => {
            change_of_net(net, &wanted.addresses, &found.addresses, Change::AddAddress, Change::RemoveAddress)
        }
        Subject::Route(net) => {
            change_of_net(net, &wanted.routes, &found.routes, Change::AddRoute, Change::RemoveRoute)
        }
        Subject::Stray(net) => found.strays.contains(net).then_some(Change::RemoveStray(*net)),
        Subject::Peer(key) => change_of_peer(key, &wanted.peers, &found.peers),
        Subject::Firewall
        | Subject::Interface
        | Subject::Forwarding
        | Subject::Resolver
        | Subject::InterfaceGone
        | Subject::FirewallGone => None,
    }
}

/// Whether what a change removes is spoken of by a snapshot: a network goes because a snapshot says so, never because
/// one could not be read.
fn may_make(desired: &Desired, found: &ObservedInterface, change: &Change) -> bool {
    match change {
        Change::RemoveAddress(net) | Change::RemoveRoute(net) | Change::RemoveStray(net) => {
            desired.may_remove([net])
        }
        Change::RemovePeer(key) => {
            desired.may_remove(found.peers.get(key).into_iter().flat_map(|p| &p.allowed))
        }
        _ => true,
    }
}

/// The same of a whole interface. One without any network is nobody's that is known: it waits until snapshots speak of everything.
fn may_go(desired: &Desired, found: &ObservedInterface) -> bool {
    let allowed = found.peers.values().flat_map(|peer| &peer.allowed);
    let mut nets = found.addresses.iter().chain(&found.routes).chain(&found.strays).chain(allowed).peekable();
    desired.spoken_for.is_none() || nets.peek().is_some() && desired.may_remove(nets)
}

fn change_of_net(
    net: &IpNet,
    wanted: &BTreeSet<IpNet>,
    found: &BTreeSet<IpNet>,
    add: impl Fn(IpNet) -> Change,
    remove: impl Fn(IpNet) -> Change,
) -> Option<Change> {
    match (wanted.contains(net), found.contains(net)) {
        (true, false) => Some(add(*net)),
        (false, true) => Some(remove(*net)),
        (true, true) | (false, false) => None,
    }
}

fn change_of_peer(
    key: &PublicKey,
    wanted: &BTreeMap<PublicKey, PeerSetting>,
    found: &BTreeMap<PublicKey, ObservedPeer>,
) -> Option<Change> {
    match (wanted.get(key), found.get(key)) {
        (Some(wanted), Some(found))
            if same_but_endpoint(wanted, found) && !points_elsewhere(wanted, found) =>
        {
            None
        }
        (Some(wanted), _) => Some(Change::SetPeer(wanted.clone())),
        (None, Some(_)) => Some(Change::RemovePeer(*key)),
        (None, None) => None,
    }
}

/// Whether a peer is as it should be, but for where it is sent to.
pub(crate) fn same_but_endpoint(wanted: &PeerSetting, found: &ObservedPeer) -> bool {
    wanted.allowed == found.allowed && wanted.keepalive_seconds == found.keepalive_seconds
}

/// Whether a peer must be pointed to its endpoint: it has none, or it does not answer where it was pointed to. One that
/// answers is left alone: it roams (WireGuard paper, section 2.1).
fn points_elsewhere(wanted: &PeerSetting, found: &ObservedPeer) -> bool {
    wanted.endpoint.is_some()
        && (found.endpoint.is_none() || (found.stale && found.endpoint != wanted.endpoint))
}
