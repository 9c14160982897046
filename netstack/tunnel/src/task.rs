//! What the thread for everything but data is given to do. Says nothing of how it is done.

use std::sync::Arc;

use crate::path::Path;
use crate::peer::Peer;

/// The longest handshake message: an initiation.
pub(crate) const HANDSHAKE_BYTES_MAX: usize = 148;
/// Tasks that wait. At a core's two thousand handshakes a second and more, the last of them waits a quarter of a
/// second.
pub(crate) const TASKS_MAX: usize = 512;

/// Something to do.
pub(crate) enum Task {
    /// An admitted message.
    Handshake(Box<Handshake>),
    /// A handshake is wanted, or packets wait.
    Peer(Arc<Peer>),
    /// The wheel has an earlier deadline, or the device ends.
    Look,
}

/// An initiation, a response or a cookie reply of the right length.
pub(crate) struct Handshake {
    pub(crate) bytes: [u8; HANDSHAKE_BYTES_MAX],
    pub(crate) length: usize,
    pub(crate) from: Path,
}
