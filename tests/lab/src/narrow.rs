//! Links of a [`World`] that take no packet of full size: those that say so, and those that do not.

use std::rc::Rc;
use std::time::Duration;

use crate::node::Node;
use crate::process::Process;
use crate::wait::wait_for;
use crate::world::World;

/// Where a [`Transfer`] arrives.
const PORT: &str = "5001";

impl World {
    /// From now on a router (`r-alpha`) sends and takes so many bytes at once on the internet's side. It cuts what may be
    /// cut, and says what was too long otherwise (RFC 1191, RFC 4443 section 3.2).
    pub fn narrow(&self, router: &str, mtu: u16) {
        self.beside(router).ok(&["ip", "link", "set", "wan", "mtu", &mtu.to_string()]);
    }

    /// From now on the router of a device (`r-alpha` of `alpha`) drops what is longer without a word to anybody, also what
    /// comes in fragments (RFC 2923, section 2.1).
    pub fn swallow_longer(&self, device: &str, bytes: u16) {
        // Between namespaces a burst travels as one packet, which no wire carries: it is cut before.
        for (node, link) in [(self.on(device), "eth0"), (self.beside("inet"), &*format!("p-r-{device}"))] {
            node.ok(&["ip", "link", "set", link, "gso_max_segs", "1"]);
        }
        // Connection tracking joins fragments before this chain: a datagram is as long as it was sent.
        let hook = "type filter hook forward priority 10;";
        let chain = format!("chain through {{\n{hook}\nmeta length > {bytes} drop\n}}");
        self.beside(&format!("r-{device}")).ok(&["nft", &format!("table ip hole {{\n{chain}\n}}")]);
    }

    /// Begins to send zeros over TCP until it is dropped.
    ///
    /// # Panics
    /// If nobody listens soon.
    pub fn transfer(&self, from: &str, to: &str, interface: &str) -> Transfer {
        let name = |what: &str| format!("{what}-{from}-{to}");
        let sink = ["socat", "-u", &format!("TCP4-LISTEN:{PORT},reuseaddr"), "OPEN:/dev/null"];
        let sink = self.plain(&name("sink"), to, &sink);
        // The listener may come a moment after.
        let there = format!("TCP4:{to}:{PORT},retry=50,interval=0.1");
        let source = self.plain(&name("source"), from, &["socat", "-u", "OPEN:/dev/zero", &there]);
        Transfer { ends: [source, sink], to: self.on(to), interface: interface.into() }
    }
}

/// A TCP connection on which something is sent all the time.
#[derive(Debug)]
pub struct Transfer {
    ends: [Rc<Process>; 2],
    to: Node,
    interface: String,
}

impl Transfer {
    /// Waits until so many bytes more have come out of the tunnel, on the one connection.
    ///
    /// # Panics
    /// If they do not before the deadline, or the connection ends.
    pub fn goes_on(&self, bytes: u64, deadline: Duration) {
        let before = self.received();
        wait_for(&format!("{bytes} bytes more"), deadline, || self.received() >= before + bytes);
        assert!(self.ends.iter().all(|end| end.ended().is_none()), "the connection ended");
    }

    fn received(&self) -> u64 {
        let file = format!("/sys/class/net/{}/statistics/rx_bytes", self.interface);
        self.to.ok(&["cat", &file]).trim().parse().expect("Linux counts bytes")
    }
}

impl Drop for Transfer {
    fn drop(&mut self) {
        self.ends.iter().for_each(|end| end.kill());
    }
}
