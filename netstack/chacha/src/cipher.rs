//! Which implementation does the work, chosen when the program runs.

use std::fmt;
use std::str::FromStr;

use crate::batch::{BATCH_MAX, Batch};
use crate::job::Job;
use crate::reference;
#[cfg(target_arch = "x86_64")]
use crate::{avx2, avx512};

/// An implementation of ChaCha20-Poly1305. All write the same bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Cipher {
    /// ring, one packet after the other; on every machine.
    Reference,
    /// Eight blocks of ChaCha20 and four tags at once.
    Avx2,
    /// Sixteen blocks of ChaCha20 and sixteen tags at once.
    Avx512,
}

impl Cipher {
    const ALL: [Self; 3] = [Self::Reference, Self::Avx2, Self::Avx512];

    /// The fastest one that this machine can run.
    pub fn fastest() -> Self {
        Self::ALL.into_iter().rfind(|cipher| cipher.runs_here()).unwrap_or(Self::Reference)
    }

    /// Those that this machine can run, the slowest first.
    pub fn available() -> Vec<Self> {
        Self::ALL.into_iter().filter(|cipher| cipher.runs_here()).collect()
    }

    #[cfg(target_arch = "x86_64")]
    fn runs_here(self) -> bool {
        match self {
            Self::Reference => true,
            Self::Avx2 => avx2::runs_here(),
            Self::Avx512 => avx512::runs_here(),
        }
    }

    #[cfg(not(target_arch = "x86_64"))]
    fn runs_here(self) -> bool {
        self == Self::Reference
    }

    fn name(self) -> &'static str {
        match self {
            Self::Reference => "reference",
            Self::Avx2 => "avx2",
            Self::Avx512 => "avx512",
        }
    }

    /// Seals each text in place and writes its tag behind it. A cipher that this machine cannot run leaves the work
    /// to [`Cipher::Reference`].
    ///
    /// # Panics
    ///
    /// If a job has no room for its tag.
    pub fn seal<'a>(self, jobs: impl IntoIterator<Item = Job<'a>>) {
        let mut jobs = jobs.into_iter();
        if self == Self::Reference || !self.runs_here() {
            return jobs.for_each(|mut job| reference::seal(&mut job));
        }
        let mut batch = Batch::new();
        while batch.gather(&mut jobs) {
            let alone = self.alone(batch.jobs());
            let (alone, together) = batch.jobs().split_at_mut(alone);
            alone.iter_mut().for_each(reference::seal);
            self.seal_together(together);
        }
    }

    /// Opens each text in place and tells, in order, the job's number and whether its tag was right. The tags of
    /// sixteen jobs are compared, in constant time, before the first of them is told; every byte of a job whose tag
    /// was wrong, or that is too short for one, is zero then. A cipher that this machine cannot run leaves the work to
    /// [`Cipher::Reference`].
    pub fn open<'a>(self, jobs: impl IntoIterator<Item = Job<'a>>, mut told: impl FnMut(usize, bool)) {
        let cipher = if self.runs_here() { self } else { Self::Reference };
        let mut jobs = jobs.into_iter();
        let mut number = 0;
        let mut batch = Batch::new();
        while batch.gather(&mut jobs) {
            let mut right = [false; BATCH_MAX];
            let alone = cipher.alone(batch.jobs());
            let (alone, together) = batch.jobs().split_at_mut(alone);
            let (right_alone, right_together) = right.split_at_mut(alone.len());
            for (job, right) in alone.iter_mut().zip(right_alone) {
                *right = reference::open(job);
            }
            cipher.open_together(together, right_together);
            for right in batch.in_order(&right) {
                told(number, right);
                number += 1;
            }
        }
    }

    /// How many of the longest jobs the reference does sooner than this cipher.
    fn alone(self, jobs: &[Job<'_>]) -> usize {
        match self {
            #[cfg(target_arch = "x86_64")]
            Self::Avx2 => avx2::COSTS.alone(jobs),
            #[cfg(target_arch = "x86_64")]
            Self::Avx512 => avx512::COSTS.alone(jobs),
            _ => jobs.len(),
        }
    }

    /// Seals at most [`BATCH_MAX`] jobs by a cipher that runs here.
    #[allow(unsafe_code)]
    pub(crate) fn seal_together(self, jobs: &mut [Job<'_>]) {
        let room = jobs.iter().all(|job| job.text_bytes().is_some());
        assert!(room, "a job to seal has room for its tag");
        match self {
            _ if jobs.is_empty() => {}
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `runs_here` said that the machine has what this needs.
            Self::Avx2 => unsafe { avx2::seal(jobs) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `runs_here` said that the machine has what this needs.
            Self::Avx512 => unsafe { avx512::seal(jobs) },
            _ => jobs.iter_mut().for_each(reference::seal),
        }
    }

    /// Opens at most [`BATCH_MAX`] jobs by a cipher that runs here.
    #[allow(unsafe_code)]
    pub(crate) fn open_together(self, jobs: &mut [Job<'_>], right: &mut [bool]) {
        match self {
            _ if jobs.is_empty() => {}
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `runs_here` said that the machine has what this needs.
            Self::Avx2 => unsafe { avx2::open(jobs, right) },
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `runs_here` said that the machine has what this needs.
            Self::Avx512 => unsafe { avx512::open(jobs, right) },
            _ => jobs.iter_mut().zip(right).for_each(|(job, right)| *right = reference::open(job)),
        }
    }
}

impl fmt::Display for Cipher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// A word that names no [`Cipher`].
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no cipher is called {0:?}: it is one of reference, avx2, avx512")]
pub struct UnknownCipher(String);

impl FromStr for Cipher {
    type Err = UnknownCipher;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::ALL
            .into_iter()
            .find(|cipher| cipher.name() == text)
            .ok_or_else(|| UnknownCipher(text.to_owned()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_read_back() {
        for cipher in Cipher::ALL {
            assert_eq!(cipher.to_string().parse(), Ok(cipher));
        }
        assert_eq!(
            "aes".parse::<Cipher>().map_err(|error| error.to_string()),
            Err("no cipher is called \"aes\": it is one of reference, avx2, avx512".to_owned())
        );
    }

    #[test]
    fn the_reference_is_always_there() {
        assert_eq!(Cipher::available()[0], Cipher::Reference);
        assert_eq!(Cipher::available().last(), Some(&Cipher::fastest()));
    }
}
