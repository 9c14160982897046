//! The two namespaces and their interfaces. Everything goes when the pair is dropped, failed or not.

use std::cell::RefCell;
use std::fs::{self, File};
use std::io::Write as _;
use std::net::{Ipv4Addr, SocketAddrV4};
use std::ops::DerefMut as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::{self, JoinHandle};

use nix::sched::{CloneFlags, setns};

use super::engine::Engine;
use crate::wait::{SOON, until, wait_for};

const UAPI_DIRECTORY: &str = "/var/run/wireguard";
/// What WireGuard leaves of 1500 bytes over IPv6.
const TUNNEL_MTU: u16 = 1420;

/// Two interfaces whose engines know each other's key.
#[derive(Debug)]
pub struct Pair {
    /// The one that knows where the other is.
    pub a: Side,
    /// The one that listens on [`Side::PORT`].
    pub b: Side,
    files: tempfile::TempDir,
}

/// One namespace, its interface, and the keys of the interface.
#[derive(Debug)]
pub struct Side {
    namespace: String,
    interface: String,
    private: RefCell<String>,
    engine: Option<Engine>,
    number: u8,
    peer: RefCell<Settings>,
    process: RefCell<Option<Child>>,
    log: PathBuf,
}

/// What a side was told of the other one, beside its key and addresses.
#[derive(Debug, Default)]
struct Settings {
    preshared: Option<String>,
    endpoint: Option<String>,
    keepalive: Option<u16>,
}

impl Settings {
    fn words(&self) -> String {
        let preshared = self.preshared.iter().map(|file| format!("preshared-key {file} "));
        let endpoint = self.endpoint.iter().map(|endpoint| format!("endpoint {endpoint} "));
        let keepalive = self.keepalive.iter().map(|seconds| format!("persistent-keepalive {seconds} "));
        preshared.chain(endpoint).chain(keepalive).collect()
    }
}

/// A line of `wg show dump`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PeerLine {
    /// Where the peer is, as `wg` prints it.
    pub endpoint: String,
    /// Seconds since 1970 of the last handshake; 0 if there was none.
    pub handshake: u64,
    /// Bytes received.
    pub received: u64,
    /// Bytes sent.
    pub sent: u64,
}

impl Pair {
    /// Both sides know each other; neither knows where the other is.
    pub fn new(a: &Engine, b: &Engine) -> Self {
        let pair = Self::apart(Some(a), Some(b));
        pair.b.configure(&pair.a, Some(Side::PORT));
        pair.a.configure(&pair.b, None);
        pair
    }

    /// A pair with a session.
    pub fn joined(a: &Engine, b: &Engine) -> Self {
        let pair = Self::new(a, b);
        pair.a.point_at(&pair.b, "10.9.0.2");
        pair.a.reaches(&pair.b);
        pair
    }

    /// Two namespaces; an interface where there is an engine, but nothing is told to it.
    pub fn apart(a: Option<&Engine>, b: Option<&Engine>) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let name = format!("w{}t{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let files = tempfile::tempdir().expect("a folder");
        let side =
            |letter, number, engine: Option<&Engine>| Side::new(&name, letter, number, engine, files.path());
        let (a, b) = (side('a', 1, a), side('b', 2, b));
        let pair = Self { a, b, files };
        let (a, b) = (&pair.a.namespace, &pair.b.namespace);
        run(&["ip", "link", "add", "veth", "netns", a, "type", "veth", "peer", "name", "veth", "netns", b]);
        for side in [&pair.a, &pair.b] {
            let number = side.number;
            side.ip("link set lo up");
            side.ip("link set veth up");
            side.ip(&format!("addr add 10.9.0.{number}/24 dev veth"));
            side.ip(&format!("addr add fd09::{number}/64 dev veth nodad"));
            side.start();
        }
        pair
    }

    /// A file that is gone with the pair.
    pub fn file(&self, name: &str, content: &str) -> String {
        write(self.files.path(), name, content)
    }

    /// The same new preshared key on both sides; the next handshake uses it.
    pub fn share_a_key(&self) {
        let key = self.file("preshared", &random_key());
        self.a.preshare(&self.b, &key);
        self.b.preshare(&self.a, &key);
    }
}

