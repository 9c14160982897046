//! Devices of one family each, and a server of both as it comes: no setting of it says which.
//!
//! ```text
//!   six ─── r-six (IPv6) ────┐
//!                            ├── inet ── server (apid, netd), both families under one name
//!   four ── r-four (IPv4) ───┘
//! ```

use lab::{Mesh, Nat, SERVER_V6, SOON, TENANT_ZONE, World};

const NAME: &str = "servers.example.org";
/// The hub's own address in the mesh.
const HUB: &str = "100.64.0.1";

#[test]
fn a_device_with_ipv6_alone_and_one_with_ipv4_alone_join_by_one_name_and_talk() {
    let world = World::new(&["six", "four"]);
    world.place(&[("six", Nat::Six), ("four", Nat::PortRestricted)]);
    // IPv4 has it already.
    world.know(NAME, SERVER_V6);
    std::fs::write(world.file("server", "address"), NAME).expect("the world's folder can be written");
    let mesh = Mesh::in_world(world, &[]);
    for device in ["six", "four"] {
        // A busy machine may be sooner by WebSocket.
        mesh.agent_with(device, &["--carrier", "quic"]);
        mesh.join_at(&format!("https://{NAME}:8443"), device, &mesh.token(&[]));
        mesh.ready(device, SOON);
        assert_eq!(mesh.status(device)["link"], "connected by quic");
        mesh.on(device).reaches(HUB, SOON);
    }
    for (from, to) in [("six", "four"), ("four", "six")] {
        mesh.on(from).reaches(&format!("{to}.{TENANT_ZONE}"), SOON);
        mesh.takes(from, to, "relayed");
    }
    // And people reach it over either.
    for family in ["-4", "-6"] {
        let ask = ["curl", "-sk", family, "-o", "/dev/null", "https://servers.example.org:8443"];
        mesh.on("server").ok(&ask);
    }
}
