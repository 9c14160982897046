//! The agent's unix socket: who may speak, one JSON line in, JSON lines out. Knows no wish.

use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt as _, chown};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use model::api::local::{Answer, LINE_BYTES_MAX, Request};
use model::{Code, Refusal};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::unix::{OwnedReadHalf, OwnedWriteHalf, UCred};
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{sleep, timeout};

use crate::profiles::Profiles;
use crate::requests::{fulfil, refused};
use crate::stream;

/// Owner and group.
const SOCKET_MODE: u32 = 0o660;
/// People at one machine; whoever comes later waits in the kernel's queue.
const CONNECTIONS_MAX: usize = 64;
/// Connections that are carried; whoever wants one more is refused.
const STREAMS_MAX: usize = 256;
/// A program writes its line at once.
const LINE_PATIENCE: Duration = Duration::from_secs(5);
/// Answers that wait for a slow reader.
const ANSWERS_MAX: usize = 4;
/// When the machine is short of descriptors, or the like, accepting again at once would spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// Listens for root and the members of a group. Makes the socket's directory if there is none.
pub async fn listen(path: &Path, group: Option<u32>) -> io::Result<UnixListener> {
    if let Some(directory) = path.parent().filter(|d| !d.exists()) {
        fs::create_dir_all(directory)?;
        fs::set_permissions(directory, fs::Permissions::from_mode(0o755))?;
    }
    let listener = link::unix::listen(path, SOCKET_MODE).await?;
    if let Some(group) = group {
        match chown(path, None, Some(group)) {
            // Only root, or a member, may give a file to a group.
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                tracing::info!(%error, "the socket is not the group's: only this user and root may speak");
            }
            other => other?,
        }
    }
    Ok(listener)
}

/// Serves until dropped.
pub async fn serve(listener: UnixListener, group: Option<u32>, profiles: Arc<Profiles>) {
    let seats = Arc::new(Semaphore::new(CONNECTIONS_MAX));
    let streams = Arc::new(Semaphore::new(STREAMS_MAX));
    loop {
        let seat = Arc::clone(&seats).acquire_owned().await.expect("the semaphore is never closed");
        match listener.accept().await {
            Ok((stream, _)) => {
                let (profiles, streams) = (Arc::clone(&profiles), Arc::clone(&streams));
                tokio::spawn(converse(stream, group, profiles, streams, seat));
            }
            Err(error) => {
                tracing::warn!(%error, "a connection could not be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn converse(
    stream: UnixStream,
    group: Option<u32>,
    profiles: Arc<Profiles>,
    streams: Arc<Semaphore>,
    seat: OwnedSemaphorePermit,
) {
    let who = stream.peer_cred();
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::new(reader);
    let request = match who {
        Ok(who) if may_speak(who, group) => read(&mut reader).await,
        Ok(who) => {
            Err(Refusal::new(Code::Forbidden, format!("user {} may not speak to the agent", who.uid())))
        }
        Err(_) => return,
    };
    match request {
        Ok(Request::Connect { profile, target, port, timeout_millis }) => {
            let wish =
                stream::Wish { profile, target, port, patience: Duration::from_millis(timeout_millis) };
            match stream::open(&profiles, &wish, streams).await {
                Ok((reached, place)) => {
                    // From here on it is a connection, of which there may be more than people.
                    drop(seat);
                    let connected = Answer::Connected { address: reached.address.ip() };
                    if say(&mut writer, &connected).await {
                        stream::carry(reader, writer, reached).await;
                    }
                    drop(place);
                }
                Err(refusal) => drop(say(&mut writer, &refused(&refusal)).await),
            }
        }
        Ok(request) => {
            drop(reader);
            let (answers, to_write) = mpsc::channel(ANSWERS_MAX);
            let fulfilling = async move { fulfil(&profiles, request, &answers).await };
            tokio::join!(fulfilling, write(writer, to_write));
        }
        Err(refusal) => drop(say(&mut writer, &refused(&refusal)).await),
    }
}

/// Root, whoever runs the agent, and the group.
fn may_speak(who: UCred, group: Option<u32>) -> bool {
    who.uid() == 0
        || who.uid() == nix::unistd::Uid::effective().as_raw()
        || group.is_some_and(|group| shell::users::is_member(who.uid(), who.gid(), group))
}

async fn read(reader: &mut BufReader<OwnedReadHalf>) -> Result<Request, Refusal> {
    let bad = |what: String| Refusal::new(Code::BadRequest, what);
    let mut line = Vec::new();
    let mut reader = reader.take(LINE_BYTES_MAX as u64);
    match timeout(LINE_PATIENCE, reader.read_until(b'\n', &mut line)).await {
        Err(_) => Err(bad(format!("no whole line in {} s", LINE_PATIENCE.as_secs()))),
        Ok(Err(error)) => Err(bad(error.to_string())),
        Ok(Ok(LINE_BYTES_MAX)) if line.last() != Some(&b'\n') => {
            Err(bad(format!("a line has at most {LINE_BYTES_MAX} bytes")))
        }
        Ok(Ok(_)) => serde_json::from_slice(&line).map_err(|error| bad(format!("not understood: {error}"))),
    }
}

/// Writes what comes until there is no more, or the reader is gone or asleep.
async fn write(mut writer: OwnedWriteHalf, mut answers: mpsc::Receiver<Answer>) {
    while let Some(answer) = answers.recv().await {
        if !say(&mut writer, &answer).await {
            return;
        }
    }
    // Nothing is left to say to one who is gone.
    let _ = writer.shutdown().await;
}

/// Writes one answer; `false` if the reader is gone or asleep.
async fn say(writer: &mut OwnedWriteHalf, answer: &Answer) -> bool {
    let mut line = serde_json::to_vec(answer).expect("answers are plain data");
    line.push(b'\n');
    matches!(timeout(LINE_PATIENCE, writer.write_all(&line)).await, Ok(Ok(())))
}
