//! A tenant with an interface of its own on the hub, beside the one that tenants share.
//!
//! ```text
//!   alpha (home)          ── r-alpha ─┐
//!                                     │        server (apid, netd: the hub)
//!   gamma, delta (work)   ── r-gamma ─┼─ inet ── wg0           51820   home
//!                            r-delta ─┤          wg0-51821     51821   work
//!   phone (work, wg-quick)── r-phone ─┘
//! ```

use std::time::{Duration, Instant};

use lab::{Mesh, SOON, until, wait_for};

const OWN: &str = "wg0-51821";
const WORK_HUB: &str = "100.65.0.1";

fn mesh() -> Mesh {
    Mesh::new(&["alpha", "gamma", "delta", "phone"])
}

/// Lets a device into the tenant `work`.
fn join_work(mesh: &Mesh, device: &str) {
    mesh.agent(device);
    mesh.join(device, &mesh.token(&["--tenant", "work"]));
}

fn of_work(mesh: &Mesh, device: &str, field: &str) -> String {
    let list = mesh.on("server").json(&["warren", "device", "show", device, "--tenant", "work"]);
    list[field].as_str().unwrap_or_else(|| panic!("{field} in {list}")).to_owned()
}

fn interfaces(mesh: &Mesh) -> Vec<String> {
    let shown = mesh.on("server").ok(&["wg", "show", "interfaces"]);
    let mut names: Vec<String> = shown.split_whitespace().map(str::to_owned).collect();
    names.sort();
    names
}

/// Each interface of the hub has the peers of its own tenant and nobody else.
fn is_apart(mesh: &Mesh, home: &[&str], work: &[&str]) -> bool {
    let mut home: Vec<String> = home
        .iter()
        .map(|device| {
            mesh.on("server").json(&["warren", "device", "show", device, "--tenant", "home"])["wireguard_key"]
                .as_str()
                .expect("a key")
                .to_owned()
        })
        .collect();
    let mut work: Vec<String> = work.iter().map(|device| of_work(mesh, device, "wireguard_key")).collect();
    home.sort();
    work.sort();
    mesh.wg_peers("server", "wg0") == home && mesh.wg_peers("server", OWN) == work
}

fn hub_port(mesh: &Mesh, device: &str) -> String {
    let interface = mesh.interface(device);
    let shown = mesh.on(device).ok(&["wg", "show", &interface, "endpoints"]);
    let hub = shown.lines().find_map(|line| line.split_once("203.0.113.1:")).map(|(_, port)| port.trim());
    hub.unwrap_or_default().to_owned()
}

