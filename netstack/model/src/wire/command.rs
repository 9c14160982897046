//! The frames of device commands.

use minicbor::{Decode, Encode};

use crate::id::CommandId;
use crate::wire::remark::Remark;

/// Server to device: do this once. Sent again until it is answered; who did it says so again and does nothing.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Command {
    /// Which.
    #[n(0)]
    pub id: CommandId,
    /// The word of a [`crate::CommandKind`]; a later server may know more of them.
    #[n(1)]
    pub kind: Remark,
}

/// Device to server: the command is done, or why it cannot be.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct CommandDone {
    /// Which.
    #[n(0)]
    pub id: CommandId,
    /// Why it was not done.
    #[n(1)]
    pub failed: Option<Remark>,
}
