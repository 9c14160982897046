//! Two namespaces joined by a veth pair, a device in each. Everything goes when the lab is dropped, failed or not.

use std::cell::RefCell;
use std::io::Write as _;
use std::net::UdpSocket;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use boringtun::noise::{Tunn, TunnResult};

/// Waits for a condition, no longer than the deadline.
pub(crate) fn until(what: &str, deadline: Duration, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < deadline, "{what}: not within {deadline:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What runs the interface.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Engine {
    Warren,
    Go,
}

pub(crate) struct Lab {
    pub(crate) a: Side,
    pub(crate) b: Side,
    files: tempfile::TempDir,
}

/// One namespace, its device, and the keys of the device.
pub(crate) struct Side {
    namespace: String,
    pub(crate) interface: String,
    pub(crate) private: String,
    pub(crate) public: String,
    engine: Engine,
    number: u8,
    process: RefCell<Option<Child>>,
}

/// A line of `wg show dump`.
#[derive(Debug)]
pub(crate) struct PeerLine {
    pub(crate) endpoint: String,
    pub(crate) handshake: u64,
    pub(crate) received: u64,
    pub(crate) sent: u64,
}

impl Lab {
    /// Both sides know each other; neither knows where the other is.
    pub(crate) fn pair(a: Engine, b: Engine) -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // As scripts/lib/topology names its own: what a test that is killed leaves is swept like theirs.
        let name = format!("w{}n{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let files = tempfile::tempdir().expect("a directory");
        let lab = Self { a: Side::new(&name, 1, a), b: Side::new(&name, 2, b), files };
        let (a, b) = (&lab.a.namespace, &lab.b.namespace);
        run(&["ip", "link", "add", "veth", "netns", a, "type", "veth", "peer", "name", "veth", "netns", b]);
        for side in [&lab.a, &lab.b] {
            side.ip("link set lo up");
            side.ip("link set veth up");
            side.ip(&format!("addr add 10.9.0.{}/24 dev veth", side.number));
            side.ip(&format!("addr add fd09::{}/64 dev veth nodad", side.number));
            side.start();
        }
        lab.b.configure(&lab.a, None);
        lab.b.wg_set("listen-port 51820");
        lab.a.configure(&lab.b, None);
        lab
    }

    /// A pair with a session.
    pub(crate) fn joined(a: Engine, b: Engine) -> Self {
        let lab = Self::pair(a, b);
        lab.a.wg_set(&format!("peer {} endpoint 10.9.0.2:51820", lab.b.public));
        lab.a.assert_ping("10.77.0.2", 1);
        lab
    }

    /// A file that is gone with the lab.
    pub(crate) fn file(&self, name: &str, content: &str) -> String {
        write(self.files.path(), name, content)
    }
}

impl Side {
    fn new(lab: &str, number: u8, engine: Engine) -> Self {
        let private = random_key();
        let public = public_of(&private);
        let namespace = format!("{lab}-{number}");
        run(&["ip", "netns", "add", &namespace]);
        let interface = namespace.clone();
        Self { namespace, interface, private, public, engine, number, process: RefCell::default() }
    }

