//! Who listens at a port of this machine, and which programs run, as `/proc` says (`proc(5)`). What it may not see, it
//! leaves out: the sockets of others are hidden from a process with fewer capabilities than they have.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// State of a socket that listens, in the table of TCP.
const LISTEN: &str = "0A";
/// More processes are not looked through.
const PROCESSES_MAX: usize = 20_000;

/// A socket that holds a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// `udp` or `tcp`.
    pub transport: &'static str,
    /// Where.
    pub address: IpAddr,
    /// The program's name, if that is to be seen.
    pub program: Option<String>,
}

/// Who holds a port in the network namespace of this thread.
pub fn at_port(port: u16) -> Vec<Listener> {
    let mut found = Vec::new();
    for (file, transport) in [("udp", "udp"), ("udp6", "udp"), ("tcp", "tcp"), ("tcp6", "tcp")] {
        let table = fs::read_to_string(format!("/proc/thread-self/net/{file}")).unwrap_or_default();
        for (address, inode) in parse(&table, port, transport == "tcp") {
            found.push((Listener { transport, address, program: None }, inode));
        }
    }
    let owners =
        if found.is_empty() { BTreeMap::new() } else { owners(&found.iter().map(|(_, i)| *i).collect()) };
    let named = |(listener, inode)| Listener { program: owners.get(&inode).cloned(), ..listener };
    found.into_iter().map(named).collect()
}

/// Of these programs, those that run.
pub fn running(programs: &[&str]) -> Vec<String> {
    let mut found: Vec<String> = processes()
        .filter_map(|id| fs::read_to_string(format!("/proc/{id}/comm")).ok())
        .map(|name| name.trim_end().to_owned())
        .filter(|name| programs.contains(&name.as_str()))
        .collect();
    found.sort();
    found.dedup();
    found
}

/// Programs that have a file open, by whatever name.
pub fn with_open(file: &std::path::Path) -> Vec<String> {
    use std::os::unix::fs::MetadataExt as _;
    let Ok(wanted) = fs::metadata(file).map(|m| (m.dev(), m.ino())) else { return Vec::new() };
    let has = |id: u32| {
        let open = fs::read_dir(format!("/proc/{id}/fd")).into_iter().flatten().flatten();
        open.filter_map(|fd| fs::metadata(fd.path()).ok()).any(|m| (m.dev(), m.ino()) == wanted)
    };
    let own = std::process::id();
    let mut found: Vec<String> = processes()
        .filter(|id| *id != own && has(*id))
        .filter_map(|id| fs::read_to_string(format!("/proc/{id}/comm")).ok())
        .map(|name| name.trim_end().to_owned())
        .collect();
    found.sort();
    found.dedup();
    found
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok()).take(PROCESSES_MAX)
}

/// Programs by the numbers of their sockets.
fn owners(wanted: &BTreeSet<u64>) -> BTreeMap<u64, String> {
    let mut found = BTreeMap::new();
    for id in processes() {
        let open = fs::read_dir(format!("/proc/{id}/fd")).into_iter().flatten().flatten();
        for link in open.filter_map(|fd| fs::read_link(fd.path()).ok()) {
            let text = link.to_string_lossy();
            let inode = text.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')?.parse().ok());
            if let Some(inode) = inode.filter(|inode| wanted.contains(inode))
                && let Ok(name) = fs::read_to_string(format!("/proc/{id}/comm"))
            {
                found.insert(inode, name.trim_end().to_owned());
            }
        }
    }
    found
}

/// The sockets at a port: address and number.
fn parse(table: &str, port: u16, listening_only: bool) -> Vec<(IpAddr, u64)> {
    let lines = table.lines().skip(1).filter_map(|line| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (address, at) = words.get(1)?.split_once(':')?;
        let listens = !listening_only || words.get(3) == Some(&LISTEN);
        let matches = listens && u16::from_str_radix(at, 16).ok()? == port;
        matches.then_some((parse_address(address)?, words.get(9)?.parse().ok()?))
    });
    lines.collect()
}

/// Words of 32 bits, each in the byte order of the machine.
fn parse_address(hex: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(hex.get(at * 8..at * 8 + 8)?, 16).ok()?.to_ne_bytes());
    match hex.len() {
        8 => Some(IpAddr::V4(Ipv4Addr::from(word(0)?))),
        32 => {
            let mut octets = [0; 16];
            for (at, part) in octets.chunks_exact_mut(4).enumerate() {
                part.copy_from_slice(&word(at)?);
            }
            Some(IpAddr::V6(Ipv6Addr::from(octets)).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, UdpSocket};

    use super::*;

    #[test]
    fn a_socket_of_this_process_is_found_with_its_program() {
        let own = fs::read_to_string("/proc/self/comm").unwrap().trim_end().to_owned();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let found = at_port(udp.local_addr().unwrap().port());
        let ours = found.iter().find(|l| l.transport == "udp").unwrap();
        assert_eq!(
            (ours.address, ours.program.as_deref()),
            ("127.0.0.1".parse().unwrap(), Some(own.as_str()))
        );
        let tcp = TcpListener::bind("[::1]:0").unwrap();
        let found = at_port(tcp.local_addr().unwrap().port());
        let ours = found.iter().find(|l| l.transport == "tcp").unwrap();
        assert_eq!(ours.address, "::1".parse::<IpAddr>().unwrap());
        assert!(running(&[&own, "no-such-program"]).contains(&own));
    }

    #[test]
    fn tables_of_the_kernel_are_read() {
        let table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n\
            \x20  0: 0100007F:0035 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4711 1 0\n\
            \x20  1: 0100007F:0035 0200007F:1234 01 00000000:00000000 00:00000000 00000000     0        0 4712 1 0\n\
            \x20  2: 00000000:0050 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4713 1 0\n";
        let loopback = IpAddr::V4(Ipv4Addr::from(0x0100_007F_u32.to_ne_bytes()));
        assert_eq!(parse(table, 53, true), [(loopback, 4711)]);
        assert_eq!(parse(table, 53, false), [(loopback, 4711), (loopback, 4712)]);
        assert_eq!(parse("", 53, true), []);
        assert_eq!(parse_address("zz"), None);
    }

    #[test]
    fn who_has_a_file_open_is_others() {
        let file = tempfile::NamedTempFile::new().unwrap();
        assert_eq!(with_open(file.path()), [] as [String; 0], "this process does not count");
        let mut other = std::process::Command::new("sleep");
        let mut child = other.arg("600").stdin(fs::File::open(file.path()).unwrap()).spawn().unwrap();
        let found = with_open(file.path());
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(found, ["sleep"]);
    }
}
