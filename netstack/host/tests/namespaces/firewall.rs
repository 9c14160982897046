//! What the firewall lets through, and what it notices.
//!
//! ```text
//!   this namespace (hub)                    sw (bridge br0)
//!   out 198.51.100.1 ── outside             ├── a1 100.64.0.2   tenant A 100.64.0.0/16, fd00:a::/48
//!   wg0 100.64.0.1 ── veth ─────────────────┼── a2 100.64.0.3
//!       100.65.0.1                          └── b1 100.65.0.2   tenant B 100.65.0.0/16, fd00:b::/48
//! ```
//! A veth pair plays the interface: the rules see only its name. WireGuard has no neighbours to discover, so the
//! veth's are told.

use std::collections::BTreeSet;

use engine::{Change, Firewall};
use host::Host;

use crate::alone::{alone, run, succeeds};
use crate::changes::config;

fn topology() {
    run("echo 0 > /proc/sys/net/ipv6/conf/default/accept_dad");
    run("ip netns add sw; ip link add wg0 type veth peer name hub netns sw; ip netns add outside");
    run("ip -n sw link add br0 type bridge; ip -n sw link set br0 up; ip -n sw link set hub master br0 up");
    run(
        "ip netns exec sw sh -c 'for f in /proc/sys/net/bridge/bridge-nf-call-*; do [ ! -e $f ] || echo 0 > $f; done'",
    );
    run("ip link set wg0 address 02:00:00:00:00:01 up");
    for (v4, v6) in [("100.64.0.1", "fd00:a::1"), ("100.65.0.1", "fd00:b::1")] {
        run(&format!("ip addr add {v4}/32 dev wg0; ip -6 addr add {v6}/128 dev wg0 nodad"));
    }
    run(
        "echo 0 > /proc/sys/net/ipv4/conf/all/send_redirects; echo 0 > /proc/sys/net/ipv4/conf/wg0/send_redirects",
    );
    run(
        "ip route add 100.64.0.0/15 dev wg0; ip -6 route add fd00::/16 dev wg0; echo 1 > /proc/sys/net/ipv4/ip_forward; echo 1 > /proc/sys/net/ipv6/conf/all/forwarding",
    );
    for (name, mac, v4, v6) in [
        ("a1", "02:00:00:00:00:02", "100.64.0.2", "fd00:a::2"),
        ("a2", "02:00:00:00:00:03", "100.64.0.3", "fd00:a::3"),
        ("b1", "02:00:00:00:00:04", "100.65.0.2", "fd00:b::2"),
    ] {
        run(&format!(
            "ip netns add {name}; ip netns exec {name} sysctl -qw net.ipv6.conf.default.accept_dad=0; ip link add eth0 netns {name} type veth peer name {name} netns sw"
        ));
        run(&format!(
            "ip -n sw link set {name} master br0 up; ip -n {name} link set eth0 address {mac} up; ip -n {name} link set lo up"
        ));
        run(&format!(
            "ip -n {name} addr add {v4}/32 dev eth0; ip -n {name} route add 100.64.0.1 dev eth0; ip -n {name} route add default via 100.64.0.1"
        ));
        run(&format!(
            "ip -n {name} -6 addr add {v6}/128 dev eth0 nodad; ip -n {name} -6 route add fd00:a::1 dev eth0; ip -n {name} -6 route add default via fd00:a::1"
        ));
        run(&format!(
            "ip neigh add {v6} dev wg0 lladdr {mac}; ip -n {name} neigh add fd00:a::1 dev eth0 lladdr 02:00:00:00:00:01"
        ));
    }
    run(
        "ip link add out type veth peer name eth0 netns outside; ip addr add 198.51.100.1/24 dev out; ip addr add 2001:db8::1/64 dev out nodad; ip link set out up",
    );
    run(
        "ip -n outside addr add 198.51.100.2/24 dev eth0; ip -n outside addr add 2001:db8::2/64 dev eth0 nodad; ip -n outside link set eth0 up; ip -n outside -6 route add default via 2001:db8::1; ip -n outside route add default via 198.51.100.1",
    );
}

fn reaches(from: &str, to: &str) -> bool {
    succeeds(&format!("ip netns exec {from} ping -c 1 -W 1 {to}"))
}

fn tenants() -> Firewall {
    let pair = |v4: &str, v6: &str| [v4.parse().unwrap(), v6.parse().unwrap()];
    Firewall {
        blocks: BTreeSet::from([pair("100.64.0.0/16", "fd00:a::/48"), pair("100.65.0.0/16", "fd00:b::/48")]),
    }
}

#[test]
fn devices_of_one_tenant_reach_each_other_and_nothing_else() {
    if !alone("firewall::devices_of_one_tenant_reach_each_other_and_nothing_else") {
        return;
    }
    topology();
    let directory = tempfile::tempdir().unwrap();
    let mut host = Host::open(config(directory.path())).unwrap();
    assert!(
        reaches("a1", "100.65.0.2") && reaches("a1", "198.51.100.2"),
        "without a firewall everything passes"
    );
    host.apply(&Change::SetFirewall(tenants())).unwrap();
    let check = |from: &str, to: &str, expect: bool| assert_eq!(reaches(from, to), expect, "{from} to {to}");
    check("a1", "100.64.0.3", true);
    check("a2", "fd00:a::2", true);
    check("a1", "100.65.0.2", false);
    check("b1", "fd00:a::2", false);
    check("a1", "198.51.100.2", false);
    check("outside", "100.64.0.2", false);
    check("a1", "100.64.0.1", true);
    assert!(succeeds("ping -c 1 -W 1 198.51.100.2"), "the hub itself is not concerned");
    host.apply(&Change::SetFirewall(Firewall::default())).unwrap();
    check("a1", "100.64.0.3", false);
    host.apply(&Change::RemoveFirewall).unwrap();
    check("a1", "100.65.0.2", true);
}

