//! What may be seen on the wire: no private key, and one digest for one version of one node.

use model::key::Digest;
use model::wire::Frame;
use model::{Held, Mono, NodeId, Signed, Stamp, TenantId};

use super::Judge;

impl Judge {
    /// There is a private key.
    pub fn keep_secret(&mut self, key: [u8; 32]) {
        self.secrets.add(key);
    }

    /// A frame is on the wire.
    pub fn frame(&mut self, at: Mono, who: &str, bytes: &[u8]) {
        let leaks = self.secrets.is_in(bytes);
        self.expect(!leaks, at, "private-keys-stay", || format!("{who} sent a private key"));
    }

    /// A server sent a frame.
    pub fn published(&mut self, at: Mono, who: &str, frame: &Frame) {
        let (tenant, stamp) = match frame {
            Frame::Whole(whole) => (whole.tenant, &whole.stamp),
            Frame::Patched(patched) => (patched.tenant, &patched.stamp),
            _ => return,
        };
        let Some(stamp) = self.read(tenant, stamp) else {
            return self.accuse(at, "stamps-are-the-anchors", format!("{who} sent a stamp of nobody's"));
        };
        self.one_digest(at, who, tenant, stamp.node, stamp.held());
        let stored = self.stored.get(&tenant).copied().unwrap_or_default();
        let detail = || format!("{who} publishes {} of {tenant}, the store has {stored}", stamp.version);
        self.expect(stamp.version <= stored, at, "published-is-stored", detail);
    }

    /// A node says that it holds this, and has so much on disk.
    pub fn holding(&mut self, at: Mono, who: &str, tenant: TenantId, node: NodeId, held: Held) {
        self.one_digest(at, who, tenant, node, held);
    }

    fn read(&self, tenant: TenantId, stamp: &Signed<Stamp>) -> Option<Stamp> {
        let stamp = stamp.verify(self.anchors.get(&tenant)?).ok()?;
        Some(stamp.into_inner())
    }

    fn one_digest(&mut self, at: Mono, who: &str, tenant: TenantId, node: NodeId, held: Held) {
        let known: Digest = *self.digests.entry((tenant, node, held.version)).or_insert(held.digest);
        let detail = || format!("{who}: {} of node {node} has two contents", held.version);
        self.expect(known == held.digest, at, "generations-never-fork", detail);
    }
}
