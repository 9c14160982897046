//! Who answers: an echo, our name server and those of others, each a process of its own on one processor, with the
//! settings under which it is fastest there. Knows not what they are asked.

use std::fs;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::time::Duration;

use lab::until;

use super::dataset::{A, Right, TTL, ZONE, label, local_data, query, zone_file};
use crate::usage::{memory, process_cpu};

/// Where everybody answers; askers have other addresses of the same net.
pub(crate) const HERE: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
/// Processor of the servers; the load has [`LOAD_PROCESSOR`].
const SERVER_PROCESSOR: &str = "0";
pub(crate) const LOAD_PROCESSOR: usize = 1;
/// Reading a million names takes some servers so long.
const START_MAX: Duration = Duration::from_secs(180);
/// Connections that each of them takes at the same time.
const CONNECTIONS_MAX: u32 = 2_000;

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Echo,
    Warren,
    Nsd,
    Knot,
    Unbound,
}

impl Kind {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Warren => "warren",
            Self::Nsd => "nsd",
            Self::Knot => "knot",
            Self::Unbound => "unbound",
        }
    }
}

/// What a server has to say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Content {
    /// A zone of so many records.
    Records(u32),
    /// The same zone, asked for at another server and kept.
    Forwarded(SocketAddrV4),
}

/// A server that runs, until dropped.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) kind: Kind,
    pub(crate) at: SocketAddrV4,
    child: Child,
    /// Files of its own.
    _folder: PathBuf,
}

