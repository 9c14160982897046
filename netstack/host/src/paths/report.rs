//! What a device finds paths by, for people. Plain data.

use std::net::SocketAddr;
use std::time::Duration;

use model::Label;

/// What a device finds paths by.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct PathsReport {
    /// Where STUN is answered.
    pub stun_servers: Vec<SocketAddr>,
    /// The port that the router opened.
    pub mapped: Option<SocketAddr>,
    /// Relays on other machines.
    pub relays: Vec<RelayReport>,
    /// What was done since the start.
    pub counters: PathCounters,
}

/// What was done about paths.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PathCounters {
    /// Peers whose packets began to go directly.
    pub direct_total: u64,
    /// Peers whose packets began to go over a relay.
    pub relayed_total: u64,
    /// Peers whose packets began to go through the hub.
    pub via_hub_total: u64,
    /// Probes sent, by whatever way, and questions to servers of STUN.
    pub probes_total: u64,
}

/// A relay on another machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RelayReport {
    /// Its name.
    pub name: Label,
    /// There and back, once it was reached.
    pub round_trip: Option<Duration>,
    /// Whether peers find this device there.
    pub is_home: bool,
}
