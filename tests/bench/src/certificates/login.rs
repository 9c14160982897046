//! A person's way in: `warren ssh login` as a command, and `warren ssh` beside ssh with the same certificate, in turn.

use std::fs;
use std::time::{Duration, Instant};

use lab::sshd::{self, SSHD};
use lab::{Mesh, World};

use crate::series::{Bound, Series, Unit};

const PASSWORD: &str = "violet tram 9 opens";
const LOGIN_MAX: Bound = Bound::P99Below(50.0);
const ADDED_MAX: Bound = Bound::P99Below(150.0);
const CERTIFIED_WITHIN: Duration = Duration::from_secs(30);

/// How much is measured.
#[derive(Debug)]
pub struct Scale {
    people: u32,
    /// Certificates of each: the signer gives thirty at once to one person.
    logins: u32,
    sessions: u32,
}

/// Five hundred certificates.
pub const FULL: Scale = Scale { people: 20, logins: 25, sessions: 40 };
/// To see that it works.
pub const CHECK: Scale = Scale { people: 1, logins: 2, sessions: 2 };

/// Makes a mesh with an sshd and lets people in.
pub fn measure(scale: &Scale) -> Vec<Series> {
    let world = World::new(&["alpha", "beta"]);
    sshd::install(&world, "beta");
    let mesh = Mesh::in_world(world, &["--admin-password", PASSWORD]);
    let _sshd = mesh.plain("sshd", "beta", &[SSHD, "-D", "-e"]);
    mesh.enrol(["alpha", "beta"]);
    let doctor = ["warren", "doctor", "ssh"];
    let certified = |done: &lab::Done| done.out.contains("of this host, until");
    mesh.on("beta").wait("beta shows a certificate", CERTIFIED_WITHIN, &doctor, certified);
    vec![logins(&mesh, scale)].into_iter().chain(sessions(&mesh, scale.sessions)).collect()
}

fn timed(mesh: &Mesh, args: &[&str]) -> f64 {
    let began = Instant::now();
    let done = sshd::person(mesh, "alpha", args);
    let took = began.elapsed().as_secs_f64() * 1_000.0;
    done.ok();
    took
}

fn logins(mesh: &Mesh, scale: &Scale) -> Series {
    let mut series = Series::new("warren ssh login, as a command", Unit::Milliseconds).must(LOGIN_MAX);
    let password = mesh.file("server", "lib").join("password");
    fs::write(&password, PASSWORD).expect("written");
    let password = password.display().to_string();
    for person in 0..scale.people {
        let name = format!("person{person}");
        let create =
            ["warren", "user", "create", &name, "--role", "tenant-admin", "--password-file", &password];
        mesh.on("server").ok(&create);
        sshd::log_in(mesh, "alpha", &name, PASSWORD);
        // The key is made once in a person's life.
        timed(mesh, &["warren", "ssh", "login"]);
        for _ in 0..scale.logins {
            series.push(timed(mesh, &["warren", "ssh", "login"]));
        }
    }
    series
}

fn sessions(mesh: &Mesh, rounds: u32) -> [Series; 3] {
    let series = |what| Series::new(what, Unit::Milliseconds);
    let (mut ours, mut plain) = (series("warren ssh root@beta true"), series("ssh root@beta true"));
    let mut added = series("added by warren ssh").must(ADDED_MAX);
    let home = sshd::home(mesh, "alpha").join(".config/warren/ssh");
    let file = |name: &str| home.join(name).display().to_string();
    let identity = [
        format!("IdentityFile={}", file("id_ed25519")),
        format!("CertificateFile={}", file("id_ed25519-cert.pub")),
    ];
    let options = [
        "-F",
        "none",
        "-o",
        "BatchMode=yes",
        "-o",
        "StrictHostKeyChecking=no",
        "-o",
        "UserKnownHostsFile=/dev/null",
    ];
    let with =
        [&["ssh"], &options[..], &["-o", &identity[0], "-o", &identity[1], "root@beta", "true"]].concat();
    let by_us = [&["warren", "ssh", "root@beta", "--"], &options[..], &["true"]].concat();
    timed(mesh, &by_us);
    for round in 0..rounds {
        // Whoever comes second finds a warm machine: they take turns.
        let (first, second) = if round % 2 == 0 { (&by_us, &with) } else { (&with, &by_us) };
        let (first, second) = (timed(mesh, first), timed(mesh, second));
        let (own, other) = if round % 2 == 0 { (first, second) } else { (second, first) };
        ours.push(own);
        plain.push(other);
        added.push(own - other);
    }
    [ours, plain, added]
}
