//! Up to sixteen jobs of a call, gathered on the stack, the longest first.

use crate::job::Job;

/// How many packets are worked on at once: one for each 32-bit lane of a 512-bit register.
pub(crate) const BATCH_MAX: usize = 16;

/// The next jobs of a call. Long texts are next to long ones, so that lanes which work side by side end together.
pub(crate) struct Batch<'a> {
    jobs: [Job<'a>; BATCH_MAX],
    /// Which job of the call, counted from the batch's first, is in which place.
    numbers: [usize; BATCH_MAX],
    count: usize,
}

impl<'a> Batch<'a> {
    /// Takes the next jobs, at most [`BATCH_MAX`]; nothing if there are none.
    pub(crate) fn gather(jobs: &mut impl Iterator<Item = Job<'a>>) -> Option<Self> {
        let first = jobs.next()?;
        let mut batch = Self {
            jobs: std::array::from_fn(|_| Job::none()),
            numbers: std::array::from_fn(|n| n),
            count: 1,
        };
        batch.jobs[0] = first;
        for (place, job) in batch.jobs[1..].iter_mut().zip(jobs) {
            *place = job;
            batch.count += 1;
        }
        batch.sort();
        Some(batch)
    }

    /// By insertion: most batches are of one length.
    fn sort(&mut self) {
        for next in 1..self.count {
            let mut place = next;
            while place > 0 && self.jobs[place - 1].bytes.len() < self.jobs[place].bytes.len() {
                self.jobs.swap(place - 1, place);
                self.numbers.swap(place - 1, place);
                place -= 1;
            }
        }
    }

    /// The jobs, the longest first.
    pub(crate) fn jobs(&mut self) -> &mut [Job<'a>] {
        &mut self.jobs[..self.count]
    }

    /// What was found for each place, in the order in which the jobs came.
    pub(crate) fn in_order(&self, found: &[bool; BATCH_MAX]) -> impl Iterator<Item = bool> + use<> {
        let mut ordered = [false; BATCH_MAX];
        for (number, found) in self.numbers.iter().zip(found) {
            ordered[*number] = *found;
        }
        ordered.into_iter().take(self.count)
    }
}
