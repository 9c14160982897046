//! One device with direct paths to very many, whose shell takes in so many probes a second and no more, as every shell does.

use std::net::IpAddr;

use super::*;

/// What each datagram takes, over whatever.
const TAKES: u64 = 20;
/// Between the first words of two peers.
const APART: u64 = 6;
/// Everybody is met by then.
const SETTLED: u64 = 9_000;
const UNTIL: u64 = SETTLED + 5_000;

enum Next {
    Hears(PathInput),
    Wakes,
    /// Counts what it sent to a peer and what came.
    Counts(PublicKey),
    Wants(PublicKey),
}

/// Nobody loses anything but what the shell of the first does not take.
struct Star {
    /// The one, and its peers.
    nodes: Vec<Paths>,
    keys: Vec<PublicKey>,
    devices: BTreeMap<DeviceId, usize>,
    queue: BTreeMap<(u64, u64), (usize, Next)>,
    number: u64,
    /// Of the peers' packets come answers.
    both_ways: bool,
    /// Since when each peer counts closely.
    close: BTreeSet<(usize, PublicKey)>,
    /// What came in to the first in this second.
    second: (u64, u32),
    worst: u32,
    probes: usize,
    /// When each node wants to be woken.
    wakes: Vec<u64>,
    direct: BTreeSet<(usize, PublicKey)>,
    /// Times that a direct path was left.
    left: usize,
}

fn device(node: usize) -> DeviceId {
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&node.to_be_bytes());
    DeviceId::from_bytes(bytes)
}

fn address(node: usize) -> SocketAddr {
    let [.., high, low] = node.to_be_bytes();
    SocketAddr::from(([192, 0, high, low], 7))
}

impl Star {
    fn new(peers: usize, closely: bool, both_ways: bool) -> Self {
        let secret = |node: usize| {
            let mut bytes = [1; 32];
            bytes[..8].copy_from_slice(&node.to_be_bytes());
            PrivateKey::from_bytes(bytes)
        };
        let secrets: Vec<_> = (0..=peers).map(secret).collect();
        let keys: Vec<_> = secrets.iter().map(PrivateKey::public).collect();
        let mut star = Self {
            nodes: (0u64..)
                .zip(secrets)
                .map(|(node, secret)| {
                    let mut seed = [3; 32];
                    seed[..8].copy_from_slice(&node.to_be_bytes());
                    Paths::new(secret, seed)
                })
                .collect(),
            keys,
            devices: (0..=peers).map(|node| (device(node), node)).collect(),
            queue: BTreeMap::new(),
            number: 0,
            both_ways,
            close: BTreeSet::new(),
            second: (0, 0),
            worst: 0,
            probes: 0,
            wakes: vec![0; peers + 1],
            direct: BTreeSet::new(),
            left: 0,
        };
        for node in 0..=peers {
            let others = if node == 0 { 1..=peers } else { 0..=0 };
            for peer in others {
                let key = star.keys[peer];
                star.nodes[node].handle(PathInput::Peer { key, device: Some(device(peer)) }, at(0));
            }
            star.nodes[node].handle(PathInput::Interfaces(vec![address(node)]), at(0));
            star.nodes[node].handle(PathInput::Counts { closely }, at(0));
            if node > 0 {
                let starts = node as u64 * APART;
                star.later(starts, node, Next::Wants(star.keys[0]));
                for (node, key) in [(node, star.keys[0]), (0, star.keys[node])] {
                    star.later(starts + 1_000, node, Next::Counts(key));
                }
            }
        }
        star
    }

    fn later(&mut self, when: u64, node: usize, next: Next) {
        self.number += 1;
        self.queue.insert((when, self.number), (node, next));
    }

