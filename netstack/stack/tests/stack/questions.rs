//! Echoes and datagrams.

use std::io::ErrorKind;
use std::time::Duration;

use crate::wires::{LEFT, RIGHT, RIGHT6, at, joined, joined_through, soon};

#[tokio::test(flavor = "multi_thread")]
async fn echoes_are_answered_in_both_families() {
    let (left, _right) = joined();
    for to in [RIGHT, RIGHT6] {
        let trip = soon(left.stack.echo(to.parse().unwrap(), Duration::from_secs(30))).await.unwrap();
        assert!(trip.is_some(), "{to}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_echo_has_no_reply() {
    let (left, _right) = joined_through(|_| true);
    let trip = soon(left.stack.echo(RIGHT.parse().unwrap(), Duration::from_millis(100))).await;
    assert_eq!(trip.unwrap(), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn datagrams_come_from_the_peer_that_was_asked() {
    let (left, right) = joined();
    // Both sides choose their first port at random, so that one of them must hear the other's from its question.
    let probe = left.stack.udp(at(RIGHT, 9)).unwrap();
    probe.send(b"nobody listens").await.unwrap();
    let mut buffer = [0; 64];
    let ours = left.stack.udp(at(RIGHT, 5353)).unwrap();
    let server = right.stack.udp_on(5353, at(LEFT, ours.port())).unwrap();
    let other = right.stack.udp_on(5354, at(LEFT, ours.port())).unwrap();
    other.send(b"not asked").await.unwrap();
    server.send(b"answer").await.unwrap();
    let bytes = soon(ours.receive(&mut buffer)).await;
    assert_eq!(&buffer[..bytes], b"answer");
    let long = ours.send(&vec![0; 1 << 20]).await.unwrap_err();
    assert_eq!(long.kind(), ErrorKind::InvalidInput);
}
