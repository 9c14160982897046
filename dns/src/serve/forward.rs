//! Who answers for names of no zone of the asker's. Knows not how.

use std::net::IpAddr;

use futures_util::future::BoxFuture;

use crate::answer::Transport;

/// Answers what the zones do not. It is asked only for an asker who has a view, about a well-formed question whose
/// name is of no zone of theirs; whoever else asks is refused before, so that it is open to nobody.
pub trait Forward: Send + Sync {
    /// Whether this asker may have anything forwarded. Whoever may not is refused; the two others are not asked.
    fn serves(&self, _asker: IpAddr) -> bool {
        true
    }

    /// Answers at once from memory, for the hot path: waits for nothing and allocates nothing. The query is the first
    /// `length` bytes of `buffer` and came over UDP; the answer is written over it and its length returned, never more
    /// than the asker takes or the buffer has. `None`: ask [`Self::forward`]; the buffer is as it was.
    fn cached(&self, _buffer: &mut [u8], _length: usize) -> Option<usize> {
        None
    }

    /// Answers in a few seconds at most, whatever happens. `None`: it is not forwarded, and to be refused. Who drops
    /// the future gives up the answer, not the question: what comes is kept for the next who asks.
    fn forward(&self, query: Vec<u8>, transport: Transport) -> BoxFuture<'_, Option<Vec<u8>>>;
}
