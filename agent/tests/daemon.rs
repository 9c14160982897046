//! The agent as a process, in a network namespace of its own, with no server: what it answers on its socket, what it
//! keeps, how it ends. Needs root.

use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::time::Duration;

use model::api::local::{Answer, Request, Status};
use model::key::TokenSecret;
use model::token::OnboardingToken;
use model::{Fingerprint, Label, TokenId};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const PROGRAM: &str = env!("CARGO_BIN_EXE_warren-agent");
/// For what happens at once, on a machine that builds at the same time.
const SOON: Duration = Duration::from_secs(30);
/// Nobody listens there in an empty namespace.
const SERVER: &str = "https://192.0.2.1:8443";

struct Agent {
    child: Child,
    log: BufReader<ChildStderr>,
    socket: PathBuf,
}

impl Agent {
    /// unshare(1) becomes the program, so its process id is the agent's.
    fn start(directory: &Path) -> Self {
        let socket = directory.join("agent.sock");
        let mut command = Command::new("unshare");
        command.args(["--net", "--", PROGRAM, "--resolver", "none", "--mode", "userspace", "--state-dir"]);
        command.arg(directory.join("state")).arg("--socket").arg(&socket);
        command.env_remove("WARREN_CONFIG").stderr(Stdio::piped());
        let mut child = command.spawn().expect("unshare(1) is there");
        let log = BufReader::new(child.stderr.take().expect("it is piped"));
        let mut agent = Self { child, log, socket };
        agent.said("serving");
        agent
    }

    fn said(&mut self, part: &str) {
        let mut seen = String::new();
        while self.log.read_line(&mut seen).expect("the log is text") > 0 {
            if seen.lines().last().is_some_and(|line| line.contains(part)) {
                return;
            }
        }
        panic!("it ended without saying {part:?}:\n{seen}");
    }

    fn talk(&self, line: &[u8]) -> Answer {
        let mut stream = UnixStream::connect(&self.socket).expect("the agent listens");
        stream.set_read_timeout(Some(SOON)).expect("a time");
        stream.write_all(line).expect("the agent reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("the agent answers and hangs up");
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{error}: {answer:?}"))
    }

    fn ask(&self, request: &Request) -> Answer {
        let mut line = serde_json::to_vec(request).expect("a request");
        line.push(b'\n');
        self.talk(&line)
    }

    fn status(&self) -> Status {
        match self.ask(&Request::Status { profile: home() }) {
            Answer::Status(status) => *status,
            other => panic!("{other:?}"),
        }
    }

    fn up(&self, server: Option<&str>, token: Option<String>) -> Answer {
        let server = server.map(Into::into);
        self.ask(&Request::Up { profile: home(), server, token, hostname: None, timeout_millis: 0 })
    }

    /// SIGTERM: it drains and ends with 0.
    fn stop(mut self) {
        let id = i32::try_from(self.child.id()).expect("process ids are small");
        kill(Pid::from_raw(id), Signal::SIGTERM).expect("it runs");
        self.said("stopped");
        assert_eq!(self.child.wait().expect("it ends").code(), Some(0));
        assert!(!self.socket.exists(), "the socket is gone");
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn home() -> Label {
    "home".parse().expect("a label")
}

fn token() -> String {
    let token = OnboardingToken {
        id: TokenId::from_bytes([1; 16]),
        secret: TokenSecret::from_seed([2; 32]),
        anchor: Fingerprint::from_bytes([3; 32]),
    };
    token.expose().to_string()
}

fn code(answer: Answer) -> String {
    match answer {
        Answer::Refused(problem) => {
            assert!(!problem.hint.is_empty(), "{problem:?}");
            problem.code
        }
        other => panic!("not refused: {other:?}"),
    }
}

#[test]
fn a_wish_to_join_outlives_the_agent_and_ends_with_logout() {
    let directory = tempfile::tempdir().unwrap();
    let agent = Agent::start(directory.path());
    assert_eq!(fs::metadata(&agent.socket).unwrap().permissions().mode() & 0o777, 0o660);
    assert_eq!(agent.status().state, "down");
    assert_eq!(code(agent.up(None, None)), "not-enrolled");
    assert_eq!(code(agent.up(Some(SERVER), None)), "not-enrolled");
    let Answer::Status(status) = agent.up(Some(SERVER), Some(token())) else { panic!("not joining") };
    assert_eq!((status.state.as_str(), status.server.as_deref()), ("joining", Some(SERVER)));
    assert_eq!(
        code(agent.ask(&Request::Ping { profile: home(), target: "a".into(), count: 1, timeout_millis: 1 })),
        "not-enrolled"
    );
    let waited = agent.ask(&Request::WaitSettled { profile: home(), timeout_millis: 1 });
    assert!(matches!(waited, Answer::Status(status) if status.state == "joining"));
    agent.stop();

    let profile = directory.path().join("state/profiles/home");
    for key in ["identity.key", "wg.key", "ledger"] {
        assert_eq!(fs::metadata(profile.join(key)).unwrap().permissions().mode() & 0o777, 0o600, "{key}");
    }
    let agent = Agent::start(directory.path());
    assert_eq!(agent.status().state, "joining", "the wish is kept on disk");
    for _ in 0..2 {
        assert_eq!(agent.ask(&Request::Logout { profile: home() }), Answer::Done);
        assert_eq!(agent.status().state, "down");
        assert!(!profile.exists());
    }
    agent.stop();
}

#[test]
fn half_a_key_is_reported_and_left() {
    let directory = tempfile::tempdir().unwrap();
    let agent = Agent::start(directory.path());
    assert!(matches!(agent.up(Some(SERVER), Some(token())), Answer::Status(_)));
    agent.stop();
    let key = directory.path().join("state/profiles").join("home").join("identity.key");
    fs::write(&key, "half").unwrap();

    let agent = Agent::start(directory.path());
    let problems = agent.status().problems.join("\n");
    assert!(problems.contains("identity.key holds no key") && problems.contains("backup"), "{problems}");
    assert_eq!(code(agent.up(Some(SERVER), Some(token()))), "state-damaged");
    assert_eq!(fs::read(&key).unwrap(), b"half", "it is not replaced");
    assert_eq!(agent.ask(&Request::Logout { profile: home() }), Answer::Done);
    assert!(matches!(agent.up(Some(SERVER), Some(token())), Answer::Status(_)), "begins anew");
    agent.stop();
}

#[test]
fn nonsense_is_refused_and_harms_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let agent = Agent::start(directory.path());
    let slow = UnixStream::connect(&agent.socket).unwrap();
    for line in [
        &b"\n"[..],
        b"hello\n",
        b"\xff\xfe\n",
        b"{\"do\":\"status\"}\n",
        b"{\"do\":\"status\",\"profile\":\"../x\"}\n",
        b"{\"do\":\"status\",\"profile\":\"home\",\"more\":1}\n",
        b"{\"do\":\"up\",\"profile\":\"home\",\"server\":\"http://x\",\"token\":\"wt1_x\"}\n",
    ] {
        assert_eq!(code(agent.talk(line)), "bad-request", "{}", String::from_utf8_lossy(line));
    }
    assert_eq!(agent.status().state, "down");
    drop(slow);
    agent.stop();
}
