//! The daemon as a process, in a network namespace of its own: what it makes, gives up, says and leaves. Needs root.

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Output, Stdio};
use std::time::Duration;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const PROGRAM: &str = env!("CARGO_BIN_EXE_warren-netd");
/// For what happens at once, on a machine that builds at the same time.
const SOON: Duration = Duration::from_secs(30);

/// The daemon with nobody to dial. unshare(1) becomes the program, so its process id is the daemon's.
fn netd(state: &Path) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--net", "--", PROGRAM, "--apid-user", "root", "--state-dir"]).arg(state);
    command.arg("--socket").arg(state.join("no.sock"));
    command.env_remove("WARREN_CONFIG").stderr(Stdio::piped());
    command
}

struct Running {
    child: Child,
    log: BufReader<ChildStderr>,
}

impl Running {
    fn start(mut command: Command) -> Self {
        let mut child = command.spawn().expect("unshare(1) is there");
        let log = BufReader::new(child.stderr.take().expect("it is piped"));
        Self { child, log }
    }

    fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).expect("process ids are small");
        kill(Pid::from_raw(id), signal).expect("it runs");
    }

    /// Reads the log up to a line with this text. The daemon is killed if the test fails.
    fn said(&mut self, part: &str) {
        let mut seen = String::new();
        while self.log.read_line(&mut seen).expect("the log is text") > 0 {
            if seen.lines().last().is_some_and(|line| line.contains(part)) {
                return;
            }
        }
        panic!("it ended without saying {part:?}:\n{seen}");
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn refused(command: &mut Command) -> String {
    let Output { status, stderr, .. } = command.output().expect("unshare(1) is there");
    assert_eq!(status.code(), Some(3), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stderr).expect("the log is text")
}

#[test]
fn it_keeps_its_key_has_two_capabilities_and_ends_as_asked() {
    let directory = tempfile::tempdir().unwrap();
    let manager = UnixDatagram::bind(directory.path().join("notify")).unwrap();
    manager.set_read_timeout(Some(SOON)).unwrap();
    let mut keys = Vec::new();
    for _ in 0..2 {
        let mut command = netd(directory.path());
        command.env("NOTIFY_SOCKET", directory.path().join("notify"));
        let mut running = Running::start(command);
        running.said("keeping the hub");
        let mut message = [0; 1024];
        let ready = (0..100).any(|_| {
            let read = manager.recv(&mut message).expect("the daemon speaks to its manager");
            String::from_utf8_lossy(&message[..read]).contains("READY=1")
        });
        assert!(ready, "the service manager is told");
        let status = fs::read_to_string(format!("/proc/{}/status", running.child.id())).unwrap();
        for set in ["CapPrm", "CapEff", "CapBnd", "CapInh", "CapAmb"] {
            // CAP_NET_BIND_SERVICE is 10, CAP_NET_ADMIN is 12.
            assert!(status.contains(&format!("{set}:\t0000000000001400")), "{set}\n{status}");
        }
        assert!(status.contains("NoNewPrivs:\t1"), "{status}");
        running.signal(Signal::SIGHUP);
        running.said("nothing can be reloaded");
        running.signal(Signal::SIGTERM);
        running.said("stopped");
        assert_eq!(running.child.wait().unwrap().code(), Some(0));
        let key = directory.path().join("wg.key");
        assert_eq!(fs::metadata(&key).unwrap().permissions().mode() & 0o777, 0o600);
        keys.push(fs::read(&key).unwrap());
    }
    assert_eq!(keys[0], keys[1], "the hub keeps its key");
}

#[test]
fn it_does_not_start_on_ground_that_others_may_change() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("netd.toml");
    fs::write(&config, "interface = \"wg9\"").unwrap();
    fs::set_permissions(&config, fs::Permissions::from_mode(0o666)).unwrap();
    let mut command = netd(directory.path());
    let said = refused(command.arg("--config").arg(&config));
    assert!(said.contains("chmod go-w"), "{said}");

    let state = directory.path().join("state");
    fs::create_dir(&state).unwrap();
    fs::set_permissions(&state, fs::Permissions::from_mode(0o777)).unwrap();
    let said = refused(&mut netd(&state));
    assert!(said.contains("chmod go-w"), "{said}");
}

#[test]
fn it_says_what_it_lacks() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new("setpriv");
    command.args([
        "--bounding-set=-net_admin",
        "--inh-caps=-all",
        PROGRAM,
        "--apid-user",
        "root",
        "--state-dir",
    ]);
    let said = refused(command.arg(directory.path()).stderr(Stdio::piped()));
    assert!(said.contains("CAP_NET_ADMIN is missing") && said.contains("AmbientCapabilities"), "{said}");
    assert!(!said.contains("CAP_NET_BIND_SERVICE is missing"), "{said}");

    let mut command = Command::new("unshare");
    command.args(["--net", "--", PROGRAM, "--apid-user", "nobody-of-this-name", "--state-dir"]);
    let said = refused(command.arg(directory.path()));
    assert!(said.contains("--apid-user"), "{said}");
}

#[test]
fn half_a_key_is_reported_and_left() {
    let directory = tempfile::tempdir().unwrap();
    let key = directory.path().join("wg.key");
    fs::write(&key, "half").unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    let output = netd(directory.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.contains("wg.key holds no key") && said.contains("backup"), "{said}");
    assert_eq!(fs::read(&key).unwrap(), b"half");
}
