//! What devices are told of SSH, what they ask for their sshd, and what they say of it.

use std::collections::BTreeSet;
use std::time::Duration;

use control::{Answer, Edit, Input, LinkId, SshRole};
use model::limits::SSH_LOGINS_MAX;
use model::wire::{CertifyHost, Frame, Remark, SshInstalled, SshLogin, SshLogins};
use model::{Abilities, CaKey, CaKind, Code, HostKey, Revoked, SshSerial, TenantId, Timestamp};

use crate::node::{Node, Wish};
use crate::world::{World, label};

fn mesh(count: u8) -> (World, TenantId, Vec<LinkId>) {
    let (mut world, tenant) = World::with_tenant();
    let token = world.token(tenant, 1000);
    let links = (1..=count).map(|n| world.enrol(n, &token)).collect();
    (world, tenant, links)
}

fn key(n: u8) -> HostKey {
    CaKey::from_bytes([n; 32]).to_string().parse().expect("a key")
}

/// Who may be whom on a device, as its snapshot says: `login: identities`.
fn logins(world: &World, link: LinkId) -> Vec<String> {
    let own = world.node(link).snapshot().own.ssh.clone().expect("it reads SSH");
    let line = |login: &model::LoginGrants| {
        let who: Vec<String> = login.grants.iter().map(|grant| grant.identity.to_string()).collect();
        format!("{}: {}", login.login, who.join(" "))
    };
    own.logins.iter().map(line).collect()
}

fn set_role(world: &mut World, tenant: TenantId, role: SshRole) {
    assert!(matches!(world.edit(Some(tenant), Edit::SetSshRole(role)), Ok(Answer::SshRole(_))));
}

#[test]
fn devices_that_read_it_are_told_whom_to_trust_and_others_hear_nothing() {
    let (mut world, tenant, links) = mesh(2);
    let token = world.token(tenant, 1);
    let wish = Wish::Enrol { token: Box::new(token.clone()), hostname: "old".into() };
    let mut node = Node::device(50, 50, wish, token.anchor);
    node.abilities = Abilities::PATHS;
    let old = world.connect(node);
    let trust = |link| world.node(link).snapshot().ssh.clone();
    let told = trust(links[0]).expect("it reads SSH");
    assert_eq!(
        told.keys.iter().map(|key| (key.kind, key.signs)).collect::<Vec<_>>(),
        [(CaKind::User, true), (CaKind::Host, true)]
    );
    assert_eq!((trust(old), world.node(old).snapshot().own.ssh.clone()), (None, None));

    let patches = world.control.counters().patches_sent;
    let what = [Revoked::Serial(SshSerial::from_number(7).expect("a serial"))];
    let until = Timestamp::from_unix_micros(i64::MAX);
    let edit = Edit::RevokeCertificates { kind: CaKind::User, what: what.clone().into(), until };
    world.edit(Some(tenant), edit).expect("revoked");
    world.edit(Some(tenant), Edit::RotateAuthority(CaKind::Host)).expect("rotates");
    for link in &links {
        let told = world.node(*link).snapshot().ssh.clone().expect("it reads SSH");
        assert!(told.revoked.contains_key(&(CaKind::User, what[0].clone())));
        assert_eq!(told.trusted(CaKind::Host).count(), 2);
    }
    let sent = world.control.counters();
    assert_eq!((sent.patches_sent - patches, sent.resyncs), (4, 0), "two patches for each that reads it");
    world.assert_all_hold_their_plans();
}

#[test]
fn administrators_are_root_and_themselves_until_the_role_says_otherwise() {
    let (mut world, tenant, links) = mesh(2);
    assert!(logins(&world, links[0]).is_empty(), "nobody administers yet");
    let names: BTreeSet<_> = ["ada", "9bob"].map(label).into();
    world.edit(Some(tenant), Edit::SetAdministrators(names)).expect("set");
    assert_eq!(logins(&world, links[1]), ["ada: u:ada", "root: u:9bob u:ada"]);

    set_role(&mut world, tenant, SshRole { logins: BTreeSet::new(), ..SshRole::default_role() });
    assert_eq!(logins(&world, links[0]), ["ada: u:ada"]);
    let gone = world.edit(Some(tenant), Edit::DeleteSshRole(SshRole::default_name()));
    assert_eq!(gone.map_err(|refusal| refusal.code).err(), Some(Code::RoleKept));
    world.assert_all_hold_their_plans();
}

