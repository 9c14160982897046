//! Two servers on one store: one wins, the other decides again, generations never fork.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use control::limits::PRESENCE_SAVE_INTERVAL;
use control::{Answer, Edit, Event, HubInterface, Input, Output, PassedHint, RequestId};
use model::limits::OWN_INTERFACES_MAX;
use model::token::OnboardingToken;
use model::wire::Hint;
use model::{Code, DeviceId, Epoch, Generation, NodeId, TenantId};
use proptest::prelude::*;

use crate::node::{Node, Wish};
use crate::store::Store;
use crate::world::{World, label};

/// Two worlds that take turns at one store.
struct Pair {
    worlds: [World; 2],
}

impl Pair {
    fn new() -> (Self, TenantId) {
        let (mut first, tenant) = World::with_tenant();
        let store = std::mem::take(&mut first.store);
        let mut a = World::over(store, true, 2);
        let shared = std::mem::take(&mut a.store);
        let mut b = World::over(shared, true, 3);
        let shared = std::mem::take(&mut b.store);
        a.store = shared;
        (a.hold_store, b.hold_store) = (true, true);
        (Self { worlds: [a, b] }, tenant)
    }

    /// One call of the store by one of them.
    fn serve(&mut self, who: usize) -> bool {
        self.with_store(who, |world| {
            world.hold_store = false;
            let served = world.serve_store();
            world.hold_store = true;
            world.run();
            served
        })
    }

    fn with_store<T>(&mut self, who: usize, act: impl FnOnce(&mut World) -> T) -> T {
        if who == 1 {
            let [a, b] = &mut self.worlds;
            std::mem::swap(&mut a.store, &mut b.store);
        }
        let result = act(&mut self.worlds[who]);
        if who == 1 {
            let [a, b] = &mut self.worlds;
            std::mem::swap(&mut a.store, &mut b.store);
        }
        result
    }

    fn settle(&mut self) {
        for _ in 0..8 {
            while self.serve(0) || self.serve(1) {}
            for who in 0..2 {
                self.with_store(who, |world| world.advance(Duration::from_millis(300)));
            }
        }
        while self.serve(0) || self.serve(1) {}
    }

    fn store(&self) -> &Store {
        &self.worlds[0].store
    }
}

pub(crate) fn token_edit() -> Edit {
    Edit::CreateToken {
        ttl: Duration::from_secs(3600),
        uses: 1,
        tags: BTreeSet::new(),
        needs_approval: false,
        stay: control::Stay::default(),
    }
}

#[test]
fn of_two_edits_at_once_one_is_decided_again() {
    let (mut pair, tenant) = Pair::new();
    let [a, b] = &mut pair.worlds;
    let (first, second) = (a.ask(Some(tenant), token_edit()), b.ask(Some(tenant), token_edit()));
    pair.settle();
    assert!(pair.worlds[0].answers[&first].is_ok() && pair.worlds[1].answers[&second].is_ok());
    assert!(pair.worlds[1].events.iter().any(|e| matches!(e, Event::CommitConflict { attempts: 1, .. })));
    for world in &pair.worlds {
        assert_eq!(world.directory(tenant).version().generation, Generation(3));
        assert_eq!(world.directory(tenant).tokens().count(), 2);
    }
}

#[test]
fn a_token_of_one_use_has_one_winner_on_two_servers() {
    let (mut pair, tenant) = Pair::new();
    let request = pair.worlds[0].ask(Some(tenant), token_edit());
    pair.settle();
    let Some(Ok(Answer::TokenCreated { secret, .. })) = pair.worlds[0].answers.remove(&request) else {
        panic!("a token")
    };
    let links = [pair.worlds[0].enrol(1, &secret), pair.worlds[1].enrol(2, &secret)];
    pair.settle();
    let outcome = |who: usize| {
        let node = pair.worlds[who].node(links[who]);
        (node.device.is_some(), node.refused.as_ref().map(|r| r.code))
    };
    assert_eq!((outcome(0), outcome(1)), ((true, None), (false, Some(Code::TokenUsed))));
    assert_eq!(pair.store().tenants[&tenant].rows.devices.len(), 1);
}

