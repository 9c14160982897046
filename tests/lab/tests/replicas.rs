//! Three servers on one PostgreSQL: the hub follows the lease, and nobody on a direct path notices.
//!
//! ```text
//!   alpha ── r-alpha ─┐      ┌─ server (apid, netd)
//!   beta  ── r-beta  ─┴ inet ┼─ two    (apid, netd)
//!                      │     └─ three  (apid, netd)
//!                 PostgreSQL
//! ```

use std::collections::BTreeMap;
use std::rc::Rc;
use std::time::{Duration, Instant};

use lab::{HUB, Mesh, Nat, Pinging, Pooler, Postgres, Process, SOON, World, wait_for};

/// All servers by one name, as a record with three addresses would have it.
const SERVERS_URL: &str = "https://servers.example.org:8443";
/// What was promised for a leader that is gone: another one, and handshakes with its hub.
const LEADER_TIME_MAX: Duration = Duration::from_secs(10);
const HANDSHAKE_TIME_MAX: Duration = Duration::from_secs(20);
/// The user that apid runs as here; see `scripts/lib/as`.
const APID_USER: u32 = 64_101;
const PORT: u16 = 5432;

struct Replicas {
    mesh: Mesh,
    postgres: Postgres,
    /// How servers reach it, or whoever takes its place.
    url: String,
    programs: BTreeMap<&'static str, [Rc<Process>; 2]>,
    agents: BTreeMap<&'static str, Rc<Process>>,
}

