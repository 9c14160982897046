//! Who wanted something, and where that came from. Knows not what they may.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use model::DeviceId;
use model::wire::Remark;

/// Who wanted something. Prints as `user:alice`, reads back.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Actor {
    /// A person who logged in.
    User(Remark),
    /// A script with an API token.
    ApiToken(Remark),
    /// A user of the server's own machine.
    Local(Remark),
    /// Somebody on the network who proved nothing yet.
    Network(IpAddr),
    /// A device that proved its identity.
    Device(DeviceId),
    /// The hub on its unix socket.
    Hub,
    /// The server itself.
    Server,
}

impl fmt::Display for Actor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::User(name) => write!(f, "user:{name}"),
            Self::ApiToken(name) => write!(f, "api-token:{name}"),
            Self::Local(name) => write!(f, "local:{name}"),
            Self::Network(address) => write!(f, "network:{address}"),
            Self::Device(id) => write!(f, "device:{id}"),
            Self::Hub => f.write_str("hub"),
            Self::Server => f.write_str("server"),
        }
    }
}

/// Where a request came from: for the audit log alone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Trace {
    /// The address, if it came over the network.
    pub source: Option<IpAddr>,
    /// The id that its answer and the server's log show.
    pub request: Option<String>,
}

/// Who wants something, and where that came from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct By {
    /// Who.
    pub actor: Actor,
    /// From where.
    pub trace: Trace,
}

/// Of somebody who proved nothing, the address is all that is known; others came by no request.
impl From<Actor> for By {
    fn from(actor: Actor) -> Self {
        let source = match actor {
            Actor::Network(address) => Some(address),
            _ => None,
        };
        Self { actor, trace: Trace { source, request: None } }
    }
}

impl fmt::Display for By {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.actor.fmt(f)
    }
}

/// The text names no actor.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} names no actor")]
pub struct BadActor(String);

impl FromStr for Actor {
    type Err = BadActor;
    fn from_str(text: &str) -> Result<Self, BadActor> {
        let bad = || BadActor(text.into());
        Ok(match text.split_once(':') {
            Some(("user", name)) => Self::User(Remark::new(name)),
            Some(("api-token", name)) => Self::ApiToken(Remark::new(name)),
            Some(("local", name)) => Self::Local(Remark::new(name)),
            Some(("network", address)) => Self::Network(address.parse().map_err(|_| bad())?),
            Some(("device", id)) => Self::Device(id.parse().map_err(|_| bad())?),
            None if text == "hub" => Self::Hub,
            None if text == "server" => Self::Server,
            _ => return Err(bad()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn actors_read_back() {
        let actors = [
            Actor::User(Remark::new("alice")),
            Actor::ApiToken(Remark::new("ci: nightly")),
            Actor::Local(Remark::new("root")),
            Actor::Network("2001:db8::1".parse().expect("an address")),
            Actor::Device(DeviceId::from_bytes([7; 16])),
            Actor::Hub,
            Actor::Server,
        ];
        for actor in actors {
            assert_eq!(actor.to_string().parse(), Ok(actor));
        }
        for bad in ["", "nobody", "network:here", "hub:1"] {
            assert!(bad.parse::<Actor>().is_err(), "{bad}");
        }
    }
}
