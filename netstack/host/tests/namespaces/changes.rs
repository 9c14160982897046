//! Every change, made twice, against what is observed afterwards.

use std::collections::BTreeSet;
use std::fs;
use std::net::IpAddr;
use std::path::Path;

use engine::{Change, Firewall, Observed, PeerSetting, ResolverSetting};
use host::resolver::{ResolverConfig, ResolverMode};
use host::wireguard::{Backend, Mode, Tuning};
use host::{Host, HostConfig};
use ipnet::IpNet;
use model::{PrivateKey, PublicKey};

use crate::alone::{alone, bind_mount, run, succeeds};

/// The engine under test: our own, or the kernel's where `scripts/test-kernel` says that there is one.
pub fn mode() -> Mode {
    match std::env::var("WARREN_TEST_WIREGUARD") {
        Ok(mode) => mode.parse().unwrap(),
        Err(_) => Mode::Userspace,
    }
}

/// As a host with [`mode`] reports it.
pub fn backend() -> Backend {
    match mode() {
        Mode::Kernel => Backend::Kernel,
        _ => Backend::Userspace,
    }
}

pub fn config(directory: &Path) -> HostConfig {
    let resolv_conf = directory.join("resolv.conf");
    fs::write(&resolv_conf, "nameserver 192.0.2.53\nsearch example\n").unwrap();
    HostConfig {
        interface: "wg0".parse().unwrap(),
        key: PrivateKey::from_bytes([1; 32]),
        mode: mode(),
        forwards: true,
        resolver: ResolverConfig { mode: ResolverMode::File, file: resolv_conf, ..ResolverConfig::off() },
        state: directory.into(),
        uapi_directory: Some("/var/run/wireguard".into()),
        stack: None,
        tuning: Tuning::default(),
    }
}

pub fn net(text: &str) -> IpNet {
    text.parse().unwrap()
}

pub fn peer(number: u8, allowed: &[&str]) -> PeerSetting {
    PeerSetting {
        key: PublicKey::from_bytes([number; 32]),
        allowed: allowed.iter().map(|n| net(n)).collect(),
        endpoint: Some("192.0.2.1:51820".parse().unwrap()),
        keepalive_seconds: 25,
    }
}

pub fn resolver() -> ResolverSetting {
    let servers: Vec<IpAddr> = vec!["100.64.0.2".parse().unwrap(), "fd00::2".parse().unwrap()];
    ResolverSetting {
        servers,
        domain: "home.internal".parse().unwrap(),
        search: Vec::new(),
        reverse: vec![net("100.64.0.0/16"), net("fd00::/48")],
    }
}

/// In the order in which a hub with a resolver would need them; each must be seen, and done twice be as done once.
fn all_changes() -> Vec<Change> {
    vec![
        Change::SetFirewall(Firewall { blocks: BTreeSet::new() }),
        Change::SetFirewall(Firewall {
            blocks: [[net("100.64.0.0/16"), net("fd00::/48")], [net("100.65.0.0/24"), net("fd01::/48")]]
                .into(),
        }),
        Change::CreateInterface,
        Change::SetDevice { listen_port: Some(51820) },
        Change::SetMtu(1380),
        Change::AddAddress(net("100.64.0.1/32")),
        Change::AddAddress(net("fd00::1/128")),
        Change::SetUp,
        Change::SetPeer(peer(2, &["100.64.0.2/32", "fd00::2/128"])),
        Change::SetPeer(peer(3, &["100.64.0.3/32"])),
        Change::SetPeer(peer(2, &["100.64.0.4/32"])),
        Change::AddRoute(net("100.64.0.0/16")),
        Change::AddRoute(net("fd00::/48")),
        Change::SetForwarding(true),
        Change::SetResolver(resolver()),
        Change::RemovePeer(PublicKey::from_bytes([3; 32])),
        Change::RemoveRoute(net("100.64.0.0/16")),
        Change::RemoveAddress(net("100.64.0.1/32")),
        Change::ClearResolver,
        Change::RemoveInterface,
        Change::RemoveFirewall,
    ]
}

