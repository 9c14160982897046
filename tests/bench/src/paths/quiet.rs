//! What an idle agent sends and is sent in a day: one behind a NAT, with a hundred peers that nobody talks to. Every byte of its UDP
//! and TCP is counted, with the headers of IP: its link, the tunnel to the hub, STUN. Names of others are not asked for, as it would
//! where a resolver is away: the bench has none.

use std::fs::File;
use std::thread;
use std::time::{Duration, Instant};

use lab::{Mesh, SOON, wait_for};
use link::PreferCarrier;
use nix::sched::{CloneFlags, setns};
use tokio::runtime::Runtime;

use super::member::member;
use super::pass;
use crate::series::{Bound, Series, Unit};

const DAY: f64 = 24.0 * 3600.0;
/// Two million bytes, in what the table counts.
const QUIET: Bound = Bound::AllBelow(2_000_000.0 / 1024.0 / 1024.0);
const COUNTERS: &str = r#"
table inet counted {
    counter received {}
    counter sent {}
    chain in {
        type filter hook input priority 0;
        iifname "eth0" meta l4proto { tcp, udp } counter name received
    }
    chain out {
        type filter hook output priority 0;
        oifname "eth0" meta l4proto { tcp, udp } counter name sent
    }
}"#;

/// How much is measured.
#[derive(Debug)]
pub struct Scale {
    peers: u32,
    /// From the last peer on: what the NAT allows is learnt by then.
    settling: Duration,
    counted: Duration,
}

/// With all that comes once in a few minutes.
pub const FULL: Scale =
    Scale { peers: 100, settling: Duration::from_secs(600), counted: Duration::from_secs(900) };
/// To see that it works.
pub const CHECK: Scale =
    Scale { peers: 5, settling: Duration::from_secs(10), counted: Duration::from_secs(120) };

/// Lets one device stand idle, and counts.
pub fn measure(scale: &Scale) -> Vec<Series> {
    let mesh = Mesh::new(&["alpha"]);
    let _agent = mesh.agent_with("alpha", &["--dns-forward", "off"]);
    mesh.join("alpha", &mesh.token(&[]));
    mesh.on("alpha").ok(&["nft", COUNTERS]);
    mesh.ready("alpha", SOON);
    let token = mesh.token(&["--uses", &scale.peers.to_string()]).parse().expect("a token");
    let server = File::open(format!("/run/netns/{}-server", mesh.prefix())).expect("the server's namespace");
    let peers = scale.peers;
    let enrolling = thread::spawn(move || {
        setns(server, CloneFlags::CLONE_NEWNET).expect("root may enter a namespace");
        let runtime = Runtime::new().expect("threads can be started");
        runtime.block_on(async {
            for number in 0..peers {
                drop(member(&token, number, PreferCarrier::OnlyQuic).await);
            }
        });
    });
    enrolling.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
    let all = peers as usize + 1;
    wait_for("it knows its peers", SOON, || {
        mesh.status("alpha")["peers"].as_array().is_some_and(|peers| peers.len() == all)
    });
    pass(scale.settling);
    let (before, since) = (underlay(&mesh), Instant::now());
    pass(scale.counted);
    let days = since.elapsed().as_secs_f64() / DAY;
    let after = underlay(&mesh);
    let part = |before: f64, after: f64| (after - before) / days / 1024.0 / 1024.0;
    let name = |what: &str| format!("a day of {peers} idle peers, {what}");
    let both = part(before[0] + before[1], after[0] + after[1]);
    vec![
        Series { bound: Some(QUIET), ..Series::one(name("all"), Unit::Megabytes, both) },
        Series::one(name("received"), Unit::Megabytes, part(before[0], after[0])),
        Series::one(name("sent"), Unit::Megabytes, part(before[1], after[1])),
    ]
}

/// Bytes of IP that came to and left the device so far.
fn underlay(mesh: &Mesh) -> [f64; 2] {
    ["received", "sent"].map(|name| {
        let told = mesh.on("alpha").run(&["nft", "-j", "list", "counter", "inet", "counted", name]).ok_json();
        let counters = told["nftables"].as_array().into_iter().flatten();
        let bytes = counters.filter_map(|part| part["counter"]["bytes"].as_f64()).next();
        bytes.expect("nftables counts them")
    })
}
