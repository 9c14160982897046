//! What every edit of a directory is answered: tables of grants and refusals.

use std::collections::BTreeSet;
use std::time::Duration;

use control::limits::{DEVICE_LIFE_MAX, IDLE_LEAST, IDLE_MOST, LABELS_MAX};
use control::{Answer, Edit, HubInterface, Stay};
use model::limits::{RECORDS_PER_NAME_MAX, TOKEN_TTL_MAX, TOKEN_USES_MAX};
use model::{Abilities, Code, DeviceId, Label, NodeId, PublicKey, RecordData, Standing, TenantId, TokenId};

use crate::node::{Node, Wish};
use crate::world::{World, label};

struct Case {
    world: World,
    tenant: TenantId,
}

impl Case {
    /// A tenant with the devices `laptop` and `nas`, and a pending `phone`.
    fn new() -> (Self, [DeviceId; 3]) {
        let (mut world, tenant) = World::with_tenant();
        let token = world.token(tenant, 2);
        let waits = world.token_with(tenant, 1, true);
        let mut enrol = |n: u8, token: &model::token::OnboardingToken, name: &str| {
            let wish = Wish::Enrol { token: Box::new(token.clone()), hostname: name.into() };
            let link = world.connect(Node::device(n.into(), n, wish, token.anchor));
            world.device(link)
        };
        let devices = [enrol(1, &token, "laptop"), enrol(2, &token, "nas"), enrol(3, &waits, "phone")];
        (Self { world, tenant }, devices)
    }

    fn edit(&mut self, edit: Edit) -> Result<Answer, Code> {
        let before = self.world.directory(self.tenant).version();
        let audits = self.world.audits.len() + self.world.store.audit.len();
        let action = edit.action();
        let result = self.world.edit(Some(self.tenant), edit).map_err(|refusal| refusal.code);
        assert_eq!(self.world.audits.len() + self.world.store.audit.len(), audits + 1, "one audit line");
        if let Err(code) = result {
            let audit = self.world.audits.last().expect("a line");
            assert_eq!((audit.action.as_str(), audit.refused), (action, Some(code)));
            assert_eq!(self.world.directory(self.tenant).version(), before, "a refusal changes nothing");
        }
        result
    }

    fn granted(&mut self, edit: Edit) {
        let text = format!("{edit:?}");
        let before = self.world.directory(self.tenant).version();
        assert!(self.edit(edit).is_ok(), "{text}");
        assert!(self.world.directory(self.tenant).version() > before, "{text} is a new generation");
    }

    fn no_change(&mut self, edit: Edit) {
        let text = format!("{edit:?}");
        let before = self.world.directory(self.tenant).version();
        assert!(self.edit(edit).is_ok(), "{text}");
        assert_eq!(self.world.directory(self.tenant).version(), before, "{text} was so already");
    }

    fn refused(&mut self, edit: Edit, expect: Code) {
        let text = format!("{edit:?}");
        assert_eq!(self.edit(edit).err(), Some(expect), "{text}");
    }
}

const NOBODY: DeviceId = DeviceId::from_bytes([0xee; 16]);

fn tags(count: usize) -> BTreeSet<Label> {
    (0..count).map(|n| label(&format!("tag{n}"))).collect()
}

