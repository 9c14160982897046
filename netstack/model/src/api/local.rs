//! What `warren` and the agent say over the agent's unix socket: one JSON line each way, then the agent hangs up.
//!
//! `ping` is an exception: the agent sends a line for each reply. `connect` is another: after its answer the socket
//! carries a connection.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::id::DeviceId;
use crate::key::PublicKey;
use crate::name::{Label, Name};
use crate::ssh::{CaKey, SshIdentity, SshSerial};
use crate::time::Timestamp;
use crate::vouch::SignedVouch;

/// Longest line either side reads: a token and a URL fit many times.
pub const LINE_BYTES_MAX: usize = 1024 * 1024;

/// The profile that commands mean when they name none.
pub const PROFILE_DEFAULT: &str = "default";

/// A wish of the person at the device.
#[derive(Clone, Serialize, Deserialize)]
#[serde(tag = "do", rename_all = "kebab-case", deny_unknown_fields)]
pub enum Request {
    /// Join if a token is given, and run.
    Up {
        /// Which profile.
        profile: Label,
        /// `https://host:port`. Needed the first time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        server: Option<String>,
        /// An onboarding token. Needed the first time.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        token: Option<String>,
        /// The name to ask for; the machine's host name if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        hostname: Option<String>,
        /// Wait so long for the server to say yes or no; joining goes on afterwards.
        #[serde(default)]
        timeout_millis: u64,
    },
    /// Leave the interface, keep the identity.
    Down {
        /// Which profile.
        profile: Label,
    },
    /// What is.
    Status {
        /// Which profile.
        profile: Label,
    },
    /// Answered once the node is active, settled and holds a link, or never will be.
    WaitSettled {
        /// Which profile.
        profile: Label,
        /// Give up after so long.
        timeout_millis: u64,
    },
    /// ICMP echo to a peer, by mesh address.
    Ping {
        /// Which profile.
        profile: Label,
        /// A name in the zone or a mesh address.
        target: String,
        /// How many.
        count: u32,
        /// Wait so long for each reply.
        timeout_millis: u64,
    },
    /// Connect to a device by TCP. After [`Answer::Connected`] the socket carries the connection's bytes, both ways,
    /// and each half ends by itself.
    Connect {
        /// Which profile.
        profile: Label,
        /// A name in the zone or a mesh address.
        target: String,
        /// TCP port there.
        port: u16,
        /// Give up after so long.
        timeout_millis: u64,
    },
    /// Why names resolve or do not.
    DoctorDns {
        /// Which profile.
        profile: Label,
        /// Who is asked for this one. If absent: what is wrong with names at all.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        name: Option<String>,
    },
    /// What programs of this device are told about a name, and why.
    DnsQuery {
        /// Which profile.
        profile: Label,
        /// A name, short or whole, or an address.
        name: String,
        /// A type by name or number; `A`, or `PTR` for an address, if absent.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        kind: Option<String>,
    },
    /// What stands in the way of direct paths to other devices.
    DoctorPaths {
        /// Which profile.
        profile: Label,
    },
    /// What the NAT before this device does, and where it may be reached.
    Netcheck {
        /// Which profile.
        profile: Label,
    },
    /// How this machine's sshd is.
    DoctorSsh {
        /// Which profile.
        profile: Label,
    },
    /// Whose certificates of people the mesh's hosts take, and which hosts are to be refused.
    SshTrusted {
        /// Which profile.
        profile: Label,
        /// A certificate that is at hand. Agents of before know no such field.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        held: Option<HeldCertificate>,
    },
    /// Whose certificates make a host known, if it is a device of the mesh.
    SshKnown {
        /// Which profile.
        profile: Label,
        /// As ssh names it: a name, an address, or `[name]:port`.
        host: String,
    },
    /// The device's word that an SSH key is on it.
    SshVouch {
        /// Which profile.
        profile: Label,
        /// One line of OpenSSH.
        public_key: String,
    },
    /// Forget the identity.
    Logout {
        /// Which profile.
        profile: Label,
    },
}

