//! Names outside the mesh, through the name server of a device's agent.
//!
//! ```text
//!   alpha ── r-alpha ─┐            agent: corp.example ─▶ port 5353, loop.example ─▶ dnsmasq of alpha ─▶ agent …
//!   beta  ── r-beta  ─┴─ inet ── server (apid, netd; dnsmasq on ports 53 and 5353)
//! ```

use std::rc::Rc;
use std::time::{Duration, Instant};

use lab::{Done, HUB, Mesh, Process, SOON, World};

const SERVER: &str = "203.0.113.1";
/// TTL of all that the servers say, in seconds.
const TTL: &str = "2";

/// A server of names on a node, told everything by flags.
fn dnsmasq(world: &World, name: &str, node: &str, flags: &[&str]) -> Rc<Process> {
    let quiet = ["dnsmasq", "--keep-in-foreground", "--conf-file=/dev/null", "--no-hosts", "--no-resolv"];
    let ttl = format!("--local-ttl={TTL}");
    world.plain(
        name,
        node,
        &[&quiet[..], &["--pid-file=", "--user=root", "--bind-interfaces", &ttl], flags].concat(),
    )
}

/// The server that this world's machines have by DHCP, as it were.
fn usual(world: &World) -> Rc<Process> {
    dnsmasq(
        world,
        "dnsmasq-usual",
        "server",
        &[
            "--port=53",
            "--listen-address=203.0.113.1",
            "--address=/www.example.org/198.51.100.7",
            "--address=/mesh.example.org/100.64.0.77",
            "--address=/lan.example.org/192.168.1.1",
            "--address=/intranet.corp.example/198.51.100.8",
        ],
    )
}

/// What `dig` shows of an answer, with its flags and sections.
fn ask(mesh: &Mesh, device: &str, server: Option<&str>, name: &str) -> Done {
    let at = server.map(|server| format!("@{server}"));
    let mut args = vec!["dig", "+noall", "+comments", "+answer", "+ttlid", "+time=5", "+tries=1"];
    args.extend(at.as_deref());
    args.push(name);
    mesh.on(device).run(&args)
}

#[track_caller]
fn says(done: &Done, parts: &[&str]) {
    for part in parts {
        assert!(done.out.contains(part), "no {part:?} in: {}", done.tell());
    }
}

/// A mesh whose alpha looks up names outside of it.
fn mesh() -> (Mesh, Rc<Process>) {
    let world = World::new(&["alpha", "beta"]);
    let usual = usual(&world);
    let corp = ["--port=5353", "--listen-address=203.0.113.1", "--address=/intranet.corp.example/10.9.9.9"];
    dnsmasq(&world, "dnsmasq-corp", "server", &corp);
    for device in ["alpha", "beta"] {
        let text = format!("nameserver {SERVER}\noptions timeout:1 attempts:1\n");
        std::fs::write(world.file(device, "resolv.conf"), text).expect("the topology has made the file");
    }
    let mesh = Mesh::in_world(world, &[]);
    // Where nobody listens but in one story.
    mesh.announce("agent-alpha", "dns-upstream");
    let upstreams = format!("corp.example={SERVER}:5353,loop.example=127.0.0.1:5300");
    mesh.daemon("alpha", "agent", &["--dns-upstream", &upstreams]);
    let live = ["warren", "status", "--check", "live"];
    mesh.on("alpha").wait("the agent answers", SOON, &live, |done| done.code == 0);
    mesh.join("alpha", &mesh.token(&[]));
    mesh.ready("alpha", SOON);
    (mesh, usual)
}

