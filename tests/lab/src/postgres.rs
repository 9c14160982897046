//! PostgreSQL of the story's own, as `scripts/lib/postgres` makes it: beside the server, or where several servers reach it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use crate::node::Node;
use crate::places::tree;

/// The port in the server's namespace, where nobody else listens.
const PORT: u16 = 5432;
/// Where a pooler before it listens.
const POOLED_PORT: u16 = 6432;
/// Where all servers of a world reach a cluster: the bridge between them has the address.
const SHARED: &str = "203.0.113.250";

/// A throwaway cluster. It ends with this value.
#[derive(Debug)]
pub struct Postgres {
    script: Child,
    place: Node,
    /// Of its files and its socket.
    directory: String,
    port: u16,
}

impl Postgres {
    /// Starts one in the server's namespace, as its own machine sees it.
    ///
    /// # Panics
    /// If it does not come up.
    pub(crate) fn start(server: Node) -> Self {
        Self::run(server, PORT, &["-c", "listen_addresses=127.0.0.1"])
    }

    /// Starts one that every server reaches.
    ///
    /// # Panics
    /// If it does not come up.
    pub(crate) fn shared(inet: Node, port: u16) -> Self {
        Self::run(inet, port, &["--network", "203.0.113.0/24", "-c", "listen_addresses=*"])
    }

    /// The same on a disk of so many MiB, which its write-ahead log is not on.
    ///
    /// # Panics
    /// If it does not come up.
    pub(crate) fn small(inet: Node, port: u16, mebibytes: u32) -> Self {
        let mebibytes = mebibytes.to_string();
        let args = ["--small", &mebibytes, "--network", "203.0.113.0/24", "-c", "listen_addresses=*"];
        Self::run(inet, port, &args)
    }

    /// Takes all the room that there is beside its files, to the last byte.
    ///
    /// # Panics
    /// If it is refused.
    pub fn fill(&self) {
        self.sql("COPY (SELECT 1) TO PROGRAM 'cat /dev/zero >>filling 2>/dev/null; true'");
    }

    /// Gives it back.
    ///
    /// # Panics
    /// If it is refused.
    pub fn make_room(&self) {
        self.sql("COPY (SELECT 1) TO PROGRAM 'rm filling'");
    }

    /// Starts a standby of this one on another port.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn standby(&self, port: u16) -> Self {
        let follow = format!("postgres://warren@localhost:{}/postgres?host={}", self.port, self.directory);
        Self::run(self.place.clone(), port, &["--follow", &follow, "-c", "listen_addresses=*"])
    }

    /// Starts a pgbouncer before it, which every server reaches.
    ///
    /// # Panics
    /// If it does not come up.
    pub fn pooler(&self, mode: &str) -> Pooler {
        let (server, port) = (self.port.to_string(), POOLED_PORT.to_string());
        let args = [&self.directory, &server, &port, mode, SHARED];
        Pooler { script: script(&self.place, "pgbouncer", &args).0 }
    }

    fn run(place: Node, port: u16, args: &[&str]) -> Self {
        let at = format!("port={port}");
        let (child, url) = script(&place, "postgres", &[args, &["-c", &at]].concat());
        let directory = url.split_once("?host=").expect("its directory").1.to_owned();
        Self { script: child, place, directory, port }
    }

    /// How the server beside it reaches it.
    pub(crate) fn url() -> String {
        format!("postgres://warren@127.0.0.1:{PORT}/postgres")
    }

    /// How every server reaches it.
    pub fn shared_url(&self) -> String {
        format!("postgres://warren@{SHARED}:{}/postgres", self.port)
    }

    /// Runs SQL as its superuser and gives the answer, bare.
    ///
    /// # Panics
    /// If it is refused.
    pub fn sql(&self, sql: &str) -> String {
        let port = self.port.to_string();
        let args =
            ["psql", "-h", &self.directory, "-p", &port, "-U", "warren", "-d", "postgres", "-Atqc", sql];
        self.place.ok(&args).trim().to_owned()
    }

    /// `kill -9` of the process that all others of it come from.
    ///
    /// # Panics
    /// If it does not run.
    pub fn kill(&self) {
        let file = format!("{}/data/postmaster.pid", self.directory);
        let text = std::fs::read_to_string(&file).unwrap_or_else(|e| panic!("{file}: {e}"));
        self.place.ok(&["kill", "-9", text.lines().next().expect("a process id")]);
    }

    /// Makes a standby the one that is written to.
    ///
    /// # Panics
    /// If it refuses.
    pub fn promote(&self) {
        assert_eq!(self.sql("SELECT pg_promote(true, 20)"), "t");
    }
}

/// A running pgbouncer. It ends with this value.
#[derive(Debug)]
pub struct Pooler {
    script: Child,
}

impl Pooler {
    /// How every server reaches PostgreSQL through it.
    pub fn url() -> String {
        format!("postgres://warren@{SHARED}:{POOLED_PORT}/postgres")
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        drop(self.script.stdin.take());
        let _ = self.script.wait();
    }
}

/// Starts a script of `scripts/lib` that serves until its standard input closes, and gives the URL that it prints.
fn script(place: &Node, name: &str, args: &[&str]) -> (Child, String) {
    let script = tree().join("scripts/lib").join(name);
    let script = script.to_str().expect("the tree's path is text");
    let mut child = place
        .command(&[&[script], args].concat())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("ip netns exec can be started");
    let mut url = String::new();
    let out = child.stdout.take().expect("it is piped");
    BufReader::new(out).read_line(&mut url).expect("a pipe can be read");
    assert!(url.starts_with("postgres://"), "{name} did not come up; what it said is above");
    (child, url.trim().to_owned())
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // It ends by itself, and cleans up, when its standard input closes...
        drop(self.script.stdin.take());
        let _ = self.script.wait();
        // ... unless its namespace went before, and all that ran there with it.
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}
