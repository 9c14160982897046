//! The users of this machine that mean something to the server: the hub's, and the administrators' group.

use link::Credentials;
use nix::unistd::Uid;
use shell::users;

/// Who may do what on the unix socket.
pub struct LocalUsers {
    hub: Option<u32>,
    administrators: Option<u32>,
}

impl LocalUsers {
    /// Looks the names up. A name that the machine does not know means nobody; a number means itself.
    pub fn new(hub_user: &str, admin_group: &str) -> Self {
        Self { hub: users::user(hub_user), administrators: users::group(admin_group) }
    }

    /// Whether this user may attach as the hub: `--hub-user`, root, or whoever runs this process.
    pub fn is_hub(&self, who: Credentials) -> bool {
        is_own(who) || Some(who.uid) == self.hub
    }

    /// Whether this user administers without a password: root, whoever runs this process, or a member of `--admin-group`.
    pub fn is_administrator(&self, who: Credentials) -> bool {
        is_own(who) || self.administrators.is_some_and(|group| users::is_member(who.uid, who.gid, group))
    }

    /// The user's name, or its number.
    pub fn name(&self, who: Credentials) -> String {
        users::name(who.uid)
    }
}

/// Root, or whoever runs this process.
fn is_own(who: Credentials) -> bool {
    let uid = Uid::from_raw(who.uid);
    uid.is_root() || uid == Uid::effective()
}
