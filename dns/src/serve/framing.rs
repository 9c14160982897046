//! Messages in a stream, each with two bytes of length in front (RFC 1035, section 4.2.2). Bounded; reads and writes
//! no socket.

use tokio::time::Instant;

use super::limits::{TCP_ANSWERS_BYTES, TCP_QUERY_BYTES_MAX};
use crate::limits::HOT_BUFFER_BYTES;

const LENGTH_BYTES: usize = 2;

/// What has come of queries and is not taken yet.
#[derive(Debug)]
pub(super) struct Queries {
    bytes: Box<[u8]>,
    start: usize,
    end: usize,
}

/// A query of more than [`TCP_QUERY_BYTES_MAX`].
#[derive(Debug, PartialEq, Eq)]
pub(super) struct TooLong;

impl Queries {
    pub(super) fn new() -> Self {
        Self { bytes: vec![0; LENGTH_BYTES + TCP_QUERY_BYTES_MAX].into(), start: 0, end: 0 }
    }

    /// Where to put what comes next: not empty after [`Self::next`] gave `None`.
    pub(super) fn room(&mut self) -> &mut [u8] {
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        } else if self.end == self.bytes.len() {
            self.bytes.copy_within(self.start..self.end, 0);
            (self.start, self.end) = (0, self.end - self.start);
        }
        &mut self.bytes[self.end..]
    }

    /// So many bytes were put there.
    pub(super) fn came(&mut self, bytes: usize) {
        self.end += bytes;
    }

    /// Takes the next whole query.
    pub(super) fn next(&mut self) -> Result<Option<&[u8]>, TooLong> {
        let held = &self.bytes[self.start..self.end];
        let Some((length, rest)) = held.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = usize::from(u16::from_be_bytes(*length));
        if length > TCP_QUERY_BYTES_MAX {
            return Err(TooLong);
        }
        if rest.len() < length {
            return Ok(None);
        }
        let start = self.start + LENGTH_BYTES;
        self.start = start + length;
        Ok(Some(&self.bytes[start..start + length]))
    }

    /// Forgets what came.
    pub(super) fn clear(&mut self) {
        (self.start, self.end) = (0, 0);
    }

    /// Whether a part of a query is here.
    pub(super) const fn is_begun(&self) -> bool {
        self.start < self.end
    }
}

/// What waits for the asker to read it: what is being sent, and what comes after.
#[derive(Debug)]
pub(super) struct Answers {
    sending: Vec<u8>,
    sent: usize,
    /// When sending this part began.
    pub(super) since: Instant,
    waiting: Vec<u8>,
}

impl Answers {
    pub(super) fn new() -> Self {
        Self { sending: Vec::new(), sent: 0, since: Instant::now(), waiting: Vec::new() }
    }

    /// Whether another query may be answered.
    pub(super) fn have_room(&self) -> bool {
        self.sending.len() - self.sent + self.waiting.len() < TCP_ANSWERS_BYTES
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unsent().is_empty() && self.waiting.is_empty()
    }

    /// Adds a message. One that is longer than the length can say is none, and not added.
    pub(super) fn push(&mut self, message: &[u8]) {
        if let Ok(length) = u16::try_from(message.len()) {
            self.waiting.extend(length.to_be_bytes());
            self.waiting.extend(message);
        }
    }

    /// Adds what `write` makes of the query where it lies, and answers its result; nothing is added for `None`.
    pub(super) fn write_over<R>(
        &mut self,
        query: &[u8],
        write: impl FnOnce(&mut [u8], usize) -> Option<(usize, R)>,
    ) -> Option<R> {
        let start = self.waiting.len();
        let message = start + LENGTH_BYTES;
        self.waiting.extend([0; LENGTH_BYTES]);
        self.waiting.extend(query);
        self.waiting.resize(message + query.len().max(HOT_BUFFER_BYTES), 0);
        let written = write(&mut self.waiting[message..], query.len());
        let length = written.as_ref().and_then(|(length, _)| u16::try_from(*length).ok());
        match length {
            Some(length) => {
                self.waiting[start..message].copy_from_slice(&length.to_be_bytes());
                self.waiting.truncate(message + usize::from(length));
            }
            None => self.waiting.truncate(start),
        }
        written.map(|(_, result)| result)
    }

