//! How an address is given up: to nobody, to another server, and under load. No query that was received is lost.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use dns::serve::{Options, Server};
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::time::timeout;

use crate::client::{PATIENCE, client, framed, query, receive, try_read_tcp};
use crate::{LOOPBACK, home_names, listen_somewhere, neighbour, start};

#[tokio::test]
async fn what_was_received_is_answered_before_the_address_is_free() {
    for _ in 0..20 {
        let (_names, server, at) = start().await;
        let client = client(at).await;
        // As many answers as the client's receive buffer holds.
        for id in 0..200 {
            // Each eighth takes the slow path.
            let owner = if id % 8 == 0 { "example.org" } else { "laptop.home.internal" };
            client.send(&query(id, owner)).await.expect("sent");
        }
        timeout(PATIENCE, server.close()).await.expect("closed in time");
        let mut ids = Vec::new();
        for _ in 0..200 {
            ids.push(receive(&client).await.metadata.id);
        }
        ids.sort_unstable();
        assert_eq!(ids, (0..200).collect::<Vec<_>>());
        UdpSocket::bind(at).expect("the address is free");
    }
}

#[tokio::test]
async fn an_address_that_is_not_there_can_be_given_up() {
    let mut server = Server::new(home_names(), 0);
    let absent =
        ["100.64.255.254", "fd12:3456:789a::fffe"].map(|text| text.parse::<IpAddr>().expect("an address"));
    assert!(server.listen(&absent).await.is_empty());
    assert!(timeout(PATIENCE, server.listen(&[])).await.expect("in time").is_empty());
    assert_eq!(server.listening().count(), 0);
}

#[tokio::test]
async fn a_server_that_is_dropped_stops() {
    let (_names, server, at) = start().await;
    drop(server);
    let free = async {
        while UdpSocket::bind(at).is_err() || std::net::TcpListener::bind(at).is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, free).await.expect("threads and tasks end");
}

#[tokio::test]
async fn connections_get_what_they_asked_for_before_they_end() {
    let (_names, server, at) = start().await;
    let mut streams = Vec::new();
    for n in 0..50 {
        let mut stream = TcpStream::connect(at).await.expect("connected");
        // Some have not been accepted yet, some have just said something, some nothing.
        if n % 10 != 0 {
            let pipelined: Vec<u8> =
                (0..20).flat_map(|id| framed(&query(id, "laptop.home.internal"))).collect();
            stream.write_all(&pipelined).await.expect("sent");
        }
        streams.push((stream, if n % 10 == 0 { 0 } else { 20 }));
    }
    timeout(PATIENCE, server.close()).await.expect("closed in time");
    for (stream, count) in &mut streams {
        for id in 0..*count {
            assert_eq!(try_read_tcp(stream).await.expect("an answer").metadata.id, id);
        }
        assert!(try_read_tcp(stream).await.is_none(), "an end");
    }
}

/// Asks as fast as it gets answers, 16 at a time, until told to stop; answers how many queries were answered. Every
/// one has to be.
fn load(source: IpAddr, at: SocketAddr, stop: &AtomicBool, total: &AtomicU64) {
    let socket = UdpSocket::bind((source, 0)).expect("a free port");
    socket.connect(at).expect("loopback is there");
    socket.set_read_timeout(Some(PATIENCE)).expect("sets");
    let mut reply = [0; 512];
    let mut next: u16 = 0;
    while !stop.load(Ordering::Relaxed) {
        let first = next;
        for _ in 0..16 {
            socket.send(&query(next, "laptop.home.internal")).expect("somebody is always there");
            next = next.wrapping_add(1);
        }
        let mut missing: Vec<u16> = (0..16).map(|n| first.wrapping_add(n)).collect();
        while !missing.is_empty() {
            let length =
                socket.recv(&mut reply).unwrap_or_else(|error| panic!("{missing:?} of {first}: {error}"));
            assert!(length > 12);
            let id = u16::from_be_bytes([reply[0], reply[1]]);
            let at = missing.iter().position(|missing| *missing == id).expect("one answer each");
            missing.swap_remove(at);
        }
        total.fetch_add(16, Ordering::Relaxed);
    }
}

/// A successor takes the same address, and then the one before ends; again and again, under load from many sources.
async fn hand_over(ip: IpAddr, threads: usize) {
    let options = Options { shared: true, threads, ..Options::default() };
    let mut server = Server::with(home_names(), 0, options);
    let at = listen_somewhere(&mut server, ip).await;
    let (stop, total) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)));
    let clients: Vec<_> = (1..=8)
        .map(|number| {
            let (stop, total) = (Arc::clone(&stop), Arc::clone(&total));
            let source = if ip.is_ipv4() { neighbour(number) } else { ip };
            thread::spawn(move || load(source, at, &stop, &total))
        })
        .collect();
    let goes_on = async || {
        let enough = total.load(Ordering::Relaxed) + 500;
        let going = async {
            while total.load(Ordering::Relaxed) < enough && clients.iter().all(|client| !client.is_finished())
            {
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, going).await.expect("clients go on");
    };
    for _ in 0..20 {
        goes_on().await;
        assert!(server.counters().answered(dns::Rcode::NoError) > 0);
        let mut successor = Server::with(home_names(), at.port(), options);
        assert!(successor.listen(&[ip]).await.is_empty(), "beside the one before");
        goes_on().await;
        std::mem::replace(&mut server, successor).close().await;
    }
    stop.store(true, Ordering::Relaxed);
    for client in clients {
        client.join().expect("every query was answered");
    }
    assert!(total.load(Ordering::Relaxed) >= 20_000);
    server.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_successor_takes_over_under_load_without_a_lost_query() {
    hand_over(LOOPBACK, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn several_threads_hand_over_to_several() {
    hand_over(IpAddr::V6(Ipv6Addr::LOCALHOST), 3).await;
}

/// Who does not wish to share is told of whoever is there, even of those who would.
#[tokio::test]
async fn an_address_is_not_shared_by_accident() {
    let shared = Options { shared: true, ..Options::default() };
    let mut first = Server::with(home_names(), 0, shared);
    let port = listen_somewhere(&mut first, LOOPBACK).await.port();
    let mut second = Server::new(home_names(), port);
    assert_eq!(second.listen(&[LOOPBACK]).await.len(), 1);
    first.close().await;
    assert!(second.listen(&[LOOPBACK]).await.is_empty());
    let mut third = Server::with(home_names(), port, shared);
    assert_eq!(third.listen(&[LOOPBACK]).await.len(), 1);
    let threads = Options { threads: 2, ..Options::default() };
    second.close().await;
    let mut fourth = Server::with(home_names(), port, threads);
    assert!(fourth.listen(&[LOOPBACK]).await.is_empty());
    timeout(Duration::from_secs(5), fourth.close()).await.expect("closed");
}
