//! The WireGuard key that is to follow the one in use: made when a device command wants it, on the disk before anybody hears of
//! it. Who puts it in force begins the node anew.

use engine::{Event, Input};
use model::PrivateKey;
use model::id::CommandId;

use super::{DriveError, Driver};
use crate::keyfile;

/// Why a node ended that did nothing wrong.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Ended {
    /// It was told to.
    Stopped,
    /// The server has the key that is to follow: the node is to be begun with it.
    Rekeyed {
        /// The device command that is done when it begins.
        command: Option<CommandId>,
    },
}

impl Driver {
    /// A node that died with two keys offers the second again.
    pub(super) fn tell_next_key(&mut self) -> Result<(), DriveError> {
        let Some(path) = &self.next_key else { return Ok(()) };
        if let Some(key) = keyfile::load(path)? {
            self.tell(Input::NextKey { key: PrivateKey::from_bytes(*key), command: None });
        }
        Ok(())
    }

    /// Once for each command, so the loop may wait for the disk.
    pub(super) fn hear_of_keys(&mut self, event: &Event) {
        match (event, &self.next_key) {
            (Event::RekeyAsked { command }, Some(path)) => {
                let command = *command;
                let input = match keyfile::load_or_create(path) {
                    Ok(key) => Input::NextKey { key: PrivateKey::from_bytes(*key), command: Some(command) },
                    Err(error) => Input::CommandFailed { command, why: crate::chain::chain(&error) },
                };
                self.tell(input);
            }
            (Event::Rekeyed { command }, _) => self.rekeyed = Some(*command),
            _ => {}
        }
    }
}
