//! A hub: many tenants on one interface, apart from each other, within its own limits.

use engine::status::LinkState;
use engine::{Change, Event, Input, Ledger, NamesUpdate};
use model::wire::{Remark, SealKey};
use model::{Code, Name, NodeId, PublicKey, Refusal, TenantId};

use crate::server::{Server, Tenant};
use crate::world::{World, hub_config};

/// A hub with so many tenants, each with two devices; settled.
pub(crate) fn hub(tenants: u8) -> World {
    let tenant = |number| {
        let mut tenant = Tenant::new(number, NodeId::Hub);
        tenant.add_device(0);
        tenant.add_device(1);
        tenant
    };
    let mut world = World::new(hub_config(), Server::new((1..=tenants).map(tenant).collect()));
    world.seconds(1);
    assert!(world.node.status().settled, "{:?}", world.node.status());
    world.changes.clear();
    world.events.clear();
    world
}

#[test]
fn all_tenants_share_one_interface_and_nothing_else() {
    let world = hub(3);
    let interface = world.host.interface();
    assert_eq!((interface.peers.len(), interface.addresses.len(), interface.routes.len()), (6, 6, 6));
    assert_eq!(interface.listen_port, 51820);
    let firewall = world.host.state.firewall.clone().expect("a firewall");
    assert_eq!(firewall.blocks, world.server.tenants.iter().map(|t| t.block.nets()).collect());
    assert!(world.host.state.forwarding && world.host.state.resolver.is_none());
    assert_eq!(world.names.len(), 3);
    assert_eq!(world.node.status().tenants.len(), 3);
}

#[test]
fn a_hub_seals_its_key_when_its_server_asks_and_a_device_does_not() {
    let asked = SealKey { recipient: Remark::new("age1x") };
    let mut world = hub(1);
    world.push([asked.clone().into()]);
    world.seconds(1);
    assert_eq!(world.server.count("KeySealed"), 1);

    let mut device = crate::session::device();
    device.push([asked.into()]);
    device.seconds(1);
    assert_eq!(device.server.count("KeySealed"), 0);
    assert!(device.node.status().settled);
}

#[test]
fn a_hub_without_tenants_has_its_interface_and_forwards_nothing() {
    let mut world = World::new(hub_config(), Server::new(vec![Tenant::new(1, NodeId::Hub)]));
    world.unreachable = true;
    world.seconds(1);
    assert!(world.host.interface().up && world.host.interface().peers.is_empty());
    assert!(!world.host.state.forwarding);
    assert_eq!(world.host.state.firewall, Some(engine::Firewall::default()));
}

#[test]
fn a_new_tenant_comes_over_the_same_link() {
    let mut world = hub(2);
    let mut tenant = Tenant::new(9, NodeId::Hub);
    tenant.add_device(0);
    let attached = model::wire::Attached {
        heartbeat_seconds: 20,
        tenants: vec![(tenant.id, tenant.anchor.public())],
        key: None,
    };
    let whole = tenant.whole();
    world.push([attached.into()]);
    world.push(whole);
    world.seconds(1);
    assert_eq!(world.host.interface().peers.len(), 5);
    assert_eq!(world.host.state.firewall.as_ref().map(|f| f.blocks.len()), Some(3));
    assert!(Ledger::load(&world.disk).is_ok_and(|ledger| ledger.holdings().count() == 3));
}

#[test]
fn one_key_in_two_tenants_stays_with_the_first() {
    let mut world = hub(2);
    let (first, second) = (world.server.tenants[0].id, world.server.tenants[1].id);
    let shared = world.server.tenants[0].key_of(0);
    let steal = |t: &mut Tenant| {
        let peer = t.snapshot.peers.remove(&t.key_of(0)).expect("a peer");
        t.snapshot.peers.insert(shared, peer);
    };
    let frame = world.server.tenants[1].edit(steal);
    world.push([frame]);
    world.seconds(1);
    assert!(world.events.contains(&Event::PeerTwice { key: shared, kept: first, refused: second }));
    let block = world.server.tenants[0].block;
    let is_first = |world: &World| {
        world.host.interface().peers[&shared].allowed.iter().all(|net| block.contains(net.addr()))
    };
    assert!(is_first(&world) && world.node.status().settled);
    // The first lets go: the second may have it.
    let frame = world.server.tenants[0].edit(|t| t.remove_device(0));
    world.push([frame]);
    world.seconds(1);
    assert!(!is_first(&world) && world.node.status().settled);
}

