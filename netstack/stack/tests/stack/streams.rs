//! Connections: whole, lossy, refused, reset, half closed, many.

use std::io::ErrorKind;
use std::time::Duration;

use stack::{FLOWS_MAX, Stack, TcpStream, forward};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, split};
use tokio::net::TcpListener;
use tokio::time::timeout;

use crate::wires::{
    RIGHT, RIGHT6, Side, at, check_pattern, joined, joined_through, send_pattern, sides, soon,
};

const MEGABYTE: usize = 16;

/// Connects left to right, and gives both ends.
async fn connect(left: &Stack, right: &mut Side, address: &str) -> (TcpStream, TcpStream) {
    let to = at(address, 80);
    let incoming = right.incoming.as_mut().expect("as set up");
    let accept = async {
        let knock = incoming.next().await.expect("as set up");
        assert_eq!(knock.to(), to);
        knock.accept().await.expect("as set up")
    };
    let (ours, theirs) = soon(async { tokio::join!(left.connect(to), accept) }).await;
    (ours.expect("as set up"), theirs)
}

async fn both_ways(ours: TcpStream, theirs: TcpStream, blocks: usize) {
    let ((our_read, our_write), (their_read, their_write)) = (split(ours), split(theirs));
    soon(async {
        tokio::join!(
            send_pattern(our_write, 1, blocks),
            check_pattern(their_read, 1, blocks),
            send_pattern(their_write, 2, blocks),
            check_pattern(our_read, 2, blocks),
        )
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn fifty_megabytes_each_way_arrive_unharmed() {
    let (left, mut right) = joined();
    for address in [RIGHT, RIGHT6] {
        let (ours, theirs) = connect(&left.stack, &mut right, address).await;
        both_ways(ours, theirs, 50 * MEGABYTE / 2).await;
    }
    let (ours, theirs) = connect(&left.stack, &mut right, RIGHT).await;
    both_ways(ours, theirs, 50 * MEGABYTE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn losses_are_made_good() {
    // One packet in a hundred, by a number that no period of the protocol fits.
    let (left, mut right) = joined_through(|seen| seen.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32 & 0x7f == 0);
    let (ours, theirs) = connect(&left.stack, &mut right, RIGHT).await;
    both_ways(ours, theirs, 2 * MEGABYTE).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_first_segment_is_sent_again() {
    let (left, mut right) = joined_through(|seen| seen == 0);
    let (ours, theirs) = connect(&left.stack, &mut right, RIGHT).await;
    both_ways(ours, theirs, 1).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_not_let_in_is_refused() {
    let (left, mut right) = joined();
    let to = at(RIGHT, 81);
    let mut incoming = right.incoming.take().unwrap();
    let refuse = async { drop(incoming.next().await.unwrap()) };
    let (refused, ()) = soon(async { tokio::join!(left.stack.connect(to), refuse) }).await;
    assert_eq!(refused.unwrap_err().kind(), ErrorKind::ConnectionRefused);
    // Where nobody looks for connections at all, too.
    drop(incoming);
    assert_eq!(soon(left.stack.connect(to)).await.unwrap_err().kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_half_may_be_closed_long_before_the_other() {
    let (left, mut right) = joined();
    let (mut ours, mut theirs) = connect(&left.stack, &mut right, RIGHT).await;
    ours.write_all(b"question").await.unwrap();
    ours.shutdown().await.unwrap();
    let mut question = Vec::new();
    soon(theirs.read_to_end(&mut question)).await.unwrap();
    assert_eq!(question, b"question");
    let answer = vec![7; 1 << 20];
    let write = async {
        theirs.write_all(&answer).await.unwrap();
        drop(theirs);
    };
    let mut got = Vec::new();
    let (read, ()) = soon(async { tokio::join!(ours.read_to_end(&mut got), write) }).await;
    assert_eq!(read.unwrap(), answer.len(), "what was written before the end arrives after it");
    assert!(got == answer);
}

#[tokio::test(flavor = "multi_thread")]
async fn who_leaves_unread_bytes_resets() {
    let (left, mut right) = joined();
    let (mut ours, theirs) = connect(&left.stack, &mut right, RIGHT).await;
    ours.write_all(b"nobody reads this").await.unwrap();
    let mut byte = [0; 1];
    // The bytes have arrived when there is something to read, which is then left.
    let mut theirs = theirs;
    soon(theirs.read_exact(&mut byte)).await.unwrap();
    drop(theirs);
    let error = soon(ours.read(&mut byte)).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    assert!(soon(ours.write_all(b"more")).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slow_reader_stops_its_writer() {
    let (left, mut right) = joined();
    let (mut ours, theirs) = connect(&left.stack, &mut right, RIGHT).await;
    let block = vec![1; 1 << 20];
    let mut written = 0;
    // Both buffers of the connection, and no more.
    while let Ok(bytes) = timeout(Duration::from_millis(500), ours.write(&block)).await {
        written += bytes.unwrap();
        assert!(written <= 1 << 20, "{written} bytes were taken though nobody reads");
    }
    let mut theirs = theirs;
    let mut got = vec![0; written];
    soon(theirs.read_exact(&mut got)).await.unwrap();
    soon(ours.write_all(b"goes on")).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn flows_are_many_but_bounded() {
    let (left, right) = joined();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let incoming = right.incoming.unwrap();
    tokio::spawn(forward(incoming, move |asked| asked == port));
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            tokio::spawn(async move {
                let (mut read, mut write) = stream.split();
                let _ = tokio::io::copy(&mut read, &mut write).await;
                let _ = write.shutdown().await;
            });
        }
    });
    let mut streams = Vec::new();
    for _ in 0..FLOWS_MAX {
        let stream = soon(left.stack.connect(at(RIGHT, port))).await;
        streams.push(stream.unwrap());
    }
    let full = soon(left.stack.connect(at(RIGHT, port))).await.unwrap_err();
    assert_eq!(full.kind(), ErrorKind::QuotaExceeded);
    let talks = streams.into_iter().enumerate().map(|(number, stream)| async move {
        let seed = number as u64;
        let (read, write) = split(stream);
        tokio::join!(send_pattern(write, seed, 2), check_pattern(read, seed, 2));
    });
    let tasks: Vec<_> = talks.map(tokio::spawn).collect();
    for task in tasks {
        soon(task).await.unwrap();
    }
    // They are over, and make room for others.
    for _ in 0..8 {
        let stream = soon(left.stack.connect(at(RIGHT, port))).await.unwrap();
        let (read, write) = split(stream);
        soon(async { tokio::join!(send_pattern(write, 5, 1), check_pattern(read, 5, 1)) }).await;
    }
    // A port that is not let in, and one where nobody listens.
    let closed = soon(left.stack.connect(at(RIGHT, 1))).await.unwrap_err();
    assert_eq!(closed.kind(), ErrorKind::ConnectionRefused);
}

#[tokio::test(flavor = "multi_thread")]
async fn connections_end_with_the_wire_or_their_address() {
    let (left, mut right) = joined();
    let mut byte = [0; 1];
    let (mut ours, mut theirs) = connect(&left.stack, &mut right, RIGHT).await;
    right.stack.set_addresses(&["100.64.0.9/32".parse().unwrap()]);
    assert!(soon(theirs.read(&mut byte)).await.is_err());
    left.stack.detach();
    assert!(soon(ours.read(&mut byte)).await.is_err());
    let error = soon(left.stack.connect(at(RIGHT, 80))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wire_can_be_replaced() {
    let (left, mut right) = joined();
    let (before, _theirs) = connect(&left.stack, &mut right, RIGHT).await;
    let (a, b) = stack::pair().unwrap();
    left.stack.attach(a, 1280);
    right.stack.attach(b, 1280);
    let (ours, theirs) = connect(&left.stack, &mut right, RIGHT).await;
    both_ways(ours, theirs, MEGABYTE).await;
    let mut before = before;
    assert!(soon(before.read(&mut [0; 1])).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_wire_or_an_address_there_is_no_connection() {
    let (left, _right) = sides();
    let error = soon(left.stack.connect(at(RIGHT, 80))).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::NetworkUnreachable);
    let (left, _right) = joined();
    left.stack.set_addresses(&["100.64.0.1/32".parse().unwrap()]);
    for to in [RIGHT6, "100.64.0.1", "0.0.0.0", "224.0.0.1"] {
        let error = soon(left.stack.connect(at(to, 80))).await.unwrap_err();
        assert_eq!(error.kind(), ErrorKind::NetworkUnreachable, "{to}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_a_stack_ends_with_it() {
    let (left, mut right) = joined();
    let (mut ours, mut theirs) = connect(&left.stack, &mut right, RIGHT).await;
    let mut incoming = right.incoming.take().unwrap();
    drop(right);
    assert!(soon(incoming.next()).await.is_none());
    assert!(soon(theirs.read(&mut [0; 1])).await.is_err());
    // The wire ends with its stack, and everything over it.
    assert!(soon(ours.read(&mut [0; 1])).await.is_err());
}