#[test]
fn an_edit_on_one_server_reaches_the_nodes_of_the_other() {
    let (mut pair, tenant) = Pair::new();
    let request = pair.worlds[0].ask(Some(tenant), token_edit());
    pair.settle();
    let Some(Ok(Answer::TokenCreated { secret, .. })) = pair.worlds[0].answers.remove(&request) else {
        panic!("a token")
    };
    let hub = pair.worlds[1].connect(Node::hub(900, 9, 51820));
    pair.settle();
    let link = pair.worlds[0].enrol(1, &secret);
    pair.settle();
    assert_eq!(pair.worlds[1].node(hub).snapshot().peers.len(), 1);
    assert_eq!(pair.worlds[0].node(link).snapshot().peers.len(), 2, "the hub attached elsewhere");
    let founded = pair.worlds[0]
        .ask(None, Edit::CreateTenant { name: label("work"), block: None, interface: HubInterface::Shared });
    pair.settle();
    assert!(pair.worlds[0].answers[&founded].is_ok());
    assert_eq!(pair.worlds[1].node(hub).snapshots.len(), 2, "the other server's hub carries it");
    pair.worlds.iter().for_each(World::assert_all_hold_their_plans);
}

fn two_tokens(pair: &mut Pair, tenant: TenantId) -> [OnboardingToken; 2] {
    let requests = [0, 1].map(|_| pair.worlds[0].ask(Some(tenant), token_edit()));
    pair.settle();
    requests.map(|request| match pair.worlds[0].answers.remove(&request) {
        Some(Ok(Answer::TokenCreated { secret, .. })) => *secret,
        other => panic!("a token: {other:?}"),
    })
}

#[test]
fn a_hint_for_a_device_at_another_server_is_passed_there_and_given_to_nobody_else() {
    let (mut pair, tenant) = Pair::new();
    let secrets = two_tokens(&mut pair, tenant);
    let links = [0, 1].map(|who| pair.worlds[who].enrol(who as u8 + 1, &secrets[who]));
    pair.settle();
    let [from, to] = [0, 1].map(|who| pair.worlds[who].device(links[who]));
    let say = |pair: &mut Pair, to| {
        pair.with_store(0, |world| world.say(links[0], Hint { to, sealed: vec![7; 9] }.into()));
        std::mem::take(&mut pair.worlds[0].passed)
    };
    let passed = say(&mut pair, to);
    assert_eq!(passed, [PassedHint { tenant, from, to, sealed: vec![7; 9] }]);
    for who in 0..2 {
        let hint = passed[0].clone();
        pair.with_store(who, |world| world.input(Input::Passed(hint)));
    }
    assert_eq!(pair.worlds[1].node(links[1]).hints, [(from, vec![7; 9])]);
    assert_eq!(pair.worlds[0].node(links[0]).hints, []);
    let stranger = PassedHint { tenant: TenantId::from_bytes([9; 16]), ..passed[0].clone() };
    pair.with_store(1, |world| world.input(Input::Passed(stranger)));
    assert_eq!(pair.worlds[1].node(links[1]).hints.len(), 1, "of another tenant");
    assert_eq!(say(&mut pair, DeviceId::from_bytes([9; 16])), [], "of nobody");
    assert_eq!(say(&mut pair, from), [], "who is here");
    let revoked = pair.worlds[1].ask(Some(tenant), Edit::RevokeDevice(to));
    pair.settle();
    assert!(pair.worlds[1].answers[&revoked].is_ok());
    assert_eq!(say(&mut pair, to), [], "who is revoked");
}

