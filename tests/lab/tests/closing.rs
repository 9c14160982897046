//! What takes a device out of the mesh for a while, on the network: its time is over, or its tenant is closed.
//!
//! ```text
//!   alpha ── r-alpha ─┐
//!   beta  ── r-beta  ─┴─ inet ── server (apid, netd)
//! ```

use lab::{Mesh, SOON, TENANT_ZONE, wait_for};

fn state(mesh: &Mesh, device: &str, is: &str) {
    wait_for(&format!("{device} knows that it is {is}"), SOON, || mesh.status(device)["state"] == is);
}

#[test]
fn an_expired_device_is_nobodys_peer_and_comes_back_with_more_time() {
    let mesh = Mesh::new(&["alpha", "beta"]);
    mesh.enrol(["alpha", "beta"]);
    mesh.on("alpha").reaches("beta", SOON);
    let (key, address) =
        (mesh.device_field("beta", "wireguard_key"), mesh.device_field("beta", "address_v4"));
    mesh.on("server").ok(&["warren", "device", "set", "beta", "--expires", "1s"]);
    state(&mesh, "beta", "expired");
    wait_for("the hub forgets beta", SOON, || !mesh.wg_peers("server", "wg0").contains(&key));
    wait_for("alpha forgets beta", SOON, || {
        mesh.on("alpha").dig(None, &format!("beta.{TENANT_ZONE}"), "A").is_empty()
    });
    assert!(!mesh.on("alpha").succeeds(&["ping", "-q", "-c1", "-W1", &address]), "beta still answers");
    let doctor = mesh.on("beta").run(&["warren", "ping", "alpha", "--json"]);
    assert!(doctor.err.contains("device-expired"), "the next step is named: {}", doctor.tell());

    mesh.on("server").ok(&["warren", "device", "set", "beta", "--expires", "never"]);
    mesh.ready("beta", SOON);
    mesh.on("alpha").reaches("beta", SOON);
    assert_eq!(mesh.device_field("beta", "address_v4"), address, "as it was");
}

#[test]
fn a_closed_tenant_is_dark_and_a_restored_one_is_as_it_was() {
    let mesh = Mesh::new(&["alpha", "beta"]);
    mesh.enrol(["alpha", "beta"]);
    mesh.on("alpha").reaches("beta", SOON);
    let address = mesh.device_field("beta", "address_v4");
    wait_for("the hub knows both", SOON, || mesh.wg_peers("server", "wg0").len() == 2);
    let peers = mesh.wg_peers("server", "wg0");
    let token = mesh.token(&[]);

    mesh.on("server").ok(&["warren", "tenant", "delete", "home", "--grace", "1h", "--yes"]);
    for device in ["alpha", "beta"] {
        state(&mesh, device, "closed");
    }
    wait_for("the hub has no peer of it", SOON, || mesh.wg_peers("server", "wg0").is_empty());
    assert!(!mesh.on("alpha").succeeds(&["ping", "-q", "-c1", "-W1", &address]), "not even directly");
    let refused = mesh.on("server").run(&["warren", "token", "create", "--json"]);
    assert!(refused.code == 3 && refused.err.contains("tenant-closed"), "{}", refused.tell());

    mesh.on("server").ok(&["warren", "tenant", "restore", "home"]);
    for device in ["alpha", "beta"] {
        mesh.ready(device, SOON);
    }
    wait_for("the hub knows both again", SOON, || mesh.wg_peers("server", "wg0") == peers);
    mesh.on("alpha").reaches("beta", SOON);
    assert!(
        !token.is_empty()
            && mesh.on("server").json(&["warren", "token", "list"])["items"][0]["state"] == "used"
    );
}
