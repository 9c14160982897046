//! What a node does, hub or device alike: keeps a link, accepts snapshots, keeps the host as they say. Sans-IO.
//!
//! Knows no socket, file, clock or random source, and nothing of how a host is changed or read.

mod backoff;
pub mod change;
mod changes;
mod claim;
mod commands;
mod config;
mod desired;
mod endpoints;
mod event;
mod greeting;
mod guard;
mod input;
mod intake;
pub mod ledger;
mod machines;
mod merge;
mod names;
mod node;
mod observed;
mod output;
pub mod paths;
mod pulse;
mod reconciler;
mod reconcilers;
mod rekey;
mod saver;
mod seat;
mod session;
mod ssh;
pub mod status;
mod turn;

use std::time::Duration;

pub use change::{Change, Firewall, PeerSetting, ResolverSetting, Subject};
pub use changes::changes;
pub use config::{NodeConfig, Role};
pub use desired::{Desired, DesiredInterface};
pub use event::Event;
pub use guard::{Breach, Guard};
pub use input::Input;
pub use ledger::{Ledger, LedgerError, Rejection};
pub use node::Node;
pub use observed::{Observed, ObservedInterface, ObservedPeer};
pub use output::{NamesUpdate, Output};
pub use seat::Seat;
pub use ssh::{SshInput, SshOutput, SshState};
pub use status::Status;

/// A peer with an endpoint is stale without a handshake for so long: the WireGuard paper's REKEY_AFTER_TIME (120 s) and
/// some tries.
pub const STALE_AFTER: Duration = Duration::from_secs(150);
