//! Batches over the loopback interface.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::time::Duration;

use socket2::{Domain, Type};

use super::*;

const SLOT_BYTES: usize = 100;
const PATIENCE: Duration = Duration::from_secs(10);
const BOTH: [IpAddr; 2] = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];

/// A socket that waits, and a client of it.
fn pair(ip: IpAddr) -> (Socket, UdpSocket) {
    let at = SocketAddr::new(ip, 0);
    let socket = Socket::new(Domain::for_address(at), Type::DGRAM, None).expect("a socket");
    socket.bind(&at.into()).expect("binds");
    let client = client_of(&socket);
    (socket, client)
}

fn client_of(socket: &Socket) -> UdpSocket {
    let at = socket.local_addr().ok().and_then(|at| at.as_socket()).expect("bound");
    let client = UdpSocket::bind((at.ip(), 0)).expect("binds");
    client.set_read_timeout(Some(PATIENCE)).expect("sets");
    client.connect(at).expect("loopback is there");
    client
}

fn received(client: &UdpSocket) -> Vec<u8> {
    let mut bytes = [0; 2048];
    let length = client.recv(&mut bytes).expect("an answer in time");
    bytes[..length].to_vec()
}

#[test]
fn what_came_goes_back_in_order_over_itself() {
    for ip in BOTH {
        let (socket, client) = pair(ip);
        let mut batch = Batch::new(SLOT_BYTES);
        for round in 0..3_u8 {
            for n in 0..40_u8 {
                client.send(&[n, round, 7]).expect("sends");
            }
            let mut total = 0;
            while total < 40 {
                let count = batch.receive(&socket, Wait::ForOne).expect("receives");
                assert_eq!(batch.is_full(), count == BATCH_MAX);
                for slot in 0..count {
                    let came = batch.datagram(slot).expect("came");
                    assert_eq!(
                        (came.source, came.length, came.whole),
                        (client.local_addr().unwrap(), 3, true)
                    );
                    assert!(came.slot.len() >= SLOT_BYTES);
                    came.slot[2..5].copy_from_slice(b"abc");
                    // Every third is not answered.
                    if !came.slot[0].is_multiple_of(3) {
                        batch.reply(slot, 5);
                    }
                }
                assert!(batch.datagram(count).is_none());
                let unsent = batch.unsent();
                assert_eq!(batch.send(&socket).expect("sends"), unsent);
                assert_eq!(batch.unsent(), 0);
                total += count;
            }
            assert_eq!(total, 40);
            for n in (0..40).filter(|n| n % 3 != 0) {
                assert_eq!(received(&client), [n, round, b'a', b'b', b'c']);
            }
        }
        let nothing = batch.receive(&socket, Wait::No).expect_err("nothing is there");
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock);
    }
}

#[test]
fn datagrams_are_told_apart_by_length_and_sender() {
    let (socket, client) = pair(BOTH[0]);
    let other = client_of(&socket);
    let mut batch = Batch::new(SLOT_BYTES);
    client.send(&[]).expect("sends");
    other.send(&[1; 1000]).expect("sends");
    client.send(&[2; SLOT_BYTES]).expect("sends");
    let count = batch.receive(&socket, Wait::ForOne).expect("receives");
    assert_eq!(count, 3);
    let seen =
        (0..count).map(|slot| batch.datagram(slot).map(|d| (d.source, d.length.min(SLOT_BYTES), d.whole)));
    let (client, other) = (client.local_addr().unwrap(), other.local_addr().unwrap());
    let expect = [(client, 0, true), (other, SLOT_BYTES, false), (client, SLOT_BYTES, true)].map(Some);
    assert_eq!(seen.collect::<Vec<_>>(), expect);
}

#[test]
fn a_reply_that_does_not_go_does_not_stop_the_others() {
    let (socket, client) = pair(BOTH[0]);
    let mut batch = Batch::new(SLOT_BYTES);
    for n in 0..3 {
        client.send(&[n]).expect("sends");
    }
    assert_eq!(batch.receive(&socket, Wait::ForOne).expect("receives"), 3);
    // Nothing can be sent to port 0.
    batch.came[1].source.bytes[2..4].fill(0);
    for slot in 0..3 {
        batch.reply(slot, 1);
    }
    assert_eq!(batch.send(&socket).expect("the first goes"), 1);
    batch.send(&socket).expect_err("the second does not");
    assert_eq!(batch.unsent(), 2);
    batch.give_up_first();
    assert_eq!(batch.send(&socket).expect("the third goes"), 1);
    batch.give_up_first();
    assert_eq!(batch.unsent(), 0);
    batch.reply(0, 1);
    batch.give_up_all();
    assert_eq!(batch.unsent(), 0);
    assert_eq!([received(&client), received(&client)], [[0], [2]]);
}

#[test]
fn what_there_was_no_room_for_is_counted() {
    let (socket, client) = pair(BOTH[0]);
    socket.set_recv_buffer_size(4096).expect("sets");
    assert_eq!(crate::overflowed(&socket).expect("this kernel tells"), 0);
    for _ in 0..200 {
        client.send(&[1; 80]).expect("sends");
    }
    let (mut batch, mut came) = (Batch::new(SLOT_BYTES), 0);
    while let Ok(count) = batch.receive(&socket, Wait::No) {
        came += count;
    }
    assert!(came < 200);
    assert_eq!(usize::try_from(crate::overflowed(&socket).expect("tells")).unwrap(), 200 - came);
}
