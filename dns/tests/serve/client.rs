//! Clients: queries as bytes, and the answers to them, over UDP and TCP.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RecordType};
use tokio::io::AsyncReadExt as _;
use tokio::net::{TcpSocket, TcpStream, UdpSocket};
use tokio::time::timeout;

use crate::LOOPBACK;

pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

pub(crate) fn query(id: u16, owner: &str) -> Vec<u8> {
    query_of(id, owner, RecordType::A)
}

pub(crate) fn query_of(id: u16, owner: &str, kind: RecordType) -> Vec<u8> {
    let mut message = Message::new(id, MessageType::Query, OpCode::Query);
    let owner = Name::from_labels(owner.split('.').map(str::as_bytes)).expect("a name");
    message.add_query(Query::query(owner, kind));
    message.to_vec().expect("a query can be written")
}

pub(crate) async fn client(server: SocketAddr) -> UdpSocket {
    client_from(LOOPBACK, server).await
}

pub(crate) async fn client_from(source: IpAddr, server: SocketAddr) -> UdpSocket {
    let socket = UdpSocket::bind((source, 0)).await.expect("a free port");
    socket.connect(server).await.expect("loopback is there");
    socket
}

pub(crate) async fn receive(client: &UdpSocket) -> Message {
    let mut reply = [0; 2048];
    let length =
        timeout(PATIENCE, client.recv(&mut reply)).await.expect("an answer in time").expect("received");
    Message::from_vec(&reply[..length]).expect("an answer can be read")
}

pub(crate) async fn ask_udp(client: &UdpSocket, id: u16, owner: &str) -> Message {
    client.send(&query(id, owner)).await.expect("sent");
    let reply = receive(client).await;
    assert_eq!(reply.metadata.id, id);
    reply
}

pub(crate) fn framed(query: &[u8]) -> Vec<u8> {
    let length = u16::try_from(query.len()).expect("short");
    [&length.to_be_bytes(), query].concat()
}

pub(crate) async fn connect_from(source: IpAddr, server: SocketAddr) -> TcpStream {
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind((source, 0).into()).expect("binds");
    socket.connect(server).await.expect("the kernel accepts")
}

pub(crate) async fn read_tcp(stream: &mut TcpStream) -> Message {
    try_read_tcp(stream).await.expect("an answer")
}

/// `None` at the end of the stream.
pub(crate) async fn try_read_tcp(stream: &mut TcpStream) -> Option<Message> {
    let length = timeout(PATIENCE, stream.read_u16()).await.expect("an answer or an end in time").ok()?;
    let mut reply = vec![0; length.into()];
    stream.read_exact(&mut reply).await.ok()?;
    Some(Message::from_vec(&reply).expect("an answer can be read"))
}
