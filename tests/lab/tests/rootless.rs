//! A device without any privilege: an unprivileged user, no capability, no TUN device, no interface. It reaches others
//! by name through its proxies and `warren nc`, and others reach what listens on its loopback.
//!
//! ```text
//!   alpha (rootless) ── r-alpha ─┐
//!   beta             ── r-beta  ─┼─ inet ── server (apid, netd)
//! ```

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::rc::Rc;

use lab::{Mesh, Process, SOON, TENANT_ZONE, wait_for};

/// Where alpha's proxies are.
const PROXY: &str = "127.0.0.1:1055";
/// What the web server of a device says.
const GREETING: &str = "hello from";

struct Story {
    mesh: Mesh,
    agent: Rc<Process>,
}

impl Story {
    /// Alpha is rootless, beta is not, and both have a web server: alpha's on its loopback, beta's on all addresses.
    fn begin(flags: &[&str]) -> Self {
        let mesh = Mesh::new(&["alpha", "beta"]);
        mesh.enrol(["beta"]);
        let agent = mesh.daemon("alpha", "agent-rootless", flags);
        let live = ["warren", "status", "--check", "live"];
        mesh.on("alpha").wait("the agent answers", SOON, &live, |done| done.code == 0);
        mesh.join("alpha", &mesh.token(&[]));
        serve(&mesh, "alpha", "8000,bind=127.0.0.1");
        serve(&mesh, "beta", "8000");
        Self { mesh, agent }
    }

    /// A command on alpha as the user that its agent runs as, such as curl.
    fn alpha(&self, args: &[&str]) -> lab::Done {
        let user = ["setpriv", "--reuid=64103", "--regid=64103", "--clear-groups", "--bounding-set=-all"];
        self.mesh.on("alpha").run(&[&user, args].concat())
    }

    fn curl(&self, proxy: &[&str], url: &str) -> lab::Done {
        self.alpha(&[&["curl", "-sS", "--max-time", "10"], proxy, &[url]].concat())
    }
}

fn serve(mesh: &Mesh, device: &str, listen: &str) {
    let program = mesh.file(device, "run/web");
    let text = format!(
        "#!/bin/sh\nwhile read -r line && [ ${{#line}} -gt 1 ]; do :; done\n\
         printf 'HTTP/1.0 200 OK\\r\\n\\r\\n{GREETING} {device}'\n"
    );
    fs::write(&program, text).expect("the world's folder can be written");
    fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).expect("it is ours");
    let address = format!("TCP-LISTEN:{listen},reuseaddr,fork");
    mesh.plain(&format!("web-{device}"), device, &["socat", &address, "EXEC:/run/web"]);
    let local = ["curl", "-s", "http://127.0.0.1:8000/"];
    mesh.on(device).wait("the web server answers", SOON, &local, |done| done.out.contains(device));
}

#[test]
fn a_device_without_privilege_reaches_others_by_name_and_is_reached() {
    let story = Story::begin(&[]);
    let mesh = &story.mesh;

    let facts = mesh.on("alpha").ok(&[
        "grep",
        "-E",
        "^(Uid|CapEff|CapBnd)",
        &format!("/proc/{}/status", story.agent.id()),
    ]);
    let facts: Vec<&str> = facts.split_whitespace().collect();
    let none = "0000000000000000";
    assert_eq!(facts, ["Uid:", "64103", "64103", "64103", "64103", "CapEff:", none, "CapBnd:", none]);
    let links = mesh.on("alpha").ok(&["ip", "-brief", "link"]);
    assert!(!links.contains("wg"), "there is no interface: {links}");
    assert_eq!(mesh.status("alpha")["interface"], "none (netstack)");

    for proxy in [["--socks5-hostname", PROXY].as_slice(), &["-p", "-x", &format!("http://{PROXY}")]] {
        for name in
            ["beta".to_owned(), format!("beta.{TENANT_ZONE}"), mesh.device_field("beta", "address_v4")]
        {
            let got = story.curl(proxy, &format!("http://{name}:8000/"));
            assert_eq!(got.clone().ok(), format!("{GREETING} beta"), "{proxy:?}: {}", got.tell());
        }
        let own = story.curl(proxy, "http://alpha:8000/");
        assert_eq!(own.ok(), format!("{GREETING} alpha"), "it reaches itself as others do");
        // Refused there, unknown here, and no business of the mesh.
        for gone in ["http://beta:1/", "http://nobody:8000/", "http://203.0.113.1:8080/"] {
            let got = story.curl(proxy, gone);
            assert_ne!(got.code, 0, "{}", got.tell());
            assert_ne!(got.code, 28, "it is said at once: {}", got.tell());
        }
    }

    mesh.on("beta").reaches("alpha", SOON);
    let from_beta = ["curl", "-sS", "--max-time", "10", "http://alpha:8000/"];
    assert_eq!(mesh.on("beta").ok(&from_beta), format!("{GREETING} alpha"), "beta reaches alpha's loopback");
    assert_eq!(
        mesh.on("beta").run(&["curl", "-s", "http://alpha:1055/"]).code,
        7,
        "the proxy is no way back"
    );
    assert_eq!(story.alpha(&["warren", "ping", "-c1", "beta"]).code, 0);
    let doctor = story.alpha(&["warren", "doctor", "dns"]);
    assert!(doctor.clone().ok().contains(PROXY), "{}", doctor.tell());
}