#[test]
fn every_change_is_observed_and_done_twice_is_as_done_once() {
    if !alone("changes::every_change_is_observed_and_done_twice_is_as_done_once") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let own = config.key.public();
    let mut host = Host::open(config).unwrap();
    let mut expect = Observed::default();
    assert_eq!(host.observe().unwrap(), expect, "a host without Warren");
    for change in all_changes() {
        for _ in 0..2 {
            host.apply(&change).unwrap_or_else(|e| panic!("{change}: {}", host::chain(&e)));
            expect.apply(&change, &own);
            let mut observed = host.observe().unwrap_or_else(|e| panic!("{change}: {}", host::chain(&e)));
            settle_what_the_kernel_chooses(&mut expect, &mut observed);
            assert_eq!(observed, expect, "after {change}");
        }
    }
    assert_eq!(host.report().backend, backend());
}

#[test]
fn a_port_that_is_taken_is_named_with_what_to_do() {
    if !alone("changes::a_port_that_is_taken_is_named_with_what_to_do") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut host = Host::open(config(directory.path())).unwrap();
    let taken = std::net::UdpSocket::bind("0.0.0.0:51820").unwrap();
    host.apply(&Change::CreateInterface).unwrap();
    // Our own engine takes the port at once, the kernel's when the interface comes up.
    let steps = [Change::SetDevice { listen_port: Some(51820) }, Change::SetUp];
    let refused = steps.iter().find_map(|change| host.apply(change).err()).expect("nobody gets it");
    let said = host::chain(&refused);
    assert!(said.contains("udp port 51820 is taken") && said.contains("--listen-port"), "{said}");
    drop(taken);
    steps.iter().for_each(|change| host.apply(change).unwrap());
}

/// The model cannot know the first MTU and port, nor that switches live and die with the interface.
fn settle_what_the_kernel_chooses(expect: &mut Observed, observed: &mut Observed) {
    match (&mut expect.interface, &observed.interface) {
        (Some(expected), Some(seen)) => {
            if expected.mtu == 0 {
                expected.mtu = seen.mtu;
            }
            if expected.listen_port == 0 {
                expected.listen_port = seen.listen_port;
            }
        }
        _ => expect.forwarding = observed.forwarding,
    }
}

#[test]
fn wg_of_the_distribution_reads_the_engine() {
    if !alone("changes::wg_of_the_distribution_reads_the_engine") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut host = Host::open(config(directory.path())).unwrap();
    for change in all_changes().into_iter().take(11) {
        host.apply(&change).unwrap();
    }
    let shown = run("wg show wg0");
    assert!(shown.contains("listening port: 51820") && shown.contains("100.64.0.4/32"), "{shown}");
    let before = host.glance();
    assert_eq!(host.glance(), before);
    run("wg set wg0 peer $(wg show wg0 peers | head -1) remove");
    assert_ne!(host.glance(), before, "wg gives no event, a glance tells");
    assert_eq!(host.observe().unwrap().interface.unwrap().peers.len(), 1);
}