/// Says which rule an edit of the second tenant breaks.
fn rejection(edit: impl FnOnce(&mut Tenant)) -> Option<String> {
    let mut world = hub(2);
    let before = world.host.state.clone();
    let frame = world.server.tenants[1].edit(edit);
    world.push([frame]);
    let code = world.events.iter().find_map(|event| match event {
        Event::Rejected { rejection, .. } => Some(rejection.code().to_owned()),
        _ => None,
    });
    if code.is_some() {
        assert_eq!(world.host.state, before);
    }
    code
}

#[test]
fn no_server_can_make_a_hub_leave_its_limits() {
    let guarded = Some("guard".to_owned());
    let allow = |t: &mut Tenant, net: &str| {
        let key = t.key_of(0);
        let mut peer = t.snapshot.peers.get(&key).cloned().expect("a peer");
        peer.allowed.push(net.parse().expect("a net"));
        t.snapshot.peers.insert(key, peer);
    };
    // Others' addresses, a net of its own tenant's, the hub's own, and another peer's.
    let others = ["0.0.0.0/0", "::/0", "100.65.0.9/32", "10.0.0.0/8"];
    for net in others.into_iter().chain(["100.66.9.0/24", "100.66.0.1/32", "100.66.0.11/32"]) {
        assert_eq!(rejection(|t| allow(t, net)), guarded, "{net}");
    }
    assert_eq!(rejection(|t| allow(t, "100.66.9.9/32")), None);
    assert_eq!(rejection(|t| t.snapshot.own.addresses = t.block.host(2)), guarded);
    // A whole is checked as a patch is.
    let mut world = hub(2);
    let before = world.host.state.clone();
    let tenant = &mut world.server.tenants[1];
    allow(tenant, "100.66.0.11/32");
    tenant.version.generation = tenant.version.generation.next();
    let whole = tenant.whole();
    world.push(whole);
    assert!(world.count("snapshot rejected") >= 1);
    assert_eq!(world.host.state, before);
    let move_to = |t: &mut Tenant, v4: &str| {
        let block = model::Block::new(v4.parse().expect("a net"), t.id).expect("a block");
        t.snapshot.own.block = block;
        t.snapshot.zone.block = block;
        t.snapshot.own.addresses = block.host(1);
        t.snapshot.peers = model::Buckets::new();
        t.snapshot.zone.names = model::Buckets::new();
    };
    assert_eq!(rejection(|t| move_to(t, "10.0.0.0/16")), guarded);
    assert_eq!(rejection(|t| move_to(t, "100.65.0.0/16")), Some("block-overlap".into()));
    let rename = |t: &mut Tenant| {
        t.snapshot.zone.origin = "example.org".parse::<Name>().expect("a name");
        t.snapshot.zone.names = model::Buckets::new();
    };
    assert_eq!(rejection(rename), guarded);
}

#[test]
fn limits_that_became_stricter_hold_at_the_next_start() {
    let mut world = hub(2);
    let engine::Role::Hub { guard, .. } = &mut world.config.role else { panic!("a hub") };
    guard.blocks = vec!["100.65.0.0/16".parse().expect("a net"), "fd00::/8".parse().expect("a net")];
    world.restart();
    world.seconds(1);
    assert_eq!(world.host.interface().peers.len(), 2);
    assert_eq!(world.node.status().tenants.len(), 1);
    assert!(world.count("snapshot rejected") >= 1);
    let gone = world.server.tenants[1].id;
    assert!(
        !world
            .names
            .iter()
            .rev()
            .take(1)
            .any(|n| matches!(n, NamesUpdate::Whole { tenant, .. } if *tenant == gone))
    );
}