#[test]
fn a_hint_for_a_device_that_moved_to_another_server_goes_there_and_by_its_link_here() {
    let (mut pair, tenant) = Pair::new();
    let secrets = two_tokens(&mut pair, tenant);
    let [from, to] = [1, 2].map(|n| {
        let link = pair.worlds[0].enrol(n, &secrets[usize::from(n) - 1]);
        pair.settle();
        link
    });
    let device = pair.worlds[0].device(to);
    let mut there = Node::device(70, 2, Wish::Attach, secrets[1].anchor);
    there.device = Some(device);
    pair.worlds[1].connect(there);
    pair.settle();
    let say = |pair: &mut Pair| {
        pair.with_store(0, |world| world.say(from, Hint { to: device, sealed: vec![7; 9] }.into()));
        (std::mem::take(&mut pair.worlds[0].passed).len(), pair.worlds[0].node(to).hints.len())
    };
    assert_eq!(say(&mut pair), (0, 1), "nobody knows of it yet");
    pair.with_store(1, |world| world.advance(PRESENCE_SAVE_INTERVAL));
    let rows = pair.worlds[1].saved.clone();
    assert!(rows.iter().any(|row| row.device == device && row.attached));
    pair.with_store(0, |world| world.input(Input::Heard(rows)));
    assert_eq!(say(&mut pair), (1, 2), "its link here may be dead");
    pair.with_store(0, |world| {
        world.advance(PRESENCE_SAVE_INTERVAL);
        let beat = world.node(to).heartbeat(1);
        world.say(to, beat);
    });
    assert_eq!(say(&mut pair), (0, 3), "and is not");
}

#[test]
fn servers_hear_of_a_device_that_attaches_at_another_before_its_presence_is_saved() {
    let (mut pair, tenant) = Pair::new();
    let secrets = two_tokens(&mut pair, tenant);
    let links = [1, 2].map(|n| pair.worlds[0].enrol(n, &secrets[usize::from(n) - 1]));
    pair.settle();
    assert_eq!(pair.worlds[0].sighted, [], "who enrolls has no other link");
    let [from, moved] = links.map(|link| pair.worlds[0].device(link));
    let attach = |pair: &mut Pair, who: usize, link| {
        let mut node = Node::device(link, 2, Wish::Attach, secrets[1].anchor);
        node.device = Some(moved);
        let link = pair.with_store(who, |world| world.connect(node));
        let sighted = std::mem::take(&mut pair.worlds[who].sighted);
        assert_eq!(sighted.iter().map(|sighting| sighting.device).collect::<Vec<_>>(), [moved]);
        // Who says it hears of itself, too.
        for world in &mut pair.worlds {
            world.input(Input::Sighted(sighted[0]));
        }
        pair.settle();
        link
    };
    let say = |pair: &mut Pair| {
        let hint = Hint { to: moved, sealed: vec![7; 9] };
        pair.with_store(0, |world| world.say(links[0], hint.into()));
        std::mem::take(&mut pair.worlds[0].passed)
    };
    assert_eq!(say(&mut pair), []);
    let there = attach(&mut pair, 1, 70);
    let passed = say(&mut pair);
    assert_eq!(passed.len(), 1);
    pair.with_store(1, |world| world.input(Input::Passed(passed[0].clone())));
    assert_eq!(pair.worlds[1].node(there).hints, [(from, vec![7; 9])]);
    attach(&mut pair, 0, 71);
    assert_eq!(say(&mut pair), [], "it came back");
}

#[test]
fn of_two_tenants_of_one_name_one_is_founded() {
    let (mut pair, _) = Pair::new();
    let create = || Edit::CreateTenant { name: label("work"), block: None, interface: HubInterface::Shared };
    let requests = [pair.worlds[0].ask(None, create()), pair.worlds[1].ask(None, create())];
    pair.settle();
    assert!(pair.worlds[0].answers[&requests[0]].is_ok());
    let refusal = pair.worlds[1].answers[&requests[1]].as_ref().expect_err("the name is taken");
    assert_eq!(refusal.code, Code::NameTaken);
    assert_eq!(pair.store().tenants.len(), 2);
}

/// What a tenant got that asked for an interface of its own.
fn port_of(pair: &Pair, who: usize, request: RequestId) -> Result<Option<u16>, Code> {
    match &pair.worlds[who].answers[&request] {
        Ok(Answer::Tenant(tenant) | Answer::TenantCreated(tenant)) => Ok(tenant.hub_port),
        Ok(other) => panic!("{other:?}"),
        Err(refusal) => Err(refusal.code),
    }
}

fn create(name: &str, interface: HubInterface) -> Edit {
    Edit::CreateTenant { name: label(name), block: None, interface }
}