#[test]
fn nc_carries_bytes_both_ways_in_every_mode_and_says_why_not() {
    let story = Story::begin(&["--inbound", "7"]);
    let mesh = &story.mesh;
    for (device, bind) in [("alpha", ",bind=127.0.0.1"), ("beta", "")] {
        let address = format!("TCP-LISTEN:7{bind},reuseaddr,fork");
        mesh.plain(&format!("echo-{device}"), device, &["socat", &address, "EXEC:cat"]);
        let listens = ["sh", "-c", "ss -Hltn sport = :7 | grep -q ."];
        mesh.on(device).wait("the echo listens", SOON, &listens, |done| done.code == 0);
    }
    let echo = |target: &str| {
        format!(
            "set -o pipefail; head -c 5000000 /dev/urandom >/run/warren/bytes; \
                 warren nc {target} 7 </run/warren/bytes | cmp - /run/warren/bytes"
        )
    };
    let there = story.alpha(&["bash", "-c", &echo("beta")]);
    assert_eq!(there.code, 0, "{}", there.tell());
    let back = mesh.on("beta").run(&["bash", "-c", &echo("alpha")]);
    assert_eq!(back.code, 0, "{}", back.tell());

    let nc = |device: &str, args: &[&str]| {
        let done =
            mesh.on(device).run(&[&["sh", "-c", "exec warren nc \"$@\" </dev/null", "nc"], args].concat());
        (done.code, done.err)
    };
    for (device, other) in [("alpha", "beta"), ("beta", "alpha")] {
        let (code, err) = nc(device, &[other, "1"]);
        assert!(code == 4 && err.contains("connection-refused"), "{device}: {code} {err}");
        let (code, err) = nc(device, &["nobody", "7"]);
        assert!(code == 5 && err.contains("name-unknown"), "{device}: {code} {err}");
    }
    let (code, _) = nc("beta", &["alpha", "8000"]);
    assert_eq!(code, 4, "only port 7 is let in");
}

#[test]
fn a_device_without_privilege_comes_back_from_its_own_disk() {
    let story = Story::begin(&[]);
    let mesh = &story.mesh;
    let greeting = format!("{GREETING} beta");
    let answers = || story.curl(&["--socks5-hostname", PROXY], "http://beta:8000/").out == greeting;
    wait_for("alpha reaches beta", SOON, answers);
    story.agent.stop();
    mesh.daemon("alpha", "agent-rootless", &[]);
    wait_for("alpha reaches beta again", SOON, answers);

    mesh.on("alpha").ok(&["warren", "down"]);
    let down = story.curl(&["--socks5-hostname", PROXY], "http://beta:8000/");
    assert_eq!(down.code, 97, "the proxy says that there is no network: {}", down.tell());
    mesh.on("alpha").ok(&["warren", "up"]);
    wait_for("alpha is up again", SOON, answers);
}
