//! The descriptor's side of the stack: one packet in at a time, a bounded queue out. Does no waiting.

use std::collections::VecDeque;
use std::io;
use std::os::fd::OwnedFd;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socketpair};
use smoltcp::phy::{Device, DeviceCapabilities, Medium, RxToken, TxToken};
use smoltcp::time::Instant;
use tokio::net::UnixDatagram;

use crate::limits::{ANSWERS_MAX, PACKET_BYTES_MAX, UNSENT_MAX};

/// Two ends of a wire that carries bare IP packets, whole and in order (`SOCK_SEQPACKET`, unix(7)). Neither blocks.
///
/// # Errors
/// The process has no descriptor left.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    Ok(socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?)
}

/// What a system call on the descriptor came to.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    Done,
    WouldBlock,
    /// The other end is closed.
    Gone,
}

pub(crate) struct Wire {
    mtu: usize,
    /// Whether packets go anywhere. Without a descriptor they are lost, as on a cable without an end.
    connected: bool,
    buffer: Box<[u8]>,
    filled: usize,
    /// SYNs that were held back and are let in now.
    released: VecDeque<Vec<u8>>,
    unsent: VecDeque<Vec<u8>>,
    spare: Vec<Vec<u8>>,
}

impl Wire {
    pub(crate) fn new() -> Self {
        Self {
            mtu: 1280,
            connected: false,
            buffer: vec![0; PACKET_BYTES_MAX].into(),
            filled: 0,
            released: VecDeque::new(),
            unsent: VecDeque::new(),
            spare: Vec::new(),
        }
    }

    pub(crate) fn connect(&mut self) {
        self.connected = true;
    }

    pub(crate) fn disconnect(&mut self) {
        self.connected = false;
        self.filled = 0;
        self.released.clear();
        self.unsent.clear();
    }

    pub(crate) const fn is_connected(&self) -> bool {
        self.connected
    }

    pub(crate) fn set_mtu(&mut self, mtu: u16) {
        self.mtu = mtu.into();
    }

    /// Reads one packet, to be looked at with [`Self::packet`] and then taken by the interface.
    pub(crate) fn read(&mut self, line: &UnixDatagram) -> Outcome {
        match line.try_recv(&mut self.buffer) {
            Ok(0) => Outcome::Gone,
            Ok(bytes) => {
                self.filled = bytes;
                Outcome::Done
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Outcome::WouldBlock,
            Err(_) => Outcome::Gone,
        }
    }

    pub(crate) fn packet(&self) -> &[u8] {
        &self.buffer[..self.filled]
    }

    /// Takes the packet away from the interface.
    pub(crate) fn withhold(&mut self) -> Vec<u8> {
        let bytes = std::mem::take(&mut self.filled);
        self.buffer[..bytes].to_vec()
    }

    /// Lets a packet in before all others.
    pub(crate) fn release(&mut self, packet: Vec<u8>) {
        self.released.push_back(packet);
    }

    /// Whether a packet waits for the interface.
    pub(crate) fn has_packet(&self) -> bool {
        self.filled > 0 || !self.released.is_empty()
    }

    /// Writes what waits. `Done`: nothing waits any more.
    pub(crate) fn flush(&mut self, line: &UnixDatagram) -> Outcome {
        use io::ErrorKind::{BrokenPipe, ConnectionRefused, ConnectionReset, NotConnected, WouldBlock};
        while let Some(packet) = self.unsent.front() {
            match line.try_send(packet).map_err(|error| error.kind()) {
                Err(WouldBlock) => return Outcome::WouldBlock,
                Err(BrokenPipe | ConnectionReset | ConnectionRefused | NotConnected) => return Outcome::Gone,
                // A packet that the other end cannot take is lost, and TCP sends it again.
                Ok(_) | Err(_) => {}
            }
            let packet = self.unsent.pop_front().expect("it was just sent");
            if self.spare.len() < UNSENT_MAX {
                self.spare.push(packet);
            }
        }
        Outcome::Done
    }
}

impl Device for Wire {
    type RxToken<'a> = Received<'a>;
    type TxToken<'a> = Sending<'a>;

    fn receive(&mut self, _: Instant) -> Option<(Received<'_>, Sending<'_>)> {
        let released = self.released.pop_front();
        let packet = match released {
            Some(packet) => Received::Released(packet),
            None if self.filled == 0 => return None,
            None => Received::Read(&self.buffer[..std::mem::take(&mut self.filled)]),
        };
        Some((
            packet,
            Sending { unsent: &mut self.unsent, spare: &mut self.spare, connected: self.connected },
        ))
    }

    fn transmit(&mut self, _: Instant) -> Option<Sending<'_>> {
        (self.unsent.len() < UNSENT_MAX).then_some(Sending {
            unsent: &mut self.unsent,
            spare: &mut self.spare,
            connected: self.connected,
        })
    }

    fn capabilities(&self) -> DeviceCapabilities {
        let mut capabilities = DeviceCapabilities::default();
        capabilities.medium = Medium::Ip;
        capabilities.max_transmission_unit = self.mtu;
        capabilities
    }
}

pub(crate) enum Received<'a> {
    Read(&'a [u8]),
    Released(Vec<u8>),
}

impl RxToken for Received<'_> {
    fn consume<R, F: FnOnce(&[u8]) -> R>(self, take: F) -> R {
        match self {
            Self::Read(packet) => take(packet),
            Self::Released(packet) => take(&packet),
        }
    }
}

pub(crate) struct Sending<'a> {
    unsent: &'a mut VecDeque<Vec<u8>>,
    spare: &'a mut Vec<Vec<u8>>,
    connected: bool,
}

impl TxToken for Sending<'_> {
    fn consume<R, F: FnOnce(&mut [u8]) -> R>(self, length: usize, fill: F) -> R {
        let mut packet = self.spare.pop().unwrap_or_default();
        packet.clear();
        packet.resize(length, 0);
        let result = fill(&mut packet);
        // Only answers come here when the queue is full. Reading must not wait for writing, or two stacks that send
        // to each other would wait for ever; so answers that nobody takes are lost, as any packet may be.
        if self.connected && self.unsent.len() < UNSENT_MAX + ANSWERS_MAX {
            self.unsent.push_back(packet);
        }
        result
    }
}
