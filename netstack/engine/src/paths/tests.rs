//! One device's paths, input by input. Knows no network: that is the simulator.

mod birthday;
mod ends;
mod many;

use super::*;

fn at(millis: u64) -> Mono {
    Mono::from_micros(millis * 1000)
}

fn outputs(paths: &mut Paths) -> Vec<PathOutput> {
    std::iter::from_fn(|| paths.poll_output()).collect()
}

/// Questions to a server of STUN among these.
fn asked(outputs: &[PathOutput], server: SocketAddr) -> Vec<Vec<u8>> {
    let asked = outputs.iter().filter_map(|output| match output {
        PathOutput::Probe { to, bytes } if *to == server => Some(bytes.clone()),
        _ => None,
    });
    asked.collect()
}

#[test]
fn a_device_that_is_looked_for_asks_where_it_is_though_it_knew_a_moment_ago() {
    let server: SocketAddr = "203.0.113.1:3478".parse().expect("an address");
    let ([mut one, mut other], ids, [one_key, _]) = two();
    one.handle(PathInput::StunServers(vec![server]), at(0));
    let learn = |one: &mut Paths, seen: &str, now| {
        let requests = asked(&outputs(one), server);
        assert_eq!(requests.len(), 1);
        let reply = stun::reply(&requests[0], seen.parse().expect("an address")).expect("a reply");
        one.handle(PathInput::Datagram { from: server, bytes: reply.bytes.to_vec() }, now);
        let told: Vec<String> = one.candidates().iter().map(|c| c.address.to_string()).collect();
        assert_eq!(told, [seen]);
    };
    one.refresh(at(0));
    learn(&mut one, "198.51.100.1:7", at(10));
    let hint = |outputs: Vec<PathOutput>, from| {
        let sealed = outputs.into_iter().find_map(|output| match output {
            PathOutput::Hint { sealed, .. } => Some(sealed),
            _ => None,
        });
        PathInput::Hinted { from, sealed: sealed.expect("it says where it is") }
    };
    other.handle(PathInput::Wanted(one_key), at(100));
    one.handle(hint(outputs(&mut other), ids[1]), at(110));
    let answer = outputs(&mut one);
    assert_eq!(asked(&answer, server).len(), 0, "what it knows is fresh");
    // Its NAT has another address since, to which nobody would come without being told.
    other.handle(hint(answer, ids[0]), at(3_000));
    one.handle(hint(outputs(&mut other), ids[1]), at(3_010));
    learn(&mut one, "198.51.100.2:7", at(3_020));
}

#[test]
fn a_device_that_gets_another_key_is_known_by_it_in_whatever_order_keys_come_and_go() {
    let ([mut one, _], ids, [_, before]) = two();
    let after = PrivateKey::from_bytes([3; 32]).public();
    one.set_peer(&after, Some(ids[1]));
    one.set_peer(&before, None);
    assert_eq!(one.keys.get(&ids[1]), Some(&after));
    one.set_peer(&after, None);
    assert_eq!(one.keys.get(&ids[1]), None);
}

/// Two that are each other's peers, their devices and their keys.
fn two() -> ([Paths; 2], [DeviceId; 2], [PublicKey; 2]) {
    let secrets = [1, 2].map(|number| PrivateKey::from_bytes([number; 32]));
    let devices = [1, 2].map(|number| DeviceId::from_bytes([number; 16]));
    let keys = [secrets[0].public(), secrets[1].public()];
    let [one, other] = secrets;
    let mut both = [Paths::new(one, [1; 32]), Paths::new(other, [2; 32])];
    for (paths, peer) in both.iter_mut().zip([1, 0]) {
        paths.handle(PathInput::Peer { key: keys[peer], device: Some(devices[peer]) }, at(0));
    }
    (both, devices, keys)
}

/// A packet of the first to the second, which nothing but relays joins, that come after so many milliseconds; who raced by the end
/// of three seconds. What is dead carries nothing, and is believed to be connected.
fn races(hint_takes: u64, ping_takes: u64, round_trip: u64, dead: Option<RelayId>) -> bool {
    let (mut both, devices, keys) = two();
    let relay = |id| ConnectedRelay { id, round_trip: Some(Duration::from_millis(round_trip)) };
    for paths in &mut both {
        paths.handle(PathInput::Relays(vec![relay(RelayId::SERVER), relay(RelayId(1))]), at(0));
    }
    let mut under_way: Vec<(Mono, usize, PathInput)> = Vec::new();
    let mut raced = false;
    for now in (0..3000).map(at) {
        if now.as_micros().is_multiple_of(1_000_000) {
            both[0].handle(PathInput::Wanted(keys[1]), now);
        }
        while let Some(next) = under_way.iter().position(|(when, ..)| *when <= now) {
            let (_, to, input) = under_way.remove(next);
            both[to].handle(input, now);
        }
        for from in 0..2 {
            both[from].handle_timeout(now);
            for output in outputs(&mut both[from]) {
                let device = devices[from];
                let (takes, input) = match output {
                    PathOutput::Hint { sealed, .. } if dead != Some(RelayId::SERVER) => {
                        (hint_takes, PathInput::Hinted { from: device, sealed })
                    }
                    PathOutput::Relay { relay, bytes, .. } if dead != Some(relay) => {
                        (ping_takes, PathInput::Relayed { relay, from: device, bytes })
                    }
                    PathOutput::Race { on: true, .. } => {
                        raced = true;
                        continue;
                    }
                    _ => continue,
                };
                under_way.push((now + Duration::from_millis(takes), 1 - from, input));
            }
        }
    }
    raced
}