#[test]
fn other_names_are_asked_of_whom_they_concern_and_known_for_a_while_when_nobody_answers() {
    let (mesh, usual) = mesh();
    let short = ["getent", "hosts", "alpha"];
    mesh.on("alpha").wait("the mesh's names", SOON, &short, |done| done.out.contains("alpha.home.internal"));
    assert_eq!(
        mesh.on("alpha").dig(None, "www.example.org", "A"),
        "198.51.100.7",
        "the machine's own resolver"
    );
    assert_eq!(mesh.on("alpha").dig(None, "intranet.corp.example", "A"), "10.9.9.9", "the suffix's");
    for (name, address) in [("mesh", "100.64.0.77"), ("lan", "192.168.1.1")] {
        let lured = ask(&mesh, "alpha", None, &format!("{name}.example.org"));
        says(&lured, &["status: NOERROR", "ANSWER: 0", "EDE: 15"]);
        let told = mesh.on("alpha").dig(Some(SERVER), &format!("{name}.example.org"), "A");
        assert_eq!(told, address, "the server does say it");
    }
    let query = |args: &[&str]| mesh.on("alpha").run(&[&["warren", "dns", "query"], args].concat());
    says(
        &query(&["alpha", "--explain"]),
        &["from the zone home.internal, in ", "is the asker's own", "NOERROR"],
    );
    says(
        &query(&["intranet.corp.example", "--explain"]),
        &["203.0.113.1:5353", "asked about all of corp.example"],
    );
    says(&query(&["nobody", "--type", "aaaa"]), &["nobody.home.internal AAAA: NXDOMAIN"]);
    for (args, code) in
        [(["a b", "--type", "A"], "name-invalid"), (["alpha", "--type", "NOPE"], "type-unknown")]
    {
        let refused = query(&args);
        assert!(refused.code == 3 && refused.err.contains(code), "{}", refused.tell());
    }
    let address = mesh.device_field("alpha", "address_v4");
    let told = mesh.on("alpha").json(&["warren", "dns", "query", &address]);
    assert_eq!((told["source"].as_str(), told["kind"].as_str()), (Some("zone"), Some("PTR")), "{told}");
    assert_eq!(told["records"][0]["value"], "alpha.home.internal.", "{told}");
    // Nobody but alpha's own programs: not the hub, nor another device.
    mesh.enrol(["beta"]);
    mesh.ready("beta", SOON);
    let alpha = mesh.device_field("alpha", "address_v4");
    mesh.on("beta").reaches("alpha", SOON);
    says(&ask(&mesh, "beta", Some(&alpha), "www.example.org"), &["status: REFUSED"]);
    says(&ask(&mesh, "beta", Some(HUB), "www.example.org"), &["status: REFUSED"]);

    usual.kill();
    let stale = ["dig", "+noall", "+comments", "+answer", "+ttlid", "www.example.org"];
    let took = mesh.on("alpha").wait("the old answer, as there is no new one", SOON, &stale, |done| {
        done.out.contains("EDE: 3") && done.out.contains("198.51.100.7")
    });
    assert!(took < Duration::from_secs(10), "{took:?}");
    says(&ask(&mesh, "alpha", None, "www.example.org"), &["status: NOERROR", "\t30\tIN\tA\t198.51.100.7"]);
    says(&query(&["www.example.org"]), &["told by 203.0.113.1 some time ago, and nobody has a newer answer"]);
    for _ in 0..3 {
        let began = Instant::now();
        let unknown = ask(&mesh, "alpha", None, "never.example.org");
        says(&unknown, &["status: SERVFAIL", "EDE: "]);
        assert!(began.elapsed() < Duration::from_secs(1), "{:?}: {}", began.elapsed(), unknown.tell());
    }
    assert_eq!(
        mesh.on("alpha").dig(None, "intranet.corp.example", "A"),
        "10.9.9.9",
        "the other server lives"
    );
}

#[test]
fn a_server_that_asks_us_is_left_out() {
    let (mesh, _usual) = mesh();
    mesh.announce("agent-alpha", "dns-loop");
    let alpha = mesh.device_field("alpha", "address_v4");
    let back = format!("--server={alpha}");
    let flags = [
        "--port=5300",
        "--listen-address=127.0.0.1",
        "--cache-size=0",
        "--log-queries",
        "--log-facility=-",
        &back,
    ];
    let circle = dnsmasq(&mesh, "dnsmasq-circle", "alpha", &flags);
    let began = Instant::now();
    let looped = ["warren", "dns", "query", "www.loop.example", "--explain"];
    mesh.on("alpha").wait("the loop is known", SOON, &looped, |done| {
        done.code == 4 && done.out.contains("127.0.0.1:5300, which asks us, and is left out")
    });
    says(&ask(&mesh, "alpha", None, "www.loop.example"), &["status: SERVFAIL"]);
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert_eq!(mesh.on("alpha").dig(None, "www.example.org", "A"), "198.51.100.7", "all else goes on");

    let asked = circle.output().lines().filter(|line| line.contains(" query[")).count();
    assert!(asked < 100, "{asked} questions went round");
}

/// An administrator's device of one tenant, whose hub shows it the names of another.
#[test]
fn names_of_another_tenant_are_found_by_name_dot_tenant() {
    let mesh = Mesh::new(&["alpha", "beta", "gamma"]);
    mesh.netd.kill();
    mesh.daemon("server", "netd", &["--dns-sees", "home=office"]);
    mesh.server_is_ready(SOON);
    mesh.on("server").ok(&["warren", "tenant", "create", "office"]);
    let flags = ["--dns-search", "internal", "--dns-upstream", "office.internal=100.64.0.1"];
    mesh.daemon("alpha", "agent", &flags);
    let live = ["warren", "status", "--check", "live"];
    mesh.on("alpha").wait("the agent answers", SOON, &live, |done| done.code == 0);
    mesh.join("alpha", &mesh.token(&["--tenant", "home"]));
    for (device, tenant) in [("beta", "home"), ("gamma", "office")] {
        mesh.agent(device);
        mesh.join(device, &mesh.token(&["--tenant", tenant]));
    }
    for device in ["alpha", "beta", "gamma"] {
        mesh.ready(device, SOON);
    }
    let found = |name: &'static str, whole: &'static str| {
        let lookup = ["getent", "ahostsv4", name];
        mesh.on("alpha").wait(whole, SOON, &lookup, |done| done.out.contains(whole));
    };
    found("beta", "beta.home.internal");
    found("beta.home", "beta.home.internal");
    found("gamma.office", "gamma.office.internal");
    says(&ask(&mesh, "gamma", Some("100.65.0.1"), "alpha.home.internal"), &["status: REFUSED"]);
    let through = mesh.on("alpha").run(&["ping", "-c1", "-W1", "gamma.office.internal"]);
    assert_ne!(through.code, 0, "names are shown, and nothing else: {}", through.tell());
}