/// A person's certificate, as far as it can be revoked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldCertificate {
    /// Its number.
    pub serial: SshSerial,
    /// Whose it is.
    pub identity: SshIdentity,
}

/// The agent's answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "kebab-case")]
pub enum Answer {
    /// Done.
    Done,
    /// To `Up`: enrolled or known; to `Status` and `WaitSettled`.
    Status(Box<Status>),
    /// To `Ping`: one reply, or none in time.
    Pong(Pong),
    /// To `Connect`: what follows is the connection.
    Connected {
        /// Where it went.
        address: IpAddr,
    },
    /// To `Netcheck`.
    Netcheck(Box<Netcheck>),
    /// To `DoctorDns`, `DoctorPaths` and `DoctorSsh`.
    Findings {
        /// In the order of importance; empty when all is well.
        findings: Vec<Finding>,
    },
    /// To `DnsQuery`.
    Told(Box<DnsTold>),
    /// To `SshKnown`.
    Known {
        /// For `known_hosts`.
        lines: Vec<String>,
    },
    /// To `SshTrusted`.
    Trusted {
        /// Authorities' keys.
        keys: Vec<CaKey>,
        /// What ssh is to refuse of hosts (`RevokedHostKeys`). `None`: an agent of before.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        revoked_hosts: Option<PathBuf>,
        /// Whether the one at hand is revoked.
        #[serde(default)]
        held_revoked: bool,
        /// The device's own in the mesh: a certificate is good from these alone. Empty: an agent of before.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        addresses: Vec<IpAddr>,
    },
    /// To `SshVouch`.
    Vouched {
        /// For the server.
        vouch: SignedVouch,
    },
    /// Not done.
    Refused(super::Problem),
}

/// What programs are told about a name, and why.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsTold {
    /// [`super::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The whole name whose answer it is.
    pub name: String,
    /// Its type, such as `AAAA`.
    pub kind: String,
    /// `NOERROR`, `NXDOMAIN`, `SERVFAIL`, `REFUSED` and the like.
    pub code: String,
    /// What the answer says beyond its code (RFC 8914).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub extended_error: Option<u16>,
    /// The answer.
    pub records: Vec<DnsToldRecord>,
    /// Where it comes from: `zone`, `server`, `kept`, `stale`, `here`, `refused`, `loop` or `nobody`.
    pub source: String,
    /// The zone, or the server that said it, if one did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<String>,
    /// How long ago a kept answer came [seconds].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_seconds: Option<u32>,
    /// How long it took to make the answer.
    pub micros: u64,
    /// By which rules, in their order, for people.
    pub rules: Vec<String>,
}

/// A record of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DnsToldRecord {
    /// Whose.
    pub name: String,
    /// In seconds.
    pub ttl: u32,
    /// Its type.
    pub kind: String,
    /// Its value as zone files have it.
    pub value: String,
}

/// A device as its agent sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// [`super::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// Of the agent.
    pub version: String,
    /// Which profile.
    pub profile: Label,
    /// `down`, `joining`, `pending`, `active`, `revoked`.
    pub state: String,
    /// The server's URL, once known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server: Option<String>,
    /// `connected by quic`, `connected by websocket`, or why not.
    pub link: String,
    /// Whether a link is held now.
    pub connected: bool,
    /// Its id, once enrolled.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub device: Option<DeviceId>,
    /// Its name with the zone, once active.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub fqdn: Option<Name>,
    /// Its mesh addresses.
    pub addresses: Vec<IpAddr>,
    /// The interface, and how WireGuard runs: `wg0 (userspace: …)`, or `none (netstack)`.
    pub interface: String,
    /// Epoch and generation held.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub holds: Option<String>,
    /// No change left to make.
    pub settled: bool,
    /// Seconds between keepalives that keep it in reach, as was learnt where it is; 0: none are needed. Absent until that is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keepalive_seconds: Option<u16>,
    /// Drift repaired since start.
    pub drift_total: u64,
    /// What cannot be done now, and why.
    pub problems: Vec<String>,
    /// WireGuard peers.
    pub peers: Vec<Peer>,
    /// Other names in the zone with their addresses, at most a thousand.
    pub names: Vec<(Name, IpAddr)>,
}

