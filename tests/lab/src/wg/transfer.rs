//! A TCP transfer through a tunnel that goes on until it is told to end. Every byte is checked: the receiver makes the
//! same row of numbers as the sender.

use std::ffi::OsString;
use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

use nix::sys::socket::setsockopt;
use nix::sys::socket::sockopt::TcpCongestion;

use super::pair::Side;
use super::seeded::Seeded;
use crate::wait::wait_for;

const PIECE_BYTES: usize = 64 << 10;
/// Longer than any interruption that a story makes; a transfer that stands still so long has broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// A transfer on its way.
#[derive(Debug)]
pub struct Transfer {
    ends: Arc<AtomicBool>,
    arrived: Arc<AtomicU64>,
    sender: JoinHandle<u64>,
    receiver: JoinHandle<u64>,
}

impl Transfer {
    /// Begins to send from one side to the other.
    pub fn start(from: &Side, to: &Side, seed: u64) -> Self {
        let address = to.inner();
        let listener = to.within(move || TcpListener::bind((address, 0)).expect("the address is there"));
        let target = listener.local_addr().expect("is bound");
        let (ends, arrived) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
        let counted = Arc::clone(&arrived);
        let receiver = to.spawn(move || receive(&listener, seed, &counted));
        let told = Arc::clone(&ends);
        let sender = from.spawn(move || {
            let stream = TcpStream::connect(target).expect("the other side answers");
            stream.set_write_timeout(Some(PATIENCE)).expect("above zero");
            // As most machines do; one that has no cubic has something else.
            let _ = setsockopt(&stream, TcpCongestion, &OsString::from("cubic"));
            send(stream, seed, &told)
        });
        Self { ends, arrived, sender, receiver }
    }

    /// Bytes that have arrived.
    pub fn arrived(&self) -> u64 {
        self.arrived.load(Ordering::Relaxed)
    }

    /// Waits until so many more bytes have arrived.
    ///
    /// # Panics
    /// If they do not within a minute.
    pub fn goes_on(&self, bytes: u64, after: &str) -> Duration {
        let enough = self.arrived() + bytes;
        wait_for(&format!("the transfer goes on after {after}"), PATIENCE, || self.arrived() >= enough)
    }

    /// Ends it and gives the number of bytes, all of which have arrived as they were sent.
    ///
    /// # Panics
    /// If they have not.
    pub fn finish(self) -> u64 {
        self.ends.store(true, Ordering::Relaxed);
        let ended =
            |end: JoinHandle<u64>| end.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        let (sent, arrived) = (ended(self.sender), ended(self.receiver));
        assert_eq!(sent, arrived, "bytes sent and bytes received");
        arrived
    }
}

fn send(mut stream: TcpStream, seed: u64, ends: &AtomicBool) -> u64 {
    let (mut row, mut piece, mut sent) = (Seeded::new(seed), vec![0; PIECE_BYTES], 0);
    while !ends.load(Ordering::Relaxed) {
        row.fill(&mut piece);
        stream.write_all(&piece).expect("the connection holds");
        sent += PIECE_BYTES as u64;
    }
    stream.shutdown(Shutdown::Write).expect("the connection holds");
    // Until the other side has read all and closes.
    stream.set_read_timeout(Some(PATIENCE)).expect("above zero");
    assert_eq!(stream.read(&mut piece).expect("the connection holds"), 0, "the receiver sends nothing");
    sent
}

fn receive(listener: &TcpListener, seed: u64, arrived: &AtomicU64) -> u64 {
    let (mut stream, _) = listener.accept().expect("the sender comes");
    stream.set_read_timeout(Some(PATIENCE)).expect("above zero");
    let (mut row, mut piece, mut expected) = (Seeded::new(seed), vec![0; PIECE_BYTES], vec![0; PIECE_BYTES]);
    let mut total = 0;
    loop {
        let mut filled = 0;
        while filled < PIECE_BYTES {
            match stream.read(&mut piece[filled..]) {
                Ok(0) => break,
                Ok(length) => filled += length,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => panic!("the connection holds: {error}"),
            }
        }
        if filled == 0 {
            return total;
        }
        row.fill(&mut expected);
        assert!(piece[..filled] == expected[..filled], "other bytes than those sent, after {total}");
        total += filled as u64;
        arrived.store(total, Ordering::Relaxed);
    }
}
