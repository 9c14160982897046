//! Answers STUN at two ports, so that devices learn what the NAT before them does. Bounds who is answered how often; knows
//! no device.
//!
//! An answer leaves from the address that was asked, which on a machine with several is not always the one that the kernel
//! would choose.

use std::hash::{BuildHasher as _, RandomState};
use std::io::{self, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use prometheus_client::metrics::counter::Counter;
use quinn_udp::{RecvMeta, Transmit, UdpSocketState};
use tokio::io::Interest;
use tokio::net::UdpSocket;

use crate::config::StunListen;
use crate::metrics::Metrics;

/// Answers in a second to the addresses of one bucket, an IPv4 address or an IPv6 network of 64 bits each: a thousand
/// devices behind one NAT that look for paths at once ask as often.
const ANSWERS_PER_SECOND: u32 = 200;
/// Answers in a second to everybody: a tenth of what one core sends, and 10 Mbit/s towards whoever is named by forged
/// requests.
const ANSWERS_PER_SECOND_ALL: u32 = 20_000;
/// Buckets of addresses. Nobody outside knows which addresses share one.
const BUCKETS: usize = 4096;
/// Datagrams read at once, each as long as the kernel joins them.
const BATCH: usize = 4;
const DATAGRAMS_BYTES_MAX: usize = 65_535;
/// After a socket failed; the next datagram may be a good one.
const RETRY_INTERVAL: Duration = Duration::from_millis(100);
/// How often a free port is chosen anew because the next one is taken.
const PORT_ATTEMPTS: usize = 16;

/// The ports at which STUN is answered: two, or none.
pub struct Doors(Option<Arc<[Place; 2]>>);

struct Place {
    socket: UdpSocket,
    state: UdpSocketState,
    port: u16,
}

/// One of the ports, with its counters.
pub struct Door {
    places: Arc<[Place; 2]>,
    /// Which of them.
    which: usize,
    bounds: Bounds,
    answered: Counter,
    ignored: Counter,
    limited: Counter,
    lost: Counter,
}

impl Doors {
    /// Binds the ports. A port that is taken takes no server down: there are no answers then, and the log says so.
    pub fn open(listen: StunListen) -> Self {
        let StunListen::At(address) = listen else { return Self(None) };
        match bind(address) {
            Ok(places) => Self(Some(Arc::new(places))),
            Err(error) => {
                tracing::warn!(%address, %error, "STUN is not answered: devices behind NATs find fewer direct paths; see --stun-listen");
                Self(None)
            }
        }
    }

    /// The ports.
    pub fn ports(&self) -> Vec<u16> {
        self.0.iter().flat_map(|places| places.iter().map(|place| place.port)).collect()
    }

    /// What is to run.
    pub fn doors(&self, metrics: &Metrics) -> Vec<Door> {
        let door = |places: &Arc<[Place; 2]>, which| Door {
            places: Arc::clone(places),
            which,
            bounds: Bounds::new(),
            answered: metrics.stun("answered"),
            ignored: metrics.stun("ignored"),
            limited: metrics.stun("limited"),
            lost: metrics.stun("lost"),
        };
        self.0.iter().flat_map(|places| [door(places, 0), door(places, 1)]).collect()
    }
}

impl Door {
    /// Answers for as long as it is polled.
    pub async fn answer(mut self) {
        let mut buffers = vec![[0; DATAGRAMS_BYTES_MAX]; BATCH];
        let mut came = [RecvMeta::default(); BATCH];
        loop {
            let place = &self.places[self.which];
            let read = place.socket.async_io(Interest::READABLE, || {
                let mut slices = buffers.each_mut_slice();
                place.state.recv((&place.socket).into(), &mut slices, &mut came)
            });
            match read.await {
                Ok(count) => {
                    for (buffer, meta) in buffers.iter().zip(&came).take(count) {
                        let datagrams = buffer.get(..meta.len).unwrap_or_default();
                        datagrams.chunks(meta.stride.max(1)).for_each(|one| self.take(one, meta));
                    }
                }
                Err(error) => {
                    tracing::debug!(%error, "no request for STUN");
                    tokio::time::sleep(RETRY_INTERVAL).await;
                }
            }
        }
    }

    fn take(&mut self, request: &[u8], meta: &RecvMeta) {
        let Some(reply) = stun::reply(request, meta.addr) else {
            self.ignored.inc();
            return;
        };
        if !self.bounds.admit(meta.addr.ip(), Instant::now()) {
            self.limited.inc();
            return;
        }
        let place = &self.places[if reply.from_other_port { 1 - self.which } else { self.which }];
        let transmit = Transmit {
            // Never another address: whoever asks is told nothing there that it could not be told here.
            destination: SocketAddr::new(meta.addr.ip(), reply.to_port.unwrap_or(meta.addr.port())),
            ecn: None,
            contents: &reply.bytes,
            segment_size: None,
            src_ip: meta.dst_ip,
        };
        let sent = place
            .socket
            .try_io(Interest::WRITABLE, || place.state.try_send((&place.socket).into(), &transmit));
        // Who is not answered asks again.
        if sent.is_ok() {
            self.answered.inc()
        } else {
            self.lost.inc()
        };
    }
}

/// `IoSliceMut`s of all buffers.
trait EachMutSlice {
    fn each_mut_slice(&mut self) -> [IoSliceMut<'_>; BATCH];
}

impl EachMutSlice for Vec<[u8; DATAGRAMS_BYTES_MAX]> {
    fn each_mut_slice(&mut self) -> [IoSliceMut<'_>; BATCH] {
        let mut buffers = self.iter_mut();
        std::array::from_fn(|_| IoSliceMut::new(buffers.next().expect("there are as many")))
    }
}

/// How many were answered in this second.
struct Bounds {
    since: Instant,
    all: u32,
    buckets: Box<[u32]>,
    hasher: RandomState,
}

impl Bounds {
    fn new() -> Self {
        let buckets = vec![0; BUCKETS].into();
        Self { since: Instant::now(), all: 0, buckets, hasher: RandomState::new() }
    }

    fn admit(&mut self, from: IpAddr, now: Instant) -> bool {
        if now.saturating_duration_since(self.since) >= Duration::from_secs(1) {
            (self.since, self.all) = (now, 0);
            self.buckets.fill(0);
        }
        let network = match from.to_canonical() {
            IpAddr::V4(ip) => (true, u64::from(u32::from(ip))),
            IpAddr::V6(ip) => (false, u64::try_from(u128::from(ip) >> 64).expect("64 bits are left")),
        };
        let bucket = self.hasher.hash_one(network) % BUCKETS as u64;
        let bucket = &mut self.buckets[usize::try_from(bucket).expect("a small number")];
        if *bucket >= ANSWERS_PER_SECOND || self.all >= ANSWERS_PER_SECOND_ALL {
            return false;
        }
        *bucket += 1;
        self.all += 1;
        true
    }
}

fn bind(address: SocketAddr) -> io::Result<[Place; 2]> {
    let attempts = if address.port() == 0 { PORT_ATTEMPTS } else { 1 };
    let mut last = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..attempts {
        let first = place(address)?;
        let next = SocketAddr::new(address.ip(), first.port.saturating_add(1));
        match place(next) {
            Ok(second) => return Ok([first, second]),
            Err(error) => last = error,
        }
    }
    Err(last)
}

fn place(address: SocketAddr) -> io::Result<Place> {
    let socket = UdpSocket::from_std(link::listening::udp(address)?)?;
    let (port, state) = (socket.local_addr()?.port(), UdpSocketState::new((&socket).into())?);
    Ok(Place { socket, state, port })
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    const PATIENCE: Duration = Duration::from_secs(10);

    async fn ask(client: &UdpSocket, to: SocketAddr, request: &[u8]) -> (SocketAddr, SocketAddr) {
        client.send_to(request, to).await.expect("sent");
        let mut answer = [0; stun::REPLY_BYTES_MAX];
        let came = tokio::time::timeout(PATIENCE, client.recv_from(&mut answer)).await.expect("an answer");
        let (bytes, from) = came.expect("received");
        let (_, seen) = stun::response(&answer[..bytes]).expect("a success");
        (from, seen)
    }

    #[tokio::test]
    async fn both_ports_answer_from_the_address_that_was_asked_and_for_each_other() {
        for listen in ["127.0.0.1:0", "[::]:0"] {
            let metrics = Metrics::new(std::path::Path::new("/"));
            let doors = Doors::open(StunListen::At(listen.parse().expect("an address")));
            let [first, second] = doors.ports()[..] else { panic!("two ports at {listen}") };
            for door in doors.doors(&metrics) {
                tokio::spawn(door.answer());
            }
            let client = UdpSocket::bind("127.0.0.1:0").await.expect("a port");
            let own = client.local_addr().expect("bound");
            let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
            for (asked, other) in [(first, second), (second, first)] {
                assert_eq!(ask(&client, at(asked), &stun::request(&[7; 12])).await, (at(asked), own));
                let request = stun::request_from_other_port(&[8; 12]);
                assert_eq!(ask(&client, at(asked), &request).await, (at(other), own));
            }
            client.send_to(b"no STUN", at(first)).await.expect("sent");
            ask(&client, at(first), &stun::request(&[9; 12])).await;
            let text = metrics.text();
            for line in ["answered\"} 5", "ignored\"} 1", "limited\"} 0", "lost\"} 0"] {
                assert!(text.contains(line), "{line} is missing in\n{text}");
            }
        }
    }

    #[test]
    fn who_asks_too_often_waits_and_others_do_not() {
        let (mut bounds, now) = (Bounds::new(), Instant::now());
        let mut answered = |from: &str, after: u64| {
            let now = now + Duration::from_millis(after);
            (0..300).filter(|_| bounds.admit(from.parse().expect("an address"), now)).count()
        };
        let most = ANSWERS_PER_SECOND as usize;
        assert_eq!(answered("192.0.2.1", 0), most);
        assert_eq!(answered("::ffff:192.0.2.1", 10), 0, "the same address");
        assert_eq!(answered("2001:db8::1", 10), most);
        assert_eq!(answered("2001:db8::2", 10), 0, "the same network");
        assert_eq!(answered("192.0.2.1", 1100), most, "a second later");
        let all: usize = (0..=255).map(|last| answered(&format!("198.51.100.{last}"), 1200)).sum();
        assert!(all < ANSWERS_PER_SECOND_ALL as usize && all > ANSWERS_PER_SECOND_ALL as usize / 2, "{all}");
    }

    #[tokio::test]
    async fn a_port_that_is_taken_is_no_reason_not_to_serve() {
        let taken = std::net::UdpSocket::bind("127.0.0.1:0").expect("a port");
        let address = taken.local_addr().expect("bound");
        assert_eq!(Doors::open(StunListen::At(address)).ports(), [] as [u16; 0]);
        assert_eq!(Doors::open(StunListen::Off).ports(), [] as [u16; 0]);
    }
}