impl Replicas {
    fn new(devices: &[&'static str]) -> Self {
        let world = World::new(&[devices, &["+two", "+three"]].concat());
        let postgres = world.shared_postgres(PORT);
        let url = postgres.shared_url();
        Self::over(world, postgres, url, devices)
    }

    fn over(world: World, postgres: Postgres, url: String, devices: &[&'static str]) -> Self {
        let mesh = Mesh::in_world(world, &["--database", &url]);
        // Names and addresses of a fleet change hands; links and claims end.
        for part in ["link", "lease", "store", "database", "connection", "presence"] {
            for program in ["agent", "netd", "apid"] {
                mesh.announce(program, part);
            }
        }
        let first = [Rc::clone(&mesh.apid), Rc::clone(&mesh.netd)];
        let mut replicas = Self {
            mesh,
            postgres,
            url,
            programs: BTreeMap::from([("server", first)]),
            agents: BTreeMap::new(),
        };
        for server in ["two", "three"] {
            replicas.share_seal(server);
            replicas.start(server);
        }
        for device in devices {
            replicas.join(device, SERVERS_URL);
        }
        replicas
    }

    fn join(&mut self, device: &'static str, url: &str) {
        self.agents.insert(device, self.mesh.agent(device));
        let token = self.mesh.token(&[]);
        self.mesh.on(device).ok(&["warren", "up", "--server", url, "--token", &token, "--hostname", device]);
    }

    /// Replicas open each other's seals.
    fn share_seal(&self, server: &str) {
        let from = self.mesh.file("server", "lib/warren/apid/seal.key");
        let to = self.mesh.file(server, "lib/warren/apid/seal.key");
        std::fs::copy(from, &to).expect("the first server has made it");
        std::os::unix::fs::chown(&to, Some(APID_USER), None).expect("root may");
    }

    fn start(&mut self, server: &'static str) {
        let apid = self.mesh.daemon(server, "apid", &["--database", &self.url]);
        let ready = ["curl", "-sf", "http://127.0.0.1:8080/readyz"];
        self.mesh.on(server).wait("it is ready", SOON, &ready, |done| done.code == 0);
        let netd = match self.programs.remove(server) {
            Some([_, netd]) => netd,
            None => self.mesh.daemon(server, "netd", &[]),
        };
        self.programs.insert(server, [apid, netd]);
    }

    fn apid(&self, server: &str) -> &Process {
        &self.programs[server][0]
    }

    fn leads(&self, server: &str) -> bool {
        let metrics = self.mesh.on(server).run(&["curl", "-sf", "-m5", "http://127.0.0.1:8080/metrics"]);
        metrics.out.contains("\nwarren_lease_held 1\n")
    }

    fn leader(&self, among: &[&'static str], deadline: Duration) -> &'static str {
        let found = lab::until(deadline, || among.iter().copied().find(|server| self.leads(server)));
        found.unwrap_or_else(|| panic!("nobody of {among:?} leads after {deadline:?}")).0
    }

    fn acts_as_hub(&self, server: &str) -> bool {
        self.mesh.on(server).succeeds(&["ip", "link", "show", "wg0"])
    }

    fn writes(&self, server: &str) -> Writer {
        let script = format!(
            "for i in $(seq 100000); do warren dns add {server}-$i A 192.0.2.1 >/dev/null 2>&1 && echo {server}-$i; done"
        );
        Writer(self.mesh.plain(&format!("writer-{server}"), server, &["bash", "-c", &script]))
    }

    /// Every record whose addition was acknowledged is there, on a server that may have to hear of it. Gives how many.
    fn keeps(&self, writers: &[Writer]) -> usize {
        let acknowledged: Vec<String> = writers.iter().flat_map(Writer::acknowledged).collect();
        let lost = || {
            let list = self.mesh.on("two").json(&["warren", "dns", "list"]).to_string();
            acknowledged.iter().filter(|name| !list.contains(&format!("\"{name}."))).collect::<Vec<_>>()
        };
        let whole = lab::until(SOON, || lost().is_empty().then_some(()));
        assert!(whole.is_some(), "of {} lost: {:?}", acknowledged.len(), lost());
        acknowledged.len()
    }

    fn health(&self, server: &str) -> String {
        self.mesh.on(server).run(&["curl", "-s", "-m5", "http://127.0.0.1:8080/healthz"]).out
    }

    fn hub_moves(&self) -> String {
        self.postgres.sql("SELECT count(*) FROM audit WHERE action = 'hub.set' AND refused IS NULL")
    }
}

/// Adds records one after the other.
struct Writer(Rc<Process>);

impl Writer {
    /// What the server said yes to until now. Ends it.
    fn acknowledged(&self) -> Vec<String> {
        self.0.kill();
        self.0.output().lines().map(str::to_owned).collect()
    }

    fn goes_on(&self) {
        let before = self.0.output().len();
        wait_for("edits are acknowledged", HANDSHAKE_TIME_MAX, || self.0.output().len() > before);
    }
}

#[test]
fn the_hub_follows_a_leader_that_is_killed() {
    let replicas = Replicas::new(&["alpha", "beta"]);
    let mesh = &replicas.mesh;
    mesh.on("alpha").reaches(HUB, SOON);
    mesh.on("alpha").reaches("beta", SOON);
    wait_for("a direct path", SOON, || mesh.goes("alpha", "beta", "direct"));
    assert!(replicas.leads("server") && replicas.acts_as_hub("server"));
    assert!(!replicas.acts_as_hub("two") && !replicas.acts_as_hub("three"), "they stand by");

    let pinging = Pinging::start(mesh, "alpha", "beta");
    let writers = ["two", "three"].map(|server| replicas.writes(server));
    let killed_at = Instant::now();
    replicas.apid("server").kill();
    let leader = replicas.leader(&["two", "three"], LEADER_TIME_MAX);
    assert!(killed_at.elapsed() < LEADER_TIME_MAX, "{leader} leads after {:?}", killed_at.elapsed());
    wait_for("the former hub stands by", SOON, || !replicas.acts_as_hub("server"));
    mesh.on("alpha").reaches(HUB, HANDSHAKE_TIME_MAX);
    mesh.on("beta").reaches(HUB, HANDSHAKE_TIME_MAX);
    assert!(killed_at.elapsed() < HANDSHAKE_TIME_MAX, "the hub is back after {:?}", killed_at.elapsed());
    assert!(replicas.acts_as_hub(leader));
    eprintln!("new leader and handshakes after {:?}", killed_at.elapsed());
    assert_eq!(pinging.lost(), 0, "devices that reach each other need no hub");
    writers.iter().for_each(Writer::goes_on);
    replicas.keeps(&writers);
}

/// Two devices, each of which knows one server alone.
fn apart(nat: Nat) -> Replicas {
    let world = World::new(&["alpha", "beta", "+two", "+three"]);
    let postgres = world.shared_postgres(PORT);
    let url = postgres.shared_url();
    let mut replicas = Replicas::over(world, postgres, url, &[]);
    for (device, server) in [("alpha", "two"), ("beta", "three")] {
        replicas.mesh.set_nat(&format!("r-{device}"), nat);
        let address = std::fs::read_to_string(replicas.mesh.file(server, "address")).expect("it has one");
        replicas.join(device, &format!("https://{}:8443", address.trim()));
    }
    replicas.mesh.on("alpha").reaches("beta", SOON);
    replicas
}

#[test]
fn devices_at_different_servers_find_a_direct_path() {
    let replicas = apart(Nat::PortRestricted);
    wait_for("a direct path", SOON, || replicas.mesh.goes("alpha", "beta", "direct"));
}

#[test]
fn devices_at_different_servers_that_cannot_meet_are_carried_by_the_hub() {
    let replicas = apart(Nat::Symmetric);
    replicas.mesh.takes("alpha", "beta", "via hub");
}

#[test]
fn devices_at_different_servers_without_udp_are_carried_by_the_hub_of_a_third() {
    let replicas = apart(Nat::Closed);
    replicas.mesh.takes("alpha", "beta", "via hub");
    let leader = replicas.leader(&["server", "two", "three"], SOON);
    assert_eq!(leader, "server", "neither device has a link to it");
    // Who leads next is told what the device sends to the hub.
    replicas.apid(leader).kill();
    let leader = replicas.leader(&["two", "three"], LEADER_TIME_MAX);
    replicas.mesh.on("alpha").reaches(HUB, HANDSHAKE_TIME_MAX);
    // Beta said nothing itself.
    replicas.mesh.on("alpha").reaches("beta", HANDSHAKE_TIME_MAX);
    assert!(replicas.acts_as_hub(leader));
}

#[test]
fn a_leader_that_was_stopped_does_no_harm_when_it_goes_on() {
    let replicas = Replicas::new(&["alpha"]);
    let mesh = &replicas.mesh;
    mesh.on("alpha").reaches(HUB, SOON);
    let writers = ["server", "two"].map(|server| replicas.writes(server));
    writers.iter().for_each(Writer::goes_on);
    replicas.apid("server").signal("STOP");
    let leader = replicas.leader(&["two", "three"], LEADER_TIME_MAX);
    wait_for("the former hub stands by", SOON, || !replicas.acts_as_hub("server"));
    mesh.on("alpha").reaches(HUB, HANDSHAKE_TIME_MAX);
    let moves = replicas.hub_moves();

    replicas.apid("server").signal("CONT");
    wait_for("it knows", SOON, || {
        mesh.on("server").succeeds(&["curl", "-sf", "-m1", "http://127.0.0.1:8080/readyz"])
    });
    // Longer than any claim or heartbeat of a leader takes.
    let pinging = Pinging::start(mesh, "alpha", HUB);
    let until = Instant::now() + Duration::from_secs(5);
    wait_for("some time", SOON, || {
        assert!(!replicas.leads("server") && !replicas.acts_as_hub("server"));
        Instant::now() > until
    });
    assert_eq!(pinging.lost(), 0);
    assert_eq!(replicas.hub_moves(), moves);
    assert!(replicas.leads(leader));
    writers.iter().for_each(Writer::goes_on);
    replicas.keeps(&writers);
}

/// Of the second tenant, whose interface has the next port after the shared one.
const OWN: &str = "wg0-51821";
const OWN_HUB: &str = "100.65.0.1";

#[test]
fn an_interface_of_a_tenants_own_follows_the_lease() {
    let devices = ["gamma", "delta"];
    let world = World::new(&["gamma", "delta", "+two", "+three"]);
    let postgres = world.shared_postgres(PORT);
    let url = postgres.shared_url();
    let replicas = Replicas::over(world, postgres, url, &[]);
    let mesh = &replicas.mesh;
    mesh.on("two").ok(&["warren", "tenant", "create", "work", "--own-interface"]);
    for device in devices {
        mesh.agent(device);
        let token = mesh.token(&["--tenant", "work"]);
        let up = ["warren", "up", "--server", SERVERS_URL, "--token", &token, "--hostname", device];
        mesh.on(device).ok(&up);
        mesh.on(device).reaches(OWN_HUB, SOON);
    }
    let peers = mesh.wg_peers("server", OWN);
    assert_eq!(peers.len(), devices.len());

    replicas.apid("server").kill();
    let leader = replicas.leader(&["two", "three"], LEADER_TIME_MAX);
    wait_for("its interface is at the leader", SOON, || mesh.wg_peers(leader, OWN) == peers);
    let has_it = |server: &str| mesh.on(server).succeeds(&["ip", "link", "show", OWN]);
    wait_for("and nowhere else", SOON, || {
        ["server", "two", "three"].iter().all(|server| *server == leader || !has_it(server))
    });
    for device in devices {
        mesh.on(device).reaches(OWN_HUB, HANDSHAKE_TIME_MAX);
        mesh.ready(device, SOON);
    }
    mesh.on("gamma").reaches("delta", HANDSHAKE_TIME_MAX);
    mesh.on("delta").reaches("gamma", HANDSHAKE_TIME_MAX);
}

#[test]
fn a_rolling_restart_costs_no_tunnel_and_nothing_that_was_acknowledged() {
    let mut replicas = Replicas::new(&["alpha", "beta"]);
    replicas.mesh.on("alpha").reaches("beta", SOON);
    wait_for("a direct path", SOON, || replicas.mesh.goes("alpha", "beta", "direct"));
    let pinging = Pinging::start(&replicas.mesh, "alpha", "beta");
    let writers = ["server", "two", "three"].map(|server| replicas.writes(server));
    for server in ["three", "two", "server"] {
        replicas.apid(server).stop();
        replicas.start(server);
        writers.iter().for_each(Writer::goes_on);
    }
    for device in ["alpha", "beta"] {
        replicas.mesh.on(device).reaches(HUB, HANDSHAKE_TIME_MAX);
        replicas.mesh.ready(device, SOON);
    }
    assert_eq!(pinging.lost(), 0);
    eprintln!("{} edits acknowledged, none lost", replicas.keeps(&writers));
}

#[test]
fn a_standby_that_is_promoted_has_everything_that_was_acknowledged() {
    let devices = ["alpha", "beta"];
    let world = World::new(&["alpha", "beta", "+two", "+three"]);
    let primary = world.shared_postgres(PORT + 1);
    let standby = primary.standby(PORT + 2);
    primary.sql("ALTER SYSTEM SET synchronous_standby_names = '*'");
    primary.sql("SELECT pg_reload_conf()");
    let inet = world.beside("inet");
    let point_to = |port: u16| {
        let rules = format!(
            "flush ruleset; table ip nat {{ chain pre {{ type nat hook prerouting priority dstnat; \
             tcp dport {PORT} redirect to :{port}; }}; }}"
        );
        inet.ok(&["nft", &rules]);
    };
    point_to(PORT + 1);
    let url = primary.shared_url().replace(&(PORT + 1).to_string(), &PORT.to_string());
    let replicas = Replicas::over(world, primary, url, &devices);
    let mesh = &replicas.mesh;
    mesh.on("alpha").reaches("beta", SOON);
    wait_for("a direct path", SOON, || mesh.goes("alpha", "beta", "direct"));
    let pinging = Pinging::start(mesh, "alpha", "beta");
    let writers = ["server", "two"].map(|server| replicas.writes(server));
    writers.iter().for_each(Writer::goes_on);

    replicas.postgres.kill();
    wait_for("it is named", SOON, || replicas.health("two").contains("unreachable"));
    standby.promote();
    point_to(PORT + 2);
    writers.iter().for_each(Writer::goes_on);
    for device in devices {
        mesh.on(device).reaches(HUB, HANDSHAKE_TIME_MAX);
    }
    assert_eq!(pinging.lost(), 0);
    eprintln!("{} edits acknowledged, none lost", replicas.keeps(&writers));
}

#[test]
fn a_database_that_takes_nothing_is_named_and_nobody_notices() {
    let replicas = Replicas::new(&["alpha", "beta"]);
    let mesh = &replicas.mesh;
    mesh.on("alpha").reaches("beta", SOON);
    wait_for("a direct path", SOON, || mesh.goes("alpha", "beta", "direct"));
    let pinging = [Pinging::start(mesh, "alpha", "beta"), Pinging::start(mesh, "beta", HUB)];

    let writers = ["server", "two"].map(|server| replicas.writes(server));
    writers.iter().for_each(Writer::goes_on);
    // Longer than any of our statements waits.
    let lock = "BEGIN; LOCK TABLE server, directories IN ACCESS EXCLUSIVE MODE; SELECT pg_sleep(30)";
    let args = ["psql", "-h", "203.0.113.250", "-U", "warren", "-d", "postgres", "-qc", lock];
    let locked = mesh.plain("lock", "two", &args);
    wait_for("it is named", SOON, || replicas.health("two").contains("locked"));
    let add = |name: &str| mesh.on("two").run(&["warren", "dns", "add", name, "A", "192.0.2.1"]);
    let refused = add("during");
    assert!(refused.code != 0 && refused.err.contains("store-unavailable"), "{}", refused.tell());
    wait_for("the lock is gone", Duration::from_secs(40), || locked.ended().is_some());
    wait_for("edits are taken again", SOON, || add("after").code == 0);
    // The lease is another row: the hub never stopped.
    assert_eq!(pinging.map(Pinging::lost), [0, 0]);

    let pinging = Pinging::start(mesh, "alpha", "beta");
    replicas.postgres.sql("ALTER SYSTEM SET default_transaction_read_only = on");
    replicas.postgres.sql("SELECT pg_reload_conf()");
    wait_for("it is named", SOON, || replicas.health("two").contains("read-only"));
    let refused = add("read-only");
    assert!(refused.code != 0 && refused.err.contains("store-unavailable"), "{}", refused.tell());
    replicas.postgres.sql("ALTER SYSTEM RESET default_transaction_read_only");
    replicas.postgres.sql("SELECT pg_reload_conf()");
    wait_for("edits are taken again", SOON, || add("last").code == 0);
    mesh.on("alpha").reaches(HUB, HANDSHAKE_TIME_MAX);
    assert_eq!(pinging.lost(), 0);
    writers.iter().for_each(Writer::goes_on);
    replicas.keeps(&writers);
}

#[test]
fn replicas_behind_a_pooler_follow_the_lease_and_each_other() {
    let world = World::new(&["alpha", "beta", "+two", "+three"]);
    let postgres = world.shared_postgres(PORT);
    let pooler = postgres.pooler("transaction");
    let replicas = Replicas::over(world, postgres, Pooler::url(), &["alpha", "beta"]);
    let mesh = &replicas.mesh;
    mesh.on("alpha").reaches(HUB, SOON);
    mesh.on("alpha").reaches("beta", SOON);
    wait_for("a direct path", SOON, || mesh.goes("alpha", "beta", "direct"));
    let doctor = mesh.on("two").run(&["warren", "server", "doctor"]);
    assert!(doctor.out.contains("nobody can LISTEN"), "{}", doctor.tell());
    mesh.on("two").ok(&["warren", "dns", "add", "told", "A", "192.0.2.1"]);
    let known = || mesh.on("three").json(&["warren", "dns", "list"]).to_string().contains("\"told.");
    wait_for("another replica knows it", Duration::from_secs(2), known);

    let pinging = Pinging::start(mesh, "alpha", "beta");
    let writers = ["two", "three"].map(|server| replicas.writes(server));
    writers.iter().for_each(Writer::goes_on);
    replicas.apid("server").kill();
    replicas.leader(&["two", "three"], LEADER_TIME_MAX);
    mesh.on("alpha").reaches(HUB, HANDSHAKE_TIME_MAX);
    writers.iter().for_each(Writer::goes_on);

    drop(pooler);
    wait_for("it is named", SOON, || replicas.health("two").contains("unreachable"));
    let _again = replicas.postgres.pooler("transaction");
    writers.iter().for_each(Writer::goes_on);
    mesh.on("alpha").reaches(HUB, HANDSHAKE_TIME_MAX);
    assert_eq!(pinging.lost(), 0);
    eprintln!("{} edits acknowledged, none lost", replicas.keeps(&writers));
}

/// What others hear is saved after half a minute and read after as much; a device that is gone without a word is missed two minutes
/// later.
const HEARD_WITHIN: Duration = Duration::from_secs(300);
/// Clocks are one here; a heartbeat and what is rounded.
const SEEN_APART_MAX: i64 = 100;

impl Replicas {
    /// Waits until every replica says this of whether a device is online.
    fn all_say(&self, device: &str, online: bool) {
        let ask = |server: &str| {
            let done = self.mesh.on(server).run(&["warren", "device", "show", device, "--json"]);
            serde_json::from_str::<serde_json::Value>(&done.out).unwrap_or_default()
        };
        let all = || {
            Some(["server", "two", "three"].map(ask))
                .filter(|all| all.iter().all(|one| one["online"] == online))
        };
        assert!(lab::until(HEARD_WITHIN, all).is_some(), "not all say online={online} of {device}");
    }
}

#[test]
fn who_is_there_is_known_on_every_replica_and_after_its_restart() {
    let mut replicas = Replicas::new(&["alpha", "beta"]);
    for server in ["two", "three", "server"] {
        replicas.apid(server).stop();
        replicas.start(server);
    }
    replicas.all_say("beta", true);

    let seconds = [
        "bash",
        "-c",
        "date --date=\"$(warren device show beta --json | grep -o '\"last_seen_at\": *\"[^\"]*' | cut -d'\"' -f4)\" +%s",
    ];
    replicas.agents["beta"].stop();
    let down_at: i64 = replicas.mesh.on("server").ok(&["date", "+%s"]).trim().parse().expect("a number");
    replicas.all_say("beta", false);
    for server in ["server", "two", "three"] {
        let seen: i64 = replicas.mesh.on(server).ok(&seconds).trim().parse().expect("a number");
        assert!(
            (down_at - seen).abs() <= SEEN_APART_MAX,
            "{server} saw it last at {seen}, it went at {down_at}"
        );
    }
    // All that knew of it end at once, and know it all the same afterwards.
    for server in ["server", "two", "three"] {
        replicas.apid(server).kill();
    }
    for server in ["server", "two", "three"] {
        replicas.start(server);
    }
    replicas.all_say("beta", false);
    replicas.all_say("alpha", true);
}

#[test]
fn a_database_of_yesterday_is_followed_by_replicas_that_serve() {
    let replicas = Replicas::new(&["alpha", "beta"]);
    let mesh = &replicas.mesh;
    mesh.announce("agent", "join refused");
    mesh.on("alpha").reaches("beta", SOON);
    mesh.on("alpha").reaches(HUB, SOON);
    wait_for("a direct path", SOON, || mesh.goes("alpha", "beta", "direct"));
    let unused = mesh.token(&[]);
    let dump = mesh.file("two", "lib/dump.sql");
    let dump = dump.to_str().expect("text");
    let place = ["-h", "203.0.113.250", "-U", "warren", "-d", "postgres"];
    mesh.on("two").ok(&[&["pg_dump", "--clean", "--if-exists", "-f", dump], &place[..]].concat());

    mesh.on("two").ok(&["warren", "dns", "add", "later", "A", "192.0.2.9"]);
    mesh.revoke("beta");
    wait_for("beta is nobody's peer", SOON, || mesh.path("alpha", "beta").is_null());
    let version = |device: &str| mesh.status(device)["holds"].as_str().unwrap_or_default().to_owned();
    assert!(version("alpha").starts_with("1."), "{}", version("alpha"));

    mesh.on("two").ok(&[&["psql", "-q", "-1", "-v", "ON_ERROR_STOP=1", "-f", dump], &place[..]].concat());
    let restored = mesh.daemon("two", "apid", &["--database", &replicas.url, "--restored"]);
    wait_for("the database is told", SOON, || restored.ended().is_some());
    assert!(restored.ended().is_some_and(|end| end.success()), "{}", restored.output());

    wait_for("alpha follows", HANDSHAKE_TIME_MAX, || {
        version("alpha")
            .split('.')
            .next()
            .and_then(|epoch| epoch.parse::<u64>().ok())
            .is_some_and(|epoch| epoch > 1)
    });
    for server in ["server", "two", "three"] {
        // Each finds out by itself: while the dump was being read, the database was none to any of them.
        let what = format!("{server} forgets what the database does not have");
        mesh.on(server).wait(&what, SOON, &["warren", "dns", "list"], |done| !done.out.contains("later."));
        let devices = mesh.on(server).json(&["warren", "device", "list"]);
        assert_eq!(devices["items"].as_array().map(Vec::len), Some(2), "{server}: {devices}");
    }
    let leader = replicas.leader(&["server", "two", "three"], LEADER_TIME_MAX);
    wait_for("it is the hub", SOON, || replicas.acts_as_hub(leader));
    mesh.on("alpha").reaches(HUB, HANDSHAKE_TIME_MAX);
    let join = ["warren", "up", "--server", SERVERS_URL, "--hostname", "beta", "--token", &unused];
    mesh.on("beta").run(&["warren", "logout", "--yes"]);
    let refused = mesh.on("beta").run(&join);
    assert!(refused.code == 3 && refused.err.contains("revoked"), "{}", refused.tell());
    mesh.on("three").ok(&["warren", "dns", "add", "after", "A", "192.0.2.10"]);
    wait_for("alpha learns it", SOON, || {
        mesh.on("alpha").dig(None, "after.home.internal", "A") == "192.0.2.10"
    });
}

/// Agents of the crowd: as many as a build machine carries beside its other work; `WARREN_LAB_AGENTS` says how many else.
const CROWD: usize = 20;
/// Joining is a second of processor time each.
const CROWD_TIME_MAX: Duration = Duration::from_secs(600);
/// Of the crowd are pinged all along.
const PINGED: usize = 20;
/// Pings of half a second: a tunnel that ended would take longer to begin anew.
const LATE_MAX: usize = 5;

/// Every agent of the crowd does what its command says, eight at a time, tried until it succeeds. `%` is the agent's number.
fn crowd(mesh: &Mesh, size: usize, command: &str) {
    let agent = "warren --agent-socket /run/warren/a%.sock";
    let each = format!("until {agent} {command} >/dev/null 2>&1; do sleep 0.2; done");
    let script = format!("seq 0 $(({size} - 1)) | xargs -P 8 -I % bash -c '{each}'");
    let done = mesh.plain("crowd", "crowd", &["bash", "-c", &script]);
    wait_for(command, CROWD_TIME_MAX, || done.ended().is_some());
    assert!(done.ended().is_some_and(|end| end.success()), "{}", done.output());
}

#[test]
fn a_rolling_restart_costs_a_crowd_no_tunnel() {
    let size = std::env::var("WARREN_LAB_AGENTS").ok().and_then(|size| size.parse().ok()).unwrap_or(CROWD);
    let world = World::new(&["alpha", "crowd", "+two", "+three"]);
    let postgres = world.shared_postgres(PORT);
    let url = postgres.shared_url();
    let mut replicas = Replicas::over(world, postgres, url, &["alpha"]);
    let token = replicas.mesh.token(&["--uses", &size.to_string()]);
    let agents: Vec<_> = (0..size)
        .map(|n| {
            let (state, socket) = (format!("/var/lib/warren/a{n}"), format!("/run/warren/a{n}.sock"));
            let proxy = format!("127.0.0.1:{}", 2000 + n);
            let flags = ["--state-dir", &state, "--socket", &socket, "--proxy", &proxy];
            replicas.mesh.daemon("crowd", "agent-rootless", &flags)
        })
        .collect();
    let up = format!("up --server {SERVERS_URL} --token {token} --hostname a%");
    crowd(&replicas.mesh, size, &up);
    crowd(&replicas.mesh, size, "status --check ready");
    let address = |n: usize| replicas.mesh.device_field(&format!("a{n}"), "address_v4");
    let pinged: Vec<String> = (0..PINGED.min(size)).map(address).collect();
    for (n, address) in pinged.iter().enumerate() {
        replicas.mesh.on("alpha").reaches(address, HANDSHAKE_TIME_MAX);
        wait_for("a direct path", HANDSHAKE_TIME_MAX, || {
            replicas.mesh.goes("alpha", &format!("a{n}"), "direct")
        });
    }
    let pings: Vec<_> =
        pinged.iter().map(|address| Pinging::start(&replicas.mesh, "alpha", address)).collect();
    let peers = replicas.mesh.wg_peers("server", "wg0");
    assert_eq!(peers.len(), size + 1);
    let writers = ["server", "two", "three"].map(|server| replicas.writes(server));
    for server in ["three", "two", "server"] {
        replicas.apid(server).stop();
        replicas.start(server);
        writers.iter().for_each(Writer::goes_on);
    }
    crowd(&replicas.mesh, size, "status --check ready");
    let lost: Vec<usize> = pings.into_iter().map(Pinging::lost).collect();
    // Hundreds of agents on two cores keep each other from the processor for some tenths of a second.
    let late_max = if size > CROWD { LATE_MAX } else { 0 };
    assert!(lost.iter().all(|lost| *lost <= late_max), "lost: {lost:?}");
    assert!(agents.iter().all(|agent| agent.ended().is_none()), "an agent has ended");
    let leader = replicas.leader(&["server", "two", "three"], LEADER_TIME_MAX);
    wait_for("its hub has all peers", SOON, || replicas.mesh.wg_peers(leader, "wg0") == peers);
    eprintln!("{size} agents, {} edits acknowledged, none lost", replicas.keeps(&writers));
}
