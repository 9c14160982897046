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
    /// together.
    pub(crate) fn alone(&self, jobs: &[Job<'_>]) -> usize {
        if jobs.len() < TOGETHER_MIN {
            return jobs.len();
        }
        let mut lengths = [0; BATCH_MAX];
        for (length, job) in lengths.iter_mut().zip(jobs) {
            *length = job.text_bytes().unwrap_or(0);
        }
        let lengths = &lengths[..jobs.len()];
        let mut alone = 0;
        let mut best = (self.together(lengths), 0);
        for (number, length) in lengths.iter().enumerate() {
            alone += ALONE + length * ALONE_BLOCK / BLOCK_BYTES;
            best = best.min((alone + self.together(&lengths[number + 1..]), number + 1));
        }
        best.1
    }

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
