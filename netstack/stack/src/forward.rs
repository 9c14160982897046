//! What peers reach on this machine: their connections go on to the same port of its own loopback address, where a
//! program without any network of the mesh can listen.

use std::collections::BTreeSet;
use std::fmt;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use tokio::io::copy_bidirectional;
use tokio::net;
use tokio::time::timeout;

use crate::incoming::{Incoming, Knock};

/// A program on this machine takes a connection at once, or is stuck.
const LOCAL_PATIENCE: Duration = Duration::from_secs(5);

/// Which ports of this machine peers reach.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Inbound {
    /// All.
    #[default]
    All,
    /// These.
    Ports(BTreeSet<u16>),
    /// None: every connection is refused.
    None,
}

impl Inbound {
    /// Whether peers reach this port.
    pub fn admits(&self, port: u16) -> bool {
        match self {
            Self::All => true,
            Self::Ports(ports) => ports.contains(&port),
            Self::None => false,
        }
    }
}

/// Not a choice of ports.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("inbound is all, none, or ports with commas between them")]
pub struct BadInbound;

impl FromStr for Inbound {
    type Err = BadInbound;
    fn from_str(text: &str) -> Result<Self, BadInbound> {
        match text {
            "all" => Ok(Self::All),
            "none" => Ok(Self::None),
            ports => ports
                .split(',')
                .map(|port| port.trim().parse().ok().filter(|port| *port != 0).ok_or(BadInbound))
                .collect::<Result<_, _>>()
                .map(Self::Ports),
        }
    }
}

impl fmt::Display for Inbound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::All => f.write_str("all"),
            Self::None => f.write_str("none"),
            Self::Ports(ports) => {
                let texts: Vec<String> = ports.iter().map(u16::to_string).collect();
                f.write_str(&texts.join(","))
            }
        }
    }
}

/// Takes every connection to a port that is admitted and carries it on to the loopback address of the same family, or
/// else to that of the other; refuses it if nobody listens there. Runs until the stack ends. There are never more at
/// once than the stack allows connections.
pub async fn forward(mut incoming: Incoming, admits: impl Fn(u16) -> bool) {
    while let Some(knock) = incoming.next().await {
        if admits(knock.to().port()) {
            tokio::spawn(carry(knock));
        }
    }
}

async fn carry(knock: Knock) {
    let (from, to) = (knock.from(), knock.to());
    let Some(mut local) = connect(to).await else { return };
    match knock.accept().await {
        Ok(mut remote) => {
            if let Err(error) = copy_bidirectional(&mut remote, &mut local).await {
                tracing::debug!(%from, %to, %error, "a connection from the mesh broke");
                // The program here hears of it as its peer does.
                let _ = local.set_zero_linger();
            }
        }
        Err(error) => tracing::debug!(%from, %to, %error, "a connection from the mesh did not come about"),
    }
}

async fn connect(to: SocketAddr) -> Option<net::TcpStream> {
    let (v4, v6) = (Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into());
    let addresses = if to.is_ipv4() { [v4, v6] } else { [v6, v4] };
    for address in addresses {
        let connect = net::TcpStream::connect(SocketAddr::new(address, to.port()));
        if let Ok(Ok(stream)) = timeout(LOCAL_PATIENCE, connect).await {
            // Whoever speaks in small pieces means it.
            let _ = stream.set_nodelay(true);
            return Some(stream);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_all_none_or_a_list() {
        let check = |text: &str, expect: Option<Inbound>| {
            assert_eq!(text.parse::<Inbound>().ok(), expect, "{text:?}");
        };
        check("all", Some(Inbound::All));
        check("none", Some(Inbound::None));
        check("22, 8080", Some(Inbound::Ports([22, 8080].into())));
        for bad in ["", "0", "22,", "any", "70000"] {
            check(bad, None);
        }
        let list: Inbound = "22,80".parse().unwrap();
        assert!(list.admits(80) && !list.admits(81) && Inbound::All.admits(1) && !Inbound::None.admits(1));
        assert_eq!(list.to_string(), "22,80");
    }
}
