//! A real `warren-apid`, asked over its unix socket and its probes.

use std::io::{BufRead as _, BufReader};
use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};

use link::ServerAddress;
use link::https::{Bounds, Method, Request, Server, header, request};
use model::Fingerprint;
use model::token::OnboardingToken;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use crate::{PATIENCE, soon};

pub struct Apid {
    child: Child,
    dir: TempDir,
    pub address: ServerAddress,
    probes: u16,
    fingerprint: Fingerprint,
    flags: Vec<String>,
}

impl Apid {
    pub fn start() -> Self {
        Self::with(&[])
    }

    pub fn with(flags: &[&str]) -> Self {
        let (listen, probes) = (free(), free());
        let mut all = vec!["--allow-root".to_owned(), "--public-url".into(), format!("https://{listen}")];
        all.extend(["--listen".into(), listen.to_string(), "--metrics-listen".into(), probes.to_string()]);
        all.extend(flags.iter().copied().map(str::to_owned));
        Self::again(tempfile::tempdir().expect("a directory"), &all)
    }

    /// With the state and the flags of one that was killed.
    pub fn again(dir: TempDir, flags: &[String]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_warren-apid"))
            .args(flags)
            .arg("--state-dir")
            .arg(dir.path())
            .arg("--socket")
            .arg(dir.path().join("apid.sock"))
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary runs");
        let mut lines = BufReader::new(child.stderr.take().expect("piped"));
        let mut log = String::new();
        while !log.contains("serving") {
            let read = lines.read_line(&mut log).expect("readable");
            assert_ne!(read, 0, "apid ended: {log}");
        }
        std::thread::spawn(move || std::io::copy(&mut lines, &mut std::io::sink()));
        let (_, fingerprint) = log.rsplit_once("fingerprint=").expect("it says its key");
        let fingerprint = fingerprint.split_whitespace().next().and_then(|text| text.parse().ok());
        let after = |flag: &str| {
            let at = flags.iter().position(|given| given == flag).expect("given") + 1;
            flags[at].parse::<SocketAddr>().expect("an address")
        };
        Self {
            child,
            dir,
            address: after("--listen").into(),
            probes: after("--metrics-listen").port(),
            fingerprint: fingerprint.expect("a fingerprint"),
            flags: flags.to_vec(),
        }
    }

    /// Of its TLS key.
    pub fn fingerprint(&self) -> Fingerprint {
        self.fingerprint
    }

    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Ends it at once, and gives back what it keeps and how it was started.
    pub fn kill(mut self) -> (TempDir, Vec<String>) {
        self.child.kill().expect("alive");
        self.child.wait().expect("waited for");
        let dir = std::mem::replace(&mut self.dir, tempfile::tempdir().expect("a directory"));
        (dir, self.flags.clone())
    }

    pub async fn post(&self, path: &str, body: Value) -> Value {
        let wish = Request::builder()
            .method(Method::POST)
            .uri(path)
            .header(header::CONTENT_TYPE, "application/json")
            .body(serde_json::to_vec(&body).expect("JSON").into())
            .expect("a request");
        let server = Server::Unix(self.dir.path().join("apid.sock"));
        let bounds = Bounds { time_max: PATIENCE, ..Bounds::default() };
        let response = request(&server, wish, bounds).await.expect("an answer");
        assert!(response.status().is_success(), "{path}: {response:?}");
        serde_json::from_slice(response.body()).expect("JSON")
    }

    pub async fn token(&self, tenant: &str, needs_approval: bool) -> OnboardingToken {
        let wish = json!({"ttl_seconds": 600, "uses": 10, "approve": needs_approval});
        let made = self.post(&format!("/api/v1/tokens?tenant={tenant}"), wish).await;
        made["secret"].as_str().expect("a secret").parse().expect("a token")
    }

    pub async fn metric(&self, name: &str) -> u64 {
        let mut stream = TcpStream::connect(("127.0.0.1", self.probes)).await.expect("it listens");
        stream.write_all(b"GET /metrics HTTP/1.0\r\n\r\n").await.expect("it reads");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("text");
        let line = text.lines().find(|line| line.starts_with(&format!("{name} ")));
        let value = line.and_then(|line| line.rsplit(' ').next()).unwrap_or_else(|| panic!("no {name}"));
        value.parse().expect("a number")
    }

    /// Waits until a metric has this value.
    pub async fn wait_for(&self, name: &str, value: u64) {
        soon(async { while self.metric(name).await != value {} }).await;
    }
}

impl Drop for Apid {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address that nobody has, over TCP or UDP.
pub fn free() -> SocketAddr {
    loop {
        let tcp = TcpListener::bind("127.0.0.1:0").expect("a port");
        let at = tcp.local_addr().expect("bound");
        if UdpSocket::bind(at).is_ok() {
            return at;
        }
    }
}
