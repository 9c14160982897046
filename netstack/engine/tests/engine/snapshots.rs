//! What a server may not make a device believe: kept as it was, reported, and the whole asked for, seldom.

use engine::{Event, Rejection};
use model::snapshot::Stamp;
use model::wire::{Frame, Part, Patched, Whole};
use model::{AnchorSecret, Generation, NodeId, Patch, PublicKey, Signed, TenantId};

use crate::server::{device, hub_key};
use crate::session;
use crate::world::World;

/// Sends frames that must be refused, and checks that nothing came of them.
fn refused(code: &str, frames: impl FnOnce(&mut World) -> Vec<Frame>) {
    let mut world = session::device();
    let frames = frames(&mut world);
    let (before, held) = (world.host.state.clone(), world.node.status().tenants[0].held);
    world.changes.clear();
    world.server.received.clear();
    world.server.mute = true;
    world.push(frames);
    let status = world.node.status();
    assert_eq!(status.tenants[0].held, held, "{code}: kept as it was");
    assert_eq!(world.host.state, before, "{code}");
    assert_eq!(world.changes, [], "{code}");
    let rejections: Vec<_> = world
        .events
        .iter()
        .filter_map(|event| match event {
            Event::Rejected { rejection, .. } => Some(rejection.code()),
            _ => None,
        })
        .collect();
    assert_eq!(rejections, [code]);
    let resync = world.server.received.iter().find_map(|frame| match frame {
        Frame::Resync(resync) => Some(resync.clone()),
        _ => None,
    });
    assert!(resync.is_some_and(|r| r.reason.as_str().starts_with(code)), "{code}: reported");
}

/// A whole of the next generation, altered before it is signed.
fn whole_with(world: &mut World, alter: impl FnOnce(&mut Stamp)) -> Vec<Frame> {
    let tenant = world.server.tenant();
    tenant.version.generation = tenant.version.generation.next();
    let mut stamp = tenant.stamp();
    alter(&mut stamp);
    tenant.whole_with(&stamp)
}

#[test]
fn stamps_of_others() {
    refused("untrusted", |world| {
        world.server.tenant().anchor = AnchorSecret::from_seed([66; 32]);
        whole_with(world, |_| {})
    });
    refused("foreign-tenant", |world| {
        whole_with(world, |stamp| stamp.tenant = TenantId::from_bytes([66; 16]))
    });
    refused("foreign-tenant", |world| {
        world.server.tenant().id = TenantId::from_bytes([66; 16]);
        whole_with(world, |_| {})
    });
    refused("foreign-node", |world| whole_with(world, |stamp| stamp.node = NodeId::Device(device(1))));
    refused("foreign-node", |world| whole_with(world, |stamp| stamp.node = NodeId::Hub));
}

#[test]
fn what_is_old_or_forked() {
    refused("stale", |world| whole_with(world, |stamp| stamp.version.generation = Generation(0)));
    refused("forked", |world| {
        world.server.tenant().add_device(9);
        let tenant = world.server.tenant();
        tenant.whole()
    });
    refused("base-mismatch", |world| {
        let tenant = world.server.tenant();
        let lost = tenant.edit(|t| t.add_device(8));
        drop(lost);
        vec![tenant.edit(|t| t.add_device(9))]
    });
}

#[test]
fn contents_that_are_not_what_was_signed() {
    refused("digest-mismatch", |world| {
        let mut frames = whole_with(world, |_| {});
        world.server.tenant().add_device(9);
        let bytes = minicbor::to_vec(&world.server.tenant().snapshot).expect("encodes");
        let Frame::Whole(whole) = &mut frames[0] else { panic!("a whole comes first") };
        whole.bytes_total = u32::try_from(bytes.len()).expect("small");
        vec![frames[0].clone(), Part { bytes }.into()]
    });
    refused("digest-mismatch", |world| {
        let frame = world.server.tenant().edit(|t| t.add_device(9));
        let Frame::Patched(patched) = frame else { panic!("a patch") };
        let patch = Patch { peers_set: Vec::new(), ..patched.patch };
        vec![Patched { patch, ..patched }.into()]
    });
    refused("unreadable", |world| {
        let mut frames = whole_with(world, |_| {});
        let Frame::Whole(whole) = &mut frames[0] else { panic!("a whole comes first") };
        whole.bytes_total = 3;
        vec![frames[0].clone(), Part { bytes: vec![0xff; 3] }.into()]
    });
}

