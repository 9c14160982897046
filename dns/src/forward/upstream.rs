//! One server, and how it is asked: by datagram and TCP (RFC 1035, RFC 7766), over TLS (RFC 7858) or HTTPS (RFC 8484).
//! Knows not when, and believes nothing that does not answer the question.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UdpSocket};

use super::config::Target;
use super::limits::{DATAGRAM_BYTES_MAX, PADDING_BYTES, STRANGE_DATAGRAMS_MAX};
use super::question::{HEADER_BYTES, Key};
use super::response::{self, Read, Unfit};
use super::stream::{Stream, StreamError};
use crate::limits::UDP_PAYLOAD_BYTES_MAX;

const OPTION_PADDING: u8 = 12;

/// A server.
pub(super) struct Upstream {
    target: Target,
    /// Which of all servers that this process ever had, for its probes.
    pub(super) number: u32,
    stream: Option<Stream>,
    /// It said that it does not know EDNS.
    is_plain: AtomicBool,
    /// Somebody was told that it sends us our own questions.
    is_told: AtomicBool,
    /// The settings name it.
    is_wished: bool,
    /// Somebody was told that it is of no use.
    is_given_up: AtomicBool,
    /// Why it gave no answer the last time, if it gave none.
    trouble: Mutex<Option<String>>,
}

/// How to ask.
pub(super) struct Manner<'a> {
    /// Choose the case of the name at random, where the server is a plain one.
    pub(super) mixed_case: bool,
    /// The connection that there is may be dead: make another.
    pub(super) anew: bool,
    /// Where the ids of plain questions are written down, for the case that one comes back to us.
    pub(super) ids: &'a Ids,
    /// Which addresses the name may not lead to.
    pub(super) forbidden: &'a (dyn Fn(IpAddr) -> bool + Sync),
}

/// The ids under which a question is under way.
#[derive(Debug, Default)]
pub(super) struct Ids(Mutex<Vec<u16>>);

impl Ids {
    fn note(&self, id: u16) {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).push(id);
    }

    pub(super) fn contains(&self, id: u16) -> bool {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).contains(&id)
    }
}

