//! Stock sshd on devices, told of the mesh by their agents alone: who is let in, and from where.
//!
//! ```text
//!   alpha (ssh)  ── r-alpha ─┐
//!   beta  (sshd) ── r-beta  ─┼─ inet ── server (apid, netd)
//!   gamma (…)    ── r-gamma ─┘
//! ```

use std::fs;
use std::time::Duration;

use lab::sshd::{self, CERTIFIED_WITHIN, NO_CONFIG, STRICT, Sshd, off};
use lab::{Mesh, SOON, TENANT_ZONE, World, wait_for};
use serde_json::Value;

/// What is revoked is refused on connected hosts within this time.
const REVOKED_WITHIN: Duration = Duration::from_secs(5);

#[test]
fn a_person_is_let_in_by_name_and_a_stolen_key_is_not() {
    let sshd = Sshd::start(["beta"]);
    sshd.log_in("alpha");
    let address = sshd.mesh.device_field("beta", "address_v4");
    sshd.mesh.on("server").ok(&["warren", "dns", "add", "files", "CNAME", "beta"]);
    let shown = ["ssh-keygen", "-L", "-f", "/etc/ssh/warren/host_key-cert.pub"];
    let alias = format!("files.{TENANT_ZONE}");
    let beta = sshd.mesh.on("beta");
    beta.wait("its certificate has the alias", CERTIFIED_WITHIN, &shown, |done| done.out.contains(&alias));
    sshd.enters_soon("alpha", &format!("root@{alias}"));
    for target in [format!("root@beta.{TENANT_ZONE}"), "root@beta".into(), format!("root@{address}")] {
        assert!(sshd.enters("alpha", &target), "{target}: {}", sshd.said());
    }
    let said = sshd.said();
    assert!(said.contains("ID u:admin@home (serial "), "the log joins issue and use: {said}");
    assert!(!sshd.enters("alpha", "daemon@beta"), "a login that nobody has");
    let server = sshd.mesh.on("server");
    let noted = ["warren", "audit", "list", "--json"];
    server.wait("the server notes whom the host let in", SOON, &noted, |done| {
        let list: Value = serde_json::from_str(&done.out).unwrap_or_default();
        let items = list["items"].as_array().cloned().unwrap_or_default();
        items.iter().any(|entry| {
            let detail = entry["detail"].as_str().unwrap_or_default();
            entry["action"] == "ssh.login"
                && entry["target"] == "u:admin@home"
                && entry["outcome"] == "done"
                && detail.starts_with("as root from 100.64.")
        })
    });

    // Plain ssh, once one line of its configuration names ours.
    sshd.warren("alpha", &["ssh", "login", "--include"]).ok();
    let config = sshd.home("alpha").join(".ssh/config");
    let plain =
        ["ssh", "-F", config.to_str().expect("text"), "-o", "BatchMode=yes", "root@beta", "echo", "hello"];
    assert_eq!(sshd.person("alpha", &plain).ok(), "hello\n");

    // Key, certificate and login of the person, on another device of the mesh.
    let (from, to) = (sshd.home("alpha"), sshd.home("gamma"));
    sshd.mesh.on("gamma").ok(&["cp", "-a", &from.display().to_string(), &to.display().to_string()]);
    assert!(!sshd.opens("gamma", "root@beta"), "{}", sshd.said());
    wait_for("sshd says why", SOON, || sshd.said().contains("not from a permitted source address"));
    assert!(sshd.enters("alpha", "root@beta"), "the person herself goes on");
}

