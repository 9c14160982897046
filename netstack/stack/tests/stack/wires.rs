//! Two stacks joined by a wire, or by one that loses packets.

use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixDatagram as StdDatagram;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use stack::{Incoming, Stack, pair};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixDatagram;
use tokio::time::timeout;

pub const LEFT: &str = "100.64.0.1";
pub const RIGHT: &str = "100.64.0.2";
pub const RIGHT6: &str = "fd00::2";
pub const MTU: u16 = 1420;
/// Nothing here takes so long.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Side {
    pub stack: Stack,
    pub incoming: Option<Incoming>,
}

fn side(addresses: [&str; 2]) -> Side {
    let (stack, incoming) = Stack::start();
    let nets: Vec<_> = addresses.iter().map(|a| a.parse::<IpAddr>().expect("as set up").into()).collect();
    stack.set_addresses(&nets);
    Side { stack, incoming: Some(incoming) }
}

pub fn sides() -> (Side, Side) {
    (side([LEFT, "fd00::1"]), side([RIGHT, RIGHT6]))
}

/// Left and right on one wire.
pub fn joined() -> (Side, Side) {
    let (left, right) = sides();
    let (a, b) = pair().expect("as set up");
    left.stack.attach(a, MTU);
    right.stack.attach(b, MTU);
    (left, right)
}

/// Left and right with somebody in between who sees every packet and may drop it.
pub fn joined_through(drops: impl Fn(u64) -> bool + Send + Sync + 'static) -> (Side, Side) {
    let (left, right) = sides();
    let ((a, middle_a), (b, middle_b)) = (pair().expect("as set up"), pair().expect("as set up"));
    left.stack.attach(a, MTU);
    right.stack.attach(b, MTU);
    let wrap = |fd| Arc::new(UnixDatagram::from_std(StdDatagram::from(fd)).expect("as set up"));
    let (a, b) = (wrap(middle_a), wrap(middle_b));
    let (seen, drops) = (Arc::new(AtomicU64::new(0)), Arc::new(drops));
    for (from, to) in [(Arc::clone(&a), Arc::clone(&b)), (b, a)] {
        let (seen, drops) = (Arc::clone(&seen), Arc::clone(&drops));
        tokio::spawn(async move {
            let mut packet = vec![0; 65_536];
            while let Ok(bytes @ 1..) = from.recv(&mut packet).await {
                if !drops(seen.fetch_add(1, Ordering::Relaxed)) && to.send(&packet[..bytes]).await.is_err() {
                    return;
                }
            }
        });
    }
    (left, right)
}

pub fn at(address: &str, port: u16) -> SocketAddr {
    SocketAddr::new(address.parse().expect("as set up"), port)
}

pub async fn soon<T>(what: impl Future<Output = T>) -> T {
    timeout(PATIENCE, what).await.expect("within the patience of a test")
}

/// A stream of bytes of which none is at the wrong place unnoticed.
pub struct Pattern(u64);

impl Pattern {
    pub const fn new(seed: u64) -> Self {
        Self(seed | 1)
    }

    pub fn fill(&mut self, bytes: &mut [u8]) {
        for chunk in bytes.chunks_mut(8) {
            self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            chunk.copy_from_slice(&self.0.to_le_bytes()[..chunk.len()]);
        }
    }
}

const BLOCK: usize = 64 * 1024;

pub async fn send_pattern(mut to: impl tokio::io::AsyncWrite + Unpin, seed: u64, blocks: usize) {
    let mut pattern = Pattern::new(seed);
    let mut block = vec![0; BLOCK];
    for _ in 0..blocks {
        pattern.fill(&mut block);
        to.write_all(&block).await.expect("the peer reads");
    }
    to.shutdown().await.expect("open until now");
}

/// Reads to the end; panics at the first wrong byte.
pub async fn check_pattern(mut from: impl tokio::io::AsyncRead + Unpin, seed: u64, blocks: usize) {
    let mut pattern = Pattern::new(seed);
    let (mut block, mut expect) = (vec![0; BLOCK], vec![0; BLOCK]);
    for at in 0..blocks {
        from.read_exact(&mut block).await.expect("the peer writes");
        pattern.fill(&mut expect);
        assert!(block == expect, "block {at} differs");
    }
    assert_eq!(from.read(&mut block).await.expect("ends in order"), 0, "more than was sent");
}
