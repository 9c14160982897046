//! A person's way in: the request for a certificate, each over a connection and a TLS of its own, `warren ssh login` as a whole
//! command, and `warren ssh` beside ssh with the same certificate, in turn.

use std::fs;
use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::net::UnixStream;
use std::time::Instant;

use lab::sshd::{self, SSHD};
use lab::{Mesh, SERVER_URL, World};
use model::api::local::{Answer, Request};
use model::api::ssh::NewCertificate;

use crate::series::{Bound, Series, Unit};

const PASSWORD: &str = "violet tram 9 opens";
const REQUEST_MAX: Bound = Bound::P99Below(50.0);
const ADDED_MAX: Bound = Bound::P99Below(150.0);

/// How much is measured.
#[derive(Debug)]
pub struct Scale {
    people: u32,
    /// Of each by either way: the signer gives thirty certificates at once to one person.
    logins: u32,
    sessions: u32,
}

/// Five hundred and sixty certificates.
pub const FULL: Scale = Scale { people: 20, logins: 14, sessions: 40 };
/// To see that it works.
pub const CHECK: Scale = Scale { people: 1, logins: 2, sessions: 2 };

/// Makes a mesh with an sshd and lets people in.
pub fn measure(scale: &Scale) -> Vec<Series> {
    let world = World::new(&["alpha", "beta"]);
    sshd::install(&world, "beta");
    let mesh = Mesh::in_world(world, &["--admin-password", PASSWORD]);
    let _sshd = mesh.plain("sshd", "beta", &[SSHD, "-D", "-e"]);
    mesh.enrol(["alpha", "beta"]);
    sshd::is_certified(&mesh, "beta");
    logins(&mesh, scale).into_iter().chain(sessions(&mesh, scale.sessions)).collect()
}

fn timed(mesh: &Mesh, args: &[&str]) -> f64 {
    let began = Instant::now();
    let done = sshd::person(mesh, "alpha", args);
    let took = began.elapsed().as_secs_f64() * 1_000.0;
    done.ok();
    took
}

fn logins(mesh: &Mesh, scale: &Scale) -> [Series; 4] {
    let mut requests =
        Series::new("certificate over HTTPS, connection and TLS new", Unit::Milliseconds).must(REQUEST_MAX);
    let mut commands = Series::new("warren ssh login, as a command", Unit::Milliseconds);
    // Entering the device's namespaces is a part of each command's time, and none of ours.
    let mut nothing = Series::new("true, as a command", Unit::Milliseconds);
    let mut added = Series::new("added by warren ssh login to true", Unit::Milliseconds).must(REQUEST_MAX);
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
        let form = form(mesh);
        for _ in 0..scale.logins {
            requests.push(requested(mesh, &form));
            let (command, floor) = (timed(mesh, &["warren", "ssh", "login"]), timed(mesh, &["true"]));
            commands.push(command);
            nothing.push(floor);
            added.push(command - floor);
        }
    }
    [requests, commands, nothing, added]
}

/// What a login sends, and how curl sends it.
fn form(mesh: &Mesh) -> String {
    let config = sshd::home(mesh, "alpha").join(".config/warren");
    let public_key = fs::read_to_string(config.join("ssh/id_ed25519.pub")).expect("made by the login before");
    let profile = "default".parse().expect("a label");
    let request = Request::SshVouch { profile, public_key: public_key.clone() };
    let socket = UnixStream::connect(mesh.file("alpha", "run").join("warren/agent.sock")).expect("an agent");
    let question = serde_json::to_string(&request).expect("plain data");
    writeln!(&socket, "{question}").expect("written");
    let mut line = String::new();
    BufReader::new(&socket).read_line(&mut line).expect("an answer");
    let Ok(Answer::Vouched { vouch }) = serde_json::from_str(&line) else { panic!("the agent says {line}") };
    let form = NewCertificate { public_key, vouch, life_seconds: None };
    let login = fs::read_to_string(config.join("login.json")).expect("written by the login");
    let login: serde_json::Value = serde_json::from_str(&login).expect("JSON");
    let file = config.join("curl");
    let form = serde_json::to_string(&form).expect("plain data").replace('\\', "\\\\").replace('"', "\\\"");
    // Its certificate is of the server's own making; `warren` knows it by its key.
    let settings = format!(
        "url = \"{SERVER_URL}/api/v1/ssh/certificates\"\nsilent\nshow-error\nfail\ninsecure\ntlsv1.3\n\
         header = \"Authorization: Bearer {}\"\nheader = \"Content-Type: application/json\"\n\
         data = \"{form}\"\noutput = /dev/null\nwrite-out = \"%{{time_total}}\"\n",
        login["token"].as_str().expect("a session"),
    );
    fs::write(&file, settings).expect("written");
    file.display().to_string()
}

/// From the first packet to the last byte of the certificate, as curl times it.
fn requested(mesh: &Mesh, form: &str) -> f64 {
    let seconds = mesh.on("alpha").ok(&["curl", "-K", form]);
    seconds.trim().parse::<f64>().expect("curl gives seconds") * 1_000.0
}

fn sessions(mesh: &Mesh, rounds: u32) -> [Series; 3] {
    let series = |what| Series::new(what, Unit::Milliseconds);
    let (mut ours, mut plain) = (series("warren ssh root@beta true"), series("ssh root@beta true"));
    let mut added = series("added by warren ssh").must(ADDED_MAX);
    let identity = sshd::identity(&sshd::home(mesh, "alpha"));
    let identity = identity.each_ref().map(String::as_str);
    let with = [&["ssh"], &sshd::ANY_HOST[..], &identity, &["root@beta", "true"]].concat();
    let by_us = [&["warren", "ssh", "root@beta", "--"], &sshd::ANY_HOST[..], &["true"]].concat();
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
