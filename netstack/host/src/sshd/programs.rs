//! The programs of OpenSSH that are asked: `sshd -T` and `-t`, `ssh-keygen`, `ssh-keyscan`; and how sshd reads its
//! configuration anew. Decides nothing.

use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use model::HostKey;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::conf::{InForce, drop_ins};
use super::files::Places;
use crate::resolver::tool::{self, ToolError};

const SSHD: &[&str] = &["/usr/sbin/sshd", "/usr/local/sbin/sshd", "/usr/bin/sshd"];
const KEYGEN: &[&str] = &["/usr/bin/ssh-keygen", "/usr/local/bin/ssh-keygen"];
const KEYSCAN: &[&str] = &["/usr/bin/ssh-keyscan", "/usr/local/bin/ssh-keyscan"];
const SYSTEMCTL: &[&str] = &["/usr/bin/systemctl", "/bin/systemctl"];
/// Of documentation (RFC 5737): no connection of the mesh, whatever its block.
const ELSEWHERE: [&str; 2] = ["192.0.2.1", "192.0.2.2"];
/// Seconds that `ssh-keyscan` waits for an answer of this machine.
const SCAN_SECONDS: &str = "2";

/// OpenSSH on this machine.
#[derive(Debug, Clone)]
pub(super) struct Programs {
    sshd: &'static Path,
    keygen: &'static Path,
    config: PathBuf,
    pub(super) places: Places,
}

/// Which of a host's keys is certified first, by what its file is called.
const KEY_KINDS: [&str; 3] = ["ed25519", "ecdsa", "rsa"];

impl Programs {
    /// An sshd that reads a directory of drop-ins, if there is one.
    pub(super) fn find(config: &Path) -> Option<Self> {
        let text = fs::read_to_string(config).ok()?;
        let drop_ins = drop_ins(&text, config).filter(|directory| directory.is_dir())?;
        Some(Self {
            sshd: tool::find(SSHD)?,
            keygen: tool::find(KEYGEN)?,
            config: config.into(),
            places: Places::new(config, &drop_ins),
        })
    }

    fn config(&self) -> &str {
        self.config.to_str().unwrap_or(super::SSHD_CONFIG)
    }

    /// Whether sshd would start.
    pub(super) fn check(&self) -> Result<(), ToolError> {
        tool::run(self.sshd, &["-t", "-f", self.config()], "").map(drop)
    }

    /// What is in force for a connection to a mesh address.
    pub(super) fn over_mesh(&self, address: IpAddr) -> Result<InForce, ToolError> {
        let address = address.to_string();
        self.in_force(&address, &address)
    }

    /// What is in force for any other.
    pub(super) fn elsewhere(&self) -> Result<InForce, ToolError> {
        self.in_force(ELSEWHERE[0], ELSEWHERE[1])
    }

    fn in_force(&self, from: &str, to: &str) -> Result<InForce, ToolError> {
        let connection = format!("user=root,host={from},addr={from},laddr={to},lport=22");
        tool::run(self.sshd, &["-T", "-f", self.config(), "-C", &connection], "").map(|t| InForce::read(&t))
    }

    /// Whether `ssh-keygen` reads a list of revocations.
    pub(super) fn check_list(&self, path: &Path) -> Result<(), String> {
        let path = path.to_str().ok_or("its path is no text")?;
        tool::run(self.keygen, &["-Q", "-l", "-f", path], "").map(drop).map_err(|error| crate::chain(&error))
    }

    /// The key to be certified: of those that sshd serves, the best that is there.
    pub(super) fn host_key(&self, in_force: &InForce) -> Option<HostKey> {
        let served = |kind: &str| in_force.values("hostkey").find(|path| path.contains(kind));
        KEY_KINDS.iter().filter_map(|kind| served(kind)).find_map(|path| {
            let public = fs::read_to_string(format!("{path}.pub")).ok();
            let made = || tool::run(self.keygen, &["-y", "-f", path], "").ok();
            public.or_else(made)?.trim().parse().ok()
        })
    }

    /// Has a running sshd read its configuration anew. One that does not run reads it when it starts.
    pub(super) fn reload(&self, in_force: &InForce) -> Result<(), String> {
        if let Some(pid) = in_force.values("pidfile").find_map(running) {
            return kill(pid, Signal::SIGHUP).map_err(|e| format!("signalling sshd, process {pid}: {e}"));
        }
        // Where no file names the process, the service manager knows it; a unit that does not run has nothing to read.
        if let Some(systemctl) = tool::find(SYSTEMCTL).filter(|_| Path::new("/run/systemd/system").exists()) {
            for unit in ["ssh.service", "sshd.service"] {
                if tool::run(systemctl, &["is-active", "--quiet", unit], "").is_ok() {
                    let reload = tool::run(systemctl, &["reload", unit], "");
                    return reload.map(drop).map_err(|error| crate::chain(&error));
                }
            }
        }
        Ok(())
    }

    /// What sshd shows who connects to a mesh address: lines of keys, or of certificates.
    pub(super) fn shown(&self, address: IpAddr, in_force: &InForce, certificates: bool) -> Vec<String> {
        let Some(keyscan) = tool::find(KEYSCAN) else { return Vec::new() };
        let (address, port) = (address.to_string(), in_force.values("port").next().unwrap_or("22"));
        let mut arguments = vec!["-T", SCAN_SECONDS, "-p", port];
        if certificates {
            arguments.push("-c");
        }
        arguments.push(&address);
        let lines = tool::run(keyscan, &arguments, "").unwrap_or_default();
        // A key comes after the host's name, a certificate alone.
        let key = |line: &str| {
            let named = line.split_once(' ').filter(|(host, _)| host.contains(&address));
            named.map_or(line, |(_, key)| key).to_owned()
        };
        lines.lines().filter(|line| !line.starts_with('#')).map(key).collect()
    }
}

/// The sshd whose number is in a file, if it runs.
fn running(pid_file: &str) -> Option<Pid> {
    let number: i32 = fs::read_to_string(pid_file).ok()?.trim().parse().ok()?;
    let name = fs::read_to_string(format!("/proc/{number}/comm")).ok()?;
    (number > 1 && name.trim() == "sshd").then_some(Pid::from_raw(number))
}
