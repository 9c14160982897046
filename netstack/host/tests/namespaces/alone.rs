//! Runs a test again in namespaces of its own, and what tests need there.

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

const INSIDE: &str = "WARREN_TEST_INSIDE";

/// Returns in a child process whose namespaces are its own; in the test's own process, runs that child, checks
/// that it passed, and says `false`.
pub fn alone(test: &str) -> bool {
    if std::env::var_os(INSIDE).is_some() {
        prepare();
        return true;
    }
    let program = std::env::current_exe().unwrap();
    let status = Command::new("unshare")
        .args([
            "--net",
            "--mount",
            "--pid",
            "--fork",
            "--kill-child",
            "--mount-proc",
            "--propagation",
            "private",
            "--",
        ])
        .arg(program)
        .args(["--exact", test, "--nocapture", "--test-threads=1"])
        .env(INSIDE, "1")
        .status()
        .expect("unshare(1) is there");
    assert!(status.success(), "{test} failed in its namespaces");
    false
}

fn prepare() {
    run("ip link set lo up");
    for directory in ["/run/netns", "/run/wireguard"] {
        std::fs::create_dir_all(directory).unwrap();
        run(&format!("mount -t tmpfs tmpfs {directory}"));
    }
    for file in ["/proc/sys/net/ipv4/ip_forward", "/proc/sys/net/ipv6/conf/all/forwarding"] {
        std::fs::write(file, "0").unwrap();
    }
}

/// Runs a command line and returns what it printed; panics with its words if it fails.
pub fn run(line: &str) -> String {
    let output = Command::new("sh").args(["-c", line]).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Whether a command line succeeds.
pub fn succeeds(line: &str) -> bool {
    Command::new("sh").args(["-c", line]).output().unwrap().status.success()
}

/// Waits for a condition, looking 100 times a second.
pub fn wait_for(what: &str, within: Duration, mut condition: impl FnMut() -> bool) -> Duration {
    let began = Instant::now();
    while !condition() {
        assert!(began.elapsed() < within, "{what}: not within {within:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
    began.elapsed()
}

/// Makes a file a mount point of its own, as `ip netns exec` does with `/etc/resolv.conf`.
pub fn bind_mount(file: &Path) {
    let source = file.with_extension("source");
    std::fs::copy(file, &source).unwrap();
    run(&format!("mount --bind {} {}", source.display(), file.display()));
}
