//! Device commands: queued for a device, done there, answered.
//!
//! ```text
//!   alpha ── r-alpha ─┐
//!   beta  ── r-beta  ─┴─ inet ── server (apid, netd)
//! ```

use std::fs::OpenOptions;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;

use lab::{Mesh, Pinging, SOON, wait_for};
use serde_json::Value;

fn tell(mesh: &Mesh, device: &str, rest: &[&str]) -> String {
    let told = mesh.on("server").json(&[&["warren", "device", "command", device], rest].concat());
    told["id"].as_str().expect("a command has an id").to_owned()
}

fn state(mesh: &Mesh, device: &str, id: &str) -> Value {
    let list = mesh.on("server").json(&["warren", "device", "command", device, "--list"]);
    let items = list["items"].as_array().cloned().unwrap_or_default();
    items.into_iter().find(|command| command["id"] == id).expect("it is listed")["state"].clone()
}

#[test]
fn a_device_does_what_it_is_told_and_its_tunnels_stay() {
    let mesh = Mesh::new(&["alpha", "beta"]);
    let [alpha, _beta] = mesh.enrol(["alpha", "beta"]);
    mesh.on("beta").reaches("alpha", SOON);
    for kind in ["report", "resync"] {
        let id = tell(&mesh, "alpha", &[kind]);
        wait_for(&format!("{kind} is done"), SOON, || state(&mesh, "alpha", &id) == "done");
    }
    let shown = mesh.on("server").json(&["warren", "device", "show", "alpha"]);
    assert!(shown["facts"]["uptime_seconds"].as_u64() > Some(0), "{shown}");
    assert!(shown["agent"].as_str().is_some_and(|agent| agent.starts_with("warren-agent")), "{shown}");
    let before = mesh.device_field("alpha", "wireguard_key");
    let id = tell(&mesh, "alpha", &["restart"]);
    wait_for("it began anew", SOON, || state(&mesh, "alpha", &id) == "done");
    assert!(alpha.ended().is_none(), "it is the same process: nobody had to start it");
    mesh.ready("alpha", SOON);
    // Its engine began anew, too: beta would go on with the session of before for up to 15 s (WireGuard paper, section 6.5).
    mesh.on("alpha").reaches("beta", SOON);
    mesh.on("beta").reaches("alpha", SOON);
    assert_eq!(mesh.device_field("alpha", "wireguard_key"), before);
}

#[test]
fn a_device_that_is_away_does_it_when_it_is_back_or_not_at_all() {
    let mesh = Mesh::new(&["alpha"]);
    let [agent] = mesh.enrol(["alpha"]);
    agent.kill();
    let (late, short) = (tell(&mesh, "alpha", &["report"]), tell(&mesh, "alpha", &["resync", "--ttl", "1s"]));
    wait_for("its time is over", SOON, || state(&mesh, "alpha", &short) == "expired");
    assert_ne!(state(&mesh, "alpha", &late), "done");
    mesh.agent("alpha");
    wait_for("it is back and does it", SOON, || state(&mesh, "alpha", &late) == "done");
    assert_eq!(state(&mesh, "alpha", &short), "expired");
}

#[test]
fn a_device_gets_another_key_and_is_reached_again_within_a_handshake() {
    let mesh = Mesh::new(&["alpha", "beta"]);
    let [alpha, _beta] = mesh.enrol(["alpha", "beta"]);
    mesh.on("beta").reaches("alpha", SOON);
    let before = mesh.device_field("alpha", "wireguard_key");
    let pinging = Pinging::start(&mesh, "beta", "alpha");
    let id = tell(&mesh, "alpha", &["rekey"]);
    wait_for("it has another key", SOON, || state(&mesh, "alpha", &id) == "done");
    let lost = pinging.lost();
    // WireGuard begins a handshake again after five seconds (WireGuard paper, section 6.1); ten packets go in a second.
    assert!(lost <= 70, "{lost} packets were lost");
    let after = mesh.device_field("alpha", "wireguard_key");
    assert_ne!(after, before);
    assert!(alpha.ended().is_none(), "it is the same process");
    mesh.on("beta").reaches("alpha", SOON);
    mesh.on("alpha").reaches("beta", SOON);
    let audit = mesh.on("server").json(&["warren", "audit", "list"]);
    let entries = audit["items"].as_array().cloned().unwrap_or_default();
    assert!(entries.iter().any(|entry| entry["action"] == "device.rekey"), "{audit}");

    // A program that died before it heard that the server has its key begins with both.
    alpha.kill();
    let profiles = mesh.file("alpha", "lib/warren/agent/profiles");
    let profile =
        std::fs::read_dir(&profiles).expect("profiles").next().expect("one").expect("readable").path();
    let next = profile.join("wg.next.key");
    let key = mesh.on("alpha").ok(&["wg", "genkey"]);
    let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(&next).expect("made");
    file.write_all(key.as_bytes()).expect("written");
    mesh.agent("alpha");
    wait_for("the second takes the place of the first", SOON, || {
        !next.exists() && mesh.device_field("alpha", "wireguard_key") != after
    });
    mesh.on("alpha").reaches("beta", SOON);
    mesh.on("beta").reaches("alpha", SOON);
}
