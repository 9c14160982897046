//! What the shell tells a node. Decides nothing.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use model::id::CommandId;
use model::token::OnboardingToken;
use model::wire::{Channel, Facts, Frame, Remark};
use model::{Endpoint, PrivateKey};

use crate::change::Change;
use crate::observed::Observed;
use crate::paths::PathInput;
use crate::seat::Seat;
use crate::ssh::SshInput;

/// What the shell tells a node.
#[derive(Debug, Clone)]
pub enum Input {
    /// Become a device. Kept over restarts until the server says yes, or no for good.
    Join {
        /// Names and proves the tenant.
        token: OnboardingToken,
        /// What the device should be called.
        hostname: Remark,
        /// Operating system, for the operator.
        os: Remark,
    },
    /// Take part: interface, names, resolver. Kept over restarts. What a new ledger says.
    Up,
    /// Leave the mesh but keep the identity: no interface, no names, resolver as before. Kept over restarts.
    Down,
    /// The connection that [`crate::Output::Dial`] asked for is there.
    LinkUp {
        /// What ties frames to it.
        channel: Channel,
    },
    /// A frame arrived.
    Received(Frame),
    /// There is no connection: it could not be made, it broke, or it was hung up as asked.
    LinkDown {
        /// Why, for people.
        reason: String,
    },
    /// The answer to [`crate::Output::Persist`]: on disk for good, or why not.
    Persisted(Result<(), String>),
    /// Something changed on the host, or may have: look again.
    HostChanged,
    /// Which WireGuard carries the packets, for the server's operator; when it is known, and when it is another.
    Engine(Remark),
    /// What the machine is like, for the server's operator; now and then.
    Facts(Facts),
    /// The program began because of this device command, which is thereby done.
    Restarted {
        /// Which.
        command: CommandId,
    },
    /// There is a WireGuard key that is to follow the one in use, on the disk: the answer to [`crate::Event::RekeyAsked`], or left
    /// by a program that died.
    NextKey {
        /// The key.
        key: PrivateKey,
        /// Because of which device command, if one wants it now.
        command: Option<CommandId>,
    },
    /// A device command could not be done.
    CommandFailed {
        /// Which.
        command: CommandId,
        /// Why, for people.
        why: String,
    },
    /// Whether that WireGuard can be told which way a peer's packets go; it can unless the shell says otherwise. Where it
    /// cannot, the hub carries what is for other devices.
    Steers(bool),
    /// The answer to [`crate::Output::Observe`].
    Observed(Seat, Result<Observed, String>),
    /// The host of a hub has these interfaces of tenants' own, by their ports, as it begins.
    Found(BTreeSet<u16>),
    /// The answer to [`crate::Output::Apply`].
    Applied {
        /// On which interface.
        seat: Seat,
        /// The change.
        change: Change,
        /// Done, or why not.
        result: Result<(), String>,
    },
    /// Something about the paths to peers. A hub takes no notice.
    Path(PathInput),
    /// Something about the device's own sshd and ssh.
    Ssh(SshInput),
    /// The answer to [`crate::Output::Seal`]; `None`: that is no recipient.
    Sealed(Option<Vec<u8>>),
    /// The answer to [`crate::Output::Resolve`].
    Resolved {
        /// What was asked for.
        endpoint: Endpoint,
        /// `None`: no answer.
        address: Option<SocketAddr>,
    },
}
