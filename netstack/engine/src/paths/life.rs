//! How long what is between this device and its server remembers a socket that says nothing: by trying. One socket is left quiet, and
//! then another asks the server to answer there (RFC 5780, section 4.6). Sends nothing, and knows no peer.
//!
//! ```text
//! waiting ──▶ warm: two exchanges ──▶ quiet for a while ──▶ called ── it comes ──▶ warm, for a longer while
//!    ▲                 │ no answer                            └── silence, twice ──▶ done: the while before
//!    └─────────────────┘
//! ```

use std::net::SocketAddr;
use std::time::Duration;

use model::Mono;
use rand_chacha::ChaCha20Rng;
use rand_core::Rng as _;
use stun::Transaction;

/// Nothing is tried before: a device that starts has better to do.
const START_AFTER: Duration = Duration::from_secs(20);
/// Where no server answers, it is tried again.
const RETRY_AFTER: Duration = Duration::from_secs(120);
/// A question is repeated: one may be lost.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
const ASKS_MAX: u8 = 4;
/// Linux keeps a binding for longer when something still passes two seconds after the first packet
/// (nf_conntrack_udp_timeout_stream), as it does in a tunnel.
const WARM_FOR: Duration = Duration::from_secs(3);
/// A trial that failed is made once more: the server may have been away.
const FAILURES_MAX: u8 = 2;
/// How long a socket is left quiet, and the seconds between keepalives of which it is known then that they are enough: a margin
/// less. The first tells that the server answers elsewhere at all.
const TRIALS: [(u64, Option<u16>); 6] =
    [(0, None), (28, Some(25)), (35, Some(30)), (65, Some(60)), (95, Some(90)), (115, Some(110))];
/// Where not even the first while passes.
const KEEPALIVE_LEAST: u16 = 20;

/// What is to be sent.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Trial {
    /// From the socket that is tried, or from the other one.
    pub(super) quiet: bool,
    pub(super) to: SocketAddr,
    pub(super) bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Nothing is under way until then.
    Waiting(Mono),
    /// The server is asked where it sees the socket: at first, from its other port (only before the first trial), and once more.
    Asking(Question),
    /// Nothing goes and nothing comes until then.
    Quiet(Mono),
    Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Question {
    First,
    OtherPort,
    Again,
    Call,
}

/// See the top of the file.
#[derive(Debug, Default)]
pub(super) struct Life {
    server: Option<SocketAddr>,
    /// All servers are of one family, so that no other way could need keepalives.
    is_whole: bool,
    running: Option<Running>,
    learnt: Option<u16>,
}

#[derive(Debug)]
struct Running {
    stage: Stage,
    /// Of [`TRIALS`].
    step: usize,
    failures: u8,
    /// Of the present question.
    transaction: Transaction,
    asks: u8,
    ask_at: Mono,
    /// Where the server sees the socket that is tried.
    seen: Option<SocketAddr>,
}

impl Running {
    fn new(start: Mono) -> Self {
        Self {
            stage: Stage::Waiting(start),
            step: 0,
            failures: 0,
            transaction: Transaction::default(),
            asks: 0,
            ask_at: start,
            seen: None,
        }
    }

    fn ask(&mut self, question: Question, at: Mono) {
        (self.stage, self.asks, self.ask_at) = (Stage::Asking(question), 0, at);
    }

    fn at(&self) -> Option<Mono> {
        match self.stage {
            Stage::Waiting(at) | Stage::Quiet(at) => Some(at),
            Stage::Asking(_) => Some(self.ask_at),
            Stage::Done => None,
        }
    }
}

impl Life {
    /// STUN is answered there.
    pub(super) fn set_servers(&mut self, servers: &[SocketAddr], now: Mono) {
        let server = servers.iter().find(|server| server.is_ipv4()).or_else(|| servers.first()).copied();
        self.is_whole =
            servers.iter().all(|server| Some(server.is_ipv4()) == servers.first().map(SocketAddr::is_ipv4));
        if server != self.server {
            self.server = server;
            self.moved(now);
        }
    }

    /// The machine is on another network, of which nothing is known.
    pub(super) fn moved(&mut self, now: Mono) {
        self.learnt = None;
        self.running = self.server.map(|_| Running::new(now + START_AFTER));
    }

    /// Seconds between keepalives that keep a way in open here; 0: it is always open. `None`: nobody knows.
    pub(super) const fn keepalive(&self) -> Option<u16> {
        self.learnt
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        self.running.as_ref()?.at()
    }

    /// What is due.
    pub(super) fn advance(&mut self, now: Mono, rng: &mut ChaCha20Rng) -> Option<Trial> {
        let (to, running) = (self.server?, self.running.as_mut()?);
        if running.at().is_none_or(|at| at > now) {
            return None;
        }
        match running.stage {
            Stage::Waiting(_) => running.ask(Question::First, now),
            Stage::Quiet(_) => running.ask(Question::Call, now),
            Stage::Asking(question) if running.asks == ASKS_MAX => {
                self.unanswered(question, now);
                return None;
            }
            Stage::Asking(_) | Stage::Done => {}
        }
        let Stage::Asking(question) = running.stage else { return None };
        if running.asks == 0 {
            rng.fill_bytes(&mut running.transaction);
        }
        running.asks += 1;
        running.ask_at = now + ASK_INTERVAL;
        let seen = running.seen.map_or(0, |seen| seen.port());
        let bytes = match question {
            Question::First | Question::Again => stun::request(&running.transaction).to_vec(),
            Question::OtherPort => stun::request_from_other_port(&running.transaction).to_vec(),
            Question::Call => stun::request_to_port(&running.transaction, seen).to_vec(),
        };
        Some(Trial { quiet: question != Question::Call, to, bytes })
    }

