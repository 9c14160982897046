//! What Prometheus scrapes of the nodes of a program. Counts nothing itself.

use std::fmt;
use std::sync::Arc;

use dns::forward::{CacheReport, ForwardCounters};
use dns::serve::{BUCKETS_MICROS, Counters as Names, Way as DnsWay};
use engine::status::LinkState;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric as _, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;

use crate::drive::{Counters, Gone, Handle, PathCounters};
use crate::interface::InterfaceName;
use crate::paths::report::PerWay;

/// A node at the moment of a scrape.
#[derive(Debug, Clone)]
pub struct Node {
    interface: String,
    state: State,
    done: Counters,
    paths: PathCounters,
    /// Peers that are talked to.
    ways: PerWay,
    names: Arc<Names>,
    forwarder: Option<(Arc<ForwardCounters>, CacheReport)>,
}

/// How a node is.
#[derive(Debug, Clone, Copy, Default)]
struct State {
    attached: bool,
    settled: bool,
    problems: usize,
    peers: usize,
    drift: u64,
}

/// Labels of one series; the interface comes first.
type Labels<'a> = Vec<(&'static str, &'a str)>;

impl Node {
    /// Asks a node for its figures.
    ///
    /// # Errors
    /// It has stopped.
    pub async fn look(interface: &InterfaceName, handle: &Handle) -> Result<Self, Gone> {
        let (report, names) = (handle.report().await?, handle.names().await?);
        let forwarder = handle.lookup().await?.forwarder();
        let peers = || report.node.tenants.iter().flat_map(|tenant| &tenant.peers);
        let state = State {
            attached: report.node.link == LinkState::Attached,
            settled: report.node.settled,
            problems: report.node.problems.len() + report.names.problems.len(),
            peers: peers().count(),
            drift: report.node.drift_total,
        };
        Ok(Self {
            interface: interface.to_string(),
            state,
            done: report.counters,
            paths: report.paths.counters,
            ways: peers().filter_map(|peer| Some(peer.path.as_ref()?.way)).collect(),
            names,
            forwarder,
        })
    }

    fn labels<'a>(&'a self, more: &[(&'static str, &'a str)]) -> Labels<'a> {
        [&[("interface", &*self.interface)], more].concat()
    }
}

/// The nodes of a program, to be shown.
#[derive(Debug)]
pub struct Nodes(pub Vec<Node>);

/// A family of counters with one series a node: name, help, figure.
type NodeCounter = (&'static str, &'static str, fn(&Node) -> u64);

/// A family of gauges with one series a node.
type NodeGauge = (&'static str, &'static str, fn(&Node) -> u64);

const NODE_GAUGES: [NodeGauge; 5] = [
    ("node_attached", "1 while the server is reached", |node| node.state.attached.into()),
    ("node_settled", "1 while the host is as its snapshot says", |node| node.state.settled.into()),
    ("node_problems", "Things that are wrong now", |node| node.state.problems as u64),
    ("node_peers", "Peers that the snapshot has", |node| node.state.peers as u64),
    ("dns_tcp_connections", "TCP connections that are open", |node| node.names.connections()),
];

const NODE_COUNTERS: [NodeCounter; 11] = [
    ("node_drift", "Changes made because somebody else changed the host", |node| node.state.drift),
    ("node_changes", "Changes made to the host", |node| node.done.changes_total),
    ("node_changes_failed", "Changes that could not be made", |node| node.done.changes_failed_total),
    ("node_observations", "Looks at the whole host", |node| node.done.observations_total),
    ("node_dials", "Attempts to reach the server", |node| node.done.dials_total),
    ("path_probes", "Probes of paths, and questions to servers of STUN", |node| node.paths.probes_total),
    ("path_doubts", "Times that packets went both ways for a while", |node| node.paths.doubts_total),
    ("dns_slipped", "Queries over their source's limit, told to come by TCP", |node| node.names.slipped()),
    ("dns_crowded", "Queries that got SERVFAIL because too many were under way", |node| node.names.crowded()),
    ("dns_tcp_turned_away", "TCP connections that there was no place for", |node| node.names.turned_away()),
    ("dns_tcp_cut_off", "TCP connections of askers too slow or without a query", |node| node.names.cut_off()),
];

