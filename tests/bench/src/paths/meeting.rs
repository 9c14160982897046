//! Two devices that never talked: when the first packet is answered, and when packets go directly.

use std::process::Stdio;
use std::time::{Duration, Instant};

use lab::{Mesh, Nat, SOON, World, until};

use crate::series::{Bound, Series, Unit};
use crate::usage::milliseconds;

/// Over a relay, on a network that itself takes no time.
const FIRST_PACKET: Bound = Bound::P99Below(100.0);
const DIRECT: Bound = Bound::P99Below(1_000.0);
/// Kinds whose pairs must meet; two devices of each.
const CONES: [Nat; 4] = [Nat::Static, Nat::FullCone, Nat::AddressRestricted, Nat::PortRestricted];
/// Packets that keep a pair talking until it is seen whether it goes directly.
const TALK: [&str; 5] = ["ping", "-n", "-i0.1", "-c30", "-W1"];
/// As long as they are sent.
const DIRECT_TIME_MAX: Duration = Duration::from_secs(3);

/// How much is measured.
#[derive(Debug)]
pub struct Scale {
    /// Behind symmetric NATs, so that only the relay is left.
    hidden: usize,
    cones: usize,
}

/// Ten pairs that are relayed, and 28 that are not.
pub const FULL: Scale = Scale { hidden: 5, cones: 2 * CONES.len() };
/// To see that it works.
pub const CHECK: Scale = Scale { hidden: 2, cones: 2 };

/// Lets each meet each other of its kind.
pub fn measure(scale: &Scale) -> Vec<Series> {
    let hidden: Vec<String> = (0..scale.hidden).map(|number| format!("hidden{number}")).collect();
    let cones: Vec<String> = (0..scale.cones).map(|number| format!("cone{number}")).collect();
    let placed = hidden.iter().map(|name| (name.as_str(), Nat::Symmetric));
    let placed: Vec<(&str, Nat)> = placed
        .chain(cones.iter().zip(CONES.into_iter().cycle()).map(|(name, nat)| (name.as_str(), nat)))
        .collect();
    let names: Vec<&str> = placed.iter().map(|(name, _)| *name).collect();
    let world = World::new(&names);
    world.place(&placed);
    let mesh = Mesh::in_world(world, &[]);
    let agents: Vec<_> = names.iter().map(|name| mesh.enrol([name])).collect();
    for name in &names {
        mesh.ready(name, SOON);
    }
    let mut relayed = Series::new("first packet, two symmetric NATs", Unit::Milliseconds).must(FIRST_PACKET);
    let mut first = Series::new("first packet, two cone NATs", Unit::Milliseconds).must(FIRST_PACKET);
    let mut direct = Series::new("direct both ways, two cone NATs", Unit::Milliseconds).must(DIRECT);
    for (one, other) in pairs(&hidden) {
        relayed.push(meet(&mesh, one, other).0);
    }
    for (one, other) in pairs(&cones) {
        let (answered, seen) = meet(&mesh, one, other);
        first.push(answered);
        direct.push(seen.unwrap_or(f64::INFINITY));
    }
    drop(agents);
    vec![relayed, first, direct]
}

fn pairs(names: &[String]) -> impl Iterator<Item = (&str, &str)> {
    let later = |at: usize| names[at + 1..].iter().map(String::as_str);
    names.iter().enumerate().flat_map(move |(at, one)| later(at).map(move |other| (one.as_str(), other)))
}

/// How long the first packet took, and until both sent directly: seen some tens of milliseconds after it was so.
fn meet(mesh: &Mesh, one: &str, other: &str) -> (f64, Option<f64>) {
    let address = mesh.device_field(other, "address_v4");
    let mut ping = mesh.on(one).command(&[&TALK[..], &[&address]].concat());
    let start = Instant::now();
    let ping = ping.stdout(Stdio::piped()).spawn().expect("launchers can be started");
    let hidden = one.starts_with("hidden");
    let direct = until(if hidden { Duration::ZERO } else { DIRECT_TIME_MAX }, || {
        let both = mesh.goes(one, other, "direct") && mesh.goes(other, one, "direct");
        both.then(|| milliseconds(start.elapsed()))
    });
    let output = ping.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let first = text.lines().find(|line| line.contains("icmp_seq=1 "));
    let took = first.and_then(|line| line.split_once("time=")?.1.split(' ').next()?.parse().ok());
    (took.unwrap_or(f64::INFINITY), direct.map(|(seen, _)| seen))
}