#[test]
fn another_anchor_for_a_tenant_is_not_pinned() {
    let mut world = hub(1);
    let tenants = vec![(world.server.tenants[0].id, model::AnchorSecret::from_seed([66; 32]).public())];
    world.push([model::wire::Attached { heartbeat_seconds: 20, tenants, key: None }.into()]);
    assert_eq!(world.count("another anchor was offered"), 1);
    assert_eq!(world.node.status().tenants[0].anchor, world.server.tenants[0].anchor.public());
}

#[test]
fn a_hub_takes_so_many_tenants_and_no_more() {
    let mut world = hub(1);
    let anchor = model::AnchorSecret::from_seed([66; 32]).public();
    for round in 0..3u32 {
        let id = |n: u32| {
            let mut bytes = [200; 16];
            bytes[..8].copy_from_slice(&(u64::from(round) << 32 | u64::from(n)).to_be_bytes());
            TenantId::from_bytes(bytes)
        };
        let tenants = (0..600).map(|n| (id(n), anchor)).collect();
        world.push([model::wire::Attached { heartbeat_seconds: 20, tenants, key: None }.into()]);
    }
    assert_eq!(world.count("too many tenants"), 2, "once a frame");
    assert!(world.disk.len() < model::limits::TENANTS_MAX * 128, "{} bytes", world.disk.len());
    assert_eq!(world.node.status().tenants.len(), 1);
}

#[test]
fn a_hub_that_lost_its_ledger_removes_nothing_until_it_holds_snapshots() {
    let mut world = hub(2);
    let before = world.host.state.interface.clone();
    world.disk.clear();
    world.unreachable = true;
    world.restart();
    world.seconds(600);
    assert_eq!(world.host.state.interface, before);
    // Meanwhile a device was revoked.
    let _ = world.server.tenants[1].edit(|t| t.remove_device(0));
    let gone = world.server.tenants[1].key_of(0);
    world.unreachable = false;
    world.seconds(60);
    let removals: Vec<_> = world.changes.iter().filter(|c| is_removal(c)).collect();
    assert_eq!(removals, [&Change::RemovePeer(gone)]);
    assert!(world.node.status().settled);
}

#[test]
fn what_a_damaged_snapshot_said_stays_and_what_others_say_holds() {
    let mut world = hub(2);
    let before = world.host.state.interface.clone();
    // The end of the file is the last tenant's.
    let place = world.disk.len() - 40;
    world.disk[place] ^= 0x40;
    world.unreachable = true;
    world.restart();
    let (ours, theirs) = (crate::host::stranger("100.65.0.99/32"), crate::host::stranger("100.66.0.99/32"));
    let [our_key, their_key] = [250, 251].map(|n| PublicKey::from_bytes([n; 32]));
    world.host.interface_mut().peers.extend([(our_key, ours), (their_key, theirs)]);
    world.seconds(600);
    assert_eq!(world.node.status().tenants.len(), 1);
    let removals: Vec<_> = world.changes.iter().filter(|c| is_removal(c)).collect();
    assert_eq!(removals, [&Change::RemovePeer(our_key)]);
    assert!(world.host.interface().peers.contains_key(&their_key));
    world.unreachable = false;
    world.seconds(60);
    assert_eq!(world.host.state.interface, before);
    assert!(world.node.status().settled);
}

#[test]
fn what_is_left_of_a_deleted_tenant_goes_though_its_snapshot_was_damaged() {
    let mut world = hub(2);
    let place = world.disk.len() - 40;
    world.disk[place] ^= 0x40;
    world.server.tenants.pop();
    world.restart();
    world.seconds(60);
    assert_eq!(world.host.interface().peers.len(), 2);
    assert_eq!(world.host.interface().routes.len(), 2);
    assert!(world.node.status().settled);
}

const fn is_removal(change: &Change) -> bool {
    matches!(
        change,
        Change::RemovePeer(_) | Change::RemoveAddress(_) | Change::RemoveRoute(_) | Change::RemoveStray(_)
    )
}

