//! Which serials of a list are written one by one, as ranges and as bits, so that the list is short.

use std::collections::BTreeSet;

/// Bits of one serial in a list.
const SERIAL_BITS: u64 = 64;
/// Bits of a part with one range: kind, length, first and last.
const RANGE_BITS: u64 = (1 + 4 + 8 + 8) * 8;
/// Bits of a part with a bitmap beside those of its serials: kind, length, first, length of the bits, and what fills the last byte.
const BITMAP_BITS: u64 = (1 + 4 + 8 + 4 + 1) * 8;
/// OpenSSH reads the bits as a number, and none of more (`SSHBUF_MAX_BIGNUM`).
pub(super) const BITMAP_SPAN_MAX: u64 = 16_384;

/// Serials that are written in one form.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    /// Each by itself.
    Singles(std::ops::RangeInclusive<u64>),
    /// First and last.
    Range(u64, u64),
    /// The first, and a number (RFC 4251, section 5: mpint) whose bit n stands for the n-th after it.
    Bits(u64, Vec<u8>),
}

/// Serials in a row.
#[derive(Clone, Copy)]
struct Run {
    first: u64,
    last: u64,
}

impl Run {
    const fn count(self) -> u64 {
        (self.last - self.first).saturating_add(1)
    }

    /// What it costs by itself.
    fn apart(self) -> u64 {
        self.count().saturating_mul(SERIAL_BITS).min(RANGE_BITS)
    }

    const fn piece(self) -> Piece {
        match self.count().saturating_mul(SERIAL_BITS) > RANGE_BITS {
            true => Piece::Range(self.first, self.last),
            false => Piece::Singles(self.first..=self.last),
        }
    }
}

/// A bitmap that ends with the run at hand: the first run in it, and the cost of all up to here.
#[derive(Clone, Copy)]
struct Open {
    start: usize,
    cost: u64,
}

/// The pieces that are shortest together, in ascending order: each run is either apart or in a bitmap, and what costs least up
/// to a run does not depend on what follows.
pub(super) fn pieces(serials: &BTreeSet<u64>) -> Vec<Piece> {
    let runs = runs(serials);
    let (mut least, mut open) = (0, None::<Open>);
    // With which run the bitmap begins that this one ends best; `None`: it is best apart.
    let mut bitmaps = Vec::with_capacity(runs.len());
    for (at, run) in runs.iter().enumerate() {
        let begun = Open { start: at, cost: least + BITMAP_BITS + run.count().min(BITMAP_SPAN_MAX) };
        let extended = open.filter(|open| run.last - runs[open.start].first < BITMAP_SPAN_MAX);
        let extended = extended.map(|open| Open { cost: open.cost + (run.last - runs[at - 1].last), ..open });
        let best = extended.filter(|extended| extended.cost <= begun.cost).unwrap_or(begun);
        open = (run.count() <= BITMAP_SPAN_MAX).then_some(best);
        let apart = least + run.apart();
        let bitmap = open.filter(|open| open.cost < apart);
        least = bitmap.map_or(apart, |open| open.cost);
        bitmaps.push(bitmap.map(|open| open.start));
    }
    let (mut pieces, mut end) = (Vec::new(), runs.len());
    while let Some(last) = end.checked_sub(1) {
        end = bitmaps[last].unwrap_or(last);
        let piece = bitmaps[last].map_or_else(|| runs[last].piece(), |start| bits(&runs[start..=last]));
        pieces.push(piece);
    }
    pieces.reverse();
    pieces
}

fn runs(serials: &BTreeSet<u64>) -> Vec<Run> {
    let mut runs: Vec<Run> = Vec::new();
    for serial in serials.iter().copied() {
        match runs.last_mut().filter(|run| run.last.checked_add(1) == Some(serial)) {
            Some(run) => run.last = serial,
            None => runs.push(Run { first: serial, last: serial }),
        }
    }
    runs
}

