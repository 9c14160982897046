//! Kinds of NAT that a router of a [`World`] may have (RFC 4787: mapping, section 4.1; filtering, section 5), by rules of
//! nftables.

use crate::world::World;

/// What a router does to the UDP of who is behind it.
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
}

impl Nat {
    /// All kinds.
    pub const ALL: [Self; 6] = [
        Self::Static,
        Self::FullCone,
        Self::AddressRestricted,
        Self::PortRestricted,
        Self::Symmetric,
        Self::Closed,
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
        }
    }

    /// Whether two devices must find a direct path. Between a symmetric NAT and one that wants to know the port, only luck
    /// finds one, and is not asked for.
    pub fn meets(self, other: Self) -> bool {
        match if self <= other { (self, other) } else { (other, self) } {
            (_, Self::Closed) | (Self::PortRestricted | Self::Symmetric, Self::Symmetric) => false,
            (Self::Closed, _) => unreachable!("the larger one comes second"),
            _ => true,
        }
    }

    /// Tables of one name add up.
    fn rules(self) -> String {
        let parts: &[&str] = match self {
            Self::Static => &[MASQUERADE, ALL_IN],
            Self::FullCone => &[MASQUERADE, LEARN, FULL_CONE],
            Self::AddressRestricted => &[MASQUERADE, LEARN, ADDRESS_RESTRICTED],
            Self::PortRestricted => &[MASQUERADE],
            Self::Symmetric => &[SYMMETRIC],
            Self::Closed => &[MASQUERADE, NO_UDP],
        };
        parts.concat()
    }
}

impl World {
    /// From now on a router (`r-alpha`) is of this kind, and knows no connection of before.
    pub fn set_nat(&self, router: &str, nat: Nat) {
        let router = self.beside(router);
        router.ok(&["nft", "flush table ip nat"]);
        router.ok(&["nft", &nat.rules()]);
        router.ok(&["conntrack", "-F"]);
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
                assert_eq!(one.meets(other), other.meets(one));
            }
        }
        let meeting = Nat::ALL.iter().filter(|nat| nat.meets(Nat::Symmetric)).count();
        assert_eq!(meeting, 3, "those that let in whom they know by address at most");
    }
}
