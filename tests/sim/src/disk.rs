//! The disk of one node: what is synced survives a crash, what is being written may not, and a bad disk tears it.

use std::collections::BTreeMap;

use model::{TenantId, Version};

/// A ledger's bytes, and the versions that it holds.
#[derive(Debug, Clone, Default)]
pub struct File {
    /// As the node wrote it.
    pub bytes: Vec<u8>,
    /// What the node had accepted when it wrote.
    pub holds: BTreeMap<TenantId, Version>,
}

/// The disk of one node.
#[derive(Debug, Default)]
pub struct Disk {
    synced: Option<File>,
    writing: Option<File>,
    /// Says that it synced, and did not: a fault for which a run must fail.
    pub lies: bool,
}

impl Disk {
    /// The same contents on another disk.
    pub fn copy(&self) -> Self {
        Self { synced: self.synced.clone(), writing: None, lies: self.lies }
    }

    /// A write begins.
    pub fn begin(&mut self, file: File) {
        self.writing = Some(file);
    }

    /// The write ends: synced and renamed, or not at all.
    pub fn finish(&mut self, ok: bool) {
        let file = self.writing.take();
        if ok && !self.lies {
            self.synced = file.or(self.synced.take());
        }
    }

    /// The machine loses what it was writing, unless the rename was on disk already.
    pub fn crash(&mut self, renamed: bool) {
        self.finish(renamed);
    }

    /// Everything is gone.
    pub fn wipe(&mut self) {
        (self.synced, self.writing) = (None, None);
    }

    /// One byte of what is on disk turns.
    pub fn tear(&mut self, place: usize) {
        if let Some(file) = &mut self.synced
            && !file.bytes.is_empty()
        {
            let place = place % file.bytes.len();
            file.bytes[place] ^= 0x40;
        }
    }

    /// What is on disk.
    pub const fn file(&self) -> Option<&File> {
        self.synced.as_ref()
    }

    /// What will be on disk once the write is done, or is.
    pub fn promised(&self, tenant: TenantId) -> Option<Version> {
        self.synced.as_ref().and_then(|file| file.holds.get(&tenant)).copied()
    }
}