impl Side {
    /// Where b listens.
    pub const PORT: u16 = 51820;

    fn new(pair: &str, letter: char, number: u8, engine: Option<&Engine>, files: &Path) -> Self {
        let namespace = format!("{pair}-{letter}");
        run(&["ip", "netns", "add", &namespace]);
        Self {
            namespace,
            interface: format!("{pair}{letter}"),
            private: RefCell::new(random_key()),
            engine: engine.cloned(),
            number,
            peer: RefCell::default(),
            process: RefCell::default(),
            log: files.join(format!("{letter}.log")),
        }
    }

    /// Starts the engine and gives the interface its addresses.
    pub fn start(&self) {
        let Some(engine) = &self.engine else { return };
        let interface = &self.interface;
        match engine.command(&self.namespace, interface) {
            None => self.ip(&format!("link add {interface} type wireguard")),
            Some(mut command) => {
                let log = File::create(&self.log).expect("a log");
                let also = log.try_clone().expect("a file can be held twice");
                // Some end when their standard input does.
                command.stdin(Stdio::piped()).stdout(log).stderr(also);
                let child = command.spawn().unwrap_or_else(|e| panic!("{engine} cannot be started: {e}"));
                *self.process.borrow_mut() = Some(child);
            }
        }
        // `wg` takes a socket that is bound and does not listen yet for a dead one, and removes it.
        let socket = format!("{interface}.sock ");
        let listens = || self.process.borrow().is_none() || self.run(&["ss", "-Hxl"]).contains(&socket);
        let shown = || self.command(&["wg", "show", interface]).output().is_ok_and(|o| o.status.success());
        if until(SOON, || (listens() && shown()).then_some(())).is_none() {
            panic!("{engine} made no interface: {}", fs::read_to_string(&self.log).unwrap_or_default());
        }
        self.ip(&format!("addr add 10.77.0.{}/24 dev {interface}", self.number));
        self.ip(&format!("addr add fd77::{}/64 dev {interface} nodad", self.number));
        self.ip(&format!("link set {interface} mtu {TUNNEL_MTU} up"));
    }

    /// Ends the engine as an operator would, and waits for it.
    pub fn stop(&self) {
        let process = self.process.borrow_mut().take();
        let Some(mut process) = process else { return self.ip(&format!("link del {}", self.interface)) };
        drop(process.stdin.take());
        let _ = Command::new("kill").arg(process.id().to_string()).stderr(Stdio::null()).status();
        if until(SOON, || process.try_wait().expect("a child of ours")).is_none() {
            process.kill().expect("is killed");
            process.wait().expect("ends");
        }
        // Not all of them tidy up.
        let _ = fs::remove_file(self.socket());
        wait_for("the interface is gone", SOON, || {
            !self.run(&["ip", "-o", "link"]).contains(&self.interface)
        });
    }

    /// Tells the engine its key, its port, and the other side's key and addresses, and not where the other side is.
    /// All at once: gotatun 0.10 now and then ends when it is told one after the other.
    pub fn configure(&self, other: &Self, port: Option<u16>) {
        let port = port.map(|port| format!("ListenPort = {port}\n")).unwrap_or_default();
        let config = format!(
            "[Interface]\nPrivateKey = {}\n{port}[Peer]\nPublicKey = {}\nAllowedIPs = {}\n",
            self.private(),
            other.public(),
            other.allowed()
        );
        let directory = tempfile::tempdir().expect("a folder");
        self.peer.take();
        self.wg("setconf", &[&write(directory.path(), "side.conf", &config)]);
    }

    /// Gives the interface a new private key and returns the public one.
    pub fn renew_key(&self) -> String {
        self.private.replace(random_key());
        self.use_private(&self.private.borrow());
        self.public()
    }

    fn use_private(&self, key: &str) {
        let directory = tempfile::tempdir().expect("a folder");
        self.wg_set(&format!("private-key {}", write(directory.path(), "key", key)));
    }

    /// Makes the other side a peer with its two addresses and nothing else.
    pub fn add_peer(&self, other: &Self) {
        self.peer.take();
        self.wg_set(&format!("peer {} allowed-ips {}", other.public(), other.allowed()));
    }