#[test]
fn tokens() {
    let (mut case, _) = Case::new();
    let lasting = |ttl, uses, count, stay| Edit::CreateToken {
        ttl,
        uses,
        tags: tags(count),
        needs_approval: false,
        stay,
    };
    let create = |ttl, uses, count| lasting(ttl, uses, count, Stay::default());
    let hour = Duration::from_secs(3600);
    case.refused(create(Duration::ZERO, 1, 0), Code::BadRequest);
    case.refused(create(TOKEN_TTL_MAX + Duration::from_secs(1), 1, 0), Code::BadRequest);
    case.refused(create(hour, 0, 0), Code::BadRequest);
    case.refused(create(hour, TOKEN_USES_MAX + 1, 0), Code::BadRequest);
    case.refused(create(hour, 1, 33), Code::QuotaReached);
    case.granted(create(TOKEN_TTL_MAX, TOKEN_USES_MAX, 32));
    let expires = |after| Stay { expires_after: Some(after), idle_max: None };
    let idle = |idle| Stay { expires_after: None, idle_max: Some(idle) };
    for bad in
        [expires(Duration::ZERO), expires(DEVICE_LIFE_MAX * 2), idle(IDLE_LEAST / 2), idle(IDLE_MOST * 2)]
    {
        case.refused(lasting(hour, 1, 0, bad), Code::BadRequest);
    }
    case.granted(lasting(
        hour,
        1,
        0,
        Stay { expires_after: Some(DEVICE_LIFE_MAX), idle_max: Some(IDLE_LEAST) },
    ));
    case.refused(Edit::RevokeToken(TokenId::from_bytes([1; 16])), Code::TokenNotFound);
    let token = case.world.directory(case.tenant).tokens().next().expect("a token").id;
    case.granted(Edit::RevokeToken(token));
    case.no_change(Edit::RevokeToken(token));
}

#[test]
fn a_token_says_who_made_it_and_its_secret_is_not_stored() {
    let (mut case, _) = Case::new();
    let edit = Edit::CreateToken {
        ttl: Duration::from_secs(60),
        uses: 3,
        tags: tags(1),
        needs_approval: true,
        stay: Stay::default(),
    };
    let Ok(Answer::TokenCreated { token, secret }) = case.edit(edit) else { panic!("a token") };
    assert_eq!((token.key, secret.anchor), (secret.key(), case.world.anchor(case.tenant)));
    assert_eq!(token.created_by, crate::world::admin());
    assert_eq!(token.expires_at, case.world.now.wall + Duration::from_secs(60));
    let rows = format!("{:?}", case.world.store.tenants[&case.tenant].rows.tokens);
    let text = secret.expose();
    assert!(!rows.contains(text.split('_').nth(2).expect("a seed")));
}

#[test]
fn devices() {
    let (mut case, [laptop, nas, phone]) = Case::new();
    case.refused(Edit::ApproveDevice(NOBODY), Code::DeviceNotFound);
    case.granted(Edit::ApproveDevice(phone));
    case.no_change(Edit::ApproveDevice(phone));

    let rename = |device, name| Edit::RenameDevice { device, name: label(name) };
    case.refused(rename(NOBODY, "x"), Code::DeviceNotFound);
    case.refused(rename(laptop, "nas"), Code::NameTaken);
    case.refused(rename(laptop, "hub"), Code::NameReserved);
    case.refused(rename(laptop, "localhost"), Code::NameReserved);
    case.no_change(rename(laptop, "laptop"));
    case.granted(rename(laptop, "desk"));
    case.granted(rename(nas, "laptop"));

    let tag = |device, count| Edit::TagDevice { device, tags: tags(count) };
    case.refused(tag(NOBODY, 1), Code::DeviceNotFound);
    case.refused(tag(nas, 33), Code::QuotaReached);
    case.no_change(tag(nas, 0));
    case.granted(tag(nas, 2));

    case.refused(Edit::RevokeDevice(NOBODY), Code::DeviceNotFound);
    case.granted(Edit::RevokeDevice(nas));
    case.no_change(Edit::RevokeDevice(nas));
    case.refused(Edit::ApproveDevice(nas), Code::DeviceRevoked);
    case.refused(rename(nas, "back"), Code::DeviceRevoked);
    case.refused(tag(nas, 1), Code::DeviceRevoked);
    case.granted(rename(laptop, "laptop"));
}

#[test]
fn labels_are_bounded_and_replaced_as_a_whole() {
    let (mut case, [laptop, ..]) = Case::new();
    let labels = |count: usize| (0..count).map(|n| (label(&format!("key{n}")), label("value"))).collect();
    let set = |count| Edit::LabelDevice { device: laptop, labels: labels(count) };
    case.refused(Edit::LabelDevice { device: NOBODY, labels: labels(1) }, Code::DeviceNotFound);
    case.refused(set(LABELS_MAX + 1), Code::QuotaReached);
    case.no_change(set(0));
    case.granted(set(LABELS_MAX));
    case.granted(set(1));
    let row = case.world.directory(case.tenant).device(laptop).expect("a device");
    assert_eq!(row.labels, labels(1));
}

