//! One TCP connection: queries in, answers out as they become ready (RFC 7766, section 6.2.1.1). None waits behind one
//! that is forwarded; who reads slowly is asked nothing more, and in time cut off.

use std::io::Read as _;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;

use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use futures_util::{FutureExt as _, StreamExt as _};
use socket2::SockRef;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::answerer::{Answerer, Reply, Told};
use super::closing::Closing;
use super::counters::{Code, Path, Way};
use super::framing::{Answers, Queries};
use super::limits::{FORWARD_TIME_MAX, TCP_IDLE_MAX, TCP_SEND_MAX};
use crate::answer::Transport;
use crate::hot::Hot;
use crate::written::is_cut;

/// Answers until either side has said all, or is too slow. After `closing`, what the kernel has received is answered.
pub(super) async fn converse(
    mut stream: TcpStream,
    asker: SocketAddr,
    answerer: Arc<Answerer>,
    mut closing: Closing,
) {
    // Answers are written as soon as they are there, and whole.
    let _ = stream.set_nodelay(true);
    let (mut reader, mut writer) = stream.split();
    let mut talk = Talk::new(asker, answerer);
    let mut timer = pin!(sleep_until(talk.due()));
    loop {
        // Asked each time: a busy connection never gets so far as to wait for the word.
        talk.closes |= closing.is_said();
        talk.answer_queries();
        while talk.closes && talk.listens() {
            // Asked of the kernel: the runtime may not have heard of it.
            let came = (&*SockRef::from(reader.as_ref())).read(talk.queries.room());
            talk.received(came.unwrap_or(0));
            talk.answer_queries();
        }
        talk.answers.turn();
        if talk.is_over() {
            break;
        }
        tokio::select! {
            biased;
            went = writer.write(talk.answers.unsent()), if !talk.answers.unsent().is_empty() => match went {
                Ok(bytes @ 1..) => talk.answers.went(bytes),
                Ok(0) | Err(_) => return talk.answerer.counters.count_unsent(1),
            },
            Some((came, reply)) = talk.later.next(), if talk.answers.have_room() => talk.take(came, &reply),
            came = reader.read(talk.queries.room()), if talk.listens() && !talk.closes => match came {
                Ok(bytes) => talk.received(bytes),
                Err(_) => return,
            },
            () = closing.heard(), if !talk.closes => talk.closes = true,
            () = &mut timer => {
                let due = talk.due();
                if due <= Instant::now() {
                    if talk.queries.is_begun() || !talk.answers.is_empty() {
                        talk.answerer.counters.count_cut_off();
                    }
                    return;
                }
                timer.as_mut().reset(due);
            }
        }
    }
    // The asker may be gone.
    let _ = writer.shutdown().await;
}

/// What is known of one connection.
struct Talk {
    asker: SocketAddr,
    answerer: Arc<Answerer>,
    queries: Queries,
    answers: Answers,
    /// Answers that are under way, with when their queries came.
    later: FuturesUnordered<BoxFuture<'static, (Instant, Reply)>>,
    /// When the last bytes came.
    came: Instant,
    /// When there was last a whole query, or an answer to it.
    heard: Instant,
    /// No more queries are taken.
    ended: bool,
    /// The server closes.
    closes: bool,
}

impl Talk {
    fn new(asker: SocketAddr, answerer: Arc<Answerer>) -> Self {
        let now = Instant::now();
        Self {
            asker,
            answerer,
            queries: Queries::new(),
            answers: Answers::new(),
            later: FuturesUnordered::new(),
            came: now,
            heard: now,
            ended: false,
            closes: false,
        }
    }

    /// Whether more queries are read now.
    fn listens(&self) -> bool {
        !self.ended && self.answers.have_room()
    }

    fn received(&mut self, bytes: usize) {
        self.queries.came(bytes);
        self.ended = bytes == 0;
        self.came = Instant::now();
    }

    /// All that was asked is answered, and nothing more will be.
    fn is_over(&self) -> bool {
        self.ended && self.answers.is_empty() && self.later.is_empty()
    }

    /// When it has taken too long.
    fn due(&self) -> Instant {
        if !self.answers.unsent().is_empty() {
            self.answers.since + TCP_SEND_MAX
        } else if self.later.is_empty() {
            self.heard + TCP_IDLE_MAX
        } else {
            // They come in time, and then it is looked again.
            Instant::now() + FORWARD_TIME_MAX
        }
    }

    /// Answers what is here of queries, as far as the answers have room.
    fn answer_queries(&mut self) {
        while self.answers.have_room() {
            let query = match self.queries.next() {
                Ok(Some(query)) => query,
                Ok(None) => return,
                Err(_) => {
                    self.answerer.counters.count_cut_off();
                    return self.hear_no_more();
                }
            };
            self.heard = self.came;
            if write_hot(&self.answerer, &mut self.answers, query, self.asker, self.came) {
                continue;
            }
            match self.answerer.ask(query, self.asker.ip(), Transport::Tcp) {
                Told::Now(reply) => self.take(self.came, &reply),
                Told::Later(reply) => {
                    let came = self.came;
                    self.later.push(async move { (came, reply.await) }.boxed());
                }
                Told::Nothing => {
                    self.answerer.counters.count_dropped();
                    return self.hear_no_more();
                }
            }
        }
    }

    /// The asker speaks something else: what was asked before is answered, and no more.
    fn hear_no_more(&mut self) {
        self.queries.clear();
        self.ended = true;
    }

    fn take(&mut self, came: Instant, reply: &Reply) {
        let way = Way { transport: Transport::Tcp, path: reply.path };
        self.answerer.note(self.asker, way, reply.code, &reply.bytes, came.elapsed());
        self.answers.push(&reply.bytes);
        self.heard = Instant::now();
    }
}

/// Whether the hot path answered. What it cuts to fit a datagram is not what a stream gets.
fn write_hot(
    answerer: &Answerer,
    answers: &mut Answers,
    query: &[u8],
    asker: SocketAddr,
    came: Instant,
) -> bool {
    let written = answers.write_over(query, |buffer, length| {
        match answerer.names.answer_in_place(buffer, length, asker.ip()) {
            Hot::Reply { length, code } if !is_cut(&buffer[..length]) => Some((length, code)),
            _ => None,
        }
    });
    if let Some(code) = written {
        let way = Way { transport: Transport::Tcp, path: Path::Hot };
        answerer.note(asker, way, Code::from(code), query, came.elapsed());
    }
    written.is_some()
}
