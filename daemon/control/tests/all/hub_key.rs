//! The hub's WireGuard key on its way into a backup, and as it is stated after one was restored.

use control::{Directory, Hub, Input};
use model::wire::{KeySealed, Remark};
use model::{Code, Epoch, NodeId, PublicKey};

use crate::node::Node;
use crate::world::World;

#[test]
fn the_hub_alone_is_asked_for_its_key_and_answers() {
    let (mut world, tenant) = World::with_tenant();
    let ask = |world: &mut World| {
        world.input(Input::SealHubKey { recipient: Remark::new("age1x") });
        world.hub_keys.pop().expect("an answer")
    };
    assert_eq!(ask(&mut world), None, "there is no hub");
    let mut old = Node::hub(1, 1, 51_820);
    old.seals = false;
    let old = world.connect(old);
    assert_eq!(ask(&mut world), None, "a hub of before is not asked what it does not know");
    assert!(!world.node(old).closed);
    let hub = world.connect(Node::hub(2, 2, 51_820));
    let sealed = ask(&mut world).expect("sealed");
    assert_eq!((sealed.public, sealed.sealed), (world.node(hub).wireguard.public(), b"age1x".to_vec()));

    let token = world.token(tenant, 1);
    let device = world.enrol(3, &token);
    world.say(device, KeySealed { sealed: Some(vec![1]) }.into());
    assert!(world.hub_keys.is_empty(), "a device's word is nothing");
    assert_eq!(world.node(device).refused.as_ref().map(|r| r.code), Some(Code::FrameInvalid));
}

#[test]
fn hub_keys_after_a_restore_are_newer_than_any_before() {
    let (mut world, tenant) = World::with_tenant();
    let token = world.token(tenant, 1);
    let link = world.enrol(1, &token);
    let node = NodeId::Device(world.device(link));
    let stored = &world.store.tenants[&tenant];
    let stated = |epoch: u32, serial: u64| {
        let mut rows = stored.rows.clone();
        rows.version.epoch = Epoch(epoch);
        let key = PublicKey::from_bytes([7; 32]);
        let endpoint = "192.0.2.1:51820".parse().expect("an endpoint");
        rows.hub = Some(Hub { key, serial, endpoint, next: None, retiring: None });
        let directory = Directory::new(rows, stored.anchor.clone()).expect("good rows");
        let keys = directory.own(node).and_then(|own| own.hub_keys).expect("stated keys");
        keys.verify(&stored.anchor.public()).expect("the anchor's").serial
    };
    assert_eq!(stated(0, 9), 9);
    assert!(stated(1, 2) > stated(0, 9));
}
