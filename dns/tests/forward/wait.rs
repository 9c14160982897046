//! Waits for a condition until its deadline. Knows not what for.

use std::time::{Duration, Instant};

/// Longer than anything here takes on a busy machine.
const PATIENCE: Duration = Duration::from_secs(20);
const STEP: Duration = Duration::from_millis(5);

/// Until it gives something.
pub(crate) async fn for_some<T>(what: &str, mut condition: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = Instant::now() + PATIENCE;
    loop {
        if let Some(found) = condition().await {
            return found;
        }
        assert!(Instant::now() < deadline, "waited in vain: {what}");
        tokio::time::sleep(STEP).await;
    }
}

/// Until it holds.
pub(crate) async fn until(what: &str, mut condition: impl FnMut() -> bool) {
    for_some(what, async || condition().then_some(())).await;
}
