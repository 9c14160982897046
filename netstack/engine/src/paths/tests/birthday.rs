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
    /// What the second holds against the first in the end.
    in_vain: u32,
}

struct Pair {
    /// Where each is seen, by the two ports of the server.
    seen: [[&'static str; 2]; 2],
    on: [bool; 2],
    /// Who has packets for the other.
    talks: [bool; 2],
    /// Who is connected to a relay.
    relays: [bool; 2],
    /// The side sockets cannot be opened.
    fails: bool,
    /// The second guesses for somebody else until the first has told it of its search once.
    is_busy: bool,
    /// One of the guesses meets a socket.
    hits: bool,
    /// The first forgets what it sought when nobody talks any more, as one of before does.
    forgets: bool,
    /// There are packets for so long of every so many milliseconds.
    talks_for: u64,
    talks_every: u64,
    until: u64,
}

const CHANCE: [&str; 2] = ["203.0.113.10:2000", "203.0.113.10:52000"];
const CONE: [&str; 2] = ["203.0.113.20:7", "203.0.113.20:7"];
/// For whom the second guesses while it is busy.
const STRANGER: DeviceId = DeviceId::from_bytes([9; 16]);
/// The guess that meets a socket.
const LUCKY: usize = 300;

impl Default for Pair {
    fn default() -> Self {
        Self {
            seen: [CHANCE, CONE],
            on: [true; 2],
            talks: [true; 2],
            relays: [true; 2],
            fails: false,
            is_busy: false,
            hits: false,
            forgets: false,
            talks_for: 30_000,
            talks_every: u64::MAX,
            until: 30_000,
        }
    }
}

/// What joins the two.
struct Between<'a> {
    pair: &'a Pair,
    servers: Vec<SocketAddr>,
    devices: [DeviceId; 2],
    keys: [PublicKey; 2],
    done: Done,
    /// The first socket that was met, as it and as the second sees it.
    met: Option<(SideId, SocketAddr)>,
    opened: Option<SideId>,
}

impl Between<'_> {
    /// What comes of an output of one of them.
    fn carry(&mut self, end: usize, output: PathOutput, millis: u64) -> Option<(usize, PathInput)> {
        let (from, other) = (self.devices[end], 1 - end);
        match output {
            PathOutput::Hint { sealed, .. } => Some((other, PathInput::Hinted { from, sealed })),
            PathOutput::Relay { relay, bytes, .. } => {
                Some((other, PathInput::Relayed { relay, from, bytes }))
            }
            PathOutput::Probe { to, bytes } => match self.servers.iter().position(|s| *s == to) {
                Some(server) => {
                    let seen = self.pair.seen[end][server].parse().expect("an address");
                    let bytes = stun::reply(&bytes, seen).expect("a reply").bytes.to_vec();
                    Some((end, PathInput::Datagram { from: to, bytes }))
                }
                None => self.probe(end, to, bytes, millis),
            },
            PathOutput::OpenSides { peer, count, first } => {
                assert_eq!((end, peer, count), (0, self.keys[1], 256));
                self.done.opened.push(millis);
                self.opened = Some(first);
                self.pair.fails.then_some((end, PathInput::SidesFailed(peer)))
            }
            PathOutput::CloseSides { but, .. } => {
                assert_eq!(but, self.met.map(|(side, _)| side));
                self.done.closed += 1;
                None
            }
            _ => None,
        }
    }

    /// Nothing comes through but what goes by a socket that was met.
    fn probe(
        &mut self,
        end: usize,
        to: SocketAddr,
        bytes: Vec<u8>,
        millis: u64,
    ) -> Option<(usize, PathInput)> {
        if let Some((id, _)) = side(to) {
            self.done.spoken += 1;
            self.done.spoken_to.insert(real(to));
            let (_, from) = self.met.filter(|(met, _)| *met == id)?;
            return Some((1, PathInput::Datagram { from, bytes }));
        }
        if end == 1 {
            self.done.pinged.push((to, millis));
            if self.pair.hits && self.done.pinged.len() == LUCKY {
                self.met = self.opened.map(|first| (first, to));
            }
            let (side, _) = self.met.filter(|(_, at)| *at == to)?;
            let from = CONE[0].parse().expect("an address");
            return Some((0, PathInput::Sided { side, from, bytes }));
        }
        None
    }
}

