//! Birthday probing between two that nothing but a relay joins: who opens sockets, who guesses, how much, how often.

use std::net::IpAddr;

use super::*;

/// What the two did in a while of talk.
#[derive(Debug, Default)]
struct Done {
    /// Searches of the first, in milliseconds.
    opened: Vec<u64>,
    closed: usize,
    /// Pings from its side sockets, and where they went.
    spoken: usize,
    spoken_to: BTreeSet<SocketAddr>,
    /// Pings of the second, which are no question to a server: the address of each and when it was sent.
    pinged: Vec<(SocketAddr, u64)>,
}

struct Pair {
    /// Where each is seen, by the two ports of the server.
    seen: [[&'static str; 2]; 2],
    on: [bool; 2],
    /// The side sockets cannot be opened.
    fails: bool,
    talks_for: u64,
    until: u64,
}

const CHANCE: [&str; 2] = ["203.0.113.10:2000", "203.0.113.10:52000"];
const CONE: [&str; 2] = ["203.0.113.20:7", "203.0.113.20:7"];

impl Default for Pair {
    fn default() -> Self {
        Self { seen: [CHANCE, CONE], on: [true; 2], fails: false, talks_for: 30_000, until: 30_000 }
    }
}

fn talk(pair: &Pair) -> Done {
    let servers: Vec<SocketAddr> =
        ["192.0.2.1:3478", "192.0.2.1:3479"].map(|text| text.parse().expect("an address")).into();
    let (mut both, devices, keys) = two();
    for (paths, on) in both.iter_mut().zip(pair.on) {
        paths.handle(PathInput::Birthdays { on }, at(0));
        paths.handle(PathInput::StunServers(servers.clone()), at(0));
        let round_trip = Some(Duration::from_millis(20));
        paths.handle(PathInput::Relays(vec![ConnectedRelay { id: RelayId::SERVER, round_trip }]), at(0));
    }
    let mut done = Done::default();
    for millis in (0..pair.until).step_by(10) {
        let now = at(millis);
        if millis < pair.talks_for && millis.is_multiple_of(1000) {
            both[0].handle(PathInput::Wanted(keys[1]), now);
            both[1].handle(PathInput::Wanted(keys[0]), now);
        }
        both.iter_mut().for_each(|paths| paths.handle_timeout(now));
        let mut news = Vec::new();
        for (end, paths) in both.iter_mut().enumerate() {
            for output in outputs(paths) {
                let (from, other) = (devices[end], 1 - end);
                match output {
                    PathOutput::Hint { sealed, .. } => {
                        news.push((other, PathInput::Hinted { from, sealed }));
                    }
                    PathOutput::Relay { relay, bytes, .. } => {
                        news.push((other, PathInput::Relayed { relay, from, bytes }));
                    }
                    PathOutput::Probe { to, bytes } => match servers.iter().position(|s| *s == to) {
                        Some(server) => {
                            let seen = pair.seen[end][server].parse().expect("an address");
                            let bytes = stun::reply(&bytes, seen).expect("a reply").bytes.to_vec();
                            news.push((end, PathInput::Datagram { from: to, bytes }));
                        }
                        None if side(to).is_some() => {
                            done.spoken += 1;
                            done.spoken_to.insert(real(to));
                        }
                        None if end == 1 => done.pinged.push((to, millis)),
                        None => {}
                    },
                    PathOutput::OpenSides { peer, count, .. } => {
                        assert_eq!((end, peer, count), (0, keys[1], 256));
                        done.opened.push(millis);
                        if pair.fails {
                            news.push((end, PathInput::SidesFailed(peer)));
                        }
                    }
                    PathOutput::CloseSides { but, .. } => {
                        assert_eq!(but, None, "nobody was met");
                        done.closed += 1;
                    }
                    _ => {}
                }
            }
        }
        news.into_iter().for_each(|(to, input)| both[to].handle(input, now));
    }
    done
}

/// Guesses of the second: what it pings that the first did not name.
fn guesses(pair: &Pair, done: &Done) -> Vec<(SocketAddr, u64)> {
    let named: Vec<SocketAddr> = pair.seen[0].map(|text| text.parse().expect("an address")).into();
    done.pinged.iter().filter(|(to, _)| !named.contains(to)).copied().collect()
}

#[test]
fn a_search_is_bounded_in_sockets_guesses_pace_and_time() {
    let pair = Pair::default();
    let done = talk(&pair);
    assert_eq!((done.opened.len(), done.closed, done.spoken), (1, 1, 256), "{:?}", done.opened);
    assert_eq!(done.spoken_to, [CONE[0].parse().expect("an address")].into());
    assert!(done.opened[0] < 3_000, "it is evident: {:?}", done.opened);
    let guessed = guesses(&pair, &done);
    let ports: BTreeSet<u16> = guessed.iter().map(|(to, _)| to.port()).collect();
    assert_eq!((guessed.len(), ports.len()), (1024, 1024), "each once");
    let ip: IpAddr = "203.0.113.10".parse().expect("an address");
    assert!(guessed.iter().all(|(to, _)| to.ip() == ip && to.port() >= 1024));
    let busiest = guessed.chunk_by(|(_, one), (_, other)| one / 1000 == other / 1000).map(<[_]>::len).max();
    assert!(busiest.is_some_and(|most| most <= 250), "{busiest:?} in a second");
}

#[test]
fn nobody_opens_a_socket_where_that_cannot_help_or_is_not_wanted() {
    let check = |pair: Pair, expect: usize| {
        let done = talk(&pair);
        assert_eq!(done.opened.len(), expect, "{:?} {:?}", pair.seen, pair.on);
        assert_eq!(
            guesses(&pair, &done).len(),
            if expect == 0 { 0 } else { 1024 },
            "{:?} {:?}",
            pair.seen,
            pair.on
        );
    };
    check(Pair::default(), 1);
    // An agent of before says nothing of guesses, as one that was told not to.
    check(Pair { on: [true, false], ..Pair::default() }, 0);
    check(Pair { on: [false, true], ..Pair::default() }, 0);
    check(Pair { seen: [CONE, CONE], ..Pair::default() }, 0);
    check(Pair { seen: [CHANCE, ["203.0.113.20:7", "203.0.113.20:999"]], ..Pair::default() }, 0);
    // Two behind one provider's NAT are seen with addresses that are nobody's, or with private ones.
    check(Pair { seen: [CHANCE, ["100.64.0.7:7"; 2]], ..Pair::default() }, 0);
    check(Pair { seen: [CHANCE, ["192.168.7.7:7"; 2]], ..Pair::default() }, 0);
}

#[test]
fn an_address_that_is_not_of_the_internet_is_not_guessed_at() {
    for ip in ["192.168.1.1", "10.1.2.3", "100.64.0.1", "172.16.0.1"] {
        let seen = [2000, 52_000].map(|port| &*format!("{ip}:{port}").leak());
        let done = talk(&Pair { seen: [seen, CONE], ..Pair::default() });
        assert_eq!(done.opened.len(), 1, "it cannot know who refuses");
        let ports: BTreeSet<u16> = done.pinged.iter().map(|(to, _)| to.port()).collect();
        assert!(ports.len() <= 4, "{ip}: {ports:?}");
    }
}

#[test]
fn a_search_that_found_nothing_is_repeated_ever_more_rarely_and_not_without_traffic() {
    let hours = Pair { talks_for: 3 * 3_600_000, until: 3 * 3_600_000, ..Pair::default() };
    let done = talk(&hours);
    let pauses: Vec<u64> = done.opened.windows(2).map(|two| (two[1] - two[0]) / 60_000).collect();
    assert_eq!(pauses[..6], [1, 2, 4, 8, 16, 32], "minutes");
    assert!(pauses[6..].iter().all(|pause| *pause >= 60), "{pauses:?}");
    assert_eq!(done.closed, done.opened.len());
    // One of them may be where the peer says that it is.
    let (guessed, searches) = (guesses(&hours, &done).len(), done.opened.len());
    assert!((1020 * searches..=1024 * searches).contains(&guessed), "{guessed} in {searches}");
    let silent = talk(&Pair { talks_for: 20_000, until: 600_000, ..Pair::default() });
    assert_eq!((silent.opened.len(), silent.closed), (2, 2), "two minutes after the last packet it is idle");
}

#[test]
fn sockets_that_cannot_be_opened_are_not_waited_for() {
    let pair = Pair { fails: true, until: 65_000, talks_for: 65_000, ..Pair::default() };
    let done = talk(&pair);
    assert_eq!((done.opened.len(), done.closed, guesses(&pair, &done).len()), (2, 0, 0), "{:?}", done.opened);
}
