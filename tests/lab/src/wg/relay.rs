//! A path that loses, doubles, reorders and damages: a UDP relay between two engines, with a seed. Knows nothing of
//! WireGuard; the end that it forwards to sees the relay's address.

use std::collections::BTreeMap;
use std::net::{SocketAddr, SocketAddrV4, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::RcvBufForce;

use super::pair::Side;
use super::seeded::Seeded;

/// How often it looks whether it shall end.
const TICK: Duration = Duration::from_millis(20);
/// A datagram that is held back comes after at most so many others: inside every engine's window.
const HELD_BACK_MAX: u64 = 64;
/// What waits in the sockets while the relay does not run.
const BUFFER_BYTES: usize = 8 << 20;

/// How often of a thousand datagrams a fault happens, in each direction.
#[derive(Debug, Clone, Copy, Default)]
pub struct Faults {
    /// Never arrives.
    pub lost: u32,
    /// Arrives twice.
    pub doubled: u32,
    /// Arrives after later ones.
    pub late: u32,
    /// Arrives with one bit changed.
    pub damaged: u32,
}

/// What a relay did to the datagrams that it got, both directions together.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Relayed {
    /// Datagrams that came in.
    pub came: u64,
    /// Not passed on.
    pub lost: u64,
    /// Passed on twice.
    pub doubled: u64,
    /// Passed on after later ones.
    pub late: u64,
    /// Passed on with one bit changed.
    pub damaged: u64,
}

/// A running relay.
#[derive(Debug)]
pub struct Relay {
    address: SocketAddrV4,
    ends: Arc<AtomicBool>,
    ways: Vec<JoinHandle<Relayed>>,
}

impl Relay {
    /// Starts one beside `near`, which sends to it; it forwards to the target and back.
    pub fn start(near: &Side, target: SocketAddrV4, faults: Faults, seed: u64) -> Self {
        let outer = near.outer();
        let bind = move || near_and_far(outer, target);
        let (near_socket, far) = near.within(bind);
        let SocketAddr::V4(address) = near_socket.local_addr().expect("is bound") else {
            unreachable!("an IPv4 socket")
        };
        let ends = Arc::new(AtomicBool::new(false));
        let (told, told_too) = (Arc::clone(&ends), Arc::clone(&ends));
        let (near_too, far_too) =
            (near_socket.try_clone().expect("a socket"), far.try_clone().expect("a socket"));
        let engine: Arc<std::sync::Mutex<Option<SocketAddr>>> = Arc::default();
        let seen = Arc::clone(&engine);
        let out = near.spawn(move || {
            let send = |datagram: &[u8]| drop(far.send(datagram));
            carry(&near_socket, faults, Seeded::new(seed), &told, send, |from| {
                *seen.lock().expect("no panic") = Some(from);
            })
        });
        let back = near.spawn(move || {
            let send = |datagram: &[u8]| {
                if let Some(to) = *engine.lock().expect("no panic") {
                    drop(near_too.send_to(datagram, to));
                }
            };
            carry(&far_too, faults, Seeded::new(!seed), &told_too, send, |_| ())
        });
        Self { address, ends, ways: vec![out, back] }
    }

    /// Where the near engine sends to.
    pub const fn address(&self) -> SocketAddrV4 {
        self.address
    }

    /// Ends it and tells what it did, on the way out and on the way back.
    pub fn finish(mut self) -> [Relayed; 2] {
        self.ends.store(true, Ordering::Relaxed);
        let mut done = self.ways.drain(..).map(|way| way.join().expect("no panic"));
        [done.next().expect("the way out"), done.next().expect("the way back")]
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}

fn near_and_far(outer: std::net::Ipv4Addr, target: SocketAddrV4) -> (UdpSocket, UdpSocket) {
    let bound = || {
        let socket = UdpSocket::bind((outer, 0)).expect("the address is there");
        setsockopt(&socket, RcvBufForce, &BUFFER_BYTES).expect("root may");
        socket.set_read_timeout(Some(TICK)).expect("above zero");
        socket
    };
    let (near, far) = (bound(), bound());
    far.connect(target).expect("a route");
    (near, far)
}

fn carry(
    from: &UdpSocket,
    faults: Faults,
    mut chance: Seeded,
    ends: &AtomicBool,
    mut send: impl FnMut(&[u8]),
    mut seen: impl FnMut(SocketAddr),
) -> Relayed {
    let mut done = Relayed::default();
    let mut held: BTreeMap<u64, Vec<Vec<u8>>> = BTreeMap::new();
    let mut buffer = vec![0; 1 << 16];
    while !ends.load(Ordering::Relaxed) {
        let Ok((length, source)) = from.recv_from(&mut buffer) else {
            // Nothing comes any more for what was held back to be later than.
            std::mem::take(&mut held).into_values().flatten().for_each(|datagram| send(&datagram));
            continue;
        };
        seen(source);
        done.came += 1;
        let datagram = &mut buffer[..length];
        if chance.of_thousand(faults.lost) {
            done.lost += 1;
        } else if chance.of_thousand(faults.late) {
            done.late += 1;
            held.entry(done.came + 1 + chance.below(HELD_BACK_MAX)).or_default().push(datagram.to_vec());
        } else {
            if chance.of_thousand(faults.damaged) {
                done.damaged += 1;
                let bit = chance.below(8 * length.max(1) as u64);
                let at = usize::try_from(bit / 8).expect("inside a datagram");
                datagram[at] ^= 1 << (bit % 8);
            }
            send(datagram);
            if chance.of_thousand(faults.doubled) {
                done.doubled += 1;
                send(datagram);
            }
        }
        while let Some(due) = held.first_entry().filter(|due| *due.key() <= done.came) {
            due.remove().into_iter().for_each(|datagram| send(&datagram));
        }
    }
    done
}
