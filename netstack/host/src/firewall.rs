//! The firewall table of one interface: default-deny, stateful, and only between the networks of one tenant, be it
//! from device to device or from a device to the hub itself.
//! One nf_tables table per interface, set in one transaction and read back rule by rule, so that a table
//! somebody flushed or edited is no longer ours. Takes networks, never rule text; executes nothing.

mod message;
mod rules;

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use netlink_packet_core::{NLM_F_CREATE, NLM_F_DUMP};
use nix::errno::Errno;

use self::message::{Attributes, Verb, attr};
use crate::interface::InterfaceName;
use crate::netlink::{DUMP_TRIES_MAX, Messages, Netlink, NetlinkError, Raw, attributes};

/// A tenant's two networks; forwarding is allowed inside each.
pub(crate) type Pair = (Ipv4Net, Ipv6Net);

const TABLE_PREFIX: &str = "warren-";
const PRIORITY_FILTER: u32 = 0;
const POLICY_ACCEPT: u32 = 1;
/// `NFT_SET_INTERVAL | NFT_SET_CONCAT`.
const SET_FLAGS: u32 = 4 | 128;
/// How nft names the types: `ipv4_addr . ipv4_addr`, six bits each.
const TYPE_IPV4_PAIR: u32 = 7 << 6 | 7;
const TYPE_IPV6_PAIR: u32 = 8 << 6 | 8;
/// An attribute is at most 64 KiB, an element of ours at most 104 bytes with its comment.
const ELEMENTS_PER_MESSAGE: usize = 256;
/// `NFNLGRP_NFTABLES`.
pub(crate) const EVENT_GROUP: u32 = 7;

/// A table that is there.
pub(crate) enum Table {
    /// Exactly as [`Firewall::set`] makes it for these.
    Allows(BTreeSet<Pair>),
    /// Somebody changed it.
    Spoiled,
}

/// The firewall of one interface.
pub(crate) struct Firewall {
    netlink: Netlink,
    table: String,
    interface: InterfaceName,
}

impl Firewall {
    pub(crate) fn open(interface: &InterfaceName) -> Result<Self, NetlinkError> {
        let netlink = Netlink::open(netlink_sys::protocols::NETLINK_NETFILTER)?;
        Ok(Self { netlink, table: table_name(interface), interface: interface.clone() })
    }

    /// Replaces the whole table in one transaction.
    pub(crate) fn set(&mut self, pairs: &BTreeSet<Pair>) -> Result<(), NetlinkError> {
        let table = || Attributes::new().text(attr::TABLE_NAME, &self.table);
        let marked = table().put(attr::TABLE_USERDATA, &message::comment("Warren: what the mesh may reach"));
        let mut steps = vec![
            // Makes the removal that follows succeed whether there was a table or not.
            (Verb::NewTable, NLM_F_CREATE, table()),
            (Verb::DelTable, 0, table()),
            (Verb::NewTable, NLM_F_CREATE, marked),
        ];
        for (chain, hook) in rules::CHAINS {
            steps.push((Verb::NewChain, NLM_F_CREATE, self.chain(chain, hook)));
        }
        let v4: Vec<_> = pairs.iter().map(|(v4, v6)| element_v4(v4, v6)).collect();
        let v6: Vec<_> = pairs.iter().map(|(_, v6)| element_v6(v6)).collect();
        for (id, name, key_type, field, elements) in
            [(1, rules::SET_V4, TYPE_IPV4_PAIR, 4, v4), (2, rules::SET_V6, TYPE_IPV6_PAIR, 16, v6)]
        {
            steps.push((Verb::NewSet, NLM_F_CREATE, self.set_of_pairs(id, name, key_type, field)));
            for chunk in elements.chunks(ELEMENTS_PER_MESSAGE) {
                let body = Attributes::new()
                    .text(attr::ELEMENTS_TABLE, &self.table)
                    .text(attr::ELEMENTS_SET, name)
                    .list(attr::ELEMENTS_LIST, chunk);
                steps.push((Verb::NewSetElements, NLM_F_CREATE, body));
            }
        }
        for rule in rules::rules(self.interface.as_str()) {
            let body = Attributes::new()
                .text(attr::RULE_TABLE, &self.table)
                .text(attr::RULE_CHAIN, rule.chain)
                .list(attr::RULE_EXPRESSIONS, &rule.expressions)
                .put(attr::RULE_USERDATA, &rules::userdata(&rule));
            steps.push((Verb::NewRule, NLM_F_CREATE | netlink_packet_core::NLM_F_APPEND, body));
        }
        self.commit(&steps)
    }

