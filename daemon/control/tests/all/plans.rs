//! Plans by random edits: a patch leads where the whole leads, whoever is not affected is not changed, and a directory
//! that was built step by step is the one that is read from the store.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use control::directory::{Affected, Share};
use control::{Directory, Edit};
use model::{Abilities, NodeId, RecordData, Snapshot, Standing, Version};
use proptest::prelude::*;

use crate::node::{Node, Wish};
use crate::store::upsert;
use crate::world::{World, label};

#[derive(Debug, Clone)]
enum Do {
    Enrol {
        pending: bool,
        name: u8,
        abilities: Abilities,
    },
    Approve(u8),
    Rename(u8, u8),
    Revoke(u8),
    Tag(u8),
    Add(u8, u8),
    Remove(u8, u8),
    Hub(u8),
    Reconnect,
    /// A device comes back with a program that knows more, or less.
    Upgrade(u8, Abilities),
    Renew,
}

fn any_abilities() -> impl Strategy<Value = Abilities> {
    prop_oneof![Just(Abilities::NONE), Just(Abilities::KNOWN)]
}

fn any_do() -> impl Strategy<Value = Do> {
    prop_oneof![
        4 => (any::<bool>(), 0..4u8, any_abilities())
            .prop_map(|(pending, name, abilities)| Do::Enrol { pending, name, abilities }),
        1 => (0..8u8).prop_map(Do::Approve),
        2 => (0..8u8, 0..6u8).prop_map(|(n, name)| Do::Rename(n, name)),
        2 => (0..8u8).prop_map(Do::Revoke),
        1 => (0..8u8).prop_map(Do::Tag),
        2 => (0..6u8, 0..3u8).prop_map(|(n, v)| Do::Add(n, v)),
        2 => (0..6u8, 0..3u8).prop_map(|(n, v)| Do::Remove(n, v)),
        1 => (0..3u8).prop_map(Do::Hub),
        1 => Just(Do::Reconnect),
        2 => (0..4u8, any_abilities()).prop_map(|(n, abilities)| Do::Upgrade(n, abilities)),
        1 => Just(Do::Renew),
    ]
}

fn nodes(directory: &Directory) -> Vec<NodeId> {
    let devices = directory.devices().map(|device| NodeId::Device(device.id));
    devices.chain([NodeId::Hub]).collect()
}

/// The plan of every node, as it was at one version.
fn plans(directory: &Directory) -> BTreeMap<NodeId, (Share, Snapshot)> {
    let plan = |node: NodeId| {
        let plan = directory.plan(node).expect("a plan");
        (node, (directory.share(node).expect("a share"), plan))
    };
    nodes(directory).into_iter().map(plan).collect()
}

/// A second directory, rebuilt from rows at every step; it must agree in everything.
fn from_rows(world: &World, tenant: model::TenantId) -> Directory {
    let stored = &world.store.tenants[&tenant];
    Directory::new(stored.rows.clone(), stored.anchor.clone()).expect("good rows")
}

fn step(world: &mut World, tenant: model::TenantId, n: u8, what: &Do) {
    let devices: Vec<_> = world.directory(tenant).devices().map(|device| device.id).collect();
    let device = |n: u8| devices.get(usize::from(n)).copied();
    let name = |n: u8| if n == 0 { "*".into() } else { format!("n{n}") }.parse().expect("a name");
    let data = |v: u8| match v {
        0 => RecordData::parse("CNAME", "elsewhere.example.org").expect("a record"),
        1 => RecordData::parse("SRV", "10 5 8080 elsewhere.example.org").expect("a record"),
        v => RecordData::parse("A", &format!("10.0.0.{v}")).expect("a record"),
    };
    let edit = match what {
        Do::Enrol { pending, name, abilities } => {
            let token = world.token_with(tenant, 1, *pending);
            let wish = Wish::Enrol { token: Box::new(token.clone()), hostname: format!("n{name}") };
            let mut node = Node::device(u64::from(n), n, wish, token.anchor);
            node.abilities = *abilities;
            world.connect(node);
            return;
        }
        Do::Hub(key) => {
            world.connect(Node::hub(500 + u64::from(n), 200 + key, 51820));
            return;
        }
        Do::Reconnect => return reconnect(world, 0, n, |_| {}),
        Do::Upgrade(which, abilities) => {
            return reconnect(world, (*which).into(), n, |node| node.abilities = *abilities);
        }
        Do::Approve(n) => device(*n).map(Edit::ApproveDevice),
        Do::Revoke(n) => device(*n).map(Edit::RevokeDevice),
        Do::Rename(n, to) => {
            device(*n).map(|device| Edit::RenameDevice { device, name: label(&format!("n{to}")) })
        }
        Do::Tag(n) => device(*n).map(|device| Edit::TagDevice { device, tags: [label("t")].into() }),
        Do::Add(n, v) => Some(Edit::AddRecord { name: name(*n), data: data(*v), ttl: None }),
        Do::Remove(n, v) => Some(Edit::RemoveRecord { name: name(*n), data: data(*v) }),
        Do::Renew => Some(Edit::Renew),
    };
    if let Some(edit) = edit {
        let _refused_or_not = world.edit(Some(tenant), edit);
    }
}

