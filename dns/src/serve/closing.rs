//! The word that an address is given up, for its tasks, and their word that one has ended. Knows not what they do.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use tokio::sync::{Notify, watch};

/// Says it; dropping it says it too.
pub(super) type Close = watch::Sender<bool>;

/// Hears it, in time or later.
#[derive(Debug, Clone)]
pub(super) struct Closing(watch::Receiver<bool>);

impl Closing {
    /// Both ends.
    pub(super) fn channel() -> (Close, Self) {
        let (close, closing) = watch::channel(false);
        (close, Self(closing))
    }

    /// Whether it was said.
    pub(super) fn is_said(&self) -> bool {
        *self.0.borrow()
    }

    /// Returns once it was said. Cancel-safe.
    pub(super) async fn heard(&mut self) {
        // Nobody left to say it means the same.
        let _ = self.0.wait_for(|closing| *closing).await;
    }
}

/// Whether a thread or a task of an address has ended.
#[derive(Debug)]
pub(super) struct Ends {
    one: AtomicBool,
    told: Arc<Notify>,
}

impl Ends {
    /// None has. `told` is told when one does.
    pub(super) fn new(told: Arc<Notify>) -> Arc<Self> {
        Arc::new(Self { one: AtomicBool::new(false), told })
    }

    pub(super) fn one_has(&self) -> bool {
        self.one.load(Ordering::SeqCst)
    }
}

/// Held by a thread or a task for as long as it lives.
pub(super) struct Life(Arc<Ends>);

impl Life {
    pub(super) fn of(ends: &Arc<Ends>) -> Self {
        Self(Arc::clone(ends))
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        self.0.one.store(true, Ordering::SeqCst);
        self.0.told.notify_one();
    }
}
