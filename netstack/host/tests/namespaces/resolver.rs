//! The machine's resolver by D-Bus, with a systemd-resolved that only remembers (`scripts/test-resolver` has a real one).

use std::fs;
use std::path::Path;

use engine::Change;
use host::Host;
use host::drive::Setup;
use host::resolver::survey::survey;
use host::resolver::{Owner, ResolverConfig, ResolverMode};
use model::NodeId;
use model::wire::Remark;

use crate::alone::{alone, wait_for};
use crate::bus::{Age, Bus, Resolved, link_to_stub, network_manager};
use crate::changes::{config, resolver};
use crate::drive::{GLANCED_REPAIR_TIME_MAX, Running, SETTLE_TIME_MAX, device, inside, start};
use crate::server::{Server, Tenant, device_id};

/// Whoever owns the machine's resolver, as it is by default.
fn automatic(directory: &Path) -> ResolverConfig {
    ResolverConfig { mode: ResolverMode::Auto, file: directory.join("resolv.conf"), ..ResolverConfig::off() }
}

fn automatic_host(directory: &Path) -> Host {
    let mut config = config(directory);
    config.resolver = automatic(directory);
    let mut host = Host::open(config).unwrap();
    for change in [Change::CreateInterface, Change::SetUp] {
        host.apply(&change).unwrap();
    }
    host
}

#[test]
fn resolved_is_told_of_our_names_and_of_nothing_else() {
    if !alone("resolver::resolved_is_told_of_our_names_and_of_nothing_else") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let _bus = Bus::start(directory.path());
    let resolved = Resolved::start(Age::New);
    let mut host = automatic_host(directory.path());
    link_to_stub(&directory.path().join("resolv.conf"));
    assert_eq!(host.report().resolver, Owner::Resolved);
    assert_eq!(host.observe().unwrap().resolver, None);
    for _ in 0..2 {
        host.apply(&Change::SetResolver(resolver())).unwrap();
        assert_eq!(host.observe().unwrap().resolver, Some(resolver()));
    }
    let told = resolved.told("wg0").unwrap();
    assert_eq!(told.domains[0], ("home.internal".into(), false), "searched, and routed here");
    assert!(told.domains[1..].iter().all(|(zone, only_routes)| zone.ends_with(".arpa") && *only_routes));
    assert_eq!(told.servers[0], (2, vec![100, 64, 0, 2], 53, String::new()));
    assert_eq!((told.servers.len(), told.default_route), (2, Some(false)));
    assert_eq!(told.modes.get("DNSSEC").map(String::as_str), Some("no"), "our zone has no signatures");
    assert!(directory.path().join("resolv.conf").is_symlink(), "the file is its");
    let before = host.glance();
    resolved.meddle("wg0", |told| told.domains.clear());
    assert_ne!(host.glance(), before);
    assert_eq!(host.observe().unwrap().resolver, None);
    host.apply(&Change::SetResolver(resolver())).unwrap();
    host.apply(&Change::ClearResolver).unwrap();
    assert_eq!(host.observe().unwrap().resolver, None);
    assert_eq!(resolved.told("wg0").unwrap_or_default().servers, []);
    host.apply(&Change::RemoveInterface).unwrap();
    host.apply(&Change::ClearResolver).unwrap();
    resolved.stop();
    host.apply(&Change::ClearResolver).unwrap();
}

#[test]
fn another_port_is_told_where_ports_are_known() {
    if !alone("resolver::another_port_is_told_where_ports_are_known") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let _bus = Bus::start(directory.path());
    let resolved = Resolved::start(Age::New);
    let mut config = config(directory.path());
    config.resolver = ResolverConfig { port: 5353, ..automatic(directory.path()) };
    link_to_stub(&config.resolver.file);
    let mut host = Host::open(config).unwrap();
    for change in [Change::CreateInterface, Change::SetUp, Change::SetResolver(resolver())] {
        host.apply(&change).unwrap();
    }
    assert_eq!(resolved.told("wg0").unwrap().servers[0].2, 5353);
    assert_eq!(host.observe().unwrap().resolver, Some(resolver()));
}

#[test]
fn an_old_resolved_is_told_in_its_own_words() {
    if !alone("resolver::an_old_resolved_is_told_in_its_own_words") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let _bus = Bus::start(directory.path());
    let resolved = Resolved::start(Age::Old);
    let mut host = automatic_host(directory.path());
    link_to_stub(&directory.path().join("resolv.conf"));
    host.apply(&Change::SetResolver(resolver())).unwrap();
    assert_eq!(host.observe().unwrap().resolver, Some(resolver()));
    assert_eq!(resolved.told("wg0").unwrap().servers.len(), 2);
}

#[test]
fn resolved_beside_the_file_is_told_too() {
    if !alone("resolver::resolved_beside_the_file_is_told_too") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("resolv.conf");
    let _bus = Bus::start(directory.path());
    let resolved = Resolved::start(Age::New);
    let mut host = automatic_host(directory.path());
    let original = fs::read(&file).unwrap();
    assert_eq!(host.report().resolver, Owner::File);
    host.apply(&Change::SetResolver(resolver())).unwrap();
    assert_eq!(host.observe().unwrap().resolver, Some(resolver()));
    assert!(fs::read_to_string(&file).unwrap().contains("nameserver 100.64.0.2\n"));
    assert_eq!(resolved.told("wg0").unwrap().servers.len(), 2);
    resolved.meddle("wg0", |told| told.servers.clear());
    assert_ne!(host.observe().unwrap().resolver, Some(resolver()));
    host.apply(&Change::SetResolver(resolver())).unwrap();
    assert_eq!(resolved.told("wg0").unwrap().servers.len(), 2);
    resolved.stop();
    assert_eq!(
        host.observe().unwrap().resolver,
        Some(resolver()),
        "the file is enough where it does not run"
    );
    let resolved = Resolved::start(Age::New);
    assert_ne!(host.observe().unwrap().resolver, Some(resolver()));
    host.apply(&Change::SetResolver(resolver())).unwrap();
    host.leave().unwrap();
    assert_eq!(fs::read(&file).unwrap(), original);
    assert_eq!(resolved.told("wg0").unwrap_or_default().servers, []);
}

