//! Overwrites what derives from a key, where the compiler would see no use of it.

/// Fills with `zero`, and keeps the compiler from leaving that out.
pub(crate) fn wipe<T: Copy>(values: &mut [T], zero: T) {
    values.fill(zero);
    zeroize::optimization_barrier(values);
}
