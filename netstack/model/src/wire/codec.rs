//! Frames to bytes and back. Sans-IO; holds one frame at most.

use crate::limits::FRAME_BYTES_MAX;
use crate::wire::frame::Frame;

const LENGTH_BYTES: usize = 4;
const KIND_BYTES: usize = 2;

/// Why bytes are no frame. The link is of no use afterwards.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum FrameError {
    /// Longer than [`FRAME_BYTES_MAX`].
    #[error("a frame of {0} bytes is longer than {FRAME_BYTES_MAX}")]
    TooLong(usize),
    /// No room for a kind.
    #[error("a frame of {0} bytes has no kind")]
    TooShort(usize),
    /// The body does not read as its kind.
    #[error("a frame of kind {kind} cannot be read: {reason}")]
    Unreadable {
        /// Its kind.
        kind: u16,
        /// What the decoder said.
        reason: String,
    },
}

/// The bytes of a frame: length, kind, body.
pub fn encode(frame: &Frame) -> Vec<u8> {
    let body = frame.encode_body();
    let length = KIND_BYTES + body.len();
    debug_assert!(length <= FRAME_BYTES_MAX, "a {} frame of {length} bytes", frame.name());
    let mut out = Vec::with_capacity(LENGTH_BYTES + length);
    out.extend_from_slice(&u32::try_from(length).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(&frame.kind().to_be_bytes());
    out.extend_from_slice(&body);
    out
}

/// Cuts a stream of bytes into frames.
#[derive(Debug, Default)]
pub struct Decoder {
    buffer: Vec<u8>,
    /// Bytes at the front that were given out already.
    consumed: usize,
}

impl Decoder {
    /// A decoder at the start of a stream.
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes the next bytes of the stream. Call [`Self::next_frame`] until it has no more before the next push: the
    /// buffer then holds less than one frame, and what was pushed.
    pub fn push(&mut self, bytes: &[u8]) {
        self.buffer.drain(..self.consumed);
        self.consumed = 0;
        self.buffer.extend_from_slice(bytes);
    }

    /// Whether a frame has begun that is not whole yet: a stream that ends now was cut.
    pub fn holds_part(&self) -> bool {
        self.consumed < self.buffer.len()
    }

    /// The next whole frame, if it is there.
    pub fn next_frame(&mut self) -> Result<Option<Frame>, FrameError> {
        let rest = &self.buffer[self.consumed..];
        let Some((length, rest)) = rest.split_first_chunk::<LENGTH_BYTES>() else { return Ok(None) };
        let length = u32::from_be_bytes(*length) as usize;
        if length > FRAME_BYTES_MAX {
            return Err(FrameError::TooLong(length));
        }
        if length < KIND_BYTES {
            return Err(FrameError::TooShort(length));
        }
        let Some(frame) = rest.get(..length) else { return Ok(None) };
        let (kind, body) = frame.split_at(KIND_BYTES);
        let kind = u16::from_be_bytes([kind[0], kind[1]]);
        let frame = Frame::decode_body(kind, body)
            .map_err(|e| FrameError::Unreadable { kind, reason: e.to_string() })?;
        self.consumed += LENGTH_BYTES + length;
        Ok(Some(frame))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::frame::{Heard, Retry};

    #[test]
    fn frames_survive_any_cut_of_the_stream() {
        let frames = [
            Frame::from(Heard { sequence: 7, lease: None }),
            Frame::from(Retry { after_millis: 9 }),
            Frame::Unknown(999),
        ];
        let stream: Vec<u8> = frames.iter().flat_map(encode).collect();
        for chunk in 1..stream.len() {
            let mut decoder = Decoder::new();
            let mut seen = Vec::new();
            for bytes in stream.chunks(chunk) {
                decoder.push(bytes);
                while let Some(frame) = decoder.next_frame().expect("a good stream") {
                    seen.push(frame);
                }
            }
            assert_eq!(seen, frames, "chunks of {chunk}");
            assert!(!decoder.holds_part());
            decoder.push(&[0]);
            assert!(decoder.holds_part());
        }
    }

    #[test]
    fn unknown_fields_are_skipped() {
        let mut body = Vec::new();
        let mut e = minicbor::Encoder::new(&mut body);
        e.map(2)
            .and_then(|e| e.u8(0))
            .and_then(|e| e.u64(7))
            .and_then(|e| e.u8(99))
            .and_then(|e| e.str("new"))
            .expect("encodes");
        assert_eq!(Frame::decode_body(14, &body).ok(), Some(Heard { sequence: 7, lease: None }.into()));
    }

    #[test]
    fn lengths_are_checked_before_anything_is_held() {
        let check = |bytes: &[u8], expect| {
            let mut decoder = Decoder::new();
            decoder.push(bytes);
            assert_eq!(decoder.next_frame(), expect);
        };
        check(&[0, 0], Ok(None));
        check(&u32::MAX.to_be_bytes(), Err(FrameError::TooLong(u32::MAX as usize)));
        check(&[0, 0, 0, 1], Err(FrameError::TooShort(1)));
        let mut decoder = Decoder::new();
        decoder.push(&[0, 0, 0, 3, 0, 14, 0xff]);
        assert!(matches!(decoder.next_frame(), Err(FrameError::Unreadable { kind: 14, .. })));
    }
}