    fn run(&mut self) {
        while let Some(((now, _), (node, next))) = self.queue.pop_first().filter(|((now, _), _)| *now < UNTIL)
        {
            match next {
                Next::Hears(input) if node == 0 && matches!(input, PathInput::Datagram { .. }) => {
                    if self.is_taken(now) {
                        self.tell(node, input, now);
                    }
                }
                Next::Hears(input) => self.tell(node, input, now),
                Next::Wants(key) => self.tell(node, PathInput::Wanted(key), now),
                Next::Wakes => {
                    self.wakes[node] = 0;
                    if self.nodes[node].poll_timeout().is_some_and(|deadline| deadline.at <= at(now)) {
                        self.nodes[node].handle_timeout(at(now));
                        self.carry_out(node, now);
                    }
                }
                Next::Counts(peer) => {
                    // Packets come and go at every moment, but those of who only hears.
                    let sent = if self.both_ways || node > 0 { now } else { 0 };
                    let received = if self.both_ways || node == 0 { now } else { 0 };
                    self.tell(node, PathInput::Counted { peer, sent, received }, now);
                    let after = if self.close.contains(&(node, peer)) { 50 } else { 1_000 };
                    self.later(now + after, node, Next::Counts(peer));
                }
            }
        }
    }

    fn is_taken(&mut self, now: u64) -> bool {
        if self.second.0 != now / 1_000 {
            self.second = (now / 1_000, 0);
        }
        self.second.1 += 1;
        if now >= SETTLED {
            self.worst = self.worst.max(self.second.1);
        }
        self.second.1 <= PROBES_PER_SECOND_MAX
    }

    fn tell(&mut self, node: usize, input: PathInput, now: u64) {
        self.nodes[node].handle(input, at(now));
        self.carry_out(node, now);
    }

    fn carry_out(&mut self, node: usize, now: u64) {
        for output in outputs(&mut self.nodes[node]) {
            match output {
                PathOutput::Probe { to, bytes } => {
                    self.probes += usize::from(node == 0 && now >= SETTLED);
                    let IpAddr::V4(ip) = to.ip() else { panic!("{to} is nobody's") };
                    let [.., high, low] = ip.octets();
                    let other = usize::from(u16::from_be_bytes([high, low]));
                    let heard = PathInput::Datagram { from: address(node), bytes };
                    self.later(now + TAKES, other, Next::Hears(heard));
                }
                PathOutput::Hint { to, sealed, .. } => {
                    let other = if node == 0 { self.devices[&to] } else { 0 };
                    self.later(
                        now + TAKES,
                        other,
                        Next::Hears(PathInput::Hinted { from: device(node), sealed }),
                    );
                }
                PathOutput::Steer { peer, way: Way::Direct(_) } => drop(self.direct.insert((node, peer))),
                PathOutput::Steer { peer, .. } => {
                    self.left += usize::from(self.direct.remove(&(node, peer)));
                }
                PathOutput::Closely { peer, on } => {
                    let _ =
                        if on { self.close.insert((node, peer)) } else { self.close.remove(&(node, peer)) };
                }
                _ => {}
            }
        }
        if let Some(deadline) = self.nodes[node].poll_timeout() {
            let when = deadline.at.as_micros().div_ceil(1_000).max(now + 1);
            if std::mem::replace(&mut self.wakes[node], when) != when {
                self.later(when, node, Next::Wakes);
            }
        }
    }
}

#[track_caller]
fn check(peers: usize, closely: bool, both_ways: bool) {
    let mut star = Star::new(peers, closely, both_ways);
    star.run();
    assert_eq!((star.direct.len(), star.left), (2 * peers, 0), "{} a second", star.worst);
    assert!(star.worst < PROBES_PER_SECOND_MAX, "{} a second", star.worst);
    // And not much less than that is made use of: each ping and each answer is a probe.
    let probes = star.probes as u64 * 1_000 / (UNTIL - SETTLED);
    assert!(probes > u64::from(PROBES_PER_SECOND_MAX) / 2, "{probes} a second");
}

#[test]
fn very_many_direct_paths_are_asked_no_more_than_the_shell_takes_in_and_none_is_given_up() {
    check(1_200, true, true);
}

#[test]
fn so_are_those_whose_packets_go_one_way() {
    check(600, true, false);
}

#[test]
fn so_are_those_of_the_kernel() {
    check(700, false, true);
}
