//! A disk so small that a story fills it.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write as _};
use std::path::PathBuf;

/// A file on the disk takes the room; nobody else uses it.
#[derive(Debug)]
pub struct SmallDisk(pub(crate) PathBuf);

impl SmallDisk {
    /// Takes all the room that there is, to the last byte.
    ///
    /// # Panics
    /// If the disk fails in another way.
    pub fn fill(&self) {
        let mut file = self.open();
        for piece in [1 << 20, 4096, 1] {
            loop {
                match file.write(&vec![0x77; piece]) {
                    Ok(_) => {}
                    Err(error) if error.kind() == ErrorKind::StorageFull => break,
                    Err(error) => panic!("{}: {error}", self.0.display()),
                }
            }
        }
    }

    /// Gives it back.
    ///
    /// # Panics
    /// If the file cannot be removed.
    pub fn make_room(&self) {
        fs::remove_file(&self.0).unwrap_or_else(|error| panic!("{}: {error}", self.0.display()));
    }

    fn open(&self) -> File {
        let opened = OpenOptions::new().append(true).create(true).open(&self.0);
        opened.unwrap_or_else(|error| panic!("{}: {error}", self.0.display()))
    }
}
