//! A real `warren-apid` on SQLite in a directory of its own, and how it is asked.

use std::net::SocketAddr;
use std::ops::Deref;
use std::process::Command;
use std::time::{Duration, Instant};

use link::https::{Bounds, Method, Request, Server, header, request};
use link::tls::HttpsTrust;
use model::Fingerprint;
use serde_json::Value;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::started::{Started, free};

/// Long enough for Argon2 in a debug build on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Apid {
    started: Started,
    pub(crate) dir: TempDir,
    pub(crate) at: SocketAddr,
    pub(crate) probes: SocketAddr,
}

impl Apid {
    pub(crate) fn start(dir: TempDir, environment: &[(&str, &str)]) -> Self {
        let (at, probes) = (free(), free());
        let arrange = |command: &mut Command| {
            command
                .args(["--allow-root", "--public-url", &format!("https://{at}")])
                .args(["--listen", &at.to_string(), "--stun-listen", "127.0.0.1:0"])
                .args(["--metrics-listen", &probes.to_string()])
                .envs(environment.iter().copied());
        };
        // The secret comes one line later, if it comes.
        let tells_more = |log: &str| environment.is_empty() && !log.contains("first administrator made");
        let started = Started::new(dir.path(), arrange, tells_more);
        Self { started, dir, at, probes }
    }

    pub(crate) fn socket(&self) -> Server {
        Server::Unix(self.dir.path().join("apid.sock"))
    }

    pub(crate) fn https(&self, pin: Fingerprint) -> Server {
        let address = format!("https://{}", self.at).parse().expect("a URL");
        Server::Https { address, trust: HttpsTrust::Pinned(pin) }
    }

    pub(crate) fn fingerprint(&self) -> Fingerprint {
        self.field("fingerprint").parse().expect("a fingerprint")
    }

    /// Ends it as an operator would, and gives back what it keeps.
    pub(crate) fn stop(mut self) -> TempDir {
        let pid = nix::unistd::Pid::from_raw(i32::try_from(self.started.child.id()).expect("a pid"));
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).expect("alive");
        let end = Instant::now() + PATIENCE;
        let status = loop {
            if let Some(status) = self.started.child.try_wait().expect("waited for") {
                break status;
            }
            assert!(Instant::now() < end, "apid does not stop");
            std::thread::yield_now();
        };
        assert!(status.success(), "SIGTERM ends it with 0, not {status}");
        self.dir
    }
}

impl Deref for Apid {
    type Target = Started;
    fn deref(&self) -> &Started {
        &self.started
    }
}

pub(crate) async fn ask(
    server: &Server,
    method: Method,
    path: &str,
    bearer: Option<&str>,
    body: Value,
) -> (u16, Value) {
    let mut builder = Request::builder().method(method).uri(path);
    if let Some(bearer) = bearer {
        builder = builder.header(header::AUTHORIZATION, format!("Bearer {bearer}"));
    }
    let bytes = if body.is_null() { Vec::new() } else { serde_json::to_vec(&body).expect("JSON") };
    let builder = builder.header(header::CONTENT_TYPE, "application/json");
    let bounds = Bounds { time_max: PATIENCE, ..Bounds::default() };
    let response =
        request(server, builder.body(bytes.into()).expect("a request"), bounds).await.expect("an answer");
    let json = serde_json::from_slice(response.body()).unwrap_or(Value::Null);
    (response.status().as_u16(), json)
}

pub(crate) async fn get(server: &Server, path: &str, bearer: Option<&str>) -> (u16, Value) {
    ask(server, Method::GET, path, bearer, Value::Null).await
}

pub(crate) async fn post(server: &Server, path: &str, bearer: Option<&str>, body: Value) -> (u16, Value) {
    ask(server, Method::POST, path, bearer, body).await
}

/// What a probe sees: the whole answer, head and body.
pub(crate) async fn probe(apid: &Apid, path: &str) -> String {
    let mut stream = TcpStream::connect(apid.probes).await.expect("it listens");
    let question = format!("GET {path} HTTP/1.0\r\n\r\n");
    stream.write_all(question.as_bytes()).await.expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.expect("text");
    answer
}

pub(crate) fn fresh() -> Apid {
    Apid::start(tempfile::tempdir().expect("a directory"), &[])
}
