//! Our name server as a process of its own: `dns::serve` with names, and nothing of a node around it. Told on standard
//! input what to change; says on standard output when it held the change.

use std::io::{BufRead as _, Write as _};
use std::net::{IpAddr, SocketAddr, SocketAddrV4};
use std::num::NonZeroU32;
use std::sync::Arc;
use std::thread;
use std::time::Duration;

use dns::Names;
use dns::forward::{ForwardConfig, Forwarder, Mesh, Rule, Target};
use dns::serve::{Limit, Options, Server};
use model::patch::ZonePatch;
use model::{Block, Generation, Name, Record, RecordData, RecordSet, TenantId, Zone};
use nix::time::{ClockId, clock_gettime};

use super::dataset::{TTL, ZONE, address, label};

const TENANT: TenantId = TenantId::from_bytes([1; 16]);
/// Names of one patch while the table is filled: a whole zone at once would be in memory twice.
const STEP: u32 = 1_000;
/// The zone of a server that answers for others.
const HOME: &str = "home.internal";
/// Far above what one asker can ask: that limit is in force, and met by nobody.
const LIMIT: u32 = 100_000_000;

/// Nanoseconds of the clock that all processes share.
pub(crate) fn now() -> u128 {
    let now = clock_gettime(ClockId::CLOCK_MONOTONIC).expect("Linux has this clock");
    Duration::from(now).as_nanos()
}

/// Answers names of a zone until standard input ends. A line `HOST OTHER` gives a host the address of another; the
/// answer is when that was held and when it was done.
pub(crate) fn serve(at: SocketAddrV4, records: u32) {
    let names = Arc::new(filled(ZONE, records));
    listen(Arc::clone(&names), at, None, move || {
        for (generation, line) in (2..).zip(std::io::stdin().lock().lines()) {
            let line = line.expect("text");
            let (host, other) = line.split_once(' ').expect("two numbers");
            let patch = patch(ZONE, [(host.parse().expect("a number"), other.parse().expect("a number"))]);
            let held = now();
            names.patch(TENANT, Generation(generation), &patch).expect("the tenant is known");
            let mut out = std::io::stdout().lock();
            let said = writeln!(out, "{held} {}", now()).and_then(|()| out.flush());
            said.expect("somebody reads");
        }
    });
}

/// Asks `upstream` about the zone, until standard input ends.
pub(crate) fn forward(at: SocketAddrV4, upstream: SocketAddrV4) {
    let rule = Rule { suffix: Some(name(ZONE)), target: Target::Plain(SocketAddr::V4(upstream)) };
    let config = ForwardConfig { upstreams: vec![rule], ..ForwardConfig::default() };
    listen(Arc::new(filled(HOME, 1)), at, Some(config), || {
        std::io::stdin().lock().lines().for_each(drop);
    });
}

fn listen(
    names: Arc<Names>,
    at: SocketAddrV4,
    forward: Option<ForwardConfig>,
    until: impl FnOnce() + Send + 'static,
) {
    // As our daemons have it on a machine with one processor.
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
    runtime.expect("threads").block_on(async move {
        let limit = NonZeroU32::new(LIMIT).expect("it is not 0");
        let options = Options { limit: Some(Limit::per_second(limit)), ..Options::default() };
        let mut server = Server::with(names, at.port(), options);
        if let Some(config) = forward {
            let forwarder = Forwarder::start(config).expect("the settings are right");
            forwarder.set_mesh(Mesh { zones: vec![name(HOME)], ..Mesh::default() });
            server.forward(Arc::new(forwarder));
        }
        let errors = server.listen(&[IpAddr::V4(*at.ip())]).await;
        assert!(errors.is_empty(), "{errors:?}");
        let (done, ended) = tokio::sync::oneshot::channel();
        thread::spawn(move || {
            until();
            let _ = done.send(());
        });
        let _ = ended.await;
        server.close().await;
    });
}

fn filled(origin: &str, records: u32) -> Names {
    let names = Names::new([7; 32]);
    let block =
        Block::from_nets("100.64.0.0/10".parse().expect("a net"), "fd64::/48".parse().expect("a net"));
    let zone = Zone::new(name(origin), block.expect("a block"));
    names.whole(TENANT, Generation(1), &zone).expect("there is no other tenant");
    for first in (0..records).step_by(STEP as usize) {
        let hosts = first..records.min(first + STEP);
        let patch = patch(origin, hosts.map(|host| (host, host)));
        names.patch(TENANT, Generation(1), &patch).expect("the tenant is known");
    }
    names
}

/// Gives each of these hosts the address of another.
fn patch(origin: &str, hosts: impl IntoIterator<Item = (u32, u32)>) -> ZonePatch {
    let set = |(host, other)| {
        let record = Record { data: RecordData::A(address(other)), ttl: TTL };
        let owner = name(origin).below(&label(host).parse().expect("a label")).expect("short");
        (owner, RecordSet { records: vec![record], reverse: false })
    };
    ZonePatch { set: hosts.into_iter().map(set).collect(), ..ZonePatch::default() }
}

fn name(text: &str) -> Name {
    text.parse().expect("a name")
}
