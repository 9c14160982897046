//! What is lost when a direct path ends without a word, and when one is found again.

use std::process::{Child, Stdio};
use std::time::Duration;

use lab::{Mesh, SOON, wait_for};

use crate::series::{Bound, Series, Unit};

/// Milliseconds between two packets.
const INTERVAL: f64 = 10.0;
/// One interval between the probes of a path in use, and the packet that is on its way.
const PROBE_INTERVAL: Bound = Bound::AllBelow(1_000.0 + INTERVAL);
/// Each ping goes on so long: a change of path is over by then.
const PING: [&str; 6] = ["ping", "-n", "-q", "-i0.01", "-w20", "-W1"];
/// A direct path is looked for so seldom in the end.
const FOUND: Duration = Duration::from_secs(60);
/// Of beta's router.
const THERE: &str = "203.0.113.20";

/// Blocks the direct path and opens it, again and again.
pub fn measure(rounds: u32) -> Vec<Series> {
    let mesh = Mesh::new(&["alpha", "beta"]);
    let _agents = mesh.enrol(["alpha", "beta"]);
    for device in ["alpha", "beta"] {
        mesh.ready(device, SOON);
    }
    let address = mesh.device_field("beta", "address_v4");
    let goes = |way: &str| mesh.goes("alpha", "beta", way) && mesh.goes("beta", "alpha", way);
    let mut ended = Series::new("lost when a direct path ends", Unit::Milliseconds).must(PROBE_INTERVAL);
    let mut found = Series::new("lost when a direct path is found", Unit::Milliseconds).must(PROBE_INTERVAL);
    for _ in 0..rounds {
        let ping = start(&mesh, &address);
        wait_for("a direct path", FOUND, || goes("direct"));
        ping.wait_with_output().expect("it ends");
        let ping = start(&mesh, &address);
        mesh.block("r-alpha", THERE);
        wait_for("the relay", FOUND, || goes("relayed"));
        ended.push(lost(ping));
        let ping = start(&mesh, &address);
        mesh.unblock("r-alpha");
        wait_for("a direct path again", FOUND, || goes("direct"));
        found.push(lost(ping));
    }
    vec![ended, found]
}

fn start(mesh: &Mesh, address: &str) -> Child {
    let mut ping = mesh.on("alpha").command(&[&PING[..], &[address]].concat());
    ping.stdout(Stdio::piped()).spawn().expect("launchers can be started")
}

/// Milliseconds without an answer, together.
fn lost(ping: Child) -> f64 {
    let output = ping.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let line = text.lines().find(|line| line.contains(" packets transmitted")).expect("ping counts");
    let mut numbers = line.split(' ').filter_map(|word| word.parse::<f64>().ok());
    let (sent, received) = (numbers.next().expect("sent"), numbers.next().expect("received"));
    (sent - received) * INTERVAL
}
