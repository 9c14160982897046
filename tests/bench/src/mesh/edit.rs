//! From an edit to the last of a hundred agents: a real `warren-apid` on SQLite, real links over QUIC, real ledgers with
//! fsync, hosts that are models. Server and agents share the machine, in a network namespace of their own.

use std::net::SocketAddr;
use std::path::Path;
use std::time::{Duration, Instant};

use engine::{Guard, Input, NodeConfig, Role};
use link::https::Method;
use model::key::Digest;
use model::wire::Remark;
use model::{Generation, IdentitySecret, Name, Nonce, PrivateKey};
use serde_json::json;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::agent::{Agent, News, Server, What};
use crate::series::{Bound, Series, Unit};
use crate::server::{ADDRESS, Apid, alone};
use crate::usage::{loopback_bytes, milliseconds, process_cpu};

/// How much is measured.
#[derive(Debug)]
pub struct Scale {
    agents: usize,
    edits: u32,
}

/// The promise is for a hundred agents; two hundred edits make a p99 of more than one edit.
pub const FULL: Scale = Scale { agents: 100, edits: 200 };
/// To see that it works.
pub const CHECK: Scale = Scale { agents: 5, edits: 6 };

/// Edits before the first that counts: files, caches and allocators are warm then, as on a server that has run a while.
const WARM_UP_EDITS: u32 = 10;
/// News that wait: a few of each agent for each of the edits that all of them enrol with.
const NEWS_MAX: usize = 64 * 1024;
/// A hundred enrolments at once, or an edit on a machine that does other things too.
const PATIENCE: Duration = Duration::from_secs(60);
/// Every edit is one of this record.
const RECORD: &str = "printer";

/// Edits again and again, each when the one before is in force everywhere.
pub fn measure(scale: &'static Scale) -> Vec<Series> {
    alone(move |runtime, apid| runtime.block_on(measure_on(scale, &apid)))
}

async fn measure_on(scale: &Scale, apid: &Apid) -> Vec<Series> {
    let ledgers = tempfile::tempdir().expect("a temporary folder can be made");
    let (sender, news) = mpsc::channel(NEWS_MAX);
    start_hub(apid, ledgers.path(), scale.agents, sender.clone());
    let token = apid.token(scale.agents).await;
    for number in 0..scale.agents {
        start_agent(number, &token, ledgers.path(), sender.clone());
    }
    let mut audience = Audience { news, agents: scale.agents };
    audience.all_hold_something().await;

    let mut rows = Rows::new(scale.agents);
    for number in 0..WARM_UP_EDITS + scale.edits {
        let measured = one_edit(apid, &mut audience, number).await;
        if number >= WARM_UP_EDITS {
            rows.take(&measured);
        }
    }
    rows.into_series()
}

/// What one edit took.
struct Measured {
    answered: Duration,
    served: Duration,
    held: Duration,
    server_cpu: Duration,
    wire_bytes: f64,
    patch_bytes: usize,
}

/// Adds the record, or removes it again, and waits for the last agent.
async fn one_edit(apid: &Apid, audience: &mut Audience, number: u32) -> Measured {
    let path = if number.is_multiple_of(2) { "/api/v1/dns" } else { "/api/v1/dns/remove" };
    let record = json!({"name": RECORD, "type": "A", "value": "192.0.2.7"});
    let (cpu, bytes) = (process_cpu(apid.id()), loopback_bytes());
    let start = Instant::now();
    let answer = async {
        apid.ask(Method::POST, path, &record).await;
        Instant::now()
    };
    let (answered, reached) = tokio::join!(answer, audience.all_hold(RECORD));
    Measured {
        answered: answered - start,
        served: reached.served - start,
        held: reached.held - start,
        server_cpu: process_cpu(apid.id()) - cpu,
        wire_bytes: loopback_bytes() - bytes,
        patch_bytes: reached.patch_bytes,
    }
}

struct Rows {
    agents: usize,
    answered: Series,
    served: Series,
    held: Series,
    server_cpu: Series,
    wire: Series,
    patch: Series,
}

impl Rows {
    fn new(agents: usize) -> Self {
        let time = |what: String| Series::new(what, Unit::Milliseconds);
        let bound = Bound::P99Below(100.0);
        Self {
            agents,
            answered: time("edit is committed and answered".into()),
            served: time(format!("names are served on all {agents} agents")).must(bound),
            held: time(format!("… and on disk, settled and acknowledged by all {agents}")).must(bound),
            server_cpu: time("processor time of warren-apid per edit".into()),
            wire: Series::new(
                "bytes on the wire per agent and edit, both ways, with IP, UDP, QUIC",
                Unit::Bytes,
            ),
            patch: Series::new("bytes of the patch frame", Unit::Bytes),
        }
    }

