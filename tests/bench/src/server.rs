//! A real `warren-apid` on SQLite that belongs to one measurement, and its API by its unix socket.

use std::fs::{self, File};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::Duration;

use lab::{SOON, until, wait_for};
use link::https::{Bounds, Method, Request, Server, header, request};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;

/// Where it listens, in the network namespace of the measurement.
pub const ADDRESS: ([u8; 4], u16) = ([127, 0, 0, 1], 8443);
/// Of the person `admin`.
pub const ADMIN_PASSWORD: &str = "violet tram 9 opens";
/// It ends by itself before, whatever it waits for.
const STOP_TIME_MAX: Duration = Duration::from_secs(60);
/// Where it says what it counts.
pub const METRICS: ([u8; 4], u16) = ([127, 0, 0, 1], 8080);

/// Measures a new server, with a network namespace for it and for all that is started meanwhile.
pub fn alone<T: Send + 'static>(measure: impl FnOnce(&Runtime, Apid) -> T + Send + 'static) -> T {
    alone_with(&["--trusted-proxy", "127.0.0.0/8"], measure)
}

/// The same with these flags: a proxy that is trusted says who asks, and hides who is at the other end of TLS.
pub fn alone_with<T: Send + 'static>(
    flags: &'static [&'static str],
    measure: impl FnOnce(&Runtime, Apid) -> T + Send + 'static,
) -> T {
    let alone = thread::spawn(move || {
        unshare(CloneFlags::CLONE_NEWNET).expect("root may make a network namespace");
        let up = Command::new("ip").args(["link", "set", "lo", "up"]).status();
        assert!(up.is_ok_and(|status| status.success()), "a loopback interface can be set up");
        let runtime = Runtime::new().expect("threads can be started");
        let apid = Apid::start(&runtime, flags);
        measure(&runtime, apid)
    });
    alone.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// The server. Killed, and its folder removed, when it is dropped.
pub struct Apid {
    child: Child,
    folder: TempDir,
    flags: &'static [&'static str],
}

impl Apid {
    /// Starts it and waits until it serves.
    pub fn start(runtime: &Runtime, flags: &'static [&'static str]) -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let apid = Self { child: serve(folder.path(), flags), folder, flags };
        apid.wait(runtime);
        apid
    }

    /// Ends it with a signal, and starts it again on what it left; waits until it serves.
    pub fn restart(&mut self, runtime: &Runtime, signal: Signal) {
        let id = Pid::from_raw(i32::try_from(self.id()).expect("process ids are small"));
        kill(id, signal).expect("it runs");
        wait_for("warren-apid ends", STOP_TIME_MAX, || self.child.try_wait().is_ok_and(|end| end.is_some()));
        self.child = serve(self.folder.path(), self.flags);
        self.wait(runtime);
    }

    fn wait(&self, runtime: &Runtime) {
        let serves = || runtime.block_on(self.try_ask(Method::GET, "/api/v1/status", &Value::Null));
        if until(SOON, serves).is_none() {
            let log = fs::read_to_string(self.folder.path().join("log")).unwrap_or_default();
            panic!("warren-apid does not serve:\n{log}");
        }
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its unix socket.
    pub fn socket(&self) -> PathBuf {
        self.folder.path().join("apid.sock")
    }

    /// An onboarding token of the first tenant for so many devices.
    pub async fn token(&self, uses: usize) -> String {
        self.token_by("/api/v1/tokens", uses).await
    }

    /// The same of a tenant.
    pub async fn token_of(&self, tenant: &str, uses: usize) -> String {
        self.token_by(&format!("/api/v1/tokens?tenant={tenant}"), uses).await
    }

    async fn token_by(&self, path: &str, uses: usize) -> String {
        let created = self.ask(Method::POST, path, &json!({"ttl_seconds": 3600, "uses": uses})).await;
        created["secret"].as_str().expect("a token has a secret").to_owned()
    }

    /// One request that must succeed.
    pub async fn ask(&self, method: Method, path: &str, body: &Value) -> Value {
        let answer = self.try_ask(method, path, body).await;
        answer.unwrap_or_else(|| panic!("{path} failed; see {}", self.folder.path().join("log").display()))
    }

    /// One request; `None` if it was refused or not answered.
    pub async fn try_ask(&self, method: Method, path: &str, body: &Value) -> Option<Value> {
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

fn serve(folder: &Path, flags: &[&str]) -> Child {
    let log = File::options().create(true).append(true).open(folder.join("log")).expect("the folder is ours");
    let address = SocketAddr::from(ADDRESS);
    Command::new(program("warren-apid"))
        .args(["--allow-root", "--hub-user", "root"])
        .args(["--public-url", &format!("https://{address}"), "--listen", &address.to_string()])
        .args(["--metrics-listen", &SocketAddr::from(METRICS).to_string()])
        .env("WARREN_ADMIN_PASSWORD", ADMIN_PASSWORD)
        // Of the devices' process alone; see scripts/bench.
        .env_remove("MALLOC_MMAP_THRESHOLD_")
        .args(["--stun-listen", "off"])
        .args(flags)
        .arg("--state-dir")
        .arg(folder)
        .arg("--socket")
        .arg(folder.join("apid.sock"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("warren-apid can be started")
}

/// One of the programs that are measured.
pub fn program(name: &str) -> PathBuf {
    let folder = std::env::var_os("WARREN_BIN_DIR").expect("scripts/bench says where the programs are");
    PathBuf::from(folder).join(name)
}
