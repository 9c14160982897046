//! What Prometheus scrapes: every series of the API process. Counts; decides nothing. `docs/metrics.md` lists them.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use control::{Counters as Work, Event};
use model::CaKind;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeLabelSet, EncodeMetric as _, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::{ConstGauge, Gauge};
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::registry::{Metric, Registry};
use shell::metrics::PREFIX;
use shell::process::Process;

use crate::relay::{Counters, Dropped};
use crate::room;

/// Seconds. A read is far below the first, a commit on a slow disk in the middle, and past the last nobody waits.
const DURATION_BUCKETS: [f64; 10] = [0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 2.5, 10.0];

/// The format of [`Metrics::text`].
pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

/// A histogram of durations for each set of labels.
type Durations<L> = Family<L, Histogram, fn() -> Histogram>;

/// All series. Clones count into the same.
#[derive(Clone)]
pub struct Metrics {
    registry: Arc<Registry>,
    requests: Family<RequestLabels, Counter>,
    durations: Durations<RouteLabels>,
    login_failures: Family<ReasonLabels, Counter>,
    rate_limit_rejections: Family<LimiterLabels, Counter>,
    edits: Family<EditLabels, Counter>,
    edit_durations: Durations<ActionLabels>,
    certificates: Family<CertificateLabels, Counter>,
    attachments: Family<NodeLabels, Counter>,
    link_refusals: Family<CodeLabels, Counter>,
    disagreements: Family<ReasonLabels, Counter>,
    enrolments: Counter,
    commit_conflicts: Counter,
    store_failures: Counter,
    checks: Family<CheckLabels, Gauge>,
    devices: Family<StandingLabels, Gauge>,
    relay: Counters,
    relay_dropped: Family<ReasonLabels, Counter>,
    stun: Family<OutcomeLabels, Counter>,
    snapshots_sent: Family<FormLabels, Counter>,
    snapshot_plans: Counter,
    snapshot_entries: Counter,
    snapshot_signatures: Counter,
    hints: Family<OutcomeLabels, Counter>,
    /// HTTP requests that are being answered.
    pub requests_in_flight: Gauge,
    /// HTTPS connections of an address that had as many as it may.
    pub https_refused: Counter,
    /// Heartbeats of agents and hub.
    pub heartbeats: Counter,
    /// Entries of the audit log that could not be written.
    pub audit_lost: Counter,
    /// Links that are open.
    pub links: Gauge,
    /// Devices that hold a link.
    pub devices_online: Gauge,
    /// Tenants that were not deleted.
    pub tenants: Gauge,
    /// 1 while the hub is attached and its host is as its snapshots say.
    pub hub_settled: Gauge,
    /// Peers that the hub was told to have.
    pub wireguard_peers: Gauge,
    /// What others changed on the hub and netd put right, since netd started.
    pub hub_drift: Gauge,
    /// Connections to the database.
    pub db_open: Gauge,
    /// Connections to the database that do something.
    pub db_in_use: Gauge,
    /// Connections to the database that there may be.
    pub db_max: Gauge,
    /// Whether this replica holds the lease: 1 or 0. The only one always does.
    pub lease_held: Gauge,
    /// The latest term of the lease that was heard of.
    pub lease_term: Gauge,
    /// Time of a commit of an edit, with what it waited for.
    pub db_commit_durations: Histogram,
    /// When the last backup of everything was made, in seconds since 1970; 0 before the first.
    pub last_backup: Gauge,
    /// When the certificate of HTTPS ends, in seconds since 1970.
    pub certificate_expiry: Gauge,
    /// When the first key of an SSH authority is due to be replaced, in seconds since 1970.
    pub ssh_key_due: Gauge,
}

macro_rules! labels {
    ($($name:ident { $($label:ident: $type:ty),* })*) => {
        $(
            #[derive(Clone, Debug, Hash, PartialEq, Eq, EncodeLabelSet)]
            struct $name { $($label: $type),* }
        )*
    };
}