#[test]
fn what_is_revoked_is_refused_within_seconds_and_others_are_not() {
    let sshd = Sshd::start(["beta"]);
    sshd.log_in("alpha");
    sshd.log_in("gamma");
    assert!(sshd.enters("alpha", "root@beta") && sshd.enters("gamma", "root@beta"), "{}", sshd.said());
    let server = sshd.mesh.on("server");
    sshd.revoke(&sshd.renew("alpha"));
    wait_for("that certificate opens nothing", REVOKED_WITHIN, || !sshd.opens("alpha", "root@beta"));
    assert!(sshd.enters("gamma", "root@beta"), "another of the same person");
    // A new one, unasked, as soon as her own device hears of it.
    sshd.enters_soon("alpha", "root@beta");

    server.ok(&["warren", "device", "revoke", "gamma", "--yes"]);
    let list = || server.ok(&["warren", "ca", "krl", "--type", "user", "--json"]);
    wait_for("those of a device that is gone are revoked", REVOKED_WITHIN, || {
        list().contains("\"entries\": 2")
    });

    server.ok(&["warren", "ca", "revoke", "--type", "user", "id:u:admin@home", "--yes"]);
    wait_for("all of the person", REVOKED_WITHIN, || !sshd.opens("alpha", "root@beta"));
}

#[test]
fn who_is_kept_out_opens_nothing_more_whoever_else_uses_the_home_and_whatever_host_was_away() {
    let sshd = Sshd::start(["beta", "gamma"]);
    let server = sshd.mesh.on("server");
    sshd.create_user("bob", &["--role", "viewer"]);
    server.ok(&["warren", "role", "set", "web", "--who", "u:bob", "--login", "root"]);
    sshd.log_in("alpha");
    assert!(sshd.enters("alpha", "root@beta"), "{}", sshd.said());
    let shown = sshd.home("alpha").join(".config/warren/ssh/id_ed25519-cert.pub");
    let whose = || sshd.mesh.on("alpha").ok(&["ssh-keygen", "-L", "-f", shown.to_str().expect("text")]);
    assert!(whose().contains("u:admin@home"), "{}", whose());

    sshd.log_in_as("alpha", "bob");
    assert!(sshd.enters("alpha", "root@beta"), "{}", sshd.said());
    assert!(whose().contains("u:bob@home") && !whose().contains("u:admin"), "{}", whose());
    assert!(sshd.said().contains("ID u:bob@home (serial "), "{}", sshd.said());
    assert!(sshd.opens("alpha", "root@gamma"), "{}", sshd.said());

    sshd.agents[2].kill();
    server.ok(&["warren", "user", "set", "bob", "--disable", "--yes"]);
    wait_for("his certificate opens nothing", REVOKED_WITHIN, || !sshd.opens("alpha", "root@beta"));
    let again = sshd.warren("alpha", &["ssh", "login"]);
    assert_eq!(again.code, 3, "and he gets no other: {}", again.tell());
    sshd.comes_back("gamma", "alpha");
    wait_for("a host that was away hears of it", REVOKED_WITHIN, || !sshd.opens("alpha", "root@gamma"));

    sshd.log_in("alpha");
    for target in ["root@beta", "root@gamma"] {
        assert!(sshd.enters("alpha", target), "who was not meant: {}", sshd.said());
    }
    assert!(whose().contains("u:admin@home"), "{}", whose());
}