#[test]
fn of_two_own_interfaces_at_once_each_gets_a_port() {
    let (mut pair, home) = Pair::new();
    let founded = pair.worlds[0].ask(None, create("work", HubInterface::Shared));
    pair.settle();
    let Ok(Answer::TenantCreated(work)) = pair.worlds[0].answers[&founded].clone() else {
        panic!("a tenant")
    };
    let own = || Edit::SetInterface(HubInterface::Own(None));
    let requests = [pair.worlds[0].ask(Some(home), own()), pair.worlds[1].ask(Some(work.id), own())];
    pair.settle();
    assert_eq!([0, 1].map(|who| port_of(&pair, who, requests[who])), [Ok(Some(51_821)), Ok(Some(51_822))]);
    // Of two that name the same port, one is told who has it.
    let own = || Edit::SetInterface(HubInterface::Own(Some(40_000)));
    let requests = [pair.worlds[0].ask(Some(home), own()), pair.worlds[1].ask(Some(work.id), own())];
    pair.settle();
    let ports = [0, 1].map(|who| port_of(&pair, who, requests[who]));
    assert_eq!(ports, [Ok(Some(40_000)), Err(Code::HubPortTaken)]);
    // One is founded with its own while the other gets one, and the next free port is neither's.
    let own = HubInterface::Own(None);
    let back = pair.worlds[0].ask(Some(home), Edit::SetInterface(HubInterface::Shared));
    pair.settle();
    assert_eq!(port_of(&pair, 0, back), Ok(None));
    let requests = [
        pair.worlds[0].ask(Some(home), Edit::SetInterface(own)),
        pair.worlds[1].ask(None, create("third", own)),
    ];
    pair.settle();
    assert_eq!([0, 1].map(|who| port_of(&pair, who, requests[who])), [Ok(Some(51_821)), Ok(Some(51_823))]);
    pair.worlds.iter().for_each(World::assert_all_hold_their_plans);
}

#[test]
fn two_servers_give_out_as_many_own_interfaces_as_there_may_be() {
    let (mut pair, home) = Pair::new();
    for n in 1..OWN_INTERFACES_MAX {
        let founded = pair.worlds[0].ask(None, create(&format!("t{n}"), HubInterface::Own(None)));
        pair.settle();
        assert!(pair.worlds[0].answers[&founded].is_ok(), "{n}");
    }
    let founded = pair.worlds[0].ask(None, create("last", HubInterface::Shared));
    pair.settle();
    let Ok(Answer::TenantCreated(last)) = pair.worlds[0].answers[&founded].clone() else {
        panic!("a tenant")
    };
    // They name other ports: none of these is the other's.
    let own = |port| HubInterface::Own(Some(port));
    let set = |pair: &mut Pair, who: usize, tenant, interface| {
        pair.worlds[who].ask(Some(tenant), Edit::SetInterface(interface))
    };
    let requests = [set(&mut pair, 0, home, own(40_000)), set(&mut pair, 1, last.id, own(40_001))];
    pair.settle();
    let ports = [0, 1].map(|who| port_of(&pair, who, requests[who]));
    assert_eq!(ports, [Ok(Some(40_000)), Err(Code::QuotaReached)]);
    // The same of one that is founded with its own.
    set(&mut pair, 0, home, HubInterface::Shared);
    pair.settle();
    let requests =
        [set(&mut pair, 0, last.id, own(40_000)), pair.worlds[1].ask(None, create("late", own(40_001)))];
    pair.settle();
    let ports = [0, 1].map(|who| port_of(&pair, who, requests[who]));
    assert_eq!(ports, [Ok(Some(40_000)), Err(Code::QuotaReached)]);
    let with_ports = pair.store().tenants.values().filter(|stored| stored.rows.tenant.hub_port.is_some());
    assert_eq!(with_ports.count(), OWN_INTERFACES_MAX);
}

#[test]
fn an_edit_that_waits_for_others_ends_when_they_cannot_be_read() {
    let (mut pair, home) = Pair::new();
    let (work, late) = two_at_once(&mut pair, home);
    assert!(pair.serve(1), "the second lost");
    pair.worlds[0].store.down = true;
    assert!(pair.serve(1), "it looks for what others wrote");
    pair.worlds[0].store.down = false;
    assert_eq!(port_of(&pair, 1, late), Err(Code::StoreUnavailable));
    pair.settle();
    let again = pair.worlds[1].ask(Some(work), Edit::SetInterface(HubInterface::Own(None)));
    pair.settle();
    assert_eq!(port_of(&pair, 1, again), Ok(Some(51_822)), "its line goes on");
}