labels! {
    RequestLabels { route: String, method: String, status: u16 }
    RouteLabels { route: String }
    ReasonLabels { reason: &'static str }
    LimiterLabels { limiter: &'static str }
    EditLabels { action: &'static str, outcome: &'static str }
    ActionLabels { action: &'static str }
    OutcomeLabels { outcome: &'static str }
    CertificateLabels { kind: &'static str, outcome: &'static str }
    NodeLabels { node: &'static str }
    FormLabels { form: &'static str }
    CodeLabels { code: &'static str }
    CheckLabels { check: String }
    StandingLabels { standing: &'static str }
}

/// Looks at the disk of the state directory when it is scraped.
#[derive(Debug)]
struct Disk(PathBuf);

impl Collector for Disk {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        // A directory that cannot be looked at has no series; the health check fails by then.
        let Ok(room) = room::of(&self.0) else { return Ok(()) };
        let both = [("state_free_bytes", room.free_bytes), ("state_disk_bytes", room.disk_bytes)];
        for (name, bytes) in both {
            let help = "Disk of the state directory";
            let gauge = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            ConstGauge::new(i64::try_from(bytes).unwrap_or(i64::MAX)).encode(gauge)?;
        }
        Ok(())
    }
}

fn histogram() -> Histogram {
    Histogram::new(DURATION_BUCKETS)
}

fn durations<L: Clone + std::hash::Hash + Eq>() -> Durations<L> {
    Family::new_with_constructor(histogram as fn() -> Histogram)
}

/// Registers a series or a family that is made before.
fn with<M: Metric + Clone>(registry: &mut Registry, name: &str, help: &str, metric: M) -> M {
    registry.register(name, help, metric.clone());
    metric
}

/// Registers a series or a family that begins empty.
fn add<M: Metric + Clone + Default>(registry: &mut Registry, name: &str, help: &str) -> M {
    with(registry, name, help, M::default())
}

impl Metrics {
    /// All series at zero. The state directory is what room is measured for.
    pub fn new(state_dir: &Path) -> Self {
        let mut registry = Registry::with_prefix(PREFIX);
        let process = Process::start("warren-apid", env!("CARGO_PKG_VERSION"));
        registry.register_collector(Box::new(process));
        registry.register_collector(Box::new(Disk(state_dir.into())));
        let r = &mut registry;
        let mut metrics = Self {
            registry: Arc::default(),
            requests: add(r, "http_requests", "HTTP requests answered"),
            durations: with(r, "http_request_duration_seconds", "Time to answer", durations()),
            requests_in_flight: add(r, "http_requests_in_flight", "HTTP requests being answered"),
            https_refused: add(r, "https_connections_refused", "Connections beyond what an address may have"),
            login_failures: add(r, "login_failures", "Logins that were refused"),
            rate_limit_rejections: add(
                r,
                "rate_limit_rejections",
                "Requests that came too often, by limiter",
            ),
            edits: add(r, "edits", "Edits by outcome: done, or the code of the refusal"),
            edit_durations: with(r, "edit_duration_seconds", "Time until an edit is answered", durations()),
            certificates: add(r, "ssh_certificates", "Wishes for SSH certificates, by outcome"),
            attachments: add(r, "link_attachments", "Nodes that attached"),
            link_refusals: add(r, "link_refusals", "Links that were refused, by code"),
            disagreements: add(r, "node_disagreements", "Nodes that do not hold what they should, by reason"),
            enrolments: add(r, "enrolments", "Devices that enrolled"),
            heartbeats: add(r, "agent_heartbeats", "Heartbeats received"),
            links: add(r, "links", "Links that are open"),
            devices_online: add(r, "devices_online", "Devices that hold a link"),
            devices: add(r, "devices", "Devices by standing"),
            tenants: add(r, "tenants", "Tenants"),
            wireguard_peers: add(r, "wireguard_peers", "Peers that the hub should have"),
            hub_settled: add(r, "hub_settled", "1 while the hub is attached and as its snapshots say"),
            hub_drift: add(r, "hub_drift", "Drift of the hub that was repaired since its start"),
            checks: add(r, "check_ok", "1 while the check of /healthz finds nothing wrong"),
            db_open: add(r, "db_open_connections", "Connections to the database"),
            db_in_use: add(r, "db_in_use_connections", "Connections at work"),
            db_max: add(r, "db_max_connections", "Connections that there may be"),
            lease_held: add(r, "lease_held", "1 while this replica is the hub's server"),
            lease_term: add(r, "lease_term", "Latest term of the lease"),
            db_commit_durations: with(
                r,
                "db_commit_duration_seconds",
                "Time of an edit's commit",
                histogram(),
            ),
            store_failures: add(r, "store_failures", "Times that the database did not do what it was asked"),
            commit_conflicts: add(r, "commit_conflicts", "Edits decided again: another replica was faster"),
            snapshots_sent: add(r, "snapshots_sent", "Snapshots sent to nodes, by form"),
            snapshot_plans: add(r, "snapshot_plans", "Plans of nodes looked at"),
            snapshot_entries: add(r, "snapshot_entries", "Entries of plans that edits changed"),
            snapshot_signatures: add(r, "snapshot_signatures", "Stamps of snapshots signed"),
            hints: add(r, "hints", "Hints of devices to each other, by outcome"),
            audit_lost: add(r, "audit_entries_lost", "Audit entries that could not be written"),
            last_backup: add(r, "last_backup_timestamp_seconds", "When the last backup was made"),
            certificate_expiry: add(r, "tls_certificate_expiry_timestamp_seconds", "End of the certificate"),
            ssh_key_due: add(r, "ssh_ca_key_due_timestamp_seconds", "When a key of an SSH authority is due"),
            relay: Counters {
                sessions: add(r, "relay_sessions", "Devices that may be relayed to"),
                datagrams: add(r, "relay_datagrams", "Datagrams relayed"),
                bytes: add(r, "relay_bytes", "Bytes relayed"),
                ..Counters::default()
            },
            relay_dropped: add(r, "relay_dropped_datagrams", "Datagrams not relayed, by reason"),
            stun: add(r, "stun_requests", "Datagrams at the ports of STUN, by outcome"),
        };
        metrics.begin_at_zero();
        metrics.registry = Arc::new(registry);
        metrics
    }

    /// A series that appears with its first failure hides that failure from `rate()`: those whose labels are known are
    /// there from the start.
    fn begin_at_zero(&self) {
        for reason in ["password", "second-factor", "throttled", "busy", "token"] {
            drop(self.login_failures.get_or_create(&ReasonLabels { reason }));
        }
        for node in ["device", "hub"] {
            drop(self.attachments.get_or_create(&NodeLabels { node }));
        }
        for reason in ["resync", "overdue", "ahead", "forked"] {
            drop(self.disagreements.get_or_create(&ReasonLabels { reason }));
        }
        for kind in CaKind::ALL {
            drop(
                self.certificates.get_or_create(&CertificateLabels { kind: kind.as_str(), outcome: "done" }),
            );
        }
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

    /// Where requests are counted that came too often for one limiter.
    pub fn rate_limit_rejections(&self, limiter: &'static str) -> Counter {
        self.rate_limit_rejections.get_or_create_owned(&LimiterLabels { limiter })
    }

    /// An edit was done, or refused with a code.
    pub fn edit(&self, action: &'static str, outcome: &'static str, took: Duration) {
        self.edits.get_or_create(&EditLabels { action, outcome }).inc();
        self.edit_durations.get_or_create(&ActionLabels { action }).observe(took.as_secs_f64());
    }

    /// A certificate was made, or refused with a code.
    pub fn certificate(&self, kind: CaKind, outcome: &'static str) {
        self.certificates.get_or_create(&CertificateLabels { kind: kind.as_str(), outcome }).inc();
    }

    /// Something happened in the control machine.
    pub fn event(&self, event: &Event) {
        let disagrees = |reason| {
            self.disagreements.get_or_create(&ReasonLabels { reason }).inc();
        };
        match event {
            Event::Attached { tenant, .. } => {
                let node = if tenant.is_some() { "device" } else { "hub" };
                self.attachments.get_or_create(&NodeLabels { node }).inc();
            }
            Event::LinkRefused { refusal, .. } => {
                self.link_refusals.get_or_create(&CodeLabels { code: refusal.code.as_str() }).inc();
            }
            Event::Enrolled { .. } => {
                self.enrolments.inc();
            }
            Event::ResyncAsked { .. } => disagrees("resync"),
            Event::HoldingOverdue { .. } => disagrees("overdue"),
            Event::NodeAhead { .. } => disagrees("ahead"),
            Event::NodeForked { .. } => disagrees("forked"),
            Event::CommitConflict { .. } => {
                self.commit_conflicts.inc();
            }
            Event::StoreUnavailable { .. } => {
                self.store_failures.inc();
            }
            // They are levels, which a check shows, or are counted where they are answered.
            Event::Detached { .. }
            | Event::NodeRefused { .. }
            | Event::IdentityCloned { .. }
            | Event::DirectoryWithheld { .. }
            | Event::AnchorSealed { .. }
            | Event::StoreBehind { .. }
            | Event::TenantLost { .. }
            | Event::EditRefused { .. }
            | Event::EditDone { .. } => {}
        }
    }

    /// What publishing has cost so far, and what became of hints. An edit costs what it changes, whatever else there is.
    pub fn published(&self, work: &Work) {
        let set = |counter: &Counter, value| counter.inner().store(value, Ordering::Relaxed);
        for (form, value) in [("patch", work.patches_sent), ("whole", work.wholes_sent)] {
            set(&self.snapshots_sent.get_or_create_owned(&FormLabels { form }), value);
        }
        set(&self.snapshot_plans, work.nodes_planned);
        set(&self.snapshot_entries, work.entries_touched);
        set(&self.snapshot_signatures, work.signatures);
        let hints =
            [("forwarded", work.hints_forwarded), ("passed", work.hints_passed), ("lost", work.hints_lost)];
        for (outcome, value) in hints {
            set(&self.hints.get_or_create_owned(&OutcomeLabels { outcome }), value);
        }
    }

    /// How a check of `/healthz` ended.
    pub fn check(&self, check: &str, well: bool) {
        self.checks.get_or_create(&CheckLabels { check: check.into() }).set(well.into());
    }

    /// How many devices have a standing.
    pub fn devices(&self, standing: &'static str, count: u32) {
        self.devices.get_or_create(&StandingLabels { standing }).set(count.into());
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
        let metrics = Metrics::new(Path::new("/"));
        metrics.request("/api/v1/devices", "GET", 200, Duration::from_millis(3));
        metrics.login_failure("password");
        metrics.relay().dropped[0].inc();
        metrics.published(&Work { hints_passed: 3, hints_lost: 4, ..Work::default() });
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
            "warren_hints_total{outcome=\"forwarded\"} 0",
            "warren_hints_total{outcome=\"passed\"} 3",
            "warren_hints_total{outcome=\"lost\"} 4",
            "warren_state_free_bytes ",
            "warren_https_connections_refused_total 0",
            "warren_process_open_fds ",
            "warren_db_open_connections",
            "warren_db_in_use_connections",
            "warren_db_max_connections",
            "warren_lease_held",
            "warren_lease_term",
        ] {
            assert!(text.contains(name), "{name} is missing in\n{text}");
        }
    }
}
