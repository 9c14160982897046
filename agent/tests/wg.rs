//! `warren-agent wg` as wg-quick(8) and people use it. Root and the tools of Debian are needed: `ip`, `wg`, `wg-quick`
//! and `ping`. The kernel may have WireGuard or not: interfaces are made by hand where wg-quick would take the kernel's.
//!
//! ```text
//!   namespace 1                          namespace 2
//!   10.9.0.1  veth ──────────────── veth 10.9.0.2
//!   10.77.0.1 tunnel ══════════ tunnel   10.77.0.2
//! ```

use std::io::Write as _;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const PROGRAM: &str = env!("CARGO_BIN_EXE_warren-agent");
const PATIENCE: Duration = Duration::from_secs(20);
/// With one peer and a session, without the program's own file: that of the dev profile is several times as large.
const WRITTEN_BYTES_MAX: u64 = 3 * 1024 * 1024;

#[test]
fn wg_quick_brings_it_up_and_takes_all_of_it_down() {
    let lab = Lab::new();
    let ends = [End::new(1), End::new(2)];
    let implementation = lab.files.path().join("warren-wg");
    symlink(PROGRAM, &implementation).expect("a link");
    let quick = |side: usize, verb: &str| {
        let path = lab.files.path().join(format!("{}.conf", lab.interface(side)));
        std::fs::write(&path, ends[side].configuration(&ends[1 - side])).expect("a file");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).expect("a file");
        let mut command = lab.inside(side, &["wg-quick", verb]);
        command.arg(&path).env("WG_QUICK_USERSPACE_IMPLEMENTATION", &implementation);
        succeed(&mut command)
    };
    for side in [0, 1] {
        quick(side, "up");
    }
    for to in ["10.77.0.2", "fd77::2"] {
        succeed(&mut lab.inside(0, &["ping", "-c", "3", "-i", "0.05", "-W", "6", to]));
    }
    let shown = succeed(&mut lab.inside(0, &["wg", "show", &lab.interface(0)]));
    assert!(shown.contains("latest handshake"), "{shown}");
    for side in [0, 1] {
        // With WireGuard in the kernel there is no process.
        if let Some(process) = lab.process(side) {
            let written = written_bytes(process);
            assert!(written < WRITTEN_BYTES_MAX, "{written} bytes");
        }
        quick(side, "down");
        lab.assert_nothing_is_left(side);
    }
}

#[test]
fn in_the_background_it_returns_when_it_serves_and_ends_with_its_interface_or_its_socket() {
    let lab = Lab::new();
    let name = lab.interface(0);
    for end in ["terminate", "delete", "remove"] {
        succeed(&mut lab.inside(0, &[PROGRAM, "wg", &name]));
        // Nothing to wait for: both are there.
        succeed(&mut lab.inside(0, &["wg", "show", &name]));
        let process = lab.process(0).expect("a process");
        assert!(is_apart(process), "it has a session of its own");
        match end {
            "terminate" => succeed(&mut lab.inside(0, &["kill", &process.to_string()])),
            "delete" => succeed(&mut lab.inside(0, &["ip", "link", "delete", &name])),
            _ => std::fs::remove_file(lab.socket(0)).map(|()| String::new()).expect("is removed"),
        };
        lab.assert_nothing_is_left(0);
    }
}

#[test]
fn in_the_foreground_it_stays_until_a_signal() {
    let lab = Lab::new();
    let name = lab.interface(0);
    let ways: [(&[&str], &str); 2] =
        [(&["--foreground", "--crypto", "reference", "--no-offload"], "0"), (&[], "1")];
    for (arguments, variable) in ways {
        let mut command = lab.inside(0, &[PROGRAM, "wg"]);
        command.args(arguments).arg(&name).env("WG_PROCESS_FOREGROUND", variable).env("LOG_LEVEL", "silent");
        let mut child = command.spawn().expect("it starts");
        until("it serves", || Command::new("wg").args(["show", &name]).output().unwrap().status.success());
        assert_eq!(lab.process(0), Some(child.id()), "`ip netns exec` becomes the program");
        assert_eq!(child.try_wait().expect("is ours"), None);
        succeed(Command::new("kill").args(["-INT", &child.id().to_string()]));
        assert!(child.wait().expect("ends").success());
        lab.assert_nothing_is_left(0);
    }
}

#[test]
fn what_cannot_be_is_refused_in_one_line() {
    let lab = Lab::new();
    let name = lab.interface(0);
    let refused = |command: &mut Command, code: i32, says: &str| {
        let Output { status, stdout, stderr } = command.output().expect("it starts");
        let said = String::from_utf8_lossy(&stderr);
        assert_eq!(status.code(), Some(code), "{said}");
        assert!(stdout.is_empty() && said.contains(says) && said.lines().count() == 1, "{said}");
    };
    succeed(&mut lab.inside(0, &[PROGRAM, "wg", &name]));
    for foreground in ["0", "1"] {
        let mut again = lab.inside(0, &[PROGRAM, "wg", &name]);
        again.env("WG_PROCESS_FOREGROUND", foreground);
        refused(&mut again, 3, &format!("ip link delete {name}"));
        // The same name in another namespace would have the same socket.
        let mut elsewhere = lab.inside(1, &[PROGRAM, "wg", &name]);
        elsewhere.env("WG_PROCESS_FOREGROUND", foreground);
        refused(&mut elsewhere, 3, "another process answers");
    }
    succeed(&mut lab.inside(0, &["wg", "show", &name]));
    succeed(&mut lab.inside(0, &["ip", "link", "delete", &name]));
    lab.assert_nothing_is_left(0);

    refused(&mut lab.inside(0, &[PROGRAM, "wg", "no/name"]), 3, "no name for an interface");
    let mut powerless = lab.inside(0, &["setpriv", "--bounding-set=-net_admin", "--inh-caps=-net_admin"]);
    refused(powerless.args([PROGRAM, "wg", &name]), 3, "CAP_NET_ADMIN is missing");
    assert!(!lab.socket(0).exists());
}

