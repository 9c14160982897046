//! Memory of the programs when nothing happens: three devices have joined and half a minute has passed. wireguard-go,
//! which is a data plane alone, stands beside them as a measure.

use std::time::{Duration, Instant};

use lab::{Mesh, SOON, wait_for};

use crate::series::{Bound, Series, Unit};
use crate::usage::{Memory, memory};

const DEVICES: [&str; 3] = ["alpha", "beta", "gamma"];
/// Where wireguard-go runs.
const BESIDE: &str = "beside";
const RESIDENT: Bound = Bound::AllBelow(30.0);

/// How much is measured.
#[derive(Debug)]
pub struct Scale {
    rounds: u32,
    idle: Duration,
}

/// Five meshes, one after the other.
pub const FULL: Scale = Scale { rounds: 5, idle: Duration::from_secs(30) };
/// To see that it works.
pub const CHECK: Scale = Scale { rounds: 1, idle: Duration::from_secs(1) };

/// The three kinds of memory of one program.
struct Program {
    resident: Series,
    proportional: Series,
    anonymous: Series,
}

impl Program {
    fn new(name: &str, bound: Option<Bound>) -> Self {
        let series = |kind| Series::new(format!("{name}, {kind}"), Unit::Megabytes);
        Self {
            resident: Series { bound, ..series("resident (RSS)") },
            proportional: series("proportional (PSS)"),
            anonymous: series("written by itself (RssAnon)"),
        }
    }

    fn take(&mut self, id: u32) {
        let Memory { resident, proportional, anonymous } = memory(id);
        self.resident.push(resident);
        self.proportional.push(proportional);
        self.anonymous.push(anonymous);
    }
}

/// Lets meshes stand idle and looks at their processes.
pub fn measure(scale: &Scale) -> Vec<Series> {
    let ours = |name| Program::new(name, Some(RESIDENT));
    let (mut apid, mut netd, mut agent) = (ours("warren-apid"), ours("warren-netd"), ours("warren-agent"));
    let mut beside = Program::new("wireguard-go, one peer", None);
    for _ in 0..scale.rounds {
        let mesh = Mesh::new(&[&DEVICES[..], &[BESIDE]].concat());
        let agents = mesh.enrol(DEVICES);
        for device in DEVICES {
            mesh.ready(device, SOON);
        }
        mesh.on("alpha").reaches("gamma", SOON);
        let wireguard_go = mesh.plain("wireguard-go", BESIDE, &["wireguard-go", "--foreground", "wg9"]);
        give_a_peer(&mesh);
        let since = Instant::now();
        wait_for("idle time", scale.idle + SOON, || since.elapsed() >= scale.idle);
        apid.take(mesh.apid.id());
        netd.take(mesh.netd.id());
        agents.iter().for_each(|process| agent.take(process.id()));
        beside.take(wireguard_go.id());
    }
    let programs = [apid, netd, agent, beside];
    programs.into_iter().flat_map(|p| [p.resident, p.proportional, p.anonymous]).collect()
}

/// What an idle device of ours has too: a key, a port, a peer.
fn give_a_peer(mesh: &Mesh) {
    let node = mesh.on(BESIDE);
    node.wait("wireguard-go is up", SOON, &["wg", "show", "wg9"], |done| done.code == 0);
    let set = "wg genkey >key && wg set wg9 private-key key listen-port 0 \
               peer $(wg genkey | wg pubkey) allowed-ips 10.9.0.2/32 && ip link set wg9 up";
    node.ok(&["sh", "-c", &format!("cd /run && {set}")]);
}