/// Why there was no answer: reason, figure.
type Silence = (&'static str, fn(&Names) -> u64);

const SILENCES: [Silence; 5] = [
    ("no_query", Names::dropped),
    ("malformed", Names::malformed),
    ("limited", Names::limited),
    ("overflowed", Names::overflowed),
    ("unsent", Names::unsent),
];

/// What became of questions about names outside the mesh: outcome, figure.
type Outcome = (&'static str, fn(&ForwardCounters, &CacheReport) -> u64);

const OUTCOMES: [Outcome; 11] = [
    ("kept", |_, cache| cache.hits),
    ("stale", |_, cache| cache.stale),
    ("asked", |done, _| done.asked.total()),
    ("shared", |done, _| done.shared.total()),
    ("refreshed", |done, _| done.refreshed.total()),
    ("failed", |done, _| done.failed.total()),
    ("local", |done, _| done.local.total()),
    ("refused", |done, _| done.refused.total()),
    ("blocked", |done, _| done.blocked.total()),
    ("looped", |done, _| done.looped.total()),
    ("crowded", |done, _| done.crowded.total()),
];

impl Collector for Nodes {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for (name, help, figure) in NODE_COUNTERS {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Counter)?;
            for node in &self.0 {
                count(&mut family, &node.labels(&[]), figure(node))?;
            }
        }
        for (name, help, figure) in NODE_GAUGES {
            let mut family = encoder.encode_descriptor(name, help, None, MetricType::Gauge)?;
            for node in &self.0 {
                gauge(&mut family, &node.labels(&[]), figure(node))?;
            }
        }
        self.encode_paths(&mut encoder)?;
        let help = "Queries without an answer, by reason";
        let mut family = encoder.encode_descriptor("dns_unanswered", help, None, MetricType::Counter)?;
        for node in &self.0 {
            for (reason, figure) in SILENCES {
                count(&mut family, &node.labels(&[("reason", reason)]), figure(&node.names))?;
            }
        }
        self.encode_forwarders(&mut encoder)?;
        let help = "Answers, by how the question came, how the answer came about, and code";
        let mut family = encoder.encode_descriptor("dns_answers", help, None, MetricType::Counter)?;
        for (node, way) in self.ways() {
            for (code, figure) in node.names.answered_by(way) {
                let labels = [&of(way)[..], &[("rcode", code)]].concat();
                count(&mut family, &node.labels(&labels), figure)?;
            }
        }
        let help = "Time from a question's arrival to its answer";
        let mut family =
            encoder.encode_descriptor("dns_answer_duration_seconds", help, None, MetricType::Histogram)?;
        for (node, way) in self.ways() {
            durations(&mut family, &node.labels(&of(way)), &node.names, way)?;
        }
        Ok(())
    }
}

impl Nodes {
    fn encode_paths(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let help = "Peers that are talked to, by how packets reach them";
        let mut family = encoder.encode_descriptor("paths", help, None, MetricType::Gauge)?;
        for node in &self.0 {
            for (path, peers) in node.ways.named() {
                gauge(&mut family, &node.labels(&[("path", path)]), peers)?;
            }
        }
        let help = "Times that a peer's packets began to go another way, by which";
        let mut family = encoder.encode_descriptor("path_changes", help, None, MetricType::Counter)?;
        for node in &self.0 {
            for (path, times) in node.paths.changes_total.named() {
                count(&mut family, &node.labels(&[("path", path)]), times)?;
            }
        }
        let help = "Times that side sockets were opened for a peer, or were to be, by what became of it";
        let mut family = encoder.encode_descriptor("path_birthdays", help, None, MetricType::Counter)?;
        for node in &self.0 {
            for (result, times) in node.paths.birthdays_total.named() {
                count(&mut family, &node.labels(&[("result", result)]), times)?;
            }
        }
        Ok(())
    }

    fn encode_forwarders(&self, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
        let forwarders = || self.0.iter().filter_map(|node| Some((node, node.forwarder.as_ref()?)));
        let help = "What was done about names outside the mesh; one question may count more than once";
        let mut family = encoder.encode_descriptor("dns_forwarding", help, None, MetricType::Counter)?;
        for (node, (done, cache)) in forwarders() {
            for (outcome, figure) in OUTCOMES {
                count(&mut family, &node.labels(&[("outcome", outcome)]), figure(done, cache))?;
            }
        }
        let help = "Answers about names outside the mesh that had to go before they ended, for want of room";
        let mut family = encoder.encode_descriptor("dns_cache_evicted", help, None, MetricType::Counter)?;
        for (node, (_, cache)) in forwarders() {
            count(&mut family, &node.labels(&[]), cache.evicted)?;
        }
        let help = "Memory of answers about names outside the mesh";
        let mut family = encoder.encode_descriptor("dns_cache_bytes", help, None, MetricType::Gauge)?;
        for (node, (_, cache)) in forwarders() {
            gauge(&mut family, &node.labels(&[]), cache.bytes)?;
        }
        Ok(())
    }

