//! A mesh whose devices run sshd, and the people who enter them: what stories of SSH share.

use std::fs;
use std::path::PathBuf;
use std::rc::Rc;

use serde_json::Value;

use super::{ANY_HOST, CERTIFIED_WITHIN, LOG, NO_CONFIG, SSHD, STRICT};
use crate::mesh::{Mesh, TENANT_ZONE};
use crate::node::Done;
use crate::process::Process;
use crate::wait::{SOON, until, wait_for};
use crate::world::World;

/// Of everybody.
const PASSWORD: &str = "violet tram 9 opens";
/// Another address of each device than those of the mesh.
const OTHER_ADDRESS: &str = "192.168.1.2";

/// A mesh with sshd on some devices, as a package installs it: nobody tells it anything of the mesh.
#[derive(Debug)]
pub struct Sshd {
    /// Where it all is.
    pub mesh: Mesh,
    /// Each sshd, by its host.
    pub daemons: Vec<(String, Rc<Process>)>,
    /// Of alpha, beta, gamma and so on.
    pub agents: Vec<Rc<Process>>,
}

impl Sshd {
    /// With sshd on these of alpha, beta and gamma, each certified.
    pub fn start<const N: usize>(hosts: [&str; N]) -> Self {
        Self::start_at(hosts.map(|host| (host, "+0m")))
    }

    /// With clocks that are so far off.
    pub fn start_at<const N: usize>(clocks: [(&str, &str); N]) -> Self {
        Self::start_among(["alpha", "beta", "gamma"], clocks)
    }

    /// With devices of their own, the first of which has no sshd.
    pub fn start_among<const D: usize, const N: usize>(
        devices: [&str; D],
        clocks: [(&str, &str); N],
    ) -> Self {
        let hosts = clocks.map(|(host, _)| host);
        let world = World::new(&devices);
        hosts.iter().for_each(|host| super::install(&world, host));
        let mesh = Mesh::in_world(world, &["--admin-password", PASSWORD]);
        let daemon = |(host, clock): &(&str, &str)| {
            let sshd = [&off(clock)[..], &[SSHD, "-D", "-E", LOG]].concat();
            ((*host).to_owned(), mesh.plain("sshd", host, &sshd))
        };
        let daemons = clocks.iter().map(daemon).collect();
        let agents = devices.map(|device| {
            let agent = mesh.agent_with(device, &["--sshd-log", LOG]);
            mesh.join(device, &mesh.token(&[]));
            agent
        });
        let agents = agents.to_vec();
        let sshd = Self { mesh, daemons, agents };
        hosts.iter().for_each(|host| super::is_certified(&sshd.mesh, host));
        sshd
    }

    /// `/etc/ssh` of a host.
    pub fn etc(&self, host: &str) -> PathBuf {
        self.mesh.file(host, "ssh")
    }

    /// The home of whoever works at a device.
    pub fn home(&self, device: &str) -> PathBuf {
        super::home(&self.mesh, device)
    }

    /// Runs a program as whoever works at a device.
    pub fn person(&self, device: &str, args: &[&str]) -> Done {
        super::person(&self.mesh, device, args)
    }

    /// The same for `warren`.
    pub fn warren(&self, device: &str, args: &[&str]) -> Done {
        self.person(device, &[&["warren"], args].concat())
    }

    /// Logs the administrator in.
    pub fn log_in(&self, device: &str) {
        self.log_in_as(device, "admin");
    }

    /// Logs somebody in whose password is that of all.
    pub fn log_in_as(&self, device: &str, user: &str) {
        super::log_in(&self.mesh, device, user, PASSWORD);
    }

    /// Makes a person with the password of all.
    ///
    /// # Panics
    /// If the server refuses.
    pub fn create_user(&self, name: &str, more: &[&str]) {
        let password = self.mesh.file("server", "lib").join("password");
        fs::write(&password, PASSWORD).expect("written");
        let of = ["--password-file", password.to_str().expect("text")];
        self.mesh.on("server").ok(&[&["warren", "user", "create", name], more, &of].concat());
    }