#[test]
fn more_bytes_than_were_announced_or_are_allowed() {
    refused("too-long", |world| {
        let mut frames = whole_with(world, |_| {});
        let Frame::Whole(whole) = &mut frames[0] else { panic!("a whole comes first") };
        whole.bytes_total -= 1;
        // What follows is dropped without a word.
        frames.push(Part { bytes: vec![0; 9] }.into());
        frames
    });
    refused("too-long", |world| {
        let mut frames = whole_with(world, |_| {});
        let Frame::Whole(whole) = &mut frames[0] else { panic!("a whole comes first") };
        whole.bytes_total = u32::MAX;
        frames
    });
}

#[test]
fn hub_keys_that_the_anchor_did_not_name() {
    let rekey = |t: &mut crate::server::Tenant, key: PublicKey| {
        let hub = t.snapshot.peers.remove(&hub_key()).expect("the hub");
        t.snapshot.peers.insert(key, hub);
    };
    let other = PublicKey::from_bytes([66; 32]);
    refused("hub-key-unnamed", |world| vec![world.server.tenant().edit(|t| rekey(t, other))]);
    refused("hub-key-unnamed", |world| {
        world.server.tenant().edit(|t| rekey(t, other));
        world.server.tenant().whole()
    });
    refused("hub-key-unnamed", |world| vec![world.server.tenant().edit(|t| t.snapshot.own.hub_keys = None)]);
    refused("hub-keys-untrusted", |world| {
        vec![world.server.tenant().edit(|t| {
            let keys = t.hub_keys(2, other);
            t.snapshot.own.hub_keys = Some(Signed::new(&keys, &AnchorSecret::from_seed([66; 32])));
            rekey(t, other);
        })]
    });
    refused("hub-keys-stale", |world| {
        let frame = world.server.tenant().edit(|t| {
            let keys = t.hub_keys(5, hub_key());
            t.snapshot.own.hub_keys = Some(Signed::new(&keys, &t.anchor));
        });
        world.push([frame]);
        world.seconds(1);
        vec![world.server.tenant().edit(|t| {
            let keys = t.hub_keys(4, hub_key());
            t.snapshot.own.hub_keys = Some(Signed::new(&keys, &t.anchor));
        })]
    });
}

#[test]
fn peers_that_vanish() {
    let empty = |t: &mut crate::server::Tenant| {
        (0..3).for_each(|n| t.remove_device(n));
    };
    refused("mass-removal", |world| vec![world.server.tenant().edit(empty)]);
    refused("mass-removal", |world| {
        world.server.tenant().edit(empty);
        world.server.tenant().whole()
    });
    let mut world = session::device();
    let frame = world.server.tenant().edit_with(empty, |stamp| stamp.confirms_removals = true);
    world.push([frame]);
    assert_eq!(world.host.interface().peers.len(), 1, "the server meant it");
    // Half is not most, and a node with another key is not gone.
    let mut world = session::device();
    let frame = world.server.tenant().edit(|t| {
        t.remove_device(0);
        t.remove_device(1);
        let peer = t.snapshot.peers.remove(&t.key_of(2)).expect("a peer");
        t.snapshot.peers.insert(PublicKey::from_bytes([99; 32]), peer);
    });
    world.push([frame]);
    assert_eq!(world.host.interface().peers.len(), 2);
}

#[test]
fn contents_that_contradict_themselves() {
    let own_key = || session::device().host.key;
    let cases: [fn(&mut crate::server::Tenant); 5] = [
        |t| t.snapshot.own.mtu = 576,
        |t| t.snapshot.own.addresses = None,
        |t| t.snapshot.own.addresses.as_mut().expect("active").v4 = [8, 8, 8, 8].into(),
        |t| {
            let set = model::zone::RecordSet::of_node(t.block.hub());
            t.snapshot.zone.names.insert("bank.example".parse().expect("a name"), set);
        },
        |t| t.snapshot.own.standing = model::Standing::Pending,
    ];
    for edit in cases {
        refused("inconsistent", |world| vec![world.server.tenant().edit(edit)]);
    }
    refused("inconsistent", |world| {
        vec![world.server.tenant().edit(|t| {
            let peer = t.snapshot.peers.get(&t.key_of(0)).cloned().expect("a peer");
            t.snapshot.peers.insert(own_key(), peer);
        })]
    });
}

