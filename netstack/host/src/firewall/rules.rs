//! The rules as data: what may be forwarded over one interface, and what reaches the hub by it. Says it in nf_tables expressions, talks
//! to no kernel.
//!
//! ```text
//! forward (base chain, policy accept: other interfaces are none of our business)
//!    iifname IF jump mesh ; oifname IF jump mesh
//! mesh
//!    iifname != IF drop ; oifname != IF drop          nothing between the mesh and elsewhere
//!    ct state not new, established or related: drop
//!    tcp, udp, icmp, icmpv6: goto tenants ; drop      unknown protocols
//! input (base chain, policy accept)
//!    iifname IF goto own ; iifname lo accept
//!    daddr in a block: drop                           the hub's mesh addresses are for the mesh alone
//! own
//!    ct state established or related: accept ; goto tenants
//! tenants
//!    saddr . daddr in v4 accept ; saddr . daddr in v6 accept ; drop
//! ```
//!
//! What comes in is for an address of this host, so a pair of one tenant there is one of its devices and the hub's own
//! address in it. That a destination is in some block is asked of the same sets: as its own source.
//!
//! A set element per tenant: one look-up however many tenants there are.

use model::Digest;

use super::message::{Attributes, attr, comment};

const REGISTER_VERDICT: u32 = 0;
/// Sixteen bytes from register 8 on.
const REGISTER_1: u32 = 1;
const REGISTER_2: u32 = 2;
/// The second four bytes of register 1.
const REGISTER32_01: u32 = 9;
const META_IIFNAME: u32 = 6;
const META_OIFNAME: u32 = 7;
const META_NFPROTO: u32 = 15;
const META_L4PROTO: u32 = 16;
const PAYLOAD_NETWORK: u32 = 1;
const CT_STATE: u32 = 0;
/// established 2, related 4, new 8. Neither invalid (1) nor untracked (64).
const CT_KNOWN: u32 = 2 | 4 | 8;
const CT_ANSWERS: u32 = 2 | 4;
const NFPROTO_IPV4: u8 = 2;
const NFPROTO_IPV6: u8 = 10;
const IFNAME_BYTES: usize = 16;

/// `NF_INET_LOCAL_IN` and `NF_INET_FORWARD`.
const HOOK_INPUT: u32 = 1;
const HOOK_FORWARD: u32 = 2;
/// The chains in the order in which they are made, and where the base chains hook in.
pub(crate) const CHAINS: [(&str, Option<u32>); 5] = [
    ("forward", Some(HOOK_FORWARD)),
    ("input", Some(HOOK_INPUT)),
    ("mesh", None),
    ("own", None),
    ("tenants", None),
];
/// Pairs of networks of one tenant, by family.
pub(crate) const SET_V4: &str = "v4";
pub(crate) const SET_V6: &str = "v6";

/// A rule: its chain, its expressions, and the comment that tells it from anybody else's.
pub(crate) struct Rule {
    pub(crate) chain: &'static str,
    pub(crate) expressions: Vec<Attributes>,
    pub(crate) comment: String,
}

