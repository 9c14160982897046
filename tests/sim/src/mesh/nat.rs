//! A NAT by the words of RFC 4787: how it maps, what it filters, when it forgets. And a firewall, which only filters.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use model::Mono;

use crate::dice::Dice;

/// How ports are given out (section 4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Maps {
    /// One for all whom a socket talks to.
    Once,
    /// One for each address and port that it talks to.
    PerRemote,
}

/// Who may answer (section 5).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Filters {
    /// Everybody.
    Nobody,
    /// Every port of an address that was talked to.
    Addresses,
    /// An address and port that was talked to.
    Ports,
}

/// What a NAT does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rules {
    /// How it gives out ports.
    pub maps: Maps,
    /// Each port is this much higher than the last; 0 is by chance.
    pub stride: u16,
    /// Ports that others behind it are given in a second.
    pub crowd: u32,
    /// Whom it lets in.
    pub filters: Filters,
    /// Whether hosts behind it reach each other by its outer address (section 6).
    pub hairpin: bool,
    /// What was not used to send for so long is forgotten (section 4.3).
    pub expiry: Duration,
}

/// One NAT.
#[derive(Debug)]
pub struct Nat {
    /// What it does.
    pub rules: Rules,
    /// Its address outside.
    pub external: IpAddr,
    bindings: Vec<Binding>,
    last_port: u16,
    /// When the crowd's last port was given out.
    crowd_at: Mono,
}

#[derive(Debug)]
struct Binding {
    internal: SocketAddr,
    /// Of a binding that is for one remote only.
    remote: Option<SocketAddr>,
    port: u16,
    talked: BTreeMap<SocketAddr, Mono>,
    used: Mono,
}

impl Nat {
    /// One that knows nobody.
    pub const fn new(rules: Rules, external: IpAddr) -> Self {
        Self { rules, external, bindings: Vec::new(), last_port: 20_000, crowd_at: Mono::from_micros(0) }
    }

    /// Forgets everybody: it was rebooted.
    pub fn flush(&mut self) {
        self.bindings.clear();
    }

    /// A packet leaves; says what its source is outside.
    pub fn out(&mut self, from: SocketAddr, to: SocketAddr, now: Mono, dice: &mut Dice) -> SocketAddr {
        let expiry = self.rules.expiry;
        self.bindings.retain(|binding| now.since(binding.used) < expiry);
        let remote = (self.rules.maps == Maps::PerRemote).then_some(to);
        let found = self.bindings.iter_mut().position(|b| b.internal == from && b.remote == remote);
        let index = found.unwrap_or_else(|| {
            self.serve_crowd(now);
            let port = self.free_port(dice);
            self.bindings.push(Binding { internal: from, remote, port, talked: BTreeMap::new(), used: now });
            self.bindings.len() - 1
        });
        let binding = &mut self.bindings[index];
        binding.used = now;
        binding.talked.insert(to, now);
        SocketAddr::new(self.external, binding.port)
    }

    /// A NAT that counts has counted others' ports meanwhile.
    fn serve_crowd(&mut self, now: Mono) {
        let Some(each) = Duration::from_secs(1).checked_div(self.rules.crowd) else { return };
        let given = now.since(self.crowd_at).as_micros() / each.as_micros();
        let given = u32::try_from(given).unwrap_or(u32::MAX);
        self.crowd_at = self.crowd_at + each * given;
        // Beyond the last port it begins anew, as with its own.
        let ports = given.wrapping_mul(u32::from(self.rules.stride)) % 64_000;
        self.last_port = self.last_port.wrapping_add(u16::try_from(ports).expect("below 64 000"));
    }

    fn free_port(&mut self, dice: &mut Dice) -> u16 {
        loop {
            let port = match self.rules.stride {
                0 => 1024 + u16::try_from(dice.below(64_000)).expect("below 64 000"),
                stride => self.last_port.wrapping_add(stride).max(1024),
            };
            self.last_port = port;
            if self.bindings.iter().all(|binding| binding.port != port) {
                return port;
            }
        }
    }

    /// A packet arrives outside; says for whom inside. `None`: dropped.
    pub fn back(&self, from: SocketAddr, port: u16, now: Mono) -> Option<SocketAddr> {
        let binding = self.bindings.iter().find(|binding| binding.port == port)?;
        let is_fresh = |at: &Mono| now.since(*at) < self.rules.expiry;
        let known = match self.rules.filters {
            Filters::Nobody => true,
            Filters::Addresses => binding.talked.iter().any(|(to, at)| to.ip() == from.ip() && is_fresh(at)),
            Filters::Ports => binding.talked.get(&from).is_some_and(is_fresh),
        };
        (is_fresh(&binding.used) && known).then_some(binding.internal)
    }
}

/// Lets in what answers, and nothing else.
#[derive(Debug, Default)]
pub struct Firewall {
    /// By a port of ours.
    talked: BTreeMap<(u16, SocketAddr), Mono>,
}

/// As Linux forgets UDP that was answered once (nf_conntrack_udp_timeout_stream).
pub const FIREWALL_EXPIRY: Duration = Duration::from_secs(120);

impl Firewall {
    /// A packet leaves.
    pub fn out(&mut self, by: u16, to: SocketAddr, now: Mono) {
        self.talked.insert((by, to), now);
    }

    /// Whether a packet gets in.
    pub fn admits(&self, at: u16, from: SocketAddr, now: Mono) -> bool {
        self.talked.get(&(at, from)).is_some_and(|at| now.since(*at) < FIREWALL_EXPIRY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INSIDE: &str = "192.168.1.2:41641";

    fn check(maps: Maps, filters: Filters, from: &str, expect: bool) {
        let address = |text: &str| text.parse::<SocketAddr>().expect("an address");
        let mut dice = Dice::new(1, "nat");
        let expiry = Duration::from_secs(30);
        let rules = Rules { maps, stride: 0, crowd: 0, filters, hairpin: false, expiry };
        let mut nat = Nat::new(rules, "203.0.113.10".parse().expect("an address"));
        let now = Mono::default();
        let outside = nat.out(address(INSIDE), address("198.51.100.1:1000"), now, &mut dice);
        let other = nat.out(address(INSIDE), address("198.51.100.2:1000"), now, &mut dice);
        assert_eq!(outside == other, maps == Maps::Once);
        let got = nat.back(address(from), outside.port(), now);
        assert_eq!(got, expect.then(|| address(INSIDE)), "{maps:?} {filters:?} {from}");
        let late = now + rules.expiry;
        assert_eq!(nat.back(address(from), outside.port(), late), None, "forgotten");
    }

    #[test]
    fn each_kind_lets_in_whom_it_should() {
        check(Maps::Once, Filters::Nobody, "198.51.100.9:9", true);
        check(Maps::Once, Filters::Addresses, "198.51.100.9:9", false);
        check(Maps::Once, Filters::Addresses, "198.51.100.1:9", true);
        check(Maps::Once, Filters::Ports, "198.51.100.1:9", false);
        check(Maps::Once, Filters::Ports, "198.51.100.1:1000", true);
        check(Maps::PerRemote, Filters::Ports, "198.51.100.1:1000", true);
        check(Maps::PerRemote, Filters::Ports, "198.51.100.2:1000", false);
    }
}