/// The addresses of the hub's host: in tenant A, in tenant B, outside.
const OF_HUB: [[&str; 2]; 3] =
    [["100.64.0.1", "fd00:a::1"], ["100.65.0.1", "fd00:b::1"], ["198.51.100.1", "2001:db8::1"]];

#[test]
fn a_device_reaches_the_hub_at_its_own_tenants_address_alone() {
    if !alone("firewall::a_device_reaches_the_hub_at_its_own_tenants_address_alone") {
        return;
    }
    topology();
    // The kernel takes connections in the listener's name; every address, as a careless service has it.
    let _service = std::net::TcpListener::bind("[::]:53").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let mut host = Host::open(config(directory.path())).unwrap();
    let connects = |from: &str, to: &str| {
        succeeds(&format!("ip netns exec {from} timeout 1 bash -c '</dev/tcp/{to}/53'"))
    };
    let check = |from: &str, expect: [bool; 3]| {
        for (addresses, expect) in OF_HUB.iter().zip(expect) {
            for to in addresses {
                assert_eq!(reaches(from, to), expect, "ping from {from} to {to}");
                assert_eq!(connects(from, to), expect, "port 53 from {from} to {to}");
            }
        }
    };
    for from in ["a1", "b1", "outside"] {
        check(from, [true; 3]);
    }
    host.apply(&Change::SetFirewall(tenants())).unwrap();
    check("a1", [true, false, false]);
    check("b1", [false, true, false]);
    check("outside", [false, false, true]);
    for to in OF_HUB.as_flattened() {
        assert!(succeeds(&format!("timeout 1 bash -c '</dev/tcp/{to}/53'")), "the hub itself to {to}");
    }
    for to in ["100.64.0.2", "fd00:a::2", "198.51.100.2", "2001:db8::2"] {
        assert!(succeeds(&format!("ping -c 1 -W 1 {to}")), "answers to the hub itself from {to}");
    }
}

#[test]
fn every_way_of_tampering_is_noticed() {
    if !alone("firewall::every_way_of_tampering_is_noticed") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut host = Host::open(config(directory.path())).unwrap();
    let table = "inet warren-wg0";
    for tamper in [
        "flush ruleset".to_owned(),
        format!("add table {table} {{ flags dormant; }}"),
        format!("flush chain {table} tenants"),
        format!("insert rule {table} mesh accept"),
        format!("add chain {table} extra"),
        format!("add element {table} v4 {{ 100.66.0.0/16 . 100.66.0.0/16 }}"),
        format!("flush set {table} v6"),
        format!("chain {table} forward {{ policy drop; }}"),
        format!("chain {table} input {{ policy drop; }}"),
        format!("flush chain {table} input"),
        format!("flush chain {table} own"),
        format!("insert rule {table} own accept"),
        "handle".to_owned(),
    ] {
        host.apply(&Change::SetFirewall(tenants())).unwrap();
        assert_eq!(host.observe().unwrap().firewall, Some(tenants()));
        let tamper = match tamper.as_str() {
            "handle" => {
                let handle = run(
                    "nft -a list chain inet warren-wg0 mesh | sed -n 's/.*comment.*# handle //p' | head -1",
                );
                format!("delete rule {table} mesh handle {}", handle.trim())
            }
            _ => tamper,
        };
        run(&format!("nft '{tamper}'"));
        let observed = host.observe().unwrap();
        assert_ne!(observed.firewall, Some(tenants()), "{tamper}");
        let is_there = succeeds(&format!("nft list table {table}"));
        assert_eq!(observed.spoiled, is_there && observed.firewall.is_none(), "{tamper}");
        assert_eq!(is_there, tamper != "flush ruleset", "{tamper}");
    }
    // Nobody wants it any more: it goes, and what is not there is not spoiled.
    host.apply(&Change::RemoveFirewall).unwrap();
    assert!(!succeeds(&format!("nft list table {table}")) && !host.observe().unwrap().spoiled);
}

#[test]
fn a_thousand_tenants_fit_in_one_transaction() {
    if !alone("firewall::a_thousand_tenants_fit_in_one_transaction") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut host = Host::open(config(directory.path())).unwrap();
    let pair = |n: usize| {
        [
            format!("100.{}.{}.0/24", 64 + n / 256, n % 256).parse().unwrap(),
            format!("fd00:{n:x}::/48").parse().unwrap(),
        ]
    };
    let many = Firewall { blocks: (0..model::limits::TENANTS_MAX).map(pair).collect() };
    host.apply(&Change::SetFirewall(many.clone())).unwrap();
    assert_eq!(host.observe().unwrap().firewall, Some(many));
    assert!(run("nft list table inet warren-wg0").contains("100.67.255.0/24 . 100.67.255.0/24"));
}
