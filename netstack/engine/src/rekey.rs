//! A WireGuard key that is to follow the one in use: asked for by a device command, made and kept by the shell, offered with each
//! attach until the server has taken it. Makes none and puts none in force.
//!
//! ```text
//! command ─▶ RekeyAsked ─▶ the shell writes it down ─▶ NextKey ─▶ Attach with it ─▶ Attached names it ─▶ Rekeyed
//! ```
//! Whoever dies on the way begins with both keys, and offers the second.

use std::time::Duration;

use model::id::CommandId;
use model::{Mono, PrivateKey, PublicKey};

/// A server that has not taken a key for so long, and sends the command again, is asked once more.
const AGAIN_AFTER: Duration = Duration::from_secs(10);

#[derive(Debug, Default)]
pub(crate) struct Rekey {
    next: Option<PrivateKey>,
    command: Option<CommandId>,
    asked_at: Mono,
}

/// What a command means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Asked {
    /// A key is to be made.
    New,
    /// It was made, and is to be offered again.
    Again,
    /// Nothing: it is being done.
    UnderWay,
}

impl Rekey {
    /// A command wants another key.
    pub(crate) fn asked(&mut self, command: CommandId, now: Mono) -> Asked {
        let under_way = self.command == Some(command) && now.since(self.asked_at) < AGAIN_AFTER;
        if under_way {
            return Asked::UnderWay;
        }
        let known = self.command.replace(command) == Some(command) && self.next.is_some();
        self.asked_at = now;
        if known { Asked::Again } else { Asked::New }
    }

    /// The shell has one, on its disk.
    pub(crate) fn made(&mut self, key: PrivateKey) {
        self.next = Some(key);
    }

    /// What is to follow.
    pub(crate) const fn next(&self) -> Option<&PrivateKey> {
        self.next.as_ref()
    }

    /// The server names the key that it has. Says, once, which command is done thereby if it is the one that is to follow.
    pub(crate) fn taken(&mut self, key: &PublicKey) -> Option<Option<CommandId>> {
        self.next.take_if(|next| next.public() == *key).map(|_| self.command.take())
    }
}