    fn unanswered(&mut self, question: Question, now: Mono) {
        let Some(running) = &mut self.running else { return };
        match question {
            Question::First | Question::Again => running.stage = Stage::Waiting(now + RETRY_AFTER),
            // Something lets in only whom we wrote to.
            Question::OtherPort => running.ask(Question::Again, now + WARM_FOR),
            Question::Call if running.failures + 1 < FAILURES_MAX => {
                running.failures += 1;
                running.ask(Question::First, now);
            }
            Question::Call => {
                running.stage = Stage::Done;
                self.learnt = match running.step {
                    // The server does not answer elsewhere, or not from the address that it is asked at.
                    0 => None,
                    step => TRIALS[step - 1].1.or(Some(KEEPALIVE_LEAST)),
                };
            }
        }
    }

    /// Takes what came to the socket that is tried. `is_own`: whether an address is one of this machine.
    pub(super) fn heard(
        &mut self,
        from: SocketAddr,
        bytes: &[u8],
        is_own: impl Fn(SocketAddr) -> bool,
        now: Mono,
    ) {
        let (Some(server), Some(running)) = (self.server, &mut self.running) else { return };
        let Some((transaction, seen)) = stun::response(bytes) else { return };
        let Stage::Asking(question) = running.stage else { return };
        if from.ip().to_canonical() != server.ip() || transaction != running.transaction || running.asks == 0
        {
            return;
        }
        match question {
            Question::First => {
                running.seen = Some(seen);
                match running.step == 0 && self.is_whole && is_own(seen) {
                    true => running.ask(Question::OtherPort, now),
                    false => running.ask(Question::Again, now + WARM_FOR),
                }
            }
            // Nothing is in the way, and nothing has to be kept open.
            Question::OtherPort if from.port() != server.port() => {
                (self.learnt, running.stage) = (Some(0), Stage::Done);
            }
            Question::OtherPort => running.ask(Question::Again, now + WARM_FOR),
            Question::Again => {
                running.seen = Some(seen);
                running.stage = Stage::Quiet(now + Duration::from_secs(TRIALS[running.step].0));
            }
            Question::Call => {
                self.learnt = TRIALS[running.step].1.or(self.learnt);
                (running.step, running.failures) = (running.step + 1, 0);
                match running.step < TRIALS.len() {
                    true => running.ask(Question::First, now),
                    false => running.stage = Stage::Done,
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_core::SeedableRng as _;

    use super::*;

    /// What is between: forgets after so many seconds.
    struct Between {
        forgets: u64,
        is_nat: bool,
        is_open: bool,
        calls: bool,
    }

    /// What is learnt in twenty minutes, and how many questions that took.
    fn learn(between: &Between) -> (Option<u16>, usize) {
        let servers: Vec<SocketAddr> =
            ["203.0.113.1:3478", "203.0.113.1:3479"].map(|text| text.parse().expect("an address")).into();
        let own: SocketAddr = "192.0.2.7:5000".parse().expect("an address");
        let seen = if between.is_nat { "198.51.100.1:7000".parse().expect("an address") } else { own };
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let mut life = Life::default();
        life.set_servers(&servers, Mono::default());
        let (mut used, mut asked) = (None::<Mono>, 0);
        while let Some(now) = life.deadline().filter(|at| *at < Mono::from_micros(1_200_000_000)) {
            let Some(trial) = life.advance(now, &mut rng) else { continue };
            asked += 1;
            let reply = stun::reply(&trial.bytes, if trial.quiet { seen } else { own }).expect("an answer");
            let is_known = used.is_some_and(|at| now.since(at) < Duration::from_secs(between.forgets));
            let from = servers[usize::from(reply.from_other_port)];
            let comes = if trial.quiet {
                used = Some(now);
                !reply.from_other_port || between.is_open
            } else {
                assert_eq!(reply.to_port, Some(seen.port()));
                between.calls && (is_known || between.is_open)
            };
            if comes {
                life.heard(from, &reply.bytes, |address| address.ip() == own.ip(), now);
            }
        }
        (life.keepalive(), asked)
    }

    #[test]
    fn what_is_forgotten_when_is_learnt_and_nothing_is_taken_for_granted() {
        let check = |forgets, is_nat, is_open, calls, expect| {
            let (learnt, asked) = learn(&Between { forgets, is_nat, is_open, calls });
            assert_eq!(learnt, expect, "{forgets} {is_nat} {is_open} {calls}");
            assert!(asked < 40, "{asked}");
        };
        check(25, true, false, true, Some(20));
        check(30, true, false, true, Some(25));
        check(60, true, false, true, Some(30));
        check(120, true, false, true, Some(110));
        check(300, true, false, true, Some(110));
        // A firewall forgets as a NAT does; where there is neither, nothing has to be kept.
        check(60, false, false, true, Some(30));
        check(60, false, true, true, Some(0));
        // An older server.
        check(120, true, false, false, None);
    }

    #[test]
    fn another_network_is_learnt_anew_and_a_server_that_is_away_is_asked_again() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let mut life = Life::default();
        life.set_servers(&["203.0.113.1:3478".parse().expect("an address")], Mono::default());
        let mut asked = 0;
        while let Some(now) = life.deadline().filter(|at| *at < Mono::from_micros(600_000_000)) {
            asked += usize::from(life.advance(now, &mut rng).is_some());
        }
        assert!((16..=24).contains(&asked), "{asked} questions in ten minutes");
        assert_eq!(life.keepalive(), None);
        life.moved(Mono::from_micros(600_000_000));
        assert_eq!(life.deadline(), Some(Mono::from_micros(600_000_000) + START_AFTER));
    }
}
