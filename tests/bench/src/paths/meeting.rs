//! Two devices that never talked: when the first packet is answered, and when packets go directly. In each round all agents are
//! new, know no path and are known at no NAT.

use std::process::{Child, Stdio};
use std::rc::Rc;
use std::time::{Duration, Instant};

use lab::{Mesh, Nat, Process, SOON, World, until};

use crate::series::{Bound, Series, Unit};
use crate::usage::milliseconds;

/// Over a relay, on a network that itself takes no time.
const FIRST_PACKET: Bound = Bound::P99Below(100.0);
const DIRECT: Bound = Bound::AllBelow(1_000.0);
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

/// Lets each meet each other of its kind, once a round.
pub fn measure(scale: &Scale, rounds: u32) -> Vec<Series> {
    let hidden: Vec<String> = (0..scale.hidden).map(|number| format!("hidden{number}")).collect();
    let cones: Vec<String> = (0..scale.cones).map(|number| format!("cone{number}")).collect();
    let placed = hidden.iter().map(|name| (name.as_str(), Nat::Symmetric));
    let placed: Vec<(&str, Nat)> = placed
        .chain(cones.iter().zip(CONES.into_iter().cycle()).map(|(name, nat)| (name.as_str(), nat)))
        .collect();
    let world = World::new(&placed.iter().map(|(name, _)| *name).collect::<Vec<_>>());
    world.place(&placed);
    let mesh = Mesh::in_world(world, &[]);
    let mut agents: Vec<_> = placed.iter().flat_map(|(name, _)| mesh.enrol([*name])).collect();
    let mut relayed = Series::new("first packet, two symmetric NATs", Unit::Milliseconds).must(FIRST_PACKET);
    let mut first = Series::new("first packet, two cone NATs", Unit::Milliseconds).must(FIRST_PACKET);
    let mut direct = Series::new("direct both ways, two cone NATs", Unit::Milliseconds).must(DIRECT);
    for round in 0..rounds {
        if round > 0 {
            agents = anew(&mesh, agents, &placed);
        }
        for (name, _) in &placed {
            mesh.ready(name, SOON);
        }
        let mut hidden_pairs = pairs(&hidden);
        // A relayed one among the direct ones, until there is none left.
        for (at, (one, other)) in pairs(&cones).enumerate() {
            let (answered, seen) = meet(&mesh, one, other);
            first.push(answered);
            direct.push(seen);
            let turn = if at % 2 == 0 { hidden_pairs.next() } else { None };
            relayed.values.extend(turn.map(|(one, other)| first_packet(&mesh, one, other)));
        }
        relayed.values.extend(hidden_pairs.map(|(one, other)| first_packet(&mesh, one, other)));
    }
    vec![relayed, first, direct]
}

/// Starts all agents again, and all routers have forgotten them.
fn anew(mesh: &Mesh, agents: Vec<Rc<Process>>, placed: &[(&str, Nat)]) -> Vec<Rc<Process>> {
    for agent in agents {
        agent.stop();
    }
    for (name, nat) in placed {
        mesh.set_nat(&format!("r-{name}"), *nat);
    }
    placed.iter().map(|(name, _)| mesh.agent(name)).collect()
}

fn pairs(names: &[String]) -> impl Iterator<Item = (&str, &str)> {
    let later = |at: usize| names[at + 1..].iter().map(String::as_str);
    names.iter().enumerate().flat_map(move |(at, one)| later(at).map(move |other| (one.as_str(), other)))
}

fn ping(mesh: &Mesh, one: &str, other: &str, flags: &[&str]) -> Child {
    let address = mesh.device_field(other, "address_v4");
    let mut ping = mesh.on(one).command(&[&TALK[..], flags, &[&address]].concat());
    ping.stdout(Stdio::piped()).spawn().expect("launchers can be started")
}

/// How long the first packet took; for ever, if it was not answered.
fn answer(ping: Child) -> f64 {
    let output = ping.wait_with_output().expect("it ends");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let first = text.lines().find(|line| line.contains("icmp_seq=1 "));
    let took = first.and_then(|line| line.split_once("time=")?.1.split(' ').next()?.parse().ok());
    took.unwrap_or(f64::INFINITY)
}

fn first_packet(mesh: &Mesh, one: &str, other: &str) -> f64 {
    answer(ping(mesh, one, other, &["-c1"]))
}

/// How long the first packet took, and until both sent directly: seen some tens of milliseconds after it was so.
fn meet(mesh: &Mesh, one: &str, other: &str) -> (f64, f64) {
    let mut ping = ping(mesh, one, other, &[]);
    let start = Instant::now();
    let direct = until(DIRECT_TIME_MAX, || {
        let both = mesh.goes(one, other, "direct") && mesh.goes(other, one, "direct");
        both.then(|| milliseconds(start.elapsed()))
    });
    // It may have sent all that it was to.
    let _ = ping.kill();
    (answer(ping), direct.map_or(f64::INFINITY, |(seen, _)| seen))
}
