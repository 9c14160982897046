//! A NAT that gives ports by chance against one that lets in only whom it wrote to: many sockets meet many guesses.
//!
//! ```text
//!   alpha ── r-alpha (symmetric) ─┐
//!                                 ├── inet ── server (apid, netd)
//!   beta ─── r-beta (cone) ───────┘
//! ```

#![allow(clippy::print_stdout)] // Shown when a story fails.

use std::time::Duration;

use lab::{Mesh, Nat, Pinging, SOON, TENANT_ZONE, wait_for};
use serde_json::Value;

/// One search finds a path in 98 of a hundred, ten seconds after the first packet; a second one begins a minute after the first.
const FOUND: Duration = Duration::from_secs(100);
/// Without packets for two minutes nobody is talked to.
const IDLE: Duration = Duration::from_secs(160);
const MIB: u64 = 1 << 20;

fn two(flags: &[&str]) -> Mesh {
    let mesh = Mesh::new(&["alpha", "beta"]);
    mesh.set_nat("r-alpha", Nat::Symmetric);
    for device in ["alpha", "beta"] {
        mesh.agent_with(device, &[&["--port-mapping", "false"], flags].concat());
        mesh.join(device, &mesh.token(&[]));
        mesh.ready(device, SOON);
    }
    wait_for("alpha knows beta", SOON, || mesh.path("alpha", "beta") != Value::Null);
    wait_for("beta knows alpha", SOON, || mesh.path("beta", "alpha") != Value::Null);
    mesh
}

/// UDP sockets of a device that carry the mesh: WireGuard's, the link's, those that are tried, and side sockets.
fn sockets(mesh: &Mesh, device: &str) -> usize {
    let told = mesh.on(device).ok(&["ss", "-H", "-u", "-a", "-n", "-e"]);
    told.lines().filter(|line| line.contains("fwmark:0x77726e")).count()
}

#[test]
fn a_nat_that_gives_ports_by_chance_is_met_and_its_sockets_are_closed() {
    let mesh = two(&[]);
    let first = sockets(&mesh, "alpha");
    // By which is learnt what the NAT remembers: open from then on.
    wait_for("the two that are tried", Duration::from_secs(40), || sockets(&mesh, "alpha") == first + 2);
    let pinging = Pinging::start(&mesh, "alpha", &format!("beta.{TENANT_ZONE}"));
    let took = wait_for("a direct path both ways", FOUND, || {
        mesh.goes("alpha", "beta", "direct 203.0.113.20:")
            && mesh.goes("beta", "alpha", "direct 203.0.113.10:")
    });
    println!("direct after {took:?}");
    wait_for("all but one are closed", SOON, || sockets(&mesh, "alpha") == first + 3);
    let lost = pinging.lost();
    assert!(lost <= 2, "{lost} packets were lost");

    // Nothing else than the path is left.
    mesh.announce("agent", "link");
    mesh.apid.kill();
    for (from, to) in [("alpha", "beta"), ("beta", "alpha")] {
        mesh.transfer(from, to, &mesh.interface(to)).goes_on(16 * MIB, Duration::from_secs(60));
    }
    mesh.takes("alpha", "beta", "direct");

    let _apid = mesh.daemon("server", "apid", &[]);
    mesh.server_is_ready(SOON);
    mesh.ready("alpha", Duration::from_secs(60));
    wait_for("nobody talks any more", IDLE, || mesh.goes("alpha", "beta", "idle"));
    wait_for("the last is closed", SOON, || sockets(&mesh, "alpha") <= first + 2);
}

#[test]
fn a_device_that_is_told_not_to_opens_no_sockets_and_stays_relayed() {
    let mesh = two(&["--birthday", "false"]);
    let first = sockets(&mesh, "alpha");
    let pinging = Pinging::start(&mesh, "alpha", &format!("beta.{TENANT_ZONE}"));
    wait_for("nothing answers", Duration::from_secs(30), || {
        let why = mesh.path("alpha", "beta")["why_not_direct"].clone();
        assert!(sockets(&mesh, "alpha") <= first + 4, "side sockets were opened");
        why == "one NAT is symmetric and the other side lets in only whom it wrote to"
    });
    mesh.takes("alpha", "beta", "relayed");
    assert_eq!(pinging.lost(), 0);
}
