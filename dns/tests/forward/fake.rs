//! A plain server whose manners are a function of the test.

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, Mutex};

use dns::Transport;
use hickory_proto::op::{Message, MessageType, OpCode, ResponseCode};
use hickory_proto::rr::rdata::{A, SOA};
use hickory_proto::rr::{Name, RData, Record};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::task::JoinSet;

/// What to do about a question.
pub(crate) enum Act {
    Say(Message),
    /// These datagrams, one after the other.
    Bytes(Vec<Vec<u8>>),
    Nothing,
}

/// A question that came.
#[derive(Debug, Clone)]
pub(crate) struct Heard {
    pub(crate) query: Message,
    pub(crate) transport: Transport,
}

type Manners = dyn Fn(&Heard) -> Act + Send + Sync;

/// On a port of 127.0.0.1, until dropped.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    heard: Arc<Mutex<Vec<Heard>>>,
    manners: Arc<Mutex<Arc<Manners>>>,
    _tasks: JoinSet<()>,
}

impl Fake {
    pub(crate) async fn start(manners: impl Fn(&Heard) -> Act + Send + Sync + 'static) -> Self {
        let (udp, tcp) = sockets().await;
        let address = udp.local_addr().expect("it is bound");
        let mut tasks = JoinSet::new();
        let heard = Arc::<Mutex<Vec<Heard>>>::default();
        let manners: Arc<Mutex<Arc<Manners>>> = Arc::new(Mutex::new(Arc::new(manners)));
        let act = {
            let (heard, manners) = (Arc::clone(&heard), Arc::clone(&manners));
            move |bytes: &[u8], transport| {
                let query = Message::from_vec(bytes).expect("forwarders send sound queries");
                let question = Heard { query, transport };
                let manners = Arc::clone(&manners.lock().expect("no test panics in it"));
                let act = manners(&question);
                if !is_probe(&question.query) {
                    heard.lock().expect("no test panics in it").push(question);
                }
                act
            }
        };
        tasks.spawn(serve_udp(udp, act.clone()));
        tasks.spawn(serve_tcp(tcp, act));
        Self { address, heard, manners, _tasks: tasks }
    }

    /// One that has this address for every name.
    pub(crate) async fn with_address(ttl: u32, address: [u8; 4]) -> Self {
        Self::start(move |heard| Act::Say(with_address(&heard.query, ttl, address))).await
    }

    pub(crate) fn behave(&self, manners: impl Fn(&Heard) -> Act + Send + Sync + 'static) {
        *self.manners.lock().expect("no test panics in it") = Arc::new(manners);
    }

    /// What came, without probes.
    pub(crate) fn heard(&self) -> Vec<Heard> {
        self.heard.lock().expect("no test panics in it").clone()
    }

    pub(crate) fn rule(&self) -> String {
        self.address.to_string()
    }

    pub(crate) fn rule_for(&self, suffix: &str) -> String {
        format!("{suffix}={}", self.address)
    }
}

/// Questions that the forwarder asks for itself.
fn is_probe(query: &Message) -> bool {
    query.queries.iter().any(|question| question.name().to_ascii().ends_with(".test."))
}

/// The same port for both.
async fn sockets() -> (UdpSocket, TcpListener) {
    loop {
        let tcp = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("loopback has free ports");
        if let Ok(udp) = UdpSocket::bind(tcp.local_addr().expect("it is bound")).await {
            return (udp, tcp);
        }
    }
}

/// A port at which nobody answers, and the kernel says so.
pub(crate) async fn nobody() -> SocketAddr {
    let (udp, _) = sockets().await;
    udp.local_addr().expect("it is bound")
}

async fn serve_udp(socket: UdpSocket, act: impl Fn(&[u8], Transport) -> Act) {
    let mut buffer = [0; 2048];
    // An asker that has gone away is told of here (ICMP), which is no reason to stop.
    loop {
        let Ok((length, asker)) = socket.recv_from(&mut buffer).await else { continue };
        let datagrams = match act(&buffer[..length], Transport::Udp) {
            Act::Say(message) => vec![message.to_vec().expect("it is sound")],
            Act::Bytes(datagrams) => datagrams,
            Act::Nothing => Vec::new(),
        };
        for datagram in datagrams {
            let _ = socket.send_to(&datagram, asker).await;
        }
    }
}

async fn serve_tcp(listener: TcpListener, act: impl Fn(&[u8], Transport) -> Act + Clone + Send + 'static) {
    let mut connections = JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        connections.spawn(converse(stream, act.clone()));
    }
}

async fn converse(mut stream: TcpStream, act: impl Fn(&[u8], Transport) -> Act) -> Option<()> {
    loop {
        let mut query = vec![0; stream.read_u16().await.ok()?.into()];
        stream.read_exact(&mut query).await.ok()?;
        let Act::Say(message) = act(&query, Transport::Tcp) else { return None };
        let answer = message.to_vec().expect("it is sound");
        stream.write_u16(answer.len().try_into().expect("it fits")).await.ok()?;
        stream.write_all(&answer).await.ok()?;
    }
}

/// An answer without records.
pub(crate) fn answer(query: &Message, code: ResponseCode) -> Message {
    let mut answer = Message::new(query.metadata.id, MessageType::Response, OpCode::Query);
    answer.metadata.recursion_available = true;
    answer.metadata.response_code = code;
    answer.add_queries(query.queries.clone());
    answer
}

pub(crate) fn with_address(query: &Message, ttl: u32, address: [u8; 4]) -> Message {
    let mut answer = answer(query, ResponseCode::NoError);
    let owner = query.queries[0].name().clone();
    answer.add_answer(Record::from_rdata(owner, ttl, RData::A(A(address.into()))));
    answer
}

/// "No", for so long.
pub(crate) fn no_such_name(query: &Message, seconds: u32) -> Message {
    let mut answer = answer(query, ResponseCode::NXDomain);
    let name = |text: &str| Name::from_ascii(text).expect("a name");
    let soa = SOA::new(name("ns.example."), name("who.example."), 1, 2, 3, 4, seconds);
    answer.add_authority(Record::from_rdata(name("example."), 3600, RData::SOA(soa)));
    answer
}
