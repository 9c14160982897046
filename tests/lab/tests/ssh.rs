//! Certificates in front of a stock sshd: who is let in, from where, and through a rotation.
//!
//! ```text
//!   alpha (ssh)  ── r-alpha ─┐
//!   beta  (sshd) ── r-beta  ─┼─ inet ── server (apid, netd)
//!   gamma (thief)── r-gamma ─┘
//! ```

use std::fs;
use std::path::PathBuf;
use std::rc::Rc;

use lab::{Mesh, Process, SERVER_URL, SOON, TENANT_ZONE, World, wait_for};
use serde_json::Value;

const SSHD: &str = "/usr/sbin/sshd";
const PASSWORD: &str = "violet tram 9 opens";

/// A mesh whose device beta runs sshd, told by hand what to trust.
struct Sshd {
    mesh: Mesh,
    daemon: Option<Rc<Process>>,
}

impl Sshd {
    fn start() -> Self {
        assert!(fs::exists(SSHD).is_ok_and(|there| there), "apt-get install openssh-server");
        let world = World::new(&["alpha", "beta", "gamma"]);
        let mesh = Mesh::in_world(world, &["--admin-password", PASSWORD]);
        mesh.enrol(["alpha", "beta", "gamma"]);
        let mut sshd = Self { mesh, daemon: None };
        let place = sshd.place();
        fs::create_dir_all(place.join("principals")).expect("a directory");
        // The identity that may be root here, and nobody else.
        fs::write(place.join("principals/root"), "u:admin\n").expect("written");
        fs::write(place.join("revoked"), "").expect("written");
        sshd.trust();
        let key = place.join("host_key");
        let key = key.to_str().expect("text");
        sshd.mesh.on("beta").ok(&["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key]);
        sshd.mesh.on("beta").ok(&["mkdir", "-p", "/run/sshd"]);
        fs::write(place.join("sshd_config"), sshd.config()).expect("written");
        let config = place.join("sshd_config");
        let run = [SSHD, "-D", "-e", "-f", config.to_str().expect("text")];
        sshd.daemon = Some(sshd.mesh.plain("sshd-beta", "beta", &run));
        let open = ["ssh-keyscan", "-T", "1", &sshd.mesh.device_field("beta", "address_v4")];
        sshd.mesh.on("beta").wait("sshd listens", SOON, &open, |done| done.out.contains("ssh-ed25519"));
        sshd
    }

    fn place(&self) -> PathBuf {
        self.mesh.file("beta", "lib").join("sshd")
    }

    fn config(&self) -> String {
        let (place, address) = (self.place(), self.mesh.device_field("beta", "address_v4"));
        let place = place.display();
        format!(
            "ListenAddress {address}\nHostKey {place}/host_key\nPidFile none\nUsePAM no\nLogLevel VERBOSE\n\
             PermitRootLogin yes\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n\
             AuthorizedKeysFile none\nStrictModes no\nTrustedUserCAKeys {place}/trusted\n\
             AuthorizedPrincipalsFile {place}/principals/%u\nRevokedKeys {place}/revoked\n"
        )
    }

    /// Tells sshd which keys are trusted now, as an administrator would.
    fn trust(&self) {
        let lines: Vec<String> = self.keys().into_iter().map(|(_, key)| key + "\n").collect();
        fs::write(self.place().join("trusted"), lines.concat()).expect("written");
    }

    /// The trusted keys of the authority for people, and whether each signs.
    fn keys(&self) -> Vec<(bool, String)> {
        let status = self.mesh.on("server").json(&["warren", "ca", "status"]);
        let user = status["items"].as_array().expect("both").iter().find(|a| a["kind"] == "user");
        let keys = user.expect("the authority for people")["keys"].as_array().expect("its keys");
        let key = |key: &Value| (key["signs"] == true, key["public_key"].as_str().expect("text").to_owned());
        keys.iter().map(key).collect()
    }

    fn home(&self, device: &str) -> PathBuf {
        self.mesh.file(device, "lib").join("home")
    }

    /// Runs `warren` on a device as a person with a home of her own.
    fn warren(&self, device: &str, args: &[&str]) -> lab::Done {
        let home = format!("HOME={}", self.home(device).display());
        self.mesh.on(device).run(&[&["env", &home, "warren"], args].concat())
    }

    fn log_in(&self, device: &str) {
        let home = self.home(device);
        fs::create_dir_all(&home).expect("a home");
        let password = home.join("password");
        fs::write(&password, PASSWORD).expect("written");
        let printed = self.mesh.apid.output();
        let print = printed.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let print = print.filter_map(|line| line["fingerprint"].as_str().map(str::to_owned)).next_back();
        let (print, password) = (print.expect("said at the start"), password.display().to_string());
        let login = ["login", SERVER_URL, "--user", "admin", "--password-file", &password];
        self.warren(device, &[&login[..], &["--fingerprint", &print]].concat()).ok();
    }

    /// `warren ssh TARGET -- … echo hello`: whether the greeting comes back.
    fn enters(&self, device: &str, target: &str) -> bool {
        let known = format!("UserKnownHostsFile={}", self.home(device).join("known").display());
        let options = ["-F", "none", "-o", "BatchMode=yes", "-o", "StrictHostKeyChecking=accept-new", "-o"];
        let ssh = [&["ssh", target, "--"], &options[..], &[&known, "echo", "hello"]].concat();
        let done = self.warren(device, &ssh);
        assert!(done.code == 0 || done.err.contains("Permission denied"), "{done:?}");
        done.out == "hello\n"
    }

    fn said(&self) -> String {
        self.daemon.as_ref().map(|daemon| daemon.output()).unwrap_or_default()
    }
}

#[test]
fn a_person_is_let_in_by_name_and_a_stolen_key_is_not() {
    let sshd = Sshd::start();
    sshd.log_in("alpha");
    assert!(sshd.enters("alpha", &format!("root@beta.{TENANT_ZONE}")), "{}", sshd.said());
    assert!(sshd.enters("alpha", "root@beta"));
    let address = sshd.mesh.device_field("beta", "address_v4");
    assert!(sshd.enters("alpha", &format!("root@{address}")));
    let said = sshd.said();
    assert!(said.contains("ID u:admin@home (serial "), "the log joins issue and use: {said}");
    assert!(!sshd.enters("alpha", "daemon@beta"), "a login that nobody has");

    // Key, certificate and login of the person, on another device of the mesh.
    let (from, to) = (sshd.home("alpha"), sshd.home("gamma"));
    sshd.mesh.on("gamma").ok(&["cp", "-a", &from.display().to_string(), &to.display().to_string()]);
    assert!(!sshd.enters("gamma", "root@beta"), "{}", sshd.said());
    wait_for("sshd says why", SOON, || sshd.said().contains("not from a permitted source address"));
    assert!(sshd.enters("alpha", "root@beta"), "the person herself goes on");
}

#[test]
fn what_is_revoked_is_refused_at_once_and_others_are_not() {
    let sshd = Sshd::start();
    sshd.log_in("alpha");
    sshd.log_in("gamma");
    assert!(sshd.enters("alpha", "root@beta") && sshd.enters("gamma", "root@beta"), "{}", sshd.said());
    let server = sshd.mesh.on("server");
    let list = || {
        let to = sshd.place().join("revoked");
        let command = format!("warren ca krl --type user > {0}.half && mv {0}.half {0}", to.display());
        server.ok(&["sh", "-c", &command]);
    };
    list();
    assert!(sshd.enters("alpha", "root@beta"), "a list of nothing: {}", sshd.said());

    let held = sshd.warren("alpha", &["ssh", "login", "--json"]).ok_json();
    let serial = format!("serial:{}", held["serial"].as_str().expect("text"));
    server.ok(&["warren", "ca", "revoke", "--type", "user", &serial, "--yes"]);
    list();
    assert!(!sshd.enters("alpha", "root@beta"), "that certificate");
    assert!(sshd.enters("gamma", "root@beta"), "another of the same person");
    sshd.warren("alpha", &["ssh", "login"]).ok();
    assert!(sshd.enters("alpha", "root@beta"), "a new one: {}", sshd.said());

    server.ok(&["warren", "ca", "revoke", "--type", "user", "id:u:admin@home", "--yes"]);
    list();
    assert!(!sshd.enters("alpha", "root@beta") && !sshd.enters("gamma", "root@beta"), "all of the person");
}

#[test]
fn a_rotation_of_the_authority_for_people_never_shuts_anybody_out() {
    let sshd = Sshd::start();
    sshd.log_in("alpha");
    assert!(sshd.enters("alpha", "root@beta"), "{}", sshd.said());
    let step = |verb: &str| sshd.mesh.on("server").run(&["warren", "ca", verb, "--type", "user"]);
    let first = sshd.keys();
    step("rotate").ok();
    assert_eq!(sshd.keys().len(), 2);
    assert!(sshd.enters("alpha", "root@beta"), "the host has not heard of the next key");
    sshd.trust();
    step("advance").ok();
    let signs = sshd.keys().into_iter().find(|(signs, _)| *signs).expect("one signs");
    assert_ne!(signs.1, first[0].1);
    assert!(sshd.enters("alpha", "root@beta"), "by the certificate of the former key");
    sshd.warren("alpha", &["ssh", "login"]).ok();
    assert!(sshd.enters("alpha", "root@beta"), "by one of the next key: {}", sshd.said());
    let blocked = step("advance");
    assert!(blocked.code == 3 && blocked.err.contains("live until"), "{blocked:?}");
    step("rollback").ok();
    sshd.warren("alpha", &["ssh", "login"]).ok();
    assert!(sshd.enters("alpha", "root@beta"), "by the former key again");
}
