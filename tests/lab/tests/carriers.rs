//! How a device reaches its server: QUIC where UDP goes through, WebSocket where it does not.
//!
//! ```text
//!   alpha ── r-alpha (drops UDP in the second story) ── inet ── server (apid, netd)
//! ```

use std::time::{Duration, Instant};

use lab::{Mesh, SERVER_URL, SOON, wait_for};

const NO_UDP: &str = "
table inet no_udp {
    chain forward {
        type filter hook forward priority 0;
        meta l4proto udp drop
    }
}";

#[test]
fn quic_is_first() {
    let mesh = Mesh::new(&["alpha"]);
    let [mut agent] = mesh.enrol(["alpha"]);
    // A busy machine may be sooner by WebSocket, which begins a third of a second later: once, not each time.
    let by_quic = (0..3).any(|_| {
        mesh.ready("alpha", SOON);
        let link = mesh.status("alpha")["link"].clone();
        agent.stop();
        agent = mesh.agent("alpha");
        link == "connected by quic"
    });
    assert!(by_quic, "{}", mesh.status("alpha")["link"]);
}

#[test]
fn websocket_takes_over_within_a_second_where_udp_is_blocked() {
    let mesh = Mesh::new(&["alpha"]);
    mesh.agent("alpha");
    mesh.beside("r-alpha").ok(&["nft", NO_UDP]);
    let token = mesh.token(&[]);
    let start = Instant::now();
    mesh.on("alpha").run(&["warren", "up", "--server", SERVER_URL, "--token", &token]);
    wait_for("a link", SOON, || mesh.status("alpha")["connected"] == true);
    assert!(start.elapsed() < Duration::from_secs(3), "it took {:?}", start.elapsed());
    assert_eq!(mesh.status("alpha")["link"], "connected by websocket");
    mesh.ready("alpha", SOON);
}

#[test]
fn a_link_that_loses_udp_comes_back_over_websocket() {
    let mesh = Mesh::new(&["alpha"]);
    mesh.enrol(["alpha"]);
    mesh.ready("alpha", SOON);
    mesh.announce("agent", "link");
    mesh.announce("apid", "link");
    mesh.beside("r-alpha").ok(&["nft", NO_UDP]);
    // Silence is noticed by QUIC's own idle timer at the latest.
    wait_for("the link is on WebSocket", Duration::from_secs(90), || {
        mesh.status("alpha")["link"] == "connected by websocket"
    });
}
