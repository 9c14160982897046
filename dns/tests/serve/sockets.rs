//! Listening on the addresses that are wanted, and changes seen at once.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use dns::Names;
use dns::serve::{Holder, ListenError, Server};
use hickory_proto::rr::RData;
use model::Generation;
use model::patch::ZonePatch;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::client::{PATIENCE, ask_udp, client, framed, query, read_tcp};
use crate::home::{SEED, TENANT, name, set};
use crate::{LOOPBACK, start};

/// A closed socket lives on for a moment in a process that another test has forked and that has not become dig yet.
async fn wait_until_free(address: SocketAddr) {
    let free = async {
        while UdpSocket::bind(address).await.is_err() || TcpListener::bind(address).await.is_err() {
            tokio::task::yield_now().await;
        }
    };
    timeout(PATIENCE, free).await.expect("the address is free again");
}

#[tokio::test]
async fn a_change_is_seen_by_the_next_question() {
    let (names, _server, at) = start().await;
    let client = client(at).await;
    for n in 1..=200_u8 {
        let moved = set(&[&format!("A 100.64.1.{n}")]);
        let patch = ZonePatch { head: None, set: vec![(name("moving.home.internal"), moved)], gone: vec![] };
        names.patch(TENANT, Generation(7 + u64::from(n)), &patch).expect("known");
        let reply = ask_udp(&client, n.into(), "moving.home.internal").await;
        let expect = RData::A(std::net::Ipv4Addr::new(100, 64, 1, n).into());
        assert_eq!(reply.answers.iter().map(|r| &r.data).collect::<Vec<_>>(), [&expect]);
    }
    names.gone(TENANT);
    let reply = ask_udp(&client, 0, "moving.home.internal").await;
    assert_eq!(reply.metadata.response_code, hickory_proto::op::ResponseCode::Refused);
}

#[tokio::test]
async fn garbage_does_not_stop_the_server() {
    let (_names, server, at) = start().await;
    let client = client(at).await;
    for n in 0..500_u16 {
        let mut garbage: Vec<u8> = (0..n).map(|b| (b.wrapping_mul(n) >> 3) as u8).collect();
        // Without answers to confuse with the one below.
        if let Some(flags) = garbage.get_mut(2) {
            *flags |= 0x80;
        }
        client.send(&garbage).await.expect("sent");
        // One at a time, so that no receive buffer overflows.
        let reply = ask_udp(&client, n, "laptop.home.internal").await;
        assert_eq!(reply.answers.len(), 1);
    }
    // The first is empty.
    assert_eq!((server.counters().dropped(), server.counters().malformed()), (499, 1));
}

#[tokio::test]
async fn addresses_come_and_go() {
    let (_names, mut server, at) = start().await;
    let port = at.port();
    let client_socket = client(at).await;
    let mut fixed = Server::new(Arc::new(Names::new(SEED)), port);
    let absent: IpAddr = "100.64.255.254".parse().expect("an address");
    let (second, third) =
        ("127.0.0.2".parse().expect("an address"), "127.0.0.3".parse().expect("an address"));
    let listening = |server: &Server| server.listening().map(|at| at.ip()).collect::<Vec<_>>();

    assert!(fixed.listen(&[second, absent]).await.is_empty(), "an address may come later");
    assert_eq!(listening(&fixed), [absent, second]);
    let mut kept = TcpStream::connect((second, port)).await.expect("connected");
    assert!(fixed.listen(&[second, third]).await.is_empty());
    assert_eq!(listening(&fixed), [second, third]);
    kept.write_all(&framed(&query(1, "laptop.home.internal"))).await.expect("sent");
    read_tcp(&mut kept).await;
    UdpSocket::bind((second, port)).await.expect_err("still taken");

    let errors = fixed.listen(&[third, LOOPBACK, "0.0.0.0".parse().expect("an address")]).await;
    assert_eq!(listening(&fixed), [third], "one failure does not stop the others");
    assert_eq!(
        errors.iter().map(|e| e.address().ip().to_string()).collect::<Vec<_>>(),
        ["127.0.0.1", "0.0.0.0"]
    );
    let ListenError::InUse { holder: Holder::Process { pid, .. }, .. } = &errors[0] else {
        panic!("{errors:?}");
    };
    assert_eq!(*pid, std::process::id());
    assert!(matches!(errors[1], ListenError::Unspecified(_)));
    wait_until_free(SocketAddr::new(second, port)).await;

    ask_udp(&client_socket, 1, "laptop.home.internal").await;
    assert!(server.listen(&[]).await.is_empty());
    wait_until_free(at).await;
    assert!(fixed.listen(&[third, LOOPBACK]).await.is_empty(), "what failed is tried again");
    fixed.close().await;
    wait_until_free(at).await;
    assert_eq!(server.listening().count(), 0);
}
