//! Eight packets at once in 256-bit registers: ChaCha20 with a block in each 32-bit lane, Poly1305 with a packet in
//! each 64-bit lane.

mod blocks;
mod tags;

use std::arch::x86_64::_mm256_setzero_si256;

use subtle::ConstantTimeEq;

use crate::costs::Costs;
use crate::job::Job;
use crate::wipe::wipe;

/// What the work here costs beside that of ring.
pub(crate) const COSTS: Costs =
    Costs { lanes: 8, pass: 205, tag_lanes: 4, tags: 150, step: 30, step_blocks: 2 };

/// Packets in one set of registers: half a batch.
const LANES: usize = 8;

/// Whether this machine has what the functions here need.
pub(crate) fn runs_here() -> bool {
    is_x86_feature_detected!("avx2")
}

/// Seals at most sixteen jobs, each with room for its tag.
#[target_feature(enable = "avx2")]
pub(crate) fn seal(jobs: &mut [Job<'_>]) {
    for jobs in jobs.chunks_mut(LANES) {
        let mut keys = blocks::Keys::of(jobs);
        let mut once = keys.once();
        blocks::cover(&keys, jobs, &[true; LANES]);
        let tags = tags::of(jobs, &once);
        for (job, tag) in jobs.iter_mut().zip(&tags) {
            let end = job.text_bytes().expect("a job to seal has room for its tag");
            job.bytes[end..].copy_from_slice(&tag.to_le_bytes());
        }
        keys.wipe();
        wipe(&mut once, _mm256_setzero_si256());
    }
}

/// Opens at most sixteen jobs and writes whose tag was right. Jobs without room for a tag are refused.
#[target_feature(enable = "avx2")]
pub(crate) fn open(jobs: &mut [Job<'_>], right: &mut [bool]) {
    for (jobs, right) in jobs.chunks_mut(LANES).zip(right.chunks_mut(LANES)) {
        let mut keys = blocks::Keys::of(jobs);
        let mut once = keys.once();
        let mut tags = tags::of(jobs, &once);
        for ((job, tag), right) in jobs.iter_mut().zip(&tags).zip(right.iter_mut()) {
            *right = job.bytes.last_chunk().is_some_and(|sent| u128::from_le_bytes(*sent).ct_eq(tag).into());
            if !*right {
                job.bytes.fill(0);
            }
        }
        blocks::cover(&keys, jobs, right);
        keys.wipe();
        wipe(&mut once, _mm256_setzero_si256());
        // The right tag of a forged packet is what its sender wants to know.
        wipe(&mut tags, 0);
    }
}

/// The tags of eight texts with keys for Poly1305 that no ChaCha20 made.
#[cfg(test)]
#[target_feature(enable = "avx2")]
pub(crate) fn tags_with(jobs: &[Job<'_>], once: &[[u32; 8]]) -> [u128; LANES] {
    let once = std::array::from_fn(|word| blocks::load(&std::array::from_fn(|lane| once[lane][word])));
    tags::of(jobs, &once)
}
