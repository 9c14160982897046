//! A client without an agent: a configuration of `warren device add-plain`, in the hands of Debian's wg-quick.
//!
//! ```text
//!   alpha (agent)         ── r-alpha ─┐
//!                                     ├─ inet ── server (apid, netd: the hub, which forwards)
//!   phone (wg-quick, wireguard-go) ── r-phone ─┘
//! ```

use std::os::unix::fs::PermissionsExt as _;
use std::time::Duration;

use lab::{HUB, Mesh, Nat, Pinging, SOON, TENANT_ZONE, wait_for};

/// A device without UDP asks so often whether it comes through, and then notices.
const ASKED_WITHIN: Duration = Duration::from_secs(120 + 10);

#[test]
fn a_client_without_an_agent_reaches_the_mesh_through_the_hub() {
    let mesh = Mesh::new(&["alpha", "phone"]);
    mesh.enrol(["alpha"]);
    let file = mesh.file("phone", "plain.conf");
    let path = file.to_str().expect("a path of the lab is text");
    mesh.on("server").ok(&["warren", "device", "add-plain", "phone", "--tag", "mobile", "--out", path]);
    let mode = std::fs::metadata(&file).expect("written").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "whoever reads it is the device");
    let config = std::fs::read_to_string(&file).expect("text");
    let dns = config.lines().find(|line| line.starts_with("DNS")).expect("names have a server").to_owned();
    assert_eq!(dns.split(" = ").nth(1).and_then(|list| list.split(", ").next()), Some("100.64.0.1"));
    // For names wg-quick wants a resolvconf, which the lab's machines do not have.
    std::fs::write(&file, config.replace(&dns, "")).expect("written");

    mesh.on("phone").ok(&["wg-quick", "up", path]);
    let (alpha, phone) = (mesh.device_field("alpha", "address_v4"), mesh.device_field("phone", "address_v4"));
    mesh.on("phone").reaches(&alpha, SOON);
    mesh.on("phone").reaches(&mesh.device_field("alpha", "address_v6"), SOON);
    mesh.on("alpha").reaches("phone", SOON);
    assert_eq!(mesh.on("phone").dig(Some("100.64.0.1"), &format!("alpha.{TENANT_ZONE}"), "A"), alpha);
    let key = mesh.device_field("phone", "wireguard_key");
    assert_eq!(mesh.device_field("phone", "kind"), "plain");
    assert!(mesh.wg_peers("server", "wg0").contains(&key));
    let of_alpha = mesh.wg_peers("alpha", &mesh.interface("alpha"));
    assert!(!of_alpha.contains(&key), "alpha reaches it as it does the hub: {of_alpha:?}");

    mesh.revoke("phone");
    wait_for("the hub drops phone", SOON, || !mesh.wg_peers("server", "wg0").contains(&key));
    wait_for("alpha forgets its name", SOON, || {
        mesh.on("alpha").dig(None, &format!("phone.{TENANT_ZONE}"), "A").is_empty()
    });
    assert!(!mesh.on("alpha").succeeds(&["ping", "-q", "-c1", "-W1", &phone]), "phone still answers");
}

#[test]
fn a_device_without_udp_reaches_the_hub_and_who_is_behind_it_over_its_link() {
    let mesh = Mesh::new(&["alpha", "beta", "phone"]);
    mesh.set_nat("r-alpha", Nat::Closed);
    mesh.enrol(["alpha", "beta"]);
    let file = mesh.file("phone", "plain.conf");
    let path = file.to_str().expect("a path of the lab is text");
    mesh.on("server").ok(&["warren", "device", "add-plain", "phone", "--out", path]);
    let config = std::fs::read_to_string(&file).expect("text");
    let without_names: Vec<&str> = config.lines().filter(|line| !line.starts_with("DNS")).collect();
    std::fs::write(&file, without_names.join("\n")).expect("written");
    mesh.on("phone").ok(&["wg-quick", "up", path]);

    let alpha = mesh.device_field("alpha", "address_v4");
    mesh.on("phone").reaches(&alpha, SOON);
    mesh.on("alpha").reaches(HUB, SOON);
    mesh.on("alpha").reaches("phone", SOON);
    mesh.on("phone").reaches(&mesh.device_field("alpha", "address_v6"), SOON);
    mesh.on("alpha").ok(&["ping", "-q", "-c1", "-W1", "-s", "1352", "-M", "do", HUB]);
    let key = mesh.device_field("alpha", "wireguard_key");
    let seen_at = || {
        let endpoints = mesh.on("server").ok(&["wg", "show", "wg0", "endpoints"]);
        endpoints.lines().find_map(|line| line.strip_prefix(&key)).expect("a peer").trim().to_owned()
    };
    assert!(seen_at().starts_with("127."), "{}", seen_at());
    mesh.takes("alpha", "hub", "relayed");
    assert_eq!(mesh.path("alpha", "hub")["why_not_direct"], "UDP is blocked here");

    // When UDP comes through, the hub is where it answers, and who is behind it notices nothing.
    let pings = [Pinging::start(&mesh, "alpha", HUB), Pinging::start(&mesh, "phone", &alpha)];
    mesh.set_nat("r-alpha", Nat::PortRestricted);
    wait_for("alpha asks again, and comes by UDP", ASKED_WITHIN, || !seen_at().starts_with("127."));
    let lost = pings.map(Pinging::lost);
    assert!(lost.iter().all(|lost| *lost <= 5), "half a second at most: {lost:?}");
    mesh.set_nat("r-alpha", Nat::Closed);
}

#[test]
fn a_private_key_is_shown_once_and_kept_nowhere() {
    let mesh = Mesh::new(&["alpha"]);
    let server = mesh.on("server");
    let status = ["warren", "server", "status", "--json"];
    server.wait("the tenant knows its hub", SOON, &status, |done| done.out.contains("\"endpoint\""));
    let config = server.ok(&["warren", "device", "add-plain", "tablet"]);
    let key = config.lines().find_map(|line| line.strip_prefix("PrivateKey = ")).expect("a key").to_owned();
    let picture = server.ok(&["warren", "device", "add-plain", "phone", "--qr"]);
    assert!(picture.contains('█') && !picture.contains("PrivateKey"), "{picture}");
    let added = server.json(&["warren", "device", "add-plain", "watch"]);
    assert!(added["config"].as_str().is_some_and(|config| config.contains("PrivateKey = ")), "{added}");
    let shown = server.run(&["warren", "device", "show", "tablet", "--json"]).ok();
    assert!(!shown.contains(&key), "{shown}");
    let found = std::process::Command::new("grep")
        .args(["-rqF", key.trim_end_matches('=')])
        .arg(mesh.file("server", ""))
        .status();
    assert_eq!(found.expect("grep is everywhere").code(), Some(1), "the server has the private key");
    let again = server.run(&["warren", "device", "add-plain", "tablet", "--json"]);
    assert!(again.code == 3 && again.err.contains("name-taken"), "{}", again.tell());
}