    /// Starts the process and gives the interface its addresses.
    fn start(&self) {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace]);
        match self.engine {
            Engine::Warren => command.arg(program()).arg(&self.interface).stdin(Stdio::piped()),
            Engine::Go => command
                .args(["wireguard-go", "-f", &self.interface])
                .env("LOG_LEVEL", "error")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::null()),
        };
        *self.process.borrow_mut() = Some(command.spawn().expect("the program starts"));
        until("the device is there", Duration::from_secs(10), || {
            let shown = Command::new("wg").args(["show", &self.interface]).output();
            shown.is_ok_and(|output| output.status.success())
        });
        let (interface, number) = (&self.interface, self.number);
        self.ip(&format!("addr add 10.77.0.{number}/24 dev {interface}"));
        self.ip(&format!("addr add fd77::{number}/64 dev {interface} nodad"));
        self.ip(&format!("link set {interface} mtu 1420 up"));
        self.ip(&format!("route add 10.99.0.0/16 dev {interface}"));
    }

    /// Tells the device its key and the other side.
    pub(crate) fn configure(&self, other: &Side, endpoint: Option<&str>) {
        let directory = tempfile::tempdir().expect("a directory");
        let key = write(directory.path(), "key", &self.private);
        self.wg_set(&format!("private-key {key}"));
        let number = other.number;
        let endpoint = endpoint.map(|host| format!("endpoint {host}:{}", other.port())).unwrap_or_default();
        self.wg_set(&format!(
            "peer {} allowed-ips 10.77.0.{number}/32,fd77::{number}/128 {endpoint}",
            other.public
        ));
    }

    pub(crate) fn socket(&self) -> PathBuf {
        Path::new(tunnel::UAPI_DIRECTORY).join(format!("{}.sock", self.interface))
    }

    /// Ends the process as an operator would, and waits for it.
    pub(crate) fn stop(&self) {
        if let Some(mut process) = self.process.borrow_mut().take() {
            if self.engine == Engine::Warren {
                drop(process.stdin.take());
            } else {
                process.kill().expect("is killed");
            }
            process.wait().expect("ends");
        }
    }

    /// Ends the process before it can tidy up.
    pub(crate) fn kill(&self) {
        if let Some(mut process) = self.process.borrow_mut().take() {
            process.kill().expect("is killed");
            process.wait().expect("ends");
        }
    }

    pub(crate) fn restart(&self) {
        self.stop();
        self.start();
    }

    /// Has the device begin a handshake, as its owner would.
    pub(crate) fn begin_handshake(&self, key: &str) {
        let mut process = self.process.borrow_mut();
        let stdin = process.as_mut().expect("runs").stdin.as_mut().expect("a pipe");
        writeln!(stdin, "{key}").expect("is taken");
    }

    pub(crate) fn ip(&self, arguments: &str) {
        let mut all = vec!["ip", "-n", &self.namespace];
        all.extend(arguments.split_whitespace());
        run(&all);
    }

    pub(crate) fn run_in(&self, command: &[&str]) -> String {
        run(&[&["ip", "netns", "exec", &self.namespace], command].concat())
    }

    pub(crate) fn wg(&self, arguments: &[&str]) -> String {
        run(&[&["wg"], arguments].concat())
    }

    pub(crate) fn wg_set(&self, arguments: &str) {
        let mut all = vec!["wg", "set", &self.interface];
        all.extend(arguments.split_whitespace());
        run(&all);
    }

    /// What `wg` complains about.
    pub(crate) fn wg_fails(&self, arguments: &[&str]) -> String {
        let output = Command::new("wg").args(arguments).output().expect("wg starts");
        assert!(!output.status.success(), "wg {arguments:?} succeeds");
        String::from_utf8_lossy(&output.stderr).into_owned()
    }

    pub(crate) fn port(&self) -> u16 {
        self.wg(&["show", &self.interface, "listen-port"]).trim().parse().expect("a port")
    }

    pub(crate) fn peer_of(&self, other: &Side) -> PeerLine {
        let dump = self.wg(&["show", &self.interface, "dump"]);
        let line = dump.lines().find(|line| line.starts_with(&other.public)).expect("the peer is shown");
        let fields: Vec<&str> = line.split('\t').collect();
        let number = |at: usize| fields[at].parse().expect("a number");
        PeerLine {
            endpoint: fields[2].to_owned(),
            handshake: number(4),
            received: number(5),
            sent: number(6),
        }
    }

    pub(crate) fn pings(&self, address: &str) -> bool {
        self.ping(&["-c", "3", "-i", "0.05", "-W", "1", address]).status.success()
    }

    /// All of so many come back; the first waits for the handshake.
    pub(crate) fn assert_ping(&self, address: &str, count: u32) {
        self.assert_ping_with(&["-c", &count.to_string(), address]);
    }

    pub(crate) fn assert_ping_with(&self, arguments: &[&str]) {
        let output = self.ping(&[&["-i", "0.05", "-W", "6"], arguments].concat());
        assert!(no_loss(&output), "{}", text(&output));
    }

    fn ping(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, "ping"]).args(arguments);
        command.output().expect("ping starts")
    }

    /// Twenty a second, until so many are sent.
    pub(crate) fn start_ping(&self, address: &str, count: u32) -> Ping {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, "ping", "-i", "0.05", "-W", "2", "-c"]);
        command.args([&count.to_string(), address]).stdout(Stdio::piped()).stderr(Stdio::piped());
        Ping { process: command.spawn().expect("ping starts") }
    }

    /// Takes a UDP port until dropped; 0 takes any.
    pub(crate) fn hold_port(&self, port: u16) -> UdpSocket {
        let namespace = std::fs::File::open(format!("/run/netns/{}", self.namespace)).expect("is there");
        let bind = move || {
            nix::sched::setns(namespace, nix::sched::CloneFlags::CLONE_NEWNET).expect("root may");
            UdpSocket::bind(("0.0.0.0", port)).expect("is free")
        };
        std::thread::spawn(bind).join().expect("no panic")
    }

    /// `ip netns exec` becomes the program, so the child is the device.
    fn proc(&self, file: &str) -> String {
        let id = self.process.borrow().as_ref().expect("runs").id();
        std::fs::read_to_string(format!("/proc/{id}/{file}")).expect("is there")
    }

    pub(crate) fn resident_bytes(&self) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("a process has memory");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// User and system time (proc(5), fields 14 and 15 of `stat`).
    pub(crate) fn cpu_ticks(&self) -> u64 {
        let stat = self.proc("stat");
        let fields: Vec<&str> = stat.rsplit(')').next().expect("a name").split_whitespace().collect();
        fields[11].parse::<u64>().expect("a number") + fields[12].parse::<u64>().expect("a number")
    }
}

