//! Who is sent which snapshot when, patched or whole. Decides nothing about what is in it.
//!
//! ```text
//! publish ─▶ dirty ─▶ sent ──Holding──▶ held        one snapshot of a tenant is under way on a link at a time;
//!              ▲       │                            what changes meanwhile is one snapshot when it has arrived
//!              └─Resync┘ (the whole)
//! ```
//!
//! Parts of a whole follow each other without anything of another snapshot between them, as fast as the shell writes.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};

use model::limits::PART_BYTES_MAX;
use model::wire::Remark;
use model::wire::frame::{Holding, Part, Patched, Whole};
use model::{Abilities, DeviceId, Held, Mono, NodeId, Now, Signed, Stamp, TenantId, Version};

use crate::directories::Directories;
use crate::directory::{Affected, Delta, Directory, Share};
use crate::event::Event;
use crate::limits::{
    HOLDING_TIME_MAX, HUB_FIRST_TIME_MAX, PATCH_BYTES_MAX, RESYNCS_MAX, SNAPSHOT_FRAMES_UNWRITTEN_MAX,
    WHOLE_INTERVAL,
};
use crate::link::LinkId;
use crate::outbox::Outbox;

/// What one link gets.
struct Feed {
    node: NodeId,
    /// Snapshot frames since the shell's queue was empty.
    unwritten: u32,
    resyncs: u32,
    stream: Option<Stream>,
    /// Boxed: most links have one, and a map makes room for eleven.
    outlets: BTreeMap<TenantId, Box<Outlet>>,
    dirty: BTreeSet<TenantId>,
}

/// What one node has and is sent of one tenant.
#[derive(Default)]
struct Outlet {
    held: Option<Held>,
    /// Where the node finds the hub by what was sent last, or found to be held; see [`Directory::door`].
    door: Option<u16>,
    /// Since when a device waits for the hub to be ready for it.
    introduced_at: Option<Mono>,
    /// The host of the node is not yet as what was sent last says.
    unsettled: bool,
    /// Under way, and since when.
    sent: Option<(Held, Mono)>,
    /// The node refused what it was sent.
    refused: bool,
    /// When a refusal was last answered with the whole.
    resynced_at: Option<Mono>,
}

/// A whole snapshot, half sent.
struct Stream {
    head: Vec<u8>,
    tail: Arc<Vec<u8>>,
    offset: usize,
}

impl Stream {
    fn len(&self) -> usize {
        self.head.len() + self.tail.len()
    }

    fn next_part(&mut self) -> Option<Part> {
        let end = (self.offset + PART_BYTES_MAX).min(self.len());
        if self.offset == end {
            return None;
        }
        let split = self.head.len();
        let head = &self.head[self.offset.min(split)..end.min(split)];
        let tail = &self.tail[self.offset.max(split) - split..end.max(split) - split];
        self.offset = end;
        Some(Part { bytes: [head, tail].concat() })
    }
}

/// The shared bytes of one version.
struct Tail {
    version: Version,
    bytes: Weak<Vec<u8>>,
}

/// What to do about one dirty outlet.
enum Step {
    /// Nothing to send; it is clean.
    Clean,
    /// Not before then.
    Later(Mono),
    /// The node's version has other contents than the server's.
    Forked,
    /// Send this.
    Patch(Box<Patched>),
    /// Send this, and its parts.
    Whole(Box<Whole>, Stream),
}

/// All links that get snapshots.
#[derive(Default)]
pub(crate) struct Publisher {
    feeds: BTreeMap<LinkId, Feed>,
    subscribers: BTreeMap<(TenantId, NodeId), LinkId>,
    /// The last that was made: after an edit all nodes need the same.
    delta: Option<(TenantId, Delta)>,
    /// Shared bytes that some stream still needs.
    tails: BTreeMap<(TenantId, Share), Tail>,
    /// Tenants of which a node holds the current version with other contents.
    forked: BTreeSet<TenantId>,
    /// The hub is another replica's: when it is ready, is not heard here.
    hub_elsewhere: bool,
    /// Links of devices that are told when the hub is ready for them.
    awaiting_hub: BTreeSet<LinkId>,
}

impl Publisher {
    /// Publishes to nobody yet.
    pub(crate) fn new(hub_elsewhere: bool) -> Self {
        Self { hub_elsewhere, ..Self::default() }
    }

    /// Whether the hub is another replica's.
    pub(crate) const fn hub_is_elsewhere(&mut self, elsewhere: bool) {
        self.hub_elsewhere = elsewhere;
    }

