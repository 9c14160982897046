//! How packets reach another device: directly through both NATs, over the relay where that cannot be, and back.
//!
//! ```text
//!   alpha ── r-alpha ─┐
//!                     ├── inet ── server (apid, netd)
//!   beta ─── r-beta ──┘
//! ```

use std::time::Duration;

use lab::{Mesh, SOON, wait_for};
use serde_json::Value;

/// Another port for each whom somebody talks to (RFC 4787: APDM), in place of the rules of `scripts/lib/topology`.
const SYMMETRIC: &str = "
flush table ip nat
table ip nat {
    chain post {
        type nat hook postrouting priority srcnat;
        oifname \"wan\" masquerade random,fully-random
    }
}";

/// Everything but the link to the server, which falls back to TCP.
const NO_UDP: &str = "
table inet no_udp {
    chain forward {
        type filter hook forward priority 0;
        meta l4proto udp drop
    }
}";

/// How a device's packets reach another one, as it says.
fn path(mesh: &Mesh, from: &str, to: &str) -> Value {
    let status = mesh.status(from);
    let peers = status["peers"].as_array().cloned().unwrap_or_default();
    peers.into_iter().find(|peer| peer["name"] == to).unwrap_or(Value::Null)
}

fn says(mesh: &Mesh, from: &str, to: &str, way: &str) -> bool {
    path(mesh, from, to)["path"].as_str().is_some_and(|path| path.starts_with(way))
}

fn two(symmetric: &[&str]) -> Mesh {
    let mesh = Mesh::new(&["alpha", "beta"]);
    for router in symmetric {
        mesh.beside(router).ok(&["nft", SYMMETRIC]);
    }
    let _agents = mesh.enrol(["alpha", "beta"]);
    for device in ["alpha", "beta"] {
        mesh.ready(device, SOON);
    }
    wait_for("alpha knows beta", SOON, || path(&mesh, "alpha", "beta") != Value::Null);
    wait_for("beta knows alpha", SOON, || path(&mesh, "beta", "alpha") != Value::Null);
    mesh
}

#[test]
fn the_first_packet_is_answered_and_the_path_is_direct_a_second_later() {
    let mesh = two(&[]);
    assert!(says(&mesh, "alpha", "beta", "idle"), "{}", path(&mesh, "alpha", "beta"));
    let pinged = mesh.on("alpha").ok(&["warren", "ping", "-W", "5s", "beta"]);
    assert!(!pinged.contains("no reply"), "{pinged}");
    wait_for("a direct path", Duration::from_secs(5), || says(&mesh, "alpha", "beta", "direct 203.0.113."));
    wait_for("and back", Duration::from_secs(5), || says(&mesh, "beta", "alpha", "direct 203.0.113."));
}

#[test]
fn behind_two_symmetric_nats_the_relay_carries_and_says_why() {
    let mesh = two(&["r-alpha", "r-beta"]);
    mesh.on("alpha").ok(&["warren", "ping", "-c", "10", "-W", "5s", "beta"]);
    assert!(says(&mesh, "alpha", "beta", "relayed"), "{}", path(&mesh, "alpha", "beta"));
    wait_for("the reason", SOON, || {
        path(&mesh, "alpha", "beta")["why_not_direct"] == "both NATs are symmetric"
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
    wait_for("a direct path", SOON, || says(&mesh, "alpha", "beta", "direct"));
    mesh.beside("r-beta").ok(&["nft", NO_UDP]);
    wait_for("an answer over the relay", Duration::from_secs(120), || {
        mesh.on("alpha").run(&["ping", "-c", "1", "-W", "1", "beta.home.internal"]).code == 0
    });
    assert!(says(&mesh, "alpha", "beta", "relayed"), "{}", path(&mesh, "alpha", "beta"));
}
