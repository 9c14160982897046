//! How packets reach another device: directly through both NATs, over the relay where that cannot be, and back.
//!
//! ```text
//!   alpha ── r-alpha ─┐
//!                     ├── inet ── server (apid, netd)
//!   beta ─── r-beta ──┘
//! ```

use std::time::Duration;

use lab::{Mesh, Nat, Node, Pinging, SERVER_URL, SERVER_V6, SOON, TENANT_ZONE, World, until, wait_for};
use serde_json::Value;

fn two(symmetric: &[&str]) -> Mesh {
    let mesh = Mesh::new(&["alpha", "beta"]);
    for router in symmetric {
        mesh.set_nat(router, Nat::Symmetric);
    }
    let _agents = mesh.enrol(["alpha", "beta"]);
    for device in ["alpha", "beta"] {
        mesh.ready(device, SOON);
    }
    wait_for("alpha knows beta", SOON, || mesh.path("alpha", "beta") != Value::Null);
    wait_for("beta knows alpha", SOON, || mesh.path("beta", "alpha") != Value::Null);
    mesh
}

/// The exit code of a doctor that found something.
const DEGRADED: i32 = 7;

#[test]
fn the_first_packet_is_answered_and_the_path_is_direct_a_second_later() {
    let mesh = two(&[]);
    assert!(mesh.goes("alpha", "beta", "idle"), "{}", mesh.path("alpha", "beta"));
    let pinged = mesh.on("alpha").ok(&["warren", "ping", "-W", "5s", "beta"]);
    assert!(!pinged.contains("no reply"), "{pinged}");
    wait_for("a direct path", Duration::from_secs(5), || mesh.goes("alpha", "beta", "direct 203.0.113."));
    wait_for("and back", Duration::from_secs(5), || mesh.goes("beta", "alpha", "direct 203.0.113."));
}

#[test]
fn a_ping_says_how_each_reply_came_and_ends_with_the_first_that_came_directly() {
    let mesh = two(&[]);
    let ping = ["warren", "ping", "-W", "5s", "beta"];
    let told = mesh.on("alpha").ok(&ping);
    let lines: Vec<&str> = told.lines().collect();
    let (last, before) = lines.split_last().expect("a reply");
    assert!(
        last.starts_with("beta.home.internal (100.") && last.contains(" ms, direct 203.0.113.20:"),
        "{told}"
    );
    // Told is how the path is when the reply is there: a pair may have met meanwhile.
    assert!(before.iter().all(|line| line.contains(" ms, relayed")), "{told}");
    // That one is direct from its beginning, but for whoever counts. A busy machine may be silent for so long that the path is doubted.
    wait_for("one reply is enough", SOON, || mesh.on("alpha").ok(&ping).lines().count() == 1);
    let is_direct = |reply: &Value| reply["path"].as_str().is_some_and(|path| path.starts_with("direct"));
    wait_for("three replies where three are wished for", SOON, || {
        let counted = mesh.on("alpha").json(&[&ping[..], &["-c", "3"]].concat());
        let replies = counted["items"].as_array().cloned().unwrap_or_default();
        assert_eq!(replies.len(), 3, "{counted}");
        replies.iter().all(is_direct)
    });
}

#[test]
fn behind_two_symmetric_nats_the_relay_carries_and_says_why() {
    let mesh = two(&["r-alpha", "r-beta"]);
    mesh.on("alpha").ok(&["warren", "ping", "-c", "10", "-W", "5s", "beta"]);
    mesh.takes("alpha", "beta", "relayed");
    wait_for("the reason", SOON, || {
        mesh.path("alpha", "beta")["why_not_direct"] == "both NATs are symmetric"
    });
    let found = mesh.on("alpha").run(&["warren", "doctor", "paths"]);
    assert_eq!(found.code, DEGRADED, "{}", found.tell());
    assert!(found.out.contains("beta: relayed: both NATs are symmetric"), "{}", found.out);
    let checked = mesh.on("alpha").ok(&["warren", "netcheck"]);
    assert!(checked.contains("a symmetric NAT that lets in only whom it wrote to"), "{checked}");
    // As long as the tunnel takes.
    mesh.on("alpha").ok(&[
        "ping",
        "-4",
        "-c",
        "3",
        "-i",
        "0.2",
        "-s",
        "1392",
        "-M",
        "do",
        "beta.home.internal",
    ]);
}

