//! Device commands: one-shot instructions that are done at least once and acknowledged by their id.

use std::fmt;
use std::str::FromStr;

use crate::ability::Abilities;
use crate::text::serde_as_text;

/// What a device is told to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum CommandKind {
    /// Asks for its whole snapshot and compares the host with it.
    Resync,
    /// Says how it is, now.
    Report,
    /// Its program begins anew; tunnels stay where the kernel carries them.
    Restart,
    /// It makes another WireGuard key, which takes the place of the one that it has.
    Rekey,
}

impl CommandKind {
    /// Every kind there is.
    pub const ALL: [Self; 4] = [Self::Resync, Self::Report, Self::Restart, Self::Rekey];

    /// What the program on a device has to know for it.
    pub const fn needs(self) -> Abilities {
        match self {
            Self::Resync | Self::Report | Self::Restart => Abilities::COMMANDS,
            Self::Rekey => Abilities::COMMANDS.and(Abilities::REKEY),
        }
    }

    /// As people and the wire see it.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Resync => "resync",
            Self::Report => "report",
            Self::Restart => "restart",
            Self::Rekey => "rekey",
        }
    }
}

impl fmt::Display for CommandKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The text is no command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a device command is resync, report, restart or rekey")]
pub struct BadCommand;

impl FromStr for CommandKind {
    type Err = BadCommand;
    fn from_str(text: &str) -> Result<Self, BadCommand> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == text).ok_or(BadCommand)
    }
}

serde_as_text!(CommandKind);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_read_back() {
        for kind in CommandKind::ALL {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert!("reboot".parse::<CommandKind>().is_err());
    }
}
