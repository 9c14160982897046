//! What Prometheus scrapes: every series of the API process. Counts; decides nothing.

use std::sync::Arc;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use prometheus_client::encoding::{EncodeLabelSet, text};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::Registry;

use crate::relay::{Counters, Dropped};

/// Seconds. A read is far below the first, a commit on a slow disk in the middle, and past the last nobody waits.
const DURATION_BUCKETS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10.0];

/// The format of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Histograms = Family<RouteLabels, Histogram, fn() -> Histogram>;

/// All series. Clones count into the same.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    requests: Family<RequestLabels, Counter>,
    durations: Histograms,
    login_failures: Family<ReasonLabels, Counter>,
    edits: Family<EditLabels, Counter>,
    relay: Counters,
    relay_dropped: Family<ReasonLabels, Counter>,
    stun: Family<OutcomeLabels, Counter>,
    /// Heartbeats of agents and hub.
    pub heartbeats: Counter,
    /// Links that are open.
    pub links: Gauge,
    /// Devices that hold a link.
    pub devices_online: Gauge,
    /// Peers that the hub was told to have.
    pub wireguard_peers: Gauge,
    /// What others changed on the hub and netd put right, since netd started.
    pub hub_drift: Gauge,
    /// Connections to the database.
    pub db_open: Gauge,
    /// Connections to the database that do something.
    pub db_in_use: Gauge,
    /// When the process started, in seconds since 1970.
    pub started: Gauge<f64, AtomicU64>,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RequestLabels {
    route: String,
    method: String,
    status: u16,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct RouteLabels {
    route: String,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct ReasonLabels {
    reason: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct EditLabels {
    action: &'static str,
    outcome: &'static str,
}

#[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
struct OutcomeLabels {
    outcome: &'static str,
}

impl Metrics {
    /// All series at zero.
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("warren");
        let histogram: fn() -> Histogram = || Histogram::new(DURATION_BUCKETS);
        let mut metrics = Self {
            registry: Arc::default(),
            requests: Family::default(),
            durations: Family::new_with_constructor(histogram),
            login_failures: Family::default(),
            edits: Family::default(),
            relay: Counters::default(),
            relay_dropped: Family::default(),
            stun: Family::default(),
            heartbeats: Counter::default(),
            links: Gauge::default(),
            devices_online: Gauge::default(),
            wireguard_peers: Gauge::default(),
            hub_drift: Gauge::default(),
            db_open: Gauge::default(),
            db_in_use: Gauge::default(),
            started: Gauge::default(),
        };
        let m = &metrics;
        registry.register("http_requests", "HTTP requests answered", m.requests.clone());
        registry.register("http_request_duration_seconds", "Time to answer", m.durations.clone());
        registry.register("login_failures", "Logins that were refused", m.login_failures.clone());
        registry.register("edits", "Edits by outcome: done, or the code of the refusal", m.edits.clone());
        registry.register("agent_heartbeats", "Heartbeats received", m.heartbeats.clone());
        registry.register("relay_sessions", "Devices that may be relayed to", m.relay.sessions.clone());
        registry.register("relay_datagrams", "Datagrams relayed", m.relay.datagrams.clone());
        registry.register("relay_bytes", "Bytes relayed", m.relay.bytes.clone());
        registry.register(
            "relay_dropped_datagrams",
            "Datagrams not relayed, by reason",
            m.relay_dropped.clone(),
        );
        registry.register("stun_requests", "Datagrams at the ports of STUN, by outcome", m.stun.clone());
        registry.register("links", "Links that are open", m.links.clone());
        registry.register("devices_online", "Devices that hold a link", m.devices_online.clone());
        registry.register("wireguard_peers", "Peers that the hub should have", m.wireguard_peers.clone());
        registry.register(
            "hub_drift",
            "Drift of the hub that was repaired since its start",
            m.hub_drift.clone(),
        );
        registry.register("db_open_connections", "Connections to the database", m.db_open.clone());
        registry.register("db_in_use_connections", "Connections at work", m.db_in_use.clone());
        registry.register("process_start_time_seconds", "Start, since 1970", m.started.clone());
        metrics.registry = Arc::new(registry);
        metrics
    }

    /// One HTTP request was answered. `route` is the pattern, never the path: its values are few.
    pub fn request(&self, route: &str, method: &str, status: u16, took: Duration) {
        let labels = RequestLabels { route: route.into(), method: method.into(), status };
        self.requests.get_or_create(&labels).inc();
        self.durations.get_or_create(&RouteLabels { route: route.into() }).observe(took.as_secs_f64());
    }

    /// A login was refused.
    pub fn login_failure(&self, reason: &'static str) {
        self.login_failures.get_or_create(&ReasonLabels { reason }).inc();
    }

    /// An edit was done, or refused with a code.
    pub fn edit(&self, action: &'static str, outcome: &'static str) {
        self.edits.get_or_create(&EditLabels { action, outcome }).inc();
    }

    /// What the relay counts into.
    pub fn relay(&self) -> Counters {
        let reason = |dropped: Dropped| ReasonLabels { reason: dropped.as_str() };
        let dropped = Dropped::ALL.map(|why| self.relay_dropped.get_or_create_owned(&reason(why)));
        Counters { dropped, ..self.relay.clone() }
    }

    /// Where one outcome of a datagram at the ports of STUN is counted.
    pub fn stun(&self, outcome: &'static str) -> Counter {
        self.stun.get_or_create_owned(&OutcomeLabels { outcome })
    }

    /// All series in the text format of OpenMetrics 1.0.
    pub fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a string cannot fail.
        let _ = text::encode(&mut text, &self.registry);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_promised_names_are_there() {
        let metrics = Metrics::new();
        metrics.request("/api/v1/devices", "GET", 200, Duration::from_millis(3));
        metrics.login_failure("password");
        metrics.relay().dropped[0].inc();
        let text = metrics.text();
        for name in [
            "warren_http_requests_total{route=\"/api/v1/devices\",method=\"GET\",status=\"200\"} 1",
            "warren_http_request_duration_seconds_bucket",
            "warren_agent_heartbeats_total",
            "warren_login_failures_total{reason=\"password\"} 1",
            "warren_wireguard_peers",
            "warren_relay_sessions 0",
            "warren_relay_datagrams_total 0",
            "warren_relay_bytes_total 0",
            "warren_relay_dropped_datagrams_total{reason=\"not-admitted\"} 1",
            "warren_relay_dropped_datagrams_total{reason=\"no-room\"} 0",
            "warren_hub_drift 0",
            "warren_db_open_connections",
            "warren_db_in_use_connections",
        ] {
            assert!(text.contains(name), "{name} is missing in\n{text}");
        }
    }
}
