//! What a device finds paths by, for people. Plain data.

use std::net::SocketAddr;
use std::time::Duration;

use engine::paths::Way;
use model::Label;

/// What a device finds paths by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PathsReport {
    /// Where STUN is answered.
    pub stun_servers: Vec<SocketAddr>,
    /// The port that the router opened.
    pub mapped: Option<SocketAddr>,
    /// The server's own relay while it is connected, and those on other machines.
    pub relays: Vec<RelayReport>,
    /// What was done since the start.
    pub counters: PathCounters,
}

/// What was done about paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PathCounters {
    /// Times that a peer's packets began to go so.
    pub changes_total: PerWay,
    /// Times that a peer's packets began to go over a relay as well, as its direct path did not answer.
    pub doubts_total: u64,
    /// Probes sent, by whatever way, and questions to servers of STUN.
    pub probes_total: u64,
    /// Times that side sockets were opened, or were to be.
    pub birthdays_total: Birthdays,
}

/// What became of birthday probing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Birthdays {
    /// A peer was met at a side socket.
    pub met: u64,
    /// It was not in time, or nobody talked to it any more.
    pub missed: u64,
    /// The sockets could not be opened.
    pub failed: u64,
}

impl Birthdays {
    /// All of them, with their names.
    pub const fn named(self) -> [(&'static str, u64); 3] {
        [("met", self.met), ("missed", self.missed), ("failed", self.failed)]
    }
}

/// A figure for each way of packets to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PerWay {
    direct: u64,
    relayed: u64,
    via_hub: u64,
}

impl PerWay {
    /// One more.
    pub fn count(&mut self, way: Way) {
        *match way {
            Way::Direct(_) => &mut self.direct,
            Way::Relayed(_) => &mut self.relayed,
            Way::ViaHub => &mut self.via_hub,
        } += 1;
    }

    /// All of them, with their names.
    pub const fn named(self) -> [(&'static str, u64); 3] {
        [("direct", self.direct), ("relayed", self.relayed), ("via_hub", self.via_hub)]
    }
}

impl FromIterator<Way> for PerWay {
    fn from_iter<I: IntoIterator<Item = Way>>(ways: I) -> Self {
        let mut counted = Self::default();
        ways.into_iter().for_each(|way| counted.count(way));
        counted
    }
}

/// A relay.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayReport {
    /// Its name; `server` is the server's own.
    pub name: Label,
    /// There and back, once it was reached; of the server over QUIC alone.
    pub round_trip: Option<Duration>,
    /// Whether it is the one that hints name, so that peers find this device there: the nearest of those that are connected.
    pub is_home: bool,
}

impl RelayReport {
    /// The server's own.
    pub(super) fn of_server(round_trip: Option<Duration>, is_home: bool) -> Self {
        Self { name: "server".parse().expect("a label"), round_trip, is_home }
    }
}
