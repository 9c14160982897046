//! Paths whichever engine carries WireGuard: our own, or the kernel's where `scripts/test-kernel` says that there is one
//! (`WARREN_TEST_WIREGUARD`). Beta has our own in any case.
//!
//! ```text
//!   alpha ── r-alpha ─┐
//!                     ├── inet ── server (apid, netd)
//!   beta ─── r-beta ──┘
//! ```

use std::time::Duration;

use lab::{HUB, Mesh, Nat, SOON, TENANT_ZONE, wait_for};

/// A machine that runs in a program takes its time.
const PATIENCE: Duration = Duration::from_secs(60);
/// A device without UDP asks so often whether it comes through, and then notices.
const ASKED_WITHIN: Duration = Duration::from_secs(120 + 60);
/// Of beta's router.
const THERE: &str = "203.0.113.20";

fn engine() -> String {
    std::env::var("WARREN_TEST_WIREGUARD").unwrap_or_else(|_| "userspace".into())
}

fn two(prepare: impl Fn(&Mesh)) -> Mesh {
    let mesh = Mesh::new(&["alpha", "beta"]);
    prepare(&mesh);
    for (device, engine) in [("alpha", engine()), ("beta", "userspace".into())] {
        mesh.agent_with(device, &["--mode", &engine]);
        mesh.join(device, &mesh.token(&[]));
        mesh.ready(device, PATIENCE);
    }
    let told = mesh.status("alpha").to_string();
    assert!(told.contains(&engine()), "{told}");
    mesh
}

fn goes(mesh: &Mesh, way: &str) -> bool {
    mesh.goes("alpha", "beta", way) && mesh.goes("beta", "alpha", way)
}

/// Echoes as long as the tunnel takes come back, both ways.
fn everything_passes(mesh: &Mesh) {
    for (from, to) in [("alpha", "beta"), ("beta", "alpha")] {
        let name = format!("{to}.{TENANT_ZONE}");
        let ping = ["ping", "-4", "-q", "-c5", "-i0.1", "-W2", "-M", "do", "-s", "1392", &name];
        mesh.on(from).ok(&ping);
    }
}

#[test]
fn devices_meet_leave_a_path_that_is_blocked_and_come_back_to_it() {
    let mesh = two(|_| {});
    // The first packet goes over the relay.
    mesh.on("alpha").reaches(&format!("beta.{TENANT_ZONE}"), PATIENCE);
    let talk = ["ping", "-q", "-i0.2", "-w120", &format!("beta.{TENANT_ZONE}")];
    let _talking = mesh.plain("talk", "alpha", &talk);
    wait_for("a direct path", PATIENCE, || goes(&mesh, "direct 203.0.113."));
    everything_passes(&mesh);
    mesh.block("r-alpha", THERE);
    wait_for("the relay", SOON, || goes(&mesh, "relayed"));
    everything_passes(&mesh);
    mesh.unblock("r-alpha");
    wait_for("a direct path again", PATIENCE, || goes(&mesh, "direct 203.0.113."));
    everything_passes(&mesh);
}

#[test]
fn devices_that_cannot_meet_talk_over_the_relay_and_the_hub_carries_nothing() {
    let mesh =
        two(|mesh| ["r-alpha", "r-beta"].iter().for_each(|router| mesh.set_nat(router, Nat::Symmetric)));
    mesh.on("beta").reaches(&format!("alpha.{TENANT_ZONE}"), PATIENCE);
    let before = carried_by_hub(&mesh);
    everything_passes(&mesh);
    assert!(goes(&mesh, "relayed"), "{} {}", mesh.path("alpha", "beta"), mesh.path("beta", "alpha"));
    let carried = carried_by_hub(&mesh) - before;
    assert!(carried < 5 * 1392, "{carried} bytes");
}

#[test]
fn where_udp_is_blocked_the_hub_is_reached_over_the_link_and_by_udp_when_it_comes_through() {
    let mesh = two(|mesh| mesh.set_nat("r-alpha", Nat::Closed));
    mesh.on("alpha").reaches(HUB, PATIENCE);
    mesh.on("alpha").ok(&["ping", "-q", "-c5", "-i0.1", "-W2", "-M", "do", "-s", "1392", HUB]);
    mesh.takes("alpha", "hub", "relayed");
    mesh.set_nat("r-alpha", Nat::PortRestricted);
    wait_for("the hub is reached by UDP", ASKED_WITHIN, || mesh.goes("alpha", "hub", "direct 203.0.113.1:"));
    mesh.on("alpha").reaches(HUB, PATIENCE);
}

/// Bytes of all tunnels to the hub so far.
fn carried_by_hub(mesh: &Mesh) -> u64 {
    let told = mesh.on("server").ok(&["wg", "show", "wg0", "transfer"]);
    told.split_whitespace().filter_map(|word| word.parse::<u64>().ok()).sum()
}
