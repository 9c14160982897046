//! What a node wants of its shell. Each is one system call or one message; the shell makes no choice.

use std::fmt;

use model::patch::ZonePatch;
use model::wire::{Frame, Remark};
use model::{Endpoint, Generation, MeshAddresses, TenantId, Zone};

use crate::change::Change;
use crate::event::Event;
use crate::paths::PathOutput;
use crate::seat::Seat;
use crate::ssh::SshOutput;

/// What a node wants of its shell. `Dial`, `Persist`, `Observe`, `Apply`, `Seal` and `Resolve` are answered by one input
/// each; changes are done in the order given.
#[derive(Clone, PartialEq, Eq)]
pub enum Output {
    /// Connect to the server. Answered by `LinkUp` or `LinkDown`.
    Dial,
    /// Drop the connection, or stop making it. Answered by `LinkDown`, also if there is none.
    Hangup,
    /// Send a frame.
    Send(Frame),
    /// Write the whole ledger: to a new file, flushed to the disk (fsync), then renamed over the old one.
    /// Holds secrets: mode 0600.
    Persist(Vec<u8>),
    /// Say what the host is like, as far as it concerns one interface.
    Observe(Seat),
    /// Do this to the host.
    Apply(Seat, Change),
    /// Tell Magic DNS.
    Names(NamesUpdate),
    /// Something about the paths to peers. A hint is given out only while there is no link.
    Path(PathOutput),
    /// Something about the device's own sshd and ssh. A hub has none of either.
    Ssh(SshOutput),
    /// Seal the node's WireGuard key for a recipient of age. Of a hub only.
    Seal {
        /// `age1…`, as the server says.
        recipient: Remark,
    },
    /// Ask the machine's own resolver, as it is without Warren. Only for endpoints with a name.
    Resolve(Endpoint),
    /// Log and count this.
    Event(Event),
}

/// What Magic DNS should serve now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NamesUpdate {
    /// All names of a tenant, new or instead of what was served.
    Whole {
        /// Whose.
        tenant: TenantId,
        /// The serial of the zone.
        generation: Generation,
        /// The names.
        zone: Zone,
        /// The node's own addresses in that tenant: serve there, port 53.
        listen: MeshAddresses,
    },
    /// What changed since.
    Patch {
        /// Whose.
        tenant: TenantId,
        /// The serial of the zone from now on.
        generation: Generation,
        /// What changed. May be empty: then only the serial grows.
        patch: ZonePatch,
    },
    /// Serve nothing for this tenant any more.
    Gone {
        /// Whose.
        tenant: TenantId,
    },
}

impl fmt::Debug for Output {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Dial => f.write_str("Dial"),
            Self::Hangup => f.write_str("Hangup"),
            Self::Send(frame) => f.debug_tuple("Send").field(frame).finish(),
            Self::Persist(bytes) => write!(f, "Persist({} bytes)", bytes.len()),
            Self::Observe(seat) => f.debug_tuple("Observe").field(seat).finish(),
            Self::Apply(seat, change) => f.debug_tuple("Apply").field(seat).field(change).finish(),
            Self::Names(update) => f.debug_tuple("Names").field(update).finish(),
            Self::Ssh(output) => f.debug_tuple("Ssh").field(output).finish(),
            Self::Path(output) => f.debug_tuple("Path").field(output).finish(),
            Self::Seal { recipient } => f.debug_struct("Seal").field("recipient", recipient).finish(),
            Self::Resolve(endpoint) => write!(f, "Resolve({endpoint})"),
            Self::Event(event) => f.debug_tuple("Event").field(event).finish(),
        }
    }
}
