//! Load over many TCP connections from one thread, so many questions under way on each (RFC 7766, section 6.2.1.1).
//! Counts only what is right.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream};
use std::os::fd::AsFd as _;
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use socket2::{Domain, Socket, Type};

use super::dataset::{Questions, id};
use super::load::Outcome;

pub(crate) const CONNECTIONS: usize = 1_000;
/// Questions under way on each connection.
pub(crate) const PIPELINED: u64 = 4;
/// Connections from one address: servers may bound them.
const PER_ADDRESS: usize = 50;
const EVENTS: usize = 128;
const BUFFER_BYTES: usize = 4_096;
/// Questions of a connection are numbered from a multiple of this.
const NUMBERS: u64 = 1 << 32;

struct Connection {
    stream: TcpStream,
    /// What has come of an answer that is not whole.
    come: Vec<u8>,
    /// Numbers under way.
    waiting: Vec<u64>,
    next: u64,
}

impl Connection {
    fn ask(&mut self, questions: &mut Questions, count: u64) {
        let mut out = Vec::with_capacity(512);
        for number in self.next..self.next + count {
            questions.ask(number);
            let question = questions.bytes(number);
            out.extend_from_slice(&u16::try_from(question.len()).expect("short").to_be_bytes());
            out.extend_from_slice(question);
            self.waiting.push(number);
        }
        self.next += count;
        // Some hundred bytes always fit into the send buffer of a connection whose answers have all been read.
        self.stream.write_all(&out).expect("the server reads");
    }

    /// Takes what has come, and asks as much again. `false` once the server has closed.
    fn turn(&mut self, questions: &mut Questions, outcome: &mut Outcome) -> bool {
        let mut buffer = [0; BUFFER_BYTES];
        match self.stream.read(&mut buffer) {
            Ok(0) => return false,
            Ok(length) => self.come.extend_from_slice(&buffer[..length]),
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {
                return true;
            }
            Err(_) => return false,
        }
        let (mut at, mut answered) = (0, 0);
        while let Some((length, rest)) = self.come[at..].split_first_chunk::<2>() {
            let Some(message) = rest.get(..u16::from_be_bytes(*length).into()) else { break };
            at += 2 + message.len();
            let named = message.first_chunk().map(|bytes| u16::from_be_bytes(*bytes));
            match self.waiting.iter().position(|&number| Some(id(number)) == named) {
                Some(place) => {
                    let right = questions.right(self.waiting.swap_remove(place)).is(message);
                    *(if right { &mut outcome.right } else { &mut outcome.wrong }) += 1;
                    answered += 1;
                }
                None => outcome.wrong += 1,
            }
        }
        self.come.drain(..at);
        if answered > 0 {
            self.ask(questions, answered);
        }
        true
    }
}

/// Opens [`CONNECTIONS`], then keeps [`PIPELINED`] questions under way on each of them for so long. `lost` counts
/// connections that the server closed.
pub(crate) fn load(server: SocketAddrV4, questions: &mut Questions, count: usize, time: Duration) -> Outcome {
    let poll = Epoll::new(EpollCreateFlags::empty()).expect("epoll");
    let mut connections: Vec<Connection> = (0..count)
        .map(|number| {
            let stream = connect(server, number);
            let event = EpollEvent::new(EpollFlags::EPOLLIN, number as u64);
            poll.add(stream.as_fd(), event).expect("a descriptor");
            let next = number as u64 * NUMBERS + number as u64 * 131;
            Connection { stream, come: Vec::new(), waiting: Vec::new(), next }
        })
        .collect();
    for connection in &mut connections {
        connection.ask(questions, PIPELINED);
    }
    let (mut outcome, began) = (Outcome::default(), Instant::now());
    let mut events = [EpollEvent::empty(); EVENTS];
    while outcome.took < time {
        let ready = poll.wait(&mut events, EpollTimeout::from(100_u8)).unwrap_or(0);
        for event in &events[..ready] {
            let connection = &mut connections[usize::try_from(event.data()).expect("an index")];
            if !connection.turn(questions, &mut outcome) {
                outcome.lost += 1;
                let _ = poll.delete(connection.stream.as_fd());
            }
        }
        outcome.took = began.elapsed();
    }
    outcome
}

fn connect(server: SocketAddrV4, number: usize) -> TcpStream {
    let socket = Socket::new(Domain::IPV4, Type::STREAM, None).expect("a socket");
    let last = u8::try_from(10 + number / PER_ADDRESS).expect("few addresses");
    socket.bind(&SocketAddrV4::new(Ipv4Addr::new(100, 64, 0, last), 0).into()).expect("the net is here");
    socket.connect(&server.into()).expect("it accepts");
    socket.set_tcp_nodelay(true).expect("can");
    socket.set_nonblocking(true).expect("can");
    socket.into()
}
