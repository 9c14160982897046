//! The agent's unix socket: one JSON line each way.

use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::Duration;

use model::api::local::{Answer, LINE_BYTES_MAX, Request};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::UnixStream;

use crate::failure::{Exit, Failure};

/// Longer than any answer that the agent was not told a time for.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(15);

/// A conversation with the agent.
pub struct Agent {
    socket: PathBuf,
    stream: BufReader<UnixStream>,
}

impl Agent {
    /// Sends the wish.
    pub async fn ask(socket: &Path, request: &Request) -> Result<Self, Failure> {
        let stream = UnixStream::connect(socket).await.map_err(|e| unreachable_because(socket, &e))?;
        let mut agent = Self { socket: socket.into(), stream: BufReader::new(stream) };
        let mut line = serde_json::to_vec(request).map_err(|e| Failure::bug(e.to_string()))?;
        line.push(b'\n');
        agent.stream.write_all(&line).await.map_err(|e| unreachable_because(socket, &e))?;
        Ok(agent)
    }

    /// The next answer; `None` when the agent has said everything. `patience` is how long the agent may take by itself.
    pub async fn answer(&mut self, patience: Duration) -> Result<Option<Answer>, Failure> {
        let mut line = String::new();
        let mut limited = (&mut self.stream).take(LINE_BYTES_MAX as u64);
        let read = tokio::time::timeout(patience + ANSWER_TIME_MAX, limited.read_line(&mut line)).await;
        match read {
            Err(_) => Err(Failure::new(
                Exit::TimedOut,
                "timed-out",
                format!("the agent at {} does not answer", self.socket.display()),
                "see its log: journalctl -u warren-agent",
            )),
            Ok(Err(error)) => Err(unreachable_because(&self.socket, &error)),
            Ok(Ok(0)) => Ok(None),
            Ok(Ok(_)) => match serde_json::from_str(&line) {
                Ok(Answer::Refused(problem)) => Err(problem.into()),
                Ok(answer) => Ok(Some(answer)),
                Err(error) => Err(Failure::bug(format!("the agent's answer cannot be read: {error}"))),
            },
        }
    }

    /// The socket, once the agent has said that it is a connection now; with what has come of it already.
    pub fn into_stream(self) -> BufReader<UnixStream> {
        self.stream
    }
}

/// Asks once and takes the one answer.
pub async fn ask_once(socket: &Path, request: &Request, patience: Duration) -> Result<Answer, Failure> {
    let answer = Agent::ask(socket, request).await?.answer(patience).await?;
    answer.ok_or_else(|| Failure::bug("the agent hung up without an answer"))
}

fn unreachable_because(socket: &Path, error: &std::io::Error) -> Failure {
    let (detail, hint) = match error.kind() {
        ErrorKind::PermissionDenied => ("may not be used by you", "run it as root, or join the group warren"),
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => {
            ("is not there", "start the agent: systemctl start warren-agent")
        }
        _ => ("does not answer", "see the agent's log: journalctl -u warren-agent"),
    };
    let detail = format!("the agent's socket {} {detail}", socket.display());
    Failure::new(Exit::Unreachable, "agent-unreachable", detail, hint)
}
