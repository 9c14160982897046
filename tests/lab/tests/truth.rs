//! What plain tools show is what Warren says.
//!
//! ```text
//!   alpha ── r-alpha ─┐
//!   beta  ── r-beta  ─┼─ inet ── server (apid, netd)
//!   gamma ── r-gamma ─┘
//! ```

use std::collections::BTreeMap;

use lab::{Mesh, SOON};

/// Peers and their allowed addresses, as `wg` prints them.
fn by_wg(mesh: &Mesh) -> BTreeMap<String, Vec<String>> {
    let shown = mesh.on("server").ok(&["wg", "show", "wg0", "allowed-ips"]);
    let peers = shown.lines().filter_map(|line| line.split_once('\t'));
    peers
        .map(|(key, allowed)| {
            let mut allowed: Vec<String> = allowed.split(' ').map(str::to_owned).collect();
            allowed.sort();
            (key.to_owned(), allowed)
        })
        .collect()
}

/// Keys and addresses of active devices, as `warren device list` prints them.
fn by_warren(mesh: &Mesh) -> BTreeMap<String, Vec<String>> {
    let list = mesh.on("server").json(&["warren", "device", "list"]);
    let devices = list["items"].as_array().cloned().unwrap_or_default();
    let active = devices.iter().filter(|device| device["standing"] == "active");
    active
        .map(|device| {
            let text = |field: &str| device[field].as_str().unwrap_or_default().to_owned();
            let mut addresses =
                vec![format!("{}/32", text("address_v4")), format!("{}/128", text("address_v6"))];
            addresses.sort();
            (text("wireguard_key"), addresses)
        })
        .collect()
}

#[test]
fn wg_show_and_device_list_agree() {
    let mesh = Mesh::new(&["alpha", "beta", "gamma"]);
    mesh.enrol(["alpha", "beta", "gamma"]);
    for device in ["alpha", "beta", "gamma"] {
        mesh.ready(device, SOON);
        let shown = mesh.on(device).ok(&["wg", "show", &mesh.interface(device), "public-key"]);
        assert_eq!(shown.trim(), mesh.device_field(device, "wireguard_key"), "the key of {device}");
    }
    lab::wait_for("both agree", SOON, || by_wg(&mesh).len() == 3 && by_wg(&mesh) == by_warren(&mesh));

    mesh.announce("agent-gamma", "revoked");
    mesh.revoke("gamma");
    lab::wait_for("both agree without gamma", SOON, || {
        by_wg(&mesh).len() == 2 && by_wg(&mesh) == by_warren(&mesh)
    });
}

#[test]
fn the_programs_hold_no_more_privilege_than_they_need() {
    let mesh = Mesh::new(&[]);
    let status = |process: &lab::Process| {
        let path = format!("/proc/{}/status", process.id());
        std::fs::read_to_string(path).expect("the process lives")
    };
    let field = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name)).unwrap_or_default();
        line.split_whitespace().nth(1).unwrap_or_default().to_owned()
    };
    let apid = status(&mesh.apid);
    for set in ["CapInh:", "CapPrm:", "CapEff:", "CapBnd:", "CapAmb:"] {
        assert_eq!(field(&apid, set), "0000000000000000", "apid has a capability in {set}");
    }
    let netd = status(&mesh.netd);
    // CAP_NET_BIND_SERVICE is bit 10, CAP_NET_ADMIN bit 12.
    assert_eq!(field(&netd, "CapEff:"), "0000000000001400");
    assert_eq!(field(&netd, "NoNewPrivs:"), "1");
    assert_ne!(field(&apid, "Uid:"), field(&netd, "Uid:"));

    let key = mesh.file("server", "lib/warren/netd/wg.key");
    let mode = mesh.beside("server").ok(&["stat", "-c", "%a %u", key.to_str().expect("it is text")]);
    assert_eq!(mode.trim(), format!("600 {}", field(&netd, "Uid:")), "the hub's key is netd's alone");
}
