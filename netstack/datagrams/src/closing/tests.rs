//! What the kernel does when a socket ends.

use std::net::UdpSocket;
use std::thread;

use socket2::{Domain, Type};

use super::*;
use crate::{Batch, Wait};

fn bound(at: &str, shared: bool) -> Socket {
    let at: std::net::SocketAddr = at.parse().expect("an address");
    let socket = Socket::new(Domain::for_address(at), Type::DGRAM, None).expect("a socket");
    socket.set_reuse_port(shared).expect("sets");
    socket.bind(&at.into()).expect("binds");
    socket
}

fn client(socket: &Socket) -> UdpSocket {
    let at = socket.local_addr().ok().and_then(|at| at.as_socket()).expect("bound");
    let client = UdpSocket::bind((at.ip(), 0)).expect("binds");
    client.connect(at).expect("loopback is there");
    client
}

/// First bytes of all that is there.
fn drained(socket: &Socket) -> Vec<u8> {
    let (mut batch, mut bytes) = (Batch::new(16), Vec::new());
    while let Ok(count) = batch.receive(socket, Wait::No) {
        bytes.extend((0..count).filter_map(|slot| batch.datagram(slot).map(|came| came.slot[0])));
    }
    bytes
}

#[test]
fn what_came_stays_and_what_comes_is_refused() {
    for at in ["127.0.0.1:0", "[::1]:0"] {
        let socket = bound(at, false);
        let client = client(&socket);
        for n in 0..50 {
            client.send(&[n]).expect("sends");
        }
        turn_away(&socket).expect("loopback is there");
        client.send(&[99]).expect("sends, and hears of it after");
        let refused = client.send(&[99]).expect_err("nobody is there");
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
        wake(&socket);
        assert_eq!(drained(&socket), (0..50).collect::<Vec<u8>>());
        // An answer still leaves, from the address that was asked.
        let to = client.local_addr().expect("bound").into();
        socket.send_to(b"x", &to).expect("sends");
        assert_eq!(client.recv(&mut [0; 8]).expect("from whom it is connected to"), 1);
    }
}

#[test]
fn a_successor_gets_all_that_comes() {
    for at in ["127.0.0.1:0", "[::1]:0"] {
        let old = bound(at, true);
        let address = old.local_addr().ok().and_then(|at| at.as_socket()).expect("bound");
        let new = bound(&address.to_string(), true);
        let clients: Vec<UdpSocket> = (0..64).map(|_| client(&old)).collect();
        let send = |n| clients.iter().for_each(|client| assert_eq!(client.send(&[n]).expect("sends"), 1));
        send(1);
        turn_away(&old).expect("loopback is there");
        send(2);
        wake(&old);
        let (old, new) = (drained(&old), drained(&new));
        assert!(!old.is_empty() && old.iter().all(|n| *n == 1), "the kernel shares out by sender: {old:?}");
        assert_eq!(new.iter().filter(|n| **n == 2).count(), 64);
        assert_eq!(old.len() + new.len(), 128, "none is lost");
    }
}

#[test]
fn the_kernel_says_when_deliveries_have_ended() {
    assert!(system::wait_for_processors(), "this kernel does");
    settle();
}

#[test]
fn whoever_waits_wakes() {
    for (at, away) in [("127.0.0.1:0", false), ("127.0.0.1:0", true), ("[::1]:0", false), ("[::1]:0", true)] {
        let socket = bound(at, false);
        let waiting = {
            let socket = socket.try_clone().expect("a copy");
            thread::spawn(move || {
                let mut batch = Batch::new(16);
                let count = batch.receive(&socket, Wait::ForOne).expect("woken");
                (0..count).all(|slot| batch.datagram(slot).is_none())
            })
        };
        if away {
            turn_away(&socket).expect("loopback is there");
        }
        wake(&socket);
        assert!(waiting.join().expect("it ends"), "nothing came");
        // Later ones do not wait at all.
        assert!(drained(&socket).is_empty());
        assert_eq!(Batch::new(16).receive(&socket, Wait::ForOne).expect("woken"), 1);
    }
}