#[test]
fn what_a_crash_left_is_restored_by_a_program_of_its_own() {
    if !alone("resolver::what_a_crash_left_is_restored_by_a_program_of_its_own") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("resolv.conf");
    let _bus = Bus::start(directory.path());
    let resolved = Resolved::start(Age::New);
    let mut host = automatic_host(directory.path());
    let original = fs::read(&file).unwrap();
    host.apply(&Change::SetResolver(resolver())).unwrap();
    let config = automatic(directory.path());
    for _ in 0..2 {
        host::resolver::restore(&config, &"wg0".parse().unwrap(), directory.path()).unwrap();
        assert_eq!(fs::read(&file).unwrap(), original);
        assert_eq!(resolved.told("wg0").unwrap_or_default().servers, []);
    }
}

#[test]
fn a_survey_sees_who_resolves() {
    inside("resolver::a_survey_sees_who_resolves", async |directory: &Path| {
        let file = directory.join("resolv.conf");
        fs::write(&file, "# Generated by NetworkManager\nnameserver 192.0.2.1\n").unwrap();
        let config = automatic(directory);
        let alone = survey(&config).await;
        assert_eq!((alone.owner, alone.resolved, alone.network_manager), (Owner::File, None, None));
        assert_eq!(alone.file.writer.unwrap().name, "NetworkManager");
        let _bus = Bus::start(directory);
        let resolved = Resolved::start(Age::New);
        let _manager = network_manager();
        resolved.meddle("lo", |told| {
            told.servers = vec![(2, vec![192, 0, 2, 1], 0, String::new())];
            told.domains = vec![("lan".into(), true)];
        });
        let found = survey(&config).await;
        assert_eq!(found.unread, [] as [&str; 0]);
        let manager = found.network_manager.unwrap();
        assert_eq!((manager.mode.as_str(), manager.rc_manager.as_str()), ("default", "symlink"));
        let view = found.resolved.unwrap();
        assert_eq!(view.asked("x.lan")[0].link.name, "lo");
        assert_eq!(view.asked("x.lan")[0].link.servers, ["192.0.2.1:53".parse().unwrap()]);
    });
}

fn automatic_device(directory: &Path) -> Setup {
    let mut setup = device(directory);
    setup.host.resolver = automatic(directory);
    setup
}

/// A device that has joined and settled.
async fn joined(directory: &Path, setup: Setup) -> (Server, Running) {
    let mut tenant = Tenant::new(NodeId::Device(device_id()));
    tenant.add_hub("127.0.0.1:51899");
    let token = tenant.token.clone();
    let server = Server::start(directory, tenant).await;
    let node = start(setup);
    node.handle.join(token, Remark::new("laptop"), Remark::new("linux")).await.unwrap();
    node.settled().await;
    (server, node)
}

fn is_told(resolved: &Resolved) -> bool {
    resolved.told("wg0").is_some_and(|told| told.servers.len() == 2 && !told.domains.is_empty())
}

#[test]
fn resolved_that_is_started_anew_is_told_again() {
    inside("resolver::resolved_that_is_started_anew_is_told_again", async |directory: &Path| {
        let _bus = Bus::start(directory);
        let resolved = Resolved::start(Age::New);
        let setup = automatic_device(directory);
        let file = setup.host.resolver.file.clone();
        link_to_stub(&file);
        let (server, node) = joined(directory, setup).await;
        assert!(is_told(&resolved));
        resolved.meddle("wg0", |told| told.servers.clear());
        wait_for("what somebody took away is back", GLANCED_REPAIR_TIME_MAX, || is_told(&resolved));
        resolved.stop();
        let resolved = Resolved::start(Age::New);
        let took = wait_for("it is told again", GLANCED_REPAIR_TIME_MAX, || is_told(&resolved));
        println!("told again after {took:?}");
        assert!(file.is_symlink(), "the file was left alone meanwhile");
        node.settled().await;
        node.stop().await;
        assert_eq!(resolved.told("wg0").unwrap_or_default().servers, []);
        server.stop().await;
    });
}

#[test]
fn resolved_that_starts_later_takes_over_from_the_file() {
    inside("resolver::resolved_that_starts_later_takes_over_from_the_file", async |directory: &Path| {
        let _bus = Bus::start(directory);
        let setup = automatic_device(directory);
        let file = setup.host.resolver.file.clone();
        link_to_stub(&file);
        let (server, node) = joined(directory, setup).await;
        assert!(!file.is_symlink() && fs::read_to_string(&file).unwrap().contains("nameserver 100.64.0.2\n"));
        let resolved = Resolved::start(Age::New);
        wait_for("it is told", SETTLE_TIME_MAX, || is_told(&resolved) && file.is_symlink());
        node.settled().await;
        // And back again: somebody takes the file from it.
        fs::remove_file(&file).unwrap();
        fs::write(&file, "nameserver 192.0.2.7\n").unwrap();
        wait_for("the file is told", GLANCED_REPAIR_TIME_MAX, || {
            fs::read_to_string(&file).unwrap().contains("nameserver 100.64.0.2\n")
        });
        node.stop().await;
        assert_eq!(fs::read_to_string(&file).unwrap(), "nameserver 192.0.2.7\n");
        server.stop().await;
    });
}
