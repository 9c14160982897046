//! The disk of the server is full: edits are refused with a reason, nothing else is lost, and all goes on once there is room.
//!
//! ```text
//!   alpha ── r-alpha ─┐
//!   beta  ── r-beta  ─┴─ inet ── server (apid, netd: on a disk of 24 MiB)
//! ```

use std::rc::Rc;
use std::time::Duration;

use lab::{Mesh, Pinging, Process, SOON, SmallDisk, World, wait_for};

/// The hub's own address in the mesh.
const HUB: &str = "100.64.0.1";
const DISK_MEBIBYTES: u32 = 24;
/// Edits go into what is left of the write-ahead log until it has to grow, or to be copied back: a few hundred.
const REFUSED_WITHIN: Duration = Duration::from_secs(60);

struct Small {
    mesh: Mesh,
    disk: SmallDisk,
}

impl Small {
    fn new() -> Self {
        let world = World::new(&["alpha", "beta"]);
        let disk = world.small_disk("server", DISK_MEBIBYTES);
        let mesh = Mesh::in_world(world, &[]);
        for (program, part) in [
            ("apid", "store"),
            ("apid", "database"),
            ("apid", "audit"),
            ("apid", "presence"),
            ("netd", "No space left"),
        ] {
            mesh.announce(program, part);
        }
        mesh.enrol(["alpha", "beta"]);
        mesh.on("alpha").reaches("beta", SOON);
        mesh.on("alpha").reaches(HUB, SOON);
        wait_for("a direct path", SOON, || mesh.goes("alpha", "beta", "direct"));
        Self { mesh, disk }
    }

    /// Adds records one after the other and writes down which were taken.
    fn writes(&self, name: &str) -> Rc<Process> {
        let script = format!(
            "for i in $(seq 100000); do warren dns add {name}-$i A 192.0.2.1 >/dev/null 2>&1 && echo {name}-$i; done"
        );
        self.mesh.plain(name, "server", &["bash", "-c", &script])
    }

    /// Fills the disk until an edit is refused for it; gives how the command ended.
    fn fill(&self) -> lab::Done {
        let mut edits = 0;
        let refused = lab::until(REFUSED_WITHIN, || {
            self.disk.fill();
            edits += 1;
            let done = self.mesh.on("server").run(&[
                "warren",
                "dns",
                "add",
                &format!("filler-{edits}"),
                "A",
                "192.0.2.2",
            ]);
            (done.code != 0).then_some(done)
        });
        refused.expect("a full disk takes no edits").0
    }

    fn health(&self) -> String {
        self.mesh.on("server").run(&["curl", "-s", "-m5", "http://127.0.0.1:8080/healthz"]).out
    }

    /// Every record whose addition was acknowledged is there. Gives how many.
    fn keeps(&self, writer: &Process) -> usize {
        writer.kill();
        let acknowledged: Vec<String> = writer.output().lines().map(str::to_owned).collect();
        let list = self.mesh.on("server").json(&["warren", "dns", "list"]).to_string();
        let lost: Vec<_> = acknowledged.iter().filter(|name| !list.contains(&format!("\"{name}."))).collect();
        assert!(lost.is_empty(), "of {} lost: {lost:?}", acknowledged.len());
        acknowledged.len()
    }

    fn goes_on(&self, writer: &Process) {
        let before = writer.output().len();
        wait_for("edits are acknowledged", SOON, || writer.output().len() > before);
    }
}

#[test]
fn a_full_disk_is_named_and_nobody_in_the_mesh_notices() {
    let small = Small::new();
    let mesh = &small.mesh;
    let pinging = [Pinging::start(mesh, "alpha", "beta"), Pinging::start(mesh, "beta", HUB)];
    let writer = small.writes("writer");
    small.goes_on(&writer);

    let refused = small.fill();
    assert_eq!(refused.code, 4, "{}", refused.tell());
    for part in ["store-unavailable", "the disk of the database is full", "warren server doctor"] {
        assert!(refused.err.contains(part), "no {part:?} in {}", refused.tell());
    }
    wait_for("it is named", SOON, || small.health().contains("disk-full"));
    let doctor = mesh.on("server").run(&["warren", "server", "doctor"]);
    assert!(doctor.code == 7 && doctor.out.contains("df -h"), "{}", doctor.tell());
    // Looking needs no room, nor does a device that comes back.
    mesh.on("server").ok(&["warren", "device", "list"]);
    mesh.on("alpha").ok(&["warren", "down"]);
    mesh.on("alpha").ok(&["warren", "up"]);
    mesh.ready("alpha", SOON);
    mesh.on("alpha").reaches("beta", SOON);
    assert_eq!(
        mesh.on("alpha").dig(None, "beta.home.internal", "A"),
        mesh.device_field("beta", "address_v4")
    );

    small.disk.make_room();
    small.goes_on(&writer);
    wait_for("it is well", SOON, || !small.health().contains("disk-full"));
    mesh.on("server").ok(&["warren", "dns", "add", "after", "A", "192.0.2.3"]);
    wait_for("devices learn it", SOON, || {
        mesh.on("beta").dig(None, "after.home.internal", "A") == "192.0.2.3"
    });
    eprintln!("{} edits acknowledged, none lost", small.keeps(&writer));
    let [_, to_hub] = pinging;
    assert_eq!(to_hub.lost(), 0, "beta's tunnel stays");
    let audit = mesh.on("server").run(&["warren", "audit", "verify"]);
    assert_eq!(audit.code, 0, "{}", audit.tell());
}

