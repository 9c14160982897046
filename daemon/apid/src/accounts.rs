//! Rows of people as they are made: users, the one-time setup secret, audit entries. Knows no HTTP and no database.

use control::{AuditEntry, By};
use data_encoding::BASE32_NOPAD;
use model::id::UserId;
use model::{Code, Digest, Label, TenantId};
use store::{Role, User};

use crate::clock::wall;

/// A fresh secret for the setup URL: 160 random bits.
pub fn setup_secret() -> String {
    BASE32_NOPAD.encode(&random::<20>()).to_ascii_lowercase()
}

/// What the secret of the setup URL is stored as.
pub fn setup_digest(secret: &str) -> Digest {
    Digest::of("warren setup 1", &[secret.as_bytes()])
}

/// A user as it is stored first.
pub fn new_user(name: Label, role: Role, tenant: Option<TenantId>, password_hash: String) -> User {
    let now = wall();
    let id = UserId::new(now, random());
    User { id, name, role, tenant, password_hash: Some(password_hash), created_at: now, disabled_at: None }
}

/// An audit entry of something that people did, now.
pub fn entry(by: impl Into<By>, action: &str, target: &str, refused: Option<Code>) -> AuditEntry {
    let By { actor, trace } = by.into();
    let (at, action, target) = (wall(), action.into(), target.into());
    AuditEntry { at, tenant: None, actor, action, target, refused, detail: String::new(), trace }
}

/// Random bytes of the kernel.
pub fn random<const N: usize>() -> [u8; N] {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).expect("the kernel has random bytes");
    bytes
}
