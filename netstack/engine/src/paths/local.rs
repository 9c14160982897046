//! Where this device may be reached: its own addresses, those that the server sees, those that its router opened. Asks the
//! server by STUN; knows no peer.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::time::Duration;

use model::Mono;
use rand_chacha::ChaCha20Rng;
use rand_core::Rng as _;

use super::address::{CandidateKind, Mapping, canonical, may_be_reached};
use super::packet::{Advert, CANDIDATES_MAX};
use stun::Transaction;

/// What the server said is believed so long: NATs forget after 30 s (RFC 4787, REQ-5, and those that do not follow it).
const FRESH: Duration = Duration::from_secs(25);
/// And so long where a path that it made has ended, or a peer looks for us, because a NAT may have forgotten all: less than it
/// takes to notice that, and paths that end together have one round for all.
const FRESH_IN_DOUBT: Duration = Duration::from_millis(500);
/// Requests of one round, from its beginning: two may be lost.
const STEPS: [Duration; 3] = [Duration::ZERO, Duration::from_millis(200), Duration::from_millis(600)];
/// A round without any answer by then says that no server answers.
const ROUND: Duration = Duration::from_millis(1500);
/// Addresses that peers saw and that no server did: a NAT with several public addresses.
const SEEN_MAX: usize = 4;
/// Servers asked in one round: two ports over each family, and room for a second machine.
const SERVERS_MAX: usize = 8;

/// What is known of ourselves.
#[derive(Debug, Default)]
pub(super) struct Local {
    interfaces: BTreeSet<SocketAddr>,
    mapped: Option<SocketAddr>,
    seen: Vec<SocketAddr>,
    servers: Vec<SocketAddr>,
    /// What each server saw in the last round that brought something.
    reflexive: BTreeMap<SocketAddr, SocketAddr>,
    round: Option<Round>,
    learnt_at: Option<Mono>,
    /// No server answered in the last round.
    is_unanswered: bool,
    /// Grows with each change of the candidates.
    version: u64,
}

#[derive(Debug)]
struct Round {
    since: Mono,
    step: usize,
    asked: BTreeMap<Transaction, SocketAddr>,
    answers: BTreeMap<SocketAddr, SocketAddr>,
}

impl Local {
    pub(super) fn set_interfaces(&mut self, addresses: impl IntoIterator<Item = SocketAddr>) {
        let interfaces = addresses.into_iter().map(canonical).filter(|a| may_be_reached(*a)).collect();
        self.change(|local| local.interfaces = interfaces);
    }

    pub(super) fn set_mapped(&mut self, address: Option<SocketAddr>) {
        let mapped = address.map(canonical).filter(|a| may_be_reached(*a));
        self.change(|local| local.mapped = mapped);
    }

    pub(super) fn set_servers(&mut self, servers: impl IntoIterator<Item = SocketAddr>) {
        self.servers = servers.into_iter().map(canonical).take(SERVERS_MAX).collect();
    }

    /// Whether an interface of this machine has the address, whatever the port.
    pub(super) fn is_of_interface(&self, address: SocketAddr) -> bool {
        self.interfaces.iter().any(|own| own.ip() == address.ip().to_canonical())
    }

    /// A peer saw our packets come from there.
    pub(super) fn seen(&mut self, address: SocketAddr) {
        let address = canonical(address);
        if !may_be_reached(address) || self.adverts().any(|advert| advert.address == address) {
            return;
        }
        self.change(|local| {
            local.seen.insert(0, address);
            local.seen.truncate(SEEN_MAX);
        });
    }

    /// The machine is on another network: what others saw of it means nothing any more.
    pub(super) fn moved(&mut self) {
        self.change(|local| {
            local.reflexive.clear();
            local.seen.clear();
            local.mapped = None;
        });
        (self.round, self.learnt_at, self.is_unanswered) = (None, None, false);
    }

    /// Somebody needs the candidates: they are learnt anew unless they are fresh.
    pub(super) fn refresh(&mut self, now: Mono) {
        self.refresh_if_older(FRESH, now);
    }

    /// A path has ended that nobody took away, or a peer looks for one: perhaps a NAT forgot it, and maps otherwise now.
    pub(super) fn doubt(&mut self, now: Mono) {
        self.refresh_if_older(FRESH_IN_DOUBT, now);
    }