#[test]
fn a_device_without_udp_is_reached_over_the_relay() {
    let mesh = two(&[]);
    mesh.announce("agent", "link");
    mesh.announce("apid", "link");
    mesh.on("alpha").ok(&["warren", "ping", "-W", "5s", "beta"]);
    wait_for("a direct path", SOON, || mesh.goes("alpha", "beta", "direct"));
    mesh.set_nat("r-beta", Nat::Closed);
    wait_for("an answer over the relay", Duration::from_secs(120), || {
        mesh.on("alpha").run(&["ping", "-c", "1", "-W", "1", "beta.home.internal"]).code == 0
    });
    mesh.takes("alpha", "beta", "relayed");
    let found = mesh.on("beta").run(&["warren", "doctor", "paths"]);
    assert_eq!(found.code, DEGRADED, "{}", found.tell());
    assert!(found.out.contains("IPv4: no UDP") && found.out.contains("let UDP out"), "{}", found.out);
}

#[test]
fn a_kernel_that_drops_what_answers_the_meshs_packets_is_named_with_what_mends_it() {
    let mesh = two(&[]);
    mesh.announce("agent", "link");
    mesh.announce("apid", "link");
    let alpha = mesh.on("alpha");
    let route = alpha.ok(&["ip", "-o", "route", "get", "203.0.113.1"]);
    let out =
        route.split(" dev ").nth(1).and_then(|rest| rest.split(' ').next()).expect("an interface").to_owned();
    let doctor = || alpha.run(&["warren", "doctor", "paths"]);
    let names = |done: &lab::Done| done.out.contains("rp_filter");
    let strict = format!("net.ipv4.conf.{out}.rp_filter");
    alpha.ok(&["sysctl", "-qw", "net.ipv4.conf.all.rp_filter=0", &format!("{strict}=1")]);
    assert!(!names(&doctor()), "answers are expected where they come: {}", doctor().tell());

    // Everything is routed over the tunnel, but for what carries it.
    alpha.ok(&["ip", "route", "add", "default", "dev", &mesh.interface("alpha"), "table", "200"]);
    alpha.ok(&["ip", "rule", "add", "pref", "5200", "not", "fwmark", "0x77726e", "lookup", "200"]);
    let told = doctor();
    assert!(told.code == DEGRADED && names(&told), "{}", told.tell());
    let mend = format!("sysctl -w {strict}=2");
    assert!(told.out.contains(&mend), "{}", told.tell());
    alpha.ok(&["bash", "-c", &mend]);
    assert!(!names(&doctor()), "{}", doctor().tell());
}

/// A network that lets out HTTPS at its own port, and nothing else.
const ONLY_443: &str = "
table ip only443 {
    chain through {
        type filter hook forward priority 0; policy drop;
        ct state established accept
        tcp dport 443 accept
    }
}";
/// What a server does for such networks, as docs/paths.md says it.
const SERVE_443: [&str; 3] = [
    "add table ip warren443",
    "add chain ip warren443 before { type nat hook prerouting priority dstnat; }",
    "add rule ip warren443 before tcp dport 443 redirect to :8443",
];

#[test]
fn a_network_that_lets_out_https_and_nothing_else_is_enough() {
    let mesh = Mesh::new(&["alpha", "beta"]);
    mesh.announce("agent", "link");
    for rule in SERVE_443 {
        mesh.on("server").ok(&["nft", rule]);
    }
    for router in ["r-alpha", "r-beta"] {
        mesh.beside(router).ok(&["nft", ONLY_443]);
    }
    let _agents = ["alpha", "beta"].map(|device| {
        let agent = mesh.agent(device);
        mesh.join_at("https://203.0.113.1:443", device, &mesh.token(&[]));
        agent
    });
    mesh.on("alpha").reaches("beta.home.internal", SOON);
    mesh.takes("alpha", "beta", "relayed");
}

/// Packets that may be lost until a NAT's new address is found: four seconds of them.
const FORGOTTEN_LOST_MAX: usize = 40;

#[test]
fn a_nat_that_forgets_everything_is_noticed_by_pings_alone() {
    let mesh = two(&[]);
    let pinging = Pinging::start(&mesh, "alpha", "beta");
    let before = "direct 203.0.113.10:";
    wait_for("a direct path", SOON, || mesh.goes("beta", "alpha", before));
    let router = mesh.beside("r-alpha");
    router.ok(&["ip", "address", "delete", "203.0.113.10/24", "dev", "wan"]);
    router.ok(&["ip", "address", "add", "203.0.113.77/24", "dev", "wan"]);
    router.ok(&["conntrack", "-F"]);
    let after = "direct 203.0.113.77:";
    wait_for("a direct path to where it is now", SOON, || mesh.goes("beta", "alpha", after));
    let lost = pinging.lost();
    assert!(lost <= FORGOTTEN_LOST_MAX, "{lost} packets were lost");
}

