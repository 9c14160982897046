//! Randomness of the operating system.

/// Random bytes.
///
/// # Panics
/// If the system has none, which getrandom(2) rules out once it has booted.
pub(crate) fn bytes<const N: usize>() -> [u8; N] {
    try_bytes().expect("a system that has booted has randomness")
}

/// Random bytes, where doing nothing is better than a panic.
pub(crate) fn try_bytes<const N: usize>() -> Option<[u8; N]> {
    let mut bytes = [0; N];
    try_fill(&mut bytes).map(|()| bytes)
}

/// As [`try_bytes`], for secrets: no copy is left behind.
pub(crate) fn try_fill(bytes: &mut [u8]) -> Option<()> {
    getrandom::fill(bytes).ok()
}
