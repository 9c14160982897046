//! Somebody changes by hand what Warren keeps: it is as before within two seconds, and nobody else notices.
//!
//! ```text
//!   alpha ── r-alpha ─┐
//!   beta  ── r-beta  ─┼─ inet ── server (apid, netd)
//!   gamma ── r-gamma ─┘
//! ```

use std::time::Duration;

use lab::{Mesh, Pinging, SOON, wait_for};

const REPAIRED: Duration = Duration::from_secs(2);

/// A userspace interface that was deleted has lost its sessions; after the repair they are there again by then.
const RESUMED: Duration = Duration::from_secs(2);

/// More than the time between two heartbeats.
const HEARTBEAT_MAX: Duration = Duration::from_secs(100);

/// Everything on the host that a snapshot decides, as text that is the same whenever the host is the same. A device
/// listens on whatever port is free.
const LOOK: &str = r#"
exec 2>&1
ip -o link show dev "$1" | grep -oE '<[^>]*>|mtu [0-9]+'
ip -o address show dev "$1" scope global | awk '{ print $3, $4 }' | sort
for table in main 155; do
    ip route show dev "$1" table $table | sort
    ip -6 route show dev "$1" table $table | grep -v ^fe80 | sort
done
ip rule
ip -6 rule
wg show "$1" allowed-ips | awk '{ for (i = 2; i <= NF; i++) print $1, $i }' | sort
[ "$2" != server ] || wg show "$1" listen-port
wg show "$1" persistent-keepalive | sort
wg show "$1" fwmark
nft -s list ruleset
sysctl net.ipv4.ip_forward net.ipv6.conf.all.forwarding
grep -v '^#' /etc/resolv.conf
"#;

fn look(mesh: &Mesh, node: &str, interface: &str) -> String {
    mesh.on(node).run(&["sh", "-c", LOOK, "look", interface, node]).out
}

/// Does something by hand and waits until it is undone.
fn repaired(mesh: &Mesh, node: &str, interface: &str, by_hand: &str) {
    let before = look(mesh, node, interface);
    mesh.on(node).ok(&["sh", "-ec", by_hand]);
    let mut now = String::new();
    let found = lab::until(REPAIRED, || {
        now = look(mesh, node, interface);
        (now == before).then_some(())
    });
    assert!(
        found.is_some(),
        "after `{by_hand}` on {node}, within {REPAIRED:?}\nbefore:\n{before}\nnow:\n{now}"
    );
}

#[test]
fn the_hub_mends_itself_and_other_peers_lose_nothing() {
    let mesh = Mesh::new(&["alpha", "beta", "gamma"]);
    mesh.enrol(["alpha", "beta", "gamma"]);
    mesh.on("beta").reaches("gamma", SOON);
    mesh.announce("netd", "drift");
    let alpha = mesh.device_field("alpha", "wireguard_key");
    let hub = |by_hand: &str| repaired(&mesh, "server", "wg0", by_hand);

    // None of these is in the way of beta and gamma.
    let pinging = Pinging::start(&mesh, "beta", "gamma");
    hub(&format!("wg set wg0 peer {alpha} remove"));
    hub(&format!("wg set wg0 peer {alpha} allowed-ips 192.0.2.1/32"));
    hub("wg set wg0 peer $(wg genkey | wg pubkey) allowed-ips 192.0.2.2/32");
    hub("ip address delete 100.64.0.1/32 dev wg0");
    hub("ip address add 192.0.2.3/32 dev wg0");
    hub("ip route add 192.0.2.0/24 dev wg0");
    hub("ip route add 192.0.2.0/24 dev wg0 table 155");
    hub("ip link set wg0 mtu 1300");
    hub("nft flush ruleset");
    hub("nft delete table inet warren-wg0");
    assert_eq!(pinging.lost(), 0, "packets of beta to gamma");

    // These stop traffic until they are mended.
    hub("ip route delete 100.64.0.0/16 dev wg0 table 155");
    hub("ip rule delete pref 5141");
    hub("ip -6 rule delete pref 5140");
    hub("wg set wg0 fwmark off");
    hub("sysctl -qw net.ipv4.ip_forward=0");
    hub("ip link set wg0 down");
    hub("wg set wg0 listen-port 1234");
    hub("ip link delete wg0");
    mesh.on("beta").reaches("gamma", RESUMED);
    mesh.on("alpha").reaches("gamma", RESUMED);
    let metrics = || mesh.on("server").ok(&["curl", "-sf", "http://127.0.0.1:8080/metrics"]);
    let counted =
        |text: &str| text.lines().find_map(|line| line.strip_prefix("warren_hub_drift ")?.parse().ok());
    wait_for("drift is counted", HEARTBEAT_MAX, || counted(&metrics()).is_some_and(|drift: u64| drift > 10));
}

