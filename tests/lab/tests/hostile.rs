//! Servers and names that mean no good.
//!
//! ```text
//!   alpha ── r-alpha ─┐
//!   beta  ── r-beta  ─┼─ inet ── server (apid, netd; later another apid on the same address)
//!   a … d ── r-x ─────┘
//! ```

use std::time::Duration;

use lab::{Mesh, SERVER_URL, SOON, TENANT_ZONE, wait_for};

/// Writes twenty times a thousand random bytes, each a datagram where there are datagrams, and a line for each that
/// was taken. Over TCP the other side may hang up in between, but not before the first.
const NOISE: &str = r#"
trap '' PIPE
exec 3>"$1" || exit 1
for number in {1..20}; do
    head -c 1000 /dev/urandom >&3 2>/dev/null && echo "$number"
done
exit 0
"#;

#[test]
fn another_server_on_the_same_address_changes_nothing() {
    let mesh = Mesh::new(&["alpha", "beta"]);
    mesh.enrol(["alpha"]);
    mesh.ready("alpha", SOON);
    let token = mesh.token(&[]);
    for program in ["agent", "netd", "apid"] {
        mesh.announce(program, "link");
        mesh.announce(program, "anchor");
    }
    let interface = mesh.interface("alpha");
    // An address is tentative for its first second, whatever anybody does (RFC 4862, section 5.4).
    let look = format!("wg showconf {interface}; ip -o address | sed 's/ tentative//'; ip route");
    let host = || mesh.on("alpha").ok(&["sh", "-c", &look]);

    // What the true server has to say of a new device comes in several snapshots: the last is there once it says no more.
    mesh.apid.kill();
    let (before, held) = (host(), mesh.status("alpha")["holds"].clone());
    // The same program on the same address, with anchors and keys of its own. It has no hub.
    let forged = ["--state-dir", "/var/lib/warren/forged", "--socket", "/run/warren/forged.sock"];
    let folder = mesh.file("server", "lib/warren/forged");
    std::fs::create_dir(&folder).expect("the node's folder is ours");
    mesh.beside("server").ok(&["chown", "64101:64100", folder.to_str().expect("it is text")]);
    mesh.daemon("server", "apid", &forged);
    let ready = ["curl", "-skf", "https://203.0.113.1:8443/readyz"];
    mesh.on("server").wait("the forged server serves", SOON, &ready, |done| done.code == 0);

    // Nobody resets the old link: alpha notices by its silence.
    wait_for("alpha reports a wrong server", Duration::from_secs(90), || {
        let status = mesh.status("alpha").to_string();
        status.contains("anchor")
    });
    assert_eq!(mesh.status("alpha")["holds"], held);
    assert_eq!(mesh.status("alpha")["state"], "active");
    assert_eq!(host(), before, "nothing on alpha has changed");

    mesh.agent("beta");
    let up = ["warren", "up", "--server", SERVER_URL, "--token", &token, "--timeout", "5s", "--json"];
    let done = mesh.on("beta").run(&up);
    assert!(matches!(done.code, 3 | 6), "the token pins the true server: {}", done.tell());
    assert!(done.err.contains("anchor-unknown"), "{}", done.tell());
    assert_ne!(mesh.status("beta")["state"], "active");
}

#[test]
fn hostile_host_names_become_harmless_ones() {
    let mesh = Mesh::new(&["a@x", "b@x", "c@x", "d@x", "e@x"]);
    let names = [
        ("a", "x\n; rm -rf / #", "x-rm-rf"),
        ("b", "Laptop", "laptop"),
        ("c", "laptop.corp.example.com", "laptop-2"),
        ("d", "\u{65e5}\u{672c}", "device-"),
        ("e", "hub", ""),
    ];
    for (device, hostname, _) in names {
        mesh.agent(device);
        let token = mesh.token(&[]);
        mesh.on(device).ok(&[
            "warren",
            "up",
            "--server",
            SERVER_URL,
            "--token",
            &token,
            "--hostname",
            hostname,
        ]);
    }
    for (device, hostname, expect) in names {
        let status = mesh.status(device);
        let name = status["fqdn"].as_str().and_then(|fqdn| fqdn.split('.').next()).unwrap_or_default();
        assert!(name.starts_with(expect), "{hostname:?} became {name:?}");
        assert!(name != "hub", "the hub's name is its own");
        assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-'), "{name:?}");
        wait_for(&format!("b knows {name}"), SOON, || {
            let answer = mesh.on("b").dig(None, &format!("{name}.{TENANT_ZONE}"), "A");
            status["addresses"].to_string().contains(&format!("{answer:?}"))
        });
    }
}

#[test]
fn hostile_wishes_of_administrators_are_refused_with_a_code() {
    let mesh = Mesh::new(&["alpha"]);
    mesh.enrol(["alpha"]);
    let refused = |args: &[&str]| {
        let done = mesh.on("server").run(&[&["warren"], args, &["--json"]].concat());
        assert!(matches!(done.code, 2 | 3 | 5), "{}", done.tell());
        assert!(!done.err.contains("panicked"), "{}", done.tell());
    };
    refused(&["device", "rename", "alpha", "x y"]);
    refused(&["device", "rename", "alpha", "hub"]);
    refused(&["device", "rename", "nobody", "x"]);
    refused(&["device", "revoke", "../../etc", "--yes"]);
    refused(&["dns", "add", "a\nb", "A", "192.0.2.1"]);
    refused(&["dns", "add", "alpha", "A", "192.0.2.1"]);
    refused(&["dns", "add", "x", "A", "not-an-address"]);
    refused(&["dns", "add", "x.example.com.evil", "CNAME", ".."]);
    refused(&["tenant", "create", "two", "--block", "100.64.0.0/16"]);
    refused(&["token", "create", "--uses", "0"]);
    assert!(mesh.on("alpha").succeeds(&["warren", "status", "--check", "ready"]), "all is as before");
}

#[test]
fn noise_on_every_port_harms_nobody() {
    let mesh = Mesh::new(&["alpha"]);
    mesh.enrol(["alpha"]);
    let names = mesh.device_field("alpha", "address_v4");
    for (kind, host, port) in [
        ("tcp", "203.0.113.1", 8443),
        ("udp", "203.0.113.1", 8443),
        ("udp", "203.0.113.1", 51820),
        ("tcp", "100.64.0.1", 53),
        ("udp", "100.64.0.1", 53),
        ("udp", names.as_str(), 53),
    ] {
        let sent =
            mesh.on("alpha").ok(&["bash", "-c", NOISE, "noise", &format!("/dev/{kind}/{host}/{port}")]);
        let expect = if kind == "udp" { 20 } else { 1 };
        assert!(sent.lines().count() >= expect, "to {host}, {kind} {port}: {sent}");
    }
    assert!(mesh.apid.ended().is_none() && mesh.netd.ended().is_none());
    mesh.on("alpha").reaches("100.64.0.1", SOON);
    mesh.ready("alpha", SOON);
}
