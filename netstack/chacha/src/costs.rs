//! When many packets at once are done sooner than one after the other: a few short ones are, a few long ones are not.

use crate::batch::BATCH_MAX;
use crate::job::{Job, TAG_BYTES};
use crate::places::BLOCK_BYTES;

/// What parts of the work cost, about, in nanoseconds of one machine (Zen 4). Only their ratios matter.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Costs {
    /// Packets whose blocks are made side by side, and how many packets' keys one pass makes.
    pub(crate) lanes: usize,
    /// One pass: a block of ChaCha20 in each lane.
    pub(crate) pass: usize,
    /// Packets whose tags are made side by side.
    pub(crate) tag_lanes: usize,
    /// The beginning and the end of as many tags.
    pub(crate) tags: usize,
    /// One step of as many tags, and of how many blocks it is.
    pub(crate) step: usize,
    pub(crate) step_blocks: usize,
}

/// A packet by ring: so much, and for 64 bytes so much more.
const ALONE: usize = 160;
const ALONE_BLOCK: usize = 27;

/// Fewer are always better done alone: a key for the tag takes a pass of its own.
const TOGETHER_MIN: usize = 4;

impl Costs {
    /// How many of a batch's jobs, which are sorted with the longest first, are better done alone. The others are done
    /// together. Jobs of one length are not parted.
    #[inline]
    pub(crate) fn alone(&self, jobs: &[Job<'_>]) -> usize {
        if jobs.len() < TOGETHER_MIN {
            return jobs.len();
        }
        let mut lengths = [0; BATCH_MAX];
        for (length, job) in lengths.iter_mut().zip(jobs) {
            *length = job.text_bytes().unwrap_or(0);
        }
        let lengths = &lengths[..jobs.len()];
        let mut done = 0;
        let mut cost_alone = 0;
        let mut best = (self.together(lengths), 0);
        for alike in lengths.chunk_by(|a, b| a == b) {
            done += alike.len();
            cost_alone += alike.len() * (ALONE + alike[0] * ALONE_BLOCK / BLOCK_BYTES);
            best = best.min((cost_alone + self.together(&lengths[done..]), done));
        }
        best.1
    }

    #[inline]
    fn together(&self, lengths: &[usize]) -> usize {
        let of_lanes = lengths.chunks(self.lanes).map(|lengths| {
            let blocks: usize = lengths.iter().map(|length| length.div_ceil(BLOCK_BYTES)).sum();
            let tags = lengths.chunks(self.tag_lanes).map(|lengths| {
                let blocks = lengths[0].div_ceil(TAG_BYTES);
                self.tags + blocks.div_ceil(self.step_blocks) * self.step
            });
            (1 + blocks.div_ceil(self.lanes)) * self.pass + tags.sum::<usize>()
        });
        of_lanes.sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::job::Key;
    use crate::{avx2, avx512};

    fn check(costs: Costs, lengths: &[usize], expect: usize) {
        let key = Key::new(&[0; 32]);
        let mut packets: Vec<Vec<u8>> = lengths.iter().map(|length| vec![0; length + TAG_BYTES]).collect();
        let jobs: Vec<Job<'_>> =
            packets.iter_mut().map(|bytes| Job { key: &key, counter: 0, bytes }).collect();
        assert_eq!(costs.alone(&jobs), expect, "{lengths:?}");
    }

    #[test]
    fn a_few_are_done_alone_and_many_together() {
        check(avx512::COSTS, &[], 0);
        check(avx512::COSTS, &[1420; 3], 3);
        check(avx512::COSTS, &[1420; 16], 0);
        check(avx512::COSTS, &[64; 16], 0);
        check(avx2::COSTS, &[1420; 16], 16);
        check(avx2::COSTS, &[64; 16], 0);
    }

    #[test]
    fn a_long_one_does_not_hold_up_short_ones() {
        let mut lengths = [64; 16];
        lengths[0] = 1420;
        check(avx512::COSTS, &lengths, 1);
        check(avx2::COSTS, &lengths, 1);
    }
}