    /// Takes the other side away as a peer.
    pub fn remove_peer(&self, other: &Self) {
        self.wg_set(&format!("peer {} remove", other.public()));
    }

    /// Tells the engine where the other side is; the host as in an endpoint.
    pub fn point_at(&self, other: &Self, host: &str) {
        self.point_at_port(other, &format!("{host}:{}", other.port()));
    }

    /// The same with a port of one's own.
    pub fn point_at_port(&self, other: &Self, endpoint: &str) {
        self.change_peer(other, Settings { endpoint: Some(endpoint.into()), ..Settings::default() });
    }

    /// Gives the peer a preshared key, which is in a file.
    pub fn preshare(&self, other: &Self, file: &str) {
        self.change_peer(other, Settings { preshared: Some(file.into()), ..Settings::default() });
    }

    /// Sends something to the peer so often.
    pub fn keep_alive(&self, other: &Self, seconds: u16) {
        self.change_peer(other, Settings { keepalive: Some(seconds), ..Settings::default() });
    }

    /// Some engines panic when a peer is changed that they have: they are given it anew, without its session.
    fn change_peer(&self, other: &Self, change: Settings) {
        let words = change.words();
        let all = {
            let mut peer = self.peer.borrow_mut();
            let Settings { preshared, endpoint, keepalive } = peer.deref_mut();
            *preshared = change.preshared.or(preshared.take());
            *endpoint = change.endpoint.or(endpoint.take());
            *keepalive = change.keepalive.or(keepalive.take());
            peer.words()
        };
        if self.engine.as_ref().is_none_or(Engine::changes_peers) {
            return self.wg_set(&format!("peer {} {words}", other.public()));
        }
        self.remove_peer(other);
        self.wg_set(&format!("peer {} allowed-ips {} {all}", other.public(), other.allowed()));
    }

    fn allowed(&self) -> String {
        let number = self.number;
        format!("10.77.0.{number}/32,fd77::{number}/128")
    }

    /// The public key.
    pub fn public(&self) -> String {
        public_of(&self.private.borrow())
    }

    /// The private key.
    pub fn private(&self) -> String {
        self.private.borrow().clone()
    }

    /// Where it is in the tunnel, or on the wire where there is no engine.
    pub fn inner(&self) -> Ipv4Addr {
        if self.engine.is_some() { Ipv4Addr::new(10, 77, 0, self.number) } else { self.outer() }
    }

    /// Where it is on the wire.
    pub const fn outer(&self) -> Ipv4Addr {
        Ipv4Addr::new(10, 9, 0, self.number)
    }

    /// Where its engine listens on the wire.
    pub fn endpoint(&self) -> SocketAddrV4 {
        SocketAddrV4::new(self.outer(), self.port())
    }

    /// The name of the interface.
    pub fn interface(&self) -> &str {
        &self.interface
    }

    /// The process of the engine, if it is one.
    pub fn process_id(&self) -> Option<u32> {
        self.process.borrow().as_ref().map(Child::id)
    }

    /// What the engine has written.
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    fn socket(&self) -> PathBuf {
        Path::new(UAPI_DIRECTORY).join(format!("{}.sock", self.interface))
    }

    /// `ip -n NAMESPACE …`
    pub fn ip(&self, arguments: &str) {
        let mut all = vec!["ip", "-n", &self.namespace];
        all.extend(arguments.split_whitespace());
        run(&all);
    }