#[test]
fn a_full_disk_of_postgresql_is_named_for_as_long_as_it_is_full() {
    let world = World::new(&["alpha", "beta"]);
    let postgres = world.small_postgres(5432, 64);
    let mesh = Mesh::in_world(world, &["--database", &postgres.shared_url()]);
    for part in ["store", "database", "audit", "presence", "lease"] {
        mesh.announce("apid", part);
    }
    mesh.enrol(["alpha", "beta"]);
    mesh.on("alpha").reaches("beta", SOON);
    let pinging = Pinging::start(&mesh, "beta", HUB);
    let health = || mesh.on("server").run(&["curl", "-s", "-m5", "http://127.0.0.1:8080/healthz"]).out;
    let add = |name: &str| mesh.on("server").run(&["warren", "dns", "add", name, "A", "192.0.2.2"]);

    let mut edits = 0;
    let refused = lab::until(REFUSED_WITHIN, || {
        postgres.fill();
        edits += 1;
        let done = add(&format!("filler-{edits}"));
        (done.code != 0).then_some(done)
    });
    let (refused, _) = refused.expect("a full disk takes no edits");
    assert!(refused.err.contains("the disk of the database is full"), "{}", refused.tell());
    wait_for("it is named", SOON, || health().contains("disk-full"));
    let doctor = mesh.on("server").run(&["warren", "server", "doctor"]);
    assert!(doctor.code == 7 && doctor.out.contains("disk-full"), "{}", doctor.tell());
    mesh.on("server").ok(&["warren", "device", "list"]);

    // Nobody edits anything: that there is room again is found by looking.
    postgres.make_room();
    wait_for("it is well", SOON, || !health().contains("disk-full"));
    let after = add("after");
    assert_eq!(after.code, 0, "{}", after.tell());
    wait_for("devices learn it", SOON, || {
        mesh.on("beta").dig(None, "after.home.internal", "A") == "192.0.2.2"
    });
    assert_eq!(pinging.lost(), 0, "beta's tunnel stays");
}

#[test]
fn a_server_that_is_killed_on_a_full_disk_comes_back_with_all_that_it_acknowledged() {
    let mut small = Small::new();
    small.mesh.announce("agent", "link");
    small.mesh.announce("netd", "link");
    small.mesh.announce("apid", "lost");
    let writer = small.writes("writer");
    small.goes_on(&writer);
    small.fill();
    small.mesh.apid.kill();
    small.mesh.netd.kill();
    writer.kill();

    // On the full disk it serves what it can, or ends and says why.
    let apid = small.mesh.daemon("server", "apid", &[]);
    let health = || small.mesh.on("server").run(&["curl", "-s", "-m1", "http://127.0.0.1:8080/healthz"]).out;
    wait_for("it says what is wrong, or ends", SOON, || {
        health().contains("disk-full") || apid.ended().is_some()
    });
    small.disk.make_room();
    if apid.ended().is_some() {
        assert!(apid.output().contains("full"), "{}", apid.output());
        small.mesh.apid = small.mesh.daemon("server", "apid", &[]);
    }
    small.mesh.netd = small.mesh.daemon("server", "netd", &[]);
    small.mesh.server_is_ready(SOON);
    for device in ["alpha", "beta"] {
        small.mesh.on(device).reaches(HUB, Duration::from_secs(30));
        small.mesh.ready(device, SOON);
    }
    eprintln!("{} edits acknowledged, none lost", small.keeps(&writer));
    small.mesh.on("server").ok(&["warren", "dns", "add", "after", "A", "192.0.2.3"]);
}