    /// The link is a node's. An earlier link of the node gets nothing of the tenant any more.
    pub(crate) fn subscribe(&mut self, link: LinkId, node: NodeId, tenant: TenantId, held: Option<Held>) {
        let feed = self.feeds.entry(link).or_insert_with(|| Feed {
            node,
            unwritten: 0,
            resyncs: 0,
            stream: None,
            outlets: BTreeMap::new(),
            dirty: BTreeSet::new(),
        });
        feed.outlets.insert(tenant, Box::new(Outlet { held, ..Outlet::default() }));
        feed.dirty.insert(tenant);
        self.subscribers.insert((tenant, node), link);
    }

    /// The link is gone.
    pub(crate) fn unsubscribe(&mut self, link: LinkId) {
        let Some(feed) = self.feeds.remove(&link) else { return };
        for tenant in feed.outlets.into_keys() {
            if self.subscribers.get(&(tenant, feed.node)) == Some(&link) {
                self.subscribers.remove(&(tenant, feed.node));
            }
        }
    }

    /// Whether the link gets something of the tenant.
    pub(crate) fn is_subscribed(&self, link: LinkId, tenant: TenantId) -> bool {
        self.feeds.get(&link).is_some_and(|feed| feed.outlets.contains_key(&tenant))
    }

    /// Marks the nodes whose plan changed, and says which links to flush. Looks at no other node, unless all active
    /// devices are affected: then at those that are attached.
    pub(crate) fn publish(&mut self, directory: &Directory, affected: &Affected) -> Vec<LinkId> {
        let tenant = directory.tenant().id;
        let single = affected.devices.iter().map(|id| NodeId::Device(*id));
        let single = single.chain(affected.hub.then_some(NodeId::Hub));
        let mut nodes: BTreeSet<NodeId> = single.collect();
        if affected.active || affected.able != Abilities::NONE {
            let shares = |node: &NodeId| directory.share(*node).is_some_and(|s| affected.contains_share(s));
            nodes.extend(self.devices_of(tenant).filter(shares));
        }
        nodes.into_iter().filter_map(|node| self.mark(tenant, node)).collect()
    }

    /// Marks every attached node of the tenant.
    pub(crate) fn publish_to_all(&mut self, tenant: TenantId) -> Vec<LinkId> {
        let nodes: Vec<NodeId> = self.devices_of(tenant).chain([NodeId::Hub]).collect();
        nodes.into_iter().filter_map(|node| self.mark(tenant, node)).collect()
    }

    fn devices_of(&self, tenant: TenantId) -> impl Iterator<Item = NodeId> {
        let (first, last) = (DeviceId::from_bytes([0; 16]), DeviceId::from_bytes([255; 16]));
        let range = (tenant, NodeId::Device(first))..=(tenant, NodeId::Device(last));
        self.subscribers.range(range).map(|((_, node), _)| *node)
    }

    fn mark(&mut self, tenant: TenantId, node: NodeId) -> Option<LinkId> {
        let link = *self.subscribers.get(&(tenant, node))?;
        self.feeds.get_mut(&link)?.dirty.insert(tenant);
        Some(link)
    }

    /// The shell wrote everything.
    pub(crate) fn drained(&mut self, link: LinkId) {
        if let Some(feed) = self.feeds.get_mut(&link) {
            feed.unwritten = 0;
        }
    }

    /// The node says what it holds. What was under way has arrived if it is that.
    pub(crate) fn holds(&mut self, link: LinkId, holding: &Holding, now: Now, out: &mut Outbox) {
        let (tenant, held) = (holding.tenant, holding.held);
        let Some(feed) = self.feeds.get_mut(&link) else { return };
        let streaming = feed.stream.is_some();
        let Some(outlet) = feed.outlets.get_mut(&tenant) else { return };
        if holding.settled && outlet.sent.is_none_or(|(sent, _)| sent == held) {
            outlet.unsettled = false;
        }
        let Some((sent, at)) = outlet.sent else { return };
        if held == sent {
            outlet.held = Some(held);
            outlet.sent = None;
            outlet.refused = false;
        } else if !streaming && now.mono.since(at) > HOLDING_TIME_MAX {
            out.event(Event::HoldingOverdue { tenant, node: feed.node });
            **outlet = Outlet { held: Some(held), refused: true, ..Outlet::default() };
            feed.dirty.insert(tenant);
        }
    }

    /// The node refused what it was sent, for that reason, or was told to ask for it; the whole follows. False if it refused
    /// too often.
    pub(crate) fn resync(
        &mut self,
        link: LinkId,
        tenant: TenantId,
        held: Option<Held>,
        reason: Option<Remark>,
        out: &mut Outbox,
    ) -> bool {
        let Some(feed) = self.feeds.get_mut(&link) else { return true };
        let Some(outlet) = feed.outlets.get_mut(&tenant) else { return true };
        if let Some(reason) = reason {
            out.counters.resyncs += 1;
            out.event(Event::ResyncAsked { tenant, node: feed.node, reason });
            feed.resyncs += 1;
        }
        let (door, resynced_at) = (outlet.door, outlet.resynced_at);
        **outlet = Outlet { held, door, refused: true, resynced_at, ..Outlet::default() };
        feed.dirty.insert(tenant);
        feed.resyncs <= RESYNCS_MAX
    }