#[test]
fn a_restored_server_knows_its_certificates_and_hosts_what_it_forgot_to_revoke() {
    let mut sshd = Sshd::start(["beta"]);
    sshd.log_in("alpha");
    sshd.log_in("gamma");
    assert!(sshd.enters("alpha", "root@beta") && sshd.enters("gamma", "root@beta"), "{}", sshd.said());
    let file = sshd.mesh.file("gamma", "lib").join("server.backup");
    let file = file.to_str().expect("text");
    let passphrase = "WARREN_BACKUP_PASSPHRASE=seven tins of plums";
    let backup = |sshd: &Sshd, args: &[&str]| {
        sshd.mesh.on("server").ok(&[&["env", passphrase, "warren", "backup"], args].concat())
    };
    backup(&sshd, &["create", "--to", file]);

    let held = sshd.warren("gamma", &["ssh", "login", "--json"]).ok_json();
    let serial = format!("serial:{}", held["serial"].as_str().expect("text"));
    sshd.mesh.on("server").ok(&["warren", "ca", "revoke", "--type", "user", &serial, "--yes"]);
    wait_for("that certificate opens nothing", REVOKED_WITHIN, || !sshd.opens("gamma", "root@beta"));

    for part in ["server", "link"] {
        sshd.mesh.announce("agent", part);
        sshd.mesh.announce("netd", part);
    }
    sshd.mesh.apid.stop();
    backup(&sshd, &["restore", file, "--force", "--yes"]);
    sshd.mesh.apid = sshd.mesh.daemon("server", "apid", &[]);
    sshd.mesh.server_is_ready(SOON);
    let list = || sshd.mesh.on("server").ok(&["warren", "ca", "krl", "--type", "user", "--json"]);
    assert!(list().contains("\"entries\": 0"), "the server has forgotten: {}", list());
    wait_for("beta holds what the restored server says", SOON, || {
        sshd.mesh.status("beta")["holds"].as_str().is_some_and(|version| !version.starts_with("1."))
    });
    sshd::is_certified(&sshd.mesh, "beta");
    assert!(sshd.enters("alpha", "root@beta"), "signed before the backup: {}", sshd.said());
    assert!(!sshd.opens("gamma", "root@beta"), "revoked after it: {}", sshd.said());

    let after = sshd.warren("gamma", &["ssh", "login"]);
    assert!(after.code == 3 && after.err.contains("log"), "sessions of before are void: {}", after.tell());
    sshd.log_in("gamma");
    sshd.warren("gamma", &["ssh", "login"]).ok();
    assert!(sshd.enters("gamma", "root@beta"), "a new one: {}", sshd.said());
}

#[test]
fn whatever_becomes_of_our_files_the_administrator_gets_in_as_ever() {
    let sshd = Sshd::start(["beta"]);
    sshd.log_in("alpha");
    assert!(sshd.administrator_enters("beta") && sshd.enters("alpha", "root@beta"), "{}", sshd.said());
    let ours = sshd.etc("beta").join("warren");
    // Nobody mends anything meanwhile.
    sshd.agents[1].kill();
    let list = fs::read(ours.join("revoked")).expect("it is there");
    for (name, content) in [
        ("revoked", Some(&b"garbage"[..])),
        ("revoked", Some(&list[..list.len() / 2])),
        ("revoked", None),
        ("user_ca", Some(b"ssh-ed25519 AAAA")),
        ("user_ca", None),
        ("principals/root", Some(b"u:adm")),
        ("principals/root", None),
        ("host_key-cert.pub", Some(b"ssh-ed25519-cert-v01@openssh.com AAAA")),
        ("host_key-cert.pub", None),
    ] {
        match content {
            Some(bytes) => fs::write(ours.join(name), bytes).expect("written"),
            None => fs::remove_file(ours.join(name)).expect("removed"),
        }
        assert!(sshd.administrator_enters("beta"), "{name}: {}", sshd.said());
        sshd.reload("beta");
        assert!(sshd.administrator_enters("beta"), "{name}, and a new start: {}", sshd.said());
    }
    fs::remove_dir_all(&ours).expect("removed");
    sshd.reload("beta");
    assert!(sshd.administrator_enters("beta"), "all of it is gone: {}", sshd.said());
    sshd.mesh.agent("beta");
    wait_for("the agent mends it", CERTIFIED_WITHIN, || sshd.ssh("alpha", "root@beta").out == "hello\n");
}