#[derive(Clone, Copy)]
enum Verdict {
    Accept,
    Drop,
    Jump(&'static str),
    Goto(&'static str),
}

/// All rules for an interface, in order.
pub(crate) fn rules(interface: &str) -> Vec<Rule> {
    let is = |key, equal| [meta(key), compare(equal, &name_bytes(interface))];
    let in_block_v4 = pair_in(SET_V4, NFPROTO_IPV4, (16, REGISTER_1), (16, REGISTER32_01), 4);
    let in_block_v6 = pair_in(SET_V6, NFPROTO_IPV6, (24, REGISTER_1), (24, REGISTER_2), 16);
    let mut rules = vec![
        rule("forward", is(META_IIFNAME, true), Verdict::Jump("mesh")),
        rule("forward", is(META_OIFNAME, true), Verdict::Jump("mesh")),
        rule("input", is(META_IIFNAME, true), Verdict::Goto("own")),
        rule("input", [meta(META_IIFNAME), compare(true, &name_bytes("lo"))], Verdict::Accept),
        rule("input", in_block_v4, Verdict::Drop),
        rule("input", in_block_v6, Verdict::Drop),
        rule("own", [connection_state(), masked(CT_ANSWERS), compare(false, &[0; 4])], Verdict::Accept),
        rule("own", [], Verdict::Goto("tenants")),
        rule("mesh", is(META_IIFNAME, false), Verdict::Drop),
        rule("mesh", is(META_OIFNAME, false), Verdict::Drop),
        rule("mesh", [connection_state(), masked(CT_KNOWN), compare(true, &[0; 4])], Verdict::Drop),
    ];
    for protocol in
        [nix::libc::IPPROTO_TCP, nix::libc::IPPROTO_UDP, nix::libc::IPPROTO_ICMP, nix::libc::IPPROTO_ICMPV6]
    {
        let protocol = u8::try_from(protocol).expect("these protocol numbers are below 256");
        rules.push(rule("mesh", [meta(META_L4PROTO), compare(true, &[protocol])], Verdict::Goto("tenants")));
    }
    rules.push(rule("mesh", [], Verdict::Drop));
    rules.push(rule(
        "tenants",
        pair_in(SET_V4, NFPROTO_IPV4, (12, REGISTER_1), (16, REGISTER32_01), 4),
        Verdict::Accept,
    ));
    rules.push(rule(
        "tenants",
        pair_in(SET_V6, NFPROTO_IPV6, (8, REGISTER_1), (24, REGISTER_2), 16),
        Verdict::Accept,
    ));
    rules.push(rule("tenants", [], Verdict::Drop));
    for (number, rule) in rules.iter_mut().enumerate() {
        let bytes: Vec<&[u8]> = rule.expressions.iter().map(Attributes::bytes).collect();
        let digest = Digest::of("warren firewall rule", &bytes).to_string();
        rule.comment = format!("warren {number} {}", &digest[..16]);
    }
    rules
}

fn rule(chain: &'static str, matches: impl IntoIterator<Item = Attributes>, verdict: Verdict) -> Rule {
    let mut expressions: Vec<_> = matches.into_iter().collect();
    if matches!(verdict, Verdict::Drop) {
        expressions.push(expression("counter", &Attributes::new()));
    }
    expressions.push(immediate(verdict));
    Rule { chain, expressions, comment: String::new() }
}

/// Source and destination of one IP version, each an (offset, register), are a pair in the set.
fn pair_in(
    set: &str,
    family: u8,
    source: (u32, u32),
    destination: (u32, u32),
    bytes: u32,
) -> [Attributes; 5] {
    let look_up = Attributes::new().text(1, set).u32(2, REGISTER_1);
    [
        meta(META_NFPROTO),
        compare(true, &[family]),
        payload(source.0, bytes, source.1),
        payload(destination.0, bytes, destination.1),
        expression("lookup", &look_up),
    ]
}

fn expression(name: &str, data: &Attributes) -> Attributes {
    Attributes::new().text(attr::EXPR_NAME, name).nest(attr::EXPR_DATA, data)
}

fn meta(key: u32) -> Attributes {
    expression("meta", &Attributes::new().u32(1, REGISTER_1).u32(2, key))
}

fn compare(equal: bool, value: &[u8]) -> Attributes {
    let value = Attributes::new().put(attr::DATA_VALUE, value);
    expression("cmp", &Attributes::new().u32(1, REGISTER_1).u32(2, u32::from(!equal)).nest(3, &value))
}

fn payload(offset: u32, bytes: u32, register: u32) -> Attributes {
    let data = Attributes::new().u32(1, register).u32(2, PAYLOAD_NETWORK).u32(3, offset).u32(4, bytes);
    expression("payload", &data)
}

fn connection_state() -> Attributes {
    expression("ct", &Attributes::new().u32(1, REGISTER_1).u32(2, CT_STATE))
}

/// Conntrack's state is a number of this machine's byte order in a register.
fn masked(states: u32) -> Attributes {
    let data = |value: u32| Attributes::new().put(attr::DATA_VALUE, &value.to_ne_bytes());
    let data = Attributes::new()
        .u32(1, REGISTER_1)
        .u32(2, REGISTER_1)
        .u32(3, 4)
        .nest(4, &data(states))
        .nest(5, &data(0));
    expression("bitwise", &data)
}

fn immediate(verdict: Verdict) -> Attributes {
    let (code, chain) = match verdict {
        Verdict::Drop => (0, None),
        Verdict::Accept => (1, None),
        Verdict::Jump(chain) => (-3i32, Some(chain)),
        Verdict::Goto(chain) => (-4, Some(chain)),
    };
    let mut inner = Attributes::new().put(attr::VERDICT_CODE, &code.to_be_bytes());
    if let Some(chain) = chain {
        inner = inner.text(attr::VERDICT_CHAIN, chain);
    }
    let data = Attributes::new().nest(attr::DATA_VERDICT, &inner);
    expression("immediate", &Attributes::new().u32(1, REGISTER_VERDICT).nest(2, &data))
}

fn name_bytes(interface: &str) -> [u8; IFNAME_BYTES] {
    let mut bytes = [0; IFNAME_BYTES];
    bytes[..interface.len()].copy_from_slice(interface.as_bytes());
    bytes
}

/// The user data of a rule.
pub(crate) fn userdata(rule: &Rule) -> Vec<u8> {
    comment(&rule.comment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_chain_ends_in_a_drop_but_the_base_chain() {
        let rules = rules("wg0");
        for chain in ["mesh", "tenants"] {
            let last = rules.iter().rfind(|r| r.chain == chain).unwrap();
            assert_eq!(last.expressions.last(), Some(&immediate(Verdict::Drop)));
            assert_eq!(last.expressions.len(), 2, "unconditional");
        }
    }

    #[test]
    fn what_comes_in_by_the_interface_ends_in_the_tenants_chain() {
        let rules = rules("wg0");
        let of = |chain| rules.iter().filter(move |r| r.chain == chain);
        let first = of("input").next().unwrap();
        assert_eq!(first.expressions.last(), Some(&immediate(Verdict::Goto("own"))));
        let last = of("own").next_back().unwrap();
        assert_eq!(last.expressions, [immediate(Verdict::Goto("tenants"))]);
    }

    #[test]
    fn comments_tell_rules_and_interfaces_apart() {
        let comments = |interface: &str| rules(interface).into_iter().map(|r| r.comment).collect::<Vec<_>>();
        let (a, b) = (comments("wg0"), comments("wg1"));
        let unique: std::collections::BTreeSet<_> = a.iter().collect();
        assert_eq!(unique.len(), a.len());
        assert_ne!(a[0], b[0]);
        assert_eq!(a.last(), b.last(), "the same rule has the same digest");
    }
}
