//! The hub's WireGuard key for a backup: asked for, and given to who waits for it.

use control::{Input, SealedHubKey};
use model::wire::Remark;
use model::{Code, Refusal};
use tokio::sync::oneshot;

use super::{Desk, Message, Run};

/// Who waits for it. One backup is made at a time: a later wish takes the place of one that was given up.
pub(super) type Waiting = Option<Reply>;
/// The way back.
pub(super) type Reply = oneshot::Sender<Option<SealedHubKey>>;

impl Desk {
    /// The key, sealed by the hub; `None` if there is no hub that does that.
    pub async fn seal_hub_key(&self, recipient: &str) -> Result<Option<SealedHubKey>, Refusal> {
        let (reply, answer) = oneshot::channel();
        let asked = Message::SealHubKey { recipient: Remark::new(recipient), reply };
        self.inbox.send(asked).await.map_err(|_| Code::Draining)?;
        answer.await.map_err(|_| Code::Draining.into())
    }
}

impl Run {
    pub(super) fn ask_hub_key(&mut self, recipient: Remark, reply: Reply, waiting: &mut Waiting) {
        *waiting = Some(reply);
        self.control.handle(Input::SealHubKey { recipient }, self.clock.now());
    }
}

/// Gives it to who waits, unless nobody does any more.
pub(super) fn answer(waiting: &mut Waiting, sealed: Option<SealedHubKey>) {
    let _ = waiting.take().map(|reply| reply.send(sealed));
}