#[test]
fn an_expired_device_is_nobodys_peer_until_it_gets_more_time() {
    let (mut case, [laptop, nas, phone]) = Case::new();
    let hour = Duration::from_secs(3600);
    let until = |device, after| Edit::SetExpiry { device, after };
    case.refused(until(laptop, Some(Duration::ZERO)), Code::BadRequest);
    case.refused(until(laptop, Some(DEVICE_LIFE_MAX * 2)), Code::BadRequest);
    case.no_change(until(laptop, None));
    case.no_change(Edit::ExpireDevice(laptop));
    case.granted(until(laptop, Some(hour)));
    case.granted(until(phone, Some(hour)));
    case.no_change(Edit::ExpireDevice(laptop));
    case.world.advance(hour);
    case.granted(Edit::ExpireDevice(laptop));
    case.no_change(Edit::ExpireDevice(laptop));
    case.granted(Edit::ExpireDevice(phone));
    case.refused(Edit::ApproveDevice(phone), Code::DeviceExpired);

    let directory = case.world.directory(case.tenant);
    let key = directory.device(laptop).expect("a device").wireguard;
    let plan = |node| directory.plan(NodeId::Device(node)).expect("a plan");
    assert!(plan(nas).peers.get(&key).is_none(), "its key is nobody's");
    assert!(plan(nas).zone.names.get(&"laptop.home.internal".parse().expect("a name")).is_none());
    assert_eq!((plan(laptop).own.standing, plan(laptop).peers.len()), (Standing::Expired, 0));
    assert_eq!(directory.live_count(), 3, "its name is kept");
    case.world.assert_all_hold_their_plans();

    case.granted(until(laptop, None));
    case.granted(until(phone, Some(hour)));
    let standing = |case: &Case, id| case.world.directory(case.tenant).device(id).map(|row| row.standing);
    assert_eq!(standing(&case, laptop), Some(Standing::Active));
    assert_eq!(standing(&case, phone), Some(Standing::Pending), "it was not approved before");
    case.world.assert_all_hold_their_plans();
}

#[test]
fn who_does_not_know_of_expiry_waits_as_for_an_approval() {
    assert_eq!(Standing::Expired.told_to(Abilities::PATHS), Standing::Pending);
    assert_eq!(Standing::Closed.told_to(Abilities::NONE), Standing::Pending);
    for standing in Standing::ALL {
        assert_eq!(standing.told_to(Abilities::KNOWN), standing);
    }
}

#[test]
fn only_ephemeral_devices_go_when_nobody_hears_them() {
    let (mut case, [laptop, ..]) = Case::new();
    let stay = Stay { expires_after: Some(Duration::from_secs(60)), idle_max: Some(IDLE_LEAST) };
    let edit = Edit::CreateToken {
        ttl: Duration::from_secs(60),
        uses: 1,
        tags: tags(0),
        needs_approval: false,
        stay,
    };
    let Ok(Answer::TokenCreated { secret, .. }) = case.edit(edit) else { panic!("a token") };
    let enrolled_at = case.world.now.wall;
    let link = case.world.enrol(40, &secret);
    let device = case.world.device(link);
    let row = case.world.directory(case.tenant).device(device).expect("a device").clone();
    assert_eq!(
        (row.idle_max, row.expires_at),
        (Some(IDLE_LEAST), Some(enrolled_at + Duration::from_secs(60)))
    );
    case.refused(Edit::RemoveIdle(laptop), Code::BadRequest);
    case.granted(Edit::RemoveIdle(device));
    let plain = Edit::RenameDevice { device: laptop, name: row.name };
    case.granted(plain);
}

