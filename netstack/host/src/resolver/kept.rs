//! What `/etc/resolv.conf` was before ours took its place, in the state directory: its bytes, and whether it was a
//! symbolic link or not there at all.

use std::ffi::OsString;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};

use crate::files::{self, FileError, PUBLIC};

/// How the file was there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Form {
    /// As a file.
    File,
    /// As a symbolic link to this.
    Link(PathBuf),
    /// Not at all.
    Absent,
}

/// The files in the state directory.
pub(crate) struct Kept {
    original: PathBuf,
    link: PathBuf,
    absent: PathBuf,
}

impl Kept {
    pub(crate) fn new(state: &Path) -> Self {
        Self {
            original: state.join("resolv.conf.original"),
            link: state.join("resolv.conf.link"),
            absent: state.join("resolv.conf.absent"),
        }
    }

    /// The bytes, if any are kept.
    pub(crate) fn bytes(&self) -> Result<Option<Vec<u8>>, FileError> {
        files::read(&self.original)
    }

    /// How it was there.
    pub(crate) fn form(&self) -> Result<Form, FileError> {
        if let Some(target) = files::read(&self.link)? {
            return Ok(Form::Link(OsString::from_vec(target).into()));
        }
        Ok(if files::read(&self.absent)?.is_some() { Form::Absent } else { Form::File })
    }

    /// Keeps bytes alone: how it was there has not changed.
    pub(crate) fn keep_bytes(&self, bytes: &[u8]) -> Result<(), FileError> {
        match files::read(&self.original)? {
            Some(kept) if kept == bytes => Ok(()),
            _ => files::replace(&self.original, bytes, PUBLIC),
        }
    }

    /// Keeps both. After a crash in between it is a file with the bytes of before, or of now.
    pub(crate) fn keep(&self, form: &Form, bytes: &[u8]) -> Result<(), FileError> {
        files::remove(&self.link)?;
        files::remove(&self.absent)?;
        self.keep_bytes(bytes)?;
        match form {
            Form::File => Ok(()),
            Form::Link(target) => files::replace(&self.link, target.as_os_str().as_bytes(), PUBLIC),
            Form::Absent => files::replace(&self.absent, b"", PUBLIC),
        }
    }

    /// Forgets all of it.
    pub(crate) fn forget(&self) -> Result<(), FileError> {
        for path in [&self.original, &self.link, &self.absent] {
            files::remove(path)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_comes_back_until_it_is_forgotten() {
        let directory = tempfile::tempdir().unwrap();
        let kept = Kept::new(directory.path());
        assert_eq!((kept.bytes().unwrap(), kept.form().unwrap()), (None, Form::File));
        for form in [Form::Link("../elsewhere/\u{e9}".into()), Form::Absent, Form::File] {
            kept.keep(&form, b"\xff\n").unwrap();
            assert_eq!(
                (kept.bytes().unwrap().unwrap(), kept.form().unwrap()),
                (b"\xff\n".to_vec(), form.clone())
            );
            kept.keep_bytes(b"edited").unwrap();
            assert_eq!((kept.bytes().unwrap().unwrap(), kept.form().unwrap()), (b"edited".to_vec(), form));
        }
        kept.keep(&Form::Absent, b"").unwrap();
        kept.forget().unwrap();
        kept.forget().unwrap();
        assert_eq!((kept.bytes().unwrap(), kept.form().unwrap()), (None, Form::File));
    }
}