#[test]
fn relays_that_answer_are_not_raced_for_a_packet_to_a_peer_that_nobody_talked_to() {
    let check = |hint_takes, ping_takes, round_trip, dead, expect| {
        assert_eq!(races(hint_takes, ping_takes, round_trip, dead), expect, "{hint_takes} {ping_takes}");
    };
    check(20, 20, 20, None, false);
    // Pings overtake the hints by which they are understood, or the other way round.
    check(30, 20, 20, None, false);
    check(20, 30, 20, None, false);
    check(100, 100, 100, None, false);
    check(20, 20, 20, Some(RelayId::SERVER), true);
}

/// Two servers of STUN, each with the port at which it sees the device; 0 is no answer.
const STUN: [&str; 2] = ["203.0.113.1:3478", "203.0.113.1:3479"];

fn answers_of_stun(paths: &mut Paths, outputs: &[PathOutput], ports: [u16; 2], now: Mono) {
    for (server, port) in STUN.map(|server| server.parse().expect("an address")).into_iter().zip(ports) {
        for request in asked(outputs, server).iter().filter(|_| port != 0) {
            let reply = stun::reply(request, ([198, 51, 100, 1], port).into()).expect("a reply");
            paths.handle(PathInput::Datagram { from: server, bytes: reply.bytes.to_vec() }, now);
        }
    }
}

/// The first talks to the second from `from` on and hints pass, and probes between these addresses, if any. What the first says of it
/// at some time in half a minute.
fn reasons(
    both: &mut [Paths; 2],
    ports: [[u16; 2]; 2],
    joined: Option<[SocketAddr; 2]>,
    from: u64,
) -> Vec<Option<WhyNotDirect>> {
    let devices = [1, 2].map(|number| DeviceId::from_bytes([number; 16]));
    let other = both[1].own;
    let mut told = Vec::new();
    both[0].handle(PathInput::Wanted(other), at(from));
    for now in (from..from + 30_000).step_by(10).map(at) {
        for side in 0..2 {
            both[side].handle_timeout(now);
            let wishes = outputs(&mut both[side]);
            answers_of_stun(&mut both[side], &wishes, ports[side], now);
            for wish in wishes {
                let input = match (wish, joined) {
                    (PathOutput::Hint { sealed, .. }, _) => PathInput::Hinted { from: devices[side], sealed },
                    (PathOutput::Probe { to, bytes }, Some(at)) if to == at[1 - side] => {
                        PathInput::Datagram { from: at[side], bytes }
                    }
                    _ => continue,
                };
                both[1 - side].handle(input, now);
            }
        }
        told.push(both[0].status(&other, now).and_then(|status| status.why_not_direct));
    }
    told
}

#[test]
fn that_udp_is_blocked_is_said_only_where_something_comes_and_nothing_by_it() {
    let silent = |round_trips: &[Option<u64>]| {
        let (mut both, ..) = two();
        let servers = STUN.map(|server| server.parse().expect("an address"));
        both[0].handle(PathInput::StunServers(servers.to_vec()), at(0));
        let relays = round_trips.iter().zip(0..).map(|(time, id)| ConnectedRelay {
            id: RelayId(id),
            round_trip: time.map(Duration::from_millis),
        });
        both[0].handle(PathInput::Relays(relays.collect()), at(0));
        both[0].refresh(at(0));
        (0..3000).step_by(100).for_each(|millis| both[0].handle_timeout(at(millis)));
        both
    };
    let mapping = |round_trips: &[_]| silent(round_trips)[0].mapping(at(3000));
    assert_eq!(mapping(&[None]), Some(Mapping::Blocked), "the server is reached by WebSocket");
    assert_eq!(mapping(&[]), None, "nobody is reached at all");
    assert_eq!(mapping(&[Some(20)]), None, "the server is reached by QUIC");
    assert_eq!(mapping(&[None, Some(20)]), None, "a relay is");
    let there = |text: &str| text.parse::<SocketAddr>().expect("an address");
    let meet = |here: &str, other: &str, after: u64| {
        let mut both = silent(&[None]);
        let at_addresses = [there(here), there(other)];
        for (paths, address) in both.iter_mut().zip(at_addresses) {
            paths.handle(PathInput::Interfaces(vec![address]), at(3000));
        }
        reasons(&mut both, [[0; 2]; 2], Some(at_addresses), 3000);
        both[0].mapping(at(33_000 + after))
    };
    assert_eq!(meet("198.51.100.1:7", "203.0.113.9:7", 0), None, "a peer comes");
    assert_eq!(meet("198.51.100.1:7", "203.0.113.9:7", 61_000), Some(Mapping::Blocked), "it came");
    assert_eq!(meet("192.168.1.2:7", "192.168.1.3:7", 0), Some(Mapping::Blocked), "of this network");
}

