//! A patch: the compression of two snapshots of one node. `diff` and `apply` are inverse.

use std::collections::BTreeSet;

use minicbor::{Decode, Encode};

use crate::address::Block;
use crate::buckets::Buckets;
use crate::key::PublicKey;
use crate::name::Name;
use crate::snapshot::{Own, Peer, Snapshot};
use crate::trust::{SshPatch, SshTrust};
use crate::zone::{RecordSet, Zone};

/// What to change in one snapshot to get another of the same node. An entry absent here is unchanged.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct Patch {
    /// The node's own part, if it changed.
    #[n(0)]
    pub own: Option<Box<Own>>,
    /// Peers that are new or different.
    #[n(1)]
    pub peers_set: Vec<(PublicKey, Peer)>,
    /// Peers that are gone.
    #[n(2)]
    pub peers_gone: Vec<PublicKey>,
    /// What changed in the zone.
    #[n(3)]
    pub zone: ZonePatch,
    /// What changed of SSH, if anything.
    #[n(4)]
    pub ssh: Option<Box<SshPatch>>,
}

/// What to change in a zone.
#[derive(Debug, Clone, PartialEq, Eq, Default, Encode, Decode)]
#[cbor(map)]
pub struct ZonePatch {
    /// Origin and block, if they changed.
    #[n(0)]
    pub head: Option<(Name, Block)>,
    /// Names that are new or different.
    #[n(1)]
    pub set: Vec<(Name, RecordSet)>,
    /// Names that are gone.
    #[n(2)]
    pub gone: Vec<Name>,
}

impl Patch {
    /// What turns `before` into `after`.
    pub fn diff(before: &Snapshot, after: &Snapshot) -> Self {
        let (peers_set, peers_gone) = diff_maps(&before.peers, &after.peers);
        Self {
            own: (before.own != after.own).then(|| Box::new(after.own.clone())),
            peers_set,
            peers_gone,
            zone: ZonePatch::diff(&before.zone, &after.zone),
            ssh: SshPatch::diff(before.ssh.as_ref(), after.ssh.as_ref()).map(Box::new),
        }
    }

    /// Turns a snapshot into the next one. Whether it was the right one, the digest says.
    pub fn apply(self, snapshot: &mut Snapshot) {
        if let Some(own) = self.own {
            snapshot.own = *own;
        }
        apply_map(&mut snapshot.peers, self.peers_set, &self.peers_gone);
        self.zone.apply(&mut snapshot.zone);
        if let (Some(patch), Some(ssh)) = (self.ssh, &mut snapshot.ssh) {
            patch.apply(ssh);
        }
    }

    /// What undoes this patch once it is applied to `before`. Costs what the patch touches.
    #[must_use]
    pub fn inverse(&self, before: &Snapshot) -> Self {
        let (peers_set, peers_gone) = inverse_of_map(&before.peers, &self.peers_set, &self.peers_gone);
        Self {
            own: self.own.is_some().then(|| Box::new(before.own.clone())),
            peers_set,
            peers_gone,
            zone: self.zone.inverse(&before.zone),
            ssh: self.ssh.as_ref().zip(before.ssh.as_ref()).map(|(patch, ssh)| Box::new(patch.inverse(ssh))),
        }
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// How many bytes it has on the wire: one that does not fit a frame is sent as the whole.
    pub fn bytes(&self) -> usize {
        minicbor::to_vec(self).expect("writing to memory cannot fail").len()
    }
}

impl ZonePatch {
    /// What turns `before` into `after`.
    pub fn diff(before: &Zone, after: &Zone) -> Self {
        let (set, gone) = diff_maps(&before.names, &after.names);
        let same_head = before.origin == after.origin && before.block == after.block;
        Self { head: (!same_head).then(|| (after.origin.clone(), after.block)), set, gone }
    }

    /// Turns a zone into the next one.
    pub fn apply(self, zone: &mut Zone) {
        if let Some((origin, block)) = self.head {
            (zone.origin, zone.block) = (origin, block);
        }
        apply_map(&mut zone.names, self.set, &self.gone);
    }