/// A WireGuard peer as its agent sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Peer {
    /// Its name in the zone.
    pub name: Label,
    /// Its key.
    pub key: PublicKey,
    /// `direct ADDRESS`, `relayed`, `via hub`, or `idle` while nobody talks to it.
    pub path: String,
    /// Seconds for which it has been that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub path_seconds: Option<u64>,
    /// Microseconds to the peer and back, as measured on the path.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_micros: Option<u64>,
    /// Why it is not direct, if it should be.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why_not_direct: Option<String>,
    /// Last handshake, if any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub handshake_at: Option<Timestamp>,
    /// Bytes received.
    pub received_bytes: u64,
    /// Bytes sent.
    pub sent_bytes: u64,
}

/// One reply to a ping.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pong {
    /// From 1.
    pub sequence: u32,
    /// Where it went.
    pub address: IpAddr,
    /// Whose address it is.
    pub name: String,
    /// Microseconds; absent when no reply came in time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_micros: Option<u64>,
    /// How it went.
    pub path: String,
}

/// Where a device is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Netcheck {
    /// [`super::SCHEMA_VERSION`].
    pub schema_version: u32,
    /// The servers of STUN that were asked.
    pub servers: Vec<SocketAddr>,
    /// What is before it for IPv4: `no NAT`, `a NAT that keeps its port and …`, `a symmetric NAT that …`, `no UDP`,
    /// `STUN does not answer`; `none` where there is no server.
    pub ipv4: String,
    /// The same for IPv6.
    pub ipv6: String,
    /// Where its peers are told to look for it.
    pub candidates: Vec<Reachable>,
    /// A port that its router opened for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port_mapping: Option<SocketAddr>,
    /// As in [`Status`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub keepalive_seconds: Option<u16>,
    /// The server's own relay while it is connected, and those on other machines.
    pub relays: Vec<RelayDistance>,
}

/// An address at which a device may be reached.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reachable {
    /// The address.
    pub address: SocketAddr,
    /// `local`, `reflexive`, `mapped` or `seen`.
    pub kind: String,
}

/// How far a relay is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RelayDistance {
    /// Its name; `server` is the server's own.
    pub name: Label,
    /// There and back, once measured.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub round_trip_micros: Option<u64>,
    /// Whether peers find this device there: it is the nearest of those that are connected, the server among them.
    pub is_home: bool,
}

/// Something that a doctor found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct Finding {
    /// What it is about, in one word that stays: `owner`, `told`, `server`, `port`, `route`, …
    #[serde(default)]
    pub about: String,
    /// Whether it is well; a doctor lists what it looked at, too.
    pub ok: bool,
    /// Nobody could look, because of something else that is not well.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unchecked: bool,
    /// What was looked at and what was found.
    pub what: String,
    /// What it means for the mesh; empty when all is well, or when it goes without saying.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// The command that mends it, or makes it better; empty when there is nothing to do.
    pub remedy: String,
}

impl Finding {
    /// All is well there.
    pub fn good(about: &str, what: impl Into<String>) -> Self {
        Self {
            about: about.into(),
            ok: true,
            unchecked: false,
            what: what.into(),
            why: String::new(),
            remedy: String::new(),
        }
    }

    /// Something is wrong there, and this command mends it.
    pub fn bad(about: &str, what: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { ok: false, remedy: remedy.into(), ..Self::good(about, what) }
    }

    /// Nobody could look there, because of that.
    pub fn unchecked(about: &str, because: impl std::fmt::Display) -> Self {
        Self { unchecked: true, ..Self::good(about, format!("not checked: {because}")) }
    }

    /// Says what it means for the mesh.
    #[must_use]
    pub fn meaning(self, why: impl Into<String>) -> Self {
        Self { why: why.into(), ..self }
    }
}