impl Server {
    /// Starts one at [`HERE`] and waits until it answers.
    pub(crate) fn start(kind: Kind, content: Content, port: u16, work: &Path) -> Self {
        let folder = work.join(format!("{}-{port}", kind.name()));
        fs::create_dir_all(&folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let at = SocketAddrV4::new(HERE, port);
        let mut command = Command::new("taskset");
        command.args(["-c", SERVER_PROCESSOR]).args(command_line(kind, content, at, &folder));
        let log = fs::File::create(folder.join("log")).expect("the folder is there");
        let also = log.try_clone().expect("a file can be held twice");
        let piped = if kind == Kind::Warren { Stdio::piped() } else { also.into() };
        command.stdin(Stdio::piped()).stdout(piped).stderr(log);
        let child = command.spawn().expect("taskset is there: util-linux");
        let mut server = Self { kind, at, child, _folder: folder.clone() };
        let answers = || {
            let ended = server.child.try_wait().expect("a child of ours").is_some();
            assert!(
                !ended,
                "{kind:?} has ended: {}",
                fs::read_to_string(folder.join("log")).unwrap_or_default()
            );
            answers(at, kind).then_some(())
        };
        assert!(until(START_MAX, answers).is_some(), "{kind:?} does not answer");
        server
    }

    /// It and its children.
    fn processes(&self) -> Vec<u32> {
        let mut found = vec![self.child.id()];
        let all: Vec<(u32, u32)> = fs::read_dir("/proc")
            .expect("proc is there")
            .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
            .filter_map(|id: u32| Some((id, parent(id)?)))
            .collect();
        let mut at = 0;
        while let Some(&of) = found.get(at) {
            found.extend(all.iter().filter(|(_, parent)| *parent == of).map(|(id, _)| id));
            at += 1;
        }
        found
    }

    /// Processor time so far, of all its processes.
    pub(crate) fn cpu(&self) -> Duration {
        self.processes().into_iter().map(process_cpu).sum()
    }

    /// Megabytes resident, pages that its processes share counted once.
    pub(crate) fn resident(&self) -> f64 {
        match self.processes().as_slice() {
            [one] => memory(*one).resident,
            several => several.iter().map(|id| memory(*id).proportional).sum(),
        }
    }

    /// Its ends, to tell it something and to hear.
    pub(crate) fn ends(&mut self) -> Option<(&mut ChildStdin, &mut ChildStdout)> {
        self.child.stdin.as_mut().zip(self.child.stdout.as_mut())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let children = self.processes();
        // Its children end with it, or with the namespace.
        let _ = Command::new("kill").args(children.iter().map(u32::to_string)).stderr(Stdio::null()).status();
        let _ = until(Duration::from_secs(5), || self.child.try_wait().ok().flatten());
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Parent of a process, if it is there (proc_pid_stat(5)).
fn parent(id: u32) -> Option<u32> {
    let text = fs::read_to_string(format!("/proc/{id}/stat")).ok()?;
    text.rsplit_once(") ")?.1.split(' ').nth(1)?.parse().ok()
}

fn answers(at: SocketAddrV4, kind: Kind) -> bool {
    let socket = UdpSocket::bind((HERE, 0)).expect("the address is here");
    socket.set_read_timeout(Some(Duration::from_millis(500))).expect("above zero");
    let mut answer = [0; 512];
    let asked = socket.send_to(&query(&label(0), A), at).and_then(|_| socket.recv_from(&mut answer));
    let right = if kind == Kind::Echo { Right::Echo } else { Right::Answer { code: 0, answers: 1 } };
    asked.is_ok_and(|(length, _)| right.is(&answer[..length]))
}

fn command_line(kind: Kind, content: Content, at: SocketAddrV4, folder: &Path) -> Vec<String> {
    let own = || std::env::current_exe().expect("this program").to_string_lossy().into_owned();
    let write = |name: &str, text: &str| {
        let path = folder.join(name);
        fs::write(&path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        path.to_string_lossy().into_owned()
    };
    let words: Vec<String> = match (kind, content) {
        (Kind::Echo, _) => vec![own(), "dns-process".into(), "echo".into(), at.to_string()],
        (Kind::Warren, Content::Records(records)) => {
            vec![own(), "dns-process".into(), "serve".into(), at.to_string(), records.to_string()]
        }
        (Kind::Warren, Content::Forwarded(upstream)) => {
            vec![own(), "dns-process".into(), "forward".into(), at.to_string(), upstream.to_string()]
        }
        (Kind::Nsd, Content::Records(records)) => {
            write("zone", &zone_file(records));
            let config = write("nsd.conf", &nsd(at, folder));
            vec!["nsd".into(), "-d".into(), "-c".into(), config]
        }
        (Kind::Knot, Content::Records(records)) => {
            write("zone", &zone_file(records));
            let config = write("knot.conf", &knot(at, folder));
            vec!["knotd".into(), "-c".into(), config]
        }
        (Kind::Unbound, Content::Records(records)) => {
            let config = write("unbound.conf", &(unbound(at, folder) + &local_data(records)));
            vec!["unbound".into(), "-d".into(), "-p".into(), "-c".into(), config]
        }
        (Kind::Unbound, Content::Forwarded(upstream)) => {
            let config = write("unbound.conf", &(unbound(at, folder) + &forward_zone(upstream)));
            vec!["unbound".into(), "-d".into(), "-p".into(), "-c".into(), config]
        }
        (Kind::Nsd | Kind::Knot, Content::Forwarded(..)) => unreachable!("they forward nothing"),
    };
    words
}

/// One server process, no rate limit, answers without what nobody asked for.
fn nsd(at: SocketAddrV4, folder: &Path) -> String {
    let (ip, port, folder) = (at.ip(), at.port(), folder.display());
    format!(
        "server:\n server-count: 1\n ip-address: {ip}@{port}\n do-ip6: no\n username: \"\"\n database: \"\"\n zonesdir: \"{folder}\"\n \
         pidfile: \"{folder}/pid\"\n xfrdfile: \"{folder}/xfrd\"\n xfrdir: \"{folder}\"\n zonelistfile: \"{folder}/zones\"\n \
         minimal-responses: yes\n round-robin: no\n rrl-ratelimit: 0\n rrl-whitelist-ratelimit: 0\n \
         tcp-count: {CONNECTIONS_MAX}\n tcp-timeout: 60\n verbosity: 0\n log-only-syslog: no\n\
         remote-control:\n control-enable: no\n\
         zone:\n name: \"{ZONE}\"\n zonefile: \"zone\"\n"
    )
}

/// One thread for each transport, no rate limit, no journal.
fn knot(at: SocketAddrV4, folder: &Path) -> String {
    let (ip, port, folder) = (at.ip(), at.port(), folder.display());
    format!(
        "server:\n  rundir: {folder}\n  listen: {ip}@{port}\n  udp-workers: 1\n  tcp-workers: 1\n  background-workers: 1\n  \
         tcp-max-clients: {CONNECTIONS_MAX}\n  tcp-idle-timeout: 60\n\
         log:\n  - target: stderr\n    any: error\n\
         database:\n  storage: {folder}/db\n\
         control:\n  listen: {folder}/knot.sock\n\
         template:\n  - id: default\n    storage: {folder}\n    zonefile-load: whole\n    zonefile-sync: -1\n    \
         journal-content: none\n    semantic-checks: off\n\
         zone:\n  - domain: {ZONE}\n    file: zone\n"
    )
}

/// One thread, no validation, no statistics, room for every answer.
fn unbound(at: SocketAddrV4, folder: &Path) -> String {
    let (ip, port, folder) = (at.ip(), at.port(), folder.display());
    format!(
        "remote-control:\n control-enable: no\n\
         server:\n num-threads: 1\n interface: {ip}\n port: {port}\n do-ip6: no\n access-control: 100.64.0.0/10 allow\n \
         username: \"\"\n chroot: \"\"\n directory: \"{folder}\"\n pidfile: \"{folder}/pid\"\n use-syslog: no\n verbosity: 0\n \
         do-daemonize: no\n module-config: \"iterator\"\n minimal-responses: yes\n rrset-roundrobin: no\n \
         incoming-num-tcp: {CONNECTIONS_MAX}\n tcp-idle-timeout: 60000\n msg-cache-size: 256m\n rrset-cache-size: 512m\n \
         do-not-query-localhost: no\n cache-max-ttl: {TTL}\n"
    )
}

fn forward_zone(upstream: SocketAddrV4) -> String {
    let (ip, port) = (upstream.ip(), upstream.port());
    format!(
        " local-zone: \"{ZONE}.\" transparent\nforward-zone:\n name: \"{ZONE}.\"\n forward-addr: {ip}@{port}\n"
    )
}
