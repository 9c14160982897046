//! Whether the kernel drops answers to what carries the mesh. With strict reverse path filtering (`rp_filter` 1, RFC 3704; IPv4 only) it
//! takes a packet by that interface alone by which it would send to whom the packet is from. What carries the mesh is marked and
//! passes the tunnel by; the answers bear no mark, and are expected by the tunnel where more than the mesh is routed into it.

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::path::Path;

use model::api::local::Finding;
use nix::ifaddrs::getifaddrs;
use socket2::SockRef;

const SWITCHES: &str = "/proc/sys/net/ipv4/conf";

/// A finding for each interface by which answers of these servers would come and be dropped. `own` are the mesh's addresses here.
pub(crate) fn dropped(servers: &[SocketAddr], own: &[IpAddr]) -> Vec<Finding> {
    let mut by_interface = BTreeMap::new();
    for server in servers.iter().filter(|server| server.is_ipv4()) {
        let (Some(out), Some(back)) = (way(*server, Some(host::MARK)), way(*server, None)) else {
            continue;
        };
        let Some(interface) = interface_of(out) else { continue };
        if out != back && own.contains(&back) && is_strict(Path::new(SWITCHES), &interface) {
            by_interface.entry(interface).or_insert(server.ip());
        }
    }
    by_interface.into_iter().map(|(interface, server)| finding(&interface, server)).collect()
}

fn finding(interface: &str, server: IpAddr) -> Finding {
    let what = format!(
        "answers from {server} are routed over the tunnel, so {interface} drops them: strict reverse path filtering (rp_filter = 1)"
    );
    // A dot of its own would be read as the next part (sysctl(8)).
    let written = interface.replace('.', "/");
    let remedy = format!("sysctl -w net.ipv4.conf.{written}.rp_filter=2; keep it in /etc/sysctl.d");
    Finding::bad("rp_filter", what, remedy)
}

/// The address from which packets of a socket leave to a server; none is sent.
fn way(server: SocketAddr, mark: Option<u32>) -> Option<IpAddr> {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).ok()?;
    if let Some(mark) = mark {
        SockRef::from(&socket).set_mark(mark).ok()?;
    }
    socket.connect(server).ok()?;
    Some(socket.local_addr().ok()?.ip())
}

fn interface_of(address: IpAddr) -> Option<String> {
    let IpAddr::V4(address) = address else { return None };
    let has = |found: &nix::ifaddrs::InterfaceAddress| {
        found.address.as_ref().and_then(|at| at.as_sockaddr_in()).is_some_and(|at| at.ip() == address)
    };
    getifaddrs().ok()?.find(has).map(|found| without_label(&found.interface_name).to_owned())
}

/// An address of IPv4 may have a label in place of its interface's name: that with a colon and more behind it (ip-address(8)).
fn without_label(name: &str) -> &str {
    name.split_once(':').map_or(name, |(interface, _)| interface)
}

/// The stricter of two switches counts, and 2, which is loose, is the higher.
fn is_strict(switches: &Path, interface: &str) -> bool {
    let read = |name: &str| {
        let text = std::fs::read_to_string(switches.join(name).join("rp_filter")).unwrap_or_default();
        text.trim().parse::<u8>().unwrap_or_default()
    };
    read("all").max(read(interface)) == 1
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_higher_of_both_switches_says_whether_it_is_strict() {
        let directory = tempfile::tempdir().expect("a directory");
        for (all, own, expect) in
            [("0", "0", false), ("1", "0", true), ("0", "1", true), ("1", "2", false), ("2", "1", false)]
        {
            for (name, value) in [("all", all), ("eth0", own)] {
                std::fs::create_dir_all(directory.path().join(name)).expect("made");
                std::fs::write(directory.path().join(name).join("rp_filter"), format!("{value}\n"))
                    .expect("written");
            }
            assert_eq!(is_strict(directory.path(), "eth0"), expect, "all {all}, own {own}");
        }
        assert!(!is_strict(&directory.path().join("nothing"), "eth0"), "a kernel without");
    }

    #[test]
    fn the_interface_is_named_as_the_kernel_and_sysctl_do() {
        assert_eq!(["eth0", "eth0:1", "eth0.10:web"].map(without_label), ["eth0", "eth0", "eth0.10"]);
        let remedy = |interface| finding(interface, Ipv4Addr::LOCALHOST.into()).remedy;
        assert!(remedy("eth0").starts_with("sysctl -w net.ipv4.conf.eth0.rp_filter=2;"));
        assert!(remedy("eth0.10").starts_with("sysctl -w net.ipv4.conf.eth0/10.rp_filter=2;"));
    }

    #[test]
    fn a_server_that_is_reached_past_the_tunnel_both_ways_is_well() {
        let server: SocketAddr = (Ipv4Addr::LOCALHOST, 9).into();
        let back = way(server, None);
        assert_eq!(back, Some(Ipv4Addr::LOCALHOST.into()));
        assert_eq!(interface_of(Ipv4Addr::LOCALHOST.into()).as_deref(), Some("lo"));
        assert_eq!(dropped(&[server], &["100.64.0.2".parse().expect("an address")]), []);
    }
}