#[test]
fn a_hub_speaks_over_a_local_socket_only() {
    let mut world = World::new(hub_config(), Server::new(vec![Tenant::new(1, NodeId::Hub)]));
    world.channel = model::wire::Channel::Exporter([5; 32]);
    world.seconds(60);
    assert_eq!(world.server.count("AttachHub"), 0);
    assert!(world.node.status().link_error.is_some_and(|why| why.contains("local socket")));
}

#[test]
fn a_hub_finds_its_server_again_within_seconds_however_long_it_was_away() {
    let mut world = hub(1);
    world.unreachable = true;
    world.cut();
    world.seconds(600);
    world.unreachable = false;
    world.seconds(2);
    assert_eq!(world.node.status().link, LinkState::Attached);
    // And again, if it went at once.
    world.cut();
    world.seconds(2);
    assert_eq!(world.node.status().link, LinkState::Attached);
}

#[test]
fn a_hub_whose_server_takes_it_and_refuses_asks_ever_more_rarely() {
    let mut world = hub(1);
    world.server.refusal = Some(Refusal::from(Code::Conflict));
    world.dials = 0;
    world.cut();
    world.seconds(600);
    assert!((10..120).contains(&world.dials), "{} dials", world.dials);
}

#[test]
fn a_hub_does_not_join() {
    let mut world = hub(1);
    world.join();
    assert_eq!(world.count("join refused"), 1);
    assert!(!world.node.status().joining);
}

#[test]
fn a_snapshot_of_an_unknown_tenant_is_refused() {
    let mut world = hub(1);
    let whole = Tenant::new(9, NodeId::Hub).whole();
    world.push(whole);
    let id = TenantId::from_bytes([9; 16]);
    let rejection = engine::Rejection::TenantUnknown(id);
    assert!(world.events.contains(&Event::Rejected { tenant: id, rejection }));
}

#[test]
fn a_tenant_that_is_gone_for_good_is_forgotten() {
    let mut world = hub(2);
    let frame = world.server.tenants[1].edit(|t| {
        t.snapshot.own.standing = model::Standing::Revoked;
        t.snapshot.own.addresses = None;
        t.snapshot.peers = model::Buckets::new();
        t.snapshot.zone.names = model::Buckets::new();
    });
    world.push([frame]);
    world.seconds(1);
    assert_eq!(world.host.interface().peers.len(), 2);
    assert!(matches!(world.names.last(), Some(NamesUpdate::Gone { .. })));
    assert_eq!(world.node.status().tenants.len(), 2, "as long as the server lists it");
    world.server.tenants.pop();
    world.cut();
    world.seconds(60);
    assert_eq!(world.node.status().tenants.len(), 1);
}

#[test]
fn one_added_peer_among_ten_thousand_is_one_change() {
    let mut tenant = Tenant::new(1, NodeId::Hub);
    (0..10_000).for_each(|n| tenant.add_device(n));
    let mut world = World::new(hub_config(), Server::new(vec![tenant]));
    world.host.disputed = false;
    world.seconds(1);
    assert!(world.node.status().settled);
    assert_eq!(world.host.interface().peers.len(), 10_000);
    world.changes.clear();
    let (observes, persists, names) = (world.observes, world.persists, world.names.len());
    let frame = world.server.tenants[0].edit(|t| t.add_device(10_000));
    let key: PublicKey = world.server.tenants[0].key_of(10_000);
    world.push([frame]);
    assert!(matches!(&world.changes[..], [Change::SetPeer(peer)] if peer.key == key));
    assert_eq!((world.observes, world.persists, world.names.len()), (observes, persists + 1, names + 1));
    assert!(matches!(world.names.last(), Some(NamesUpdate::Patch { .. })));
    assert!(world.node.status().settled);
    world.restart();
    world.changes.clear();
    world.seconds(1);
    assert_eq!(world.changes, [], "the disk has it too");
    world.handle(Input::HostChanged);
    world.seconds(300);
    assert_eq!(world.changes, []);
}