/// The kernel's WireGuard is not everywhere: `scripts/test-kernel` has it, and runs this for both ends of the change.
#[test]
fn what_the_kernels_engine_left_is_seen_by_ours_and_goes() {
    if !alone("changes::what_the_kernels_engine_left_is_seen_by_ours_and_goes") {
        return;
    }
    if !succeeds("ip link add probe type wireguard && ip link del probe") {
        assert_ne!(mode(), Mode::Kernel, "there is no kernel to leave anything");
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let with = |mode: Mode| HostConfig { mode, ..config(directory.path()) };
    let steps = [
        Change::CreateInterface,
        Change::SetDevice { listen_port: Some(51820) },
        Change::AddAddress(net("100.64.0.1/32")),
        Change::SetUp,
        Change::AddRoute(net("100.64.0.0/16")),
    ];
    let leave = || {
        let mut host = Host::open(with(Mode::Kernel)).unwrap();
        steps.iter().for_each(|change| host.apply(change).unwrap());
        host.leave().unwrap();
    };
    leave();
    let mut host = Host::open(with(Mode::Userspace)).unwrap();
    let observed = host.observe().unwrap();
    assert_eq!(observed.interface, None);
    let left = observed.left.expect("it is seen");
    assert_eq!(left.addresses, [net("100.64.0.1/32")].into());
    assert_eq!(left.routes, [net("100.64.0.0/16")].into());
    // Nobody wants one.
    host.apply(&Change::RemoveInterface).unwrap();
    assert!(!succeeds("ip link show wg0"));
    assert_eq!(host.observe().unwrap().left, None);
    // Somebody wants one: ours takes its place.
    leave();
    host.apply(&Change::CreateInterface).unwrap();
    let observed = host.observe().unwrap();
    assert!(observed.interface.is_some() && observed.left.is_none());
    // What an administrator made is not ours to see.
    host.apply(&Change::RemoveInterface).unwrap();
    run("ip link add wg0 type wireguard");
    assert_eq!(host.observe().unwrap().left, None);
    host.apply(&Change::RemoveInterface).unwrap();
    run("ip link show wg0");
}

#[test]
fn the_kernel_is_preferred_and_its_absence_explained() {
    if !alone("changes::the_kernel_is_preferred_and_its_absence_explained") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut automatic = config(directory.path());
    automatic.mode = Mode::Auto;
    let kernel_has_it = succeeds("ip link add probe type wireguard && ip link del probe");
    let mut host = Host::open(automatic).unwrap();
    let report = host.report();
    host.apply(&Change::CreateInterface).unwrap();
    assert_eq!(host.report(), report, "it is decided at the start");
    if kernel_has_it {
        assert_eq!((report.backend, report.fallback), (Backend::Kernel, None));
        return;
    }
    assert_eq!(report.backend, Backend::Userspace);
    assert!(report.fallback.unwrap().contains("modprobe wireguard"));
    let mut strict = config(directory.path());
    strict.mode = Mode::Kernel;
    strict.interface = "wg1".parse().unwrap();
    let mut host = Host::open(strict).unwrap();
    assert_eq!(host.observe().unwrap().interface, None);
    let said = host::chain(&host.apply(&Change::CreateInterface).unwrap_err());
    assert!(said.starts_with("wg1: the kernel has no WireGuard"), "{said}");
}

#[test]
fn what_others_made_is_left_alone_and_named() {
    if !alone("changes::what_others_made_is_left_alone_and_named") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut host = Host::open(config(directory.path())).unwrap();
    run("ip link add wg0 type veth peer name other");
    let said = host::chain(&host.apply(&Change::CreateInterface).unwrap_err());
    assert!(said.contains("wg0 is not Warren's but a veth"), "{said}");
    host.apply(&Change::RemoveInterface).unwrap();
    assert!(succeeds("ip link show wg0"), "a foreign interface is not removed");
    run("ip link del wg0");
    run("ip link add other type veth peer name end && ip link set other up && ip link set end up");
    run("ip route add 100.64.0.0/16 dev other");
    host.apply(&Change::CreateInterface).unwrap();
    host.apply(&Change::SetUp).unwrap();
    let said = host::chain(&host.apply(&Change::AddRoute(net("100.64.0.0/16"))).unwrap_err());
    assert!(said.starts_with("route 100.64.0.0/16 on wg0: File exists"), "{said}");
    assert!(run("ip route show 100.64.0.0/16").contains("dev other"));
}

#[test]
fn a_resolver_that_cannot_be_read_hides_nothing_else() {
    if !alone("changes::a_resolver_that_cannot_be_read_hides_nothing_else") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let path = config.resolver.file.clone();
    let mut host = Host::open(config).unwrap();
    for change in [Change::CreateInterface, Change::SetUp, Change::SetResolver(resolver())] {
        host.apply(&change).unwrap();
    }
    assert_eq!(host.observe().unwrap().resolver, Some(resolver()));
    fs::remove_file(&path).unwrap();
    fs::create_dir(&path).unwrap();
    let observed = host.observe().unwrap();
    assert_eq!(observed.resolver, None);
    assert!(observed.interface.unwrap().up);
}

#[test]
fn a_wireguard_interface_of_somebody_else_is_not_adopted() {
    // Our own engine reads no interface but those it made itself.
    let test = "changes::a_wireguard_interface_of_somebody_else_is_not_adopted";
    if backend() != Backend::Kernel || !alone(test) {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut host = Host::open(config(directory.path())).unwrap();
    run("ip link add wg0 type wireguard");
    for key in ["true", "wg genkey > key && wg set wg0 private-key key"] {
        run(&format!("cd {} && {key}", directory.path().display()));
        let said = host::chain(&host.observe().unwrap_err());
        assert!(said.contains("a WireGuard interface that somebody else made"), "{said}");
    }
}

#[test]
fn routes_carry_our_protocol_number() {
    if !alone("changes::routes_carry_our_protocol_number") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut host = Host::open(config(directory.path())).unwrap();
    for change in [Change::CreateInterface, Change::SetUp, Change::AddRoute(net("100.64.0.0/16"))] {
        host.apply(&change).unwrap();
    }
    assert!(run("ip route show table 155 proto 155").contains("100.64.0.0/16 dev wg0"));
    run("ip route add 198.51.100.0/24 dev wg0 table 155");
    let routes = host.observe().unwrap().interface.unwrap().routes;
    assert_eq!(routes, [net("100.64.0.0/16"), net("198.51.100.0/24")].into());
    host.apply(&Change::RemoveRoute(net("198.51.100.0/24"))).unwrap();
    assert!(!run("ip route show table 155").contains("198.51.100.0"));
}

/// Where a packet goes, with the mark of the underlay's own sockets or without.
fn way(to: &str, mark: &str) -> String {
    let said = run(&format!("ip route get {to} {mark}"));
    said.split(" dev ").nth(1).and_then(|rest| rest.split(' ').next()).unwrap_or_default().to_owned()
}

#[test]
fn what_carries_the_mesh_is_never_led_into_it() {
    if !alone("changes::what_carries_the_mesh_is_never_led_into_it") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut host = Host::open(config(directory.path())).unwrap();
    run("ip link add wan type veth peer name end && ip link set wan up && ip link set end up");
    run("ip address add 192.0.2.2/24 dev wan && ip -6 address add 2001:db8::2/64 dev wan nodad");
    run("ip route add default via 192.0.2.1 && ip -6 route add default via 2001:db8::1");
    for change in [Change::CreateInterface, Change::SetUp, Change::SetDevice { listen_port: None }] {
        host.apply(&change).unwrap();
    }
    let marked = format!("mark {}", host::MARK);
    let everything = ["0.0.0.0/0", "203.0.113.0/24", "203.0.113.1/32", "::/0", "2001:db8:7::/48"].map(net);
    for route in everything {
        host.apply(&Change::AddRoute(route)).unwrap();
    }
    for to in ["203.0.113.1", "198.51.100.1", "2001:db8:7::1", "2001:db8:8::1"] {
        assert_eq!((way(to, ""), way(to, &marked)), ("wg0".into(), "wan".into()), "{to}");
    }
    assert_eq!(way("192.0.2.9", ""), "wan", "what the machine is in goes before what the mesh offers");
    assert_eq!(run("wg show wg0 fwmark").trim(), format!("{:#x}", host::MARK));

    // What leads nowhere any more is as if it were not there, and so is a device without the mark.
    run("ip rule del pref 5141");
    let v6: BTreeSet<IpNet> = everything.into_iter().filter(|net| net.addr().is_ipv6()).collect();
    assert_eq!(host.observe().unwrap().interface.unwrap().routes, v6);
    host.apply(&Change::AddRoute(net("203.0.113.0/24"))).unwrap();
    assert_eq!(host.observe().unwrap().interface.unwrap().routes, everything.into());
    let glance = host.glance();
    run("wg set wg0 fwmark off");
    assert_ne!(host.glance(), glance);
    assert_eq!(host.observe().unwrap().interface.unwrap().public_key, None);
    host.apply(&Change::SetDevice { listen_port: None }).unwrap();
    assert!(host.observe().unwrap().interface.unwrap().public_key.is_some());

    run("ip route add 203.0.113.1 dev wg0");
    let stray = net("203.0.113.1/32");
    assert_eq!(way("203.0.113.1", &marked), "wg0");
    assert_eq!(host.observe().unwrap().interface.unwrap().strays, [stray].into());
    for _ in 0..2 {
        host.apply(&Change::RemoveStray(stray)).unwrap();
    }
    assert_eq!(host.observe().unwrap().interface.unwrap().strays, BTreeSet::new());
    assert!(host.observe().unwrap().interface.unwrap().routes.contains(&stray), "ours is another one");
}

#[test]
fn rules_go_with_the_last_interface_that_needs_them() {
    if !alone("changes::rules_go_with_the_last_interface_that_needs_them") {
        return;
    }
    let rules = || (run("ip rule").matches("51").count(), run("ip -6 rule").matches("51").count());
    let directory = tempfile::tempdir().unwrap();
    let mut hosts = ["wg0", "wg1"].map(|name| {
        let config = HostConfig { interface: name.parse().unwrap(), ..config(directory.path()) };
        Host::open(config).unwrap()
    });
    let blocks = [["100.64.0.0/16", "fd00::/48"], ["100.65.0.0/16", "fd01::/48"]];
    for (host, blocks) in hosts.iter_mut().zip(blocks) {
        let [v4, v6] = blocks.map(net);
        for change in [Change::CreateInterface, Change::SetUp, Change::AddRoute(v4), Change::AddRoute(v6)] {
            host.apply(&change).unwrap();
        }
    }
    let [first, second] = &mut hosts;
    assert_eq!(rules(), (2, 2));
    first.apply(&Change::RemoveInterface).unwrap();
    assert_eq!(rules(), (2, 2), "the other one needs them");
    second.apply(&Change::RemoveInterface).unwrap();
    assert_eq!(rules(), (0, 0));

    // A process that is killed leaves them behind; the next one finds them.
    run("ip rule add pref 5141 not fwmark 7 lookup 155 protocol 155");
    assert_eq!(rules().0, 1);
    let next = Host::open(config(directory.path())).unwrap();
    assert_eq!(rules(), (0, 0));
    drop(next);

    for change in [Change::CreateInterface, Change::SetUp, Change::AddRoute(net("100.64.0.0/16"))] {
        first.apply(&change).unwrap();
    }
    first.leave().unwrap();
    let stay = if backend() == Backend::Kernel { 2 } else { 0 };
    assert_eq!(rules().0, stay, "they stay where the tunnel does");
}

#[test]
fn a_refusal_carries_the_words_of_the_kernel() {
    if !alone("changes::a_refusal_carries_the_words_of_the_kernel") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut host = Host::open(config(directory.path())).unwrap();
    host.apply(&Change::CreateInterface).unwrap();
    let said = host::chain(&host.apply(&Change::AddRoute(net("100.64.0.0/16"))).unwrap_err());
    assert!(said.starts_with("route 100.64.0.0/16 on wg0: Network is down"), "{said}");
    assert!(said.ends_with("(Device for nexthop is not up)"), "{said}");
}

#[test]
fn a_bind_mounted_resolv_conf_is_written_in_place() {
    if !alone("changes::a_bind_mounted_resolv_conf_is_written_in_place") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let config = config(directory.path());
    let path = config.resolver.file.clone();
    let original = fs::read(&path).unwrap();
    bind_mount(&path);
    let mut host = Host::open(config).unwrap();
    host.apply(&Change::SetResolver(resolver())).unwrap();
    assert_eq!(host.observe().unwrap().resolver, Some(resolver()));
    assert!(
        fs::read_to_string(&path).unwrap().contains("nameserver 100.64.0.2\nsearch home.internal example\n")
    );
    host.leave().unwrap();
    assert_eq!(fs::read(&path).unwrap(), original);
    let left: Vec<_> = fs::read_dir(directory.path()).unwrap().map(|e| e.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with(".resolv.conf")), "{left:?}");
}
