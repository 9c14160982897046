//! Whatever is routed over the tunnel, what carries the tunnel is not: the mesh lives on, directly and relayed.
//!
//! ```text
//!   alpha ── r-alpha ─┐
//!                     ├── inet ── server (apid, netd)
//!   beta ─── r-beta ──┘
//! ```

use std::time::Duration;

use lab::{Mesh, Nat, Node, Pinging, SOON, wait_for};

/// Everything, the internet of the lab, the server, and the other device.
const OVER_THE_TUNNEL: [&str; 4] = ["default", "203.0.113.0/24", "203.0.113.1", "203.0.113.20"];
const REPAIRED: Duration = Duration::from_secs(2);

/// As if the kernel had made them: those are nobody's drift, and stay.
fn route_everything(node: &Node, interface: &str) {
    for to in OVER_THE_TUNNEL {
        node.ok(&["ip", "route", "add", to, "dev", interface, "table", "155", "proto", "ra"]);
    }
    for to in ["203.0.113.1", "203.0.113.20", "198.51.100.1"] {
        assert!(node.ok(&["ip", "route", "get", to]).contains(interface), "programs take the tunnel to {to}");
    }
}

fn rules(node: &Node) -> usize {
    let rules = node.ok(&["ip", "rule"]) + &node.ok(&["ip", "-6", "rule"]);
    rules.lines().filter(|rule| rule.starts_with("5140:") || rule.starts_with("5141:")).count()
}

#[test]
fn the_mesh_lives_on_when_everything_is_routed_into_it() {
    let mesh = Mesh::new(&["alpha", "beta"]);
    mesh.enrol(["alpha", "beta"]);
    let alpha = mesh.on("alpha");
    let pinging = Pinging::start(&mesh, "alpha", "beta");
    wait_for("a direct path", SOON, || mesh.goes("alpha", "beta", "direct 203.0.113."));
    let interface = mesh.interface("alpha");
    route_everything(&alpha, &interface);
    alpha.reaches("100.64.0.1", SOON);
    assert_eq!(pinging.lost(), 0, "packets of a direct path");

    // Sockets that are opened now, too: the link's, which carries what is relayed, over QUIC and over TCP.
    mesh.announce("agent", "link");
    mesh.apid.kill();
    let _apid = mesh.daemon("server", "apid", &[]);
    mesh.server_is_ready(SOON);
    mesh.ready("alpha", Duration::from_secs(60));
    for router in ["r-alpha", "r-beta"] {
        mesh.set_nat(router, Nat::Symmetric);
    }
    wait_for("an answer over the relay", Duration::from_secs(30), || {
        alpha.succeeds(&["ping", "-q", "-c", "1", "-W", "1", "beta.home.internal"])
            && mesh.goes("alpha", "beta", "relayed")
    });
    mesh.set_nat("r-alpha", Nat::Closed);
    wait_for("an answer over the relay without UDP", Duration::from_secs(120), || {
        alpha.succeeds(&["ping", "-q", "-c", "1", "-W", "1", "beta.home.internal"])
            && mesh.status("alpha")["link"] == "connected by websocket"
    });
}

#[test]
fn routes_and_rules_come_and_go_with_the_tunnel() {
    let mesh = Mesh::new(&["alpha"]);
    let [agent] = mesh.enrol(["alpha"]);
    mesh.announce("agent-alpha", "drift");
    let alpha = mesh.on("alpha");
    let interface = mesh.interface("alpha");
    wait_for("rules for both families", SOON, || rules(&alpha) == 4);
    // Where the underlay's packets would find it, no route into the tunnel lasts.
    alpha.ok(&["ip", "route", "add", "203.0.113.1", "dev", &interface]);
    wait_for("the route is gone", REPAIRED, || !alpha.ok(&["ip", "route"]).contains(&interface));

    alpha.ok(&["warren", "down"]);
    wait_for("no rules while the mesh is down", SOON, || rules(&alpha) == 0);
    alpha.ok(&["warren", "up"]);
    wait_for("rules again", SOON, || rules(&alpha) == 4);
    agent.kill();
    let next = mesh.agent("alpha");
    mesh.ready("alpha", SOON);
    assert_eq!(rules(&alpha), 4);
    next.stop();
    wait_for("no rules without an agent", SOON, || rules(&alpha) == 0);
}
