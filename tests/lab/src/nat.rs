//! How the internet reaches a device of a [`World`]: kinds of NAT that its router may have (RFC 4787: mapping, section 4.1;
//! filtering, section 5), by rules of nftables, a second NAT behind it, a firewall on the device, IPv6.

use std::process::Command;

use crate::node::Node;
use crate::world::World;

/// What is between a device and the internet: what its router does to UDP, unless it says something else.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Nat {
    /// Everything that comes to the router's address goes to the first device behind it.
    Static,
    /// One port for each of the inside; whoever knows it may use it.
    FullCone,
    /// One port for each of the inside, for those whose address was sent something.
    AddressRestricted,
    /// One port for each of the inside, for those whose address and port was sent something. As `scripts/lib/topology`
    /// makes routers.
    PortRestricted,
    /// Another port for each whom the inside talks to.
    Symmetric,
    /// None gets through; TCP does.
    Closed,
    /// Two NATs, the outer one the provider's (RFC 6888); both as [`Self::PortRestricted`].
    CarrierGrade,
    /// As [`Self::Static`], but the device itself drops what it did not ask for.
    Firewalled,
    /// IPv6 alone, whose router lets out all and in what was asked for (RFC 6092).
    Six,
    /// Both families, each as above.
    Dual,
}

impl Nat {
    /// All kinds.
    pub const ALL: [Self; 10] = [
        Self::Static,
        Self::FullCone,
        Self::AddressRestricted,
        Self::PortRestricted,
        Self::Symmetric,
        Self::Closed,
        Self::CarrierGrade,
        Self::Firewalled,
        Self::Six,
        Self::Dual,
    ];

    /// A name for a device behind it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::FullCone => "full",
            Self::AddressRestricted => "address",
            Self::PortRestricted => "port",
            Self::Symmetric => "symmetric",
            Self::Closed => "closed",
            Self::CarrierGrade => "carrier",
            Self::Firewalled => "firewalled",
            Self::Six => "six",
            Self::Dual => "dual",
        }
    }

    /// Whether two devices must find a direct path soon. Between a symmetric NAT and one that wants to know the port, [only
    /// luck](Self::may_meet) finds one, and takes its time.
    pub fn meets(self, other: Self) -> bool {
        self.has_v6() && other.has_v6()
            || self.has_udp_over_v4() && other.has_udp_over_v4() && !self.hides(other) && !other.hides(self)
    }

    /// Whether they find one by many sockets and many guesses, if at all: not where both are symmetric.
    pub fn may_meet(self, other: Self) -> bool {
        self.meets(other)
            || self != other
                && other.has_udp_over_v4()
                && self.has_udp_over_v4()
                && (self.hides(other) || other.hides(self))
    }

    fn hides(self, other: Self) -> bool {
        self == Self::Symmetric && other.wants_to_know_the_port()
    }

    /// Whether the server and others are reached over IPv6.
    pub const fn has_v6(self) -> bool {
        matches!(self, Self::Six | Self::Dual)
    }

    const fn has_udp_over_v4(self) -> bool {
        !matches!(self, Self::Closed | Self::Six)
    }

    const fn wants_to_know_the_port(self) -> bool {
        matches!(
            self,
            Self::PortRestricted | Self::Symmetric | Self::CarrierGrade | Self::Firewalled | Self::Dual
        )
    }

    /// Tables of one name add up.
    fn rules(self) -> String {
        let parts: &[&str] = match self {
            Self::Static | Self::Firewalled => &[MASQUERADE, ALL_IN],
            Self::FullCone => &[MASQUERADE, LEARN, FULL_CONE],
            Self::AddressRestricted => &[MASQUERADE, LEARN, ADDRESS_RESTRICTED],
            Self::PortRestricted | Self::CarrierGrade | Self::Six | Self::Dual => &[MASQUERADE],
            Self::Symmetric => &[SYMMETRIC],
            Self::Closed => &[MASQUERADE, NO_UDP],
        };
        parts.concat()
    }
}

/// Where the server is over IPv6.
pub const SERVER_V6: &str = "2001:db8::1";

impl World {
    /// From now on a router (`r-alpha`) is of this kind, and knows no connection of before.
    pub fn set_nat(&self, router: &str, nat: Nat) {
        let router = self.beside(router);
        router.ok(&["nft", "flush table ip nat"]);
        router.ok(&["nft", &nat.rules()]);
        router.ok(&["conntrack", "-F"]);
    }

