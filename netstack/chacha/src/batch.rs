//! Up to sixteen jobs of a call, gathered on the stack.

use crate::job::Job;

/// How many packets are worked on at once: one for each 32-bit lane of a 512-bit register.
pub(crate) const BATCH_MAX: usize = 16;

/// The next jobs of a call.
pub(crate) struct Batch<'a> {
    jobs: [Job<'a>; BATCH_MAX],
    count: usize,
}

impl<'a> Batch<'a> {
    /// Takes the next jobs, at most [`BATCH_MAX`]; nothing if there are none.
    pub(crate) fn gather(jobs: &mut impl Iterator<Item = Job<'a>>) -> Option<Self> {
        let first = jobs.next()?;
        let mut batch = Self { jobs: std::array::from_fn(|_| Job::none()), count: 1 };
        batch.jobs[0] = first;
        for (place, job) in batch.jobs[1..].iter_mut().zip(jobs) {
            *place = job;
            batch.count += 1;
        }
        Some(batch)
    }

    /// The jobs, in order.
    pub(crate) fn jobs(&mut self) -> &mut [Job<'a>] {
        &mut self.jobs[..self.count]
    }
}
