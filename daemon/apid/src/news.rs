//! Listens for what other replicas write, so that the desk looks at once. While nobody can be heard, the desk looks now
//! and then by itself.

use std::time::Duration;

use control::Input;
use store::Store;

use crate::desk::Desk;

/// After the connection broke. The desk polls meanwhile.
const LISTEN_RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// Listens for as long as it is polled; ends where there is nobody to be heard.
pub async fn listen(store: Store, desk: Desk) {
    loop {
        let error = match store.news().await {
            Ok(None) => return,
            Ok(Some(mut news)) => loop {
                match news.next().await {
                    Ok(()) if desk.tell(Input::Rumoured).await => {}
                    Ok(()) => return,
                    Err(error) => break error,
                }
            },
            Err(error) => error,
        };
        tracing::debug!(
            error = error.chain(),
            "other replicas cannot be heard; the database is asked instead"
        );
        tokio::time::sleep(LISTEN_RETRY_INTERVAL).await;
    }
}
