//! One netlink conversation at a time (RFC 3549): a request goes out, its answers and the kernel's own words
//! about a refusal come back. Knows no protocol family; [`crate::firewall`] and the kernel WireGuard backend bring
//! their messages. Links, addresses and routes have rtnetlink.

use std::fmt::Debug;
use std::io;

use netlink_packet_core::{
    NLM_F_ACK, NLM_F_REQUEST, NetlinkDeserializable, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
};
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike as _};

/// The kernel answers at once or not at all; a longer wait means a lost answer.
pub(crate) const ANSWER_SECONDS_MAX: u64 = 5;
/// The kernel cuts dumps into datagrams of at most 32 KiB; the rest is room for one large answer.
const DATAGRAM_BYTES_MAX: usize = 128 * 1024;
/// `nlmsghdr`: length, type, flags, sequence, port.
pub(crate) const HEADER_BYTES: usize = 16;
const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_MULTI: u16 = 2;
const NLM_F_DUMP_INTR: u16 = 0x10;
/// In an `NLMSG_ERROR`: the request is not repeated after its header, extended attributes follow.
const NLM_F_CAPPED: u16 = 0x100;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;
/// A dump that changed while it was read is read again so often.
pub(crate) const DUMP_TRIES_MAX: u32 = 5;

/// Why the kernel did not do it.
#[derive(Debug, thiserror::Error)]
pub enum NetlinkError {
    /// The kernel refused, with its own words where it has any.
    #[error("{}{}", io::Error::from_raw_os_error(*errno), if said.is_empty() { String::new() } else { format!(" ({said})") })]
    Refused {
        /// `errno(3)`.
        errno: i32,
        /// The extended acknowledgement, often empty.
        said: String,
    },
    /// The socket failed.
    #[error("netlink socket")]
    Socket(#[from] io::Error),
    /// An answer could not be read.
    #[error("netlink answer: {0}")]
    Answer(String),
}

impl NetlinkError {
    /// `errno(3)` of a refusal.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            Self::Socket(e) => e.raw_os_error(),
            Self::Answer(_) => None,
        }
    }

    /// What was asked for changed during each of [`DUMP_TRIES_MAX`] looks.
    pub(crate) fn changing() -> Self {
        Self::Answer(format!("changed {DUMP_TRIES_MAX} times while it was read"))
    }
}

/// One message of an answer, with its header.
#[derive(Debug)]
pub(crate) struct Raw {
    whole: Vec<u8>,
}

impl Raw {
    pub(crate) fn body(&self) -> &[u8] {
        self.whole.get(HEADER_BYTES..).unwrap_or_default()
    }
}

/// A socket to one netlink family of the network namespace it was opened in.
pub(crate) struct Netlink {
    socket: Socket,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Netlink {
    /// Opens a socket of a family (`NETLINK_GENERIC`, `NETLINK_NETFILTER`).
    pub(crate) fn open(family: isize) -> io::Result<Self> {
        let mut socket = Socket::new(family)?;
        socket.bind_auto()?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        let patience = TimeVal::seconds(ANSWER_SECONDS_MAX.cast_signed());
        setsockopt(&socket, sockopt::ReceiveTimeout, &patience)?;
        Ok(Self { socket, sequence: 0, buffer: vec![0; DATAGRAM_BYTES_MAX] })
    }

    pub(crate) fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1).max(1);
        self.sequence
    }

    /// Sends a typed message and reads its answers.
    pub(crate) fn request<I>(&mut self, message: I) -> Result<Vec<I>, NetlinkError>
    where
        I: Clone + Debug + NetlinkSerializable + NetlinkDeserializable,
        NetlinkPayload<I>: From<I>,
    {
        let mut request = NetlinkMessage::from(message);
        request.header.flags = NLM_F_REQUEST | NLM_F_ACK;
        request.header.sequence_number = self.next_sequence();
        request.finalize();
        let mut bytes = vec![0; request.buffer_len()];
        request.serialize(&mut bytes);
        let (answers, _) = self.exchange(&bytes, request.header.sequence_number)?;
        answers.iter().map(|raw| parse(raw)).filter_map(Result::transpose).collect()
    }

    /// Sends bytes and collects what comes back until the message with sequence `last` is done. The first
    /// refusal wins. The flag says that a dump was interrupted by a change and is not consistent.
    pub(crate) fn exchange(&mut self, request: &[u8], last: u32) -> Result<(Vec<Raw>, bool), NetlinkError> {
        let sent = self.socket.send(request, 0)?;
        if sent != request.len() {
            return Err(NetlinkError::Answer("the request was cut short".into()));
        }
        let (mut answers, mut interrupted, mut refusal) = (Vec::new(), false, None);
        loop {
            let bytes = self.socket.recv(&mut &mut self.buffer[..], 0)?;
            for message in Messages(&self.buffer[..bytes]) {
                let message = message?;
                interrupted |= message.flags & NLM_F_DUMP_INTR != 0;
                let done = match message.kind {
                    NLMSG_DONE => true,
                    NLMSG_ERROR => {
                        refusal = refusal.or(refused(&message));
                        true
                    }
                    _ => {
                        answers.push(Raw { whole: message.whole.to_vec() });
                        // A single answer is followed by the acknowledgement that every request asks for.
                        false
                    }
                };
                if done && message.sequence == last {
                    return refusal.map_or(Ok((answers, interrupted)), Err);
                }
            }
        }
    }
}

