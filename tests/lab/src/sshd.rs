//! Stock sshd on devices, and people who log in: for stories and for measurements.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde_json::Value;

use crate::mesh::{Mesh, SERVER_URL};
use crate::node::Done;
use crate::world::World;

mod hosts;

pub use hosts::{KnownBy, Sshd, off};

/// The program.
pub const SSHD: &str = "/usr/sbin/sshd";
/// Where sshd of each host writes whom it lets in, if it is started with `-E`.
pub const LOG: &str = "/etc/ssh/log";

/// A host gets a certificate and sshd reads it: some seconds on a busy machine.
pub const CERTIFIED_WITHIN: Duration = Duration::from_secs(30);

/// Options of an ssh that reads no configuration of its user's.
pub const NO_CONFIG: [&str; 2] = ["-F", "none"];
/// Options of an ssh that asks nobody, and enters only a host that it knows by other means than files.
pub const STRICT: [&str; 8] = [
    "-o",
    "BatchMode=yes",
    "-o",
    "StrictHostKeyChecking=yes",
    "-o",
    "UserKnownHostsFile=/dev/null",
    "-o",
    "GlobalKnownHostsFile=/dev/null",
];
/// Options of an ssh that reads no configuration, asks nobody, and enters any host.
pub const ANY_HOST: [&str; 10] = [
    "-F",
    "none",
    "-o",
    "BatchMode=yes",
    "-o",
    "StrictHostKeyChecking=no",
    "-o",
    "UserKnownHostsFile=/dev/null",
    "-o",
    "LogLevel=ERROR",
];

/// Options of an ssh that shows the key and the certificate which `warren ssh login` keeps in a home.
pub fn identity(home: &Path) -> [String; 4] {
    let file = |name: &str| home.join(".config/warren/ssh").join(name).display().to_string();
    let key = format!("IdentityFile={}", file("id_ed25519"));
    let certificate = format!("CertificateFile={}", file("id_ed25519-cert.pub"));
    ["-o".into(), key, "-o".into(), certificate]
}

/// What the package of OpenSSH and the machine's administrator make.
pub fn install(world: &World, host: &str) {
    assert!(fs::exists(SSHD).is_ok_and(|there| there), "apt-get install openssh-server");
    let etc = world.file(host, "ssh");
    fs::create_dir_all(etc.join("sshd_config.d")).expect("a directory");
    let config = "Include /etc/ssh/sshd_config.d/*.conf\nPidFile /run/sshd.pid\nUsePAM no\nLogLevel VERBOSE\n\
                  PermitRootLogin prohibit-password\nKbdInteractiveAuthentication no\n\
                  AuthorizedKeysFile /etc/ssh/administrator.pub\n";
    fs::write(etc.join("sshd_config"), config).expect("written");
    let key = |name: &str| {
        let path = format!("/etc/ssh/{name}");
        world.on(host).ok(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", &path]);
    };
    key("ssh_host_ed25519_key");
    key("administrator");
    world.on(host).ok(&["mkdir", "-p", "/run/sshd"]);
}

/// Waits until a host shows a certificate to who connects.
pub fn is_certified(mesh: &Mesh, host: &str) {
    let what = format!("{host} has a certificate that sshd shows");
    let certified = |done: &Done| done.out.contains("this host's certificate is valid until");
    mesh.on(host).wait(&what, CERTIFIED_WITHIN, &["warren", "doctor", "ssh"], certified);
}

/// Where a person on a device is at home.
pub fn home(mesh: &Mesh, device: &str) -> PathBuf {
    mesh.file(device, "lib").join("home")
}

/// Runs something on a device as a person with a home of her own.
pub fn person(mesh: &Mesh, device: &str, args: &[&str]) -> Done {
    let home = format!("HOME={}", home(mesh, device).display());
    mesh.on(device).run(&[&["env", &home], args].concat())
}

/// What the server says that it is known by.
///
/// # Panics
/// If it has not started.
pub fn fingerprint(mesh: &Mesh) -> String {
    let printed = mesh.apid.output();
    let print = printed.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let print = print.filter_map(|line| line["fingerprint"].as_str().map(str::to_owned)).next_back();
    print.expect("said at the start")
}

/// `warren login` of a person on a device.
///
/// # Panics
/// If the server does not know user and password.
pub fn log_in(mesh: &Mesh, device: &str, user: &str, password: &str) {
    let home = home(mesh, device);
    fs::create_dir_all(&home).expect("a home");
    let file = home.join("password");
    fs::write(&file, password).expect("written");
    let (print, file) = (fingerprint(mesh), file.display().to_string());
    let login = ["warren", "login", SERVER_URL, "--user", user, "--password-file", &file];
    person(mesh, device, &[&login[..], &["--fingerprint", &print]].concat()).ok();
}
