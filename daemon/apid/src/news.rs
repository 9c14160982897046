//! Listens for what other replicas write, so that the desk looks at once. While nobody can be heard, the desk looks now
//! and then by itself.

use std::time::Duration;

use control::Input;
use store::{Engine, Store, Word};

use crate::clock::wall;
use crate::desk::Desk;
use crate::report;

/// After the connection broke. The desk polls meanwhile.
const LISTEN_RETRY_INTERVAL: Duration = Duration::from_secs(5);

/// What other replicas heard of devices is looked at this often: they save it no more often.
const HEARD_INTERVAL: Duration = control::limits::PRESENCE_SAVE_INTERVAL;

/// Tells the desk what other replicas heard of devices, for as long as it is polled; ends where there are none.
pub async fn hear(store: Store, desk: Desk) {
    if store.engine() == Engine::Sqlite {
        return;
    }
    let mut ticks = tokio::time::interval(HEARD_INTERVAL);
    loop {
        ticks.tick().await;
        match store.presence_after(wall() - control::limits::ATTACHED_MAX * 2).await {
            Ok(rows) => {
                if !desk.tell(Input::Heard(rows)).await {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(error = report::chain(&error), "what others heard is looked at later");
            }
        }
    }
}

/// Listens for as long as it is polled; ends where there is nobody to be heard.
pub async fn listen(store: Store, desk: Desk) {
    if store.shares_sessions() {
        tracing::info!(
            "the database is behind a pooler that shares sessions: other replicas are not heard, the database is \
             asked four times a second instead"
        );
    }
    loop {
        let error = match store.news().await {
            Ok(None) => return,
            Ok(Some(mut news)) => loop {
                match news.next().await {
                    Ok(word) => {
                        let input = match word {
                            Word::Wrote => Input::Rumoured,
                            Word::Hint(hint) => Input::Passed(hint),
                            Word::Sighting(sighting) => Input::Sighted(sighting),
                        };
                        if !desk.tell(input).await {
                            return;
                        }
                    }
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