#[test]
fn what_stands_in_the_way_is_named() {
    let check = |ports: [[u16; 2]; 2], expect: WhyNotDirect| {
        let (mut both, ..) = two();
        for paths in &mut both {
            let servers = STUN.map(|server| server.parse().expect("an address"));
            paths.handle(PathInput::StunServers(servers.to_vec()), at(0));
            let server = ConnectedRelay { id: RelayId::SERVER, round_trip: Some(Duration::from_millis(20)) };
            paths.handle(PathInput::Relays(vec![server]), at(0));
            paths.handle(PathInput::Interfaces(vec!["192.168.1.2:7".parse().expect("an address")]), at(0));
        }
        let told = reasons(&mut both, ports, None, 0);
        assert!(told.contains(&Some(expect)), "{expect:?}: {:?}", told.last());
    };
    let (keeps, symmetric, silent) = ([7, 7], [7, 8], [0, 0]);
    check([symmetric, symmetric], WhyNotDirect::BothSymmetric);
    check([symmetric, keeps], WhyNotDirect::OneSymmetric);
    check([keeps, symmetric], WhyNotDirect::OneSymmetric);
    check([keeps, keeps], WhyNotDirect::NoAnswer { addresses: 2 });
    check([silent, keeps], WhyNotDirect::NoStun);
}

/// Two that only the relay joins that the second named, and from a time on their addresses; the first talks to the second for so long.
/// Which relays the first needs and since when, and how packets go in the end of that.
fn needs(talks_for: u64, joined_at: Option<u64>) -> (Vec<(Mono, Vec<RelayId>)>, Option<Way>) {
    let (mut both, devices, keys) = two();
    let relay = |id| ConnectedRelay { id: RelayId(id), round_trip: Some(Duration::from_millis(20)) };
    let addresses: [SocketAddr; 2] =
        ["203.0.113.1:7", "203.0.113.2:7"].map(|a| a.parse().expect("an address"));
    // What the first has is dead.
    for (paths, (id, address)) in both.iter_mut().zip([0, 5].into_iter().zip(addresses)) {
        paths.handle(PathInput::Relays(vec![relay(id)]), at(0));
        paths.handle(PathInput::Interfaces(vec![address]), at(0));
    }
    let (mut needed, mut way) = (Vec::new(), None);
    for now in (0..talks_for + 130_000).step_by(10).map(at) {
        if now <= at(talks_for) && now.as_micros().is_multiple_of(1_000_000) {
            both[0].handle(PathInput::Wanted(keys[1]), now);
            let (sent, received) = (now.as_micros(), now.as_micros());
            for (paths, peer) in both.iter_mut().zip([keys[1], keys[0]]) {
                paths.handle(PathInput::Counted { peer, sent, received }, now);
            }
            way = both[0].status(&keys[1], now).map(|status| status.way);
        }
        for from in 0..2 {
            both[from].handle_timeout(now);
            for output in outputs(&mut both[from]) {
                let is_joined = joined_at.is_some_and(|joined| at(joined) <= now);
                let input = match output {
                    PathOutput::Hint { sealed, .. } => PathInput::Hinted { from: devices[from], sealed },
                    PathOutput::Relay { relay: RelayId(5), bytes, .. } => {
                        PathInput::Relayed { relay: RelayId(5), from: devices[from], bytes }
                    }
                    PathOutput::Probe { to, bytes } if is_joined && to == addresses[1 - from] => {
                        PathInput::Datagram { from: addresses[from], bytes }
                    }
                    PathOutput::Need(relays) if from == 0 => {
                        let connected = [RelayId::SERVER].iter().chain(&relays).map(|id| relay(id.0));
                        both[0].handle(PathInput::Relays(connected.collect()), now);
                        needed.push((now, relays));
                        continue;
                    }
                    _ => continue,
                };
                both[1 - from].handle(input, now);
            }
        }
    }
    (needed, way)
}

#[test]
fn the_relay_that_a_peer_named_is_connected_where_no_other_reaches_it_and_for_as_long_as_it_carries() {
    let (needed, way) = needs(0, None);
    let told: Vec<_> = needed.iter().map(|(_, relays)| relays.as_slice()).collect();
    assert_eq!(told, [&[RelayId(5)][..], &[]], "{needed:?}");
    assert!(needed[0].0 < at(1000) && needed[1].0 >= at(120_000), "{needed:?}");
    assert!(matches!(way, Some(Way::Relayed(_))), "{way:?}");
}

#[test]
fn the_only_relay_that_reaches_a_peer_stands_beside_a_direct_path_for_as_long_as_they_talk() {
    let (needed, way) = needs(180_000, Some(10_000));
    assert!(matches!(way, Some(Way::Direct(_))), "{way:?}");
    let told: Vec<_> = needed.iter().map(|(_, relays)| relays.as_slice()).collect();
    assert_eq!(told, [&[RelayId(5)][..], &[]], "{needed:?}");
    assert!(needed[0].0 < at(1000) && needed[1].0 >= at(300_000), "{needed:?}");
}
