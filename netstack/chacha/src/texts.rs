//! The texts of a batch, laid beside each other for Poly1305 so that all end together.
//!
//! A shorter text begins later: the blocks before it are zeros without the bit that marks a block, and leave its sum at
//! zero. So no lane has to stop before the others.

use crate::job::{Job, TAG_BYTES};

/// Texts for `LANES` lanes, to be read in steps of `BLOCKS` blocks of 16 bytes.
pub(crate) struct Texts<'a, const LANES: usize, const BLOCKS: usize> {
    pub(crate) texts: [&'a [u8]; LANES],
    /// Blocks of zeros before each text.
    pub(crate) leads: [usize; LANES],
    /// Blocks before the first text begins.
    pub(crate) lead_min: usize,
    lead_max: usize,
    pub(crate) steps: usize,
}

impl<'a, const LANES: usize, const BLOCKS: usize> Texts<'a, LANES, BLOCKS> {
    /// The texts of at least one job. Lanes without a job do the first one's work again; nobody reads their tag.
    pub(crate) fn of(jobs: &'a [Job<'_>]) -> Self {
        let texts = std::array::from_fn(|lane| {
            let job = jobs.get(lane).unwrap_or(&jobs[0]);
            &job.bytes[..job.text_bytes().unwrap_or(0)]
        });
        let blocks = texts.map(|text: &[u8]| text.len().div_ceil(TAG_BYTES));
        let steps = blocks.into_iter().max().unwrap_or(0).div_ceil(BLOCKS);
        let leads = blocks.map(|blocks| steps * BLOCKS - blocks);
        let lead_min = leads.into_iter().min().unwrap_or(0);
        let lead_max = leads.into_iter().max().unwrap_or(0);
        Self { texts, leads, lead_min, lead_max, steps }
    }

    /// Whether no text begins within a step or later.
    pub(crate) fn all_began(&self, step: usize) -> bool {
        step * BLOCKS >= self.lead_max
    }

    /// Where in its text a lane's step begins; negative before the text.
    pub(crate) fn start(&self, lane: usize, step: usize) -> isize {
        (step * BLOCKS * TAG_BYTES).wrapping_sub(self.leads[lane] * TAG_BYTES) as isize
    }

    /// How long each text is.
    pub(crate) fn lengths(&self) -> [u64; LANES] {
        self.texts.map(|text| text.len() as u64)
    }
}