/// A device that is attached comes back by another link.
fn reconnect(world: &mut World, which: usize, n: u8, change: impl FnOnce(&mut Node)) {
    let attached = |(_, node): &(_, &Node)| !node.closed && node.device.is_some();
    let link = world.nodes.iter().filter(attached).nth(which).map(|(link, _)| *link);
    if let Some(link) = link {
        let mut node = world.disconnect(link);
        node.again(1000 + u64::from(n));
        change(&mut node);
        world.connect(node);
    }
}

/// Those who know paths have each other for peers, the others the hub alone, whoever they are.
fn check_abilities(directory: &Directory) {
    let active = || directory.devices().filter(|device| device.standing == Standing::Active);
    for device in active() {
        let plan = directory.plan(NodeId::Device(device.id)).expect("a plan");
        let peers: BTreeSet<_> = plan.peers.values().map(|peer| peer.node).collect();
        let reads = device.abilities.has(Abilities::PATHS);
        for other in active() {
            let both = reads && other.abilities.has(Abilities::PATHS);
            assert_eq!(peers.contains(&NodeId::Device(other.id)), both, "{} of {}", other.name, device.name);
        }
        assert_eq!(peers.contains(&NodeId::Hub), directory.hub().is_some());
    }
}

fn check_patches(directory: &Directory, since: Version, before: &BTreeMap<NodeId, (Share, Snapshot)>) {
    let mut delta = directory.delta(since).expect("the journal is long enough");
    for (node, (share, plan)) in before {
        let Some(patch) = directory.patch(*node, &mut delta) else {
            // To another one and back is another way to the same.
            let now = directory.own(*node).expect("it is there").standing;
            let stays = plan.own.standing == now && Some(*share) == directory.share(*node);
            assert!(
                !stays || since.generation.0 + 1 < directory.version().generation.0,
                "{node} needs no whole"
            );
            continue;
        };
        let mut patched = plan.clone();
        patch.apply(&mut patched);
        assert_eq!(Some(&patched), directory.plan(*node).as_ref(), "{node} since {since}");
        assert_eq!(Some(patched.digest()), directory.held(*node).map(|held| held.digest));
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn patches_lead_where_wholes_lead(steps in proptest::collection::vec(any_do(), 1..24)) {
        let (mut world, tenant) = World::with_tenant();
        let mut shadow = from_rows(&world, tenant);
        let first = (shadow.version(), plans(&shadow));
        for (n, what) in (1..).zip(&steps) {
            let before = (shadow.version(), plans(&shadow));
            let entries = world.store.tenants[&tenant].log.len();
            step(&mut world, tenant, n, what);
            world.advance(Duration::from_secs(6));

            let stored = &world.store.tenants[&tenant];
            let (log, count) = (&stored.log[entries..], stored.rows.devices_count);
            let mut affected = Affected::default();
            if let Some((generation, _)) = log.last() {
                let facts: Vec<_> = log.iter().flat_map(|(_, facts)| facts.clone()).collect();
                let version = Version { generation: *generation, ..before.0 };
                affected = Affected::from(&shadow.apply(version, count, facts).expect("complete"));
            }
            for (node, (_, plan)) in &before.1 {
                let share = shadow.share(*node).expect("nodes stay");
                if !affected.contains(*node, share) {
                    prop_assert!(shadow.plan(*node).as_ref() == Some(plan), "{node} was not affected");
                }
            }
            check_patches(&shadow, before.0, &before.1);
            check_abilities(&shadow);
            let whole = from_rows(&world, tenant);
            prop_assert_eq!(plans(&shadow), plans(&whole));
            for node in nodes(&whole) {
                prop_assert_eq!(shadow.held(node), whole.held(node));
                prop_assert_eq!(world.directory(tenant).held(node), whole.held(node));
            }
            world.assert_all_hold_their_plans();
        }
        check_patches(&shadow, first.0, &first.1);
    }

    #[test]
    fn facts_applied_twice_are_applied_once(steps in proptest::collection::vec(any_do(), 1..16)) {
        let (mut world, tenant) = World::with_tenant();
        for (n, what) in (1..).zip(&steps) {
            step(&mut world, tenant, n, what);
        }
        let stored = &world.store.tenants[&tenant];
        let mut rows = stored.rows.clone();
        for (_, facts) in &stored.log {
            facts.iter().for_each(|fact| upsert(&mut rows, fact.clone()));
        }
        let again = Directory::new(rows, stored.anchor.clone()).expect("good rows");
        prop_assert_eq!(plans(&again), plans(world.directory(tenant)));
        let empty = world.control.directory(tenant).expect("served").version();
        let facts: Vec<_> = stored.log.last().into_iter().flat_map(|(_, facts)| facts.clone()).collect();
        let mut twice = from_rows(&world, tenant);
        let next = Version { generation: empty.generation.next(), ..empty };
        let touched = twice.apply(next, stored.rows.devices_count, facts).expect("complete");
        prop_assert!(touched.is_empty(), "{:?}", touched);
    }
}