    fn refresh_if_older(&mut self, age: Duration, now: Mono) {
        let is_fresh = self.learnt_at.is_some_and(|at| now.since(at) < age);
        if !is_fresh && self.round.is_none() && !self.servers.is_empty() {
            self.round =
                Some(Round { since: now, step: 0, asked: BTreeMap::new(), answers: BTreeMap::new() });
        }
    }

    /// The requests that are due.
    pub(super) fn advance(&mut self, now: Mono, rng: &mut ChaCha20Rng) -> Vec<(SocketAddr, Vec<u8>)> {
        let mut requests = Vec::new();
        let Some(round) = &mut self.round else { return requests };
        while STEPS.get(round.step).is_some_and(|step| round.since + *step <= now) {
            round.step += 1;
            for server in self.servers.iter().filter(|server| !round.answers.contains_key(*server)) {
                let mut transaction = Transaction::default();
                rng.fill_bytes(&mut transaction);
                round.asked.insert(transaction, *server);
                requests.push((*server, stun::request(&transaction).to_vec()));
            }
        }
        if round.since + ROUND <= now || round.answers.len() == self.servers.len() {
            self.finish(now);
        }
        requests
    }

    fn finish(&mut self, now: Mono) {
        let Some(round) = self.round.take() else { return };
        self.learnt_at = Some(now);
        self.is_unanswered = round.answers.is_empty();
        if !self.is_unanswered {
            self.change(|local| local.reflexive = round.answers);
        }
    }

    /// Takes an answer of a server that was asked.
    pub(super) fn answered(&mut self, from: SocketAddr, bytes: &[u8], now: Mono) {
        let Some((transaction, seen)) = stun::response(bytes) else { return };
        let Some(round) = &mut self.round else { return };
        // A forged answer would have to guess 96 bits, and come from where we asked.
        if round.asked.get(&transaction) != Some(&canonical(from)) {
            return;
        }
        round.answers.insert(canonical(from), canonical(seen));
        let all = round.answers.len() == self.servers.len();
        if all {
            self.finish(now);
        }
    }

    pub(super) fn deadline(&self) -> Option<Mono> {
        let round = self.round.as_ref()?;
        Some(round.since + STEPS.get(round.step).copied().unwrap_or(ROUND))
    }

    pub(super) const fn version(&self) -> u64 {
        self.version
    }

    /// What a hint says, the likeliest first.
    pub(super) fn candidates(&self) -> Vec<Advert> {
        let mut known = BTreeSet::new();
        self.adverts().filter(|advert| known.insert(advert.address)).take(CANDIDATES_MAX).collect()
    }

    fn adverts(&self) -> impl Iterator<Item = Advert> {
        let advert = |kind| move |address: &SocketAddr| Advert { address: *address, kind };
        let local = self.interfaces.iter().map(advert(CandidateKind::Local));
        let mapped = self.mapped.iter().map(advert(CandidateKind::Mapped));
        let reflexive = self.reflexive.values().map(advert(CandidateKind::Reflexive));
        mapped.chain(reflexive).chain(local).chain(self.seen.iter().map(advert(CandidateKind::Seen)))
    }

    /// Whether no server answered what was asked last: it is gone, or UDP does not come through to it or back.
    pub(super) const fn is_unanswered(&self) -> bool {
        self.is_unanswered
    }

    /// How the NAT in front of us maps, over IPv4 if there is one: IPv6 is rarely translated. What was learnt last holds until
    /// there is an answer again. `None` before the first.
    pub(super) fn mapping(&self) -> Option<Mapping> {
        let of = |v4: bool| {
            let seen: BTreeSet<_> = self.reflexive.values().filter(|a| a.is_ipv4() == v4).collect();
            let first = *seen.first()?;
            Some(if seen.len() > 1 {
                Mapping::PortDependent
            } else if self.interfaces.contains(first) {
                Mapping::None
            } else {
                Mapping::EndpointIndependent
            })
        };
        of(true).or_else(|| of(false))
    }

