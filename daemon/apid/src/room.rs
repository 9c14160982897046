//! Room on a disk.

use std::path::Path;

use nix::sys::statvfs::statvfs;

/// What a disk has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Room {
    /// Bytes that may still be written by who is not root.
    pub free_bytes: u64,
    /// Bytes in all.
    pub disk_bytes: u64,
}

/// The room on the disk of a path (statvfs(3)).
pub fn of(path: &Path) -> nix::Result<Room> {
    let found = statvfs(path)?;
    let block = found.fragment_size();
    Ok(Room { free_bytes: found.blocks_available() * block, disk_bytes: found.blocks() * block })
}