    fn ways(&self) -> impl Iterator<Item = (&Node, DnsWay)> {
        self.0.iter().flat_map(|node| DnsWay::all().map(move |way| (node, way)))
    }
}

fn of(way: DnsWay) -> [(&'static str, &'static str); 2] {
    [("transport", way.transport_str()), ("path", way.path.as_str())]
}

fn count(family: &mut MetricEncoder<'_>, labels: &Labels<'_>, figure: u64) -> fmt::Result {
    ConstCounter::new(figure).encode(family.encode_family(labels)?)
}

fn gauge(family: &mut MetricEncoder<'_>, labels: &Labels<'_>, figure: impl TryInto<i64>) -> fmt::Result {
    ConstGauge::new(figure.try_into().unwrap_or(i64::MAX)).encode(family.encode_family(labels)?)
}

fn durations(family: &mut MetricEncoder<'_>, labels: &Labels<'_>, names: &Names, way: DnsWay) -> fmt::Result {
    let took = names.took(way);
    let counts = took.counts();
    let ends = BUCKETS_MICROS.iter().map(|micros| std::time::Duration::from_micros(*micros).as_secs_f64());
    let buckets: Vec<(f64, u64)> = ends.chain([f64::INFINITY]).zip(counts).collect();
    let mut series = family.encode_family(labels)?;
    series.encode_histogram::<NoLabelSet>(took.sum().as_secs_f64(), counts.iter().sum(), &buckets, None)
}

#[cfg(test)]
mod tests {
    use engine::paths::{RelayId, Way};
    use prometheus_client::encoding::text::encode;
    use prometheus_client::registry::Registry;

    use super::*;

    #[test]
    fn the_promised_names_are_there() {
        let relayed = Way::Relayed(RelayId::SERVER);
        let node = |interface: &str| Node {
            interface: interface.into(),
            state: State { attached: true, drift: 2, ..State::default() },
            done: Counters { changes_total: 3, ..Counters::default() },
            paths: PathCounters {
                changes_total: [relayed, relayed].into_iter().collect(),
                ..PathCounters::default()
            },
            ways: [Way::Direct(([192, 0, 2, 1], 1).into())].into_iter().collect(),
            names: Arc::default(),
            forwarder: Some(Default::default()),
        };
        let mut registry = Registry::with_prefix("warren");
        registry.register_collector(Box::new(Nodes(vec![node("wg0"), node("wg1")])));
        let mut text = String::new();
        encode(&mut text, &registry).expect("a string takes all");
        for line in [
            "warren_node_changes_total{interface=\"wg0\"} 3",
            "warren_node_drift_total{interface=\"wg1\"} 2",
            "warren_node_attached{interface=\"wg0\"} 1",
            "warren_node_settled{interface=\"wg0\"} 0",
            "warren_paths{interface=\"wg0\",path=\"direct\"} 1",
            "warren_path_changes_total{interface=\"wg1\",path=\"relayed\"} 2",
            "warren_path_probes_total{interface=\"wg0\"} 0",
            "warren_path_birthdays_total{interface=\"wg0\",result=\"met\"} 0",
            "warren_dns_answers_total{interface=\"wg1\",transport=\"udp\",path=\"hot\",rcode=\"nxdomain\"} 0",
            "warren_dns_answer_duration_seconds_bucket{le=\"0.00001\",interface=\"wg0\",transport=\"tcp\",path=\"slow\"} 0",
            "warren_dns_answer_duration_seconds_bucket{le=\"+Inf\",interface=\"wg0\",transport=\"udp\",path=\"forwarded\"} 0",
            "warren_dns_unanswered_total{interface=\"wg0\",reason=\"limited\"} 0",
            "warren_dns_forwarding_total{interface=\"wg0\",outcome=\"stale\"} 0",
            "warren_dns_cache_bytes{interface=\"wg0\"} 0",
            "warren_dns_slipped_total{interface=\"wg0\"} 0",
            "warren_dns_tcp_connections{interface=\"wg0\"} 0",
        ] {
            assert!(text.lines().any(|other| other == line), "{line} is missing in\n{text}");
        }
        assert!(text.ends_with("# EOF\n"));
    }
}
