//! Which block of which packet each lane of ChaCha20 works on.

use crate::job::Job;

/// Bytes in a block of ChaCha20.
pub(crate) const BLOCK_BYTES: usize = 64;

/// The blocks of a batch's texts in order, cut into passes of at most `LANES`; packets follow each other without a gap,
/// so that short ones share a pass.
pub(crate) struct Places<const LANES: usize> {
    packet: usize,
    block: u32,
}

/// One pass: for each lane, the packet and the number of the block in it. The text begins with block 1.
pub(crate) struct Pass<const LANES: usize> {
    pub(crate) packets: [u32; LANES],
    pub(crate) blocks: [u32; LANES],
    /// How many lanes are in use.
    pub(crate) count: usize,
}

impl<const LANES: usize> Places<LANES> {
    pub(crate) fn new() -> Self {
        Self { packet: 0, block: 1 }
    }

    /// The next pass over the packets that are `wanted`; nothing when all are done.
    pub(crate) fn next(&mut self, jobs: &[Job<'_>], wanted: &[bool]) -> Option<Pass<LANES>> {
        let mut pass = Pass { packets: [0; LANES], blocks: [0; LANES], count: 0 };
        while let Some(job) = jobs.get(self.packet) {
            let text_bytes = if wanted[self.packet] { job.text_bytes().unwrap_or(0) } else { 0 };
            let last = text_bytes.div_ceil(BLOCK_BYTES) as u32;
            let fits = ((last + 1 - self.block) as usize).min(LANES - pass.count);
            for lane in pass.count..pass.count + fits {
                pass.packets[lane] = self.packet as u32;
                pass.blocks[lane] = self.block;
                self.block += 1;
            }
            pass.count += fits;
            if self.block <= last {
                break;
            }
            self.packet += 1;
            self.block = 1;
        }
        (pass.count > 0).then_some(pass)
    }
}

impl<const LANES: usize> Pass<LANES> {
    /// The part of a text that a lane covers: 64 bytes, or less at the end.
    pub(crate) fn text<'j>(&self, lane: usize, jobs: &'j mut [Job<'_>]) -> &'j mut [u8] {
        let job = &mut jobs[self.packets[lane] as usize];
        let text_bytes = job.text_bytes().unwrap_or(0);
        let start = (self.blocks[lane] as usize - 1) * BLOCK_BYTES;
        &mut job.bytes[start..text_bytes.min(start + BLOCK_BYTES)]
    }
}