    /// What undoes this patch once it is applied to `before`.
    #[must_use]
    pub fn inverse(&self, before: &Zone) -> Self {
        let (set, gone) = inverse_of_map(&before.names, &self.set, &self.gone);
        Self { head: self.head.as_ref().map(|_| (before.origin.clone(), before.block)), set, gone }
    }

    /// Whether it changes nothing.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

impl SshPatch {
    /// What turns `before` into `after`. No patch leads from none to some, or back.
    fn diff(before: Option<&SshTrust>, after: Option<&SshTrust>) -> Option<Self> {
        let (before, after) = before.zip(after)?;
        let keys = (before.keys != after.keys).then(|| after.keys.clone());
        let (revoked_set, revoked_gone) = diff_maps(&before.revoked, &after.revoked);
        let (hosts_set, hosts_gone) = diff_maps(&before.hosts, &after.hosts);
        Some(Self { keys, revoked_set, revoked_gone, hosts_set, hosts_gone })
            .filter(|patch| !patch.is_empty())
    }

    fn apply(self, ssh: &mut SshTrust) {
        if let Some(keys) = self.keys {
            ssh.keys = keys;
        }
        apply_map(&mut ssh.revoked, self.revoked_set, &self.revoked_gone);
        apply_map(&mut ssh.hosts, self.hosts_set, &self.hosts_gone);
    }