#[test]
fn what_is_held_comes_again_and_is_success() {
    let mut world = session::device();
    world.server.received.clear();
    let frames = world.server.tenant().whole();
    world.push(frames);
    assert_eq!(world.count("snapshot rejected"), 0);
    assert_eq!(world.changes, []);
    assert_eq!(world.server.holdings(), [], "the server knows that already");
}

#[test]
fn the_epoch_orders_generations_across_a_restore() {
    let mut world = session::device();
    let tenant = world.server.tenant();
    tenant.version = model::Version { epoch: model::Epoch(1), generation: Generation(0) };
    tenant.add_device(7);
    let frames = tenant.whole();
    world.push(frames);
    assert_eq!(world.node.status().tenants[0].held.version.epoch, model::Epoch(1));
    assert_eq!(world.host.interface().peers.len(), 5);
}

#[test]
fn a_whole_arrives_in_parts_and_in_pieces() {
    let mut world = session::device();
    let tenant = world.server.tenant();
    tenant.version.generation = Generation(9);
    (100..4100).for_each(|n| tenant.add_device(n));
    let frames = tenant.whole();
    assert!(frames.len() > 3, "{} frames", frames.len());
    let (first, rest) = frames.split_at(2);
    world.push(first.to_vec());
    // It breaks off, and comes again from the start.
    world.push(frames.clone());
    assert_eq!(world.node.status().tenants[0].held.version.generation, Generation(9));
    world.push(rest.to_vec());
    world.seconds(1);
    assert_eq!(world.host.interface().peers.len(), 4004);
    assert!(world.node.status().settled);
}

#[test]
fn a_server_that_repeats_nonsense_is_asked_seldom() {
    let mut world = session::device();
    world.server.tenant().version.generation = Generation(0);
    world.server.tenant().add_device(9);
    let frames = world.server.tenant().whole();
    world.server.received.clear();
    world.push(frames);
    // Each Resync is answered by the same nonsense.
    world.seconds(3600);
    let resyncs = world.server.count("Resync");
    assert!((8..40).contains(&resyncs), "{resyncs} in an hour");
    assert!(world.node.status().tenants[0].rejection.as_ref().is_some_and(|r| r.starts_with("stale")));
    world.server.tenant().version.generation = Generation(5);
    world.seconds(301);
    assert_eq!(world.host.interface().peers.len(), 5, "and believed when it makes sense again");
    assert_eq!(world.node.status().tenants[0].rejection, None);
}

#[test]
fn a_refused_patch_is_answered_by_the_whole() {
    let mut world = session::device();
    let tenant = world.server.tenant();
    let lost = tenant.edit(|t| t.add_device(8));
    drop(lost);
    let frame = tenant.edit(|t| t.add_device(9));
    world.push([frame]);
    world.seconds(1);
    assert_eq!(world.host.interface().peers.len(), 6);
    assert_eq!(world.server.count("Resync"), 1);
}

#[test]
fn rejections_say_what_is_wrong() {
    let rejection = Rejection::MassRemoval { gone: 3, of: 4 };
    assert_eq!(rejection.to_string(), "3 of 4 peers would go, unconfirmed");
}

#[test]
fn snapshots_before_attaching_are_not_listened_to() {
    let mut world = session::device();
    world.server.mute = true;
    world.cut();
    world.seconds(1);
    let whole = world.server.tenant().whole();
    let Frame::Whole(Whole { .. }) = &whole[0] else { panic!("a whole comes first") };
    world.push(whole);
    assert_eq!(world.count("server is not to be trusted"), 1);
}

/// Puts the node's own key among the peers, as that of this node.
fn with_own_key(world: &mut World, node: NodeId) -> Frame {
    let own = world.config.wireguard.public();
    world.server.tenant().edit(|t| {
        let neighbour = t.key_of(0);
        let peer = t.snapshot.peers.get(&neighbour).cloned().expect("a neighbour");
        t.snapshot.peers.insert(own, model::Peer { node, ..peer });
    })
}

#[test]
fn a_device_finds_itself_among_the_peers_and_passes_itself_over() {
    let mut world = session::device();
    let (held, node) = (world.node.status().tenants[0].held, world.server.tenant().snapshot.own.node);
    let frame = with_own_key(&mut world, node);
    world.push([frame]);
    assert_ne!(world.node.status().tenants[0].held, held, "taken");
    assert_eq!(world.changes, [], "and nothing to do");
    assert!(world.node.status().settled);
    refused("inconsistent", |world| vec![with_own_key(world, NodeId::Device(device(0)))]);
}
