//! How links begin and end: enrolment, attach, the hub, refusals, deadlines.

use std::time::Duration;

use control::{Edit, Event, Input, LinkId, Origin};
use model::limits::{HANDSHAKE_TIME_MAX, LINK_SILENCE_MAX};
use model::token::OnboardingToken;
use model::wire::{Channel, Frame};
use model::{Code, IdentitySecret, NodeId, PrivateKey, Standing};

use crate::node::{Node, Wish};
use crate::store::Store;
use crate::world::{World, label};

fn enrolling(link: u64, seed: u8, token: &OnboardingToken, hostname: &str) -> Node {
    let wish = Wish::Enrol { token: Box::new(token.clone()), hostname: hostname.into() };
    Node::device(link, seed, wish, token.anchor)
}

fn refused(world: &World, link: LinkId) -> Option<Code> {
    let node = world.node(link);
    assert_eq!(node.refused.is_some(), node.closed, "a refusal closes");
    node.refused.as_ref().map(|refusal| refusal.code)
}

#[test]
fn a_device_enrols_and_gets_its_snapshot() {
    let (mut world, tenant) = World::with_tenant();
    let hub = world.connect(Node::hub(900, 9, 51820));
    let token = world.token(tenant, 1);
    let link = world.connect(enrolling(1, 1, &token, "Laptop.local"));
    let snapshot = world.node(link).snapshot();
    assert_eq!((snapshot.own.standing, &snapshot.own.name), (Standing::Active, &label("laptop")));
    assert_eq!(snapshot.own.addresses.map(|a| a.v4.to_string()), Some("100.64.0.2".into()));
    let peer = snapshot.peers.get(&world.node(hub).wireguard.public()).expect("the hub");
    assert_eq!(peer.endpoint.as_ref().map(ToString::to_string), Some("198.51.100.1:51820".into()));
    assert_eq!(peer.allowed, snapshot.own.block.nets());
    let keys = snapshot.own.hub_keys.as_ref().expect("the hub's keys");
    let anchor = world.directory(tenant).tenant().anchor;
    assert!(keys.verify(&anchor).is_ok_and(|keys| keys.names(&world.node(hub).wireguard.public())));

    let of_hub = world.node(hub).snapshot();
    assert!(of_hub.peers.contains_key(&world.node(link).wireguard.public()));
    let names: Vec<String> = of_hub.zone.names.keys().map(ToString::to_string).collect();
    assert!(names.contains(&"laptop.home.internal".into()) && names.contains(&"hub.home.internal".into()));
    world.assert_all_hold_their_plans();
    let presence = world.control.presence(world.device(link)).expect("heard of");
    assert_eq!((presence.link, presence.row.settled), (Some(link), true));
}

#[test]
fn enrolment_is_idempotent_on_the_identity() {
    let (mut world, tenant) = World::with_tenant();
    let token = world.token(tenant, 1);
    let first = world.connect(enrolling(1, 1, &token, "a"));
    let device = world.device(first);
    world.disconnect(first);
    world.advance(Duration::from_secs(7200));
    let again = world.connect(enrolling(2, 1, &token, "b"));
    assert_eq!(world.device(again), device, "the token is used and expired, but it is the same device");
    assert_eq!(world.node(again).snapshot().own.name, label("a"));
    assert_eq!(world.directory(tenant).devices().count(), 1);
    world.disconnect(again);

    let mut new_key = enrolling(3, 1, &token, "a");
    new_key.wireguard = PrivateKey::from_bytes([77; 32]);
    let key = new_key.wireguard.public();
    let link = world.connect(new_key);
    assert_eq!(world.device(link), device);
    assert_eq!(world.directory(tenant).device(device).map(|d| d.wireguard), Some(key));
}

