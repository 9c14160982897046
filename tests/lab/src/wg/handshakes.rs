//! Handshake initiations against an engine: valid ones from many keys, which are counted when they are answered, and
//! bogus ones that shall cost it little. Written from the WireGuard paper, section 5.4; the noise is boringtun's.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddrV4, UdpSocket};
use std::os::fd::AsFd as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use blake2::digest::consts::U16;
use blake2::digest::{Digest as _, Mac};
use blake2::{Blake2s256, Blake2sMac};
use boringtun::noise::{Tunn, TunnResult};
use boringtun::x25519::{PublicKey, StaticSecret};
use chacha20poly1305::XChaCha20Poly1305;
use chacha20poly1305::aead::{Aead as _, KeyInit as _, Payload};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::pace::Pace;
use super::pair::Side;
use super::seeded::Seeded;

const INITIATION_BYTES: usize = 148;
const RESPONSE_BYTES: usize = 92;
const COOKIE_REPLY_BYTES: usize = 64;
const MAC1_AT: usize = 116;
const MAC2_AT: usize = 132;
const TYPE_RESPONSE: u8 = 2;
const TYPE_COOKIE_REPLY: u8 = 3;

/// Engines bound the handshakes of one address under load (20 a second in the kernel), so they come from many.
pub const SOURCES: u8 = 250;
/// An answer that takes longer counts as none: it is far above a round trip of microseconds.
const PATIENCE: Duration = Duration::from_millis(500);

/// The private key of a number.
pub fn numbered_private(number: u32) -> [u8; 32] {
    let mut key = [0; 32];
    Seeded::new(0x5eed_0000_0000 + u64::from(number)).fill(&mut key);
    key
}

/// The public key of [`numbered_private`], as `wg` prints it.
pub fn numbered_public(number: u32) -> String {
    let public = PublicKey::from(&StaticSecret::from(numbered_private(number)));
    data_encoding::BASE64.encode(public.as_bytes())
}

fn key_of(text: &str) -> [u8; 32] {
    let bytes = data_encoding::BASE64.decode(text.as_bytes()).expect("a key");
    bytes.try_into().expect("32 bytes")
}

/// Sockets of many addresses that all reach the target; the addresses are made for it.
fn sources(from: &Side, to: &Side) -> Vec<UdpSocket> {
    let (gateway, target) = (from.outer(), to.endpoint());
    from.run(&["ip", "route", "replace", "local", "10.201.0.0/24", "dev", "lo"]);
    to.run(&["ip", "route", "replace", "10.201.0.0/24", "via", &gateway.to_string()]);
    from.within(move || {
        let source = |number| {
            let socket = UdpSocket::bind((Ipv4Addr::new(10, 201, 0, number), 0)).expect("a local address");
            socket.connect(target).expect("a route");
            socket.set_nonblocking(true).expect("can");
            socket
        };
        (1..=SOURCES).map(source).collect()
    })
}

/// Valid initiations, made beforehand so that only the engine's work is timed.
#[derive(Debug)]
pub struct Initiator {
    sources: Vec<Source>,
    mac_key: [u8; 32],
    cookie_key: [u8; 32],
}

#[derive(Debug)]
struct Source {
    socket: UdpSocket,
    waiting: VecDeque<Vec<u8>>,
    current: Option<(Vec<u8>, Instant)>,
    cookie: Option<[u8; 16]>,
}

/// What came of the initiations.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Answered {
    /// Responses that answer an initiation of ours.
    pub responses: u32,
    /// Cookie replies that could be opened.
    pub cookies: u32,
    /// Initiations that nobody answered in time.
    pub unanswered: u32,
    /// From the first initiation to the last answer.
    pub took: Duration,
}

impl Initiator {
    /// One initiation of each key of [`numbered_private`] below the number.
    pub fn new(from: &Side, to: &Side, keys: u32) -> Self {
        let public = key_of(&to.public());
        let mut sources: Vec<Source> = sources(from, to)
            .into_iter()
            .map(|socket| Source { socket, waiting: VecDeque::new(), current: None, cookie: None })
            .collect();
        let count = sources.len();
        for (number, at) in (0..keys).zip((0..count).cycle()) {
            sources[at].waiting.push_back(initiation(numbered_private(number), public, number));
        }
        Self { sources, mac_key: labelled(b"mac1----", &public), cookie_key: labelled(b"cookie--", &public) }
    }

    /// Sends them, no more than one at a time from each address, and counts what is answered.
    pub fn run(mut self) -> Answered {
        let mut done = Answered::default();
        let began = Instant::now();
        let mut last = began;
        loop {
            let mut busy = false;
            for source in &mut self.sources {
                busy |= source.step(&self.cookie_key, &mut done, &mut last);
            }
            if !busy {
                return Answered { took: last - began, ..done };
            }
            let mut fds: Vec<PollFd<'_>> = (self.sources.iter())
                .filter(|source| source.current.is_some())
                .map(|source| PollFd::new(source.socket.as_fd(), PollFlags::POLLIN))
                .collect();
            let _ = poll(&mut fds, PollTimeout::from(100u8));
        }
    }

    /// Whether the first MAC of the first initiation is as the paper says.
    pub fn is_well_formed(&self) -> bool {
        let message = self.sources[0].waiting.front();
        message.is_some_and(|message| mac(&self.mac_key, &message[..MAC1_AT]) == message[MAC1_AT..MAC2_AT])
    }
}