    /// When the part before is out, begins with what has waited.
    pub(super) fn turn(&mut self) {
        if self.unsent().is_empty() {
            self.sending.clear();
            // What one long answer took is not kept for as long as the asker stays.
            self.sending.shrink_to(2 * TCP_ANSWERS_BYTES);
            self.sent = 0;
            std::mem::swap(&mut self.sending, &mut self.waiting);
            if !self.sending.is_empty() {
                self.since = Instant::now();
            }
        }
    }

    /// What is to be sent now.
    pub(super) fn unsent(&self) -> &[u8] {
        &self.sending[self.sent..]
    }

    /// So many bytes of it were sent.
    pub(super) fn went(&mut self, bytes: usize) {
        self.sent += bytes;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn put(queries: &mut Queries, mut bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut taken = Vec::new();
        while !bytes.is_empty() {
            let room = queries.room();
            assert!(!room.is_empty(), "there is room for a whole query");
            let count = room.len().min(bytes.len());
            room[..count].copy_from_slice(&bytes[..count]);
            bytes = &bytes[count..];
            queries.came(count);
            while let Some(query) = queries.next().expect("none is too long") {
                taken.push(query.to_vec());
            }
        }
        taken
    }

    proptest! {
        #[test]
        fn queries_come_out_whole_however_they_come_in(
            lengths in prop::collection::vec(prop_oneof![0..60usize, 0..=TCP_QUERY_BYTES_MAX], 0..40),
            cuts in prop::collection::vec(1..6000usize, 1..40),
        ) {
            let sent: Vec<Vec<u8>> =
                lengths.iter().enumerate().map(|(n, length)| vec![n.to_le_bytes()[0]; *length]).collect();
            let mut answers = Answers::new();
            sent.iter().for_each(|query| answers.push(query));
            answers.turn();
            let mut stream = answers.unsent();
            let (mut queries, mut taken) = (Queries::new(), Vec::new());
            for cut in cuts.iter().cycle() {
                if stream.is_empty() {
                    break;
                }
                let (now, rest) = stream.split_at(stream.len().min(*cut));
                taken.extend(put(&mut queries, now));
                stream = rest;
            }
            prop_assert_eq!(taken, sent);
            prop_assert!(!queries.is_begun());
        }
    }

    #[test]
    fn a_query_that_is_too_long_is_known_by_its_length() {
        let mut queries = Queries::new();
        let length = u16::try_from(TCP_QUERY_BYTES_MAX + 1).expect("short").to_be_bytes();
        queries.room()[..1].copy_from_slice(&length[..1]);
        queries.came(1);
        assert_eq!(queries.next(), Ok(None));
        assert!(queries.is_begun());
        queries.room()[..1].copy_from_slice(&length[1..]);
        queries.came(1);
        assert_eq!(queries.next(), Err(TooLong));
    }

    #[test]
    fn answers_go_out_in_order_part_by_part() {
        let mut answers = Answers::new();
        assert!(answers.is_empty() && answers.have_room());
        answers.push(b"one");
        answers.turn();
        assert_eq!(
            answers.write_over(b"query", |bytes, length| {
                assert!(bytes.len() >= HOT_BUFFER_BYTES && bytes[..length] == *b"query");
                bytes[..3].copy_from_slice(b"two");
                Some((3, ()))
            }),
            Some(())
        );
        assert_eq!(answers.write_over(b"query", |_, _| None::<(usize, ())>), None);
        assert_eq!(answers.unsent(), b"\0\x03one");
        answers.went(2);
        answers.turn();
        assert_eq!(answers.unsent(), b"one", "the part before is not out");
        answers.went(3);
        answers.turn();
        assert_eq!(answers.unsent(), b"\0\x03two");
        answers.push(&[0; TCP_ANSWERS_BYTES]);
        assert!(!answers.have_room());
        answers.went(5);
        answers.turn();
        answers.went(TCP_ANSWERS_BYTES + 2);
        answers.turn();
        assert!(answers.is_empty() && answers.have_room());
        answers.push(&[0; 70_000]);
        assert!(answers.is_empty());
    }
}
