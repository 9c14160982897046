//! What is lost when a direct path ends without a word, and when one is found again.

use std::rc::Rc;
use std::time::Duration;

use lab::{Mesh, Process, SOON, wait_for};

use super::pass;
use crate::series::{Bound, Series, Unit};

/// No more than what is sent between two probes of a path that carries packets: its silence is noticed and asked after within 150 ms, and
/// 100 ms later packets go over the relay as well.
const ENDED: Bound = Bound::AllBelow(400.0);
/// A path that is found costs what is on its way when packets change over.
const CHANGED: Bound = Bound::AllBelow(50.0);
/// Each round blocks the path at another moment between two probes.
const STEP: Duration = Duration::from_millis(90);
const PING: [&str; 5] = ["ping", "-n", "-q", "-i0.01", "-W1"];
/// Before a change, so that the path is in use; and after it, so that what it cost is over.
const AROUND: Duration = Duration::from_secs(2);
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
    let mut ended = Series::new("lost when a direct path ends", Unit::Milliseconds).must(ENDED);
    let mut found = Series::new("lost when a direct path is found", Unit::Milliseconds).must(CHANGED);
    let begun = start(&mesh, &address, 0);
    wait_for("a direct path", FOUND, || goes("direct"));
    lost(&begun);
    for round in 1..=rounds {
        let ping = start(&mesh, &address, round);
        pass(AROUND + STEP * (round % 4));
        mesh.block("r-alpha", THERE);
        wait_for("the relay", FOUND, || goes("relayed"));
        ended.push(lost(&ping));
        let ping = start(&mesh, &address, round);
        mesh.unblock("r-alpha");
        wait_for("a direct path again", FOUND, || goes("direct"));
        found.push(lost(&ping));
    }
    vec![ended, found]
}

fn start(mesh: &Mesh, address: &str, round: u32) -> Rc<Process> {
    mesh.plain(&format!("ping-{round}"), "alpha", &[&PING[..], &[address]].concat())
}

/// Milliseconds without an answer, together, until some time from now.
fn lost(ping: &Process) -> f64 {
    pass(AROUND);
    ping.signal("INT");
    wait_for("ping ends", SOON, || ping.ended().is_some());
    let text = ping.output();
    let line = text.lines().find(|line| line.contains(" packets transmitted")).expect("ping counts");
    let mut numbers = line.split(' ').filter_map(|word| word.trim_end_matches("ms").parse::<f64>().ok());
    let (sent, received) = (numbers.next().expect("sent"), numbers.next().expect("received"));
    // Two packets are further apart than asked for, as far as the machine's timers go.
    let time = numbers.next_back().expect("the time of all");
    (sent - received) * time / sent.max(1.0)
}