    fn inverse(&self, before: &SshTrust) -> Self {
        let (revoked_set, revoked_gone) =
            inverse_of_map(&before.revoked, &self.revoked_set, &self.revoked_gone);
        let (hosts_set, hosts_gone) = inverse_of_map(&before.hosts, &self.hosts_set, &self.hosts_gone);
        let keys = self.keys.as_ref().map(|_| before.keys.clone());
        Self { keys, revoked_set, revoked_gone, hosts_set, hosts_gone }
    }
}

fn diff_maps<K, V>(before: &Buckets<K, V>, after: &Buckets<K, V>) -> (Vec<(K, V)>, Vec<K>)
where
    K: Encode<()> + Ord + Clone,
    V: Encode<()> + PartialEq + Clone,
{
    let set =
        after.iter().filter(|(k, v)| before.get(k) != Some(v)).map(|(k, v)| (k.clone(), v.clone())).collect();
    let gone = before.keys().filter(|k| !after.contains_key(k)).cloned().collect::<BTreeSet<_>>();
    (set, gone.into_iter().collect())
}

fn inverse_of_map<K, V>(before: &Buckets<K, V>, set: &[(K, V)], gone: &[K]) -> (Vec<(K, V)>, Vec<K>)
where
    K: Encode<()> + Ord + Clone,
    V: Encode<()> + Clone,
{
    let touched: BTreeSet<&K> = set.iter().map(|(key, _)| key).chain(gone).collect();
    let (mut restore, mut remove) = (Vec::new(), Vec::new());
    for key in touched {
        match before.get(key) {
            Some(value) => restore.push((key.clone(), value.clone())),
            None => remove.push(key.clone()),
        }
    }
    (restore, remove)
}

fn apply_map<K: Encode<()> + Ord, V: Encode<()>>(map: &mut Buckets<K, V>, set: Vec<(K, V)>, gone: &[K]) {
    for key in gone {
        map.remove(key);
    }
    for (key, value) in set {
        map.insert(key, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::{DeviceId, NodeId, TenantId};
    use crate::snapshot::{Standing, head_bytes, tail_bytes};
    use crate::ssh::{CaKey, CaKind, Revoked, SshSerial};
    use crate::trust::TrustedKey;
    use proptest::prelude::*;

    fn snapshot(peers: &[u8], names: &[u8], mtu: u16) -> Snapshot {
        let tenant = TenantId::from_bytes([1; 16]);
        let block = Block::new("100.64.0.0/16".parse().expect("a net"), tenant).expect("a block");
        let label = |n: u8| format!("n{n}").parse::<crate::Label>().expect("a label");
        let own = Own {
            node: NodeId::Hub,
            tenant,
            tenant_name: label(0),
            standing: Standing::Active,
            name: label(0),
            addresses: Some(block.hub()),
            block,
            mtu,
            hub_keys: None,
            hub_port: None,
            relays: None,
            ssh: None,
        };
        let origin: Name = "home.internal".parse().expect("a name");
        let mut snapshot = Snapshot::empty(own, Zone::new(origin.clone(), block));
        let ssh = snapshot.ssh.get_or_insert_default();
        ssh.keys = vec![TrustedKey {
            kind: CaKind::User,
            key: CaKey::from_bytes([(mtu % 5) as u8; 32]),
            signs: true,
        }];
        for &n in peers {
            let addresses = block.host(u32::from(n) + 2).expect("in the block");
            let peer = Peer {
                node: NodeId::Device(DeviceId::from_bytes([n; 16])),
                name: label(n),
                allowed: addresses.host_nets().into(),
                endpoint: None,
                keepalive_seconds: mtu % 3,
            };
            snapshot.peers.insert(PublicKey::from_bytes([n % 40; 32]), peer);
        }
        for &n in peers.iter().chain(names) {
            let serial = SshSerial::from_number(u64::from(n) + 1).expect("a serial");
            ssh.revoked.insert((CaKind::User, Revoked::Serial(serial)), ());
            let line = CaKey::from_bytes([mtu as u8; 32]).to_string();
            ssh.hosts.insert(DeviceId::from_bytes([n % 9; 16]), line.parse().expect("a key"));
        }
        for &n in names {
            let addresses = block.host(u32::from(n) + 2).expect("in the block");
            snapshot
                .zone
                .names
                .insert(origin.child(&label(n % 40)).expect("short"), RecordSet::of_node(addresses));
        }
        snapshot
    }

    proptest! {
        #[test]
        fn diff_and_apply_are_inverse(a in any::<(Vec<u8>, Vec<u8>, u16)>(), b in any::<(Vec<u8>, Vec<u8>, u16)>()) {
            let (mut before, mut after) = (snapshot(&a.0, &a.1, a.2), snapshot(&b.0, &b.1, b.2));
            before.digest();
            let bytes = minicbor::to_vec(Patch::diff(&before, &after)).expect("encodes");
            let patch: Patch = minicbor::decode(&bytes).expect("decodes");
            prop_assert_eq!(patch.is_empty(), before == after);
            patch.apply(&mut before);
            prop_assert_eq!(&before, &after);
            prop_assert_eq!(before.digest(), after.digest());
        }

        #[test]
        fn the_inverse_restores(
            a in any::<(Vec<u8>, Vec<u8>, u16)>(), b in any::<(Vec<u8>, Vec<u8>, u16)>(), c in any::<(Vec<u8>, Vec<u8>, u16)>()
        ) {
            let mut snapshot_a = snapshot(&a.0, &a.1, a.2);
            let digest = snapshot_a.digest();
            // A patch of other snapshots, so that it also sets what is there and removes what is not.
            let patch = Patch::diff(&snapshot(&b.0, &b.1, b.2), &snapshot(&c.0, &c.1, c.2));
            let undo = patch.inverse(&snapshot_a);
            patch.apply(&mut snapshot_a);
            undo.apply(&mut snapshot_a);
            prop_assert_eq!(snapshot_a.digest(), digest);
            prop_assert_eq!(snapshot_a, snapshot(&a.0, &a.1, a.2));
        }

        #[test]
        fn snapshots_survive_the_wire(a in any::<(Vec<u8>, Vec<u8>, u16)>()) {
            let mut snapshot = snapshot(&a.0, &a.1, a.2);
            let ssh = snapshot.ssh.as_ref();
            let halves = [head_bytes(&snapshot.own, true), tail_bytes(&snapshot.peers, &snapshot.zone, ssh)].concat();
            prop_assert_eq!(&halves, &minicbor::to_vec(&snapshot).expect("encodes"));
            let mut again: Snapshot = minicbor::decode(&minicbor::to_vec(&snapshot).expect("encodes")).expect("decodes");
            prop_assert_eq!(&snapshot, &again);
            prop_assert_eq!(snapshot.digest(), again.digest());
        }
    }
}