impl Drop for Side {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
        let _ = std::fs::remove_file(self.socket());
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).status();
    }
}

/// Handshake initiations from keys that nobody knows, with a first MAC that is right.
pub(crate) struct Flood {
    socket: UdpSocket,
    initiations: Vec<Vec<u8>>,
}

impl Flood {
    /// From the side's own namespace against its device.
    pub(crate) fn new(side: &Side) -> Self {
        let key: model::PublicKey = side.public.parse().expect("a key");
        let initiations = (0..=255).map(|n| initiation([n; 32], *key.as_bytes())).collect();
        let socket = side.hold_port(0);
        socket.connect(("10.9.0.1", side.port())).expect("has a route");
        socket.set_nonblocking(true).expect("can");
        Self { socket, initiations }
    }

    /// Sends until a cookie reply (type 3, 64 bytes) comes back.
    pub(crate) fn until_cookies(&self, deadline: Duration) {
        let mut answer = [0; 256];
        until("a cookie", deadline, || {
            for initiation in &self.initiations {
                self.socket.send(initiation).expect("is sent");
            }
            self.socket.recv(&mut answer).is_ok_and(|length| length == 64 && answer[0] == 3)
        });
    }
}

fn initiation(from: [u8; 32], to: [u8; 32]) -> Vec<u8> {
    let mut tunn = Tunn::new(from.into(), to.into(), None, None, 0, None);
    let mut buffer = [0; 256];
    match tunn.format_handshake_initiation(&mut buffer, false) {
        TunnResult::WriteToNetwork(message) => message.to_vec(),
        other => panic!("{other:?}"),
    }
}

/// A ping on its way.
pub(crate) struct Ping {
    process: Child,
}

impl Ping {
    pub(crate) fn assert_no_loss(self) {
        let output = self.process.wait_with_output().expect("ping ends");
        assert!(no_loss(&output), "{}", text(&output));
    }

    pub(crate) fn assert_loss_at_most(self, lost: u32) {
        let output = self.process.wait_with_output().expect("ping ends");
        let all = text(&output);
        let counts: Vec<u32> =
            all.lines().filter(|l| l.contains("packets transmitted")).flat_map(numbers).take(2).collect();
        let [sent, received] = counts[..] else { panic!("{all}") };
        assert!(sent - received <= lost, "{all}");
    }
}

fn numbers(line: &str) -> impl Iterator<Item = u32> {
    line.split(|c: char| !c.is_ascii_digit()).filter_map(|word| word.parse().ok())
}

fn no_loss(output: &Output) -> bool {
    output.status.success() && text(output).contains(" 0% packet loss")
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
    std::fs::write(&path, content).expect("is written");
    path.to_str().expect("text").to_owned()
}

/// The example beside this test; `cargo test -p tunnel` builds both, `--test device` alone only this.
fn program() -> PathBuf {
    let this = std::env::current_exe().expect("a path");
    let target = this.ancestors().nth(2).expect("target/debug/deps");
    let program = target.join("examples/wg_device");
    assert!(program.exists(), "cargo build -p tunnel --example wg_device");
    program
}

pub(crate) fn random_key() -> String {
    run(&["wg", "genpsk"]).trim().to_owned()
}

pub(crate) fn random_public() -> String {
    public_of(&random_key())
}

/// Any 32 bytes are a public key.
pub(crate) fn numbered_public(number: u32) -> String {
    let mut bytes = [7; 32];
    bytes[..4].copy_from_slice(&number.to_be_bytes());
    model::PublicKey::from_bytes(bytes).to_string()
}

fn public_of(private: &str) -> String {
    let mut command = Command::new("wg");
    let mut process =
        command.arg("pubkey").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("wg starts");
    process.stdin.take().expect("a pipe").write_all(private.as_bytes()).expect("is taken");
    let output = process.wait_with_output().expect("wg ends");
    String::from_utf8(output.stdout).expect("text").trim().to_owned()
}