#[test]
fn the_strictest_role_of_a_person_says_how_long_a_certificate_lives() {
    let (mut world, tenant, _) = mesh(1);
    let identity: model::SshIdentity = "u:bob".parse().expect("an identity");
    for (name, minutes) in [("prod", 15), ("dev", 12 * 60)] {
        let role = SshRole {
            name: label(name),
            administrators: false,
            identities: [identity.clone()].into(),
            session_max: Duration::from_secs(60 * minutes),
            ..SshRole::default_role()
        };
        set_role(&mut world, tenant, role);
    }
    let directory = world.control.directory(tenant).expect("there");
    assert_eq!(directory.ssh_roles_of(&identity).expect("two").0, Duration::from_secs(15 * 60));
}

#[test]
fn what_a_role_permits_holds_on_its_hosts_alone_and_is_told_to_who_reads_it() {
    let (mut world, tenant, links) = mesh(2);
    let token = world.token(tenant, 1);
    let wish = Wish::Enrol { token: Box::new(token.clone()), hostname: "old".into() };
    let mut node = Node::device(50, 50, wish, token.anchor);
    node.abilities = Abilities::PATHS.and(Abilities::SSH);
    let old = world.connect(node);
    let web: BTreeSet<_> = [label("web")].into();
    for device in [world.device(links[1]), world.device(old)] {
        world.edit(Some(tenant), Edit::TagDevice { device, tags: web.clone() }).expect("tagged");
    }
    let role = |name: &str, login: &str, tags: BTreeSet<_>, permits: &[ca::Permit]| SshRole {
        name: label(name),
        administrators: false,
        identities: ["u:bob".parse().expect("an identity")].into(),
        own_login: false,
        logins: [login.parse().expect("a login")].into(),
        tags,
        permits: permits.iter().copied().collect(),
        ..SshRole::default_role()
    };
    set_role(&mut world, tenant, role("all", "root", BTreeSet::new(), &[]));
    set_role(&mut world, tenant, role("web", "root", web.clone(), &[ca::Permit::PortForwarding]));
    set_role(&mut world, tenant, role("www", "www", web, &[ca::Permit::AgentForwarding]));
    let permits = |link| {
        let own = world.node(link).snapshot().own.ssh.clone().expect("it reads SSH");
        let of = |login: model::LoginGrants| (login.login.to_string(), login.grants[0].permits.clone());
        own.logins.into_iter().map(of).collect::<Vec<_>>()
    };
    let line = |login: &str, permits: Option<Vec<ca::Permit>>| (login.to_owned(), permits);
    assert_eq!(permits(links[0]), [line("root", Some(vec![]))]);
    let (forwards, agent) = (vec![ca::Permit::PortForwarding], vec![ca::Permit::AgentForwarding]);
    assert_eq!(permits(links[1]), [line("root", Some(forwards)), line("www", Some(agent))]);
    assert_eq!(permits(old), [line("root", None), line("www", None)], "it would not understand");
    world.assert_all_hold_their_plans();
}

#[test]
fn a_role_of_a_tag_reaches_the_hosts_with_it_and_no_others() {
    let (mut world, tenant, links) = mesh(3);
    let tagged = world.device(links[1]);
    let tags: BTreeSet<_> = [label("web")].into();
    world.edit(Some(tenant), Edit::TagDevice { device: tagged, tags: tags.clone() }).expect("tagged");
    let role = SshRole {
        name: label("web"),
        administrators: false,
        identities: ["u:bob", "s:deploy"].map(|text| text.parse().expect("an identity")).into(),
        own_login: false,
        logins: ["www".parse().expect("a login")].into(),
        tags,
        labels: [].into(),
        ..SshRole::default_role()
    };
    let before = world.control.counters().patches_sent;
    set_role(&mut world, tenant, role);
    assert_eq!(world.control.counters().patches_sent - before, 1, "one host is another now");
    let all: Vec<_> = links.iter().map(|link| logins(&world, *link)).collect();
    assert_eq!(all, [vec![], vec!["www: u:bob s:deploy".to_owned()], vec![]]);

    world.edit(Some(tenant), Edit::TagDevice { device: tagged, tags: BTreeSet::new() }).expect("untagged");
    assert!(logins(&world, links[1]).is_empty());
    world.edit(Some(tenant), Edit::DeleteSshRole(label("web"))).expect("gone");
    world.assert_all_hold_their_plans();
}

