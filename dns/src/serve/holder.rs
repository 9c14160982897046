//! Who has a port of this machine (proc(5)). A guess for people to read: nothing is decided by it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::{fmt, fs};

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

/// Who listens on this address, or on all, over UDP or TCP.
pub(super) fn of(address: SocketAddr) -> Holder {
    let tables = ["tcp", "tcp6", "udp", "udp6"].map(|name| fs::read_to_string(format!("/proc/net/{name}")));
    let mut entries = tables.iter().flatten().flat_map(|table| table.lines()).filter_map(Entry::parse);
    let Some(entry) = entries.find(|entry| entry.excludes(address)) else { return Holder::Unknown };
    process_with(entry.inode).unwrap_or(Holder::User { uid: entry.uid })
}

/// One line of `/proc/net/tcp` and its kin.
#[derive(Debug, PartialEq, Eq)]
struct Entry {
    local: SocketAddr,
    uid: u32,
    inode: u64,
}

impl Entry {
    /// A socket without a peer: one that listens. `None` for connected ones and for the heading.
    fn parse(line: &str) -> Option<Self> {
        let mut fields = line.split_ascii_whitespace().skip(1);
        let local = socket_address(fields.next()?)?;
        let remote = socket_address(fields.next()?)?;
        let uid = fields.nth(4)?.parse().ok()?;
        let inode = fields.nth(1)?.parse().ok()?;
        (remote.port() == 0).then_some(Self { local, uid, inode })
    }

    fn excludes(&self, address: SocketAddr) -> bool {
        let ip = self.local.ip().to_canonical();
        self.local.port() == address.port() && (ip == address.ip() || ip.is_unspecified())
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

fn process_with(inode: u64) -> Option<Holder> {
    let socket = format!("socket:[{inode}]");
    let processes = fs::read_dir("/proc").ok()?.flatten();
    let numbered =
        processes.filter_map(|entry| Some((entry.file_name().to_str()?.parse::<u32>().ok()?, entry.path())));
    let (pid, path) = numbered.into_iter().find(|(_, path)| holds(path, &socket))?;
    let name = fs::read_to_string(path.join("comm")).ok()?;
    Some(Holder::Process { name: name.trim_end().into(), pid })
}

fn holds(process: &Path, socket: &str) -> bool {
    let Ok(descriptors) = fs::read_dir(process.join("fd")) else { return false };
    descriptors
        .flatten()
        .any(|entry| fs::read_link(entry.path()).is_ok_and(|target| target.as_os_str() == socket))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_proc_net_are_read() {
        let check = |line: &str, expect: Option<(&str, u32, u64)>| {
            let expect = expect.map(|(local, uid, inode)| Entry {
                local: local.parse().expect("an address"),
                uid,
                inode,
            });
            assert_eq!(Entry::parse(line), expect, "{line}");
        };
        check(
            "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
            None,
        );
        check("", None);
        if cfg!(target_endian = "little") {
            check(
                "   0: 0100007F:0035 00000000:0000 0A 00000000:00000000 00:00000000 00000000   101        0 4711 1 0 100",
                Some(("127.0.0.1:53", 101, 4711)),
            );
            check(
                "   0: 0100007F:0035 0100007F:A000 01 00000000:00000000 00:00000000 00000000   101        0 4711 1",
                None,
            );
            check(
                "  9: 00000000000000000000000001000000:0035 00000000000000000000000000000000:0000 07 0:0 00:0 0 0 0 12 2",
                Some(("[::1]:53", 0, 12)),
            );
        }
    }
}