#[test]
fn two_tenants_on_two_interfaces_reach_their_own_and_nobody_else() {
    let mesh = mesh();
    mesh.on("server").ok(&["warren", "tenant", "create", "work", "--own-interface"]);
    let shown = mesh.on("server").json(&["warren", "tenant", "show", "work"]);
    assert_eq!(shown["hub_port"], 51_821);
    mesh.agent("alpha");
    mesh.join("alpha", &mesh.token(&["--tenant", "home"]));
    join_work(&mesh, "gamma");
    join_work(&mesh, "delta");
    wait_for("both interfaces", SOON, || interfaces(&mesh) == ["wg0", OWN]);
    wait_for("each interface has its own peers", SOON, || is_apart(&mesh, &["alpha"], &["gamma", "delta"]));
    let listens = mesh.on("server").ok(&["wg", "show", OWN, "listen-port"]);
    assert_eq!(listens.trim(), "51821");
    assert_eq!(hub_port(&mesh, "gamma"), "51821");
    assert_eq!(hub_port(&mesh, "alpha"), "51820");

    // Names and packets, through the hub and at it.
    let gamma = mesh.on("gamma");
    gamma.reaches(WORK_HUB, SOON);
    gamma.reaches("delta", SOON);
    mesh.on("alpha").reaches("100.64.0.1", SOON);
    let delta = of_work(&mesh, "delta", "address_v4");
    assert_eq!(gamma.dig(Some(WORK_HUB), "delta.work.internal", "A"), delta);
    let alpha = mesh.on("alpha");
    assert!(alpha.dig(Some("100.64.0.1"), "delta.work.internal", "A").is_empty(), "another tenant's names");

    // A client without an agent comes by the same port.
    let file = mesh.file("phone", "plain.conf");
    let path = file.to_str().expect("a path of the lab is text");
    mesh.on("server").ok(&["warren", "--tenant", "work", "device", "add-plain", "phone", "--out", path]);
    let config = std::fs::read_to_string(&file).expect("text");
    assert!(config.contains("Endpoint = 203.0.113.1:51821"), "{config}");
    let lines: Vec<&str> = config.lines().filter(|line| !line.starts_with("DNS")).collect();
    std::fs::write(&file, lines.join("\n") + "\n").expect("written");
    mesh.on("phone").ok(&["wg-quick", "up", path]);
    mesh.on("phone").reaches(&delta, SOON);
    wait_for("the phone is a peer there", SOON, || is_apart(&mesh, &["alpha"], &["gamma", "delta", "phone"]));

    // Nothing passes from one interface to the other, whatever a client routes to it. The phone has no agent that would undo it.
    let home = mesh.on("server").json(&["warren", "device", "show", "alpha", "--tenant", "home"]);
    let phone = mesh.on("phone");
    phone.ok(&["wg", "set", "plain", "peer", &hub_key(&mesh), "allowed-ips", "100.64.0.0/15"]);
    phone.ok(&["ip", "route", "add", "100.64.0.0/16", "dev", "plain"]);
    phone.reaches(&delta, SOON);
    let (its_key, alphas_key) = (of_work(&mesh, "phone", "wireguard_key"), field(&home, "wireguard_key"));
    for other in [field(&home, "address_v4"), "100.64.0.1"] {
        let from_phone = || transfer(&mesh, OWN, &its_key)[0];
        let to_alpha = || transfer(&mesh, "wg0", alphas_key)[1];
        let before = (from_phone(), to_alpha());
        let ping = ["ping", "-q", "-c20", "-i0.05", "-W1", "-s1000", other];
        assert!(!phone.succeeds(&ping), "{other} answers another tenant");
        assert!(from_phone() - before.0 > 20_000, "the hub has got them, and it is the hub that refuses");
        assert!(to_alpha() - before.1 < 10_000, "they reach another tenant");
    }
}

fn field<'v>(value: &'v serde_json::Value, name: &str) -> &'v str {
    value[name].as_str().unwrap_or_else(|| panic!("{name} in {value}"))
}

/// Bytes that the hub has got from a peer, and sent to it.
fn transfer(mesh: &Mesh, interface: &str, key: &str) -> [u64; 2] {
    let shown = mesh.on("server").ok(&["wg", "show", interface, "transfer"]);
    let line = shown.lines().find(|line| line.starts_with(key)).unwrap_or_else(|| panic!("{key}: {shown}"));
    let numbers: Vec<u64> = line.split_whitespace().skip(1).map(|n| n.parse().expect("bytes")).collect();
    [numbers[0], numbers[1]]
}

fn hub_key(mesh: &Mesh) -> String {
    let status = mesh.on("server").json(&["warren", "server", "status"]);
    status["hub"]["wireguard_key"].as_str().expect("a key").to_owned()
}

