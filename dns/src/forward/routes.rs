//! Whom to ask about a name: nobody, ourselves, the servers of its suffix, or those for the rest. Asks nobody.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use ipnet::IpNet;
use model::Name;

use super::clock::Clock;
use super::config::{ForwardConfig, Target};
use super::group::{Group, GroupParts};
use super::local::{Place, Places};
use super::policy::{Policy, Suffixes, is_private};
use super::question::{Key, suffixes, wire_name};
use super::upstream::Upstream;
use crate::arpa;

/// What the machine says of the network that it is in.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Machine {
    /// Its own resolvers, nearest first.
    pub resolvers: Vec<SocketAddr>,
    /// Domains that belong to the network, such as the search list that it was given.
    pub domains: Vec<Name>,
}

/// What the node says of the mesh.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Mesh {
    /// Zones and suffixes of zones: nothing in them is ever asked for outside, nor who has an address of the mesh.
    pub zones: Vec<Name>,
    /// The blocks of its addresses.
    pub blocks: Vec<IpNet>,
    /// The node's own addresses: whoever is asked there is ourselves.
    pub own: Vec<IpAddr>,
}

/// The way of a question.
pub(super) enum Way {
    /// It is the mesh's, and not of this asker.
    Refuse,
    /// It is answered here.
    Here(Place),
    /// One of our probes has come back: the server with this number sends us what we ask it.
    Looped(u32),
    /// These are asked.
    Ask(Arc<Group>),
}

/// All ways.
pub(super) struct Routes {
    zones: Suffixes,
    by_suffix: BTreeMap<Box<[u8]>, Arc<Group>>,
    rest: Arc<Group>,
    pub(super) policy: Policy,
}

/// What stays the same whatever the machine and the mesh say.
pub(super) struct Ground {
    pub(super) config: ForwardConfig,
    pub(super) tls: Arc<rustls::ClientConfig>,
    pub(super) places: Places,
    pub(super) clock: Clock,
    /// What only we know, so that nobody else can make a probe.
    secret: u64,
    numbers: AtomicU32,
}

const PROBES: &[u8] = b"\x04test\x00";

impl Ground {
    pub(super) fn new(config: ForwardConfig, tls: Arc<rustls::ClientConfig>, secret: u64) -> Self {
        // 0 is nobody's, as in `Kept`.
        let numbers = AtomicU32::new(1);
        Self { config, tls, places: Places::new(), clock: Clock, secret, numbers }
    }

    /// The question by which a server is probed: it is nobody's name (RFC 6761), so that any answer will do, and it
    /// is ours, so that we know it if it comes back.
    pub(super) fn probe(&self, number: u32) -> Key {
        let label = format!("w{:016x}{number:08x}", self.secret);
        let length = u8::try_from(label.len()).expect("25 bytes");
        Key::of(&[&[length], label.as_bytes(), PROBES].concat(), super::question::KIND_A)
    }

    fn probed(&self, name: &[u8]) -> Option<u32> {
        let label = name.strip_suffix(PROBES)?.strip_prefix(b"\x19w")?;
        let (secret, number) = std::str::from_utf8(label).ok()?.split_at_checked(16)?;
        let ours = u64::from_str_radix(secret, 16).is_ok_and(|secret| secret == self.secret);
        ours.then(|| u32::from_str_radix(number, 16).ok()).flatten()
    }

    fn group(&self, targets: &[Target], is_for_suffix: bool, mesh: &Mesh) -> Arc<Group> {
        // Whom we ask at our own address are we.
        let others =
            targets.iter().filter(|target| !mesh.own.contains(&target.address().ip().to_canonical()));
        let upstreams: Vec<Upstream> = others
            .map(|target| {
                let number = self.numbers.fetch_add(1, Ordering::Relaxed);
                let is_wished = self.config.upstreams.iter().any(|rule| rule.target == *target);
                Upstream::new(target.clone(), number, is_wished, &self.tls)
            })
            .collect();
        let is_of_site = upstreams.iter().all(|upstream| {
            let address = upstream.target().address().ip().to_canonical();
            is_private(address) || address.is_loopback()
        });
        let parts = GroupParts { upstreams, mixed_case: self.config.mixed_case, is_for_suffix, is_of_site };
        Arc::new(Group::new(parts, self.clock))
    }
}

impl Routes {
    pub(super) fn new(ground: &Ground, machine: &Machine, mesh: &Mesh) -> Self {
        let mut targets: BTreeMap<Option<Box<[u8]>>, Vec<Target>> = BTreeMap::new();
        for rule in &ground.config.upstreams {
            targets.entry(rule.suffix.as_ref().map(wire_name)).or_default().push(rule.target.clone());
        }
        let rest = targets
            .remove(&None)
            .unwrap_or_else(|| machine.resolvers.iter().map(|resolver| Target::Plain(*resolver)).collect());
        let by_suffix = targets
            .into_iter()
            .filter_map(|(suffix, targets)| Some((suffix?, ground.group(&targets, true, mesh))));
        let reverse: Vec<Name> = mesh.blocks.iter().flat_map(arpa::names).collect();
        let ours: Suffixes = mesh.zones.iter().chain(&reverse).collect();
        let foreign = machine.domains.iter().filter(|domain| !ours.contain(&wire_name(domain)));
        Self {
            by_suffix: by_suffix.collect(),
            rest: ground.group(&rest, false, mesh),
            policy: Policy {
                blocks: mesh.blocks.clone(),
                allowed: ground.config.rebind_allow.iter().collect(),
                of_site: foreign.collect(),
            },
            zones: ours,
        }
    }

