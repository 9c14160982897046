//! Who has a port of this machine (proc(5)). A guess for people to read: nothing is decided by it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::{fmt, fs};

/// State of a socket that listens, in the tables of TCP.
const LISTEN: &str = "0A";
/// More processes are not looked through.
const PROCESSES_MAX: usize = 20_000;

/// Another program that listens where we want to.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub enum Holder {
    /// A process that we may look at.
    Process {
        /// Its name, at most 15 bytes, as it calls itself.
        name: String,
        /// Its number.
        pid: u32,
    },
    /// A process that only root may look at.
    User {
        /// Whose process it is.
        uid: u32,
    },
    /// It was gone when we looked.
    #[default]
    Unknown,
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process { name, pid } => write!(f, "{name:?} (process {pid})"),
            Self::User { uid } => write!(f, "a process of user {uid}"),
            Self::Unknown => f.write_str("another process"),
        }
    }
}

/// A socket that has a port of this machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Held {
    /// `udp` or `tcp`.
    pub transport: &'static str,
    /// Where.
    pub address: IpAddr,
    /// Whose it is.
    pub holder: Holder,
}

impl Held {
    /// Whether nobody else can have the port at this address. What is at `::` mostly has it for IPv4 too (ipv6(7)).
    pub fn excludes(&self, address: IpAddr) -> bool {
        self.address == address
            || self.address.is_unspecified() && (self.address.is_ipv6() || address.is_ipv4())
    }
}

/// Who has this port in the network namespace of this thread, over UDP or listening over TCP.
pub fn holders(port: u16) -> Vec<Held> {
    let mut found = Vec::new();
    for (table, transport) in [("tcp", "tcp"), ("tcp6", "tcp"), ("udp", "udp"), ("udp6", "udp")] {
        let table = fs::read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default();
        for entry in table.lines().filter_map(|line| Entry::parse(line, transport == "tcp")) {
            if entry.local.port() == port {
                found.push((transport, entry));
            }
        }
    }
    let owners = owners(&found.iter().map(|(_, entry)| entry.inode).collect());
    let held = |(transport, entry): (_, Entry)| Held {
        transport,
        address: entry.local.ip().to_canonical(),
        holder: owners.get(&entry.inode).cloned().unwrap_or(Holder::User { uid: entry.uid }),
    };
    found.into_iter().map(held).collect()
}

/// Who keeps us off this address.
pub(super) fn of(address: SocketAddr) -> Holder {
    let mut all = holders(address.port()).into_iter();
    all.find(|held| held.excludes(address.ip())).map_or(Holder::Unknown, |held| held.holder)
}

/// One line of `/proc/net/tcp` and its kin.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    local: SocketAddr,
    uid: u32,
    inode: u64,
}

impl Entry {
    /// `None` for the heading, and for those that do not listen if only those are asked for.
    fn parse(line: &str, listening: bool) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let local = socket_address(fields.next()?)?;
        let state = fields.nth(1)?;
        let uid = fields.nth(3)?.parse().ok()?;
        let inode = fields.nth(1)?.parse().ok()?;
        (!listening || state == LISTEN).then_some(Self { local, uid, inode })
    }
}

/// The kernel prints addresses as words in the machine's own byte order.
fn socket_address(text: &str) -> Option<SocketAddr> {
    let (ip, port) = text.split_once(':')?;
    let word = |at: usize| u32::from_str_radix(ip.get(at..at + 8)?, 16).ok();
    let ip: IpAddr = match ip.len() {
        8 => Ipv4Addr::from(word(0)?.to_ne_bytes()).into(),
        32 => {
            let words = [word(0)?, word(8)?, word(16)?, word(24)?].map(u32::to_ne_bytes);
            Ipv6Addr::from(<[u8; 16]>::try_from(words.as_flattened()).ok()?).into()
        }
        _ => return None,
    };
    Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
}

/// Processes by the numbers of their sockets, as far as they may be looked at.
fn owners(wanted: &BTreeSet<u64>) -> BTreeMap<u64, Holder> {
    let mut found = BTreeMap::new();
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbered = processes.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok());
    for pid in numbered.take(PROCESSES_MAX) {
        if found.len() == wanted.len() {
            break;
        }
        let open = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        for link in open.filter_map(|entry| fs::read_link(entry.path()).ok()) {
            if let Some(inode) = socket_number(&link).filter(|inode| wanted.contains(inode))
                && let Ok(name) = fs::read_to_string(format!("/proc/{pid}/comm"))
            {
                found.insert(inode, Holder::Process { name: name.trim_end().into(), pid });
            }
        }
    }
    found
}

fn socket_number(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn a_socket_of_this_process_is_found() {
        let udp = UdpSocket::bind("127.0.0.1:0").expect("a free port");
        let port = udp.local_addr().expect("bound").port();
        let [held] = &*holders(port) else { panic!("{:?}", holders(port)) };
        assert_eq!((held.transport, held.address), ("udp", Ipv4Addr::LOCALHOST.into()));
        assert!(matches!(held.holder, Holder::Process { pid, .. } if pid == std::process::id()), "{held:?}");

        let listener = TcpListener::bind("[::1]:0").expect("a free port");
        let at = listener.local_addr().expect("bound");
        assert!(matches!(of(at), Holder::Process { .. }));
        assert_eq!(of(SocketAddr::new(Ipv4Addr::LOCALHOST.into(), at.port())), Holder::Unknown);
    }

    #[test]
    fn an_address_is_kept_by_itself_and_by_all() {
        let [v4, other, v6] =
            ["100.64.0.2", "100.64.0.3", "fd00::2"].map(|text| text.parse().expect("an address"));
        let held = |address: &str| Held {
            transport: "udp",
            address: address.parse().expect("an address"),
            holder: Holder::Unknown,
        };
        let excludes = |at: &str| [v4, other, v6].map(|address| held(at).excludes(address));
        assert_eq!(excludes("100.64.0.2"), [true, false, false]);
        assert_eq!(excludes("0.0.0.0"), [true, true, false]);
        assert_eq!(excludes("::"), [true, true, true]);
    }

    #[test]
    fn lines_of_proc_net_are_read() {
        let check = |line: &str, listening: bool, expect: Option<(&str, u32, u64)>| {
            let expect = expect.map(|(local, uid, inode)| Entry {
                local: local.parse().expect("an address"),
                uid,
                inode,
            });
            assert_eq!(Entry::parse(line, listening), expect, "{line}");
        };
        check(
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
            false,
            None,
        );
        check("", false, None);
        if cfg!(target_endian = "little") {
            let line = |state: &str| {
                format!(
                    "   0: 0100007F:0035 00000000:0000 {state} 00:00 00:0 00000000   101        0 4711 1 0 100"
                )
            };
            let expect = Some(("127.0.0.1:53", 101, 4711));
            check(&line("0A"), true, expect);
            check(&line("01"), true, None);
            check(&line("07"), false, expect);
            check(
                "  9: 00000000000000000000000001000000:0035 00000000000000000000000000000000:0000 0A 0:0 00:0 0 0 0 12 2",
                true,
                Some(("[::1]:53", 0, 12)),
            );
        }
    }
}
