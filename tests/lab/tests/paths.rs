//! How packets reach another device: directly through both NATs, over the relay where that cannot be, and back.
//!
//! ```text
//!   alpha ── r-alpha ─┐
//!                     ├── inet ── server (apid, netd)
//!   beta ─── r-beta ──┘
//! ```

use std::fmt::Write as _;
use std::time::Duration;

use lab::{Mesh, Nat, Pinging, SOON, TENANT_ZONE, until, wait_for};
use serde_json::Value;

fn two(symmetric: &[&str]) -> Mesh {
    let mesh = Mesh::new(&["alpha", "beta"]);
    for router in symmetric {
        mesh.set_nat(router, Nat::Symmetric);
    }
    let _agents = mesh.enrol(["alpha", "beta"]);
    for device in ["alpha", "beta"] {
        mesh.ready(device, SOON);
    }
    wait_for("alpha knows beta", SOON, || mesh.path("alpha", "beta") != Value::Null);
    wait_for("beta knows alpha", SOON, || mesh.path("beta", "alpha") != Value::Null);
    mesh
}

#[test]
fn the_first_packet_is_answered_and_the_path_is_direct_a_second_later() {
    let mesh = two(&[]);
    assert!(mesh.goes("alpha", "beta", "idle"), "{}", mesh.path("alpha", "beta"));
    let pinged = mesh.on("alpha").ok(&["warren", "ping", "-W", "5s", "beta"]);
    assert!(!pinged.contains("no reply"), "{pinged}");
    wait_for("a direct path", Duration::from_secs(5), || mesh.goes("alpha", "beta", "direct 203.0.113."));
    wait_for("and back", Duration::from_secs(5), || mesh.goes("beta", "alpha", "direct 203.0.113."));
}

#[test]
fn behind_two_symmetric_nats_the_relay_carries_and_says_why() {
    let mesh = two(&["r-alpha", "r-beta"]);
    mesh.on("alpha").ok(&["warren", "ping", "-c", "10", "-W", "5s", "beta"]);
    assert!(mesh.goes("alpha", "beta", "relayed"), "{}", mesh.path("alpha", "beta"));
    wait_for("the reason", SOON, || {
        mesh.path("alpha", "beta")["why_not_direct"] == "both NATs are symmetric"
    });
    // As long as the tunnel takes.
    mesh.on("alpha").ok(&[
        "ping",
        "-4",
        "-c",
        "3",
        "-i",
        "0.2",
        "-s",
        "1392",
        "-M",
        "do",
        "beta.home.internal",
    ]);
}

#[test]
fn a_device_without_udp_is_reached_over_the_relay() {
    let mesh = two(&[]);
    mesh.announce("agent", "link");
    mesh.announce("apid", "link");
    mesh.on("alpha").ok(&["warren", "ping", "-W", "5s", "beta"]);
    wait_for("a direct path", SOON, || mesh.goes("alpha", "beta", "direct"));
    mesh.set_nat("r-beta", Nat::Closed);
    wait_for("an answer over the relay", Duration::from_secs(120), || {
        mesh.on("alpha").run(&["ping", "-c", "1", "-W", "1", "beta.home.internal"]).code == 0
    });
    assert!(mesh.goes("alpha", "beta", "relayed"), "{}", mesh.path("alpha", "beta"));
}

/// Packets that may be lost by whoever is elsewhere all at once: two seconds of them.
const MOVING_LOST_MAX: usize = 20;

#[test]
fn a_device_that_gets_another_address_is_silent_for_two_seconds_at_most() {
    let mesh = two(&[]);
    let pinging = Pinging::start(&mesh, "alpha", "beta");
    wait_for("a direct path", SOON, || mesh.goes("alpha", "beta", "direct"));
    let alpha = mesh.on("alpha");
    // There is no network for a moment, which the link's carrier mentions.
    mesh.announce("agent-alpha", "sendmsg error");
    alpha.ok(&["ip", "address", "delete", "192.168.1.2/24", "dev", "eth0"]);
    alpha.ok(&["ip", "address", "add", "192.168.1.77/24", "dev", "eth0"]);
    alpha.ok(&["ip", "route", "replace", "default", "via", "192.168.1.1"]);
    wait_for("a direct path again", Duration::from_secs(5), || mesh.goes("alpha", "beta", "direct"));
    let lost = pinging.lost();
    assert!(lost <= MOVING_LOST_MAX, "{lost} packets were lost");
}

#[test]
fn a_nat_that_forgets_everything_is_noticed_by_pings_alone() {
    let mesh = two(&[]);
    let pinging = Pinging::start(&mesh, "alpha", "beta");
    let before = "direct 203.0.113.10:";
    wait_for("a direct path", SOON, || mesh.goes("beta", "alpha", before));
    let router = mesh.beside("r-alpha");
    router.ok(&["ip", "address", "delete", "203.0.113.10/24", "dev", "wan"]);
    router.ok(&["ip", "address", "add", "203.0.113.77/24", "dev", "wan"]);
    router.ok(&["conntrack", "-F"]);
    let after = "direct 203.0.113.77:";
    wait_for("a direct path to where it is now", SOON, || mesh.goes("beta", "alpha", after));
    let lost = pinging.lost();
    assert!(lost <= 2 * MOVING_LOST_MAX, "{lost} packets were lost");
}

/// Every kind of NAT with every other: whoever talks is answered, directly where that can be.
#[test]
fn every_pair_of_nats_talks_and_says_how() {
    let names = Nat::ALL.map(Nat::name);
    let mesh = Mesh::new(&names);
    for nat in Nat::ALL {
        mesh.set_nat(&format!("r-{}", nat.name()), nat);
    }
    let _agents = mesh.enrol(names);
    for name in names {
        mesh.ready(name, SOON);
    }
    assert_eq!(mesh.status("closed")["link"], "connected by websocket");
    let mut table = String::new();
    let mut wrong = Vec::new();
    for (at, one) in Nat::ALL.into_iter().enumerate() {
        for other in &Nat::ALL[at + 1..] {
            let (from, to) = (one.name(), other.name());
            let alive = mesh.on(from).reaches(&format!("{to}.{TENANT_ZONE}"), Duration::from_secs(5));
            let direct = until(Duration::from_secs(3), || {
                // Packets keep it talked about; how long one takes does not matter.
                mesh.on(from).run(&["ping", "-q", "-c1", "-W1", &format!("{to}.{TENANT_ZONE}")]);
                (mesh.goes(from, to, "direct") && mesh.goes(to, from, "direct")).then_some(())
            });
            let way = direct.map_or("relayed".into(), |((), took)| format!("direct after {took:.1?}"));
            let _ = writeln!(table, "{from:10} {to:10} alive after {alive:.1?}, {way}");
            if one.meets(*other) != direct.is_some() {
                wrong.push(format!("{from} {to}: {} {}", mesh.path(from, to), mesh.path(to, from)));
            }
        }
    }
    println!("{table}");
    assert!(wrong.is_empty(), "{table}\n{wrong:#?}");
}
