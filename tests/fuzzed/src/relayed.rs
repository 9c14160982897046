//! Datagrams of a relay: what is read is written as it was, and pieces in any order become what was cut or nothing.

use model::relay::datagram::cut;
use model::relay::{HEAD_BYTES, Joiner, PAYLOAD_BYTES_MAX, PieceIds, Relayed};
use model::{DeviceId, Mono};

/// The input is a row of datagrams, each behind its length of two bytes.
pub(crate) fn check(bytes: &[u8]) {
    let (mut rest, mut joiner, mut ids) = (bytes, Joiner::default(), PieceIds::of_relay());
    let mut now = Mono::from_micros(0);
    while let Some((length, after)) = rest.split_first_chunk::<2>() {
        let (datagram, after) = after.split_at(usize::from(u16::from_be_bytes(*length)).min(after.len()));
        rest = after;
        now = Mono::from_micros(now.as_micros() + 100_000);
        let Some(relayed) = Relayed::parse(datagram) else { continue };
        assert_eq!(relayed.write(), datagram);
        if let Some(payload) = joiner.take(&relayed, now) {
            assert!(!payload.is_empty() && payload.len() <= 2 * PAYLOAD_BYTES_MAX);
        }
        again(relayed.device, relayed.payload, datagram.len(), &mut ids);
    }
}

/// Cuts a payload for a way that takes a little less, and joins it.
fn again(device: DeviceId, payload: &[u8], length: usize, ids: &mut PieceIds) {
    let room = (length - 1).max(HEAD_BYTES + payload.len().div_ceil(2));
    let mut joiner = Joiner::default();
    let pieces: Vec<Vec<u8>> = cut(device, payload, room, ids).map(|piece| piece.write()).collect();
    assert!(pieces.iter().all(|piece| piece.len() <= room), "none is longer than asked for");
    let joined = pieces.iter().rev().find_map(|piece| {
        let piece = Relayed::parse(piece).expect("what is cut is read");
        joiner.take(&piece, Mono::from_micros(0)).map(std::borrow::Cow::into_owned)
    });
    assert_eq!(joined.as_deref(), Some(payload));
}
