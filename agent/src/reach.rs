//! Connections to devices by name, in every mode: through the machine's own stack, or the one in this process. Knows
//! neither proxies nor the agent's socket.

use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use model::{Code, Refusal, Zone};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::lookup;
use crate::profile::Profile;
use crate::view;

/// A connection, whatever carries it.
pub trait Duplex: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Duplex for T {}

/// An open connection.
pub struct Reached {
    /// The mesh address that it goes to.
    pub address: SocketAddr,
    /// The connection.
    pub stream: Box<dyn Duplex>,
}

/// The names and addresses of a profile's mesh, while this device takes part in it.
pub async fn zone(profile: &Profile) -> Result<Arc<Zone>, Refusal> {
    let report = profile.report().await?;
    match view::active(&report) {
        Some(tenant) => profile.zone(tenant.held.version).await,
        None => Err(view::inactive(&report)),
    }
}

/// Connects to a device of a profile's mesh, by name in its zone or by mesh address.
pub async fn device(
    profile: &Profile,
    target: &str,
    port: u16,
    patience: Duration,
) -> Result<Reached, Refusal> {
    let zone = zone(profile).await?;
    let found = lookup::find(&zone, target)?;
    let address = SocketAddr::new(found.address, port);
    let connect = connect(profile, address);
    let stream = match timeout(patience, connect).await {
        Ok(result) => result.map_err(|error| refusal(&found.name, port, &error))?,
        Err(_) => return Err(refusal(&found.name, port, &io::ErrorKind::TimedOut.into())),
    };
    Ok(Reached { address, stream })
}

async fn connect(profile: &Profile, to: SocketAddr) -> io::Result<Box<dyn Duplex>> {
    match profile.stack() {
        None => machine(to).await,
        Some(stack) if !stack.addresses().contains(&to.ip()) => Ok(Box::new(stack.connect(to).await?)),
        // This device itself, where nothing listens on the mesh address: as others reach it.
        Some(_) if profile.settings().admits(to.port()) => {
            machine(SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), to.port())).await
        }
        Some(_) => Err(io::ErrorKind::ConnectionRefused.into()),
    }
}

/// Connects by this machine's own stack.
pub async fn machine(to: SocketAddr) -> io::Result<Box<dyn Duplex>> {
    let stream = TcpStream::connect(to).await?;
    // Whoever speaks in small pieces means it.
    let _ = stream.set_nodelay(true);
    Ok(Box::new(stream))
}

/// What a connection that did not come about is called.
pub fn refusal(target: &str, port: u16, error: &io::Error) -> Refusal {
    let (code, what) = match error.kind() {
        io::ErrorKind::ConnectionRefused => (Code::ConnectionRefused, "refuses the connection".to_owned()),
        io::ErrorKind::TimedOut => (Code::ConnectionTimedOut, "does not answer in time".to_owned()),
        io::ErrorKind::QuotaExceeded => (Code::QuotaReached, error.to_string()),
        _ => (Code::HostFailed, format!("cannot be reached: {error}")),
    };
    Refusal::new(code, format!("{target} port {port} {what}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_have_the_codes_of_what_a_person_can_do() {
        let check = |kind: io::ErrorKind, code| {
            let refusal = refusal("beta.home.internal", 22, &kind.into());
            assert_eq!(refusal.code, code);
            assert!(refusal.detail.starts_with("beta.home.internal port 22 "), "{}", refusal.detail);
        };
        check(io::ErrorKind::ConnectionRefused, Code::ConnectionRefused);
        check(io::ErrorKind::TimedOut, Code::ConnectionTimedOut);
        check(io::ErrorKind::QuotaExceeded, Code::QuotaReached);
        check(io::ErrorKind::NetworkUnreachable, Code::HostFailed);
    }
}
