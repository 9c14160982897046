//! A server among replicas: whoever holds the lease has the hub, and commits for it of its term.

use std::time::Duration;

use control::{CommitError, Edit, HubInterface, HubPlace, Input, LeaseWord, Output, Term};
use model::TenantId;

use crate::node::Node;
use crate::replicas::token_edit;
use crate::world::World;

/// A server among replicas that has a tenant and a hub.
fn leased() -> (World, TenantId, control::LinkId) {
    let (mut world, tenant) = World::with_tenant();
    world.restart(|config| config.leased = true);
    let hub = world.connect(Node::hub(900, 9, 51820));
    (world, tenant, hub)
}

fn word(world: &World, term: u64, lasts: u64) -> Input {
    let held_until = (lasts > 0).then(|| world.now.mono + Duration::from_secs(lasts));
    Input::Lease(LeaseWord { term: Term(term), held_until })
}

#[test]
fn only_who_holds_the_lease_has_the_hub() {
    let (mut world, tenant, hub) = leased();
    assert_eq!(world.directory(tenant).hub(), None, "its own hub stands by");
    assert!(world.node(hub).snapshots.contains_key(&tenant), "and holds all that it will need");
    assert_eq!(world.beat(hub).expect("a word").lasts_millis, 0);
    world.input(word(&world, 1, 5));
    assert_eq!(world.directory(tenant).hub().map(|h| h.key), Some(world.node(hub).wireguard.public()));
    let lease = world.beat(hub).expect("a word");
    assert_eq!((lease.term, lease.lasts_millis), (1, 5000));
    // Nobody says anything more: stopped, or cut off.
    world.advance(Duration::from_secs(3));
    assert_eq!(world.beat(hub).expect("a word").lasts_millis, 2000);
    world.advance(Duration::from_secs(3));
    assert_eq!(world.beat(hub).expect("a word").lasts_millis, 0);
    // Another holds it: the hub is told at once.
    world.input(word(&world, 2, 5));
    world.input(word(&world, 3, 0));
    assert_eq!(world.node(hub).lease.map(|lease| (lease.term, lease.lasts_millis)), Some((3, 0)));
}

#[test]
fn the_relay_hears_where_the_hub_is_and_whether_it_is_here() {
    let (mut world, tenant) = World::with_tenant();
    world.restart(|config| {
        (config.leased, config.hub_endpoint) =
            (true, Some("vpn.example.org:443".parse().expect("an endpoint")));
    });
    let hub = world.connect(Node::hub(900, 9, 51820));
    let realm = world.anchor(tenant);
    assert_eq!(world.hubs, [].into(), "no server of its has led yet");
    world.input(word(&world, 1, 5));
    let endpoint = world.directory(tenant).hub().expect("it leads").endpoint.clone();
    let place = |here| HubPlace { endpoint: endpoint.clone(), here };
    assert_eq!(world.hubs, [(realm, place(Some(51_820)))].into(), "though devices find it elsewhere");
    world.input(word(&world, 2, 0));
    assert_eq!(world.hubs, [(realm, place(None))].into(), "another leads, and has said nothing yet");
    world.input(word(&world, 3, 5));
    assert_eq!(world.hubs[&realm].here, Some(51_820));
    world.advance(Duration::from_secs(6));
    world.input(word(&world, 3, 0));
    assert_eq!(world.hubs[&realm].here, None, "it ran out before that was said");
    world.input(word(&world, 4, 5));
    let own = Edit::SetInterface(HubInterface::Own(Some(51_900)));
    world.edit(Some(tenant), own).expect("granted");
    assert_eq!((world.hubs[&realm].endpoint.port, world.hubs[&realm].here), (51_900, Some(51_900)));
    world.disconnect(hub);
    world.token(tenant, 1);
    assert_eq!(world.hubs[&realm].here, Some(51_900), "its WireGuard goes on");
}

#[test]
fn what_the_hubs_server_commits_is_of_its_term() {
    let (mut world, tenant, _) = leased();
    world.hold_store = true;
    world.input(word(&world, 1, 5));
    let Some(Output::Commit(commit)) = world.store_queue.pop_front() else { panic!("it states its hub") };
    assert_eq!((commit.tenant, commit.term), (tenant, Some(Term(1))));
    // The store has seen a later term. Until the next word nothing is tried again.
    world.advance(Duration::from_secs(6));
    world.input(Input::Committed { commit: commit.id, result: Err(CommitError::Conflict) });
    world.hold_store = false;
    world.run();
    assert_eq!(world.directory(tenant).hub(), None);
    let edit = world.ask(Some(tenant), token_edit());
    assert!(world.answers[&edit].is_ok(), "people are served by every replica");
    world.input(word(&world, 3, 5));
    assert!(world.directory(tenant).hub().is_some());
}
