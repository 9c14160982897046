//! What a node says of itself, to people and to the server.

use model::wire::Remark;
use model::{Code, Held, Mono, NodeId, Snapshot, SshTrust, Standing, TenantId, Version, Zone};

use crate::paths::Paths;
use crate::status::{PeerStatus, Status, TenantStatus};

use super::Machines;

/// Lines about what is wrong: a person reads the first few.
const PROBLEMS_MAX: usize = 16;

impl Machines {
    pub(crate) fn status(&self, now: Mono) -> Status {
        let tenants = self.ledger.holdings();
        Status {
            link: self.session.link_state(now),
            up: self.ledger.up,
            joining: self.ledger.joining.is_some(),
            device: self.ledger.device(),
            settled: self.settled(),
            tenants: tenants.filter_map(|(t, held, s)| self.tenant_status(t, held, s, now)).collect(),
            failing: self.reconcilers.failing(now).collect(),
            drift_total: self.reconcilers.drift_total(),
            last_refusal: self.last_refusal.clone(),
            link_error: self.link_error.clone(),
            problems: self.problems().take(PROBLEMS_MAX).collect(),
            candidates: self.paths.as_ref().map(Paths::candidates).unwrap_or_default(),
            mapping: self.paths.as_ref().and_then(|paths| paths.mapping(now)),
            keepalive_seconds: self.paths.as_ref().and_then(Paths::keepalive),
        }
    }

    pub(crate) fn zones(&self) -> impl Iterator<Item = &Zone> {
        self.ledger.holdings().map(|(_, _, snapshot)| &snapshot.zone)
    }

    pub(crate) fn ssh_trust(&self) -> Option<(Version, &SshTrust)> {
        let held = self.ledger.holdings();
        let mut trusts = held.filter_map(|(_, held, snapshot)| Some((held.version, snapshot.ssh.as_ref()?)));
        trusts.next()
    }

    /// What is wrong, for the server.
    pub(super) fn remarks(&self) -> Vec<Remark> {
        self.problems().take(PROBLEMS_MAX).map(|problem| Remark::new(&problem)).collect()
    }

    fn tenant_status(
        &self,
        tenant: TenantId,
        held: Held,
        snapshot: &Snapshot,
        now: Mono,
    ) -> Option<TenantStatus> {
        let own = &snapshot.own;
        let own_key = self.config.wireguard.public();
        let itself = self.ledger.device().map(NodeId::Device);
        let rejection = self.intake.reasons().find(|(t, _)| **t == tenant);
        Some(TenantStatus {
            tenant,
            tenant_name: own.tenant_name.clone(),
            anchor: self.ledger.anchor(tenant)?,
            held,
            standing: own.standing,
            name: own.name.clone(),
            zone: snapshot.zone.origin.clone(),
            addresses: own.addresses,
            seat: self.merge.seat(tenant),
            ssh_keys: snapshot.ssh.as_ref().map(|ssh| ssh.keys.clone()).unwrap_or_default(),
            peers: snapshot
                .peers
                .iter()
                .filter(|(key, peer)| **key != own_key && Some(peer.node) != itself)
                .map(|(key, peer)| PeerStatus {
                    key: *key,
                    node: peer.node,
                    name: peer.name.clone(),
                    allowed: peer.allowed.clone(),
                    endpoint: peer.endpoint.clone(),
                    host_key: match (peer.node, &snapshot.ssh) {
                        (NodeId::Device(id), Some(ssh)) => ssh.hosts.get(&id).cloned(),
                        _ => None,
                    },
                    path: self.paths.as_ref().and_then(|paths| match self.led_over_link {
                        Some(led) if led == *key => paths.hub_over_link(now),
                        _ => paths.status(key, now),
                    }),
                    endpoint_address: peer.endpoint.as_ref().and_then(|e| self.endpoints.address(e)),
                })
                .collect(),
            rejection: rejection.map(|(_, reason)| reason.to_owned()),
        })
    }

    fn problems(&self) -> impl Iterator<Item = String> {
        let standings = self.ledger.holdings().filter_map(|(_, _, s)| problem_of(s.own.standing));
        let refusal = self.last_refusal.iter().map(ToString::to_string);
        let rejected = self.intake.reasons().map(|(tenant, why)| format!("tenant {tenant}: {why}"));
        let failing = self.reconcilers.failures().map(|(change, why)| format!("{change}: {why}"));
        let look = self.reconcilers.looks_failed().map(|why| format!("observe the host: {why}"));
        let save = self.saver.failed().map(|why| format!("write the ledger: {why}"));
        let lost = self.endpoints.unanswered().map(|e| format!("resolve {e}: no answer"));
        let ssh = self.ssh.problem().map(|why| format!("ssh: {why}"));
        standings.chain(refusal).chain(rejected).chain(failing).chain(look).chain(save).chain(lost).chain(ssh)
    }
}

fn problem_of(standing: Standing) -> Option<String> {
    let code = match standing {
        Standing::Active => return None,
        Standing::Pending => Code::DevicePending,
        Standing::Revoked => Code::DeviceRevoked,
        Standing::Expired => Code::DeviceExpired,
        Standing::Closed => Code::TenantClosed,
    };
    Some(format!("{code}: {}", code.hint()))
}
