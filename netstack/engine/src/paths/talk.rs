//! What the paths are told and what they want: plain data, between the shell, the engine and people. Decides nothing.

use std::fmt;
use std::net::SocketAddr;
use std::time::Duration;

use model::relay::{RelayPass, RelayPlace};
use model::{AnchorKey, DeviceId, Endpoint, PublicKey, Signed};

use super::address::CandidateKind;
use super::side::{SideId, real};

/// How often the bytes of a peer are told whose direct path carries packets: by twice that its silence is noticed.
pub const CLOSE_COUNT_INTERVAL: Duration = Duration::from_millis(50);

/// So many datagrams that may be probes the shell takes in each second at least: a thousand peers that are looked for at once send as
/// many.
pub const PROBES_PER_SECOND_MAX: u32 = 5_000;

/// Which relay, as the snapshot numbers them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct RelayId(pub u32);

impl RelayId {
    /// The server itself, over the link.
    pub const SERVER: Self = Self(0);
}

/// A relay that is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectedRelay {
    /// Which.
    pub id: RelayId,
    /// To it and back, if that was measured.
    pub round_trip: Option<Duration>,
}

/// How packets go to a peer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// Over UDP to this address; of one that is a [place](super::place), over a side socket.
    Direct(SocketAddr),
    /// Over a relay, which cannot read them.
    Relayed(RelayId),
    /// Through the tunnel to the hub, which can.
    ViaHub,
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Direct(address) => write!(f, "direct {}", real(*address)),
            Self::Relayed(_) => f.write_str("relayed"),
            Self::ViaHub => f.write_str("via hub"),
        }
    }
}

/// Why packets to a peer do not go directly.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhyNotDirect {
    /// Nobody talks to it.
    NoTraffic,
    /// No answer comes to this device over UDP.
    NoUdpHere,
    /// No answer comes to the peer over UDP.
    NoUdpThere,
    /// None of its addresses answered, and no server of STUN said where this device may be reached.
    NoStun,
    /// The peer has not said where it may be reached: it is off, or was not told about us yet.
    NoHint,
    /// Both are behind NATs that give each pair of addresses another port.
    BothSymmetric,
    /// One is behind a NAT that gives each pair of addresses another port, and none of the addresses answered: the other side
    /// lets in only whom it wrote to.
    OneSymmetric,
    /// It is being tried.
    Searching,
    /// An address answers, and packets of full size do not come through to it.
    Narrow,
    /// None of its addresses answered.
    NoAnswer {
        /// So many were tried.
        addresses: usize,
    },
}

impl fmt::Display for WhyNotDirect {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoTraffic => f.write_str("no traffic"),
            Self::NoUdpHere => f.write_str("UDP is blocked here"),
            Self::NoUdpThere => f.write_str("UDP is blocked at the peer"),
            Self::NoHint => f.write_str("the peer has not said where it is"),
            Self::NoStun => f.write_str("STUN does not answer"),
            Self::BothSymmetric => f.write_str("both NATs are symmetric"),
            Self::OneSymmetric => {
                f.write_str("one NAT is symmetric and the other side lets in only whom it wrote to")
            }
            Self::Searching => f.write_str("searching"),
            Self::Narrow => f.write_str("long packets do not come through"),
            Self::NoAnswer { addresses } => write!(f, "none of {addresses} addresses answers"),
        }
    }
}