#[test]
fn a_host_asks_once_at_a_time_and_its_key_is_known_to_all() {
    let (mut world, tenant, links) = mesh(2);
    let device = world.device(links[0]);
    for _ in 0..3 {
        world.say(links[0], CertifyHost { key: key(7) }.into());
    }
    assert_eq!(world.certify, [(links[0], device, key(7))], "while one is being signed no other is begun");
    let hosts = |world: &World, link| world.node(link).snapshot().ssh.clone().expect("it reads SSH").hosts;
    assert_eq!(hosts(&world, links[1]).get(&device), Some(&key(7)));

    world.input(Input::Certified { link: links[0], result: Ok("a certificate".into()) });
    world.say(links[0], CertifyHost { key: key(8) }.into());
    assert_eq!(world.certify.len(), 2);
    assert_eq!(hosts(&world, links[1]).get(&device), Some(&key(8)), "the machine has another key now");
    world.edit(Some(tenant), Edit::RevokeDevice(device)).expect("revoked");
    assert!(hosts(&world, links[1]).is_empty());
    world.assert_all_hold_their_plans();
}

#[test]
fn who_waits_for_approval_gets_no_certificate() {
    let (mut world, tenant) = World::with_tenant();
    let token = world.token_with(tenant, 1, true);
    let link = world.enrol(1, &token);
    world.say(link, CertifyHost { key: key(7) }.into());
    assert!(world.certify.is_empty());
    assert!(world.directory(tenant).host_key(world.device(link)).is_none());
}

#[test]
fn what_is_installed_is_kept_soon_and_kept_again_if_the_store_was_gone() {
    let (mut world, _, links) = mesh(1);
    let said = |n: u8| SshInstalled { hosts: vec![CaKey::from_bytes([n; 32])], ..SshInstalled::default() };
    world.say(links[0], Frame::from(said(1)));
    world.say(links[0], Frame::from(said(2)));
    assert!(world.installed.is_empty());
    world.advance(Duration::from_secs(1));
    let [row] = &world.installed[..] else { panic!("one row: {:?}", world.installed) };
    assert_eq!(row.hosts, said(2).hosts, "the last word counts");
    let rows = std::mem::take(&mut world.installed);
    world.input(Input::InstalledUnsaved(rows));
    world.advance(Duration::from_secs(5));
    assert_eq!(world.installed.len(), 1);
}

#[test]
fn logins_are_noted_one_frame_after_the_other() {
    let (mut world, _, links) = mesh(1);
    let login = |number| SshLogin {
        number,
        serial: SshSerial::from_number(7).expect("a serial"),
        id: Remark::new("u:ada@home"),
        login: Remark::new("root"),
        from: Remark::new("100.64.0.3"),
    };
    let said = |numbers: std::ops::Range<u64>| SshLogins { logins: numbers.map(login).collect() };
    world.say(links[0], said(1..3).into());
    world.say(links[0], said(1..3).into());
    assert_eq!(world.logins, [vec![1, 2]], "while some are being noted no others are taken");
    world.input(Input::LoginsNoted { link: links[0], through: 0 });
    world.say(links[0], said(1..3).into());
    world.input(Input::LoginsNoted { link: links[0], through: 2 });
    world.say(links[0], said(3..4).into());
    assert_eq!(world.logins, [vec![1, 2], vec![1, 2], vec![3]]);
    let many = SSH_LOGINS_MAX as u64 + 2;
    world.say(links[0], said(1..many).into());
    assert!(world.node(links[0]).closed, "no device says so many at once");
}
