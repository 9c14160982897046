//! NSD with the zones of a home, on a port of its own. It ends with its value.

use std::fs;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use tempfile::TempDir;

use crate::home::Home;

/// A query that is not answered for so long is asked again.
const PATIENCE: Duration = Duration::from_millis(200);
/// So often. A server that reads its zones needs some of them.
const ROUNDS_MAX: u32 = 150;

/// A running NSD.
pub struct Nsd {
    child: Child,
    folder: TempDir,
    socket: UdpSocket,
    address: SocketAddr,
}

/// An address that nobody has, over TCP or UDP.
fn free_port() -> SocketAddr {
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        let address = tcp.local_addr().expect("it is bound");
        if UdpSocket::bind(address).is_ok() {
            return address;
        }
    }
}

impl Nsd {
    /// Starts it and waits until it answers.
    ///
    /// # Panics
    /// If it is not installed, or never answers.
    pub fn start(home: &Home) -> Self {
        let folder = TempDir::new().expect("a folder for what is temporary");
        let address = free_port();
        let conf = folder.path().join("nsd.conf");
        fs::write(&conf, configuration(home, &folder, address)).expect("the folder is ours");
        let said = fs::File::create(folder.path().join("said")).expect("the folder is ours");
        // Where Debian has it, and not everybody looks.
        let path = format!("{}:/usr/sbin", std::env::var("PATH").unwrap_or_default());
        let child = Command::new("nsd")
            .env("PATH", path)
            .arg("-d")
            .arg("-c")
            .arg(&conf)
            .stdin(Stdio::null())
            .stderr(said)
            .spawn();
        let mut child = child.expect("nsd is installed (scripts/dns-conformance installs it)");
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port");
        socket.connect(address).expect("loopback is there");
        socket.set_read_timeout(Some(PATIENCE)).expect("more than nothing");
        let first = b"\0\0\0\0\0\x01\0\0\0\0\0\0\x04home\x08internal\0\0\x06\0\x01";
        if exchange(&socket, &[first.to_vec()]).is_none() {
            // What it said is of more use than that it does not answer.
            let _ = child.kill();
            panic!(
                "NSD does not answer: {}",
                fs::read_to_string(folder.path().join("said")).unwrap_or_default()
            );
        }
        Self { child, folder, socket, address }
    }

    /// Its answers over UDP to queries of different ids, in their order.
    ///
    /// # Panics
    /// If one of them is not answered.
    pub fn ask(&self, queries: &[Vec<u8>]) -> Vec<Vec<u8>> {
        exchange(&self.socket, queries).unwrap_or_else(|| panic!("NSD is silent: {}", self.said()))
    }

    /// Its answer over a connection of TCP.
    ///
    /// # Panics
    /// If it hangs up.
    pub fn ask_by_stream(&self, query: &[u8]) -> Vec<u8> {
        let answer = || {
            let mut stream = TcpStream::connect(self.address)?;
            let length = u16::try_from(query.len()).expect("a query is short").to_be_bytes();
            stream.write_all(&[&length, query].concat())?;
            let mut length = [0; 2];
            stream.read_exact(&mut length)?;
            let mut answer = vec![0; u16::from_be_bytes(length).into()];
            stream.read_exact(&mut answer).map(|()| answer)
        };
        answer().unwrap_or_else(|e: io::Error| panic!("NSD hangs up: {e} at {query:02x?}: {}", self.said()))
    }

    fn said(&self) -> String {
        fs::read_to_string(self.folder.path().join("said")).unwrap_or_default()
    }
}

impl Drop for Nsd {
    fn drop(&mut self) {
        // It may be gone already.
        let _ = Command::new("kill").arg(self.child.id().to_string()).status();
        let _ = self.child.wait();
    }
}

/// Limits of rates off; sizes as ours; no record beyond the answer.
fn configuration(home: &Home, folder: &TempDir, address: SocketAddr) -> String {
    let place = folder.path().display();
    let mut text = format!(
        "server:\n  ip-address: {}\n  port: {}\n  server-count: 1\n  username: \"\"\n  chroot: \"\"\n  database: \"\"\n  \
         zonesdir: {place}\n  pidfile: {place}/pid\n  zonelistfile: {place}/list\n  xfrdfile: {place}/xfrd\n  \
         xfrdir: {place}\n  minimal-responses: yes\n  refuse-any: no\n  round-robin: no\n  hide-version: yes\n  \
         hide-identity: yes\n  ipv4-edns-size: {}\n  rrl-ratelimit: 0\n  \
         rrl-whitelist-ratelimit: 0\nremote-control:\n  control-enable: no\n",
        address.ip(),
        address.port(),
        dns::limits::UDP_PAYLOAD_BYTES_MAX,
    );
    for (apex, zone) in home.files() {
        let file = folder.path().join(apex);
        fs::write(&file, zone).expect("the folder is ours");
        text += &format!("zone:\n  name: {apex}\n  zonefile: {}\n", file.display());
    }
    text
}

/// `None` if one of the queries stays without an answer.
fn exchange(socket: &UdpSocket, queries: &[Vec<u8>]) -> Option<Vec<Vec<u8>>> {
    let mut answers: Vec<Option<Vec<u8>>> = vec![None; queries.len()];
    let mut buffer = [0; 65_535];
    for _ in 0..ROUNDS_MAX {
        let open = queries.iter().zip(&answers).filter(|(_, answer)| answer.is_none());
        for (query, _) in open {
            // Nobody listens there yet, or it does not fit yet: said once, and asked again.
            let _ = socket.send(query);
        }
        while answers.iter().any(Option::is_none) {
            match socket.recv(&mut buffer) {
                Ok(length) => {
                    let of = |query: &Vec<u8>| length >= 2 && query[..2] == buffer[..2];
                    if let Some(at) = queries.iter().position(of) {
                        answers[at] = Some(buffer[..length].to_vec());
                    }
                }
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => break,
                Err(e) if e.kind() == ErrorKind::ConnectionRefused => {
                    // It is not there yet: wait as long as for an answer.
                    let _ = socket.recv(&mut buffer);
                    break;
                }
                Err(e) => panic!("loopback: {e}"),
            }
        }
        if answers.iter().all(Option::is_some) {
            return answers.into_iter().collect();
        }
    }
    None
}
