//! Users and groups of this machine, by name or number. Decides nothing about what they may do.

use std::ffi::CString;

use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

/// The number of a user; a number means itself. `None` if the machine does not know the name.
pub fn user(text: &str) -> Option<u32> {
    let found = || User::from_name(text).ok()?.map(|user| user.uid.as_raw());
    text.parse().ok().or_else(found)
}

/// The number of a group; a number means itself. `None` if the machine does not know the name.
pub fn group(text: &str) -> Option<u32> {
    let found = || Group::from_name(text).ok()?.map(|group| group.gid.as_raw());
    text.parse().ok().or_else(found)
}

/// The name of a user, or its number if the machine knows none.
pub fn name(uid: u32) -> String {
    User::from_uid(Uid::from_raw(uid)).ok().flatten().map_or_else(|| uid.to_string(), |user| user.name)
}

/// Whether a user, whose process has this group, is a member of another group (getgrouplist(3)).
pub fn is_member(uid: u32, gid: u32, of_group: u32) -> bool {
    if gid == of_group {
        return true;
    }
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(uid)) else { return false };
    let Ok(name) = CString::new(user.name) else { return false };
    getgrouplist(&name, user.gid).is_ok_and(|groups| groups.contains(&Gid::from_raw(of_group)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_understood() {
        assert_eq!(user("root"), Some(0));
        assert_eq!(user("64101"), Some(64_101));
        assert_eq!(group("root"), Some(0));
        assert_eq!(user("no such user"), None);
        assert_eq!(group(""), None);
        assert_eq!((name(0).as_str(), name(64_101).as_str()), ("root", "64101"));
    }

    #[test]
    fn members_are_told_from_strangers() {
        assert!(is_member(0, 0, 0));
        assert!(is_member(64_101, 7, 7), "the process's own group counts for users without an entry");
        assert!(!is_member(64_101, 7, 8));
    }
}
