//! `changes` is empty if and only if the host is as desired, and doing all of them makes it so, on a host as strict
//! as a kernel.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use engine::{
    Change, Desired, DesiredInterface, Firewall, Observed, ObservedInterface, ObservedPeer, PeerSetting,
    ResolverSetting, changes,
};
use ipnet::IpNet;
use model::PublicKey;
use proptest::prelude::*;

use crate::host::Host;

const OWN: PublicKey = PublicKey::from_bytes([200; 32]);

fn key(n: u8) -> PublicKey {
    PublicKey::from_bytes([n; 32])
}

fn net(n: u8) -> IpNet {
    format!("100.64.0.{n}/32").parse().expect("a net")
}

fn nets() -> impl Strategy<Value = BTreeSet<IpNet>> {
    prop::collection::btree_set((0u8..6).prop_map(net), 0..4)
}

fn endpoint() -> impl Strategy<Value = Option<SocketAddr>> {
    prop::option::of((1u16..4).prop_map(|port| SocketAddr::from(([192, 0, 2, 1], port))))
}

fn firewall() -> impl Strategy<Value = Option<Firewall>> {
    let pair = (0u8..4).prop_map(|n| [net(n), format!("fd00::{n}/128").parse().expect("a net")]);
    prop::option::of(prop::collection::btree_set(pair, 0..3).prop_map(|blocks| Firewall { blocks }))
}

fn resolver() -> impl Strategy<Value = Option<ResolverSetting>> {
    prop::option::of((0u8..3).prop_map(|n| ResolverSetting {
        servers: vec![[100, 64, 0, n].into()],
        domain: "home.internal".parse().expect("a name"),
        search: Vec::new(),
        reverse: vec![net(n)],
    }))
}

/// Peers that do not dispute addresses, as no snapshot's do.
fn settings() -> impl Strategy<Value = BTreeMap<PublicKey, PeerSetting>> {
    let peer = (any::<[bool; 2]>(), endpoint(), 0u16..2);
    prop::collection::btree_map(0u8..5, peer, 0..5).prop_map(|peers| {
        let setting = |(n, (has, endpoint, keepalive_seconds)): (u8, ([bool; 2], _, _))| {
            let own = [net(100 + n), net(150 + n)].into_iter().zip(has).filter(|(_, has)| *has);
            let allowed = own.map(|(net, _)| net).collect();
            (key(n), PeerSetting { key: key(n), allowed, endpoint, keepalive_seconds })
        };
        peers.into_iter().map(setting).collect()
    })
}

fn desired() -> impl Strategy<Value = Desired> {
    let interface = (prop::option::of(1u16..3), 1280u16..1283, nets(), nets(), settings()).prop_map(
        |(listen_port, mtu, addresses, routes, peers)| DesiredInterface {
            public_key: OWN,
            listen_port,
            mtu,
            addresses,
            routes,
            peers,
        },
    );
    (prop::option::of(interface), firewall(), any::<bool>(), resolver()).prop_map(
        |(interface, firewall, forwarding, resolver)| Desired {
            // As every node has it: what needs the interface or the firewall comes with it.
            forwarding: forwarding && firewall.is_some(),
            resolver: resolver.filter(|_| interface.is_some()),
            interface,
            firewall,
            spoken_for: None,
        },
    )
}

fn observed() -> impl Strategy<Value = Observed> {
    let allowed = prop::collection::btree_set((0u8..5).prop_map(|n| net(100 + n)), 0..3);
    let peer = (allowed, endpoint(), 0u16..2, any::<bool>()).prop_map(
        |(allowed, endpoint, keepalive_seconds, stale)| ObservedPeer {
            allowed,
            endpoint,
            keepalive_seconds,
            stale,
        },
    );
    let peers = prop::collection::btree_map((0u8..7).prop_map(key), peer, 0..6);
    let key = prop::option::of(prop::sample::select(vec![OWN, key(9)]));
    let interface = (any::<bool>(), 1280u16..1283, key, 0u16..3, nets(), nets(), nets(), peers).prop_map(
        |(up, mtu, public_key, listen_port, addresses, routes, strays, peers)| ObservedInterface {
            up,
            mtu,
            public_key,
            listen_port,
            addresses,
            routes: routes.into_iter().filter(|_| up).collect(),
            strays: strays.into_iter().filter(|_| up).collect(),
            peers,
        },
    );
    let place = (prop::option::of(interface), any::<bool>()).prop_map(|(found, of_another_engine)| {
        if of_another_engine { (None, found.map(Box::new)) } else { (found, None) }
    });
    (place, firewall(), any::<[bool; 2]>(), resolver()).prop_map(
        |((interface, left), firewall, [forwarding, spoiled], resolver)| Observed {
            interface,
            left,
            spoiled: spoiled && firewall.is_none(),
            firewall,
            forwarding,
            resolver,
        },
    )
}