/// Two namespaces and a wire. Everything goes when it is dropped.
struct Lab {
    name: String,
    files: tempfile::TempDir,
}

impl Lab {
    fn new() -> Self {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        // As scripts/lib/topology names its own: what a test that is killed leaves is swept like theirs.
        let name = format!("w{}q{}", std::process::id(), COUNT.fetch_add(1, Ordering::Relaxed));
        let lab = Self { name, files: tempfile::tempdir().expect("a directory") };
        let [one, two] = [lab.interface(0), lab.interface(1)];
        for namespace in [&one, &two] {
            ip(&["netns", "add", namespace]);
        }
        ip(&["link", "add", "veth", "netns", &one, "type", "veth", "peer", "name", "veth", "netns", &two]);
        for (namespace, address) in [(&one, "10.9.0.1/24"), (&two, "10.9.0.2/24")] {
            ip(&["-n", namespace, "link", "set", "lo", "up"]);
            ip(&["-n", namespace, "link", "set", "veth", "up"]);
            ip(&["-n", namespace, "addr", "add", address, "dev", "veth"]);
        }
        lab
    }

    /// Of a namespace and of the interface in it: sockets of all namespaces are in one directory.
    fn interface(&self, side: usize) -> String {
        format!("{}-{}", self.name, side + 1)
    }

    fn socket(&self, side: usize) -> PathBuf {
        Path::new(tunnel::UAPI_DIRECTORY).join(format!("{}.sock", self.interface(side)))
    }

    fn inside(&self, side: usize, command: &[&str]) -> Command {
        let mut all = Command::new("ip");
        all.args(["netns", "exec", &self.interface(side)]).args(command);
        all
    }

    /// The process that serves the interface, if one of ours does.
    fn process(&self, side: usize) -> Option<u32> {
        let inside = succeed(Command::new("ip").args(["netns", "pids", &self.interface(side)]));
        inside.lines().find_map(|line| line.trim().parse().ok())
    }

    fn assert_nothing_is_left(&self, side: usize) {
        let name = self.interface(side);
        until("nothing is left", || {
            let link = self.inside(side, &["ip", "link", "show", &name]).output().expect("ip starts");
            !link.status.success() && !self.socket(side).exists() && self.process(side).is_none()
        });
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for side in [0, 1] {
            if let Some(process) = self.process(side) {
                let _ = Command::new("kill").arg(process.to_string()).status();
                until("the process is gone", || self.process(side).is_none());
            }
            let _ = Command::new("ip").args(["netns", "del", &self.interface(side)]).status();
        }
    }
}

/// The keys of one side.
struct End {
    number: u8,
    private: String,
    public: String,
}

impl End {
    fn new(number: u8) -> Self {
        let private = succeed(Command::new("wg").arg("genkey")).trim().to_owned();
        let mut command = Command::new("wg").arg("pubkey").piped().spawn().expect("wg starts");
        let mut stdin = command.stdin.take().expect("a pipe");
        stdin.write_all(private.as_bytes()).expect("is taken");
        drop(stdin);
        let public = command.wait_with_output().expect("ends").stdout;
        Self { number, private, public: String::from_utf8(public).expect("text").trim().to_owned() }
    }

    /// As people write it for wg-quick.
    fn configuration(&self, other: &Self) -> String {
        let (number, peer) = (self.number, other.number);
        let (private, public) = (&self.private, &other.public);
        format!(
            "[Interface]\nPrivateKey = {private}\nListenPort = 51820\n\
             Address = 10.77.0.{number}/24, fd77::{number}/64\nMTU = 1400\n\
             [Peer]\nPublicKey = {public}\nEndpoint = 10.9.0.{peer}:51820\nPersistentKeepalive = 25\n\
             AllowedIPs = 10.77.0.{peer}/32, fd77::{peer}/128, 10.88.{peer}.0/24\n"
        )
    }
}

trait Piped {
    fn piped(&mut self) -> &mut Self;
}

impl Piped for Command {
    fn piped(&mut self) -> &mut Self {
        self.stdin(Stdio::piped()).stdout(Stdio::piped())
    }
}

/// Whether the process leads a session of its own (proc(5), fields 1 and 6 of `stat`).
fn is_apart(process: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).expect("it runs");
    let session = stat.rsplit(')').next().expect("a name").split_whitespace().nth(3);
    session.expect("a session").parse() == Ok(process)
}

/// Memory that is the process's alone (proc(5)).
fn written_bytes(process: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).expect("it runs");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a process has memory");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
}

fn ip(arguments: &[&str]) {
    succeed(Command::new("ip").args(arguments));
}

fn succeed(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {said}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let started = Instant::now();
    while !condition() {
        assert!(started.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
