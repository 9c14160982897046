//! How often a link may say what costs the desk.

use std::time::Duration;

use control::{LinkId, Origin};
use model::wire::Frame;

use super::Desk;
use crate::limiters::{Asker, Limit};

/// What becomes of a frame.
pub(super) enum Pace {
    /// It is taken.
    Well,
    /// It is passed over.
    Dropped,
    /// Its node is asked to come back after this long.
    Later(Duration),
}

impl Desk {
    /// Whether a frame comes in its time.
    pub(super) fn pace(&self, link: LinkId, from: Origin, frame: &Frame) -> Pace {
        let Origin::Network(address) = from else { return Pace::Well };
        match frame {
            Frame::Enrol(_) => match self.limiters.take(Limit::Registration, Asker::Address(address)) {
                Ok(()) => Pace::Well,
                Err(after) => Pace::Later(after),
            },
            // The next one tells the same again.
            Frame::Heartbeat(_) => match self.limiters.take(Limit::Heartbeat, Asker::Link(link.0)) {
                Ok(()) => Pace::Well,
                Err(_) => Pace::Dropped,
            },
            // It is asked for again within a minute.
            Frame::CertifyHost(_) => match self.limiters.take(Limit::Signing, Asker::Link(link.0)) {
                Ok(()) => Pace::Well,
                Err(_) => Pace::Dropped,
            },
            _ => Pace::Well,
        }
    }
}
