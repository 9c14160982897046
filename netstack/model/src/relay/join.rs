//! Two pieces of one payload become it again. Knows one sender; bounded in number and time.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::time::Duration;

use super::datagram::{Piece, Relayed};
use crate::time::Mono;

/// Pieces of one sender that wait for their other half. The two are sent one after the other; between them comes what
/// overtakes on the way.
const WAITING_MAX: usize = 16;
/// A piece waits so long: longer than any path's reordering, and less than the time in which a number comes again.
const WAIT_MAX: Duration = Duration::from_secs(1);

struct Waiting {
    piece: Piece,
    payload: Vec<u8>,
    since: Mono,
}

/// Joins the pieces of one sender.
#[derive(Default)]
pub struct Joiner {
    waiting: VecDeque<Waiting>,
}

impl Joiner {
    /// Takes a datagram, and gives the payload if it is whole now. A piece whose other half does not come in a second, or
    /// among the next sixteen, is lost.
    pub fn take<'a>(&mut self, datagram: &Relayed<'a>, now: Mono) -> Option<Cow<'a, [u8]>> {
        let other = match datagram.piece {
            Piece::Whole => return Some(Cow::Borrowed(datagram.payload)),
            Piece::First(number) => Piece::Second(number),
            Piece::Second(number) => Piece::First(number),
        };
        while self.waiting.front().is_some_and(|oldest| now.since(oldest.since) > WAIT_MAX) {
            self.waiting.pop_front();
        }
        if let Some(at) = self.waiting.iter().rposition(|waiting| waiting.piece == other) {
            let mut first = self.waiting.remove(at)?.payload;
            if let Piece::First(_) = datagram.piece {
                return Some(Cow::Owned([datagram.payload, &first].concat()));
            }
            first.extend_from_slice(datagram.payload);
            return Some(Cow::Owned(first));
        }
        if self.waiting.len() == WAITING_MAX {
            self.waiting.pop_front();
        }
        self.waiting.push_back(Waiting {
            piece: datagram.piece,
            payload: datagram.payload.to_vec(),
            since: now,
        });
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::id::DeviceId;
    use crate::relay::datagram::{PieceIds, cut};

    fn at(millis: u64) -> Mono {
        Mono::from_micros(millis * 1000)
    }

    /// Cuts payloads of this length, each of its number.
    fn pieces(count: u8, length: usize) -> Vec<(Piece, Vec<u8>)> {
        let mut ids = PieceIds::of_sender();
        let payloads: Vec<Vec<u8>> = (0..count).map(|n| vec![n; length]).collect();
        let cut = |payload| cut(DeviceId::from_bytes([1; 16]), payload, 100, &mut ids).collect::<Vec<_>>();
        let pieces: Vec<Relayed<'_>> = payloads.iter().map(Vec::as_slice).flat_map(cut).collect();
        pieces.iter().map(|d| (d.piece, d.payload.to_vec())).collect()
    }

    fn take(joiner: &mut Joiner, (piece, payload): &(Piece, Vec<u8>), now: Mono) -> Option<Vec<u8>> {
        let datagram = Relayed { device: DeviceId::from_bytes([1; 16]), piece: *piece, payload };
        joiner.take(&datagram, now).map(Cow::into_owned)
    }

    #[test]
    fn pieces_join_in_any_order_of_arrival() {
        let pieces = pieces(2, 101);
        for order in [[0, 1, 2, 3], [1, 0, 3, 2], [0, 2, 1, 3], [3, 0, 2, 1]] {
            let mut joiner = Joiner::default();
            let mut joined: Vec<_> =
                order.iter().filter_map(|at_| take(&mut joiner, &pieces[*at_], at(1))).collect();
            joined.sort();
            assert_eq!(joined, [vec![0; 101], vec![1; 101]], "{order:?}");
            assert!(joiner.waiting.is_empty());
        }
    }

    #[test]
    fn halves_keep_their_order() {
        let (first, second) = ((Piece::First(3), vec![1, 2]), (Piece::Second(3), vec![3]));
        for order in [[&first, &second], [&second, &first]] {
            let mut joiner = Joiner::default();
            assert_eq!(take(&mut joiner, order[0], at(0)), None);
            assert_eq!(take(&mut joiner, order[1], at(0)), Some(vec![1, 2, 3]));
        }
    }

    #[test]
    fn what_waits_is_bounded_in_time_and_number() {
        let all = pieces(20, 101);
        let mut joiner = Joiner::default();
        assert_eq!(take(&mut joiner, &all[0], at(0)), None);
        assert_eq!(take(&mut joiner, &all[1], at(1001)), None, "too late");
        let mut joiner = Joiner::default();
        for first in all.iter().step_by(2) {
            assert_eq!(take(&mut joiner, first, at(0)), None);
        }
        assert_eq!(joiner.waiting.len(), WAITING_MAX);
        assert_eq!(take(&mut joiner, &all[1], at(0)), None, "gave way to later ones");
        assert_eq!(take(&mut joiner, &all[39], at(0)), Some(vec![19; 101]));
    }
}