    /// Nothing passes between who is behind a router and an address of the internet.
    pub fn block(&self, router: &str, address: &str) {
        let rule = |side: &str| format!("ip {side} {address} drop\n");
        let rules = ["saddr", "daddr"].map(rule).concat();
        let chain = format!("chain through {{\ntype filter hook forward priority 0;\n{rules}}}");
        self.beside(router).ok(&["nft", &format!("table ip block {{\n{chain}\n}}")]);
    }

    /// Undoes [`Self::block`].
    pub fn unblock(&self, router: &str) {
        self.beside(router).ok(&["nft", "delete table ip block"]);
    }

    /// Puts each of these devices, alone behind a router of its name, behind what its kind says. Once, before anything runs.
    pub fn place(&self, devices: &[(&str, Nat)]) {
        for (device, nat) in devices {
            self.set_nat(&format!("r-{device}"), *nat);
            match nat {
                Nat::CarrierGrade => self.put_behind_carrier(device),
                Nat::Firewalled => drop(self.beside(device).ok(&["nft", FIREWALL])),
                Nat::Six => {
                    self.beside(device).ok(&["ip", "-4", "address", "flush", "dev", "eth0"]);
                }
                _ => {}
            }
        }
        self.beside("server").ok(&["ip", "address", "add", "2001:db8::1/64", "dev", "wan", "nodad"]);
        let with_v6: Vec<&str> =
            devices.iter().filter(|(_, nat)| nat.has_v6()).map(|(name, _)| *name).collect();
        for (at, device) in with_v6.iter().enumerate() {
            self.give_v6(device, at + 1);
        }
        for (at, device) in with_v6.iter().enumerate() {
            let others = with_v6.iter().filter(|other| *other != device).map(|other| format!("r-{other}"));
            for knows in others.chain(["server".to_owned()]) {
                let (net, via) = (format!("2001:db8:{}::/64", at + 1), format!("2001:db8::{}0", at + 1));
                self.beside(&knows).ok(&["ip", "route", "add", &net, "via", &via, "dev", "wan"]);
            }
        }
    }

    /// The network of a number behind a device's router.
    fn give_v6(&self, device: &str, number: usize) {
        let router = self.beside(&format!("r-{device}"));
        router.ok(&["sysctl", "-qw", "net.ipv6.conf.all.forwarding=1"]);
        router.ok(&["nft", STATEFUL_V6]);
        let add = |wire: &str, address: String| {
            router.ok(&["ip", "address", "add", &address, "dev", wire, "nodad"]);
        };
        add("wan", format!("2001:db8::{number}0/64"));
        add("lan", format!("2001:db8:{number}::1/64"));
        let device = self.beside(device);
        let own = format!("2001:db8:{number}::2/64");
        device.ok(&["ip", "address", "add", &own, "dev", "eth0", "nodad"]);
        device.ok(&["ip", "route", "add", "default", "via", &format!("2001:db8:{number}::1")]);
    }

    /// A router of the provider comes between a device's router and the internet, and takes its address there.
    fn put_behind_carrier(&self, device: &str) {
        let of_world = |name: &str| format!("{}-{name}", self.prefix());
        let (carrier, wire) = (format!("c-{device}"), format!("p-r-{device}"));
        let host = self.beside("inet");
        let run = |node: &Node, command: &str| drop(node.ok(&command.split(' ').collect::<Vec<_>>()));
        // Not inside another one, whose mounts nobody else sees.
        let made = Command::new("ip").args(["netns", "add", &of_world(&carrier)]).status();
        assert!(made.is_ok_and(|status| status.success()), "a namespace for the provider's router");
        run(&host, &format!("ip link set {wire} nomaster"));
        run(&host, &format!("ip link set {wire} netns {}", of_world(&carrier)));
        let router = self.beside(&format!("r-{device}"));
        let shown = router.ok(&["ip", "-4", "-brief", "address", "show", "wan"]);
        let public = shown.split_whitespace().last().expect("an address on the wan").to_owned();
        run(&router, "ip -4 address flush dev wan");
        run(&router, "ip address add 100.64.0.2/24 dev wan");
        run(&router, "ip route add default via 100.64.0.1");
        let carrier = self.beside(&carrier);
        run(&carrier, &format!("ip link set {wire} name lan"));
        run(&carrier, &format!("ip link add wan type veth peer name {wire} netns {}", of_world("inet")));
        run(&host, &format!("ip link set {wire} master br0 up"));
        for link in ["lo", "lan", "wan"] {
            run(&carrier, &format!("ip link set {link} up"));
        }
        run(&carrier, "ip address add 100.64.0.1/24 dev lan");
        run(&carrier, &format!("ip address add {public} dev wan"));
        run(&carrier, "sysctl -qw net.ipv4.ip_forward=1");
        carrier.ok(&["nft", &[MASQUERADE, NOTHING_IN].concat()]);
    }

