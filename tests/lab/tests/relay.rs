//! What a relay sees, and how long it serves: real packets between devices that no direct path joins.
//!
//! ```text
//!   alpha ── r-alpha (symmetric) ─┐
//!                                 ├── inet ── server (apid, netd; in the second story a relay alone too)
//!   beta ─── r-beta (symmetric) ──┘
//! ```

use std::rc::Rc;
use std::time::Duration;

use lab::{Mesh, Nat, Pinging, Process, SOON, World, wait_for};
use serde_json::Value;

/// Sixteen bytes that ping repeats.
const PATTERN: &[u8; 16] = b"plain as can be!";
/// The fingerprint of no anchor.
const NOBODY: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const RELAY: &str = "203.0.113.1:9443";

fn hidden_from_each_other(mesh: &Mesh) {
    for router in ["r-alpha", "r-beta"] {
        mesh.set_nat(router, Nat::Symmetric);
    }
    let _agents = mesh.enrol(["alpha", "beta"]);
    for device in ["alpha", "beta"] {
        mesh.ready(device, SOON);
    }
    mesh.on("alpha").reaches("beta", SOON);
}

fn relay_alone(world: &World, anchor: &str) -> Rc<Process> {
    let program = ["warren-apid", "--role", "relay", "--allow-root", "--state-dir", "/var/lib/relay"];
    let doors = ["--listen", RELAY, "--metrics-listen", "127.0.0.1:9080", "--serve-anchor", anchor];
    world.plain("relay", "server", &[&program[..], &doors].concat())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn nothing_that_devices_say_to_each_other_crosses_the_server_readably() {
    let mesh = Mesh::new(&["alpha", "beta"]);
    hidden_from_each_other(&mesh);
    let seen = mesh.file("server", "run/seen.pcap");
    let capture = ["tcpdump", "-i", "any", "-U", "--immediate-mode", "-w", "/run/seen.pcap"];
    let _capture = mesh.plain("capture", "server", &capture);
    wait_for("the capture", SOON, || seen.exists());
    let pattern = hex(PATTERN);
    let captured = || {
        let bytes = std::fs::read(&seen).unwrap_or_default();
        (bytes.len(), bytes.windows(PATTERN.len()).any(|window| window == PATTERN))
    };
    let ping = |to: &str| {
        mesh.on("alpha").ok(&["ping", "-q", "-c", "20", "-i", "0.05", "-s", "1200", "-p", &pattern, to]);
    };
    ping("beta");
    mesh.takes("alpha", "beta", "relayed");
    wait_for("what crossed the server", SOON, || captured().0 > 40 * 1200);
    // What the hub itself is told it may read, and so does who captures on its interface.
    ping("100.64.0.1");
    wait_for("the pattern on the way to the hub", SOON, || captured().1);
    let before = std::fs::read(&seen).expect("a capture");
    let first = before.windows(PATTERN.len()).position(|window| window == PATTERN).expect("just seen");
    assert!(first > 40 * 1200, "the pattern was seen before it was sent to the hub");
}

/// A mesh whose devices know a relay on another machine; with the relay itself.
fn with_relay_alone() -> (Mesh, Rc<Process>) {
    let world = World::new(&["alpha", "beta"]);
    world.on("server").ok(&["mkdir", "-p", "/var/lib/relay"]);
    // Its key is made at its first start; whom it serves is known only later.
    let first = relay_alone(&world, NOBODY);
    let mut key = None;
    wait_for("the relay's key", SOON, || {
        let output = first.output();
        let found = output.rsplit_once("fingerprint=").and_then(|(_, rest)| rest.split_whitespace().next());
        key = found.map(str::to_owned);
        key.is_some()
    });
    first.stop();
    let announced = format!("1=near@{RELAY}#{}", key.expect("just found"));
    let mesh = Mesh::in_world(world, &["--relay", &announced]);
    let tenants = mesh.on("server").json(&["warren", "tenant", "list"]);
    let anchor = tenants["items"][0]["anchor"].as_str().expect("an anchor").to_owned();
    let relay = relay_alone(&mesh, &anchor);
    (mesh, relay)
}

/// Waits until both devices have a link to the relay alone.
fn meet_at_relay(mesh: &Mesh) {
    let sessions = || {
        let text = mesh.on("server").run(&["curl", "-s", "http://127.0.0.1:9080/metrics"]).out;
        text.lines().any(|line| line == "warren_relay_sessions 2")
    };
    wait_for("both devices keep it as their nearest", SOON, sessions);
}

/// Both of the server's programs end.
fn lose_the_server(mesh: &Mesh) {
    meet_at_relay(mesh);
    mesh.announce("agent", "link");
    mesh.announce("agent", "server");
    mesh.apid.kill();
    mesh.netd.kill();
}

#[test]
fn a_relay_alone_carries_on_when_both_programs_of_the_server_are_gone() {
    let (mesh, _relay) = with_relay_alone();
    hidden_from_each_other(&mesh);
    lose_the_server(&mesh);
    let answered = || mesh.on("alpha").run(&["ping", "-q", "-c", "1", "-W", "1", "beta"]).code == 0;
    wait_for("an answer over the relay alone", Duration::from_secs(60), answered);
    mesh.takes("alpha", "beta", "relayed");
}

#[test]
fn a_relay_alone_is_reached_over_tcp_where_there_is_no_udp() {
    let (mesh, _relay) = with_relay_alone();
    mesh.set_nat("r-beta", Nat::Closed);
    let _agents = mesh.enrol(["alpha", "beta"]);
    for device in ["alpha", "beta"] {
        mesh.ready(device, SOON);
    }
    assert_eq!(mesh.status("beta")["link"], "connected by websocket");
    lose_the_server(&mesh);
    // Both ways: who has UDP reaches who has none, and is reached.
    for (one, other) in [("alpha", "beta"), ("beta", "alpha")] {
        let answered = || mesh.on(one).succeeds(&["ping", "-q", "-c", "1", "-W", "1", other]);
        wait_for("an answer over the relay alone", Duration::from_secs(60), answered);
        mesh.takes(one, other, "relayed");
    }
    // As long as the tunnel takes.
    let full = ["ping", "-4", "-q", "-c", "5", "-i", "0.2", "-s", "1392", "-M", "do", "alpha.home.internal"];
    mesh.on("beta").ok(&full);
}

/// A quiet TCP connection is given up half a minute after its last answer, and one with a heartbeat under way half a minute after that
/// was sent; and a moment until it is told.
const TCP_NOTICED: Duration = Duration::from_secs(65);

#[test]
fn a_server_that_is_not_reached_over_tcp_any_more_is_noticed_though_nobody_says_so() {
    let mesh = Mesh::new(&["alpha"]);
    for program in ["agent", "apid"] {
        mesh.announce(program, "link");
    }
    mesh.set_nat("r-alpha", Nat::Closed);
    let _agents = mesh.enrol(["alpha"]);
    mesh.ready("alpha", SOON);
    assert_eq!(mesh.status("alpha")["link"], "connected by websocket");
    mesh.block("r-alpha", "203.0.113.1");
    wait_for("it is noticed", TCP_NOTICED, || mesh.status("alpha")["connected"] == false);
    wait_for("there, too", TCP_NOTICED, || {
        mesh.on("server").json(&["warren", "device", "show", "alpha"])["online"] == false
    });
    mesh.unblock("r-alpha");
    mesh.ready("alpha", TCP_NOTICED);
}

/// A server that is stopped keeps its ports and says nothing: for 13 seconds every link to it seems to stand.
#[test]
fn the_first_packet_is_answered_though_nobody_has_noticed_yet_that_the_server_is_dead() {
    let (mesh, _relay) = with_relay_alone();
    for router in ["r-alpha", "r-beta"] {
        mesh.set_nat(router, Nat::Symmetric);
    }
    let _agents = mesh.enrol(["alpha", "beta"]);
    for device in ["alpha", "beta"] {
        mesh.ready(device, SOON);
    }
    meet_at_relay(&mesh);
    let address = mesh.on("alpha").ok(&["getent", "ahostsv4", "beta"]);
    let address = address.split_whitespace().next().expect("an address").to_owned();
    mesh.announce("agent", "link");
    mesh.announce("agent", "server");
    mesh.apid.signal("STOP");
    mesh.netd.signal("STOP");
    // WireGuard would repeat its handshake after five.
    mesh.on("alpha").ok(&["ping", "-q", "-c", "1", "-W", "4", &address]);
    mesh.takes("alpha", "beta", "relayed");
    mesh.apid.signal("CONT");
    mesh.netd.signal("CONT");
}

/// Longer than a path that is not there any more is believed in, and than it is looked for again at first.
const MOVED: Duration = Duration::from_secs(60);
/// Four seconds of packets: until a path is doubted, twice.
const LOST_MAX: usize = 40;

#[test]
fn without_a_server_devices_move_between_direct_and_relayed_as_ever() {
    let (mesh, _relay) = with_relay_alone();
    mesh.enrol(["alpha", "beta"]);
    for device in ["alpha", "beta"] {
        mesh.ready(device, SOON);
    }
    let pinging = Pinging::start(&mesh, "alpha", "beta");
    wait_for("a direct path", SOON, || mesh.goes("alpha", "beta", "direct"));
    meet_at_relay(&mesh);
    let checked = mesh.on("alpha").json(&["warren", "netcheck"]);
    let relays = checked["relays"].as_array().expect("relays");
    let told: Vec<_> = relays.iter().map(|relay| relay["name"].as_str()).collect();
    assert_eq!(told, [Some("server"), Some("near")], "{checked}");
    // Both are on one machine: which is nearer is chance.
    assert_eq!(relays.iter().filter(|relay| relay["is_home"] == true).count(), 1, "{checked}");
    let is_measured = |relay: &Value| relay["round_trip_micros"].as_u64().is_some_and(|us| us > 0);
    assert!(relays.len() == 2 && relays.iter().all(is_measured), "{checked}");
    let kinds: Vec<_> =
        checked["candidates"].as_array().expect("candidates").iter().map(|c| c["kind"].clone()).collect();
    assert!(kinds.contains(&"local".into()) && kinds.contains(&"reflexive".into()), "{checked}");
    lose_the_server(&mesh);
    for device in ["alpha", "beta"] {
        let is_alone =
            || !mesh.status(device)["link"].as_str().is_some_and(|link| link.starts_with("connected"));
        wait_for("it is known that the server is gone", MOVED, is_alone);
    }
    mesh.block("r-alpha", "203.0.113.20");
    wait_for("the relay", Duration::from_secs(5), || mesh.goes("alpha", "beta", "relayed"));
    let checked = mesh.on("alpha").json(&["warren", "netcheck"]);
    let names = checked["relays"].as_array().expect("relays").iter().map(|relay| relay["name"].clone());
    assert_eq!(names.collect::<Vec<_>>(), ["near"], "the server's is not connected: {checked}");
    assert_eq!(checked["relays"][0]["is_home"], true, "{checked}");
    // UDP comes through: it is the server that does not answer.
    wait_for("the reason", MOVED, || mesh.path("alpha", "beta")["why_not_direct"] == "STUN does not answer");
    let checked = mesh.on("alpha").json(&["warren", "netcheck"]);
    assert_eq!(checked["ipv4"], "STUN does not answer", "{checked}");
    mesh.unblock("r-alpha");
    wait_for("a direct path again, told over the relay", MOVED, || mesh.goes("alpha", "beta", "direct"));
    let lost = pinging.lost();
    assert!(lost <= LOST_MAX, "{lost} packets were lost");
}