#[test]
fn clocks_that_are_ten_minutes_off_keep_nobody_out() {
    let sshd = Sshd::start_at([("beta", "-10m"), ("gamma", "+10m")]);
    sshd.log_in("alpha");
    for target in ["root@beta", "root@gamma"] {
        assert!(sshd.enters("alpha", target), "{target}: {}", sshd.said());
        for clock in ["-10m", "+10m"] {
            let ssh =
                [&["warren", "ssh", target, "--"], &NO_CONFIG[..], &STRICT, &["echo", "hello"]].concat();
            let done = sshd.person("alpha", &[&off(clock)[..], &ssh].concat());
            assert_eq!(done.out, "hello\n", "{target} from {clock}: {}\n{}", done.tell(), sshd.said());
        }
    }

    // It ends before gamma's clock does, and not by beta's.
    sshd.warren("alpha", &["ssh", "login", "--life", "5m"]).ok();
    assert!(sshd.opens("alpha", "root@beta"), "{}", sshd.said());
    assert!(!sshd.opens("alpha", "root@gamma"), "{}", sshd.said());
    wait_for("sshd says why", SOON, || sshd.said().contains("Certificate invalid: expired"));
    sshd.renew("alpha");
    assert!(sshd.opens("alpha", "root@gamma"), "{}", sshd.said());
}

#[test]
fn another_client_gets_in_by_the_same_certificate_and_authority() {
    let sshd = Sshd::start(["beta"]);
    sshd.log_in("alpha");
    sshd.renew("alpha");
    let ours = sshd.home("alpha").join(".config/warren/ssh");
    let file = |name: &str| ours.join(name).display().to_string();
    let (key, ppk, certificate) = (file("id_ed25519"), file("key.ppk"), file("id_ed25519-cert.pub"));
    sshd.person("alpha", &["puttygen", &key, "-O", "private", "-o", &ppk]).ok();
    let authority = sshd.authority("host")["keys"][0]["public_key"].clone();
    let blob = authority.as_str().and_then(|line| line.split(' ').nth(1)).expect("a key").to_owned();
    let authorities = sshd.home("alpha").join(".putty/sshhostcas");
    fs::create_dir_all(&authorities).expect("a directory");
    let trust = format!("PublicKey={blob}\nValidity=*.{TENANT_ZONE}\nPermitRSASHA1=0\n");
    fs::write(authorities.join("mesh"), trust).expect("written");
    let plink = |host: &str| {
        let at = format!("root@{host}");
        let args = ["plink", "-batch", "-ssh", "-i", &ppk, "-cert", &certificate, &at, "echo", "hello"];
        sshd.person("alpha", &args)
    };
    let done = plink(&format!("beta.{TENANT_ZONE}"));
    assert_eq!(done.out, "hello\n", "{}\n{}", done.tell(), sshd.said());
    assert_ne!(plink("beta").out, "hello\n", "a name that its authority is not trusted for");
}

#[test]
fn who_administers_one_tenant_alone_is_root_there_until_moved() {
    let sshd = Sshd::start(["beta"]);
    let server = sshd.mesh.on("server");
    sshd.create_user("bob", &["--role", "tenant-admin", "--only-tenant", "home"]);
    sshd.log_in_as("alpha", "bob");
    sshd.enters_soon("alpha", "root@beta");
    server.ok(&["warren", "tenant", "create", "other"]);
    server.ok(&["warren", "user", "set", "bob", "--only-tenant", "other"]);
    wait_for("he is of another tenant", REVOKED_WITHIN, || !sshd.opens("alpha", "root@beta"));
}

#[test]
fn a_role_lets_in_where_its_tag_is_and_ends_with_it() {
    let sshd = Sshd::start(["beta", "gamma"]);
    sshd.log_in("alpha");
    let server = sshd.mesh.on("server");
    server.ok(&["warren", "role", "set", "administrators", "--administrators", "--own-login"]);
    wait_for("administrators are root no more", REVOKED_WITHIN, || !sshd.enters("alpha", "root@beta"));
    server.ok(&["warren", "device", "tag", "beta", "web"]);
    server.ok(&["warren", "role", "set", "web", "--who", "u:admin", "--login", "root", "--tag", "web"]);
    sshd.enters_soon("alpha", "root@beta");
    assert!(!sshd.enters("alpha", "root@gamma"), "it has no such tag");
    server.ok(&["warren", "role", "delete", "web", "--yes"]);
    wait_for("the role is gone", REVOKED_WITHIN, || !sshd.enters("alpha", "root@beta"));
}

