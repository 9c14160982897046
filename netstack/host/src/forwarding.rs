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

fn v6_of_all() -> PathBuf {
    "/proc/sys/net/ipv6/conf/all/forwarding".into()
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
pub(crate) fn set(interface: &InterfaceName, on: bool) -> Result<(), ForwardingError> {
    write_switch(&v4(interface), on)?;
    let own = v6_of_interface(interface);
    if own.exists() {
        write_switch(&own, on)
    } else if on && v6_of_all().exists() {
        write_switch(&v6_of_all(), on)
    } else {
        Ok(())
    }
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