/// The runs are not further apart than a bitmap reaches.
fn bits(runs: &[Run]) -> Piece {
    let (first, last) = (runs[0].first, runs[runs.len() - 1].last);
    // A number whose highest bit is set would be negative: there is room for another one.
    let count = (last - first + 1) / 8 + 1;
    let mut bytes = vec![0u8; usize::try_from(count).expect("a bitmap is short")];
    for offset in runs.iter().flat_map(|run| run.first - first..=run.last - first) {
        let byte = usize::try_from(count - 1 - offset / 8).expect("a bitmap is short");
        bytes[byte] |= 1 << (offset % 8);
    }
    Piece::Bits(first, bytes)
}

/// The serials of a bitmap; `None` if one would be larger than a serial can be.
pub(super) fn of_bits(first: u64, bytes: &[u8]) -> Option<Vec<u64>> {
    let bits = bytes.iter().rev().zip(0u64..).flat_map(|(byte, at)| {
        let set = (0..8).filter(move |bit| byte & 1 << bit != 0);
        set.map(move |bit| at * 8 + bit)
    });
    bits.map(|bit| first.checked_add(bit)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(serials: impl IntoIterator<Item = u64>, expect: &[Piece]) {
        assert_eq!(pieces(&serials.into_iter().collect()), expect);
    }

    fn singles(serial: u64) -> Piece {
        Piece::Singles(serial..=serial)
    }

    #[test]
    fn each_form_is_taken_where_it_is_the_shortest() {
        check([], &[]);
        check([7], &[singles(7)]);
        check([7, 8], &[Piece::Singles(7..=8)]);
        check([7, 8, 9], &[Piece::Bits(7, vec![0b111])]);
        check(7..100, &[Piece::Range(7, 99)]);
        check([7, 1000], &[singles(7), singles(1000)]);
        check([7, 9, 11], &[Piece::Bits(7, vec![0b1_0101])]);
        // The eighth bit would be the sign.
        check([1, 3, 5, 8], &[Piece::Bits(1, vec![0, 0b1001_0101])]);
        // A long run between scattered ones is a range.
        let evens = |from: u64| (0..40).map(move |n| from + 2 * n);
        let around = pieces(&evens(100).chain(1000..3000).chain(evens(3100)).collect());
        assert!(matches!(&around[..], [Piece::Bits(100, _), Piece::Range(1000, 2999), Piece::Bits(3100, _)]));
        // And one that is not too long is in the bits.
        let among = pieces(&evens(100).chain(190..200).chain(evens(210)).collect());
        assert!(matches!(&among[..], [Piece::Bits(100, _)]), "{among:?}");
        check([u64::MAX - 1, u64::MAX], &[Piece::Singles(u64::MAX - 1..=u64::MAX)]);
        check([4, 2, 0].map(|n| u64::MAX - n), &[Piece::Bits(u64::MAX - 4, vec![0b1_0101])]);
    }

    #[test]
    fn a_bitmap_is_no_longer_than_openssh_reads() {
        let pieces = pieces(&(0..=BITMAP_SPAN_MAX).map(|n| 1 + 2 * n).collect());
        let bytes: Vec<usize> = pieces.iter().map(piece_bytes).collect();
        assert_eq!(bytes, [2048, 2048, 0]);
        assert_eq!(pieces[2], singles(1 + 2 * BITMAP_SPAN_MAX));
    }

    fn piece_bytes(piece: &Piece) -> usize {
        match piece {
            Piece::Bits(_, bytes) => bytes.len(),
            _ => 0,
        }
    }

    #[test]
    fn no_bitmap_goes_beyond_the_largest_serial() {
        assert_eq!(of_bits(u64::MAX - 2, &[0b101]), Some(vec![u64::MAX - 2, u64::MAX]));
        assert_eq!(of_bits(u64::MAX - 2, &[0b1001]), None);
    }
}
