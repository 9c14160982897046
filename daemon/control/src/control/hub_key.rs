//! The hub's WireGuard key on its way into a backup: sealed by the hub, carried, never read.

use model::wire::{KeySealed, Remark, SealKey};
use model::{NodeId, Refusal};

use super::Control;
use crate::io::{Output, SealedHubKey};
use crate::link::LinkId;
use crate::session::out_of_place;

impl Control {
    /// Asks the hub; one that does not know the question, or is not there, is answered for at once.
    pub(super) fn seal_hub_key(&mut self, recipient: Remark) {
        match self.hub.as_ref().filter(|hub| hub.seals).map(|hub| hub.link) {
            Some(link) => self.send(link, SealKey { recipient }),
            None => self.out.push(Output::HubKey(None)),
        }
    }

    pub(super) fn on_key_sealed(
        &mut self,
        link: LinkId,
        node: NodeId,
        answer: KeySealed,
    ) -> Result<(), Refusal> {
        if node != NodeId::Hub {
            return Err(out_of_place("a hub's word from a device"));
        }
        let hub = self.hub.as_ref().filter(|hub| hub.link == link);
        let sealed = hub.zip(answer.sealed).map(|(hub, sealed)| SealedHubKey { public: hub.key, sealed });
        self.out.push(Output::HubKey(sealed));
        Ok(())
    }
}