#[test]
fn plain_peers() {
    let (mut case, [laptop, ..]) = Case::new();
    let add = |name: &str, key: u8| Edit::AddPlain {
        name: label(name),
        wireguard: PublicKey::from_bytes([key; 32]),
        tags: tags(1),
    };
    case.refused(add("cam", 70), Code::HubUnknown);
    let hub = case.world.connect(Node::hub(900, 9, 51820));
    let taken = case.world.directory(case.tenant).device(laptop).expect("a device").wireguard;
    case.refused(Edit::AddPlain { name: label("cam"), wireguard: taken, tags: tags(0) }, Code::KeyTaken);
    let of_hub = case.world.node(hub).wireguard.public();
    case.refused(Edit::AddPlain { name: label("cam"), wireguard: of_hub, tags: tags(0) }, Code::KeyTaken);
    case.refused(add("laptop", 70), Code::NameTaken);
    case.refused(add("hub", 70), Code::NameReserved);
    let many =
        Edit::AddPlain { name: label("cam"), wireguard: PublicKey::from_bytes([70; 32]), tags: tags(33) };
    case.refused(many, Code::QuotaReached);
    case.granted(add("cam", 70));
    case.refused(add("cam", 71), Code::NameTaken);
    case.refused(add("cam-2", 70), Code::KeyTaken);

    let key = PublicKey::from_bytes([70; 32]);
    let directory = case.world.directory(case.tenant);
    let row = directory.device_named(&label("cam")).expect("a device").clone();
    assert!(row.is_plain() && row.identity().is_none());
    let nets = directory.addresses(&row).expect("addresses").host_nets().to_vec();
    let at_hub =
        case.world.node(hub).snapshots[&case.tenant].1.peers.get(&key).expect("a peer of the hub").clone();
    assert_eq!(at_hub.allowed, nets);
    let plan = directory.plan(NodeId::Device(laptop)).expect("a plan");
    assert!(plan.peers.get(&key).is_none(), "devices reach it through the hub, as the rest of the block");
    assert!(plan.zone.names.get(&"cam.home.internal".parse().expect("a name")).is_some());
    case.world.assert_all_hold_their_plans();
    case.granted(Edit::RevokeDevice(row.id));
    assert!(case.world.node(hub).snapshots[&case.tenant].1.peers.get(&key).is_none());
    case.granted(add("cam", 70));
}

#[test]
fn records_that_lead_to_a_device_of_old_are_known() {
    let (mut case, [laptop, nas, _]) = Case::new();
    let mut add = |name: &str, kind: &str, value: &str| {
        let data = RecordData::parse(kind, value).expect("a record");
        case.granted(Edit::AddRecord { name: name.parse().expect("a name"), data, ttl: None });
    };
    add("www", "CNAME", "laptop");
    add("*.laptop", "CNAME", "laptop.home.internal");
    add("_http._tcp", "SRV", "10 5 8080 laptop.home.internal");
    add("_http._tcp", "SRV", "20 5 8080 nas.home.internal");
    add("out", "CNAME", "laptop.example.org");
    add("note", "TXT", "laptop.home.internal");
    let dangling = |case: &Case, name: &str| {
        let found = case.world.directory(case.tenant).dangling_at(&label(name));
        found.iter().map(|entry| format!("{} {}", entry.name, entry.data)).collect::<Vec<_>>()
    };
    let rename = |device, name| Edit::RenameDevice { device, name: label(name) };
    assert!(dangling(&case, "laptop").is_empty(), "it is there");
    case.granted(rename(laptop, "desk"));
    let left = [
        "*.laptop.home.internal laptop.home.internal",
        "_http._tcp.home.internal 10 5 8080 laptop.home.internal",
        "www.home.internal laptop.home.internal",
    ];
    assert_eq!(dangling(&case, "laptop"), left);
    assert!(dangling(&case, "desk").is_empty());
    case.granted(Edit::RevokeDevice(nas));
    assert_eq!(dangling(&case, "nas"), ["_http._tcp.home.internal 20 5 8080 nas.home.internal"]);
    case.granted(Edit::AddRecord {
        name: "nas".parse().expect("a name"),
        data: RecordData::parse("A", "10.0.0.1").expect("a record"),
        ttl: None,
    });
    assert!(dangling(&case, "nas").is_empty(), "a record stands in");
    case.granted(rename(laptop, "laptop"));
    assert!(dangling(&case, "laptop").is_empty(), "it is back");
}

