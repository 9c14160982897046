//! `warren nc`: a connection to a device over the agent's socket. Knows no JSON.

use std::sync::Arc;
use std::time::Duration;

use model::{Code, Label, Refusal};
use tokio::io::{AsyncRead, AsyncWrite, copy_bidirectional, join};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::profiles::Profiles;
use crate::reach::{self, Reached};

/// Nobody waits longer for a connection.
const PATIENCE_MAX: Duration = Duration::from_secs(120);

/// What to connect to.
pub struct Wish {
    /// By which profile.
    pub profile: Label,
    /// A name in the zone or a mesh address.
    pub target: String,
    /// TCP port there.
    pub port: u16,
    /// Give up after so long.
    pub patience: Duration,
}

/// Connects, and takes one of the places for connections.
pub async fn open(
    profiles: &Profiles,
    wish: &Wish,
    places: Arc<Semaphore>,
) -> Result<(Reached, OwnedSemaphorePermit), Refusal> {
    if wish.port == 0 {
        return Err(Refusal::new(Code::BadRequest, "port: a port is 1 to 65535"));
    }
    let full = |_| Refusal::new(Code::QuotaReached, "the agent carries as many connections as it can");
    let place = places.try_acquire_owned().map_err(full)?;
    let profile = profiles.running(&wish.profile).await?;
    let reached = reach::device(&profile, &wish.target, wish.port, wish.patience.min(PATIENCE_MAX)).await?;
    Ok((reached, place))
}

/// Carries bytes until both sides have ended; each half ends by itself.
pub async fn carry(
    reader: impl AsyncRead + Send + Unpin,
    writer: impl AsyncWrite + Send + Unpin,
    mut reached: Reached,
) {
    if let Err(error) = copy_bidirectional(&mut join(reader, writer), &mut reached.stream).await {
        tracing::debug!(to = %reached.address, %error, "a connection broke");
    }
}
