//! A real `warren-apid` as a process: started until it serves, and ended with its owner. Asks it nothing.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

pub(crate) struct Started {
    pub(crate) child: Child,
    /// Lines until it served, and this one more.
    pub(crate) log: String,
    /// Lines after those, so far.
    later: Arc<Mutex<String>>,
}

impl Started {
    /// With its state and its socket in this directory. `tells_more`: whether a line comes after the one that says that it
    /// serves.
    pub(crate) fn new(
        directory: &Path,
        arrange: impl FnOnce(&mut Command),
        tells_more: impl FnOnce(&str) -> bool,
    ) -> Self {
        let mut command = Command::new(env!("CARGO_BIN_EXE_warren-apid"));
        command.arg("--state-dir").arg(directory).arg("--socket").arg(directory.join("apid.sock"));
        arrange(&mut command);
        let mut child = command.stderr(Stdio::piped()).spawn().expect("the binary runs");
        let mut lines = BufReader::new(child.stderr.take().expect("piped"));
        let mut log = String::new();
        while !log.contains("serving") {
            let read = lines.read_line(&mut log).expect("readable");
            assert_ne!(read, 0, "apid ended: {log}");
        }
        if tells_more(&log) {
            lines.read_line(&mut log).expect("readable");
        }
        // Nobody may block on a full pipe.
        let later = Arc::new(Mutex::new(String::new()));
        let kept = Arc::clone(&later);
        std::thread::spawn(move || {
            let mut line = String::new();
            while lines.read_line(&mut line).is_ok_and(|read| read > 0) {
                kept.lock().expect("nobody fails with it").push_str(&std::mem::take(&mut line));
            }
        });
        Self { child, log, later }
    }

    /// Everything that was logged up to a line with this part, which is waited for.
    #[allow(dead_code, reason = "not every test binary that starts one asks what it logs later")]
    pub(crate) fn logged(&self, part: &str) -> String {
        let end = std::time::Instant::now() + std::time::Duration::from_secs(60);
        loop {
            let all = format!("{}{}", self.log, self.later.lock().expect("nobody fails with it"));
            if all.contains(part) {
                return all;
            }
            assert!(std::time::Instant::now() < end, "{part:?} is not logged:\n{all}");
            std::thread::yield_now();
        }
    }

    /// What a log line says under this name.
    pub(crate) fn field(&self, name: &str) -> String {
        let at = self.log.rfind(&format!("{name}=")).unwrap_or_else(|| panic!("no {name} in {}", self.log));
        self.log[at + name.len() + 1..].split_whitespace().next().expect("a value").to_owned()
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        // It may have ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// An address that nobody has and nobody else is given, over TCP or UDP: of an IP address that is this process's alone.
pub(crate) fn free() -> SocketAddr {
    static GIVEN: Mutex<Vec<u16>> = Mutex::new(Vec::new());
    // A process id has 22 bits at most, and 127.64.0.0/10 is on every machine.
    let [_, high, middle, low] = std::process::id().to_be_bytes();
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::new(127, 64 | high, middle, low), 0)).expect("a port");
        let at = tcp.local_addr().expect("bound");
        let mut given = GIVEN.lock().expect("nobody fails with it");
        if !given.contains(&at.port()) && UdpSocket::bind(at).is_ok() {
            given.push(at.port());
            return at;
        }
    }
}