#[test]
fn records() {
    let (mut case, [laptop, ..]) = Case::new();
    let data = |kind: &str, value: &str| RecordData::parse(kind, value).expect("a record");
    let add = |name: &str, kind: &str, value: &str| Edit::AddRecord {
        name: name.parse().expect("a name"),
        data: data(kind, value),
        ttl: None,
    };
    let remove = |name: &str, kind: &str, value: &str| Edit::RemoveRecord {
        name: name.parse().expect("a name"),
        data: data(kind, value),
    };
    case.granted(add("git", "A", "10.0.0.1"));
    case.no_change(add("git.home.internal", "A", "10.0.0.1"));
    case.granted(add("git", "AAAA", "2001:db8::1"));
    case.refused(add("git", "CNAME", "nas.home.internal"), Code::RecordInvalid);
    case.granted(add("www", "CNAME", "nas.home.internal"));
    case.granted(add("short", "CNAME", "nas"));
    case.no_change(add("short", "CNAME", "nas.home.internal"));
    case.granted(remove("short", "CNAME", "nas"));
    case.refused(remove("short", "CNAME", "nas.home.internal"), Code::RecordNotFound);
    case.refused(add("www", "TXT", "x"), Code::RecordInvalid);
    case.refused(add("www", "CNAME", "laptop.home.internal"), Code::RecordInvalid);
    case.refused(add("laptop", "TXT", "x"), Code::NameTaken);
    case.refused(add("phone", "TXT", "x"), Code::NameTaken);
    case.refused(add("hub.home.internal", "A", "10.0.0.1"), Code::NameReserved);
    case.refused(add("home.internal", "CNAME", "nas.home.internal"), Code::RecordInvalid);
    case.granted(add("home.internal", "A", "10.0.0.1"));
    case.granted(add("*.apps", "A", "10.0.0.2"));
    case.granted(add("*.apps", "TXT", "every one of them"));
    case.granted(add("*", "AAAA", "2001:db8::2"));
    case.granted(add("*.laptop.home.internal", "CNAME", "laptop.home.internal"));
    case.refused(add("*.laptop", "A", "10.0.0.2"), Code::RecordInvalid);
    case.refused(add("all", "CNAME", "*.apps.home.internal"), Code::RecordInvalid);
    case.granted(add("_http._tcp", "SRV", "10 5 8080 laptop.home.internal"));
    case.granted(add("_http._tcp", "SRV", "20 5 8080 nas.home.internal"));
    case.no_change(add("_http._tcp", "srv", "010 5 8080 LAPTOP.home.internal."));
    case.granted(add("_ssh._tcp.laptop", "SRV", "0 0 22 laptop.home.internal"));
    case.refused(add("_http._tcp", "CNAME", "laptop.home.internal"), Code::RecordInvalid);
    case.refused(add("_http._tcp", "SRV", "1 1 1 *.apps.home.internal"), Code::RecordInvalid);
    case.refused(add("laptop", "SRV", "0 0 22 laptop.home.internal"), Code::NameTaken);
    case.granted(add("_acme.laptop", "TXT", "x"));
    let too_long = ["a".repeat(60), "b".repeat(60), "c".repeat(60), "d".repeat(60)].join(".");
    case.refused(add(&too_long, "A", "10.0.0.1"), Code::NameInvalid);
    let name = "git".parse().expect("a name");
    case.refused(
        Edit::AddRecord { name, data: data("A", "10.0.0.9"), ttl: Some(604_801) },
        Code::RecordInvalid,
    );
    for n in 0..RECORDS_PER_NAME_MAX {
        case.granted(add("many", "A", &format!("10.1.0.{n}")));
    }
    case.refused(add("many", "A", "10.2.0.1"), Code::QuotaReached);

    let rename = |name| Edit::RenameDevice { device: laptop, name: label(name) };
    case.refused(rename("git"), Code::NameTaken);
    case.refused(remove("git", "A", "10.9.9.9"), Code::RecordNotFound);
    case.refused(remove("nothing", "A", "10.0.0.1"), Code::RecordNotFound);
    case.granted(remove("git", "A", "10.0.0.1"));
    case.granted(remove("git", "AAAA", "2001:db8::1"));
    case.granted(remove("*.apps", "A", "10.0.0.2"));
    case.refused(remove("*.apps", "A", "10.0.0.2"), Code::RecordNotFound);
    case.granted(remove("_http._tcp", "SRV", "10 5 8080 laptop.home.internal"));
    case.granted(rename("git"));
}

