//! Which implementation does the work, chosen when the program runs.

use std::fmt;
use std::str::FromStr;

#[cfg(target_arch = "x86_64")]
use crate::avx512;
use crate::batch::{BATCH_MAX, Batch};
use crate::job::Job;
use crate::reference;

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
            Self::Avx2 => false,
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
        while let Some(mut batch) = Batch::gather(&mut jobs) {
            self.seal_batch(batch.jobs());
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
        while let Some(mut batch) = Batch::gather(&mut jobs) {
            let mut right = [false; BATCH_MAX];
            cipher.open_batch(batch.jobs(), &mut right);
            for right in &right[..batch.jobs().len()] {
                told(number, *right);
                number += 1;
            }
        }
    }

    #[allow(unsafe_code)]
    fn seal_batch(self, jobs: &mut [Job<'_>]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `seal` asked whether the machine has what this needs.
            Self::Avx512 if jobs.len() >= avx512::JOBS_MIN => unsafe { avx512::seal(jobs) },
            _ => jobs.iter_mut().for_each(reference::seal),
        }
    }

    #[allow(unsafe_code)]
    fn open_batch(self, jobs: &mut [Job<'_>], right: &mut [bool; BATCH_MAX]) {
        match self {
            #[cfg(target_arch = "x86_64")]
            // SAFETY: `open` asked whether the machine has what this needs.
            Self::Avx512 if jobs.len() >= avx512::JOBS_MIN => unsafe { avx512::open(jobs, right) },
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
