//! A relay that does nothing but receive and send: a system call each for every datagram, and no cipher. What is left to a relay
//! that knows whom it serves can only be more.

use std::io;
use std::net::{SocketAddr, UdpSocket};

/// Longer than any datagram that is sent here.
const DATAGRAM_BYTES_MAX: usize = 2048;

/// Gives on between the first two who send something here, until it is killed.
///
/// # Errors
/// The address is taken.
pub fn run(listen: SocketAddr) -> io::Result<()> {
    let socket = UdpSocket::bind(listen)?;
    let mut peers: Vec<SocketAddr> = Vec::new();
    let mut buffer = [0; DATAGRAM_BYTES_MAX];
    loop {
        let Ok((length, from)) = socket.recv_from(&mut buffer) else { continue };
        if peers.len() < 2 && !peers.contains(&from) {
            peers.push(from);
        }
        if let Some(to) = peers.iter().find(|peer| **peer != from) {
            // What there is no room for is lost.
            let _ = socket.send_to(&buffer[..length], to);
        }
    }
}