    fn change(&mut self, change: impl FnOnce(&mut Self)) {
        let before = self.candidates();
        change(self);
        if self.candidates() != before {
            self.version += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use rand_core::SeedableRng as _;

    use super::*;

    fn at(millis: u64) -> Mono {
        Mono::from_micros(millis * 1000)
    }

    fn address(text: &str) -> SocketAddr {
        text.parse().expect("an address")
    }

    /// What a server answers: it saw `seen`.
    fn answer(request: &[u8], seen: SocketAddr) -> Vec<u8> {
        let mut bytes = vec![1, 1, 0, 12];
        bytes.extend(&request[4..20]);
        bytes.extend([0, 0x20, 0, 8, 0, 1]);
        bytes.extend((seen.port() ^ 0x2112).to_be_bytes());
        let std::net::IpAddr::V4(ip) = seen.ip() else { panic!("IPv4 only") };
        bytes.extend(ip.octets().iter().zip([0x21, 0x12, 0xA4, 0x42]).map(|(byte, mask)| byte ^ mask));
        bytes
    }

    #[test]
    fn what_is_doubted_is_asked_again_and_once_for_all_who_doubt() {
        let mut rng = ChaCha20Rng::from_seed([2; 32]);
        let mut local = learn(["198.51.100.1:5", "198.51.100.1:5"]);
        local.refresh(at(5000));
        assert_eq!(local.advance(at(5000), &mut rng).len(), 0, "it is fresh");
        local.doubt(at(300));
        assert_eq!(local.advance(at(300), &mut rng).len(), 0, "it was just learnt");
        local.doubt(at(5000));
        local.doubt(at(5000));
        assert_eq!(local.advance(at(5000), &mut rng).len(), 2, "one round");
    }

    fn learn(seen: [&str; 2]) -> Local {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let mut local = Local::default();
        local.set_interfaces([address("192.168.1.2:41641")]);
        local.set_servers([address("203.0.113.1:3478"), address("203.0.113.1:3479")]);
        local.refresh(at(0));
        let requests = local.advance(at(0), &mut rng);
        assert_eq!(requests.len(), 2);
        for ((server, request), seen) in requests.iter().zip(seen) {
            local.answered(*server, &answer(request, address(seen)), at(20));
        }
        local
    }

    #[test]
    fn the_mapping_is_told_by_two_ports_of_a_server() {
        let check = |seen, expect| assert_eq!(learn(seen).mapping(), Some(expect), "{seen:?}");
        check(["203.0.113.10:41641", "203.0.113.10:41641"], Mapping::EndpointIndependent);
        check(["203.0.113.10:1000", "203.0.113.10:2000"], Mapping::PortDependent);
        check(["192.168.1.2:41641", "192.168.1.2:41641"], Mapping::None);
    }

    #[test]
    fn silence_is_told_and_keeps_what_was_known() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let mut local = learn(["203.0.113.10:41641", "203.0.113.10:41641"]);
        let before = local.candidates();
        assert_eq!(before.len(), 2);
        local.refresh(at(1000));
        assert_eq!(local.deadline(), None, "it is fresh");
        local.refresh(at(30_000));
        let mut sent = 0;
        while let Some(due) = local.deadline() {
            sent += local.advance(due, &mut rng).len();
        }
        assert_eq!(sent, 6);
        assert!(local.is_unanswered());
        assert_eq!(local.mapping(), Some(Mapping::EndpointIndependent));
        assert_eq!(local.candidates(), before);
    }

    #[test]
    fn an_answer_that_nobody_asked_for_says_nothing() {
        let mut rng = ChaCha20Rng::from_seed([1; 32]);
        let mut local = Local::default();
        local.set_servers([address("203.0.113.1:3478")]);
        local.refresh(at(0));
        let requests = local.advance(at(0), &mut rng);
        let (server, request) = &requests[0];
        let forged = answer(request, address("198.51.100.66:1"));
        local.answered(address("198.51.100.66:3478"), &forged, at(1));
        let mut other = request.clone();
        other[19] ^= 1;
        local.answered(*server, &answer(&other, address("198.51.100.66:1")), at(1));
        assert_eq!(local.candidates(), []);
        local.answered(*server, &answer(request, address("203.0.113.10:5")), at(1));
        assert_eq!(local.candidates().len(), 1);
    }

    #[test]
    fn another_network_takes_away_what_was_seen_in_the_former() {
        let mut local = learn(["203.0.113.10:41641", "203.0.113.10:41641"]);
        local.seen(address("203.0.113.11:41641"));
        let version = local.version();
        local.seen(address("203.0.113.11:41641"));
        assert_eq!(local.version(), version);
        assert_eq!(local.candidates().len(), 3);
        local.moved();
        assert_eq!(local.candidates().len(), 1);
        assert_eq!(local.mapping(), None);
    }
}
