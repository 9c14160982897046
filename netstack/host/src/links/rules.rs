//! The rules (`ip-rule(8)`) by which packets for the mesh find our routes, and those that carry the mesh pass them by.
//!
//! ```text
//!   ip rule:  5140  lookup main suppress_prefixlength 0      what the machine knows a way to, but for its default route
//!             5141  not fwmark 0x77726e lookup 155           the mesh's routes, for all but the underlay's own sockets
//!            32766  lookup main                              the default route
//! ```
//!
//! Whatever is routed over the tunnel, a default route or the server's own address, the underlay's packets leave as if there
//! were no tunnel. All of Warren on a machine shares the rules; who finds no route left that needs them takes them away.

use netlink_packet_route::route::{RouteHeader, RouteProtocol};
use netlink_packet_route::rule::{RuleAction, RuleAttribute, RuleFlags, RuleMessage};
use netlink_packet_route::{AddressFamily, RouteNetlinkMessage};
use nix::errno::Errno;

use super::routes::{FAMILIES, ROUTE_PROTOCOL, ROUTE_TABLE};
use super::{Links, dump, fine};
use crate::netlink::NetlinkError;

/// The mark (`SO_MARK`, socket(7)) of what carries the mesh: "wrn". Others use single bits (Kubernetes), a byte (Tailscale)
/// or small numbers.
pub const MARK: u32 = 0x0077_726e;
/// The first rule's; the second follows it. Behind those of networks of containers (below 2 000), which are about their own
/// guests, and before those that send everything elsewhere: wg-quick(8) puts its own just before the main table's 32 766.
const PRIORITY: u32 = 5_140;

impl Links {
    /// Whether packets of a family are led to our routes, and the underlay's are not.
    pub(super) fn are_rules_set(&self, family: AddressFamily) -> Result<bool, NetlinkError> {
        let found = self.rules(family)?;
        Ok(wanted(family).iter().all(|rule| found.iter().any(|found| is_same(rule, found))))
    }

    /// Sets the rules of a family; those that are there stay.
    pub(super) fn set_rules(&self, family: AddressFamily) -> Result<(), NetlinkError> {
        for rule in wanted(family) {
            let added = self.converse(async |handle| {
                let mut request = handle.rule().add();
                *request.message_mut() = rule;
                Ok(request.execute().await?)
            });
            fine(added, Errno::EEXIST)?;
        }
        Ok(())
    }

    /// Takes our rules away, unless a route over another interface than this one needs them.
    pub(crate) fn clear_rules(&self, but: Option<u32>) -> Result<(), NetlinkError> {
        for family in FAMILIES {
            let found = self.rules(family)?;
            if !found.iter().any(is_ours) || self.is_table_used(family, but)? {
                continue;
            }
            for rule in found.into_iter().filter(is_ours) {
                let removed = self.converse(async |handle| Ok(handle.rule().del(rule).execute().await?));
                fine(removed, Errno::ENOENT)?;
            }
        }
        Ok(())
    }

    fn rules(&self, family: AddressFamily) -> Result<Vec<RuleMessage>, NetlinkError> {
        let mut message = RuleMessage::default();
        message.header.family = family;
        let message = RouteNetlinkMessage::GetRule(message);
        let answers = match self.converse(async |handle| dump(handle, message).await) {
            // A family that the kernel does not have.
            Err(error) if error.errno() == Some(Errno::EAFNOSUPPORT as i32) => return Ok(Vec::new()),
            answers => answers?,
        };
        let rules = answers.into_iter().filter_map(|answer| match answer {
            RouteNetlinkMessage::NewRule(rule) if rule.header.family == family => Some(rule),
            _ => None,
        });
        Ok(rules.collect())
    }
}

/// Whether a rule is one of Warren's.
pub(super) fn is_ours(rule: &RuleMessage) -> bool {
    rule.attributes.contains(&RuleAttribute::Protocol(RouteProtocol::Other(ROUTE_PROTOCOL)))
}

/// In the order of their priorities.
fn wanted(family: AddressFamily) -> [RuleMessage; 2] {
    let protocol = RuleAttribute::Protocol(RouteProtocol::Other(ROUTE_PROTOCOL));
    let rule = |priority, table, flags, what: Vec<RuleAttribute>| {
        let mut rule = RuleMessage::default();
        rule.header.family = family;
        rule.header.table = table;
        rule.header.action = RuleAction::ToTable;
        rule.header.flags = flags;
        rule.attributes = what;
        rule.attributes.extend([RuleAttribute::Priority(priority), protocol.clone()]);
        rule
    };
    [
        rule(
            PRIORITY,
            RouteHeader::RT_TABLE_MAIN,
            RuleFlags::empty(),
            vec![RuleAttribute::SuppressPrefixLen(0)],
        ),
        rule(
            PRIORITY + 1,
            ROUTE_TABLE,
            RuleFlags::Invert,
            vec![RuleAttribute::FwMark(MARK), RuleAttribute::FwMask(u32::MAX)],
        ),
    ]
}

/// Whether the kernel tells of a rule what we said of it; it adds what is as everywhere.
fn is_same(wanted: &RuleMessage, found: &RuleMessage) -> bool {
    let (a, b) = (&wanted.header, &found.header);
    (a.table, a.action, a.flags & RuleFlags::Invert) == (b.table, b.action, b.flags & RuleFlags::Invert)
        && wanted.attributes.iter().all(|attribute| found.attributes.contains(attribute))
}