    /// Links to flush now that the hub said how far it is.
    pub(crate) fn take_awaiting_hub(&mut self) -> BTreeSet<LinkId> {
        std::mem::take(&mut self.awaiting_hub)
    }

    /// Until when a device that becomes active, or finds the hub elsewhere, is told nothing, because the hub is not ready for it: a handshake that
    /// comes before the hub knows the peer is tried again only after REKEY_TIMEOUT, 5 s (WireGuard paper, section 6.1).
    fn waits_for_hub(&mut self, link: LinkId, directory: &Directory, node: NodeId, now: Now) -> Option<Mono> {
        let tenant = directory.tenant().id;
        let hub = self.subscribers.get(&(tenant, NodeId::Hub));
        if hub == Some(&link) || node == NodeId::Hub {
            return None;
        }
        let behind = || hub.and_then(|hub| self.feeds.get(hub)).is_some_and(|feed| feed.is_behind(tenant));
        let behind = self.hub_elsewhere || behind();
        let door = directory.door(node);
        let outlet = self.feeds.get_mut(&link)?.outlets.get_mut(&tenant)?;
        if !behind || door.is_none() || outlet.door == door {
            return None;
        }
        let until = *outlet.introduced_at.get_or_insert(now.mono) + HUB_FIRST_TIME_MAX;
        if until <= now.mono {
            return None;
        }
        self.awaiting_hub.insert(link);
        Some(until)
    }

    /// Tenants of which a node holds the current version with other contents, since the last call.
    pub(crate) fn take_forked(&mut self) -> BTreeSet<TenantId> {
        std::mem::take(&mut self.forked)
    }

    /// Sends what the link may be sent now. Says when to call again, where that is not after a frame or a drain.
    pub(crate) fn flush(
        &mut self,
        link: LinkId,
        directories: &Directories,
        now: Now,
        out: &mut Outbox,
    ) -> Option<Mono> {
        let mut again: Option<Mono> = None;
        let mut waiting = BTreeSet::new();
        loop {
            let feed = self.feeds.get_mut(&link)?;
            if feed.unwritten >= SNAPSHOT_FRAMES_UNWRITTEN_MAX {
                break;
            }
            if let Some(stream) = &mut feed.stream {
                match stream.next_part() {
                    Some(part) => feed.send(link, part, out),
                    None => feed.stream = None,
                }
                continue;
            }
            let Some(tenant) = feed.next_dirty(&waiting) else { break };
            match self.step(link, tenant, directories, now, out) {
                None => {
                    waiting.insert(tenant);
                }
                Some(Step::Later(at)) => {
                    again = Some(again.map_or(at, |before| before.min(at)));
                    waiting.insert(tenant);
                }
                Some(step) => self.take(link, tenant, step, now, out),
            }
        }
        again
    }

    fn take(&mut self, link: LinkId, tenant: TenantId, step: Step, now: Now, out: &mut Outbox) {
        let Some(feed) = self.feeds.get_mut(&link) else { return };
        feed.dirty.remove(&tenant);
        let Some(outlet) = feed.outlets.get_mut(&tenant) else { return };
        match step {
            Step::Clean | Step::Later(_) => {}
            Step::Forked => {
                self.forked.insert(tenant);
            }
            Step::Patch(patched) => {
                out.counters.patches_sent += 1;
                feed.send(link, *patched, out);
            }
            Step::Whole(whole, stream) => {
                out.counters.wholes_sent += 1;
                if outlet.refused {
                    outlet.resynced_at = Some(now.mono);
                }
                feed.stream = Some(stream);
                feed.send(link, *whole, out);
            }
        }
    }

