//! A direct path between two that talk, which ends, or answers late: what is lost, what is asked, and whether it is left.

use super::*;

/// By then there is a direct path, and what was asked to find it is answered.
const SETTLED: u64 = 3_000;
const NEVER: u64 = u64::MAX;
const RELAY_TAKES: u64 = 20;
const PACKET_BYTES: u64 = 100;
/// After a path was left.
const HELD_AFTER: u64 = 3_000;

/// What joins the two, in milliseconds.
struct Between {
    /// How long each datagram takes, by its number.
    takes: fn(u64) -> u64,
    /// Which datagrams are lost, by their number.
    loses: fn(u64) -> bool,
    ends_at: u64,
    /// Whose datagrams are lost from then on.
    ends: [bool; 2],
    /// Who sends a packet how often.
    every: [Option<u64>; 2],
    /// The shell can count closely; one that cannot steers the kernel.
    closely: bool,
    /// How often the kernel is pointed away again from where a path is in doubt or was just left.
    held_every: u64,
    has_relay: bool,
    until: u64,
}

impl Default for Between {
    fn default() -> Self {
        Self {
            takes: |_| 5,
            loses: |_| false,
            ends_at: NEVER,
            ends: [true; 2],
            every: [Some(10); 2],
            closely: true,
            held_every: 20,
            has_relay: true,
            until: SETTLED + 2_000,
        }
    }
}

/// What became of it, since it was settled.
#[derive(Debug, Default)]
struct Outcome {
    /// From the end of the path to the last packet that was lost.
    lost_for: [u64; 2],
    lost: u64,
    /// Probes that each sent, and those over the relay.
    probes: [usize; 2],
    relayed: [usize; 2],
    /// Times that packets began to go both ways.
    doubts: usize,
    /// Times that the path was left.
    left: usize,
}

/// One of the two, as its shell has it.
#[derive(Default)]
struct End {
    is_direct: bool,
    over: Option<RelayId>,
    is_close: bool,
    counted: (u64, u64),
    /// The kernel sends to an address, whatever it was told: it follows the peer's packets.
    is_pointed: bool,
    left_at: Option<u64>,
    /// The last packet that came: a copy of it is dropped.
    newest: u64,
}

impl End {
    fn point(&mut self) {
        self.is_pointed = self.is_direct && self.over.is_none();
    }

    fn is_held(&self, now: u64) -> bool {
        self.over.is_some() || self.left_at.is_some_and(|at| now < at + HELD_AFTER)
    }
}

enum Arrival {
    Heard(PathInput),
    /// Which, and whether it came directly.
    Packet(u64, bool),
}

struct Pair<'a> {
    between: &'a Between,
    paths: [Paths; 2],
    devices: [DeviceId; 2],
    keys: [PublicKey; 2],
    ends: [End; 2],
    under_way: Vec<(u64, usize, Arrival)>,
    /// Datagrams so far.
    number: u64,
    /// Packets so far.
    sent: u64,
    now: u64,
    outcome: Outcome,
}

fn address(end: usize) -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1 + u8::from(end == 1)], 7))
}

fn talk(between: &Between) -> Outcome {
    let (mut paths, devices, keys) = two();
    let relay =
        ConnectedRelay { id: RelayId::SERVER, round_trip: Some(Duration::from_millis(2 * RELAY_TAKES)) };
    for (end, paths) in paths.iter_mut().enumerate() {
        paths.handle(PathInput::Interfaces(vec![address(end)]), at(0));
        paths.handle(PathInput::Relays(vec![relay]), at(0));
        paths.handle(PathInput::Counts { closely: between.closely }, at(0));
    }
    let (ends, outcome) = (<[End; 2]>::default(), Outcome::default());
    let under_way = Vec::new();
    let mut pair =
        Pair { between, paths, devices, keys, ends, under_way, number: 0, sent: 0, now: 0, outcome };
    while pair.now < between.until {
        pair.turn();
        pair.now += 1;
    }
    pair.outcome
}