/// Why a server gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Trouble {
    /// It answers, but not this.
    #[error("the server refuses or fails")]
    Refused(Option<u16>),
    /// What came is no answer to the question.
    #[error("the answer is none")]
    Strange,
    /// The network.
    #[error("network")]
    Io(#[from] io::Error),
    /// The encrypted connection.
    #[error("connection")]
    Stream(#[from] StreamError),
}

impl Upstream {
    pub(super) fn new(
        target: Target,
        number: u32,
        is_wished: bool,
        tls: &std::sync::Arc<rustls::ClientConfig>,
    ) -> Self {
        let stream = Stream::new(&target, tls);
        Self {
            target,
            number,
            stream,
            is_plain: AtomicBool::default(),
            is_told: AtomicBool::default(),
            is_wished,
            is_given_up: AtomicBool::default(),
            trouble: Mutex::default(),
        }
    }

    pub(super) const fn target(&self) -> &Target {
        &self.target
    }

    /// Says once that it sends us our own questions.
    pub(super) fn tell_of_loop(&self) {
        if !self.is_told.swap(true, Ordering::Relaxed) {
            let upstream = &self.target;
            tracing::warn!(code = "dns-loop", %upstream, "a resolver sends us what we ask it; it is left out");
        }
    }

    /// Keeps why it gave no answer, or that it gave one.
    pub(super) fn note(&self, trouble: Option<String>) {
        *self.trouble.lock().unwrap_or_else(PoisonError::into_inner) = trouble;
    }

    /// Why it gave no answer the last time, if it gave none.
    pub(super) fn trouble(&self) -> Option<String> {
        self.trouble.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Says once that it is of no use. Resolvers that a network announces come and go with it; those of the settings
    /// are somebody's wish.
    pub(super) fn tell_of_end(&self) {
        if self.is_given_up.swap(true, Ordering::Relaxed) {
            return;
        }
        let (upstream, why) = (&self.target, self.trouble().unwrap_or_default());
        if self.is_wished {
            tracing::warn!(code = "dns-upstream", %upstream, why, "a resolver gives no answers");
        } else {
            tracing::info!(code = "dns-upstream", %upstream, why, "a resolver of this network gives no answers");
        }
    }

    /// Asks once and waits as long as it takes: whoever calls sets the limit by dropping the future.
    pub(super) async fn ask(&self, key: &Key, manner: &Manner<'_>) -> Result<Read, Trouble> {
        let with_edns = !self.is_plain.load(Ordering::Relaxed);
        match self.ask_with(key, manner, with_edns).await {
            Err(Unanswered::NoEdns) if with_edns => {
                let read = self.ask_with(key, manner, false).await;
                if read.is_ok() {
                    self.is_plain.store(true, Ordering::Relaxed);
                }
                read.map_err(Unanswered::into_trouble)
            }
            other => other.map_err(Unanswered::into_trouble),
        }
    }

    async fn ask_with(&self, key: &Key, manner: &Manner<'_>, edns: bool) -> Result<Read, Unanswered> {
        if let Some(stream) = &self.stream {
            let query = query(key, 0, edns, true);
            let answer = stream.ask(&query, manner.anew).await.map_err(Trouble::from)?;
            return Ok(response::read(&answer, key, None, manner.forbidden)?);
        }
        let id = u16::from_be_bytes(random()?);
        manner.ids.note(id);
        let mut query = query(key, id, edns, false);
        if manner.mixed_case {
            mix_case(&mut query[HEADER_BYTES..][..key.name().len()])?;
        }
        let sent = query[HEADER_BYTES..][..key.question().len()].to_vec();
        let case = manner.mixed_case.then_some(&*sent);
        let read = |answer: &[u8]| response::read(answer, key, case, manner.forbidden);
        match by_datagram(self.target.address(), &query, read).await {
            Ok(read) => Ok(read),
            Err(Unanswered::Cut) => by_tcp(self.target.address(), &query, read).await,
            Err(other) => Err(other),
        }
    }
}

/// Why one way of asking gave no answer.
enum Unanswered {
    Trouble(Trouble),
    NoEdns,
    /// TCP may give one.
    Cut,
}

impl Unanswered {
    fn into_trouble(self) -> Trouble {
        match self {
            Self::Trouble(trouble) => trouble,
            Self::NoEdns => Trouble::Refused(None),
            Self::Cut => Trouble::Strange,
        }
    }
}

impl From<Unfit> for Unanswered {
    fn from(unfit: Unfit) -> Self {
        match unfit {
            Unfit::Strange => Self::Trouble(Trouble::Strange),
            Unfit::Cut => Self::Cut,
            Unfit::NoEdns => Self::NoEdns,
            Unfit::Refused(why) => Self::Trouble(Trouble::Refused(why)),
        }
    }
}

impl From<Trouble> for Unanswered {
    fn from(trouble: Trouble) -> Self {
        Self::Trouble(trouble)
    }
}

impl From<io::Error> for Unanswered {
    fn from(error: io::Error) -> Self {
        Self::Trouble(error.into())
    }
}

/// On a socket of its own, whose port the kernel chooses at random; connected, so that nobody else's datagrams come in
/// and the kernel says when there is no server.
async fn by_datagram(
    server: SocketAddr,
    query: &[u8],
    read: impl Fn(&[u8]) -> Result<Read, Unfit>,
) -> Result<Read, Unanswered> {
    let any: IpAddr =
        if server.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((any, 0)).await?;
    socket.connect(server).await?;
    socket.send(query).await?;
    let mut buffer = vec![0; DATAGRAM_BYTES_MAX];
    for _ in 0..STRANGE_DATAGRAMS_MAX {
        let length = socket.recv(&mut buffer).await?;
        let answer = &buffer[..length];
        if answer.first_chunk::<2>() != query.first_chunk() {
            continue;
        }
        match read(answer) {
            Err(Unfit::Strange) => {}
            other => return Ok(other?),
        }
    }
    Err(Unanswered::Cut)
}

/// On a connection of its own: few answers are so long.
async fn by_tcp(
    server: SocketAddr,
    query: &[u8],
    read: impl Fn(&[u8]) -> Result<Read, Unfit>,
) -> Result<Read, Unanswered> {
    let mut stream = TcpStream::connect(server).await?;
    let length = u16::try_from(query.len()).expect("a query has a few hundred bytes");
    stream.write_all(&[&length.to_be_bytes(), query].concat()).await?;
    let length = stream.read_u16().await?;
    let mut answer = vec![0; length.into()];
    stream.read_exact(&mut answer).await?;
    if answer.first_chunk::<2>() != query.first_chunk() {
        return Err(Unfit::Strange.into());
    }
    Ok(read(&answer)?)
}

/// A question of ours: recursion desired, EDNS of our own.
fn query(key: &Key, id: u16, edns: bool, padded: bool) -> Vec<u8> {
    let [id_high, id_low] = id.to_be_bytes();
    let unchecked = if key.unchecked() { 0x10 } else { 0 };
    let mut query = vec![id_high, id_low, 0x01, unchecked, 0, 1, 0, 0, 0, 0, 0, u8::from(edns)];
    query.extend_from_slice(key.question());
    if edns {
        let [payload_high, payload_low] = UDP_PAYLOAD_BYTES_MAX.to_be_bytes();
        let flags = if key.dnssec_ok() { 0x80 } else { 0 };
        query.extend_from_slice(&[0, 0, 41, payload_high, payload_low, 0, 0, flags, 0, 0, 0]);
        if padded {
            pad(&mut query);
        }
    }
    query
}

/// To a length that says little about the name (RFC 7830, RFC 8467).
fn pad(query: &mut Vec<u8>) {
    let length_at = query.len() - 2;
    let padding = (query.len() + 4).next_multiple_of(PADDING_BYTES) - query.len() - 4;
    let padding = u8::try_from(padding).expect("less than a block");
    query[length_at + 1] = padding + 4;
    query.extend_from_slice(&[0, OPTION_PADDING, 0, padding]);
    query.resize(query.len() + usize::from(padding), 0);
}

/// Chooses the case of each letter (draft-vixie-dnsext-dns0x20).
fn mix_case(name: &mut [u8]) -> io::Result<()> {
    let bits: [u8; 32] = random()?;
    for (at, byte) in name.iter_mut().enumerate() {
        if byte.is_ascii_alphabetic() && bits[at / 8] >> (at % 8) & 1 == 1 {
            *byte ^= 0x20;
        }
    }
    Ok(())
}

fn random<const N: usize>() -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes)?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;
    use hickory_proto::op::Message;

    #[test]
    fn our_questions_are_whole_and_say_little() {
        let key = Key::of(b"\x03www\x07example\x00", 28);
        let bare = query(&key, 7, false, true);
        assert_eq!(bare.len(), HEADER_BYTES + key.question().len());
        assert!(Message::from_vec(&bare).unwrap().edns.is_none());
        let plain = Message::from_vec(&query(&key, 7, true, false)).unwrap();
        assert_eq!((plain.metadata.id, plain.metadata.recursion_desired), (7, true));
        assert_eq!(plain.queries[0].to_string(), "www.example. IN AAAA");
        let edns = plain.edns.unwrap();
        assert_eq!((edns.max_payload(), edns.options().as_ref().len()), (1232, 0));
        for length in 1..60 {
            let name = [&[length], &vec![b'a'; length.into()][..], &[0]].concat();
            let padded = query(&Key::of(&name, 1), 0, true, true);
            assert_eq!(padded.len() % PADDING_BYTES, 0, "{length}");
            assert!(Message::from_vec(&padded).is_ok());
        }
    }

    #[test]
    fn the_case_is_mixed_and_nothing_else() {
        let name = *b"\x30aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\x02-9\x00";
        let mut mixed = name;
        mix_case(&mut mixed).unwrap();
        assert_ne!(mixed, name, "48 letters in lower case come once in 2^48 times");
        assert!(mixed.eq_ignore_ascii_case(&name));
    }
}