#[test]
fn tokens_are_refused_with_their_reason() {
    let (mut world, tenant) = World::with_tenant();
    let (once, spent, revoked) = (world.token(tenant, 1), world.token(tenant, 1), world.token(tenant, 1));
    world.enrol(1, &once);
    world.edit(Some(tenant), Edit::RevokeToken(revoked.id)).expect("revoked");
    let mut foreign = spent.clone();
    foreign.id = model::TokenId::from_bytes([9; 16]);
    let mut wrong = spent.clone();
    wrong.secret = model::key::TokenSecret::from_seed([9; 32]);

    let mut check = |link: u64, token: &OnboardingToken, expect: Code| {
        let link = world.connect(enrolling(link, link.to_le_bytes()[0], token, "x"));
        assert_eq!(refused(&world, link), Some(expect));
        let audit = world.audits.last().expect("an audit line");
        assert_eq!((audit.action.as_str(), audit.refused), ("device.enrol", Some(expect)));
    };
    check(10, &once, Code::TokenUsed);
    check(11, &revoked, Code::TokenRevoked);
    check(12, &foreign, Code::TokenUnknown);
    check(13, &wrong, Code::TokenUnknown);
    world.advance(Duration::from_secs(3600));
    let link = world.connect(enrolling(14, 14, &spent, "x"));
    assert_eq!(refused(&world, link), Some(Code::TokenExpired));
    assert_eq!(world.directory(tenant).devices().count(), 1);
}

#[test]
fn keys_must_be_proven_and_free() {
    let (mut world, tenant) = World::with_tenant();
    let hub = world.connect(Node::hub(900, 9, 51820));
    let token = world.token(tenant, 10);
    let first = world.enrol(1, &token);
    let key = world.node(first).wireguard.clone();
    let mut copy = enrolling(2, 2, &token, "copy");
    copy.wireguard = key;
    let link = world.connect(copy);
    assert_eq!(refused(&world, link), Some(Code::KeyTaken));
    let mut hub_key = enrolling(3, 3, &token, "copy");
    hub_key.wireguard = world.node(hub).wireguard.clone();
    let link = world.connect(hub_key);
    assert_eq!(refused(&world, link), Some(Code::KeyTaken));

    for tamper in 0..2 {
        let mut node = enrolling(4 + tamper, 4, &token, "thief");
        let hello = node.hello();
        let link = node.link;
        let (channel, from) = (node.channel, node.origin);
        world.input(Input::Opened { link, channel, from });
        world.control.handle(Input::Received { link, frame: hello }, world.now);
        let welcome = std::iter::from_fn(|| world.control.poll_output()).find_map(|output| match output {
            control::Output::Send { frame, .. } => Some(frame),
            _ => None,
        });
        let answer = node.receive(welcome.expect("a welcome")).pop();
        world.nodes.insert(link, node);
        let Some(Frame::Enrol(mut enrol)) = answer else { panic!("an enrol") };
        if tamper == 0 {
            enrol.wireguard_proof = model::key::Proof::from_bytes([0; 32]);
        } else {
            enrol.identity_signature =
                IdentitySecret::from_seed([8; 32]).sign("warren enrol identity 1", b"");
        }
        world.say(link, enrol.into());
        assert_eq!(refused(&world, link), Some(Code::ProofInvalid));
    }
}

#[test]
fn a_token_of_one_use_lets_one_of_many_in() {
    let (mut world, tenant) = World::with_tenant();
    let token = world.token(tenant, 1);
    world.hold_store = true;
    let links: Vec<LinkId> = (1..=20).map(|n| world.enrol(n, &token)).collect();
    world.hold_store = false;
    world.run();
    let winners = links.iter().filter(|link| world.node(**link).device.is_some()).count();
    assert_eq!(winners, 1);
    let losers = links.iter().filter(|link| refused(&world, **link) == Some(Code::TokenUsed)).count();
    assert_eq!(losers, 19);
    assert_eq!(world.store.tenants[&tenant].rows.devices.len(), 1);
}

#[test]
fn a_pending_device_has_nothing_until_it_is_approved() {
    let (mut world, tenant) = World::with_tenant();
    let hub = world.connect(Node::hub(900, 9, 51820));
    let token = world.token_with(tenant, 1, true);
    let link = world.enrol(1, &token);
    let own = &world.node(link).snapshot().own;
    assert_eq!((own.standing, own.addresses, own.hub_keys.is_some()), (Standing::Pending, None, false));
    assert!(world.node(link).snapshot().zone.names.is_empty());
    assert!(world.node(hub).snapshot().peers.is_empty());
    world.edit(Some(tenant), Edit::ApproveDevice(world.device(link))).expect("approved");
    assert_eq!(world.node(link).snapshot().own.standing, Standing::Active);
    assert_eq!(world.node(hub).snapshot().peers.len(), 1);
    world.assert_all_hold_their_plans();
}

