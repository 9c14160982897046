//! What a start in the kernel's mode left where our own engine is to be: nobody but us takes it away. Knows no wish for it.

use engine::ObservedInterface;

use super::{Host, HostError};
use crate::links::{ALIAS, Kind, Link};
use crate::wireguard::{Backend, DeviceState};

impl Host {
    /// What is on it but its peers, of which our engine cannot ask the kernel.
    pub(super) fn observe_left(&mut self) -> Result<Option<Box<ObservedInterface>>, HostError> {
        let Some(link) = self.left()? else { return Ok(None) };
        Ok(Some(Box::new(self.observe_interface(&link, DeviceState::default())?)))
    }

    pub(super) fn remove_left(&mut self) -> Result<(), HostError> {
        let Some(link) = self.left()? else { return Ok(()) };
        self.links.remove(link.index).map_err(|source| self.interface_error("removal", source))
    }

    /// The kernel's interface, if it is ours and its engine is not the one in use.
    fn left(&mut self) -> Result<Option<Link>, HostError> {
        let is_left = |link: &Link| link.kind == Kind::Wireguard && link.alias.as_deref() == Some(ALIAS);
        let other_engine = self.engine.backend() == Backend::Userspace;
        Ok(self.find()?.filter(|link| other_engine && is_left(link)))
    }
}