/// Longer than the shortest keepalive, and shorter than the one by which a device begins.
const REMEMBERED: [&str; 2] =
    ["net.netfilter.nf_conntrack_udp_timeout=22", "net.netfilter.nf_conntrack_udp_timeout_stream=22"];

#[test]
fn behind_a_nat_that_forgets_soon_a_device_learns_how_often_it_must_be_heard_and_stays_in_reach() {
    let mesh = Mesh::new(&["alpha"]);
    let router = mesh.beside("r-alpha");
    router.ok(&[&["sysctl", "-q", "-w"], &REMEMBERED[..]].concat());
    let _agents = mesh.enrol(["alpha"]);
    mesh.ready("alpha", SOON);
    assert_eq!(mesh.status("alpha")["keepalive_seconds"], Value::Null, "nobody knows yet");
    // Twenty seconds until it begins, and two trials of half a minute, which fail.
    wait_for("it is learnt", Duration::from_secs(180), || mesh.status("alpha")["keepalive_seconds"] == 20);
    let checked = mesh.on("alpha").json(&["warren", "netcheck"]);
    assert_eq!(checked["keepalive_seconds"], 20, "{checked}");
    // What the router knows of the tunnel to the hub, with the number of the entry.
    let known = || router.ok(&["conntrack", "-L", "-p", "udp", "--dport", "51820", "-o", "id"]);
    let number =
        || known().split(" id=").nth(1).and_then(|rest| rest.split_whitespace().next().map(str::to_owned));
    // The keepalive of before may have come too late.
    let settled = || {
        let first = number();
        until(Duration::from_secs(25), || (number() != first).then_some(())).is_none() && first.is_some()
    };
    wait_for("keepalives come in time", Duration::from_secs(60), settled);
    let first = number();
    let forgotten = until(Duration::from_secs(65), || (number() != first).then_some(()));
    assert!(forgotten.is_none(), "the router forgot {first:?} after {forgotten:?}: {}", known());
    let address = mesh.device_field("alpha", "address_v4");
    mesh.on("server").ok(&["ping", "-c1", "-W2", &address]);
}

/// Packets in a second while it is waited for a direct path: enough to keep a pair talked about.
const TALK: [&str; 6] = ["ping", "-q", "-c3", "-i0.2", "-W1", "NAME"];

