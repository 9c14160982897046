//! Packet forwarding of one interface, by `/proc/sys/net` (`ip-sysctl`), which needs CAP_NET_ADMIN and no root.
//! Switches on and reads; never off for others.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::interface::InterfaceName;

/// Why forwarding could not be read or set.
#[derive(Debug, thiserror::Error)]
#[error("{}", path.display())]
pub struct ForwardingError {
    path: PathBuf,
    #[source]
    source: io::Error,
}

fn v4(interface: &InterfaceName) -> PathBuf {
    format!("/proc/sys/net/ipv4/conf/{interface}/forwarding").into()
}

/// From Linux 6.17 on, an interface can forward IPv6 without making a router of the whole machine.
fn v6_of_interface(interface: &InterfaceName) -> PathBuf {
    format!("/proc/sys/net/ipv6/conf/{interface}/force_forwarding").into()
}

const V6: &str = "/proc/sys/net/ipv6/conf";
const ALL: &str = "all/forwarding";

fn v6_of_all() -> PathBuf {
    Path::new(V6).join(ALL)
}

/// Whether packets that come in by the interface are forwarded, in both families (in IPv4 alone where the
/// kernel has no IPv6).
pub(crate) fn read(interface: &InterfaceName) -> Result<bool, ForwardingError> {
    let v6 = match read_switch(&v6_of_interface(interface))? {
        Some(true) => true,
        Some(false) | None => read_switch(&v6_of_all())?.unwrap_or(true),
    };
    Ok(v6 && read_switch(&v4(interface))?.unwrap_or(false))
}

/// Switches forwarding on for what comes in by the interface; off only where that touches nobody else.
///
/// Before Linux 6.17 IPv6 knows one switch alone: `net.ipv6.conf.all.forwarding`, which makes a router of the whole
/// machine. A router takes no router advertisement, so wherever one was taken (`accept_ra` 1) it is taken
/// nevertheless from then on (2): the machine keeps the addresses and the default route that it has by SLAAC.
pub(crate) fn set(interface: &InterfaceName, on: bool) -> Result<(), ForwardingError> {
    write_switch(&v4(interface), on)?;
    let own = v6_of_interface(interface);
    if own.exists() {
        write_switch(&own, on)
    } else if on && v6_of_all().exists() {
        make_router_of_all(Path::new(V6))
    } else {
        Ok(())
    }
}

fn make_router_of_all(switches: &Path) -> Result<(), ForwardingError> {
    let error = |source| ForwardingError { path: switches.into(), source };
    for entry in fs::read_dir(switches).map_err(error)? {
        // With `default` among them, so that interfaces to come are no exception.
        let accept = entry.map_err(error)?.path().join("accept_ra");
        if read_switch(&accept)? == Some(true) {
            match fs::write(&accept, "2") {
                Err(source) if accept.exists() => return Err(ForwardingError { path: accept, source }),
                // The interface went away meanwhile.
                _ => {}
            }
        }
    }
    write_switch(&switches.join(ALL), true)
}

fn read_switch(path: &Path) -> Result<Option<bool>, ForwardingError> {
    match fs::read(path) {
        Ok(text) => Ok(Some(text.first() == Some(&b'1'))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(source) => Err(ForwardingError { path: path.into(), source }),
    }
}

fn write_switch(path: &Path, on: bool) -> Result<(), ForwardingError> {
    fs::write(path, if on { "1" } else { "0" })
        .map_err(|source| ForwardingError { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_router_goes_on_taking_the_advertisements_that_it_took() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        for (interface, accept) in
            [("all", "1"), ("default", "1"), ("eth0", "1"), ("eth1", "0"), ("eth2", "2")]
        {
            fs::create_dir(at(interface)).unwrap();
            fs::write(at(interface).join("forwarding"), "0\n").unwrap();
            fs::write(at(interface).join("accept_ra"), format!("{accept}\n")).unwrap();
        }
        fs::create_dir(at("eth3")).unwrap();
        make_router_of_all(directory.path()).unwrap();
        let is = |file: &str, expect: &str| {
            assert_eq!(fs::read_to_string(at(file)).unwrap().trim(), expect, "{file}");
        };
        is("all/forwarding", "1");
        is("default/accept_ra", "2");
        is("eth0/accept_ra", "2");
        is("eth1/accept_ra", "0");
        is("eth2/accept_ra", "2");
    }
}
