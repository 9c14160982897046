//! Writes an answer over its query: records behind the question, then OPT, and the header last. Decides no record.

use hickory_proto::op::ResponseCode;

use super::Hot;
use super::asked::Asked;
use crate::limits::UDP_PAYLOAD_BYTES_MAX;
use crate::node::RECORD_HEAD_BYTES;
use crate::opt::{Opt, datagram_bytes_max};
use crate::rcode::Rcode;

/// Of an OPT record without options.
const OPT_BYTES: usize = 11;

/// An answer under way. From the first record on there is no way back to the query.
pub(super) struct Reply<'b> {
    buffer: &'b mut [u8],
    opt: Option<Opt>,
    question_end: usize,
    end: usize,
    /// Where the records have to end.
    limit: usize,
    answers: u16,
    authorities: u16,
    too_long: bool,
}

impl<'b> Reply<'b> {
    pub(super) fn over(buffer: &'b mut [u8], asked: &Asked) -> Self {
        let opt_bytes = if asked.opt.is_some() { OPT_BYTES } else { 0 };
        Self {
            limit: datagram_bytes_max(asked.opt) - opt_bytes,
            opt: asked.opt,
            question_end: asked.end,
            end: asked.end,
            answers: 0,
            authorities: 0,
            too_long: false,
            buffer,
        }
    }

    /// Adds a record to the answers.
    pub(super) fn answer(&mut self, parts: &[&[u8]]) {
        self.answers = self.answers.saturating_add(1);
        parts.iter().for_each(|part| self.push(part));
    }

    /// Adds a record to the authority section.
    pub(super) fn authority(&mut self, head: &[u8], names: &[&[u8]], numbers: &[u8]) {
        self.authorities += 1;
        self.push(head);
        names.iter().for_each(|part| self.push(part));
        self.push(numbers);
    }

    /// Adds all records of both sections.
    pub(super) fn sections(&mut self, bytes: &[u8], answers: u16, authorities: u16) {
        (self.answers, self.authorities) = (answers, authorities);
        self.push(bytes);
    }

    /// There is too much of it for any datagram.
    pub(super) const fn give_up(&mut self) {
        self.too_long = true;
    }

    fn push(&mut self, bytes: &[u8]) {
        let end = self.end + bytes.len();
        if self.too_long || end > self.limit {
            self.too_long = true;
            return;
        }
        self.buffer[self.end..end].copy_from_slice(bytes);
        self.end = end;
    }

    /// Ends an answer of somebody who may answer.
    pub(super) fn send(self, code: Rcode) -> Hot {
        self.finish(code, true)
    }

    /// An answer to a stranger.
    pub(super) fn refuse(self) -> Hot {
        self.finish(Rcode::Refused, false)
    }

    /// An answer that is too long is sent without records and with TC: the asker comes back over TCP.
    fn finish(mut self, code: Rcode, authoritative: bool) -> Hot {
        if self.too_long {
            (self.end, self.answers, self.authorities) = (self.question_end, 0, 0);
        }
        if let Some(opt) = self.opt {
            // RFC 3225, section 3: the DO bit is given back as it came.
            let flags = if opt.dnssec_ok { 0x80 } else { 0 };
            let [high, low] = UDP_PAYLOAD_BYTES_MAX.to_be_bytes();
            let ours: [u8; OPT_BYTES] = [0, 0, 41, high, low, 0, 0, flags, 0, 0, 0];
            self.buffer[self.end..self.end + OPT_BYTES].copy_from_slice(&ours);
            self.end += OPT_BYTES;
        }
        let bit = |set, bit| if set { bit } else { 0_u8 };
        let header = &mut self.buffer[2..12];
        // QR, AA, TC, and RD and CD as they came (RFC 1035, section 4.1.1; RFC 6840, section 5.9).
        header[0] = 0x80 | bit(authoritative, 0x04) | bit(self.too_long, 0x02) | (header[0] & 0x01);
        header[1] = (header[1] & 0x10) | number(code);
        header[4..6].copy_from_slice(&self.answers.to_be_bytes());
        header[6..8].copy_from_slice(&self.authorities.to_be_bytes());
        header[9] = u8::from(self.opt.is_some());
        Hot::Reply { length: self.end, code }
    }
}

/// Of the codes that are given here, none of which needs EDNS.
fn number(code: Rcode) -> u8 {
    let code: ResponseCode = code.into();
    code.low()
}

/// A pointer to what begins there in the message: in the first 1232 bytes.
pub(super) fn pointer(at: usize) -> [u8; 2] {
    u16::try_from(at | 0xc000).expect("a datagram is shorter than pointers reach").to_be_bytes()
}

/// What stands before the data of a record of class IN whose owner is a pointer.
pub(super) fn head(owner: [u8; 2], kind: u16, ttl: u32, data_bytes: usize) -> [u8; RECORD_HEAD_BYTES] {
    let length = u16::try_from(data_bytes).expect("names and numbers");
    let mut head = [0; RECORD_HEAD_BYTES];
    head[..2].copy_from_slice(&owner);
    head[2..4].copy_from_slice(&kind.to_be_bytes());
    head[5] = 1;
    head[6..10].copy_from_slice(&ttl.to_be_bytes());
    head[10..].copy_from_slice(&length.to_be_bytes());
    head
}