/// Two tenants ask two servers for an interface of their own at once: the second one's commit is under way, and the first
/// one's port is taken.
fn two_at_once(pair: &mut Pair, home: TenantId) -> (TenantId, RequestId) {
    let founded = pair.worlds[0].ask(None, create("work", HubInterface::Shared));
    pair.settle();
    let Ok(Answer::TenantCreated(work)) = pair.worlds[0].answers[&founded].clone() else {
        panic!("a tenant")
    };
    let own = || Edit::SetInterface(HubInterface::Own(None));
    pair.worlds[0].ask(Some(home), own());
    let late = pair.worlds[1].ask(Some(work.id), own());
    assert!(pair.serve(0), "the first won");
    (work.id, late)
}

#[test]
fn an_edit_that_waits_for_others_waits_for_no_more_than_they_had_written_when_it_lost() {
    let (mut pair, home) = Pair::new();
    let (work, late) = two_at_once(&mut pair, home);
    let behind = pair.worlds[1].ask(Some(work), token_edit());
    assert!(pair.serve(1), "the second lost");
    // Another server writes on and on, and says so each time.
    for _ in 0..20 {
        pair.worlds[0].ask(Some(home), token_edit());
        pair.serve(0);
        pair.with_store(1, |world| world.input(Input::Rumoured));
        pair.serve(1);
    }
    assert_eq!(port_of(&pair, 1, late), Ok(Some(51_822)));
    assert!(pair.worlds[1].answers[&behind].is_ok());
    pair.settle();
    pair.worlds.iter().for_each(World::assert_all_hold_their_plans);
}

#[test]
fn a_poll_that_began_before_an_edit_lost_tells_it_nothing() {
    let (mut pair, home) = Pair::new();
    let before = pair.store().standings();
    let (_, late) = two_at_once(&mut pair, home);
    pair.with_store(1, |world| world.input(Input::Rumoured));
    assert!(pair.serve(1), "the second lost");
    assert!(matches!(pair.worlds[1].store_queue.pop_front(), Some(Output::Poll)));
    pair.with_store(1, |world| world.input(Input::Polled(before)));
    let asked = &pair.worlds[1].store_queue;
    assert!(asked.len() == 1 && matches!(asked[0], Output::Poll), "it looks again first: {asked:?}");
    pair.settle();
    assert_eq!(port_of(&pair, 1, late), Ok(Some(51_822)));
    assert_eq!(pair.worlds[1].control.counters().conflicts, 1);
}

#[test]
fn a_clone_at_another_server_is_told_to_the_machine_whose_key_it_took() {
    let (mut pair, tenant) = Pair::new();
    let request = pair.worlds[0].ask(Some(tenant), token_edit());
    pair.settle();
    let Some(Ok(Answer::TokenCreated { secret, .. })) = pair.worlds[0].answers.remove(&request) else {
        panic!("a token")
    };
    let link = pair.worlds[0].enrol(1, &secret);
    pair.settle();
    let mut original = pair.worlds[0].disconnect(link);
    original.again(60);
    original.claims_key = true;
    let device = original.device;
    let link = pair.worlds[0].connect(original);
    pair.settle();
    assert!(pair.worlds[0].node(link).refused.is_none() && !pair.worlds[0].node(link).closed);

    let mut clone = Node::device(70, 1, Wish::Attach, secret.anchor);
    (clone.device, clone.claims_key) = (device, true);
    clone.wireguard = model::PrivateKey::from_bytes([200; 32]);
    clone.instance = model::Nonce::from_bytes([201; 32]);
    let key = clone.wireguard.public();
    let cloned = pair.worlds[1].connect(clone);
    pair.settle();
    let node = pair.worlds[1].node(cloned);
    assert!(node.refused.is_none() && node.told_keys.last() == Some(&key), "it has the key now");
    let refused = pair.worlds[0].node(link).refused.as_ref().map(|refusal| refusal.code);
    assert_eq!(refused, Some(Code::IdentityCloned));
}