impl Source {
    /// Takes what has come and sends what is next; whether anything is left to do.
    fn step(&mut self, cookie_key: &[u8; 32], done: &mut Answered, last: &mut Instant) -> bool {
        let mut answer = [0; 256];
        while let Ok(length) = self.socket.recv(&mut answer) {
            let Some((message, _)) = &self.current else { continue };
            match (answer[0], length) {
                // The receiver's index is ours (offset 8).
                (TYPE_RESPONSE, RESPONSE_BYTES) if answer[8..12] == message[4..8] => {
                    done.responses += 1;
                    *last = Instant::now();
                    self.current = None;
                }
                (TYPE_COOKIE_REPLY, COOKIE_REPLY_BYTES) if answer[4..8] == message[4..8] => {
                    let Some(cookie) = open_cookie(cookie_key, &answer[..length], message) else { continue };
                    done.cookies += 1;
                    self.cookie = Some(cookie);
                    let (message, _) = self.current.take().expect("just looked at");
                    self.send(message);
                }
                _ => {}
            }
        }
        if self.current.as_ref().is_some_and(|(_, sent)| sent.elapsed() > PATIENCE) {
            done.unanswered += 1;
            self.current = None;
        }
        if self.current.is_none()
            && let Some(next) = self.waiting.pop_front()
        {
            self.send(next);
        }
        self.current.is_some()
    }

    fn send(&mut self, mut message: Vec<u8>) {
        if let Some(cookie) = &self.cookie {
            let mac2 = mac(cookie, &message[..MAC2_AT]);
            message[MAC2_AT..].copy_from_slice(&mac2);
        }
        // What is not sent is not answered.
        let _ = self.socket.send(&message);
        self.current = Some((message, Instant::now()));
    }
}

fn initiation(private: [u8; 32], public: [u8; 32], index: u32) -> Vec<u8> {
    let mut tunn = Tunn::new(private.into(), public.into(), None, None, index, None);
    let mut buffer = [0; 256];
    match tunn.format_handshake_initiation(&mut buffer, false) {
        TunnResult::WriteToNetwork(message) => message.to_vec(),
        other => panic!("no initiation: {other:?}"),
    }
}

fn labelled(label: &[u8; 8], public: &[u8; 32]) -> [u8; 32] {
    Blake2s256::new().chain_update(label).chain_update(public).finalize().into()
}

fn mac(key: &[u8], message: &[u8]) -> [u8; 16] {
    let mut mac = <Blake2sMac<U16> as Mac>::new_from_slice(key).expect("16 or 32 bytes");
    mac.update(message);
    mac.finalize().into_bytes().into()
}

fn open_cookie(key: &[u8; 32], reply: &[u8], message: &[u8]) -> Option<[u8; 16]> {
    let cipher = XChaCha20Poly1305::new(key.into());
    let payload = Payload { msg: &reply[32..COOKIE_REPLY_BYTES], aad: &message[MAC1_AT..MAC2_AT] };
    cipher.decrypt(reply[8..32].into(), payload).ok()?.try_into().ok()
}

/// What is wrong with an initiation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bogus {
    /// The first MAC is right, the rest is noise: only who knows the public key can send it.
    WithMac,
    /// All noise.
    WithoutMac,
}

/// Bogus initiations at a rate, until it is dropped or finished.
#[derive(Debug)]
pub struct Flood {
    ends: Arc<AtomicBool>,
    sending: Option<JoinHandle<u64>>,
}

impl Flood {
    /// Floods the other side's engine.
    pub fn start(from: &Side, to: &Side, bogus: Bogus, per_second: f64) -> Self {
        Self::start_against(from, to, to.endpoint(), bogus, per_second)
    }

    /// Floods a port of the other side: what the flood costs the machine, not the engine.
    pub fn start_against(
        from: &Side,
        to: &Side,
        target: SocketAddrV4,
        bogus: Bogus,
        per_second: f64,
    ) -> Self {
        let mac_key = labelled(b"mac1----", &key_of(&to.public()));
        let mut messages = Vec::new();
        let mut seeded = Seeded::new(7);
        for _ in 0..1024 {
            let mut message = vec![0; INITIATION_BYTES];
            seeded.fill(&mut message[4..MAC2_AT]);
            message[0] = 1;
            if bogus == Bogus::WithMac {
                let mac1 = mac(&mac_key, &message[..MAC1_AT]);
                message[MAC1_AT..MAC2_AT].copy_from_slice(&mac1);
            }
            messages.push(message);
        }
        let sockets = sources(from, to);
        let ends = Arc::new(AtomicBool::new(false));
        let told = Arc::clone(&ends);
        let sending = from.spawn(move || {
            sockets.iter().for_each(|socket| socket.connect(target).expect("a route"));
            let (mut pace, mut sent) = (Pace::new(per_second), 0);
            let mut next = messages.iter().cycle().zip(sockets.iter().cycle());
            while !told.load(Ordering::Relaxed) {
                for (message, socket) in next.by_ref().take(pace.due(64)) {
                    sent += u64::from(socket.send(message).is_ok());
                }
            }
            sent
        });
        Self { ends, sending: Some(sending) }
    }

    /// Ends it and says how many were sent.
    pub fn finish(mut self) -> u64 {
        self.ends.store(true, Ordering::Relaxed);
        self.sending.take().map_or(0, |sending| sending.join().expect("no panic"))
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.ends.store(true, Ordering::Relaxed);
    }
}