impl Pair<'_> {
    fn turn(&mut self) {
        while let Some(next) = self.under_way.iter().position(|(when, ..)| *when <= self.now) {
            let (_, to, arrival) = self.under_way.remove(next);
            match arrival {
                Arrival::Heard(input) => self.tell(to, input),
                Arrival::Packet(number, is_direct) => {
                    let end = &mut self.ends[to];
                    end.counted.1 += PACKET_BYTES;
                    if end.newest < number && !self.between.closely {
                        (end.newest, end.is_pointed) = (number, is_direct);
                    }
                }
            }
        }
        for end in 0..2 {
            if self.between.every[end].is_some_and(|every| self.now.is_multiple_of(every)) {
                self.send(end);
            }
            let is_due = |every| self.now.is_multiple_of(every);
            let is_held = self.ends[end].is_held(self.now) && is_due(self.between.held_every);
            if is_held || is_due(1000) {
                self.ends[end].point();
            }
            if is_due(1000) || (self.ends[end].is_close && is_due(50)) {
                let (sent, received) = self.ends[end].counted;
                self.tell(end, PathInput::Counted { peer: self.keys[1 - end], sent, received });
            }
            if self.paths[end].poll_timeout().is_some_and(|deadline| deadline.at <= at(self.now)) {
                self.paths[end].handle_timeout(at(self.now));
                self.carry_out(end);
            }
        }
    }

    fn tell(&mut self, end: usize, input: PathInput) {
        self.paths[end].handle(input, at(self.now));
        self.carry_out(end);
    }

    fn later(&mut self, takes: u64, to: usize, arrival: Arrival) {
        self.under_way.push((self.now + takes, to, arrival));
    }

    /// How long a datagram takes that goes directly now. `None`: it is lost.
    fn passes(&mut self, from: usize) -> Option<u64> {
        self.number += 1;
        let is_lost = (self.now >= self.between.ends_at && self.between.ends[from])
            || (self.now >= SETTLED && (self.between.loses)(self.number));
        (!is_lost).then(|| (self.between.takes)(self.number))
    }

    fn send(&mut self, from: usize) {
        self.ends[from].counted.0 += PACKET_BYTES;
        let (is_direct, over) = (self.ends[from].is_direct, self.ends[from].over);
        if !is_direct {
            self.tell(from, PathInput::Wanted(self.keys[1 - from]));
        }
        let mut comes = false;
        self.sent += 1;
        // What does not go to an address goes onto the ferry, which knows both ways.
        let (number, is_pointed) = (self.sent, self.ends[from].is_pointed);
        let goes_directly = is_pointed || (is_direct && over.is_some());
        if let Some(takes) = goes_directly.then(|| self.passes(from)).flatten() {
            self.later(takes, 1 - from, Arrival::Packet(number, true));
            comes = true;
        }
        if !is_pointed && self.between.has_relay {
            self.later(RELAY_TAKES, 1 - from, Arrival::Packet(number, false));
            comes = true;
        }
        if !comes && self.now >= SETTLED {
            self.outcome.lost += 1;
            self.outcome.lost_for[from] = self.now.saturating_sub(self.between.ends_at);
        }
    }

    fn carry_out(&mut self, from: usize) {
        let is_settled = self.now >= SETTLED;
        for output in outputs(&mut self.paths[from]) {
            match output {
                PathOutput::Probe { to, bytes } if to == address(1 - from) => {
                    self.outcome.probes[from] += usize::from(is_settled);
                    if let Some(takes) = self.passes(from) {
                        let heard = PathInput::Datagram { from: address(from), bytes };
                        self.later(takes, 1 - from, Arrival::Heard(heard));
                    }
                }
                PathOutput::Relay { relay, bytes, .. } if self.between.has_relay => {
                    self.outcome.relayed[from] += usize::from(is_settled);
                    let heard = PathInput::Relayed { relay, from: self.devices[from], bytes };
                    self.later(RELAY_TAKES, 1 - from, Arrival::Heard(heard));
                }
                PathOutput::Hint { sealed, .. } => {
                    let heard = PathInput::Hinted { from: self.devices[from], sealed };
                    self.later(RELAY_TAKES, 1 - from, Arrival::Heard(heard));
                }
                PathOutput::Steer { way, .. } => {
                    let end = &mut self.ends[from];
                    let was_direct = std::mem::replace(&mut end.is_direct, matches!(way, Way::Direct(_)));
                    end.left_at = if was_direct && !end.is_direct { Some(self.now) } else { end.left_at };
                    end.over = end.over.filter(|_| end.is_direct);
                    end.point();
                    self.outcome.left += usize::from(is_settled && !self.ends[from].is_direct);
                }
                PathOutput::Double { over, .. } => {
                    self.ends[from].over = over;
                    self.ends[from].point();
                    self.outcome.doubts += usize::from(is_settled && over.is_some());
                }
                PathOutput::Closely { on, .. } => self.ends[from].is_close = on,
                _ => {}
            }
        }
    }
}

