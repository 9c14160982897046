//! Many WireGuard peers in this process, each on a socket of its own: boringtun's noise and one ping each. They stand
//! for devices where a process each would be too many.

use std::net::{Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use boringtun::noise::{Tunn, TunnResult};

use super::handshakes::{numbered_private, numbered_public};
use super::pair::Side;

const TICK: Duration = Duration::from_millis(2);
/// Timers of boringtun count in quarters of a second.
const TIMERS_EVERY: Duration = Duration::from_millis(100);
const HEADERS_BYTES: usize = 28;

/// Peers that are known to the engine of `hub`.
pub struct Crowd {
    members: Vec<Member>,
    target: Ipv4Addr,
}

struct Member {
    tunn: Tunn,
    socket: UdpSocket,
    address: Ipv4Addr,
    answered: bool,
}

impl std::fmt::Debug for Crowd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Crowd({})", self.members.len())
    }
}

impl Crowd {
    /// So many peers, at most 200, on the side of `from`, made known to the hub with one `wg addconf`. Where the hub
    /// is asked to begin, it knows where each of them is and keeps the session alive.
    pub fn new(from: &Side, hub: &Side, count: u8, hub_begins: bool) -> Self {
        let public: [u8; 32] = {
            let bytes = data_encoding::BASE64.decode(hub.public().as_bytes()).expect("a key");
            bytes.try_into().expect("32 bytes")
        };
        let (outer, endpoint) = (from.outer(), hub.endpoint());
        let sockets: Vec<UdpSocket> = from.within(move || {
            let socket = |_| {
                let socket = UdpSocket::bind((outer, 0)).expect("a port");
                socket.connect(endpoint).expect("a route");
                socket.set_nonblocking(true).expect("can");
                socket
            };
            (0..count).map(socket).collect()
        });
        let mut config = String::new();
        let mut members = Vec::new();
        for (number, socket) in (1..=count).zip(sockets) {
            let (index, address) = (u32::from(number), Ipv4Addr::new(10, 77, 1, number));
            let port = socket.local_addr().expect("is bound").port();
            config += &format!("[Peer]\nPublicKey = {}\nAllowedIPs = {address}/32\n", numbered_public(index));
            if hub_begins {
                config += &format!("Endpoint = {outer}:{port}\nPersistentKeepalive = 25\n");
            }
            let tunn = Tunn::new(numbered_private(index).into(), public.into(), None, None, index, None);
            members.push(Member { tunn, socket, address, answered: false });
        }
        let directory = tempfile::tempdir().expect("a folder");
        let path = directory.path().join("crowd.conf");
        std::fs::write(&path, config).expect("is written");
        hub.ip(&format!("route replace 10.77.1.0/24 dev {}", hub.interface()));
        hub.wg("addconf", &[path.to_str().expect("text")]);
        Self { members, target: hub.inner() }
    }

    /// Every member pings the hub through its session, which it begins if `begins`, until each has its answer. Gives
    /// the number of those that got one in time.
    pub fn all_ping(&mut self, begins: bool, deadline: Duration) -> usize {
        let began = Instant::now();
        let mut timers = began;
        if begins {
            self.members.iter_mut().for_each(|member| member.ping(self.target));
        }
        while began.elapsed() < deadline && self.members.iter().any(|member| !member.answered) {
            let tick = timers.elapsed() > TIMERS_EVERY;
            for member in &mut self.members {
                member.take_what_came(self.target);
                if tick {
                    member.tick();
                }
            }
            if tick {
                timers = Instant::now();
            }
            let _ = nix::poll::poll(&mut [], nix::poll::PollTimeout::try_from(TICK).expect("short"));
        }
        self.members.iter().filter(|member| member.answered).count()
    }
}

impl Member {
    fn ping(&mut self, target: Ipv4Addr) {
        let mut buffer = [0; 512];
        if let TunnResult::WriteToNetwork(datagram) =
            self.tunn.encapsulate(&echo_request(self.address, target), &mut buffer)
        {
            let _ = self.socket.send(datagram);
        }
    }

    fn tick(&mut self) {
        let mut buffer = [0; 512];
        if let TunnResult::WriteToNetwork(datagram) = self.tunn.update_timers(&mut buffer) {
            let _ = self.socket.send(datagram);
        }
    }

    fn take_what_came(&mut self, target: Ipv4Addr) {
        let (mut datagram, mut buffer) = ([0; 2048], [0; 2048]);
        while let Ok(length) = self.socket.recv(&mut datagram) {
            let was_initiation = datagram[0] == 1;
            let mut input = &datagram[..length];
            loop {
                match self.tunn.decapsulate(None, input, &mut buffer) {
                    TunnResult::WriteToNetwork(out) => {
                        let _ = self.socket.send(out);
                        // What waited for the session comes out next.
                        input = &[];
                    }
                    TunnResult::WriteToTunnelV4(packet, from) => {
                        // An echo reply (RFC 792) from the hub.
                        self.answered |= from == target && packet.get(20) == Some(&0);
                        break;
                    }
                    _ => break,
                }
            }
            if was_initiation || (datagram[0] == 4 && !self.answered) {
                self.ping(target);
            }
        }
    }
}

/// IPv4 header and echo request.
fn echo_request(from: Ipv4Addr, to: Ipv4Addr) -> [u8; HEADERS_BYTES] {
    let mut packet = [0; HEADERS_BYTES];
    packet[0] = 0x45;
    packet[3] = HEADERS_BYTES as u8;
    packet[8] = 64;
    packet[9] = 1;
    packet[12..16].copy_from_slice(&from.octets());
    packet[16..20].copy_from_slice(&to.octets());
    let header = checksum(&packet[..20]);
    packet[10..12].copy_from_slice(&header.to_be_bytes());
    packet[20] = 8;
    let message = checksum(&packet[20..]);
    packet[22..24].copy_from_slice(&message.to_be_bytes());
    packet
}

/// RFC 1071, over a whole number of words.
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes.chunks_exact(2).map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])));
    let sum: u32 = words.sum();
    !u16::try_from((sum & 0xffff) + (sum >> 16)).expect("few words")
}
