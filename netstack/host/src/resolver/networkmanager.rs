//! NetworkManager, as far as it says itself (D-Bus): who resolves for it, and how it writes `/etc/resolv.conf`. It is
//! asked, and never told: it keeps no servers for interfaces that it did not make, and what it is told for the whole
//! machine takes the place of every network's own servers and outlives a crash of ours.

use zbus::Connection;

use super::bus::{BusError, Service};

/// Its name on the bus.
pub(crate) const SERVICE: &str = "org.freedesktop.NetworkManager";
const PATH: &str = "/org/freedesktop/NetworkManager";
/// Where it says what it does for names.
pub(crate) const DNS_PATH: &str = "/org/freedesktop/NetworkManager/DnsManager";
const DNS: &str = "org.freedesktop.NetworkManager.DnsManager";

/// What it does on this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct View {
    /// Its version.
    pub version: String,
    /// Who resolves for it: `default` (the plain file), `dnsmasq`, `systemd-resolved`, `none`.
    pub mode: String,
    /// How it writes the file: `symlink`, `file`, `resolvconf`, `netconfig`, `unmanaged`.
    pub rc_manager: String,
}

/// `None`: it does not run.
pub(crate) async fn view(connection: &Connection) -> Result<Option<View>, BusError> {
    let Some(service) = Service::find(connection, SERVICE).await? else { return Ok(None) };
    Ok(Some(View {
        version: service.property(PATH, SERVICE, "Version").await?,
        mode: service.property(DNS_PATH, DNS, "Mode").await?,
        rc_manager: service.property(DNS_PATH, DNS, "RcManager").await?,
    }))
}