    /// What to send of one tenant; `None` while its directory is withheld.
    fn step(
        &mut self,
        link: LinkId,
        tenant: TenantId,
        directories: &Directories,
        now: Now,
        out: &mut Outbox,
    ) -> Option<Step> {
        let directory = directories.whole(tenant)?;
        let feed = self.feeds.get(&link)?;
        let (node, outlet) = (feed.node, feed.outlets.get(&tenant)?);
        let current = directory.held(node)?;
        out.counters.nodes_planned += 1;
        if let Some(held) = outlet.held {
            if held.version > current.version {
                out.event(Event::NodeAhead { tenant, node, held: held.version, here: current.version });
                return Some(Step::Clean);
            }
            let same_version = held.version == current.version;
            if held.digest == current.digest && (same_version || !outlet.refused) {
                self.feeds.get_mut(&link)?.outlets.get_mut(&tenant)?.door = directory.door(node);
                return Some(Step::Clean);
            }
            if same_version {
                out.event(Event::NodeForked { tenant, node, version: held.version });
                return Some(Step::Forked);
            }
        }
        let (held, refused, resynced_at) = (outlet.held, outlet.refused, outlet.resynced_at);
        if let Some(until) = self.waits_for_hub(link, directory, node, now) {
            return Some(Step::Later(until));
        }
        let stamp = || sign(directory, node, current, now);
        let patched = held.filter(|_| !refused).and_then(|from| self.patched(directory, node, from, stamp));
        let step = if let Some(patched) = patched {
            Step::Patch(Box::new(patched))
        } else {
            if let Some(at) = resynced_at.filter(|at| refused && now.mono.since(*at) < WHOLE_INTERVAL) {
                return Some(Step::Later(at + WHOLE_INTERVAL));
            }
            let (whole, stream) = self.whole(directory, node, stamp)?;
            Step::Whole(Box::new(whole), stream)
        };
        out.counters.signatures += 1;
        let outlet = self.feeds.get_mut(&link)?.outlets.get_mut(&tenant)?;
        outlet.sent = Some((current, now.mono));
        outlet.door = directory.door(node);
        outlet.introduced_at = None;
        outlet.unsettled = true;
        Some(step)
    }

    fn patched(
        &mut self,
        directory: &Directory,
        node: NodeId,
        from: Held,
        stamp: impl Fn() -> Signed<Stamp>,
    ) -> Option<Patched> {
        let tenant = directory.tenant().id;
        let fits = |(of, delta): &(TenantId, Delta)| {
            *of == tenant && delta.since == from.version && delta.until == directory.version()
        };
        if !self.delta.as_ref().is_some_and(fits) {
            self.delta = Some((tenant, directory.delta(from.version)?));
        }
        let (_, delta) = self.delta.as_mut()?;
        if directory.half_bytes(directory.share(node)?, delta) > PATCH_BYTES_MAX {
            return None;
        }
        let patch = directory.patch(node, delta)?;
        Some(Patched { stamp: stamp(), tenant, from, patch })
    }

    fn whole(
        &mut self,
        directory: &Directory,
        node: NodeId,
        stamp: impl Fn() -> Signed<Stamp>,
    ) -> Option<(Whole, Stream)> {
        let head = directory.head_bytes(node)?;
        let tail = self.tail(directory, directory.share(node)?);
        let stream = Stream { head, tail, offset: 0 };
        let bytes_total = u32::try_from(stream.len()).ok()?;
        Some((Whole { stamp: stamp(), tenant: directory.tenant().id, bytes_total }, stream))
    }

    fn tail(&mut self, directory: &Directory, share: Share) -> Arc<Vec<u8>> {
        let key = (directory.tenant().id, share);
        let kept = self.tails.get(&key).filter(|tail| tail.version == directory.version());
        if let Some(tail) = kept.and_then(|tail| tail.bytes.upgrade()) {
            return tail;
        }
        let tail: Arc<Vec<u8>> = Arc::new(directory.tail_bytes(share));
        self.tails.insert(key, Tail { version: directory.version(), bytes: Arc::downgrade(&tail) });
        tail
    }
}

impl Feed {
    fn send(&mut self, link: LinkId, frame: impl Into<model::wire::Frame>, out: &mut Outbox) {
        self.unwritten += 1;
        out.send(link, frame);
    }

    /// Whether the node has not yet made what the tenant's newest snapshot says.
    fn is_behind(&self, tenant: TenantId) -> bool {
        self.dirty.contains(&tenant)
            || self.outlets.get(&tenant).is_some_and(|o| o.sent.is_some() || o.unsettled)
    }

    /// A tenant with something to send and nothing under way.
    fn next_dirty(&self, waiting: &BTreeSet<TenantId>) -> Option<TenantId> {
        let ready = |tenant: &&TenantId| {
            !waiting.contains(tenant) && self.outlets.get(tenant).is_some_and(|o| o.sent.is_none())
        };
        self.dirty.iter().find(ready).copied()
    }
}

/// The directory's rows agreed with the store's own count when they were taken, or it would be withheld: what the
/// snapshot leaves out is meant to be gone.
fn sign(directory: &Directory, node: NodeId, current: Held, now: Now) -> Signed<Stamp> {
    let stamp = Stamp {
        tenant: directory.tenant().id,
        node,
        version: current.version,
        digest: current.digest,
        confirms_removals: directory.check_complete().is_ok(),
        issued_at: now.wall,
    };
    stamp.sign(directory.anchor())
}
