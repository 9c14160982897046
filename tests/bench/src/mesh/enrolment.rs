//! From `warren up --token` to the first ping, with the real programs: a server and devices behind routers, all on one
//! machine.

use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::process::{Child, Stdio};
use std::time::Instant;

use lab::{Mesh, SERVER_URL};

use super::echo;
use crate::series::{Bound, Series, Unit};
use crate::usage::milliseconds;

/// The hub of the tenant that a new server starts with.
const HUB: Ipv4Addr = Ipv4Addr::new(100, 64, 0, 1);
/// The device that is there before the others.
const NEIGHBOUR: &str = "neighbour";
const FIRST_PING: Bound = Bound::P99Below(1000.0);

/// How much is measured.
#[derive(Debug)]
pub struct Scale {
    devices: u32,
}

/// As many as the routers of one world: each round is a new device behind a router of its own.
pub const FULL: Scale = Scale { devices: 20 };
/// To see that it works.
pub const CHECK: Scale = Scale { devices: 2 };

/// Enrols one device after the other.
pub fn measure(scale: &Scale) -> Vec<Series> {
    let names: Vec<String> = (1..=scale.devices).map(|number| format!("d{number}")).collect();
    let world: Vec<&str> = std::iter::once(NEIGHBOUR).chain(names.iter().map(String::as_str)).collect();
    let mesh = Mesh::new(&world);
    mesh.enrol([NEIGHBOUR]);
    let neighbour = mesh.device_field(NEIGHBOUR, "address_v4").parse().expect("an address");

    let mut hub = Series::new("first ping of the hub", Unit::Milliseconds).must(FIRST_PING);
    let mut other = Series::new("first ping of another device", Unit::Milliseconds).must(FIRST_PING);
    let mut settled = Series::new("`warren up` returns, settled", Unit::Milliseconds);
    for name in &names {
        let agent = mesh.agent(name);
        let replies = echo::first_replies(agent.id(), vec![HUB, neighbour]);
        let waiting = Waiting::new(&mesh, name);
        let start = Instant::now();
        settled.push(milliseconds(waiting.go().duration_since(start)));
        let replies = replies.join().expect("both answer");
        hub.push(milliseconds(replies[0].duration_since(start)));
        other.push(milliseconds(replies[1].duration_since(start)));
    }
    vec![hub, other, settled]
}

/// `warren up` on a device, about to be started: entering the device's namespaces is not Warren's time.
struct Waiting(Child);

impl Waiting {
    fn new(mesh: &Mesh, device: &str) -> Self {
        let token = mesh.token(&[]);
        let up = ["warren", "up", "--server", SERVER_URL, "--token", &token, "--hostname", device];
        let shell = ["sh", "-c", "echo ready; read -r go; exec \"$@\"", "sh"];
        let mut command = mesh.on(device).command(&[&shell[..], &up].concat());
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("launchers can be started");
        let output = child.stdout.as_mut().expect("it is piped");
        let mut line = String::new();
        BufReader::new(output).read_line(&mut line).expect("readable");
        assert_eq!(line, "ready\n", "the launcher of {device} failed");
        Self(child)
    }

    /// Starts it, and says when it ended.
    fn go(mut self) -> Instant {
        self.0.stdin.take().expect("it is piped").write_all(b"\n").expect("the shell reads");
        let output = self.0.wait_with_output().expect("it can be waited for");
        let ended = Instant::now();
        assert!(output.status.success(), "warren up: {}", String::from_utf8_lossy(&output.stdout));
        ended
    }
}
