//! `warren nc`: a connection to a device, between standard input and standard output.

use std::convert::Infallible;
use std::io::{Read as _, Write as _};
use std::path::Path;
use std::time::Duration;

use model::Label;
use model::api::local::{Answer, Request};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, split};
use tokio::sync::mpsc;

use crate::agent::Agent;
use crate::failure::{Exit, Failure};

/// Read from standard input at once.
const BLOCK_BYTES: usize = 64 * 1024;
/// Blocks that wait for the peer.
const BLOCKS_MAX: usize = 4;

pub(super) async fn run(
    socket: &Path,
    profile: &Label,
    host: &str,
    port: u16,
    timeout: Duration,
) -> Result<Exit, Failure> {
    let request = Request::Connect {
        profile: profile.clone(),
        target: host.into(),
        port,
        timeout_millis: u64::try_from(timeout.as_millis()).unwrap_or(u64::MAX),
    };
    let mut agent = Agent::ask(socket, &request).await?;
    match agent.answer(timeout).await? {
        Some(Answer::Connected { .. }) => {}
        Some(other) => return Err(Failure::bug(format!("the agent answered {other:?}"))),
        None => return Err(Failure::bug("the agent hung up without an answer")),
    }
    let (from_peer, to_peer) = split(agent.into_stream());
    // Whoever has nothing more to read has done what it came for, even if standard input is still open.
    tokio::select! {
        received = receive(from_peer) => received?,
        never = send(to_peer) => match never {},
    }
    Ok(Exit::Done)
}

/// Sends what comes from standard input, then the end of it. Ends only with the connection.
async fn send(mut to_peer: impl AsyncWrite + Unpin) -> Infallible {
    let (blocks, mut taken) = mpsc::channel::<Vec<u8>>(BLOCKS_MAX);
    // A thread of its own that nobody waits for: reading cannot be called off.
    std::thread::spawn(move || {
        let mut stdin = std::io::stdin().lock();
        loop {
            let mut block = vec![0; BLOCK_BYTES];
            match stdin.read(&mut block) {
                Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
                Ok(0) | Err(_) => return,
                Ok(bytes) => {
                    block.truncate(bytes);
                    if blocks.blocking_send(block).is_err() {
                        return;
                    }
                }
            }
        }
    });
    while let Some(block) = taken.recv().await {
        if to_peer.write_all(&block).await.is_err() {
            break;
        }
    }
    // The receiving half tells how it ended.
    let _ = to_peer.shutdown().await;
    std::future::pending().await
}

async fn receive(mut from_peer: impl AsyncRead + Unpin) -> Result<(), Failure> {
    let mut block = vec![0; BLOCK_BYTES];
    loop {
        let broke = |error: std::io::Error| {
            Failure::new(Exit::Unreachable, "connection-broke", error.to_string(), "see `warren status`")
        };
        let bytes = from_peer.read(&mut block).await.map_err(broke)?;
        if bytes == 0 {
            return Ok(());
        }
        let mut stdout = std::io::stdout().lock();
        // As the left side of a pipe: whoever does not want more is no error.
        if stdout.write_all(&block[..bytes]).and_then(|()| stdout.flush()).is_err() {
            return Ok(());
        }
    }
}
