//! Which kernels corrupt what `UDP_SEGMENT` gives them. Knows versions, no socket.

/// How the last segment of a super-packet may look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tails {
    /// As long as the others, or shorter.
    Any,
    /// Only shorter: otherwise headers and checksums of some drivers come out wrong, and most packets are lost.
    Shorter,
}

/// The kernels from the commit that broke segmentation (b10b446) up to the last one before both of its repairs
/// (78effd8, 5f17ae0) were in a release.
const BROKEN: [[u32; 3]; 2] = [[7, 0, 0], [7, 1, 4]];

impl Tails {
    /// What the running kernel asks for. One whose version cannot be read is taken for a sound one.
    pub(crate) fn of_this_kernel() -> Self {
        Self::of_release(&std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default())
    }

    /// As uname(2) has it: `6.1.0-35-amd64`.
    fn of_release(release: &str) -> Self {
        let mut numbers = release.trim().split(|c: char| !c.is_ascii_digit()).map(|n| n.parse().unwrap_or(0));
        let version = [(); 3].map(|()| numbers.next().unwrap_or(0));
        if (BROKEN[0]..=BROKEN[1]).contains(&version) { Self::Shorter } else { Self::Any }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kernels_that_corrupt_equal_tails_are_known_by_version() {
        let check = |release: &str, tails| assert_eq!(Tails::of_release(release), tails, "{release}");
        check("6.1.0-35-amd64", Tails::Any);
        check("6.18.44-fc-v669\n", Tails::Any);
        check("7.0.0", Tails::Shorter);
        check("7.0.0-22-generic", Tails::Shorter);
        check("7.1-rc3", Tails::Shorter);
        check("7.1.4", Tails::Shorter);
        check("7.1.5", Tails::Any);
        check("7.2.0-rc1", Tails::Any);
        check("", Tails::Any);
        check("strange", Tails::Any);
        assert_eq!(Tails::of_this_kernel(), Tails::of_this_kernel());
    }
}
