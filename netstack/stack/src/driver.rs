//! The one task that moves packets between the descriptor and the stack. Decides nothing.

use std::os::fd::OwnedFd;
use std::sync::Arc;
use std::time::Instant;

use tokio::io::Interest;
use tokio::net::UnixDatagram;
use tokio::time::sleep_until;

use crate::core::Shared;

type Line = Option<UnixDatagram>;

/// Runs until it is aborted.
pub(crate) async fn run(shared: Arc<Shared>) {
    let mut line: Line = None;
    loop {
        let exchange = shared.lock().exchange.take();
        if let Some(other) = exchange {
            line = other.and_then(|fd| register(fd, &shared));
        }
        let turn = shared.lock().turn(line.as_ref());
        if turn.gone {
            shared.lock().detach();
            continue;
        }
        if turn.busy {
            tokio::task::yield_now().await;
            continue;
        }
        tokio::select! {
            () = shared.stirred.notified() => {}
            () = ready(&line, turn.blocked) => {}
            () = until(turn.due) => {}
        }
    }
}

fn register(fd: OwnedFd, shared: &Shared) -> Line {
    // tokio has no type for sequenced packets; receiving and sending are the same calls for all that are connected.
    let socket = std::os::unix::net::UnixDatagram::from(fd);
    let line = socket.set_nonblocking(true).and_then(|()| UnixDatagram::from_std(socket));
    match line {
        Ok(line) => Some(line),
        Err(error) => {
            tracing::error!(%error, "the mesh's packets cannot be waited for");
            shared.lock().detach();
            None
        }
    }
}

/// Waits for packets, and for room to send those that wait.
async fn ready(line: &Line, blocked: bool) {
    let Some(line) = line else { return std::future::pending().await };
    let interest = if blocked { Interest::READABLE | Interest::WRITABLE } else { Interest::READABLE };
    if let Err(error) = line.ready(interest).await {
        // The runtime is going away, and this task with it.
        tracing::debug!(%error, "the descriptor cannot be waited for");
        std::future::pending::<()>().await;
    }
}

async fn until(due: Option<Instant>) {
    match due {
        Some(due) => sleep_until(due.into()).await,
        None => std::future::pending().await,
    }
}
