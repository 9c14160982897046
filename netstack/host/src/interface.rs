//! The name of a network interface, and no other text.

use std::fmt;
use std::str::FromStr;

/// `IFNAMSIZ` without the final NUL.
const INTERFACE_NAME_BYTES_MAX: usize = 15;
/// A hyphen and a port.
const BESIDE_BYTES_MAX: usize = 6;

/// 1 to 15 letters, digits, `-`, `_` or `.`, beginning with a letter: what the kernel, nft, resolvectl and
/// `/proc/sys` all take, and never an option, a path or an alias.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct InterfaceName(Box<str>);

/// Not an interface name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "an interface name is 1 to 15 letters, digits, hyphens, underscores or dots and begins with a letter"
)]
pub struct BadInterfaceName;

impl InterfaceName {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The interface of a tenant's own beside this one, which tenants share: `wg0-51821`. Two on one machine differ as their ports do,
    /// whatever is cut off of this name.
    #[must_use]
    pub(crate) fn beside(&self, port: u16) -> Self {
        let begin: String = self.0.chars().take(INTERFACE_NAME_BYTES_MAX - BESIDE_BYTES_MAX).collect();
        Self(format!("{begin}-{port}").into())
    }

    /// The port of an interface beside this one, if the name is that of one.
    pub(crate) fn port_beside(&self, name: &str) -> Option<u16> {
        let port = name.rsplit_once('-')?.1.parse().ok()?;
        (self.beside(port).as_str() == name).then_some(port)
    }
}

impl FromStr for InterfaceName {
    type Err = BadInterfaceName;
    fn from_str(text: &str) -> Result<Self, BadInterfaceName> {
        let good = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        let fits = (1..=INTERFACE_NAME_BYTES_MAX).contains(&text.len());
        let begins = text.starts_with(|c: char| c.is_ascii_alphabetic());
        // `all` and `default` are directories of their own under /proc/sys/net.
        let reserved = matches!(text, "all" | "default" | "lo");
        if fits && begins && !reserved && text.bytes().all(good) {
            Ok(Self(text.into()))
        } else {
            Err(BadInterfaceName)
        }
    }
}

impl fmt::Display for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for InterfaceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_beside_another_is_known_by_its_name() {
        let name = |text: &str| text.parse::<InterfaceName>().unwrap();
        let check = |shared: &str, port, expect: &str| {
            assert_eq!(name(shared).beside(port), name(expect));
            assert_eq!(name(shared).port_beside(expect), Some(port));
        };
        check("wg0", 51_821, "wg0-51821");
        check("wg0", 1024, "wg0-1024");
        check("wireguard-hub-1", 65_535, "wireguard-65535");
        for other in ["wg0", "wg1-51821", "wg0-", "wg0-051821", "wg0-70000", "wg0-x", "wg0-51821-1"] {
            assert_eq!(name("wg0").port_beside(other), None, "{other}");
        }
    }

    #[test]
    fn names_are_neither_paths_nor_options() {
        for good in ["wg0", "warren0", "a", "wg-home.1"] {
            assert_eq!(good.parse::<InterfaceName>().map(|n| n.to_string()), Ok(good.into()));
        }
        for bad in ["", "-f", "../x", "a/b", "a b", "wg0\n", "all", "default", "lo", "0123456789abcdef", "é"]
        {
            assert_eq!(bad.parse::<InterfaceName>(), Err(BadInterfaceName), "{bad:?}");
        }
    }
}
