//! The machine's resolvers as they are written down (`resolv.conf(5)`), ours with them: who it is, the forwarder knows.
//! Writes nothing.

use std::fs;
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::path::{Path, PathBuf};

use dns::forward::Machine;
use model::Name;
use nix::net::if_::if_nametoindex;

use super::conf;
use super::resolved::STUBS;

/// The resolvers that systemd-resolved asks (systemd-resolved.service(8)); its own stub is in the file that all read.
const OF_RESOLVED: &str = "/run/systemd/resolve/resolv.conf";
/// The C library reads three, some programs a few more.
const RESOLVERS_MAX: usize = 8;
const DOMAINS_MAX: usize = 32;
const PORT: u16 = 53;

/// Where they are written down.
#[derive(Debug, Clone)]
pub(crate) struct Places {
    file: PathBuf,
    of_resolved: PathBuf,
}

impl Places {
    /// `file` is the one that every program reads.
    pub(crate) fn new(file: &Path) -> Self {
        Self { file: file.into(), of_resolved: OF_RESOLVED.into() }
    }

    /// What they say now. Where systemd-resolved is asked, whom it asks stands in its place: it may ask us.
    pub(crate) fn read(&self) -> Machine {
        let mut machine = said(&conf::original(&fs::read(&self.file).unwrap_or_default()));
        if machine.resolvers.iter().any(|resolver| STUBS.contains(&resolver.ip())) {
            machine.resolvers.retain(|resolver| !STUBS.contains(&resolver.ip()));
            let of_resolved = said(&fs::read(&self.of_resolved).unwrap_or_default());
            for resolver in of_resolved.resolvers {
                if !machine.resolvers.contains(&resolver) && !STUBS.contains(&resolver.ip()) {
                    machine.resolvers.push(resolver);
                }
            }
        }
        machine
    }
}

fn said(bytes: &[u8]) -> Machine {
    let mut resolvers: Vec<SocketAddr> = conf::written_servers(bytes).filter_map(address).collect();
    resolvers.dedup();
    resolvers.truncate(RESOLVERS_MAX);
    // A top-level domain is nobody's own, whatever a network says.
    let names = conf::said(bytes).search.into_iter().filter_map(|domain| domain.parse().ok());
    let domains: Vec<Name> = names.filter(|name: &Name| name.parent().is_some()).take(DOMAINS_MAX).collect();
    Machine { resolvers, domains }
}

/// `192.0.2.1`, `2001:db8::1` or `fe80::1%eth0`.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, scope) = match text.split_once('%') {
        Some((address, interface)) => {
            (address, if_nametoindex(interface).or_else(|_| number(interface)).ok()?)
        }
        None => (text, 0),
    };
    let address = match address.parse().ok()? {
        IpAddr::V4(four) => SocketAddr::new(four.into(), PORT),
        IpAddr::V6(six) => SocketAddrV6::new(six, PORT, 0, scope).into(),
    };
    (!address.ip().is_unspecified()).then_some(address)
}

/// An interface by its number.
fn number(text: &str) -> Result<u32, nix::errno::Errno> {
    text.parse().map_err(|_| nix::errno::Errno::ENODEV)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(file: &str, of_resolved: &str) -> Vec<String> {
        let directory = tempfile::tempdir().unwrap();
        let places = Places {
            file: directory.path().join("resolv.conf"),
            of_resolved: directory.path().join("resolved"),
        };
        fs::write(&places.file, file).unwrap();
        fs::write(&places.of_resolved, of_resolved).unwrap();
        places.read().resolvers.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn resolvers_are_read_as_the_c_library_does() {
        let text = "# nameserver 192.0.2.9\nnameserver 192.0.2.1\n nameserver 192.0.2.8\nnameserver\t2001:db8::1 x\n\
                    nameservers 192.0.2.7\nnameserver nonsense\nnameserver 0.0.0.0\nnameserver fe80::1%lo\n";
        assert_eq!(read(text, ""), ["192.0.2.1:53", "[2001:db8::1]:53", "[fe80::1%1]:53"]);
        assert_eq!(read("", ""), [""; 0]);
        let domains = said(b"search home.internal lan com corp.example\n").domains;
        assert_eq!(domains, ["home.internal", "corp.example"].map(|name| name.parse().unwrap()));
    }

    #[test]
    fn whom_resolved_asks_stands_in_its_place() {
        let stub = "nameserver 127.0.0.53\nnameserver 192.0.2.1\n";
        assert_eq!(
            read(stub, "nameserver 192.0.2.2\nnameserver 192.0.2.1\n"),
            ["192.0.2.1:53", "192.0.2.2:53"]
        );
        assert_eq!(read(stub, "nameserver 127.0.0.53\n"), ["192.0.2.1:53"]);
        assert_eq!(
            read("nameserver 127.0.0.1\n", "nameserver 192.0.2.2\n"),
            ["127.0.0.1:53"],
            "another resolver of this machine"
        );
    }
}