    /// Removes the table; there being none is fine.
    pub(crate) fn remove(&mut self) -> Result<(), NetlinkError> {
        let table = Attributes::new().text(attr::TABLE_NAME, &self.table);
        match self.commit(&[(Verb::DelTable, 0, table)]) {
            Err(error) if error.errno() == Some(Errno::ENOENT as i32) => Ok(()),
            other => other,
        }
    }

    /// What the table allows; `None` if there is none.
    pub(crate) fn read(&mut self) -> Result<Option<Table>, NetlinkError> {
        match self.read_table() {
            Err(error) if error.errno() == Some(Errno::ENOENT as i32) => Ok(None),
            Err(error) => Err(error),
            Ok(pairs) => Ok(Some(pairs.map_or(Table::Spoiled, Table::Allows))),
        }
    }

    /// The ports of interfaces beside this one that have a table, whether or not they are there themselves.
    pub(crate) fn beside(&mut self) -> Result<BTreeSet<u16>, NetlinkError> {
        let tables = self.dump(Verb::GetTable, &Attributes::new())?;
        let names = tables.iter().flat_map(|raw| message::body_attributes(raw.body()));
        let names = names.filter(|(kind, _)| *kind == attr::TABLE_NAME).map(|(_, name)| message::text(name));
        let ports = names.filter_map(|name| self.interface.port_beside(name.strip_prefix(TABLE_PREFIX)?));
        Ok(ports.collect())
    }

    /// `None`: the table is not as it is made here.
    fn read_table(&mut self) -> Result<Option<BTreeSet<Pair>>, NetlinkError> {
        let (tables, _) = self.ask(
            Verb::GetTable,
            netlink_packet_core::NLM_F_ACK,
            &Attributes::new().text(attr::TABLE_NAME, &self.table),
        )?;
        if !tables.iter().all(is_awake) {
            return Ok(None);
        }
        let chains = self.dump(Verb::GetChain, &Attributes::new())?;
        if !self.chains_are_ours(&chains) {
            return Ok(None);
        }
        let rules = self.dump(Verb::GetRule, &Attributes::new().text(attr::RULE_TABLE, &self.table))?;
        if !self.rules_are_ours(&rules) {
            return Ok(None);
        }
        let v4 = self.elements(rules::SET_V4)?;
        let v6 = self.elements(rules::SET_V6)?;
        Ok(pairs_of(&v4, &v6))
    }

    fn chain(&self, name: &str, hook: Option<u32>) -> Attributes {
        let chain = Attributes::new().text(attr::CHAIN_TABLE, &self.table).text(attr::CHAIN_NAME, name);
        let Some(hook) = hook else { return chain };
        let hook = Attributes::new().u32(attr::HOOK_HOOKNUM, hook).u32(attr::HOOK_PRIORITY, PRIORITY_FILTER);
        chain
            .nest(attr::CHAIN_HOOK, &hook)
            .u32(attr::CHAIN_POLICY, POLICY_ACCEPT)
            .text(attr::CHAIN_TYPE, "filter")
    }

    fn set_of_pairs(&self, id: u32, name: &str, key_type: u32, field: u32) -> Attributes {
        let field_bytes = Attributes::new().u32(attr::SET_FIELD_LEN, field);
        let description = Attributes::new().list(attr::SET_DESC_CONCAT, &[field_bytes.clone(), field_bytes]);
        Attributes::new()
            .text(attr::SET_TABLE, &self.table)
            .text(attr::SET_NAME, name)
            .u32(attr::SET_FLAGS, SET_FLAGS)
            .u32(attr::SET_KEY_TYPE, key_type)
            .u32(attr::SET_KEY_LEN, field * 2)
            .u32(attr::SET_ID, id)
            .nest(attr::SET_DESC, &description)
    }

    fn commit(&mut self, steps: &[(Verb, u16, Attributes)]) -> Result<(), NetlinkError> {
        let sequence = self.netlink.next_sequence();
        self.netlink.exchange(&message::transaction(sequence, steps), sequence).map(|_| ())
    }