#[test]
fn a_revoked_device_hears_it_from_the_anchor_and_nothing_after() {
    let (mut world, tenant) = World::with_tenant();
    let token = world.token(tenant, 3);
    let (away, here) = (world.enrol(1, &token), world.enrol(2, &token));
    let device = world.device(away);
    let mut node = world.disconnect(away);
    world.edit(Some(tenant), Edit::RevokeDevice(device)).expect("revoked");
    world.edit(Some(tenant), Edit::RevokeDevice(world.device(here))).expect("revoked");
    let snapshot = world.node(here).snapshot();
    assert_eq!(snapshot.own.standing, Standing::Revoked);
    assert!(snapshot.peers.is_empty() && snapshot.zone.names.is_empty());

    node.again(10);
    let link = world.connect(node);
    assert_eq!((refused(&world, link), world.node(link).snapshot().own.standing), (None, Standing::Revoked));
    let frames = world.node(here).frames;
    world.enrol(3, &token);
    assert_eq!(world.node(here).frames, frames, "the mesh goes on without it");

    let mut again = enrolling(11, 1, &token, "x");
    again.wireguard = PrivateKey::from_bytes([55; 32]);
    let link = world.connect(again);
    assert_eq!(refused(&world, link), Some(Code::DeviceRevoked));
}

#[test]
fn attaching_is_refused_to_strangers() {
    let (mut world, tenant) = World::with_tenant();
    let anchor = world.anchor(tenant);
    let link = world.connect(Node::device(1, 1, Wish::Attach, anchor));
    assert_eq!(refused(&world, link), Some(Code::DeviceUnknown));
    let nobody = model::Fingerprint::from_bytes([1; 32]);
    let link = world.connect(Node::device(2, 1, Wish::Attach, nobody));
    assert_eq!(refused(&world, link), Some(Code::AnchorUnknown));

    let mut from_network = Node::hub(3, 3, 51820);
    from_network.origin = Origin::Network([192, 0, 2, 1].into());
    let link = world.connect(from_network);
    assert_eq!(refused(&world, link), Some(Code::FrameInvalid));
    let mut with_anchor = Node::hub(4, 3, 51820);
    with_anchor.anchor = Some(anchor);
    let link = world.connect(with_anchor);
    assert_eq!(refused(&world, link), Some(Code::FrameInvalid));
    assert!(world.control.hub().is_none());
}

#[test]
fn the_proof_of_another_channel_is_none() {
    let (mut world, tenant) = World::with_tenant();
    let token = world.token(tenant, 2);
    let link = world.enrol(1, &token);
    let mut node = world.disconnect(link);
    node.again(2);
    let hello = node.hello();
    let (link, from) = (node.link, node.origin);
    world.nodes.insert(link, node);
    world.input(Input::Opened { link, channel: Channel::Exporter([200; 32]), from });
    world.control.handle(Input::Received { link, frame: hello }, world.now);
    let welcome = std::iter::from_fn(|| world.control.poll_output()).find_map(|output| match output {
        control::Output::Send { frame: Frame::Welcome(welcome), .. } => Some(welcome),
        _ => None,
    });
    let hello = world.nodes.get_mut(&link).expect("the node").hello();
    let Frame::Hello(hello) = hello else { panic!("a hello") };
    let welcome = welcome.expect("a welcome");
    let (key, signature) = welcome.anchor.expect("the anchor");
    let between = model::wire::Transcript::new(&hello, &welcome, &Channel::Exporter([1; 32]));
    assert!(between.verify_welcome(&key, &signature).is_err(), "a man in the middle has another exporter");
}

#[test]
fn versions_and_frames_out_of_place_are_refused() {
    let (mut world, tenant) = World::with_tenant();
    let token = world.token(tenant, 1);
    let anchor = world.anchor(tenant);
    let enrolled = world.enrol(1, &token);
    let mut newer = Node::device(2, 2, Wish::Attach, anchor);
    let Frame::Hello(mut hello) = newer.hello() else { panic!("a hello") };
    (hello.version_min, hello.version_max) = (7, 9);
    let (link, channel, from) = (newer.link, newer.channel, newer.origin);
    world.nodes.insert(link, newer);
    world.input(Input::Opened { link, channel, from });
    world.say(link, hello.into());
    assert_eq!(refused(&world, link), Some(Code::VersionUnsupported));

    let heartbeat = world.node(enrolled).heartbeat(1);
    let early = Node::device(3, 3, Wish::Attach, anchor);
    let (link, channel, from) = (early.link, early.channel, early.origin);
    world.nodes.insert(link, early);
    world.input(Input::Opened { link, channel, from });
    world.say(link, Frame::Unknown(777));
    assert_eq!(refused(&world, link), None, "an unknown frame is skipped");
    world.say(link, heartbeat);
    assert_eq!(refused(&world, link), Some(Code::FrameInvalid));

    let other = world.found("work");
    let mut resync = world.node(enrolled).resync(tenant);
    if let Frame::Resync(resync) = &mut resync {
        resync.tenant = other;
    }
    world.say(enrolled, resync);
    assert_eq!(refused(&world, enrolled), Some(Code::FrameInvalid), "another tenant's");
}