    /// A command in the namespace, not yet started.
    pub fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]).args(words);
        command
    }

    /// Runs a command in the namespace and gives what it wrote.
    ///
    /// # Panics
    /// If it fails.
    pub fn run(&self, words: &[&str]) -> String {
        run(&[&["ip", "netns", "exec", &self.namespace], words].concat())
    }

    /// `wg SUBCOMMAND INTERFACE …`
    pub fn wg(&self, subcommand: &str, arguments: &[&str]) -> String {
        self.run(&[&["wg", subcommand, &self.interface], arguments].concat())
    }

    /// `wg set INTERFACE …`
    pub fn wg_set(&self, arguments: &str) {
        self.wg("set", &arguments.split_whitespace().collect::<Vec<_>>());
    }

    /// The UDP port of the engine.
    pub fn port(&self) -> u16 {
        self.wg("show", &["listen-port"]).trim().parse().expect("a port")
    }

    /// What the engine tells about the other side.
    pub fn peer(&self, other: &Self) -> PeerLine {
        let dump = self.wg("show", &["dump"]);
        let key = other.public();
        let line = dump.lines().find(|line| line.starts_with(&key)).expect("the peer is shown");
        let fields: Vec<&str> = line.split('\t').collect();
        let number = |at: usize| fields[at].parse().expect("a number");
        PeerLine { endpoint: fields[2].into(), handshake: number(4), received: number(5), sent: number(6) }
    }

    /// Whether one of three pings comes back.
    pub fn pings(&self, address: &str) -> bool {
        self.ping(&["-c", "3", "-i", "0.05", "-W", "1", address]).status.success()
    }

    /// One ping to the other side comes back, within the time of two handshakes.
    pub fn reaches(&self, other: &Self) {
        self.all_come_back(&["-c", "1", "-W", "11", &other.inner().to_string()]);
    }

    /// All pings come back.
    pub fn all_come_back(&self, arguments: &[&str]) {
        let output = self.ping(&[&["-i", "0.05"], arguments].concat());
        let said = text(&output);
        let whole = output.status.success() && said.contains(" 0% packet loss");
        assert!(whole, "{}: {said}", self.engine.as_ref().map_or("veth", Engine::name));
    }

    fn ping(&self, arguments: &[&str]) -> Output {
        let mut command = self.command(&["ping"]);
        command.args(arguments).output().expect("ping starts")
    }

    /// Runs on a thread of its own in the namespace.
    pub fn spawn<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
        let namespace = File::open(format!("/run/netns/{}", self.namespace)).expect("it is there");
        thread::spawn(move || {
            setns(namespace, CloneFlags::CLONE_NEWNET).expect("root may enter a network namespace");
            work()
        })
    }

    /// Does something short in the namespace, such as making a socket, and gives the result.
    pub fn within<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> T {
        self.spawn(work).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }

    /// The other address that a side may move to and back from.
    fn places(&self) -> [String; 2] {
        [format!("10.9.0.{}", self.number), format!("10.9.0.{}", self.number + 100)]
    }

    /// Moves to another address on the wire, or back, as a device does that changes its network. Gives the new one.
    pub fn move_away(&self) -> String {
        let [home, away] = self.places();
        let at_home = self.run(&["ip", "-4", "-o", "addr", "show", "veth"]).contains(&format!(" {home}/"));
        let (from, to) = if at_home { (home, away) } else { (away, home) };
        // The second address of a network stays when the first one goes.
        self.run(&["sysctl", "-qw", "net.ipv4.conf.all.promote_secondaries=1"]);
        self.ip(&format!("addr add {to}/24 dev veth"));
        self.ip(&format!("addr del {from}/24 dev veth"));
        to
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = fs::remove_file(self.socket());
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).status();
    }
}

fn text(output: &Output) -> String {
    String::from_utf8_lossy(&[&*output.stdout, &output.stderr].concat()).into_owned()
}

fn run(command: &[&str]) -> String {
    let output = Command::new(command[0]).args(&command[1..]).output().expect("the program starts");
    assert!(output.status.success(), "{command:?}: {}", text(&output));
    String::from_utf8(output.stdout).expect("text")
}

fn write(directory: &Path, name: &str, content: &str) -> String {
    let path = directory.join(name);
    fs::write(&path, content).expect("is written");
    path.to_str().expect("text").to_owned()
}

/// A new key, private or preshared, as `wg` prints it.
pub fn random_key() -> String {
    run(&["wg", "genpsk"]).trim().to_owned()
}

/// The public key of a private one.
pub fn public_of(private: &str) -> String {
    let mut command = Command::new("wg");
    let mut process =
        command.arg("pubkey").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("wg starts");
    process.stdin.take().expect("a pipe").write_all(private.as_bytes()).expect("is taken");
    let output = process.wait_with_output().expect("wg ends");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}