#[test]
fn what_a_role_permits_holds_on_no_host_of_another() {
    let sshd = Sshd::start(["beta", "gamma"]);
    let server = sshd.mesh.on("server");
    server.ok(&["warren", "device", "tag", "beta", "web"]);
    let web = ["warren", "role", "set", "web", "--who", "u:admin", "--login", "root", "--tag", "web"];
    server.ok(&[&web[..], &["--permit", "permit-port-forwarding"]].concat());
    sshd.log_in("alpha");
    let forwards = |target: &str| {
        let ssh = [&["ssh", target, "--"], &NO_CONFIG[..], &STRICT, &["-W", "127.0.0.1:22"]].concat();
        sshd.warren("alpha", &ssh)
    };
    wait_for("beta forwards", SOON, || forwards("root@beta").out.starts_with("SSH-2.0-"));
    let refused = forwards("root@gamma");
    assert!(refused.code != 0 && refused.err.contains("forwarding failed"), "{}", refused.tell());
    assert!(sshd.enters("alpha", "root@gamma"), "it lets her in all the same: {}", sshd.said());
    let line = fs::read_to_string(sshd.etc("gamma").join("warren/principals/root")).expect("kept");
    assert_eq!(line, "restrict,pty u:admin\n");
}

#[test]
fn a_key_of_ones_own_opens_hosts_and_a_person_who_was_revoked_is_given_back() {
    let sshd = Sshd::start(["beta"]);
    sshd.log_in("alpha");
    let key = sshd.home("alpha").join("own");
    let (own, beside) = (key.display().to_string(), format!("{}-cert.pub", key.display()));
    sshd.person("alpha", &["ssh-keygen", "-q", "-t", "ecdsa", "-N", "", "-f", &own]).ok();
    sshd.warren("alpha", &["ssh", "login", "--key", &own]).ok();
    let first = fs::read_to_string(&beside).expect("beside the key");
    assert!(first.starts_with("ecdsa-sha2-nistp256-cert-v01@openssh.com "), "{first}");
    assert!(sshd.enters("alpha", "root@beta"), "{}", sshd.said());
    assert_eq!(fs::read_to_string(&beside).ok(), Some(first), "it is used again");

    sshd.revoke("id:u:admin@home");
    wait_for("she is refused, and told so", REVOKED_WITHIN, || {
        let refused = sshd.warren("alpha", &["ssh", "login", "--key", &own]);
        refused.code == 3 && refused.err.contains("holder-revoked")
    });
    let server = sshd.mesh.on("server");
    let listed = server.json(&["warren", "ca", "revoked"]);
    assert_eq!(listed["items"][0]["what"], "id:u:admin@home", "{listed}");
    server.ok(&["warren", "ca", "unrevoke", "id:u:admin@home", "--yes"]);
    sshd.enters_soon("alpha", "root@beta");

    sshd.warren("alpha", &["ssh", "login"]).ok();
    assert!(!fs::exists(&beside).expect("looked") && fs::exists(&key).expect("looked"), "Warren's own again");
    assert!(sshd.enters("alpha", "root@beta"), "{}", sshd.said());
}

#[test]
fn a_device_that_leaves_has_its_sshd_as_it_was() {
    let sshd = Sshd::start(["beta"]);
    let etc = sshd.etc("beta");
    let drop_in = etc.join("sshd_config.d/50-warren.conf");
    assert!(drop_in.exists() && etc.join("warren/user_ca").exists());
    sshd.mesh.on("beta").ok(&["warren", "logout", "--yes"]);
    assert!(!drop_in.exists() && !etc.join("warren").exists());
    // It is just reading its configuration.
    wait_for("the administrator gets in", SOON, || sshd.administrator_enters("beta"));
}

