//! The wire: frames cut out of a stream of bytes.

use model::wire::{Decoder, Frame, FrameError, encode};

/// A stream means the same however it is cut into packets, and what was read can be written and read again.
pub(crate) fn check(bytes: &[u8]) {
    let whole = read(bytes.chunks(bytes.len().max(1)));
    let cut = bytes.first().map_or(1, |first| usize::from(*first % 61) + 1);
    assert_eq!(whole, read(bytes.chunks(cut)), "cut into pieces of {cut} bytes");

    let known = |frame: &&Frame| !matches!(frame, Frame::Unknown(_));
    for frame in whole.0.iter().filter(known) {
        let again = read([&encode(frame)[..]].into_iter());
        assert_eq!(again, (vec![frame.clone()], None), "written and read again");
    }
}

fn read<'a>(pieces: impl Iterator<Item = &'a [u8]>) -> (Vec<Frame>, Option<FrameError>) {
    let mut decoder = Decoder::new();
    let mut frames = Vec::new();
    for piece in pieces {
        decoder.push(piece);
        loop {
            match decoder.next_frame() {
                Ok(Some(frame)) => frames.push(frame),
                Ok(None) => break,
                Err(error) => return (frames, Some(error)),
            }
        }
    }
    (frames, None)
}
