//! When a key of an authority is due to be replaced, and how urgently people are told. Ends nothing: only a rotation does.

use model::Timestamp;

use crate::limits::KEY_NOTICES;

/// How urgent it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Notice {
    /// Some months are left: time to plan it.
    Plan,
    /// A month is left: time to do it.
    Soon,
    /// A week is left, or less than nothing.
    Late,
}

impl Notice {
    /// What people are told at this time, if anything.
    pub fn of(due_at: Timestamp, now: Timestamp) -> Option<Self> {
        let [plan, soon, late] = KEY_NOTICES.map(|notice| now + notice >= due_at);
        match (plan, soon, late) {
            (_, _, true) => Some(Self::Late),
            (_, true, _) => Some(Self::Soon),
            (true, ..) => Some(Self::Plan),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn people_are_told_three_times() {
        let due_at = Timestamp::from_unix_micros(400 * 24 * 3600 * 1_000_000);
        let check = |days_left: u64, expect| {
            let now = due_at - Duration::from_secs(days_left * 24 * 3600);
            assert_eq!(Notice::of(due_at, now), expect, "{days_left}");
        };
        check(91, None);
        check(90, Some(Notice::Plan));
        check(31, Some(Notice::Plan));
        check(30, Some(Notice::Soon));
        check(8, Some(Notice::Soon));
        check(7, Some(Notice::Late));
        check(0, Some(Notice::Late));
        assert_eq!(Notice::of(due_at, due_at + Duration::from_secs(1)), Some(Notice::Late));
    }
}