fn talk(pair: &Pair) -> Done {
    let servers: Vec<SocketAddr> =
        ["192.0.2.1:3478", "192.0.2.1:3479"].map(|text| text.parse().expect("an address")).into();
    let (mut both, devices, keys) = two();
    for (end, paths) in both.iter_mut().enumerate() {
        paths.handle(PathInput::Birthdays { on: pair.on[end] }, at(0));
        paths.handle(PathInput::StunServers(servers.clone()), at(0));
        let round_trip = Some(Duration::from_millis(20));
        let relay = pair.relays[end].then_some(ConnectedRelay { id: RelayId::SERVER, round_trip });
        paths.handle(PathInput::Relays(relay.into_iter().collect()), at(0));
    }
    assert!(!pair.is_busy || both[1].birthdays.guess(STRANGER, at(0)));
    let done = Done::default();
    let mut between = Between { pair, servers, devices, keys, done, met: None, opened: None };
    for millis in (0..pair.until).step_by(10) {
        let now = at(millis);
        if millis % pair.talks_every < pair.talks_for && millis.is_multiple_of(1000) {
            for end in (0..2).filter(|end| pair.talks[*end]) {
                both[end].handle(PathInput::Wanted(keys[1 - end]), now);
            }
        }
        if between.done.opened.first().is_some_and(|opened| opened + 1500 == millis) {
            both[1].birthdays.end_guess(STRANGER);
        }
        both.iter_mut().for_each(|paths| paths.handle_timeout(now));
        if pair.forgets && both[0].peers.is_empty() {
            both[0].birthdays.forget(devices[1]);
        }
        let mut news = Vec::new();
        for (end, paths) in both.iter_mut().enumerate() {
            news.extend(outputs(paths).into_iter().filter_map(|output| between.carry(end, output, millis)));
        }
        news.into_iter().for_each(|(to, input)| both[to].handle(input, now));
    }
    Done { in_vain: both[1].birthdays.in_vain(devices[0]), ..between.done }
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
    // Nobody talks to it, or its relays are not there to show it.
    check(Pair { talks: [false, true], ..Pair::default() }, 0);
    check(Pair { relays: [false, true], ..Pair::default() }, 0);
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

#[test]
fn hints_alone_make_nobody_guess() {
    for (talks, relays) in [([true, false], [true; 2]), ([true; 2], [true, false])] {
        let pair = Pair { talks, relays, ..Pair::default() };
        let done = talk(&pair);
        assert_eq!((done.opened.len(), done.spoken), (1, 256), "the other does not know");
        assert_eq!((guesses(&pair, &done).len(), done.in_vain), (0, 0), "{talks:?} {relays:?}");
    }
}

#[test]
fn a_search_that_was_refused_is_taken_when_it_is_told_again() {
    let pair = Pair { is_busy: true, ..Pair::default() };
    let done = talk(&pair);
    let guessed = guesses(&pair, &done);
    assert_eq!((done.opened.len(), guessed.len()), (1, 1024));
    let (told, first) = (done.opened[0] + 640, guessed[0].1);
    assert!((told + 1500..told + 2500).contains(&first), "told at {told}, guessed at {first}");
}

#[test]
fn who_falls_silent_between_its_searches_is_not_guessed_for_more_often() {
    let cycles = Pair { talks_for: 20_000, talks_every: 180_000, until: 3_600_000, ..Pair::default() };
    let rounds = |pair: &Pair, done: &Done| {
        let rounds = guesses(pair, done).len().div_ceil(1024);
        assert!((5..=7).contains(&rounds), "{rounds} of {}", done.opened.len());
        assert_eq!(usize::try_from(done.in_vain), Ok(rounds));
        rounds
    };
    let done = talk(&cycles);
    assert_eq!(rounds(&cycles, &done), done.opened.len(), "nor does it search: {:?}", done.opened);
    let forgetful = Pair { forgets: true, ..cycles };
    let done = talk(&forgetful);
    assert!(done.opened.len() > 10, "{:?}", done.opened);
    rounds(&forgetful, &done);
}

#[test]
fn a_search_that_won_counts_as_in_vain_until_its_path_has_lived() {
    let won = |until| {
        let pair = Pair { hits: true, talks_for: until, until, ..Pair::default() };
        let done = talk(&pair);
        let guessed: BTreeSet<SocketAddr> = guesses(&pair, &done).into_iter().map(|(to, _)| to).collect();
        let ends = (LUCKY - 20..LUCKY + 100).contains(&guessed.len());
        assert!(ends, "{}: with the first that is met", guessed.len());
        assert_eq!((done.opened.len(), done.closed), (1, 1));
        done.in_vain
    };
    assert_eq!((won(60_000), won(130_000)), (1, 0));
}
