//! A question put to the node itself, and the way to its answer, for people. Sends nothing over the mesh.

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use dns::forward::{CacheReport, ForwardCounters};
use dns::serve::Forward as _;
use dns::{Answer, Names, Transport};
use model::Name;

use crate::drive::forward::Forwarding;

pub use dns::forward::{Condition, Origin, UpstreamReport as Upstream};
pub use dns::text::{Shown, kind_number, kind_text, question, show};
pub use dns::{Explanation, Rcode, Rule as ZoneRule};

/// Answers as the node's server of names does.
#[derive(Clone)]
pub struct Lookup {
    names: Arc<Names>,
    forwarding: Option<Arc<Forwarding>>,
}

/// What came of a question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// The answer.
    pub shown: Shown,
    /// How long it took to make it.
    pub took: Duration,
    /// What the zones have to do with it.
    pub zones: Explanation,
    /// Where it comes from, if it is of no zone, or where the end of it comes from, if its aliases lead out of them.
    pub outside: Option<Outside>,
}

/// Of no zone that the asker sees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outside {
    /// Nothing is forwarded, or not for this asker.
    Closed,
    /// A forwarder was asked.
    Forwarded {
        /// Where its answer comes from.
        origin: Origin,
        /// Whom it asks about the name.
        servers: Vec<Upstream>,
    },
}

impl Lookup {
    pub(crate) const fn new(names: Arc<Names>, forwarding: Option<Arc<Forwarding>>) -> Self {
        Self { names, forwarding }
    }

    /// What a program at this address gets over TCP for a name and the number of a type. `None` if that is nothing.
    pub async fn ask(&self, name: &Name, kind: u16, asker: IpAddr) -> Option<Looked> {
        let query = question(name, kind);
        let zones = self.names.explain(name, kind, asker);
        let began = Instant::now();
        let (bytes, outside) = match self.names.answer(&query, asker, Transport::Tcp) {
            Answer::Reply { bytes, .. } => (bytes, None),
            Answer::Foreign { refusal } => match self.open_to(asker) {
                None => (refusal, Some(Outside::Closed)),
                Some(forwarding) => {
                    let (answer, origin) = forwarding.forwarder().explain(&query).await;
                    let servers = forwarding.forwarder().servers_for(name);
                    (answer.unwrap_or(refusal), Some(Outside::Forwarded { origin, servers }))
                }
            },
            Answer::Away(away) => match self.open_to(asker) {
                None => (away.into_bare(), None),
                Some(forwarding) => match forwarding.forwarder().explain(away.question()).await {
                    (Some(answer), origin) => {
                        let servers = away.target().map(|target| forwarding.forwarder().servers_for(&target));
                        let outside = Outside::Forwarded { origin, servers: servers.unwrap_or_default() };
                        (away.complete(&answer), Some(outside))
                    }
                    (None, _) => (away.into_bare(), None),
                },
            },
            Answer::Drop => return None,
        };
        Some(Looked { shown: show(&bytes)?, took: began.elapsed(), zones, outside })
    }

    /// What the forwarder did and holds, if there is one.
    pub fn forwarder(&self) -> Option<(Arc<ForwardCounters>, CacheReport)> {
        let forwarder = self.forwarding.as_ref()?.forwarder();
        Some((forwarder.counters(), forwarder.cache()))
    }

    /// Whom it would ask about a name, or about all of them, if names outside the zones are looked up at all.
    pub fn servers(&self, name: Option<&Name>) -> Option<Vec<Upstream>> {
        let forwarding = self.forwarding.as_deref().filter(|forwarding| forwarding.is_open())?;
        let forwarder = forwarding.forwarder();
        Some(name.map_or_else(|| forwarder.upstreams(), |name| forwarder.servers_for(name)))
    }

    fn open_to(&self, asker: IpAddr) -> Option<&Forwarding> {
        self.forwarding.as_deref().filter(|forwarding| forwarding.serves(asker))
    }
}

impl fmt::Debug for Lookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lookup").field("forwards", &self.forwarding.is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use model::{Block, Generation, Record, RecordData, RecordSet, TenantId, Zone};

    use super::*;
    use crate::drive::forward::{ForwardMode, ForwardSetup};

    const ASKER: &str = "100.64.0.2";

    fn names() -> Arc<Names> {
        let tenant = TenantId::from_bytes([7; 16]);
        let block = Block::new("100.64.0.0/16".parse().unwrap(), tenant).unwrap();
        let mut zone = Zone::new("home.internal".parse().unwrap(), block);
        zone.names.insert("beta.home.internal".parse().unwrap(), RecordSet::of_node(block.host(3).unwrap()));
        let data = RecordData::parse("CNAME", "www.invalid").unwrap();
        let alias = RecordSet { records: vec![Record { data, ttl: 60 }], reverse: false };
        zone.names.insert("out.home.internal".parse().unwrap(), alias);
        let names = Names::new([1; 32]);
        names.hand_over_aliases();
        names.whole(tenant, Generation(1), &zone).unwrap();
        Arc::new(names)
    }

    async fn ask(lookup: &Lookup, name: &str) -> Looked {
        lookup.ask(&name.parse().unwrap(), 1, ASKER.parse().unwrap()).await.unwrap()
    }

    #[tokio::test]
    async fn a_name_of_the_mesh_is_answered_from_its_zone_and_others_where_that_is_open() {
        let closed = Lookup::new(names(), None);
        let beta = ask(&closed, "beta.home.internal").await;
        assert_eq!(
            (beta.shown.code.as_str(), beta.shown.records[0].value.as_str()),
            ("NOERROR", "100.64.0.3")
        );
        assert_eq!((beta.outside, beta.zones.rules.len()), (None, 2));
        let foreign = ask(&closed, "www.example.org").await;
        assert_eq!((foreign.shown.code.as_str(), foreign.outside), ("REFUSED", Some(Outside::Closed)));
        let bare = ask(&closed, "out.home.internal").await;
        assert_eq!((bare.shown.code.as_str(), bare.outside), ("NOERROR", None));

        let setup = ForwardSetup { mode: ForwardMode::On, for_mesh: true, ..ForwardSetup::default() };
        let forwarding = Forwarding::start(setup, Path::new("/nowhere")).unwrap().map(Arc::new);
        let open = Lookup::new(names(), forwarding);
        assert_eq!((closed.servers(None), open.servers(None)), (None, Some(Vec::new())));
        let here = ask(&open, "www.invalid").await;
        let expect = Outside::Forwarded { origin: Origin::Here, servers: Vec::new() };
        assert_eq!((here.shown.code.as_str(), here.outside.as_ref()), ("NXDOMAIN", Some(&expect)));
        let out = ask(&open, "out.home.internal").await;
        assert_eq!((out.shown.code.as_str(), out.outside), ("NXDOMAIN", Some(expect)));
        assert_eq!(out.shown.records[0].value, "www.invalid.");
        let nobody = ask(&open, "www.example.org").await;
        assert_eq!(nobody.shown.code, "SERVFAIL");
        assert_eq!(nobody.shown.extended_error, Some((22, "no reachable authority")));
    }
}
