//! Several who ask through one server at the same time.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use dns::Names;
use dns::serve::Server;
use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::RecordType;
use model::Generation;
use tokio::net::UdpSocket;
use tokio::time::timeout;

use crate::ask::{forwarder, query, said};
use crate::fake::{Act, Fake, with_address};
use crate::home;

const PATIENCE: Duration = Duration::from_secs(10);
const LOOPBACK: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

/// Somebody with an address of their own.
struct Asker(UdpSocket);

impl Asker {
    async fn new(number: u8, server: &Server) -> Self {
        let socket = UdpSocket::bind((IpAddr::from([127, 0, 0, number]), 0)).await.expect("a free port");
        socket.connect(server.listening().next().expect("it listens")).await.expect("loopback is there");
        Self(socket)
    }

    async fn send(&self, name: &str) {
        let query = query(name, RecordType::A).to_vec().expect("it is sound");
        self.0.send(&query).await.expect("sent");
    }

    async fn receive(&self) -> Message {
        let mut answer = [0; 2048];
        let received = timeout(PATIENCE, self.0.recv(&mut answer)).await.expect("an answer in time");
        Message::from_vec(&answer[..received.expect("received")]).expect("an answer is sound")
    }
}

#[tokio::test]
async fn who_asks_for_what_nobody_answers_leaves_room_for_others() {
    let fake = Fake::start(|heard| match heard.query.queries[0].name().to_ascii() {
        name if name.starts_with("silent") => Act::Nothing,
        _ => Act::Say(with_address(&heard.query, 60, [192, 0, 2, 1])),
    })
    .await;
    let forwarder = Arc::new(forwarder(&[fake.rule()]));
    let names = Arc::new(Names::new(home::SEED));
    names.whole(home::TENANT, Generation(7), &home::zone()).expect("alone");
    let mut server = Server::new(names, 0);
    // Port 0 is chosen for TCP and may be taken for UDP.
    while !server.listen(&[LOOPBACK]).await.is_empty() {}
    server.forward(forwarder.clone());

    let greedy = Asker::new(71, &server).await;
    let mut refused = 0;
    for number in 0..600 {
        greedy.send(&format!("silent{number}.example.")).await;
        let told = async {
            while forwarder.counters().asked.total() + refused <= number {
                refused += u64::from(greedy.0.try_recv(&mut [0; 2048]).is_ok());
                tokio::task::yield_now().await;
            }
        };
        timeout(PATIENCE, told).await.expect("it is under way, or refused at once");
    }
    let modest = Asker::new(72, &server).await;
    modest.send("www.example.").await;
    let answer = modest.receive().await;
    assert_eq!((answer.metadata.response_code, said(&answer).as_str()), (ResponseCode::NoError, "192.0.2.1"));
}