#[test]
fn a_restored_database_is_read_anew() {
    let (mut world, tenant) = World::with_tenant();
    let token = world.token(tenant, 5);
    let link = world.enrol(1, &token);
    let store = std::mem::take(&mut world.store);
    let mut shared = World::over(store, true, 2);
    let mut node = world.disconnect(link);
    node.again(60);
    let link = shared.connect(node);
    shared.store.epoch = Epoch(1);
    for stored in shared.store.tenants.values_mut() {
        stored.rows.version.epoch = Epoch(1);
    }
    shared.advance(Duration::from_secs(1));
    assert_eq!(shared.directory(tenant).version().epoch, Epoch(1));
    shared.enrol(2, &token);
    assert_eq!(shared.node(link).held().map(|held| held.version.epoch), Some(Epoch(1)));
    shared.assert_all_hold_their_plans();
}

#[test]
fn a_tenant_that_a_restored_database_lacks_is_served_no_more() {
    let (mut world, tenant) = World::with_tenant();
    let late = world.found("late");
    let tokens = [late, tenant].map(|tenant| world.token(tenant, 5));
    let links = [world.enrol(1, &tokens[0]), world.enrol(2, &tokens[1])];
    let nodes = links.map(|link| world.disconnect(link));
    let mut shared = World::over(std::mem::take(&mut world.store), true, 2);
    let [lost, kept] = nodes.map(|mut node| {
        node.again(60 + node.link.0);
        shared.connect(node)
    });
    shared.store.epoch = Epoch(1);
    shared.store.tenants.remove(&late);
    for stored in shared.store.tenants.values_mut() {
        stored.rows.version.epoch = Epoch(1);
    }
    shared.advance(Duration::from_secs(1));
    assert!(shared.control.directory(late).is_none());
    assert!(
        shared.events.iter().any(|event| matches!(event, Event::TenantLost { tenant } if *tenant == late))
    );
    assert!(shared.node(lost).closed && !shared.node(kept).closed, "who is of the other tenant stays");
    let mut node = shared.disconnect(lost);
    node.again(80);
    let again = shared.connect(node);
    let refusal = shared.node(again).refused.as_ref().expect("nobody knows its anchor");
    assert_eq!(refusal.code, Code::AnchorUnknown);
    shared.found("late");
    shared.enrol(3, &tokens[1]);
    shared.assert_all_hold_their_plans();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    #[test]
    fn generations_never_fork(script in proptest::collection::vec((0..2usize, 0..4u8), 1..60)) {
        let (mut pair, tenant) = Pair::new();
        let mut asked = BTreeMap::new();
        for (n, (who, what)) in script.into_iter().enumerate() {
            if what == 0 {
                pair.serve(who);
            } else {
                let data = model::RecordData::parse("A", "10.0.0.1").expect("a record");
                let name = format!("r{n}").parse().expect("a name");
                let edit = Edit::AddRecord { name, data, ttl: None };
                let request = pair.worlds[who].ask(Some(tenant), edit);
                asked.insert((who, request), ());
            }
        }
        pair.settle();
        let granted = asked.keys().filter(|(who, request)| pair.worlds[*who].answers[request].is_ok()).count();
        let stored = &pair.store().tenants[&tenant];
        prop_assert_eq!(stored.rows.records.len(), granted, "what was granted is there, and nothing else");
        let generations: Vec<u64> = stored.log.iter().map(|(generation, _)| generation.0).collect();
        prop_assert_eq!(generations, (1..=stored.log.len() as u64).collect::<Vec<_>>());
        let held = |who: usize| pair.worlds[who].directory(tenant).held(NodeId::Hub);
        prop_assert_eq!(held(0), held(1));
        prop_assert_eq!(held(0).map(|held| held.version), Some(stored.rows.version));
        for (who, request) in asked.keys() {
            if let Err(refusal) = &pair.worlds[*who].answers[request] {
                prop_assert_eq!(refusal.code, Code::Conflict);
            }
        }
    }
}
