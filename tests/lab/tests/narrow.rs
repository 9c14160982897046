//! Links between devices that take shorter packets than the tunnel's are: whatever fits the tunnel passes all the same,
//! directly or over the relay, and connections go on.
//!
//! ```text
//!   alpha ── r-alpha ═╗ wan: 1280 bytes, or longer packets vanish
//!                     ╠══ inet ── server (apid, netd)
//!   beta ─── r-beta ══╝
//! ```

use std::time::Duration;

use lab::{Mesh, SOON, TENANT_ZONE, wait_for};

/// The least that IPv6 allows (RFC 8200, section 5).
const NARROW: u16 = 1280;
/// The longest echo that fits the tunnel's MTU of 1420 over IPv4, and over IPv6.
const LONGEST: [(&str, &str); 2] = [("-4", "1392"), ("-6", "1372")];
/// Enough that TCP has tried all lengths.
const BYTES: u64 = 5_000_000;
/// A black hole is noticed after ten seconds at most; TCP may have waited as long again before it tries.
const NOTICED: Duration = Duration::from_secs(60);
const DEVICES: [&str; 2] = ["alpha", "beta"];
/// Of beta's router.
const THERE: &str = "203.0.113.20";

fn two(prepare: impl Fn(&Mesh, &str)) -> Mesh {
    let mesh = Mesh::new(&DEVICES);
    for device in DEVICES {
        prepare(&mesh, device);
    }
    let _agents = mesh.enrol(DEVICES);
    for device in DEVICES {
        mesh.ready(device, SOON);
    }
    mesh.on("alpha").reaches("beta", SOON);
    mesh
}

/// Echoes of every length up to the longest come back both ways, and transfers go both ways.
fn everything_passes(mesh: &Mesh) {
    for (from, to) in [("alpha", "beta"), ("beta", "alpha")] {
        let name = format!("{to}.{TENANT_ZONE}");
        for (family, longest) in LONGEST {
            for bytes in ["56", "1150", "1200", "1252", longest] {
                let ping = ["ping", family, "-q", "-c5", "-i0.05", "-W2", "-M", "do", "-s", bytes, &name];
                mesh.on(from).ok(&ping);
            }
        }
        mesh.transfer(from, to, &mesh.interface(to)).goes_on(BYTES, SOON);
    }
}

#[test]
fn over_a_link_of_1280_bytes_everything_goes_directly() {
    let mesh = two(|mesh, device| mesh.narrow(&format!("r-{device}"), NARROW));
    wait_for("a direct path", SOON, || mesh.goes("alpha", "beta", "direct"));
    everything_passes(&mesh);
    mesh.takes("alpha", "beta", "direct");
}

#[test]
fn over_links_of_1280_bytes_to_the_relay_everything_goes() {
    let mesh = two(|mesh, device| {
        mesh.narrow(&format!("r-{device}"), NARROW);
        // Before they meet: a path that is cut under way is another story.
        if device == "alpha" {
            mesh.block("r-alpha", THERE);
        }
    });
    everything_passes(&mesh);
    mesh.takes("alpha", "beta", "relayed");
}

#[test]
fn where_long_packets_vanish_the_relay_carries_them_in_pieces_and_says_why() {
    let mesh = two(|mesh, device| mesh.swallow_longer(device, NARROW));
    everything_passes(&mesh);
    for (from, to) in [("alpha", "beta"), ("beta", "alpha")] {
        mesh.takes(from, to, "relayed");
        wait_for("the reason", SOON, || {
            mesh.path(from, to)["why_not_direct"] == "long packets do not come through"
        });
    }
}

#[test]
fn a_transfer_goes_on_when_long_packets_begin_to_vanish() {
    let mesh = two(|_, _| {});
    wait_for("a direct path", SOON, || mesh.goes("alpha", "beta", "direct"));
    let transfer = mesh.transfer("alpha", "beta", &mesh.interface("beta"));
    transfer.goes_on(BYTES, SOON);
    for device in DEVICES {
        mesh.swallow_longer(device, NARROW);
    }
    transfer.goes_on(BYTES, NOTICED);
    mesh.takes("alpha", "beta", "relayed");
    drop(transfer);
    everything_passes(&mesh);
}