#[test]
fn a_living_tenant_changes_over_and_back_and_its_interface_goes() {
    let mesh = mesh();
    mesh.on("server").ok(&["warren", "tenant", "create", "work"]);
    mesh.agent("alpha");
    mesh.join("alpha", &mesh.token(&["--tenant", "home"]));
    join_work(&mesh, "gamma");
    let gamma = mesh.on("gamma");
    gamma.reaches(WORK_HUB, SOON);
    assert_eq!(interfaces(&mesh), ["wg0"]);

    let changed = Instant::now();
    mesh.on("server").ok(&["warren", "tenant", "set", "work", "--own-interface"]);
    wait_for("the device is on the other port", SOON, || hub_port(&mesh, "gamma") == "51821");
    // At once, or with the handshake that is repeated after five seconds.
    gamma.reaches(WORK_HUB, SOON);
    let paused = changed.elapsed();
    assert!(paused < Duration::from_secs(8), "the tunnel was away for {paused:?}");
    assert!(is_apart(&mesh, &["alpha"], &["gamma"]));
    mesh.on("alpha").reaches("100.64.0.1", SOON);

    // Somebody deletes it, and takes a peer away: both come back.
    mesh.on("server").ok(&["ip", "link", "del", OWN]);
    wait_for("it is there again", SOON, || interfaces(&mesh) == ["wg0", OWN]);
    wait_for("with its peer", SOON, || is_apart(&mesh, &["alpha"], &["gamma"]));
    gamma.reaches(WORK_HUB, Duration::from_secs(30));
    let key = of_work(&mesh, "gamma", "wireguard_key");
    mesh.on("server").ok(&["wg", "set", OWN, "peer", &key, "remove"]);
    wait_for("the peer is back", SOON, || is_apart(&mesh, &["alpha"], &["gamma"]));

    // A port that is another's, or none, is refused by name.
    for (port, code) in [("51820", "hub-port-taken"), ("1023", "hub-port-invalid")] {
        let set = ["warren", "tenant", "set", "work", "--own-interface", "--hub-port", port, "--json"];
        let refused = mesh.on("server").run(&set);
        assert!(refused.code == 3 && refused.err.contains(code), "{}", refused.tell());
    }

    mesh.on("server").ok(&["warren", "tenant", "set", "work", "--no-own-interface"]);
    wait_for("its interface is gone", SOON, || interfaces(&mesh) == ["wg0"]);
    gamma.reaches(WORK_HUB, SOON);
    let tables = mesh.on("server").ok(&["nft", "list", "tables"]);
    assert!(!tables.contains(OWN), "{tables}");
}

/// Gamma talks to the hub in time; if it does not, what both ends say of it is told.
fn gamma_comes_through(mesh: &Mesh, deadline: Duration) {
    let ping = ["ping", "-q", "-c1", "-W1", WORK_HUB];
    if until(deadline, || (mesh.on("gamma").run(&ping).code == 0).then_some(())).is_some() {
        return;
    }
    let tell = |node: &str, command: &str| {
        let args: Vec<&str> = command.split(' ').collect();
        format!("{node}: {command}\n{}\n", mesh.on(node).run(&args).tell())
    };
    let both = |command: &str| tell("gamma", command) + &tell("server", command);
    let all = [
        both("wg show all dump"),
        both("ss -uanp"),
        both("ip route get 100.65.0.2"),
        tell("server", "nft list ruleset"),
    ];
    panic!("gamma does not reach the hub\n{}", all.concat());
}

#[test]
fn a_tenant_that_is_deleted_takes_its_interface_with_it_and_a_restart_keeps_it() {
    let mut mesh = mesh();
    mesh.on("server").ok(&["warren", "tenant", "create", "work", "--own-interface", "--hub-port", "40001"]);
    join_work(&mesh, "gamma");
    let own = "wg0-40001";
    gamma_comes_through(&mesh, SOON);
    assert_eq!(interfaces(&mesh), ["wg0", own]);

    mesh.netd.stop();
    mesh.netd = mesh.daemon("server", "netd", &[]);
    mesh.server_is_ready(SOON);
    wait_for("it is there after a restart", SOON, || interfaces(&mesh) == ["wg0", own]);
    gamma_comes_through(&mesh, Duration::from_secs(30));

    mesh.on("server").ok(&["warren", "tenant", "delete", "work", "--yes"]);
    wait_for("its interface is gone", SOON, || interfaces(&mesh) == ["wg0"]);
    mesh.on("server").ok(&["warren", "tenant", "restore", "work"]);
    wait_for("it is there again", SOON, || interfaces(&mesh) == ["wg0", own]);
    gamma_comes_through(&mesh, Duration::from_secs(30));

    // Killed, and the tenant leaves meanwhile: what it left is found and goes.
    mesh.netd.kill();
    mesh.on("server").ok(&["warren", "tenant", "set", "work", "--no-own-interface"]);
    mesh.netd = mesh.daemon("server", "netd", &[]);
    mesh.server_is_ready(SOON);
    wait_for("what is left of it is gone", SOON, || {
        interfaces(&mesh) == ["wg0"] && !mesh.on("server").ok(&["nft", "list", "tables"]).contains(own)
    });
    // The interface of before may have called the device to it with its last breath: that is looked for twice a minute.
    gamma_comes_through(&mesh, Duration::from_secs(60));
}
