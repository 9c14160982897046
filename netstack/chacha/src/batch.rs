//! Up to sixteen jobs of a call, gathered on the stack, the longest first.

use std::mem::MaybeUninit;

use crate::job::Job;

/// How many packets are worked on at once: one for each 32-bit lane of a 512-bit register.
pub(crate) const BATCH_MAX: usize = 16;

/// Jobs of a call. Long texts are next to long ones, so that lanes which work side by side end together.
pub(crate) struct Batch<'a> {
    /// The first `count` are there. A single packet should not have to wait until sixteen places are cleared.
    jobs: [MaybeUninit<Job<'a>>; BATCH_MAX],
    /// Which job, counted from the batch's first, is in which place.
    numbers: [u8; BATCH_MAX],
    count: usize,
}

impl<'a> Batch<'a> {
    pub(crate) fn new() -> Self {
        Self { jobs: [const { MaybeUninit::uninit() }; BATCH_MAX], numbers: [0; BATCH_MAX], count: 0 }
    }

    /// Takes the next jobs, at most [`BATCH_MAX`], in place of the last ones. False if there are none.
    pub(crate) fn gather(&mut self, jobs: &mut impl Iterator<Item = Job<'a>>) -> bool {
        self.count = 0;
        for (place, job) in self.jobs.iter_mut().zip(jobs) {
            place.write(job);
            self.count += 1;
        }
        self.numbers = std::array::from_fn(|number| number as u8);
        self.sort();
        self.count > 0
    }

    /// By insertion: most batches are of one length.
    fn sort(&mut self) {
        let mut numbers = self.numbers;
        let jobs = self.jobs();
        for next in 1..jobs.len() {
            let mut place = next;
            while place > 0 && jobs[place - 1].bytes.len() < jobs[place].bytes.len() {
                jobs.swap(place - 1, place);
                numbers.swap(place - 1, place);
                place -= 1;
            }
        }
        self.numbers = numbers;
    }

    /// The jobs, the longest first.
    #[allow(unsafe_code)]
    pub(crate) fn jobs(&mut self) -> &mut [Job<'a>] {
        // SAFETY: `gather` has written so many.
        unsafe { self.jobs[..self.count].assume_init_mut() }
    }

    /// What was found for each place, in the order in which the jobs came.
    pub(crate) fn in_order(&self, found: &[bool; BATCH_MAX]) -> impl Iterator<Item = bool> + use<> {
        let mut ordered = [false; BATCH_MAX];
        for (number, found) in self.numbers.iter().zip(found) {
            ordered[usize::from(*number)] = *found;
        }
        ordered.into_iter().take(self.count)
    }
}