    /// The answers, and whether they changed while they were read.
    fn ask(&mut self, verb: Verb, flags: u16, body: &Attributes) -> Result<(Vec<Raw>, bool), NetlinkError> {
        let sequence = self.netlink.next_sequence();
        self.netlink.exchange(&message::read(verb, flags, sequence, body), sequence)
    }

    fn dump(&mut self, verb: Verb, body: &Attributes) -> Result<Vec<Raw>, NetlinkError> {
        for _ in 0..DUMP_TRIES_MAX {
            if let (answers, false) = self.ask(verb, NLM_F_DUMP, body)? {
                return Ok(answers);
            }
        }
        Err(NetlinkError::changing())
    }

    fn elements(&mut self, set: &str) -> Result<Vec<Element>, NetlinkError> {
        let body = Attributes::new().text(attr::ELEMENTS_TABLE, &self.table).text(attr::ELEMENTS_SET, set);
        let answers = self.dump(Verb::GetSetElements, &body)?;
        let lists = answers.iter().flat_map(|raw| message::body_attributes(raw.body()));
        let elements =
            lists.filter(|(kind, _)| *kind == attr::ELEMENTS_LIST).flat_map(|(_, list)| attributes(list));
        Ok(elements.map(|(_, element)| read_element(element)).collect())
    }

    fn chains_are_ours(&self, chains: &[Raw]) -> bool {
        let found: Vec<_> = chains.iter().filter_map(|raw| self.own_chain(raw)).collect();
        let expected = rules::CHAINS.map(|(name, hook)| (name.to_owned(), hook));
        found.len() == expected.len() && expected.iter().all(|one| found.contains(one))
    }

    /// Name of a chain of our table, and its hook if it is a base chain that accepts the rest.
    fn own_chain(&self, raw: &Raw) -> Option<(String, Option<u32>)> {
        let value = |kind| message::body_attributes(raw.body()).find(|(k, _)| *k == kind).map(|(_, v)| v);
        (value(attr::CHAIN_TABLE).map(message::text) == Some(&self.table)).then_some(())?;
        let accepts = value(attr::CHAIN_POLICY) == Some(&POLICY_ACCEPT.to_be_bytes());
        let hooked = value(attr::CHAIN_HOOK)
            .filter(|_| accepts)
            .and_then(|hook| message::within(hook, attr::HOOK_HOOKNUM)?.try_into().ok())
            .map(u32::from_be_bytes);
        Some((message::text(value(attr::CHAIN_NAME)?).to_owned(), hooked))
    }

    fn rules_are_ours(&self, found: &[Raw]) -> bool {
        let mut expected = rules::rules(self.interface.as_str());
        let found = found.iter().filter_map(|raw| {
            let value = |kind| message::body_attributes(raw.body()).find(|(k, _)| *k == kind).map(|(_, v)| v);
            let own = value(attr::RULE_TABLE).map(message::text) == Some(&self.table);
            let chain = message::text(value(attr::RULE_CHAIN)?).to_owned();
            own.then(|| {
                (
                    chain,
                    value(attr::RULE_USERDATA).and_then(message::comment_text).unwrap_or_default().to_owned(),
                )
            })
        });
        for (chain, comment) in found {
            // Chains are dumped one after the other, each in its order.
            let Some(next) = expected.iter().position(|rule| rule.chain == chain) else { return false };
            if expected.remove(next).comment != comment {
                return false;
            }
        }
        expected.is_empty()
    }
}

/// A table has no flags, above all not the one that it is dormant: then it keeps its rules and none is asked.
fn is_awake(table: &Raw) -> bool {
    let mut flags = message::body_attributes(table.body()).filter(|(kind, _)| *kind == attr::TABLE_FLAGS);
    flags.all(|(_, flags)| flags.iter().all(|byte| *byte == 0))
}

/// The table of an interface: hubs in one network namespace do not share one.
pub(crate) fn table_name(interface: &InterfaceName) -> String {
    format!("{TABLE_PREFIX}{interface}")
}

/// Whether an nf_tables event of this datagram is about the table of an interface, or of one beside it.
pub(crate) fn event_is_about(datagram: &[u8], interface: &InterfaceName) -> bool {
    let is_ours = |table: &str| {
        let name = table.strip_prefix(TABLE_PREFIX);
        name.is_some_and(|name| name == interface.as_str() || interface.port_beside(name).is_some())
    };
    // Attribute 1 is the table in tables, chains, rules, sets and elements alike.
    let about = |body: &[u8]| {
        message::body_attributes(body).any(|(k, v)| k == attr::TABLE_NAME && is_ours(message::text(v)))
    };
    Messages(datagram).filter_map(Result::ok).any(|m| about(m.body()))
}