/// What the shell tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathInput {
    /// This device is a peer from now on, or is none any more.
    Peer {
        /// Its key.
        key: PublicKey,
        /// `None`: it is none any more.
        device: Option<DeviceId>,
    },
    /// The addresses of the machine's interfaces but ours, with the port of WireGuard's socket.
    Interfaces(Vec<SocketAddr>),
    /// What the router opened for us, when asked; `None` when it closed it.
    Mapped(Option<SocketAddr>),
    /// Where STUN is answered (RFC 8489).
    StunServers(Vec<SocketAddr>),
    /// The machine is on another network, or woke up.
    Moved,
    /// The relays that are connected, the nearest first.
    Relays(Vec<ConnectedRelay>),
    /// A datagram at WireGuard's socket that is not WireGuard's.
    Datagram {
        /// Its source.
        from: SocketAddr,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// A datagram over a relay that is not WireGuard's.
    Relayed {
        /// Which relay.
        relay: RelayId,
        /// From whom, as the relay says.
        from: DeviceId,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// What came to the [socket that is tried](PathOutput::Try).
    Tried {
        /// Its source.
        from: SocketAddr,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// A datagram at a [side socket](PathOutput::OpenSides) that is not WireGuard's.
    Sided {
        /// Which.
        side: SideId,
        /// Its source.
        from: SocketAddr,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// The side sockets that were wished for could not be opened, and there are none.
    SidesFailed(PublicKey),
    /// Whether side sockets can be opened, and ports be guessed for peers that did. At the beginning they cannot.
    Birthdays {
        /// They can.
        on: bool,
    },
    /// A hint that came over the link.
    Hinted {
        /// From whom, as the server says.
        from: DeviceId,
        /// As it was given.
        sealed: Vec<u8>,
    },
    /// A packet for a peer went over a relay, or found no way.
    Wanted(PublicKey),
    /// Whether the bytes of a peer can be told [closely](PathOutput::Closely). The kernel is asked for them too seldom. At the
    /// beginning they can.
    Counts {
        /// They can.
        closely: bool,
    },
    /// Bytes sent to and received from a peer over WireGuard so far, for a peer that is [watched](PathOutput::Watch).
    Counted {
        /// Which.
        peer: PublicKey,
        /// Bytes.
        sent: u64,
        /// Bytes.
        received: u64,
    },
}

/// What the shell does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathOutput {
    /// Send this from WireGuard's socket, or from a side socket if the address is a [place](super::place).
    Probe {
        /// Where to.
        to: SocketAddr,
        /// 66 bytes, as many as a packet of full size has in WireGuard, or a STUN request.
        bytes: Vec<u8>,
    },
    /// Send this from one of two sockets that serve for nothing else, and tell what comes to the first of them.
    Try {
        /// From that one, or from the other.
        quiet: bool,
        /// Where to.
        to: SocketAddr,
        /// A STUN request.
        bytes: Vec<u8>,
    },
    /// Open UDP sockets over IPv4, each with a port of its own, and tell what comes to them: of WireGuard to it, the rest as
    /// [`PathInput::Sided`].
    OpenSides {
        /// For whom.
        peer: PublicKey,
        /// The number of the first; the others count on, and begin anew after the last number.
        first: SideId,
        /// How many.
        count: u16,
    },
    /// Close the side sockets of this peer.
    CloseSides {
        /// Whose.
        peer: PublicKey,
        /// This one stays.
        but: Option<SideId>,
    },
    /// Send this over a relay.
    Relay {
        /// Which.
        relay: RelayId,
        /// To whom.
        to: DeviceId,
        /// 66 bytes.
        bytes: Vec<u8>,
    },
    /// Send this over the link, or over every relay while there is no link.
    Hint {
        /// To whom.
        to: DeviceId,
        /// At most [`model::limits::HINT_BYTES_MAX`].
        sealed: Vec<u8>,
        /// Send it over every relay in any case: the link may be dead.
        over_relays: bool,
    },
    /// Send the peer's packets this way from now on.
    Steer {
        /// Which.
        peer: PublicKey,
        /// How.
        way: Way,
    },
    /// Nobody knows whether the direct path to this peer still lives: send its packets over this relay as well, until it is said
    /// anew. `None`: no longer. It holds while the peer is steered directly.
    Double {
        /// Which.
        peer: PublicKey,
        /// Over which.
        over: Option<RelayId>,
    },
    /// Nobody knows which relay reaches this peer: send its packets over every one that is connected, with the last handshake once
    /// more, and connect to those that are not. Or stop to. It follows from what is answered, not from [`Self::Steer`].
    Race {
        /// Which.
        peer: PublicKey,
        /// Begin, or stop.
        on: bool,
    },
    /// Peers are reached over these relays on other machines, or are to be: connect to them, and stay until others are named.
    Need(Vec<RelayId>),
    /// There are these relays on other machines, and no others. Tell [`PathInput::Relays`] which are connected.
    Places(Vec<RelayPlace>),
    /// Show this to relays on other machines from now on.
    Pass {
        /// What they are shown.
        pass: Signed<RelayPass>,
        /// Signed it.
        anchor: AnchorKey,
    },
    /// A device is a peer from now on, whether it is talked to or not, or is none any more. Until it is steered its packets
    /// go over the [first relay](super::first_relay), or over the one by which its own come.
    Peer {
        /// Its key.
        key: PublicKey,
        /// `None`: it is none any more.
        device: Option<DeviceId>,
    },
    /// STUN is answered there: tell the addresses by [`PathInput::StunServers`], and again when the network is another.
    StunAt(Vec<Endpoint>),
    /// Tell the bytes of this peer every second, or stop to.
    Watch {
        /// Which.
        peer: PublicKey,
        /// Begin, or stop.
        on: bool,
    },
    /// Tell the bytes of this peer, which is watched, every [`CLOSE_COUNT_INTERVAL`] as well, or stop to.
    Closely {
        /// Which.
        peer: PublicKey,
        /// Begin, or stop.
        on: bool,
    },
}

/// How packets go to one peer, for people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathStatus {
    /// How.
    pub way: Way,
    /// For so long.
    pub age: Duration,
    /// As measured.
    pub round_trip: Option<Duration>,
    /// If it is not direct.
    pub why_not_direct: Option<WhyNotDirect>,
}

/// An address of ours, for people.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Candidate {
    /// The address.
    pub address: SocketAddr,
    /// Where it comes from.
    pub kind: CandidateKind,
}