    /// The devices behind a router do not see each other any more, but by its address in the internet, if it `hairpins`
    /// (RFC 4787, section 6).
    pub fn isolate(&self, router: &str, devices: &[&str], hairpins: bool) {
        let node = self.beside(router);
        for device in devices {
            node.ok(&["bridge", "link", "set", "dev", &format!("p-{device}"), "isolated", "on"]);
        }
        if hairpins {
            self.set_nat(router, Nat::FullCone);
            let shown = node.ok(&["ip", "-4", "-brief", "address", "show", "wan"]);
            let public = shown.split_whitespace().last().and_then(|net| net.split('/').next());
            node.ok(&["nft", &HAIRPIN.replace("PUBLIC", public.expect("an address on the wan"))]);
        }
    }
}

const MASQUERADE: &str = r#"
table ip nat {
    chain post {
        type nat hook postrouting priority srcnat;
        oifname "wan" masquerade
    }
}"#;

const SYMMETRIC: &str = r#"
table ip nat {
    chain post {
        type nat hook postrouting priority srcnat;
        oifname "wan" masquerade random,fully-random
    }
}"#;

const ALL_IN: &str = r#"
table ip nat {
    chain pre {
        type nat hook prerouting priority dstnat;
        iifname "wan" meta l4proto udp dnat to 192.168.1.2
    }
}"#;

/// Notes who has which port, and whom each wrote to.
const LEARN: &str = r#"
table ip nat {
    map inside {
        type inet_service : ipv4_addr
        flags dynamic,timeout
        timeout 60s
    }
    set known {
        type inet_service . ipv4_addr
        flags dynamic,timeout
        timeout 60s
    }
    chain learn {
        type filter hook postrouting priority 110;
        oifname "wan" meta l4proto udp update @inside { ct reply proto-dst : ct original ip saddr }
        oifname "wan" meta l4proto udp update @known { ct reply proto-dst . ip daddr }
    }
}"#;

const FULL_CONE: &str = r#"
table ip nat {
    chain pre {
        type nat hook prerouting priority dstnat;
        iifname "wan" meta l4proto udp dnat to udp dport map @inside
    }
}"#;

const ADDRESS_RESTRICTED: &str = r#"
table ip nat {
    chain pre {
        type nat hook prerouting priority dstnat;
        iifname "wan" meta l4proto udp udp dport . ip saddr @known dnat to udp dport map @inside
    }
}"#;

const HAIRPIN: &str = r#"
table ip nat {
    chain hairpin {
        type nat hook prerouting priority dstnat;
        iifname "lan" ip daddr PUBLIC meta l4proto udp dnat to udp dport map @inside
    }
    chain back {
        type nat hook postrouting priority 90;
        iifname "lan" oifname "lan" ct status dnat snat to PUBLIC
    }
}"#;

const NOTHING_IN: &str = r#"
table ip filter {
    chain in {
        type filter hook input priority filter;
        iifname "wan" ct state new drop
    }
}"#;

/// On a device: pings and what was asked for come in.
const FIREWALL: &str = r#"
table inet own {
    chain in {
        type filter hook input priority filter; policy drop;
        iifname != "eth0" accept
        ct state established,related accept
        meta l4proto { icmp, ipv6-icmp } accept
    }
}"#;

const STATEFUL_V6: &str = r#"
table ip6 filter {
    chain through {
        type filter hook forward priority filter; policy drop;
        ct state established,related accept
        iifname "lan" accept
    }
}"#;

const NO_UDP: &str = r#"
table ip nat {
    chain no_udp {
        type filter hook forward priority 0;
        meta l4proto udp drop
    }
}"#;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_meets_whom_does_not_depend_on_who_asks() {
        for one in Nat::ALL {
            for other in Nat::ALL {
                assert_eq!((one.meets(other), one.may_meet(other)), (other.meets(one), other.may_meet(one)));
            }
        }
        let meeting = |nat: Nat| Nat::ALL.into_iter().filter(|other| nat.meets(*other)).count();
        assert_eq!(meeting(Nat::Symmetric), 3, "those that let in whom they know by address at most");
        let lucky = Nat::ALL.into_iter().filter(|other| Nat::Symmetric.may_meet(*other)).count();
        assert_eq!(lucky, 7, "all but itself, who has no UDP, and who has IPv6 alone");
        assert_eq!(meeting(Nat::Closed), 0);
        assert_eq!(meeting(Nat::Six), 2, "those with IPv6");
        assert_eq!(meeting(Nat::Dual), Nat::ALL.len() - 2, "all but who has no UDP, and the symmetric one");
    }
}
