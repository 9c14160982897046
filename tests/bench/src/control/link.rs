//! One link of a node, from hello to its end. Which claim is made, the node says.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use link::{Connection, Receiver, Sender};
use model::key::Digest;
use model::wire::{Frame, Heartbeat, Hello, Remark, Transcript, VERSION, Welcome};
use model::{Fingerprint, Nonce, Timestamp};
use tokio::time::{Instant, sleep_until};

use super::snapshots::Snapshots;

/// How a link ended.
#[derive(Debug)]
pub enum End {
    /// The server says when to come back.
    Later(Duration),
    /// The server says no, and why.
    Refused(String),
    /// It broke, or never stood.
    Broken,
}

/// A link on which both sides have said hello.
pub struct Link {
    sender: Sender,
    receiver: Receiver,
    pub welcome: Welcome,
    pub transcript: Transcript,
}

impl Link {
    /// Says hello. `None`: the link broke, or the server sent it away.
    pub async fn greet(connection: Connection, anchor: Option<Fingerprint>) -> Result<Self, End> {
        let channel = connection.channel();
        let (sender, mut receiver) = connection.split();
        let nonce =
            Nonce::from_bytes(*Digest::of("bench nonce", &[format!("{channel:?}").as_bytes()]).as_bytes());
        let software = Remark::new("bench");
        let hello = Hello { version_min: VERSION, version_max: VERSION, nonce, anchor, software };
        sender.send(&hello.clone().into()).await.map_err(|_| End::Broken)?;
        match receiver.recv().await {
            Ok(Frame::Welcome(welcome)) => {
                let transcript = Transcript::new(&hello, &welcome, &channel);
                Ok(Self { sender, receiver, welcome, transcript })
            }
            Ok(frame) => Err(ended(&frame).unwrap_or(End::Broken)),
            Err(_) => Err(End::Broken),
        }
    }

    /// Makes the claim, and lives until the link ends. `news` is told of each frame after it was answered.
    pub async fn live(
        mut self,
        claim: Frame,
        snapshots: &mut Snapshots,
        mut news: impl FnMut(&Frame),
    ) -> End {
        if self.sender.send(&claim).await.is_err() {
            return End::Broken;
        }
        let (mut beat_at, mut interval, mut sequence) = (None::<Instant>, Duration::ZERO, 0);
        loop {
            let frame = tokio::select! {
                frame = self.receiver.recv() => frame,
                () = due(beat_at) => {
                    sequence += 1;
                    if self.sender.send(&heartbeat(sequence, snapshots)).await.is_err() {
                        return End::Broken;
                    }
                    beat_at = Some(Instant::now() + interval);
                    continue;
                }
            };
            let Ok(frame) = frame else { return End::Broken };
            if let Some(end) = ended(&frame) {
                return end;
            }
            let seconds = match &frame {
                Frame::Attached(attached) => Some(attached.heartbeat_seconds),
                Frame::Enrolled(enrolled) => Some(enrolled.heartbeat_seconds),
                _ => None,
            };
            if let Some(seconds) = seconds {
                interval = Duration::from_secs(seconds.into());
                beat_at = Some(Instant::now());
            }
            if let Some(answer) = snapshots.take(&frame)
                && self.sender.send(&answer).await.is_err()
            {
                return End::Broken;
            }
            news(&frame);
        }
    }
}

fn ended(frame: &Frame) -> Option<End> {
    match frame {
        Frame::Retry(retry) => Some(End::Later(Duration::from_millis(retry.after_millis.into()))),
        Frame::Refused(refused) => Some(End::Refused(refused.refusal.to_string())),
        _ => None,
    }
}

async fn due(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}

fn heartbeat(sequence: u64, snapshots: &Snapshots) -> Frame {
    let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    Heartbeat {
        sequence,
        holding: snapshots.holding(),
        drift_total: 0,
        problems: Vec::new(),
        wall: Timestamp::from_unix_micros(i64::try_from(wall.as_micros()).unwrap_or(i64::MAX)),
        engine: None,
        facts: None,
    }
    .into()
}