    /// `warren ssh TARGET echo hello`, with a host key that must be known already and nobody to ask.
    pub fn ssh(&self, device: &str, target: &str) -> Done {
        let ssh = [&["ssh", target, "--"], &NO_CONFIG[..], &STRICT, &["echo", "hello"]].concat();
        self.warren(device, &ssh)
    }

    /// Whether the certificate at hand opens a host, which `warren ssh` would replace where it knows that it does not.
    pub fn opens(&self, device: &str, target: &str) -> bool {
        let identity = super::identity(&self.home(device));
        let identity = identity.each_ref().map(String::as_str);
        let ssh =
            [&["ssh"], &ANY_HOST[..], &identity, &["-o", "IdentitiesOnly=yes", target, "echo", "hello"]];
        let done = self.person(device, &ssh.concat());
        assert!(done.code == 0 || done.err.contains("Permission denied"), "{}\n{}", done.tell(), self.said());
        done.out == "hello\n"
    }

    /// Whether a person gets in; if not, because of who she is and not because of the host's key.
    pub fn enters(&self, device: &str, target: &str) -> bool {
        let done = self.ssh(device, target);
        assert!(done.code == 0 || done.err.contains("Permission denied"), "{}\n{}", done.tell(), self.said());
        done.out == "hello\n"
    }

    /// Waits until a person gets in.
    ///
    /// # Panics
    /// If she does not.
    pub fn enters_soon(&self, device: &str, target: &str) {
        wait_for(&format!("{device} enters {target}"), SOON, || self.ssh(device, target).out == "hello\n");
    }

    /// Whether the administrator of a machine gets in as ever, by a plain key and another address.
    pub fn administrator_enters(&self, host: &str) -> bool {
        let key = self.etc(host).join("administrator");
        let key = key.to_str().expect("text");
        let at = format!("root@{OTHER_ADDRESS}");
        let ssh = [&["ssh", "-i", key], &ANY_HOST[..], &[&at, "echo", "hello"]].concat();
        self.mesh.beside(&format!("r-{host}")).run(&ssh).out == "hello\n"
    }

    /// What each sshd logged.
    pub fn said(&self) -> String {
        let log = |host: &str| fs::read_to_string(self.etc(host).join("log")).unwrap_or_default();
        self.daemons.iter().map(|(host, _)| format!("{host}:\n{}", log(host))).collect()
    }

    /// A new certificate, and the number of it.
    pub fn renew(&self, device: &str) -> String {
        let held = self.warren(device, &["ssh", "login", "--json"]).ok_json();
        format!("serial:{}", held["serial"].as_str().expect("text"))
    }

    /// Revokes what a person has: `serial:…`, `key:…` and so on.
    pub fn revoke(&self, what: &str) {
        self.mesh.on("server").ok(&["warren", "ca", "revoke", "--type", "user", what, "--yes"]);
    }

    /// A step of an authority's rotation, as it was answered.
    pub fn step(&self, verb: &str, kind: &str) -> Done {
        self.mesh.on("server").run(&["warren", "ca", verb, "--type", kind])
    }

    /// What `warren ca status` says of an authority.
    ///
    /// # Panics
    /// If there is none of that kind.
    pub fn authority(&self, kind: &str) -> Value {
        let status = self.mesh.on("server").json(&["warren", "ca", "status"]);
        let authorities = status["items"].as_array().expect("both").clone();
        authorities.into_iter().find(|authority| authority["kind"] == kind).expect("it is there")
    }

    /// Waits until a rotation waits for nothing, and takes its next step.
    pub fn advance(&self, kind: &str) {
        let nobody = || self.authority(kind)["missing"] == serde_json::json!([]);
        wait_for("nobody is missing", CERTIFIED_WITHIN, nobody);
        self.step("advance", kind).ok();
    }