    fn take(&mut self, measured: &Measured) {
        self.answered.push(milliseconds(measured.answered));
        self.served.push(milliseconds(measured.served));
        self.held.push(milliseconds(measured.held));
        self.server_cpu.push(milliseconds(measured.server_cpu));
        self.wire.push(measured.wire_bytes / f64::from(u32::try_from(self.agents).expect("a hundred")));
        self.patch.push(f64::from(u32::try_from(measured.patch_bytes).expect("below a megabyte")));
    }

    fn into_series(self) -> Vec<Series> {
        vec![self.served, self.held, self.answered, self.server_cpu, self.wire, self.patch]
    }
}

/// All agents, as far as they tell.
struct Audience {
    news: mpsc::Receiver<News>,
    agents: usize,
}

/// When an edit had reached the last agent.
struct Reached {
    served: Instant,
    held: Instant,
    patch_bytes: usize,
}

impl Audience {
    async fn next(&mut self) -> News {
        let news = timeout(PATIENCE, self.news.recv()).await.expect("agents hear of edits");
        news.expect("agents run for ever")
    }

    /// Waits until every agent has enrolled and settled.
    async fn all_hold_something(&mut self) {
        let mut holding = vec![false; self.agents];
        while holding.contains(&false) {
            let news = self.next().await;
            if let (What::Holds(_), Some(holds)) = (news.what, holding.get_mut(news.agent)) {
                *holds = true;
            }
        }
    }

    /// Waits until every agent serves the edit of a name, and holds it.
    async fn all_hold(&mut self, label: &str) -> Reached {
        let mut served: Vec<Option<(Generation, Instant)>> = vec![None; self.agents];
        let mut held: Vec<Option<Instant>> = vec![None; self.agents];
        let mut patch_bytes = 0;
        while held.contains(&None) {
            let News { agent, at, what } = self.next().await;
            // The hub is no agent: it stands behind them.
            if agent >= self.agents {
                continue;
            }
            match what {
                What::Serves { generation, names } if names.iter().any(|name| is_of(name, label)) => {
                    served[agent] = Some((generation, at));
                }
                What::Holds(generation) if served[agent].is_some_and(|(wanted, _)| generation >= wanted) => {
                    held[agent] = Some(at);
                }
                What::Patched(bytes) => patch_bytes = bytes,
                What::Serves { .. } | What::Holds(_) => {}
            }
        }
        let last = |times: &mut dyn Iterator<Item = Instant>| times.max().expect("there are agents");
        Reached {
            served: last(&mut served.iter().flatten().map(|(_, at)| *at)),
            held: last(&mut held.iter().flatten().copied()),
            patch_bytes,
        }
    }
}

fn is_of(name: &Name, label: &str) -> bool {
    name.to_string().split('.').next() == Some(label)
}

fn start_agent(number: usize, token: &str, ledgers: &Path, news: mpsc::Sender<News>) {
    let secret = |what: &str| *Digest::of(what, &[&number.to_be_bytes()]).as_bytes();
    let config = NodeConfig {
        role: Role::Device {
            search: Vec::new(),
            identity: IdentitySecret::from_seed(secret("bench identity")),
            instance: Nonce::from_bytes(secret("bench instance")),
            listen_port: None,
        },
        wireguard: PrivateKey::from_bytes(secret("bench wireguard")),
        software: Remark::new("bench"),
    };
    let join = Input::Join {
        token: token.parse().expect("a token"),
        hostname: Remark::new(&format!("agent-{number}")),
        os: Remark::new("linux"),
    };
    let server = Server::Network(SocketAddr::from(ADDRESS).into());
    start(number, config, server, ledgers, Some(join), news);
}

fn start_hub(apid: &Apid, ledgers: &Path, number: usize, news: mpsc::Sender<News>) {
    let guard = Guard {
        blocks: ["100.64.0.0/10", "fd00::/8"].map(|net| net.parse().expect("a network")).into(),
        suffixes: vec!["internal".parse().expect("a name")],
    };
    let config = NodeConfig {
        role: Role::Hub { listen_port: 51820, guard },
        wireguard: PrivateKey::from_bytes([77; 32]),
        software: Remark::new("bench"),
    };
    start(number, config, Server::Unix(apid.socket()), ledgers, None, news);
}

fn start(
    number: usize,
    config: NodeConfig,
    server: Server,
    ledgers: &Path,
    first: Option<Input>,
    news: mpsc::Sender<News>,
) {
    // Each its own folder, as on a machine of its own: the folder is synced too.
    let folder = ledgers.join(number.to_string());
    std::fs::create_dir(&folder).expect("the folder is ours");
    let agent = Agent::new(number, config, server, folder.join("ledger"), first, news);
    tokio::spawn(agent.run());
}