#[test]
fn links_that_stay_silent_end() {
    let (mut world, tenant) = World::with_tenant();
    let token = world.token(tenant, 1);
    let half_open = Node::device(5, 5, Wish::Attach, world.anchor(tenant));
    let (link, channel, from) = (half_open.link, half_open.channel, half_open.origin);
    world.nodes.insert(link, half_open);
    world.input(Input::Opened { link, channel, from });
    let enrolled = world.enrol(1, &token);
    world.advance(HANDSHAKE_TIME_MAX - Duration::from_millis(1));
    assert!(!world.node(link).closed);
    world.advance(Duration::from_millis(1));
    assert!(world.node(link).closed);
    let heartbeat = world.node(enrolled).heartbeat(1);
    world.say(enrolled, heartbeat);
    world.advance(LINK_SILENCE_MAX - Duration::from_secs(1));
    assert!(!world.node(enrolled).closed);
    world.advance(Duration::from_secs(1));
    assert!(world.node(enrolled).closed);
    assert_eq!(world.control.links(), 0);
    assert_eq!(world.control.presence(world.device(enrolled)).map(|p| p.link), Some(None));
}

#[test]
fn a_store_that_is_down_sends_enrolling_devices_back() {
    let (mut world, tenant) = World::with_tenant();
    let token = world.token(tenant, 1);
    world.store.down = true;
    let link = world.enrol(1, &token);
    assert!(world.node(link).retry.is_some() && world.node(link).closed);
    let refusal = world.edit(Some(tenant), Edit::DeleteTenant).expect_err("the store is down");
    assert_eq!(refusal.code, Code::StoreUnavailable);
    assert!(world.events.iter().any(|e| matches!(e, Event::StoreUnavailable { .. })));
    world.store.down = false;
    world.advance(Duration::from_secs(10));
    let link = world.enrol(1, &token);
    assert!(world.node(link).device.is_some(), "the token was not used up");
}

#[test]
fn nothing_is_served_before_the_store_is_read() {
    let mut control = control::Control::new(crate::world::config(false), [1; 32]);
    let now = crate::world::now_at(0);
    let link = LinkId(1);
    let from = Origin::Network([192, 0, 2, 1].into());
    control.handle(Input::Opened { link, channel: Channel::Proxied, from }, now);
    let outputs: Vec<_> = std::iter::from_fn(|| control.poll_output()).collect();
    assert!(matches!(&outputs[0], control::Output::Send { frame: Frame::Retry(_), .. }));
    assert!(matches!(&outputs[1], control::Output::Close { .. }));
}

#[test]
fn a_drain_sends_everybody_away() {
    let (mut world, tenant) = World::with_tenant();
    let token = world.token(tenant, 3);
    let links = [world.enrol(1, &token), world.enrol(2, &token)];
    world.input(Input::Drain);
    assert!(world.control.is_drained());
    assert!(links.iter().all(|link| world.node(*link).retry.is_some() && world.node(*link).closed));
    assert_eq!(world.saved.len(), 2, "presence is saved");
    let refusal = world.edit(Some(tenant), Edit::DeleteTenant).expect_err("it drains");
    assert_eq!(refusal.code, Code::Draining);
    let late = world.enrol(3, &token);
    assert!(world.node(late).retry.is_some() && world.node(late).device.is_none());
}

