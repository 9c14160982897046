//! The users of this machine that mean something to the server: the hub's, and the administrators' group.

use link::Credentials;
use nix::unistd::{Gid, Group, Uid, User, getgrouplist};

/// Who may do what on the unix socket.
pub struct LocalUsers {
    hub: Option<Uid>,
    administrators: Option<Gid>,
}

impl LocalUsers {
    /// Looks the names up. A name that the machine does not know means nobody; a number means itself.
    pub fn new(hub_user: &str, admin_group: &str) -> Self {
        let by_number = |text: &str| text.parse::<u32>().ok();
        let hub = by_number(hub_user)
            .map(Uid::from_raw)
            .or_else(|| User::from_name(hub_user).ok()?.map(|user| user.uid));
        let group = by_number(admin_group).map(Gid::from_raw);
        let administrators = group.or_else(|| Group::from_name(admin_group).ok()?.map(|group| group.gid));
        Self { hub, administrators }
    }

    /// Whether this user may attach as the hub: `--hub-user`, root, or whoever runs this process.
    pub fn is_hub(&self, who: Credentials) -> bool {
        let uid = Uid::from_raw(who.uid);
        uid.is_root() || uid == Uid::effective() || Some(uid) == self.hub
    }

    /// Whether this user administers without a password: root, whoever runs this process, or a member of `--admin-group`.
    pub fn is_administrator(&self, who: Credentials) -> bool {
        let uid = Uid::from_raw(who.uid);
        uid.is_root()
            || uid == Uid::effective()
            || self.administrators.is_some_and(|group| member(who, group))
    }

    /// The user's name, or its number.
    pub fn name(&self, who: Credentials) -> String {
        match User::from_uid(Uid::from_raw(who.uid)) {
            Ok(Some(user)) => user.name,
            Ok(None) | Err(_) => who.uid.to_string(),
        }
    }
}

fn member(who: Credentials, group: Gid) -> bool {
    if Gid::from_raw(who.gid) == group {
        return true;
    }
    let Ok(Some(user)) = User::from_uid(Uid::from_raw(who.uid)) else { return false };
    let Ok(name) = std::ffi::CString::new(user.name) else { return false };
    getgrouplist(&name, user.gid).is_ok_and(|groups| groups.contains(&group))
}
