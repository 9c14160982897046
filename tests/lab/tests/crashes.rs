//! `kill -9` of each program, and machines that start while the server is away.
//!
//! ```text
//!   alpha ── r-alpha ─┐
//!   beta  ── r-beta  ─┴─ inet ── server (apid, netd)
//! ```

use std::time::{Duration, Instant};

use lab::{HUB, Mesh, Pinging, SOON, TENANT_ZONE, wait_for};
use serde_json::Value;

/// A userspace hub that was killed has lost its sessions; once it is back it makes new ones in this time.
const RESUMED: Duration = Duration::from_secs(2);

/// A link that is gone is a warning: somebody should look, today.
fn announce_lost_links(mesh: &Mesh) {
    for program in ["agent", "netd", "apid"] {
        mesh.announce(program, "link");
    }
}

/// Whether its packets to another device go to no server.
fn is_direct(mesh: &Mesh, device: &str) -> bool {
    let status = mesh.status(device);
    let mut peers = status["peers"].as_array().into_iter().flatten().filter(|peer| peer["name"] != "hub");
    peers.all(|peer| peer["path"].as_str().is_some_and(|path| path.starts_with("direct")))
}

#[test]
fn without_apid_tunnels_names_and_repair_go_on() {
    let mesh = Mesh::new(&["alpha", "beta"]);
    mesh.enrol(["alpha", "beta"]);
    mesh.on("alpha").reaches("beta", SOON);
    // Until then their packets cross the server's relay, which is a part of apid.
    wait_for("a direct path", SOON, || ["alpha", "beta"].into_iter().all(|device| is_direct(&mesh, device)));
    announce_lost_links(&mesh);
    mesh.announce("netd", "drift");

    let pinging = Pinging::start(&mesh, "alpha", "beta");
    let beta = mesh.device_field("beta", "address_v4");
    mesh.apid.kill();
    let key = mesh.on("alpha").ok(&["wg", "show", &mesh.interface("alpha"), "public-key"]);
    mesh.on("server").ok(&["wg", "set", "wg0", "peer", key.trim(), "persistent-keepalive", "7"]);
    wait_for("netd repairs drift alone", Duration::from_secs(2), || {
        !mesh.on("server").ok(&["wg", "show", "wg0", "persistent-keepalive"]).contains("\t7\n")
    });
    let (name, beta) = (format!("beta.{TENANT_ZONE}"), beta.as_str());
    for asked in [None, Some(HUB)] {
        assert_eq!(mesh.on("alpha").dig(asked, &name, "A"), beta, "names go on, asked at {asked:?}");
    }
    assert_eq!(pinging.lost(), 0);

    let start = Instant::now();
    mesh.daemon("server", "apid", &[]);
    mesh.server_is_ready(SOON);
    // As the server sees it: a device learns only after a while that its link is one of the past.
    let online = |device| mesh.device(device).is_some_and(|device| device["online"] == true);
    wait_for("all are back", SOON, || ["alpha", "beta"].into_iter().all(online));
    assert!(start.elapsed() < Duration::from_secs(10), "all are back after {:?}", start.elapsed());
    mesh.on("server").ok(&["warren", "device", "rename", "beta", "desk"]);
    mesh.on("alpha").reaches("desk", SOON);
}

#[test]
fn netd_comes_back_and_so_do_the_tunnels() {
    let mesh = Mesh::new(&["alpha", "beta"]);
    mesh.enrol(["alpha", "beta"]);
    mesh.on("alpha").reaches("beta", SOON);
    announce_lost_links(&mesh);
    let before = mesh.on("server").ok(&["wg", "show", "wg0", "public-key"]);
    // A hub whose devices came more than a moment ago.
    let noted =
        || std::fs::read_to_string(mesh.file("server", "lib/warren/netd/endpoints")).unwrap_or_default();
    let both = ["alpha", "beta"].map(|device| mesh.device_field(device, "wireguard_key"));
    wait_for("the hub notes where its devices are", SOON, || both.iter().all(|key| noted().contains(key)));

    mesh.netd.kill();
    mesh.daemon("server", "netd", &[]);
    mesh.server_is_ready(SOON);
    mesh.on("alpha").reaches("beta", RESUMED);
    assert_eq!(mesh.on("server").ok(&["wg", "show", "wg0", "public-key"]), before, "the hub keeps its key");
}

#[test]
fn an_agent_comes_back_with_its_tunnel() {
    let mesh = Mesh::new(&["alpha", "beta"]);
    let [alpha, _] = mesh.enrol(["alpha", "beta"]);
    mesh.on("alpha").reaches("beta", SOON);
    announce_lost_links(&mesh);
    let address = mesh.device_field("alpha", "address_v4");

    alpha.kill();
    mesh.agent("alpha");
    let took = mesh.on("alpha").reaches("beta", SOON);
    assert!(took < Duration::from_secs(4), "the tunnel is back after {took:?}");
    mesh.ready("alpha", SOON);
    assert_eq!(mesh.device_field("alpha", "address_v4"), address);
    let devices = mesh.on("server").json(&["warren", "device", "list"]);
    assert_eq!(devices["items"].as_array().map(Vec::len), Some(2), "nobody enrolled twice");
}

#[test]
fn a_device_that_boots_while_the_server_is_down_has_interface_and_names_in_three_seconds() {
    let mesh = Mesh::new(&["alpha", "beta"]);
    let [alpha, _] = mesh.enrol(["alpha", "beta"]);
    mesh.ready("alpha", SOON);
    announce_lost_links(&mesh);
    let interface = mesh.interface("alpha");
    let (alpha_address, beta_address) =
        (mesh.device_field("alpha", "address_v4"), mesh.device_field("beta", "address_v4"));
    // What alpha says that it holds is on its disk.
    let known = || mesh.device("alpha").map(|device| device["holds"].clone());
    wait_for("alpha has kept that beta joined", SOON, || {
        known().is_some_and(|holds| holds == mesh.status("alpha")["holds"])
            && mesh.path("alpha", "beta") != Value::Null
    });
    alpha.kill();
    mesh.apid.kill();
    mesh.netd.kill();

    let start = Instant::now();
    mesh.daemon("alpha", "agent", &[]);
    let show = ["ip", "-o", "address", "show", "dev", &interface];
    mesh.on("alpha").wait("the interface", SOON, &show, |done| done.out.contains(&alpha_address));
    let name = format!("beta.{TENANT_ZONE}");
    wait_for("names", SOON, || mesh.on("alpha").dig(None, &name, "A") == beta_address);
    assert!(start.elapsed() < Duration::from_secs(3), "it took {:?}", start.elapsed());
}

#[test]
fn every_program_drains_when_it_is_told_to() {
    let mesh = Mesh::new(&["alpha"]);
    let resolver = || std::fs::read_to_string(mesh.file("alpha", "resolv.conf")).expect("it is there");
    let original = resolver();
    let [agent] = mesh.enrol(["alpha"]);
    announce_lost_links(&mesh);
    wait_for("the mesh's names are in it", SOON, || resolver() != original);
    agent.stop();
    mesh.netd.stop();
    mesh.apid.stop();
    assert_eq!(resolver(), original, "the machine's resolver is as it was");
}