#[test]
fn a_path_that_ends_costs_less_than_is_sent_between_two_of_its_pings() {
    let directions = [[true, true], [true, false], [false, true]];
    let talks = [[Some(10), Some(10)], [Some(10), None], [Some(3), Some(40)]];
    let far: [fn(u64) -> u64; 3] = [|_| 0, |_| 20, |number| 20 + number % 9];
    let mut worst = 0;
    for (ends, every) in directions.iter().flat_map(|ends| talks.map(|every| (*ends, every))) {
        for (takes, closely) in far.iter().flat_map(|takes| [true, false].map(|closely| (*takes, closely))) {
            // Where ours alone are lost, the peer's packets lead the kernel back: see below.
            if !closely && ends != [true, true] {
                continue;
            }
            for moment in (0..420).step_by(101) {
                let ends_at = SETTLED + moment;
                let between = Between { takes, ends_at, ends, every, closely, ..Between::default() };
                let outcome = talk(&between);
                let lost = outcome.lost_for[0].max(outcome.lost_for[1]);
                assert!(lost < 400, "{ends:?} {every:?} {closely} {moment}: {outcome:?}");
                worst = worst.max(lost);
            }
        }
    }
    assert!(worst > 100, "nothing was lost: {worst}");
}

#[test]
fn who_is_warned_asks_the_relay_that_it_did_not_ask_for_long() {
    // The second hears nothing at once, and the first hears of it before it asks by itself.
    let ends_at = SETTLED + 4_000;
    let between = Between { ends_at, ends: [true, false], until: ends_at + 260, ..Between::default() };
    let outcome = talk(&between);
    // An answer to the other's question, and one of its own.
    assert_eq!((outcome.relayed, outcome.doubts), ([2, 2], 2), "{outcome:?}");
}

#[test]
fn the_kernel_is_kept_from_following_a_peer_to_where_only_our_packets_are_lost() {
    let lost = |held_every| {
        let all = (0..420).step_by(101).map(|moment| {
            let (ends, every) = ([true, false], [Some(20), Some(100)]);
            let ends_at = SETTLED + moment;
            let between = Between { ends_at, ends, every, closely: false, held_every, ..Between::default() };
            // Milliseconds' worth of packets.
            talk(&between).lost * 20
        });
        all.max().expect("some moments")
    };
    let (held, left_alone) = (lost(20), lost(1000));
    assert!(held < 500 && held + 100 < left_alone, "{held} {left_alone}");
}

#[test]
fn a_path_that_is_slow_is_not_left_and_hardly_doubted() {
    let far: [fn(u64) -> u64; 6] = [
        |_| 150,
        |number| 100 + number * 37 % 90,
        |number| 5 + number * 29 % 70,
        |_| 500,
        |_| 600,
        |number| 600 + number * 37 % 90,
    ];
    for takes in far {
        let outcome = talk(&Between { takes, until: SETTLED + 20_000, ..Between::default() });
        assert_eq!((outcome.left, outcome.lost), (0, 0), "{outcome:?}");
        assert!(outcome.doubts <= 8, "{outcome:?}");
    }
}

#[test]
fn a_path_that_loses_some_costs_no_more_than_that_though_no_relay_is_there() {
    let loses = |number: u64| (number.wrapping_mul(0x9e37_79b9) >> 7) & 0xff < 5;
    let outcome = talk(&Between { loses, has_relay: false, until: SETTLED + 20_000, ..Between::default() });
    assert!((40..160).contains(&outcome.lost), "of 4 000 packets: {outcome:?}");
    assert!(outcome.doubts > 0 && outcome.left == 0, "{outcome:?}");
}

#[test]
fn packets_one_way_are_asked_after_ten_times_a_second_at_most_and_both_ways_no_more_than_ever() {
    let asked = |every| talk(&Between { every, until: SETTLED + 10_000, ..Between::default() }).probes;
    // With the other's answers, and long ones now and then.
    let [sends, hears] = asked([Some(10), None]);
    assert!((80..=130).contains(&sends) && (80..=130).contains(&hears), "{sends} {hears}");
    let both = asked([Some(10), Some(10)]);
    assert!(both.iter().all(|count| (40..=60).contains(count)), "{both:?}");
    let seldom = asked([Some(5000), None]);
    assert!(seldom.iter().all(|count| *count <= 60), "{seldom:?}");
}