fn parse<I>(raw: &Raw) -> Result<Option<I>, NetlinkError>
where
    I: NetlinkDeserializable,
{
    let message = NetlinkMessage::<I>::deserialize(&raw.whole);
    match message.map_err(|e| NetlinkError::Answer(e.to_string()))?.payload {
        NetlinkPayload::InnerMessage(inner) => Ok(Some(inner)),
        _ => Ok(None),
    }
}

/// The refusal in an `NLMSG_ERROR`; `None` for an acknowledgement.
fn refused(message: &Message<'_>) -> Option<NetlinkError> {
    let body = message.whole.get(HEADER_BYTES..)?;
    let code = i32::from_ne_bytes(body.get(..4)?.try_into().ok()?);
    if code == 0 {
        return None;
    }
    let mut said = String::new();
    if message.flags & NLM_F_ACK_TLVS != 0 {
        let request = if message.flags & NLM_F_CAPPED != 0 {
            HEADER_BYTES
        } else {
            body.get(4..8)
                .and_then(|b| b.try_into().ok())
                .map_or(HEADER_BYTES, |b| align(u32::from_ne_bytes(b) as usize))
        };
        said = words(body.get(4 + request..).unwrap_or_default());
    }
    Some(NetlinkError::Refused { errno: code.saturating_neg(), said })
}

/// The text among the attributes of an extended acknowledgement.
pub(crate) fn words(extended: &[u8]) -> String {
    let text = attributes(extended).find(|(kind, _)| *kind == NLMSGERR_ATTR_MSG);
    text.map(|(_, value)| String::from_utf8_lossy(value).trim_end_matches('\0').to_owned())
        .unwrap_or_default()
}

pub(crate) struct Message<'a> {
    kind: u16,
    flags: u16,
    sequence: u32,
    whole: &'a [u8],
}

impl<'a> Message<'a> {
    pub(crate) fn body(&self) -> &'a [u8] {
        self.whole.get(HEADER_BYTES..).unwrap_or_default()
    }
}

/// The messages of one datagram.
pub(crate) struct Messages<'a>(pub(crate) &'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = Result<Message<'a>, NetlinkError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.0.is_empty() {
            return None;
        }
        let cut = || NetlinkError::Answer("a message is cut short".into());
        let head = self.0;
        let Some(length) = u32_at(head, 0).map(|l| l as usize) else {
            self.0 = &[];
            return Some(Err(cut()));
        };
        if length < HEADER_BYTES || length > head.len() {
            self.0 = &[];
            return Some(Err(cut()));
        }
        self.0 = head.get(align(length)..).unwrap_or_default();
        let whole = &head[..length];
        let (kind, flags) = (u16_at(head, 4).unwrap_or_default(), u16_at(head, 6).unwrap_or_default());
        let sequence = u32_at(head, 8).unwrap_or_default();
        Some(Ok(Message {
            kind,
            flags: if kind == NLMSG_DONE { flags & !NLM_F_MULTI } else { flags },
            sequence,
            whole,
        }))
    }
}

fn u16_at(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn u32_at(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

pub(crate) const fn align(bytes: usize) -> usize {
    (bytes + 3) & !3
}

/// Attributes (`struct nlattr`) with the nesting and byte order flags taken off; stops at the first bad one.
pub(crate) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(u16_at(bytes, 0)?);
        let kind = u16_at(bytes, 2)? & netlink_packet_core::NLA_TYPE_MASK;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(align(length)..).unwrap_or_default();
        Some((kind, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_carries_the_words_of_the_kernel() {
        let mut body = (-95i32).to_ne_bytes().to_vec();
        body.extend([0; HEADER_BYTES]);
        body.extend([4 + 8, 0, 1, 0]);
        body.extend(b"no way\0\0");
        let mut whole = ((HEADER_BYTES + body.len()) as u32).to_ne_bytes().to_vec();
        whole.extend(NLMSG_ERROR.to_ne_bytes());
        whole.extend((NLM_F_CAPPED | NLM_F_ACK_TLVS).to_ne_bytes());
        whole.extend([0; 8]);
        whole.extend(&body);
        let message = Messages(&whole).next().unwrap().unwrap();
        let error = refused(&message).unwrap();
        assert_eq!(error.errno(), Some(95));
        assert!(error.to_string().ends_with("(no way)"), "{error}");
    }

    #[test]
    fn cut_datagrams_are_errors_and_end() {
        for bytes in [&[1u8, 2][..], &[255, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0], &[3, 0, 0, 0, 9, 9]]
        {
            let all: Vec<_> = Messages(bytes).collect();
            assert_eq!(all.len(), 1);
            assert!(all[0].is_err());
        }
        assert_eq!(attributes(&[9, 0, 1, 0, 1]).count(), 0);
        assert_eq!(attributes(&[2, 0, 1, 0]).count(), 0, "shorter than its own header");
    }
}
