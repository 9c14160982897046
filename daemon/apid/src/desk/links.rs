//! What is done for one link, all in one future: a task for each part of it would cost every idle device another kilobyte.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use control::{Input, LinkId, Origin};
use futures_util::FutureExt as _;
use link::{LinkError, Receiver, Sender};
use model::wire::Retry;
use tokio::sync::Notify;

use super::pace::Pace;
use super::{Desk, Message, Opened, Writer};
use crate::relay::Line;

impl Desk {
    /// Serves a link until it ends, all that concerns it in one future: frames and packets that come, what is written, and
    /// word that it was.
    pub fn serve(
        &self,
        connection: link::Connection,
        from: Origin,
    ) -> impl Future<Output = ()> + Send + 'static {
        let link = LinkId(self.links.fetch_add(1, Ordering::Relaxed));
        let (channel, carrier) = (connection.channel(), connection.carrier());
        let line = connection.datagrams().map(|datagrams| self.switchboard.open(link.0, datagrams));
        let (sender, receiver, writing) = connection.parts();
        let desk = self.clone();
        let queued = Arc::new(Notify::new());
        // The link ends with the last sender, so that this one must go when nothing more comes.
        let conversation = async move {
            let writer = Writer { sender: sender.clone(), queued: queued.clone() };
            if !desk.say(Message::Opened(Box::new(Opened { link, channel, from, writer }))).await {
                return;
            }
            let why = tokio::select! {
                why = desk.receive(link, from, &sender, receiver) => why,
                // Packets must not wait for the desk.
                never = carry(line) => match never {},
                never = desk.watch(link, &sender, &queued) => match never {},
            };
            let Some(why) = why else { return };
            tracing::debug!(link = link.0, %carrier, reason = %why, "link ended");
            // The desk is gone only when the process ends.
            let _ = desk.tell(Input::Closed { link }).await;
        };
        // What is queued is written, whatever became of the rest.
        futures_util::future::join(conversation, writing).map(drop)
    }

    /// Gives the desk what comes until the link ends; says why. `None`: the desk is gone.
    async fn receive(
        &self,
        link: LinkId,
        from: Origin,
        answer: &Sender,
        mut receiver: Receiver,
    ) -> Option<LinkError> {
        loop {
            let frame = match receiver.recv().await {
                Ok(frame) => Box::new(Input::Received { link, frame }),
                Err(error) => return Some(error),
            };
            if let Input::Received { frame, .. } = &*frame {
                match self.pace(link, from, frame) {
                    Pace::Well => {}
                    Pace::Dropped => continue,
                    Pace::Later(after) => {
                        // It may have gone; then it hears nothing.
                        let _ = answer.try_send(&Retry { after_millis: millis(after) }.into());
                        let _ = answer.close(None).await;
                        return Some(LinkError::Closed);
                    }
                }
            }
            if !self.say(Message::Input(frame)).await {
                return None;
            }
        }
    }

    /// Tells the machine whenever everything queued for the link was written.
    async fn watch(&self, link: LinkId, sender: &Sender, queued: &Notify) -> Infallible {
        loop {
            queued.notified().await;
            let told = sender.drained().await.is_ok() && self.tell(Input::Drained { link }).await;
            if !told {
                // Whoever receives says how it ended.
                return std::future::pending().await;
            }
        }
    }
}

/// Gives on packets that come, as long as they do.
async fn carry(line: Option<Line>) -> Infallible {
    if let Some(line) = line {
        line.carry().await;
    }
    std::future::pending().await
}

fn millis(duration: Duration) -> u32 {
    u32::try_from(duration.as_millis()).unwrap_or(u32::MAX)
}
