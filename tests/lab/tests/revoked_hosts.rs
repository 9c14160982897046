//! Hosts whose certificates are revoked, as seen by who connects: `warren ssh`, and ssh with what `warren ssh login` wrote.
//!
//! ```text
//!   alpha (ssh)  ── r-alpha ─┐
//!   beta  (sshd) ── r-beta  ─┼─ inet ── server (apid, netd)
//!   gamma (sshd) ── r-gamma ─┘
//! ```

use std::fs;
use std::rc::Rc;
use std::time::Duration;

use lab::sshd::{self, CERTIFIED_WITHIN, LOG, NO_CONFIG, SSHD, STRICT};
use lab::{Done, Mesh, Process, World, wait_for};

const PASSWORD: &str = "violet tram 9 opens";
/// What is revoked is refused by connected devices within this time.
const REVOKED_WITHIN: Duration = Duration::from_secs(5);
const CERTIFICATE: &str = "/etc/ssh/warren/host_key-cert.pub";
/// Where a second sshd of beta shows the certificate that it had at first, whatever became of it.
const OTHER_PORT: [&str; 2] = ["-p", "2222"];
const OTHER_SSHD: &str = "Port 2222\nPidFile none\nUsePAM no\nPermitRootLogin prohibit-password\n\
                          HostKey /etc/ssh/ssh_host_ed25519_key\nHostCertificate /etc/ssh/first-cert.pub\n\
                          TrustedUserCAKeys /etc/ssh/warren/user_ca\n\
                          AuthorizedPrincipalsFile /etc/ssh/warren/principals/%u\n";
struct Hosts {
    mesh: Mesh,
    _daemons: Vec<Rc<Process>>,
}

impl Hosts {
    fn start() -> Self {
        let world = World::new(&["alpha", "beta", "gamma"]);
        let hosts = ["beta", "gamma"];
        hosts.iter().for_each(|host| sshd::install(&world, host));
        let mesh = Mesh::in_world(world, &["--admin-password", PASSWORD]);
        let mut daemons = hosts.map(|host| mesh.plain("sshd", host, &[SSHD, "-D", "-E", LOG])).to_vec();
        mesh.enrol(["alpha", "beta", "gamma"]);
        hosts.into_iter().for_each(|host| sshd::is_certified(&mesh, host));
        let etc = mesh.file("beta", "ssh");
        fs::copy(etc.join("warren/host_key-cert.pub"), etc.join("first-cert.pub")).expect("copied");
        fs::write(etc.join("other_config"), OTHER_SSHD).expect("written");
        let other = [SSHD, "-D", "-E", "/etc/ssh/other_log", "-f", "/etc/ssh/other_config"];
        daemons.push(mesh.plain("sshd-other", "beta", &other));
        sshd::log_in(&mesh, "alpha", "admin", PASSWORD);
        sshd::person(&mesh, "alpha", &["warren", "ssh", "login", "--include"]).ok();
        Self { mesh, _daemons: daemons }
    }

    /// `warren ssh`.
    fn ours(&self, host: &str, more: &[&str]) -> Done {
        let at = format!("root@{host}");
        let ssh = [&["warren", "ssh", &at, "--"], &NO_CONFIG[..], &STRICT, more, &["echo", "hello"]];
        sshd::person(&self.mesh, "alpha", &ssh.concat())
    }

    /// ssh, as it is configured by `warren ssh login --include`.
    fn plain(&self, host: &str, more: &[&str]) -> Done {
        let config = sshd::home(&self.mesh, "alpha").join(".ssh/config").display().to_string();
        let at = format!("root@{host}");
        let ssh = [&["ssh", "-F", &config], &STRICT[..], more, &[&at, "echo", "hello"]];
        sshd::person(&self.mesh, "alpha", &ssh.concat())
    }

    fn serial(&self, host: &str) -> String {
        let shown = self.mesh.on(host).ok(&["ssh-keygen", "-L", "-f", CERTIFICATE]);
        let serial = shown.lines().find_map(|line| line.trim().strip_prefix("Serial: "));
        format!("serial:{}", serial.expect("a certificate has a number"))
    }

    fn revoke(&self, what: &str) {
        self.mesh.on("server").ok(&["warren", "ca", "revoke", "--type", "host", what, "--yes"]);
    }
}

fn enters(done: &Done) -> bool {
    done.out == "hello\n"
}

/// Refused for the host that it is, and for nothing else.
fn is_refused(done: &Done) -> bool {
    let refused = done.code == 255 && done.err.contains("revoked by file");
    assert!(refused || enters(done), "{}", done.tell());
    refused
}

#[test]
fn a_host_that_is_revoked_is_refused_by_who_connects_and_others_are_not() {
    let hosts = Hosts::start();
    let (at_first, gamma) = (&OTHER_PORT[..], &[][..]);
    for (host, more) in [("beta", at_first), ("gamma", gamma)] {
        wait_for("both sshd of beta listen", CERTIFIED_WITHIN, || enters(&hosts.ours(host, more)));
        let plain = hosts.plain(host, more);
        assert!(enters(&plain), "{}", plain.tell());
    }
    let revoked = hosts.serial("beta");
    hosts.revoke(&revoked);
    wait_for("warren ssh refuses it", REVOKED_WITHIN, || is_refused(&hosts.ours("beta", at_first)));
    assert!(is_refused(&hosts.plain("beta", at_first)), "and so does ssh");
    assert!(enters(&hosts.ours("gamma", gamma)) && enters(&hosts.plain("gamma", gamma)), "another host");

    wait_for("the host has another certificate", CERTIFIED_WITHIN, || hosts.serial("beta") != revoked);
    wait_for("it is taken", CERTIFIED_WITHIN, || enters(&hosts.ours("beta", &[])));
    assert!(enters(&hosts.plain("beta", &[])));

    let by_key = [&OTHER_PORT[..], &["-o", "HostKeyAlgorithms=ssh-ed25519"]].concat();
    assert!(enters(&hosts.ours("beta", &by_key)), "its plain key is known");
    let id = hosts.mesh.device_field("beta", "id");
    hosts.revoke(&format!("id:h:{id}@home"));
    wait_for("whatever it shows", REVOKED_WITHIN, || is_refused(&hosts.ours("beta", &[])));
    for more in [&[][..], at_first, &by_key] {
        assert!(is_refused(&hosts.ours("beta", more)) && is_refused(&hosts.plain("beta", more)), "{more:?}");
    }
    assert!(enters(&hosts.ours("gamma", gamma)) && enters(&hosts.plain("gamma", gamma)), "another host");
}
