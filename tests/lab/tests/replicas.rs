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

use lab::{Mesh, Pinging, Pooler, Postgres, Process, SOON, World, wait_for};

/// All servers by one name, as a record with three addresses would have it.
const SERVERS_URL: &str = "https://servers.example.org:8443";
/// The hub's own address in the mesh.
const HUB: &str = "100.64.0.1";
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
        let mut replicas = Self { mesh, postgres, url, programs: BTreeMap::from([("server", first)]) };
        for server in ["two", "three"] {
            replicas.share_seal(server);
            replicas.start(server);
        }
        for device in devices {
            replicas.mesh.agent(device);
            let token = replicas.mesh.token(&[]);
            let up = ["warren", "up", "--server", SERVERS_URL, "--token", &token, "--hostname", device];
            replicas.mesh.on(device).ok(&up);
        }
        replicas
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
        let metrics = self.mesh.on(server).run(&["curl", "-sf", "-m1", "http://127.0.0.1:8080/metrics"]);
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
    let killed_at = Instant::now();
    replicas.apid("server").kill();
    let leader = replicas.leader(&["two", "three"], LEADER_TIME_MAX);
    assert!(killed_at.elapsed() < LEADER_TIME_MAX, "{leader} leads after {:?}", killed_at.elapsed());
    wait_for("the former hub stands by", SOON, || !replicas.acts_as_hub("server"));
    mesh.on("alpha").reaches(HUB, HANDSHAKE_TIME_MAX);
    mesh.on("beta").reaches(HUB, HANDSHAKE_TIME_MAX);
    assert!(killed_at.elapsed() < HANDSHAKE_TIME_MAX, "the hub is back after {:?}", killed_at.elapsed());
    assert!(replicas.acts_as_hub(leader));
    assert_eq!(pinging.lost(), 0, "devices that reach each other need no hub");
    eprintln!("new leader and handshakes after {:?}", killed_at.elapsed());
}

#[test]
fn a_leader_that_was_stopped_does_no_harm_when_it_goes_on() {
    let replicas = Replicas::new(&["alpha"]);
    let mesh = &replicas.mesh;
    mesh.on("alpha").reaches(HUB, SOON);
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
