//! Relays from outside: real `warren-apid` processes, and devices that speak to them.

mod alone;
mod apid;
mod device;
mod places;
mod secrecy;
mod server;
#[path = "../shared/started.rs"]
mod started;

use std::time::Duration;

/// Long enough on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

async fn soon<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(PATIENCE, future).await.expect("done in time")
}