fn element_v4(net: &Ipv4Net, of: &Ipv6Net) -> Attributes {
    let twice = |address: Ipv4Addr| [address.octets(), address.octets()].concat();
    element(&twice(net.network()), &twice(net.broadcast()))
        .put(attr::ELEMENT_USERDATA, &message::comment(&of.to_string()))
}

fn element_v6(net: &Ipv6Net) -> Attributes {
    let twice = |address: Ipv6Addr| [address.octets(), address.octets()].concat();
    element(&twice(net.network()), &twice(net.broadcast()))
}

fn element(first: &[u8], last: &[u8]) -> Attributes {
    let data = |value| Attributes::new().put(attr::DATA_VALUE, value);
    Attributes::new().nest(attr::ELEMENT_KEY, &data(first)).nest(attr::ELEMENT_KEY_END, &data(last))
}

/// First and last key, and the comment.
type Element = (Vec<u8>, Vec<u8>, Option<String>);

fn read_element(element: &[u8]) -> Element {
    let data = |kind| message::within(element, kind).and_then(|d| message::within(d, attr::DATA_VALUE));
    let bytes = |kind| data(kind).unwrap_or_default().to_vec();
    let comment = message::within(element, attr::ELEMENT_USERDATA).and_then(message::comment_text);
    (bytes(attr::ELEMENT_KEY), bytes(attr::ELEMENT_KEY_END), comment.map(str::to_owned))
}

/// The pairs that two sets of elements mean; `None` if they are not what we write.
fn pairs_of(v4: &[Element], v6: &[Element]) -> Option<BTreeSet<Pair>> {
    let pairs: Option<BTreeSet<Pair>> = v4
        .iter()
        .map(|(first, last, comment)| {
            let IpNet::V4(net) = net_of(first, last)? else { return None };
            Some((net, comment.as_deref()?.parse().ok()?))
        })
        .collect();
    let nets: Option<BTreeSet<IpNet>> = v6.iter().map(|(first, last, _)| net_of(first, last)).collect();
    let named: BTreeSet<IpNet> = pairs.iter().flatten().map(|(_, v6)| IpNet::V6(*v6)).collect();
    pairs.filter(|_| nets.is_some_and(|nets| nets == named))
}

/// The network whose first and last address stand twice in a key and its end.
fn net_of(first: &[u8], last: &[u8]) -> Option<IpNet> {
    let half = first.len() / 2;
    let (low, high) = (first.get(..half)?, last.get(..half)?);
    (first[half..] == *low && last.get(half..)? == high).then_some(())?;
    let differing: u32 = low.iter().zip(high).map(|(a, b)| (a ^ b).count_ones()).sum();
    let prefix = u8::try_from((half * 8).checked_sub(differing as usize)?).ok()?;
    let net = match half {
        4 => IpNet::V4(Ipv4Net::new(<[u8; 4]>::try_from(low).ok()?.into(), prefix).ok()?),
        16 => IpNet::V6(Ipv6Net::new(<[u8; 16]>::try_from(low).ok()?.into(), prefix).ok()?),
        _ => return None,
    };
    let ends = match net {
        IpNet::V4(net) => net.network().octets() == low && net.broadcast().octets() == high,
        IpNet::V6(net) => net.network().octets() == low && net.broadcast().octets() == high,
    };
    ends.then_some(net)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_come_back_as_networks() {
        let check = |first: &[u8], last: &[u8], expect: Option<&str>| {
            assert_eq!(net_of(first, last).map(|n| n.to_string()).as_deref(), expect);
        };
        check(
            &[100, 64, 0, 0, 100, 64, 0, 0],
            &[100, 64, 255, 255, 100, 64, 255, 255],
            Some("100.64.0.0/16"),
        );
        check(&[100, 64, 0, 0, 100, 65, 0, 0], &[100, 64, 255, 255, 100, 65, 255, 255], None);
        check(&[100, 64, 0, 1, 100, 64, 0, 1], &[100, 64, 0, 2, 100, 64, 0, 2], None);
        check(&[], &[], None);
        check(&[1, 2, 3], &[1], None);
    }
}
