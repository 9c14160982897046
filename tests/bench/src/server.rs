//! A real `warren-apid` on SQLite that belongs to one measurement, and its API by its unix socket.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use lab::{SOON, until};
use link::https::{Bounds, Method, Request, Server, header, request};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Where it listens, in the network namespace of the measurement.
pub const ADDRESS: ([u8; 4], u16) = ([127, 0, 0, 1], 8443);

/// The server. Killed, and its folder removed, when it is dropped.
pub struct Apid {
    child: Child,
    folder: TempDir,
}

impl Apid {
    /// Starts it and waits until it serves.
    pub fn start(runtime: &Runtime) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let log = File::create(folder.path().join("log")).expect("the folder is ours");
        let address = SocketAddr::from(ADDRESS);
        let child = Command::new(program())
            .args(["--allow-root", "--hub-user", "root"])
            .args(["--public-url", &format!("https://{address}"), "--listen", &address.to_string()])
            .args(["--stun-listen", "off"])
            .arg("--state-dir")
            .arg(folder.path())
            .arg("--socket")
            .arg(folder.path().join("apid.sock"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("warren-apid can be started");
        let apid = Self { child, folder };
        let serves = || runtime.block_on(apid.try_ask(Method::GET, "/api/v1/status", &Value::Null));
        if until(SOON, serves).is_none() {
            let log = fs::read_to_string(apid.folder.path().join("log")).unwrap_or_default();
            panic!("warren-apid does not serve:\n{log}");
        }
        apid
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its unix socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("apid.sock")
    }

    /// An onboarding token for so many devices.
    pub async fn token(&self, uses: usize) -> String {
        let created =
            self.ask(Method::POST, "/api/v1/tokens", &json!({"ttl_seconds": 3600, "uses": uses})).await;
        created["secret"].as_str().expect("a token has a secret").to_owned()
    }

    /// One request that must succeed.
    pub async fn ask(&self, method: Method, path: &str, body: &Value) -> Value {
        let answer = self.try_ask(method, path, body).await;
        answer.unwrap_or_else(|| panic!("{path} failed; see {}", self.folder.path().join("log").display()))
    }

    async fn try_ask(&self, method: Method, path: &str, body: &Value) -> Option<Value> {
        let bytes = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        let wish =
            Request::builder().method(method).uri(path).header(header::CONTENT_TYPE, "application/json");
        let wish = wish.body(bytes.into()).expect("paths of ours are well-formed");
        let answer = request(&Server::Unix(self.socket()), wish, Bounds::default()).await.ok()?;
        let value = serde_json::from_slice(answer.body()).unwrap_or(Value::Null);
        answer.status().is_success().then_some(value)
    }
}

impl Drop for Apid {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The server's program.
pub fn program() -> PathBuf {
    let folder = std::env::var_os("WARREN_BIN_DIR").expect("scripts/bench says where the programs are");
    PathBuf::from(folder).join("warren-apid")
}