/// What a pair came to.
struct Met {
    pair: [(&'static str, Nat); 2],
    alive: Option<Duration>,
    direct: Option<Duration>,
    /// What one and the other say of it, and why it is not direct.
    told: [(String, Option<String>); 2],
}

impl std::fmt::Display for Met {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let [(one, _), (other, _)] = self.pair;
        write!(f, "{one:10} {other:10} ")?;
        match (self.alive, self.direct) {
            (None, _) => f.write_str("dead"),
            (Some(alive), None) => write!(f, "alive after {alive:.1?}, {:?}", self.told),
            (Some(alive), Some(direct)) => write!(f, "alive after {alive:.1?}, direct after {direct:.1?}"),
        }
    }
}

/// Lets one talk to the other. Needs the two of them for itself.
fn meet(pair: [(&'static str, Nat); 2], nodes: &[Node; 2]) -> Met {
    let [(one, _), (other, _)] = pair;
    let name = format!("{other}.{TENANT_ZONE}");
    let alive = until(Duration::from_secs(5), || {
        nodes[0].succeeds(&["ping", "-q", "-c1", "-W1", &name]).then_some(())
    });
    let mut talk = TALK;
    talk[5] = &name;
    let is_direct = |node: &Node, peer: &str| way(node, peer).0.starts_with("direct");
    // Who cannot meet is not waited for any longer than says that they do not.
    let patience = if pair[0].1.meets(pair[1].1) { SOON } else { Duration::from_secs(3) };
    let direct = until(patience, || {
        nodes[0].run(&talk);
        (is_direct(&nodes[0], other) && is_direct(&nodes[1], one)).then_some(())
    });
    let told = [way(&nodes[0], other), way(&nodes[1], one)];
    Met { pair, alive: alive.map(|((), took)| took), direct: direct.map(|((), took)| took), told }
}

/// As [`Mesh::path`], from a thread of its own: the way, and why it is not direct.
fn way(node: &Node, peer: &str) -> (String, Option<String>) {
    let status = node.json(&["warren", "status"]);
    let peers = status["peers"].as_array().cloned().unwrap_or_default();
    let found = peers.into_iter().find(|found| found["name"] == peer);
    let found = found.unwrap_or_default();
    let said = |key: &str| found[key].as_str().map(str::to_owned);
    (said("path").unwrap_or_default(), said("why_not_direct"))
}

/// Rounds in which each meets one other at most, until all have met: one stays, the others go around (a tournament).
fn rounds(count: usize) -> Vec<Vec<(usize, usize)>> {
    let seats = count + count % 2;
    (0..seats - 1)
        .map(|round| {
            let seat = |at: usize| if at == 0 { 0 } else { (at - 1 + round) % (seats - 1) + 1 };
            let pairs = (0..seats / 2).map(|at| (seat(at), seat(seats - 1 - at)));
            pairs.filter(|(one, other)| *one < count && *other < count).collect()
        })
        .collect()
}

/// Every kind of place with every other: whoever talks is answered, directly where that can be.
#[test]
fn every_pair_of_places_talks_and_says_how() {
    let mut devices: Vec<(&'static str, Nat)> = Nat::ALL.map(|nat| (nat.name(), nat)).into();
    // Two with IPv6 alone: that pair must not need the other family for anything.
    devices.push(("sixth", Nat::Six));
    // Those with two obstacles, or none that the other cannot have as well.
    devices.extend([
        ("firewall2", Nat::Firewalled),
        ("carrier2", Nat::CarrierGrade),
        ("dual2", Nat::Dual),
        ("closed2", Nat::Closed),
    ]);
    let names: Vec<&str> = devices.iter().map(|(name, _)| *name).collect();
    let world = World::new(&names);
    world.place(&devices);
    let mesh = Mesh::in_world(world, &["--listen", "[::]:8443"]);
    let _agents: Vec<_> = devices
        .iter()
        .map(|(name, nat)| {
            let agent = mesh.agent(name);
            let url =
                if *nat == Nat::Six { format!("https://[{SERVER_V6}]:8443") } else { SERVER_URL.into() };
            mesh.join_at(&url, name, &mesh.token(&[]));
            agent
        })
        .collect();
    for name in &names {
        mesh.ready(name, SOON);
    }
    assert_eq!(mesh.status("closed")["link"], "connected by websocket");
    let mut met = Vec::new();
    for round in rounds(devices.len()) {
        let pairs = round.into_iter().map(|(one, other)| [devices[one], devices[other]]);
        let pairs: Vec<_> = pairs.map(|pair| (pair, pair.map(|(name, _)| mesh.on(name)))).collect();
        std::thread::scope(|scope| {
            let meeting: Vec<_> =
                pairs.iter().map(|(pair, nodes)| scope.spawn(|| meet(*pair, nodes))).collect();
            met.extend(meeting.into_iter().map(|pair| pair.join().expect("two meet")));
        });
    }
    assert_eq!(met.len(), devices.len() * (devices.len() - 1) / 2);
    let told: Vec<String> = met.iter().map(Met::to_string).collect();
    println!("{}", told.join("\n"));
    let is_right = |met: &&Met| {
        let [(_, one), (_, other)] = met.pair;
        // Who may meet, and need not, may do so at any moment, and one side hears of it first.
        let may_say = |(way, why_not): &(String, Option<String>)| {
            (way.starts_with("direct") && one.may_meet(other))
                || (way.starts_with("relayed") && why_not.is_some())
        };
        let has_met = met.direct.is_some() || !one.meets(other);
        met.alive.is_some() && has_met && met.told.iter().all(may_say)
    };
    let wrong: Vec<_> = met.iter().filter(|met| !is_right(met)).map(Met::to_string).collect();
    assert!(wrong.is_empty(), "not as the table says:\n{}", wrong.join("\n"));
}

#[test]
fn neighbours_meet_in_their_own_network_or_at_their_router_if_it_lets_them() {
    let mesh = Mesh::new(&["lan1@lan", "lan2@lan", "far1@far", "far2@far", "hair1@hair", "hair2@hair"]);
    mesh.isolate("r-far", &["far1", "far2"], false);
    mesh.isolate("r-hair", &["hair1", "hair2"], true);
    let names = ["lan1", "lan2", "far1", "far2", "hair1", "hair2"];
    let _agents = mesh.enrol(names);
    for name in names {
        mesh.ready(name, SOON);
    }
    let pairs = [
        ("lan1", "lan2", "direct 192.168.1.3:"),
        ("far1", "far2", "relayed"),
        ("hair1", "hair2", "direct 203.0.113.30:"),
    ];
    std::thread::scope(|scope| {
        for pair in pairs {
            let nodes = [mesh.on(pair.0), mesh.on(pair.1)];
            let expect = pair.2;
            scope.spawn(move || {
                let met = meet([(pair.0, Nat::PortRestricted), (pair.1, Nat::PortRestricted)], &nodes);
                assert!(met.alive.is_some(), "{met}");
                let found = until(SOON, || way(&nodes[0], pair.1).0.starts_with(expect).then_some(()));
                assert!(found.is_some(), "not {expect}: {met}");
            });
        }
    });
}
