//! One device's paths, input by input. Knows no network: that is the simulator.

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
    let [one, other] = [1, 2].map(|number| PrivateKey::from_bytes([number; 32]));
    let ids = [1, 2].map(|number| DeviceId::from_bytes([number; 16]));
    let (one_key, other_key) = (one.public(), other.public());
    let (mut one, mut other) = (Paths::new(one, [1; 32]), Paths::new(other, [2; 32]));
    one.handle(PathInput::Peer { key: other_key, device: Some(ids[1]) }, at(0));
    other.handle(PathInput::Peer { key: one_key, device: Some(ids[0]) }, at(0));
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
    let mut look = |input, now| {
        other.handle(input, now);
        let hint = outputs(&mut other).into_iter().find_map(|output| match output {
            PathOutput::Hint { sealed, .. } => Some(sealed),
            _ => None,
        });
        PathInput::Hinted { from: ids[1], sealed: hint.expect("it says where it is") }
    };
    one.handle(look(PathInput::Wanted(one_key), at(100)), at(110));
    assert_eq!(asked(&outputs(&mut one), server).len(), 0, "what it knows is fresh");
    // Its NAT has another address since, to which nobody would come without being told.
    one.handle(look(PathInput::Moved, at(3_000)), at(3_010));
    learn(&mut one, "198.51.100.2:7", at(3_020));
}