    /// The way of a name.
    pub(super) fn of(&self, ground: &Ground, name: &[u8]) -> Way {
        if self.zones.contain(name) {
            return Way::Refuse;
        }
        if let Some(number) = ground.probed(name) {
            return Way::Looped(number);
        }
        if let Some(group) = suffixes(name).find_map(|suffix| self.by_suffix.get(suffix)) {
            return Way::Ask(Arc::clone(group));
        }
        match ground.places.of(name) {
            Some(Place::Site(_)) if self.rest.is_of_site => Way::Ask(Arc::clone(&self.rest)),
            Some(place) => Way::Here(place),
            None => Way::Ask(Arc::clone(&self.rest)),
        }
    }

    pub(super) fn groups(&self) -> impl Iterator<Item = &Arc<Group>> {
        self.by_suffix.values().chain([&self.rest])
    }

    /// The groups with their suffix, in wire form.
    pub(super) fn named_groups(&self) -> impl Iterator<Item = (Option<&[u8]>, &Arc<Group>)> {
        let named = self.by_suffix.iter().map(|(suffix, group)| (Some(&**suffix), group));
        named.chain([(None, &self.rest)])
    }
}

#[cfg(test)]
mod tests {
    use super::super::stream::client_config;
    use super::*;

    fn ground(rules: &[&str]) -> Ground {
        let upstreams = rules.iter().map(|rule| rule.parse().unwrap()).collect();
        let config = ForwardConfig { upstreams, ..ForwardConfig::default() };
        Ground::new(config, client_config(None).unwrap(), 0xfeed)
    }

    fn machine(resolvers: &[&str]) -> Machine {
        let resolvers = resolvers.iter().map(|text| SocketAddr::new(text.parse().unwrap(), 53)).collect();
        Machine { resolvers, domains: Vec::new() }
    }

    fn mesh() -> Mesh {
        Mesh {
            zones: vec!["home.internal".parse().unwrap()],
            blocks: vec!["100.64.0.0/16".parse().unwrap()],
            own: vec!["100.64.0.2".parse().unwrap()],
        }
    }

    fn way(ground: &Ground, machine: &Machine, name: &str) -> String {
        let wire = wire_name(&name.parse().unwrap());
        match Routes::new(ground, machine, &mesh()).of(ground, &wire) {
            Way::Refuse => "refuse".into(),
            Way::Here(place) => format!("{place:?}"),
            Way::Looped(number) => format!("loop {number}"),
            Way::Ask(group) => {
                let targets = group.upstreams.iter().map(|upstream| upstream.target().to_string());
                targets.collect::<Vec<_>>().join(" ")
            }
        }
    }

    #[test]
    fn the_longest_suffix_wins_and_the_machine_has_the_rest() {
        let ground = ground(&["corp.example=10.0.0.1", "corp.example=10.0.0.2", "a.corp.example=10.0.0.3"]);
        let check = |name: &str, expect: &str| {
            assert_eq!(way(&ground, &machine(&["192.0.2.53", "100.64.0.2"]), name), expect, "{name}");
        };
        check("www.corp.example", "10.0.0.1 10.0.0.2");
        check("corp.example", "10.0.0.1 10.0.0.2");
        check("x.a.corp.example", "10.0.0.3");
        check("corpxexample", "192.0.2.53");
        check("example.org", "192.0.2.53");
        check("laptop.home.internal", "refuse");
        check("9.7.64.100.in-addr.arpa", "refuse");
        check("9.7.65.101.in-addr.arpa", "192.0.2.53");
    }

    #[test]
    fn servers_for_everything_take_the_machines_place() {
        let ground = ground(&["tls://9.9.9.9", "100.64.0.2"]);
        assert_eq!(way(&ground, &machine(&["192.0.2.53"]), "example.org"), "tls://9.9.9.9");
        assert_eq!(way(&ground, &machine(&[]), "x.local"), "Site(7)");
    }

    #[test]
    fn names_of_a_site_stay_in_the_site() {
        let none = ground(&[]);
        let check = |resolver: &str, name: &str, expect: &str| {
            assert_eq!(way(&none, &machine(&[resolver]), name), expect, "{name} by {resolver}");
        };
        check("192.168.1.1", "1.1.168.192.in-addr.arpa", "192.168.1.1");
        check("192.168.1.1", "printer.home.arpa", "192.168.1.1");
        check("8.8.8.8", "printer.home.arpa", "Site(11)");
        check("8.8.8.8", "1.0.0.10.in-addr.arpa", "Site(17)");
        check("192.168.1.1", "x.localhost", "Here");
        check("192.168.1.1", "x.onion", "Nowhere(7)");
        let told = ground(&["10.in-addr.arpa=10.0.0.1", "test=10.0.0.2"]);
        assert_eq!(way(&told, &machine(&["8.8.8.8"]), "1.0.0.10.in-addr.arpa"), "10.0.0.1");
        assert_eq!(way(&told, &machine(&["8.8.8.8"]), "x.test"), "10.0.0.2");
    }

    #[test]
    fn a_probe_that_comes_back_is_known_and_no_other() {
        let ground = ground(&["test=10.0.0.2"]);
        let probe = ground.probe(0x2a);
        let mut labels = suffixes(probe.name());
        let first = labels.next().expect("the name");
        let text = std::str::from_utf8(&first[1..26]).expect("hexadecimal");
        let check =
            |name: &str, expect: &str| assert_eq!(way(&ground, &machine(&[]), name), expect, "{name}");
        check(&format!("{text}.test"), "loop 42");
        check(&format!("w{:016x}{:08x}.test", 0xbeef, 0x2a), "10.0.0.2");
        check(&format!("{text}.example"), "");
        check(&format!("x.{text}.test"), "10.0.0.2");
    }
}