#[test]
fn names_of_new_devices_avoid_what_is_there() {
    let (mut case, _) = Case::new();
    let token = case.world.token(case.tenant, 10);
    case.granted(Edit::AddRecord {
        name: "git".parse().expect("a name"),
        data: RecordData::parse("A", "10.0.0.1").expect("a record"),
        ttl: None,
    });
    let wishes = ["laptop", "LAPTOP.local", "git", "hub", "localhost", "日本"];
    let mut names = Vec::new();
    for (n, hostname) in (10..).zip(wishes) {
        let wish = Wish::Enrol { token: Box::new(token.clone()), hostname: hostname.into() };
        let link = case.world.connect(Node::device(n.into(), n, wish, token.anchor));
        names.push(case.world.node(link).snapshot().own.name.to_string());
    }
    assert_eq!(names[..5], ["laptop-2", "laptop-3", "git-2", "hub-2", "localhost-2"]);
    assert!(names[5].starts_with("device-"), "{}", names[5]);
}

#[test]
fn addresses_are_stable_and_rest_for_a_day() {
    let mut world = World::empty();
    let block = Some("10.9.0.0/29".parse().expect("a net"));
    let Ok(Answer::TenantCreated(tenant)) =
        world.edit(None, Edit::CreateTenant { name: label("tiny"), block, interface: HubInterface::Shared })
    else {
        panic!("a tenant")
    };
    let token = world.token(tenant.id, 100);
    let links: Vec<_> = (1..=5).map(|n| world.enrol(n, &token)).collect();
    let sixth = world.enrol(6, &token);
    assert_eq!(world.node(sixth).refused.as_ref().map(|r| r.code), Some(Code::BlockExhausted));
    let address = world.node(links[2]).snapshot().own.addresses;
    world.edit(Some(tenant.id), Edit::RevokeDevice(world.device(links[2]))).expect("revoked");
    let seventh = world.enrol(7, &token);
    assert_eq!(world.node(seventh).refused.as_ref().map(|r| r.code), Some(Code::BlockExhausted));
    world.advance(Duration::from_secs(24 * 3600));
    let token = world.token(tenant.id, 1);
    let eighth = world.enrol(8, &token);
    assert_eq!(world.node(eighth).snapshot().own.addresses, address);
}

#[test]
fn edits_that_fit_no_tenant_are_refused() {
    let (mut case, _) = Case::new();
    let create = Edit::CreateTenant { name: label("x"), block: None, interface: HubInterface::Shared };
    case.refused(create, Code::BadRequest);
    let refusal = case.world.edit(None, Edit::DeleteTenant).expect_err("no tenant is named");
    assert_eq!(refusal.code, Code::BadRequest);
    let stranger = Some(TenantId::from_bytes([9; 16]));
    let refusal = case.world.edit(stranger, Edit::DeleteTenant).expect_err("no such tenant");
    assert_eq!(refusal.code, Code::TenantNotFound);
}

#[test]
fn a_full_line_refuses_and_the_rest_is_done_in_order() {
    let (mut case, [laptop, ..]) = Case::new();
    case.world.hold_store = true;
    let rename = |n: usize| Edit::RenameDevice { device: laptop, name: label(&format!("n{n}")) };
    let most = control::limits::EDITS_QUEUED_MAX;
    let requests: Vec<_> = (0..most + 2).map(|n| case.world.ask(Some(case.tenant), rename(n))).collect();
    let last = requests.last().expect("many");
    assert!(matches!(&case.world.answers[last], Err(r) if r.code == Code::RateLimited));
    assert_eq!(case.world.answers.len(), 1, "one under way, the others wait");
    assert_eq!(case.world.store_queue.len(), 1);
    case.world.hold_store = false;
    case.world.run();
    assert_eq!(case.world.answers.len(), most + 2);
    let name = case.world.directory(case.tenant).device(laptop).map(|d| d.name.to_string());
    assert_eq!(name, Some(format!("n{most}")));
}
