//! A PostgreSQL of the story's own, beside the server, as `scripts/lib/postgres` makes it.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Stdio};

use crate::node::Node;
use crate::places::tree;

/// The port in the server's namespace, where nobody else listens.
const PORT: u16 = 5432;

/// A throwaway cluster on the server's loopback. It ends with this value.
#[derive(Debug)]
pub(crate) struct Postgres(Child);

impl Postgres {
    /// Starts one in the server's namespace, as its own machine sees it.
    ///
    /// # Panics
    /// If it does not come up.
    pub(crate) fn start(server: &Node) -> Self {
        let script = tree().join("scripts/lib/postgres");
        let script = script.to_str().expect("the tree's path is text");
        let port = format!("port={PORT}");
        let args = [script, "-c", "listen_addresses=127.0.0.1", "-c", &port];
        let mut child = server
            .command(&args)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("ip netns exec can be started");
        let mut url = String::new();
        let out = child.stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut url).expect("a pipe can be read");
        assert!(url.starts_with("postgres://"), "PostgreSQL did not come up; what it said is above");
        Self(child)
    }

    /// How the server reaches it.
    pub(crate) fn url() -> String {
        format!("postgres://warren@127.0.0.1:{PORT}/postgres")
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        // It ends by itself, and cleans up, when its standard input closes.
        drop(self.0.stdin.take());
        let _ = self.0.wait();
    }
}
