//! The one pair that chance decides: a NAT that gives each remote another port, against one that lets in only who was talked
//! to. How long the engine takes to guess the next port, or to meet one of many sockets.

use std::net::{IpAddr, Ipv4Addr};
use std::time::Duration;

use engine::paths::Way;

use super::super::nat::{Filters, Maps, Nat, Rules};
use super::super::network::{CARRIES_ALL, Host, INTERNET, Network, Router};
use super::{Fault, World};
use crate::dice::Dice;
use crate::trace::{Trace, Verbosity};

/// Two talk for so long: the first search, and those that follow it ever more rarely.
const TALK: Duration = Duration::from_secs(100);
const EXPIRY: Duration = Duration::from_secs(120);

fn rules(maps: Maps, stride: u16, crowd: u32) -> Rules {
    Rules { maps, stride, crowd, filters: Filters::Ports, hairpin: false, expiry: EXPIRY }
}

/// After how long both of a hard pair send directly. `stride`: of the ports of the NAT that gives each remote another; 0 is by
/// chance. `crowd`: ports that it gives others in a second. `None`: not in a hundred seconds of talk.
pub fn met_after(seed: u64, stride: u16, crowd: u32) -> Option<Duration> {
    let mut network = Network::default();
    let nats = [rules(Maps::PerRemote, stride, crowd), rules(Maps::Once, 0, 0)];
    for (number, rules) in (1..).zip(nats) {
        let external = IpAddr::from(Ipv4Addr::new(203, 0, 113, 10 + number));
        let inside = INTERNET + usize::from(number);
        network.routers.push(Router { nat: Nat::new(rules, external), inside, outside: INTERNET });
        let v4 = Some(Ipv4Addr::new(192, 168, 1, 1 + number).into());
        network.hosts.push(Host {
            segment: inside,
            v4,
            v6: None,
            firewall: None,
            blocked: false,
            carries: CARRIES_ALL,
        });
    }
    let mut world =
        World::over(network, Fault::Nothing, Dice::new(seed, "hard"), Trace::new(Verbosity::Silent));
    world.begin();
    loop {
        let (at, happening) = world.queue.pop()?;
        world.at = at;
        world.happen(happening);
        let ways = [world.way(0, 1), world.way(1, 0)];
        if ways.iter().all(|way| matches!(way, Way::Direct(_))) {
            return Some(at.since(world.began));
        }
        if world.talking && at.since(world.began) > TALK {
            return None;
        }
    }
}