#[test]
fn a_device_mends_itself_and_other_peers_lose_nothing() {
    let mesh = Mesh::new(&["alpha", "beta", "gamma"]);
    mesh.enrol(["alpha", "beta", "gamma"]);
    mesh.on("beta").reaches("gamma", SOON);
    mesh.on("alpha").reaches("beta", SOON);
    mesh.announce("agent-alpha", "drift");
    let interface = mesh.interface("alpha");
    let own = mesh.device_field("alpha", "address_v4");
    let pinging = Pinging::start(&mesh, "beta", "gamma");
    let by_hand = [
        format!("ip address delete {own}/32 dev {interface}"),
        format!("ip route delete 100.64.0.0/16 dev {interface} table 155"),
        "ip rule delete pref 5141".to_owned(),
        format!("for peer in $(wg show {interface} peers); do wg set {interface} peer $peer remove; done"),
        format!("ip link set {interface} down"),
        format!("ip link delete {interface}"),
    ];
    for by_hand in &by_hand {
        repaired(&mesh, "alpha", &interface, by_hand);
    }
    assert_eq!(pinging.lost(), 0, "packets of beta to gamma");
    mesh.on("alpha").reaches("beta", RESUMED);
    let drift = mesh.status("alpha")["drift_total"].as_u64();
    assert!(drift >= Some(by_hand.len() as u64), "drift is counted: {drift:?}");
}

#[test]
fn somebody_else_may_write_resolv_conf_and_the_mesh_stays_in_it() {
    let mesh = Mesh::new(&["alpha"]);
    mesh.enrol(["alpha"]);
    mesh.announce("agent-alpha", "drift");
    let own = format!("nameserver {}", mesh.device_field("alpha", "address_v4"));
    let file = mesh.file("alpha", "resolv.conf");
    let text = || std::fs::read_to_string(&file).expect("the node has one");
    wait_for("the mesh's resolver is first", SOON, || text().contains(&own));
    std::fs::write(&file, "nameserver 192.0.2.99\n").expect("the node's file is ours");
    wait_for("both are in it", REPAIRED, || text().contains(&own) && text().contains("192.0.2.99"));
    mesh.on("alpha").ok(&["warren", "down"]);
    wait_for("only the other is left", SOON, || !text().contains(&own) && text().contains("192.0.2.99"));
}

#[test]
fn when_nobody_does_anything_nothing_is_changed() {
    let mesh = Mesh::new(&["alpha"]);
    mesh.enrol(["alpha"]);
    mesh.ready("alpha", SOON);
    let held = || mesh.device_field("alpha", "holds");
    let interface = mesh.interface("alpha");
    // The hub may come later, and is news.
    wait_for("alpha has the hub", SOON, || mesh.wg_peers("alpha", &interface).len() == 1);
    wait_for("the server knows", SOON, || mesh.status("alpha")["holds"] == held());
    let (drift, version) = (mesh.status("alpha")["drift_total"].clone(), held());
    let before = look(&mesh, "alpha", &interface);
    // Long enough for a heartbeat and for the slow tick that looks at the host.
    let seen = || mesh.device_field("alpha", "last_seen_at");
    let last = seen();
    wait_for("a heartbeat", HEARTBEAT_MAX, || seen() != last);
    assert_eq!(look(&mesh, "alpha", &interface), before);
    assert_eq!((mesh.status("alpha")["drift_total"].clone(), held()), (drift, version));
}