    /// The server is out of a device's reach; the mesh is not.
    pub fn cut_off(&self, device: &str) {
        let rule = "ip daddr 203.0.113.1 meta l4proto { tcp, udp } th dport 8443 drop";
        let chain = format!("chain cut {{\ntype filter hook forward priority -5\n{rule}\n}}");
        self.mesh.beside(&format!("r-{device}")).ok(&["nft", &format!("table ip cut {{\n{chain}\n}}")]);
    }

    /// Undoes [`Self::cut_off`].
    pub fn mend(&self, device: &str) {
        self.mesh.beside(&format!("r-{device}")).ok(&["nft", "delete table ip cut"]);
    }

    /// The agent of a device starts again: the device is connected, and talks to another.
    pub fn comes_back(&self, device: &str, other: &str) {
        self.mesh.agent_with(device, &["--sshd-log", LOG]);
        self.mesh.ready(device, SOON);
        self.mesh.on(device).reaches(&self.mesh.device_field(other, "address_v4"), SOON);
    }

    /// sshd reads its configuration anew, as after a start of the machine.
    pub fn reload(&self, host: &str) {
        let daemon = self.daemons.iter().find(|(name, _)| name == host).expect("it runs");
        daemon.1.signal("HUP");
        let scan = ["ssh-keyscan", "-T", "1", "127.0.0.1"];
        self.mesh.on(host).wait("sshd is back", SOON, &scan, |done| done.out.contains("ssh-ed25519"));
    }
}

/// How a person's ssh knows hosts: by what it asks the agent, and by lines of a file. Both ways are tried.
#[derive(Debug)]
pub struct KnownBy {
    config: String,
    file: PathBuf,
}

impl KnownBy {
    /// For the person at alpha.
    pub fn new(sshd: &Sshd) -> Self {
        let home = sshd.home("alpha");
        let config = home.join(".ssh/config").display().to_string();
        Self { config, file: home.join("known_hosts_of_the_mesh") }
    }

    /// An administrator writes down whom to trust, as it is now.
    pub fn learn(&self, sshd: &Sshd) {
        let keys = sshd.authority("host")["keys"].as_array().expect("keys").clone();
        let keys = keys.iter().map(|key| key["public_key"].as_str().expect("a line").to_owned());
        let lines = keys.map(|key| format!("@cert-authority *.{TENANT_ZONE} {key}\n"));
        fs::write(&self.file, lines.collect::<String>()).expect("written");
    }

    /// Everybody enters every host, by both.
    pub fn enter_all(&self, sshd: &Sshd, why: &str) {
        let identity = super::identity(&sshd.home("alpha"));
        let file = format!("UserKnownHostsFile={}", self.file.display());
        let by_file =
            [&["ssh"], &NO_CONFIG[..], &["-o", &file], &STRICT, &identity.each_ref().map(String::as_str)]
                .concat();
        let by_agent = [&["ssh", "-F", &self.config], &STRICT[..]].concat();
        for (host, _) in &sshd.daemons {
            let at = format!("root@{host}.{TENANT_ZONE}");
            for ssh in [&by_agent, &by_file] {
                // An sshd that reads its configuration anew listens nowhere for a moment.
                let done = until(SOON, || {
                    let done = sshd.person("alpha", &[&ssh[..], &[&at, "echo", "hello"]].concat());
                    (!done.err.contains("Connection refused")).then_some(done)
                });
                let (done, _) =
                    done.unwrap_or_else(|| panic!("{why}: {host} listens nowhere: {}", sshd.said()));
                assert_eq!(done.out, "hello\n", "{why}: {host}: {}\n{}", done.tell(), sshd.said());
            }
        }
    }
}

/// What runs a program by another clock.
pub fn off(clock: &str) -> [&str; 3] {
    ["faketime", "-f", clock]
}
