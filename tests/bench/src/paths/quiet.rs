//! What an idle agent sends and is sent in a day: one behind a NAT, with a hundred peers that nobody talks to. Every byte of its
//! underlay is counted, with the headers of IP.

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
const ETHERNET_HEADER_BYTES: f64 = 14.0;

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
    let _agents = mesh.enrol(["alpha"]);
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
    let shown = mesh.on("alpha").run(&["ip", "-s", "-j", "link", "show", "eth0"]).ok_json();
    ["rx", "tx"].map(|way| {
        let of = |what: &str| shown[0]["stats64"][way][what].as_f64().expect("Linux counts them");
        of("bytes") - of("packets") * ETHERNET_HEADER_BYTES
    })
}
