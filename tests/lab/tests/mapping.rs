//! A router that opens a port when it is asked: miniupnpd, as many routers have it. Both devices are behind symmetric NATs, which
//! no packet passes that nobody asked for, so it is the open port or the relay.
//!
//! ```text
//!   alpha ── r-alpha (symmetric, miniupnpd) ─┐
//!                                            ├── inet ── server (apid, netd)
//!   beta ─── r-beta (symmetric) ─────────────┘
//! ```

use std::rc::Rc;
use std::time::Duration;

use lab::{Mesh, Nat, Process, SOON, World, wait_for};
use serde_json::Value;

/// miniupnpd opens no port of an address that documents alone have (RFC 5737), as all others of a world are.
const PUBLIC: &str = "9.9.9.10";

/// Where miniupnpd writes what it opens.
const CHAINS: &str = "
table inet filter {
    chain miniupnpd { }
    chain prerouting_miniupnpd { }
    chain postrouting_miniupnpd { }
    chain forward {
        type filter hook forward priority 0
        jump miniupnpd
    }
    chain prerouting {
        type nat hook prerouting priority -101
        jump prerouting_miniupnpd
    }
}";

/// What the router speaks.
#[derive(Debug, Clone, Copy)]
enum Speaks {
    /// PCP alone, of what an agent asks for.
    Pcp,
    /// NAT-PMP alone, as a router of before PCP.
    NatPmp,
    /// UPnP IGD alone.
    Upnp,
}

impl Speaks {
    /// What miniupnpd logs when it is asked this way.
    const fn log(self) -> &'static str {
        match self {
            Self::Pcp => "PCP MAP: added mapping",
            Self::NatPmp => "NAT-PMP port mapping request",
            Self::Upnp => "#AddAnyPortMapping",
        }
    }
}

/// Where a router of before PCP answers it.
const OLD: &str = "
table ip old {
    chain prerouting {
        type nat hook prerouting priority dstnat
        iifname lan udp dport 5351 @th,64,8 2 redirect to :5399
    }
}";
/// What it answers: that it speaks version 0 (RFC 6886, section 3.5).
const UNSUPPORTED: [u8; 8] = [0, 129, 0, 1, 0, 0, 0, 0];

fn router_that_opens(world: &World, speaks: Speaks) -> Rc<Process> {
    for knows in ["r-beta", "server"] {
        world.beside(knows).ok(&["ip", "route", "add", &format!("{PUBLIC}/32"), "dev", "wan"]);
    }
    let router = world.beside("r-alpha");
    router.ok(&["ip", "address", "add", &format!("{PUBLIC}/32"), "dev", "wan"]);
    router.ok(&["nft", CHAINS]);
    let (pcp, upnp) = match speaks {
        Speaks::Pcp | Speaks::NatPmp => ("yes", "no"),
        Speaks::Upnp => ("no", "yes"),
    };
    let settings = format!(
        "ext_ifname=wan\next_ip={PUBLIC}\nlistening_ip=lan\nenable_natpmp={pcp}\nenable_upnp={upnp}\nsecure_mode=yes\n\
         uuid=00000000-0000-0000-0000-000000000001\nallow 1024-65535 192.168.1.0/24 1024-65535\n"
    );
    // A router has no folder of its own.
    let [conf, pid, old] = ["conf", "pid", "old"].map(|name| {
        let path = world.file("server", &format!("run/miniupnpd.{name}"));
        path.to_str().expect("our paths are text").to_owned()
    });
    std::fs::write(&conf, settings).expect("the world's folder can be written");
    if matches!(speaks, Speaks::NatPmp) {
        router.ok(&["nft", OLD]);
        std::fs::write(&old, UNSUPPORTED).expect("the world's folder can be written");
        let answer = format!("SYSTEM:cat {old}");
        world.plain_beside("old", "r-alpha", &["socat", "UDP4-RECVFROM:5399,fork", &answer]);
    }
    world.plain_beside("miniupnpd", "r-alpha", &["miniupnpd", "-d", "-f", &conf, "-P", &pid])
}

fn a_port_is_opened_and_used(speaks: Speaks) {
    let world = World::new(&["alpha", "beta"]);
    let miniupnpd = router_that_opens(&world, speaks);
    wait_for("the router listens", SOON, || miniupnpd.output().contains("istening"));
    let mesh = Mesh::in_world(world, &[]);
    for router in ["r-alpha", "r-beta"] {
        mesh.set_nat(router, Nat::Symmetric);
    }
    let _agents = mesh.enrol(["alpha", "beta"]);
    for device in ["alpha", "beta"] {
        mesh.ready(device, SOON);
    }
    // Nobody needs a port before there is somebody to talk to.
    assert_eq!(mesh.on("alpha").json(&["warren", "netcheck"])["port_mapping"], Value::Null);
    mesh.on("alpha").reaches("beta", SOON);
    let mut opened = String::new();
    wait_for("a port is open", SOON, || {
        let checked = mesh.on("alpha").json(&["warren", "netcheck"]);
        opened = checked["port_mapping"].as_str().unwrap_or_default().to_owned();
        opened.starts_with(&format!("{PUBLIC}:"))
    });
    let said = miniupnpd.output();
    assert!(said.contains(speaks.log()), "it was asked by {speaks:?}: {said}");
    let direct = format!("direct {opened}");
    wait_for("beta comes by that port", Duration::from_secs(10), || {
        mesh.on("beta").run(&["ping", "-c1", "-W1", "alpha"]);
        mesh.goes("beta", "alpha", &direct)
    });
    wait_for("and alpha goes directly", Duration::from_secs(10), || mesh.goes("alpha", "beta", "direct"));

    // The router forgets what it opened, as one does that starts anew.
    miniupnpd.kill();
    let router = mesh.beside("r-alpha");
    router.ok(&["nft", "flush chain inet filter prerouting_miniupnpd"]);
    router.ok(&["conntrack", "-F"]);
    wait_for("the relay", Duration::from_secs(10), || {
        mesh.on("beta").run(&["ping", "-c1", "-W1", "alpha"]);
        mesh.goes("beta", "alpha", "relayed")
    });
}

#[test]
fn a_port_that_the_router_opened_by_pcp_joins_two_symmetric_nats() {
    a_port_is_opened_and_used(Speaks::Pcp);
}

#[test]
fn a_port_that_the_router_opened_by_nat_pmp_joins_two_symmetric_nats() {
    a_port_is_opened_and_used(Speaks::NatPmp);
}

#[test]
fn a_port_that_the_router_opened_by_upnp_joins_two_symmetric_nats() {
    a_port_is_opened_and_used(Speaks::Upnp);
}