/// What "as desired" means, said without `changes`.
fn is_as_desired(desired: &Desired, observed: &Observed) -> bool {
    let interface = match (&desired.interface, &observed.interface) {
        (None, None) => observed.left.is_none(),
        (Some(wanted), Some(found)) => {
            found.up
                && found.mtu == wanted.mtu
                && found.strays.is_empty()
                && found.public_key == Some(wanted.public_key)
                && wanted.listen_port.is_none_or(|port| found.listen_port == port)
                && found.addresses == wanted.addresses
                && found.routes == wanted.routes
                && found.peers.keys().eq(wanted.peers.keys())
                && wanted.peers.values().zip(found.peers.values()).all(|(wanted, found)| {
                    let answers = found.endpoint.is_some() && !found.stale;
                    found.allowed == wanted.allowed
                        && found.keepalive_seconds == wanted.keepalive_seconds
                        && (wanted.endpoint.is_none() || answers || found.endpoint == wanted.endpoint)
                })
        }
        _ => false,
    };
    interface
        && desired.firewall == observed.firewall
        && !observed.spoiled
        && desired.resolver == observed.resolver
        && (observed.forwarding || !desired.forwarding)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn changes_are_empty_if_and_only_if_the_host_is_as_desired(desired in desired(), observed in observed()) {
        prop_assert_eq!(changes(&desired, &observed).is_empty(), is_as_desired(&desired, &observed));
    }

    #[test]
    fn all_changes_settle_a_strict_host(desired in desired(), observed in observed()) {
        let mut host = Host { state: observed, ..Host::new(OWN) };
        for change in changes(&desired, &host.state) {
            prop_assert_eq!(host.apply(&change), Ok(()), "{}", change);
        }
        prop_assert!(is_as_desired(&desired, &host.state), "{:?}", host.state);
        prop_assert_eq!(changes(&desired, &host.state), vec![]);
    }

    #[test]
    fn nothing_is_removed_of_which_no_snapshot_speaks(
        desired in desired(), observed in observed(), spoken_for in nets()
    ) {
        let all = changes(&desired, &observed);
        let allowed = |key: &PublicKey| observed.interface.as_ref().map(|i| i.peers[key].allowed.clone());
        let there = observed.interface.as_ref().or(observed.left.as_deref());
        let all_nets = there.map(|i| {
            let allowed = i.peers.values().flat_map(|peer| &peer.allowed);
            i.addresses.iter().chain(&i.routes).chain(&i.strays).chain(allowed).copied().collect::<BTreeSet<_>>()
        });
        let may_go = all_nets.is_some_and(|nets| !nets.is_empty() && nets.is_subset(&spoken_for));
        let is_removal = |change: &Change| match change {
            Change::RemoveAddress(net) | Change::RemoveRoute(net) | Change::RemoveStray(net) => !spoken_for.contains(net),
            Change::RemovePeer(key) => !allowed(key).is_some_and(|nets| nets.is_subset(&spoken_for)),
            Change::RemoveInterface => !may_go,
            Change::ClearResolver => true,
            // What stays is guarded.
            Change::RemoveFirewall => there.is_some() && !may_go,
            _ => false,
        };
        let expect: Vec<_> = all.into_iter().filter(|change| !is_removal(change)).collect();
        let desired = Desired { spoken_for: Some(spoken_for.clone()), ..desired };
        prop_assert_eq!(changes(&desired, &observed), expect);
    }

    #[test]
    fn what_a_node_expects_of_a_change_is_what_a_host_does(desired in desired(), observed in observed()) {
        let mut host = Host { state: observed, ..Host::new(OWN) };
        let mut expected = host.state.clone();
        for change in changes(&desired, &host.state) {
            prop_assert_eq!(host.apply(&change), Ok(()));
            expected.apply(&change, &OWN);
        }
        prop_assert_eq!(changes(&desired, &expected), vec![]);
        prop_assert!(is_as_desired(&desired, &expected));
    }
}

#[test]
fn changes_come_in_the_order_of_work() {
    let desired = Desired {
        interface: Some(DesiredInterface {
            public_key: OWN,
            listen_port: Some(51820),
            mtu: 1380,
            addresses: [net(1)].into(),
            routes: ["100.64.0.0/16".parse().expect("a net")].into(),
            peers: [(
                key(1),
                PeerSetting { key: key(1), allowed: [net(2)].into(), endpoint: None, keepalive_seconds: 0 },
            )]
            .into(),
        }),
        firewall: Some(Firewall::default()),
        forwarding: true,
        resolver: None,
        spoken_for: None,
    };
    let printed: Vec<_> = changes(&desired, &Observed::default()).iter().map(ToString::to_string).collect();
    assert_eq!(
        printed,
        [
            "set firewall for 0 tenants".to_owned(),
            "create interface".into(),
            "set key and listen port 51820".into(),
            "set mtu 1380".into(),
            "add address 100.64.0.1/32".into(),
            "set interface up".into(),
            format!("set peer {} allowed 100.64.0.2/32 keepalive 0 s", key(1)),
            "add route 100.64.0.0/16".into(),
            "set forwarding on".into(),
        ]
    );
    let mut host = Host::new(OWN);
    for change in changes(&desired, &Observed::default()) {
        host.apply(&change).expect("in order");
    }
    let down: Vec<_> = changes(&Desired::default(), &host.state);
    assert_eq!(down, [Change::RemoveInterface, Change::RemoveFirewall], "guarded until it is gone");
}