#[test]
fn a_hub_that_comes_with_a_new_key_is_stated_by_the_anchor() {
    let (mut world, tenant) = World::with_tenant();
    let token = world.token(tenant, 1);
    let hub = world.connect(Node::hub(900, 9, 51820));
    let old = world.node(hub).wireguard.public();
    let link = world.enrol(1, &token);
    let new = world.connect(Node::hub(901, 10, 51821));
    assert!(world.node(hub).closed, "the newest hub is the hub");
    let key = world.node(new).wireguard.public();
    let snapshot = world.node(link).snapshot();
    let hubs = snapshot.peers.iter().filter(|(_, peer)| peer.node == NodeId::Hub);
    assert_eq!(hubs.map(|(key, _)| key).collect::<Vec<_>>(), [&key]);
    let anchor = world.directory(tenant).tenant().anchor;
    let keys = snapshot.own.hub_keys.as_ref().expect("keys").verify(&anchor).expect("the anchor's");
    assert_eq!((keys.serial, keys.active, keys.retiring), (2, key, Some(old)));
    world.assert_all_hold_their_plans();

    let generation = world.directory(tenant).version();
    let mut same = world.disconnect(new);
    same.again(902);
    world.connect(same);
    assert_eq!(world.directory(tenant).version(), generation, "the same hub is no edit");
}

#[test]
fn a_hub_key_that_could_not_be_stated_is_stated_later() {
    let (mut world, tenant) = World::with_tenant();
    world.store.down = true;
    let hub = world.connect(Node::hub(900, 9, 51820));
    assert!(world.directory(tenant).hub().is_none());
    world.store.down = false;
    world.advance(Duration::from_secs(5));
    let key = world.node(hub).wireguard.public();
    assert_eq!(world.directory(tenant).hub().map(|hub| hub.key), Some(key));
}

#[test]
fn a_cloned_identity_is_told_and_a_restart_is_not() {
    let (mut world, tenant) = World::with_tenant();
    let token = world.token(tenant, 1);
    let link = world.enrol(1, &token);
    let device = world.device(link);
    let anchor = world.anchor(tenant);
    let attach = |world: &mut World, link: u64, instance: u8| {
        let mut node = Node::device(link, 1, Wish::Attach, anchor);
        node.instance = model::Nonce::from_bytes([instance; 32]);
        node.device = Some(device);
        world.connect(node)
    };
    let first = attach(&mut world, 10, 1);
    let restarted = attach(&mut world, 11, 2);
    assert!(world.node(first).closed && world.node(first).refused.is_none());
    assert!(!world.events.iter().any(|e| matches!(e, Event::IdentityCloned { .. })));
    attach(&mut world, 12, 1);
    assert_eq!(refused(&world, restarted), Some(Code::IdentityCloned));
    assert!(world.events.contains(&Event::IdentityCloned { tenant, device }));
    let node = NodeId::Device(device);
    assert!(world.events.iter().any(|e| matches!(e, Event::Attached { node: n, .. } if *n == node)));
}

#[test]
fn rows_that_cannot_be_right_are_withheld() {
    let (mut world, tenant) = World::with_tenant();
    let token = world.token(tenant, 5);
    let link = world.enrol(1, &token);
    world.enrol(2, &token);
    let mut node = world.disconnect(link);
    let store = std::mem::take(&mut world.store);
    let mut broken = Store { ..store };
    let lost = broken.tenants.get_mut(&tenant).expect("stored").rows.devices.pop().expect("a device");
    let mut world = World::over(broken, false, 2);
    assert_eq!(
        world.control.withheld().map(|(row, why)| (row.id, why)).collect::<Vec<_>>(),
        [(tenant, control::Withheld::Rows)]
    );
    assert!(world.events.iter().any(|e| matches!(e, Event::DirectoryWithheld { .. })));
    let hub = world.connect(Node::hub(900, 9, 51820));
    assert!(world.node(hub).snapshots.is_empty(), "nothing is published of it");
    assert!(world.node(hub).pins.contains_key(&tenant));
    node.again(30);
    let held = node.held();
    let link = world.connect(node);
    assert!(world.node(link).retry.is_some(), "the device is asked to come back");
    let refusal = world.edit(Some(tenant), Edit::DeleteTenant).expect_err("withheld");
    assert_eq!(refusal.code, Code::StoreUnavailable);

    world.store.tenants.get_mut(&tenant).expect("stored").rows.devices.push(lost);
    world.advance(Duration::from_secs(5));
    assert_eq!(world.control.withheld().count(), 0);
    assert_eq!(world.node(hub).snapshot().peers.len(), 2);
    let mut node = world.nodes.remove(&link).expect("the node");
    node.again(31);
    let link = world.connect(node);
    assert!(world.node(link).held().is_some_and(|now| Some(now.version) > held.map(|h| h.version)));
    world.assert_all_hold_their_plans();
}
