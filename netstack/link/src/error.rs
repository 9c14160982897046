//! Why a link or a frame came to nothing. Knows no carrier: what theirs say is kept as text.

use model::wire::FrameError;

/// Why a link is of no use any more.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// Ended in order, by either side.
    #[error("the link was closed")]
    Closed,
    /// The carrier failed.
    #[error("the link was lost: {0}")]
    Lost(String),
    /// The peer sent what is no frame.
    #[error("the peer broke the framing")]
    Frame(#[from] FrameError),
    /// The peer did not read for [`crate::limits::WRITE_TIME_MAX`].
    #[error("the peer does not read")]
    Stalled,
    /// The peer did not read to the end within [`crate::limits::CLOSE_TIME_MAX`].
    #[error("the peer did not read to the end")]
    Unread,
}

/// Why a frame was not queued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum TrySendError {
    /// No room now.
    #[error("the queue of the link is full")]
    Full,
    /// The link is of no use any more.
    #[error(transparent)]
    Link(#[from] LinkError),
}

impl From<FrameError> for TrySendError {
    fn from(error: FrameError) -> Self {
        Self::Link(error.into())
    }
}

/// The error with its sources, as the carriers' own types are not ours to show.
pub(crate) fn lost(error: &(dyn std::error::Error + 'static)) -> LinkError {
    LinkError::Lost(chain(error))
}

/// The text of an error and of what caused it.
pub(crate) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}