#[test]
fn what_an_administrator_has_set_for_the_mesh_is_left_and_said() {
    let world = World::new(&["alpha"]);
    sshd::install(&world, "alpha");
    let etc = world.file("alpha", "ssh");
    let own = "Match LocalAddress 100.64.0.0/10\n    TrustedUserCAKeys /etc/ssh/own_ca\n";
    fs::write(etc.join("sshd_config.d/10-own.conf"), own).expect("written");
    let mesh = Mesh::in_world(world, &[]);
    mesh.announce("agent", "sshd-not-kept");
    mesh.enrol(["alpha"]);
    let doctor = ["warren", "doctor", "ssh"];
    mesh.on("alpha").wait("doctor says it", SOON, &doctor, |done| {
        done.code == 7 && done.out.contains("trustedusercakeys /etc/ssh/own_ca")
    });
    assert!(!etc.join("sshd_config.d/50-warren.conf").exists());
}

#[test]
fn a_host_whose_configuration_breaks_still_hears_whom_to_refuse_and_whom_to_trust() {
    let sshd = Sshd::start(["beta"]);
    sshd.mesh.announce("agent", "sshd-not-kept");
    sshd.log_in("alpha");
    assert!(sshd.enters("alpha", "root@beta"), "{}", sshd.said());
    let config = sshd.etc("beta").join("sshd_config");
    let text = fs::read_to_string(&config).expect("installed");
    fs::write(&config, format!("{text}NoSuchWord yes\n")).expect("written");

    let server = sshd.mesh.on("server");
    let set = ["warren", "role", "set", "administrators", "--administrators", "--own-login"];
    server.ok(&set);
    wait_for("administrators are root no more", REVOKED_WITHIN, || !sshd.enters("alpha", "root@beta"));
    server.ok(&[&set[..], &["--login", "root"]].concat());
    sshd.enters_soon("alpha", "root@beta");

    // The rotation goes no step further than the running sshd does.
    sshd.step("rotate", "user").ok();
    wait_for("beta trusts the next key", SOON, || sshd.step("advance", "user").code == 0);
    sshd.renew("alpha");
    assert!(sshd.enters("alpha", "root@beta"), "by the next key: {}", sshd.said());

    fs::write(&config, text).expect("written");
    // It is tried again within minutes, or at once when the agent starts.
    sshd.agents[1].kill();
    sshd.mesh.agent("beta");
    sshd.mesh
        .on("beta")
        .wait("all is well again", CERTIFIED_WITHIN, &["warren", "doctor", "ssh"], |done| done.code == 0);
}

#[test]
fn a_host_that_shows_no_certificates_lets_people_in_by_its_plain_key() {
    let sshd = Sshd::start(["beta"]);
    sshd.log_in("alpha");
    sshd.agents[1].kill();
    let etc = sshd.etc("beta");
    let (config, drop_in) = (etc.join("sshd_config"), etc.join("sshd_config.d/50-warren.conf"));
    let hardened =
        format!("HostKeyAlgorithms ssh-ed25519\n{}", fs::read_to_string(&config).expect("it is there"));
    fs::write(&config, hardened).expect("written");
    fs::remove_file(&drop_in).expect("removed");
    sshd.reload("beta");
    sshd.mesh.announce("agent", "sshd-not-kept");
    sshd.mesh.agent("beta");
    let doctor = ["warren", "doctor", "ssh"];
    sshd.mesh.on("beta").wait("doctor says it", CERTIFIED_WITHIN, &doctor, |done| {
        done.code == 7 && done.out.contains("sshd does not show the host certificate")
    });
    let text = fs::read_to_string(&drop_in).expect("it is there");
    assert!(text.contains("TrustedUserCAKeys") && !text.contains("HostCertificate"), "{text}");
    assert!(sshd.enters("alpha", "root@beta"), "{}", sshd.said());
}
