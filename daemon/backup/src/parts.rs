//! The parts of a backup in their order: a tar archive whose first part says what it is, and whose last one the digest of
//! every other.

use std::io::{self, Read, Write};

use data_encoding::HEXLOWER;
use sha2::{Digest as _, Sha256};
use tar::{Archive, Builder, Header};
use zeroize::Zeroizing;

use crate::error::BackupError;
use crate::manifest::{Manifest, Sums};

const MANIFEST: &str = "manifest.json";
const SUMS: &str = "sums.json";
/// A part is in memory whole. Pages of rows are far below.
const PART_BYTES_MAX: u64 = 32 << 20;

/// One part.
pub struct Part {
    /// Its name, such as `state/seal.key`.
    pub name: String,
    /// What is in it.
    pub bytes: Zeroizing<Vec<u8>>,
}

/// Writes a backup.
pub struct Writer<W: Write> {
    archive: Builder<W>,
    sums: Sums,
    made_at_seconds: u64,
}

impl<W: Write> Writer<W> {
    /// Begins one.
    pub fn new(out: W, manifest: &Manifest) -> io::Result<Self> {
        let seconds = u64::try_from(manifest.made_at.unix_micros() / 1_000_000).unwrap_or_default();
        let mut writer = Self { archive: Builder::new(out), sums: Sums::default(), made_at_seconds: seconds };
        let bytes = serde_json::to_vec_pretty(manifest).map_err(io::Error::other)?;
        writer.part(MANIFEST, &bytes)?;
        Ok(writer)
    }

    /// One part more. Names are never used twice.
    pub fn part(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let length = bytes.len() as u64;
        if length > PART_BYTES_MAX {
            return Err(io::Error::other(format!("{name} has {length} bytes, more than {PART_BYTES_MAX}")));
        }
        self.sums.parts.insert(name.to_owned(), digest(bytes));
        self.append(name, bytes)
    }

    /// A part with rows of a table.
    pub fn rows(&mut self, name: &str, table: &str, rows: u64, bytes: &[u8]) -> io::Result<()> {
        *self.sums.rows.entry(table.to_owned()).or_default() += rows;
        self.part(name, bytes)
    }

    fn append(&mut self, name: &str, bytes: &[u8]) -> io::Result<()> {
        let mut header = Header::new_gnu();
        header.set_size(bytes.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(self.made_at_seconds);
        self.archive.append_data(&mut header, name, bytes)
    }

    /// Writes the sums and the archive's end.
    pub fn finish(mut self) -> io::Result<W> {
        let sums = serde_json::to_vec_pretty(&self.sums).map_err(io::Error::other)?;
        self.append(SUMS, &sums)?;
        self.archive.into_inner()
    }
}

/// Reads a backup to its end and gives each part to `take`, which may say that it does not want more. Parts that are
/// not known are passed on, too: who reads decides.
///
/// # Errors
/// What `take` says; else [`BackupError`], also when everything was taken already: the end tells whether it was whole.
pub fn read<E: From<BackupError>>(
    mut content: impl Read,
    mut take: impl FnMut(&Manifest, Part) -> Result<(), E>,
) -> Result<(Manifest, Sums), E> {
    let mut seen = Sums::default();
    let mut manifest = None;
    let mut sums: Option<Sums> = None;
    let mut archive = Archive::new(&mut content);
    for entry in archive.entries().map_err(BackupError::reading)? {
        let part = part(entry.map_err(BackupError::reading)?)?;
        if sums.is_some() {
            return Err(BackupError::Damaged(format!("{} comes after the end", part.name)).into());
        }
        if part.name == SUMS {
            let read = serde_json::from_slice(&part.bytes);
            sums = Some(read.map_err(|error| BackupError::Damaged(format!("its sums: {error}")))?);
            continue;
        }
        seen.parts.insert(part.name.clone(), digest(&part.bytes));
        match &manifest {
            None if part.name == MANIFEST => manifest = Some(Manifest::from_bytes(&part.bytes)?),
            None => return Err(BackupError::NotOne.into()),
            Some(manifest) => take(manifest, part)?,
        }
    }
    // What sealed it says only at its end that it was the end.
    io::copy(&mut content, &mut io::sink()).map_err(BackupError::reading)?;
    let (Some(manifest), Some(sums)) = (manifest, sums) else {
        return Err(BackupError::Damaged("its end is missing".into()).into());
    };
    if sums.parts != seen.parts {
        return Err(BackupError::Damaged("its parts are not those that were written".into()).into());
    }
    Ok((manifest, sums))
}

fn part(mut entry: tar::Entry<'_, impl Read>) -> Result<Part, BackupError> {
    let name = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
    let length = entry.size();
    if length > PART_BYTES_MAX {
        return Err(BackupError::Damaged(format!("{name} says that it has {length} bytes")));
    }
    let mut bytes = Zeroizing::new(Vec::with_capacity(usize::try_from(length).unwrap_or_default()));
    entry.read_to_end(&mut bytes).map_err(BackupError::reading)?;
    Ok(Part { name, bytes })
}

fn digest(bytes: &[u8]) -> String {
    HEXLOWER.encode(&Sha256::digest(bytes))
}

#[cfg(test)]
mod tests {
    use model::{Code, Timestamp};

    use super::*;
    use crate::manifest::{Content, DatabaseFacts, FORMAT, SealedBy};

    fn manifest(format: u32) -> Manifest {
        Manifest {
            format,
            made_by: "warren-apid 1.0".into(),
            made_at: Timestamp::from_unix_micros(1_800_000_000_000_000),
            content: Content::Everything,
            server: "https://vpn.example.org:8443".into(),
            anchors: Vec::new(),
            database: DatabaseFacts { engine: "sqlite".into(), schema: 8, epoch: 1 },
            sealed_by: SealedBy::KeyFile,
            hub_key: None,
        }
    }

    fn written(format: u32) -> Vec<u8> {
        let mut writer = Writer::new(Vec::new(), &manifest(format)).expect("memory");
        writer.part("state/seal.key", &[7; 32]).expect("memory");
        writer.rows("database/000001", "devices", 2, b"rows").expect("memory");
        writer.finish().expect("memory")
    }

    fn read_names(bytes: &[u8]) -> Result<(Vec<String>, Sums), BackupError> {
        let mut names = Vec::new();
        let (_, sums) = read(bytes, |_, part| {
            names.push(part.name);
            Ok::<_, BackupError>(())
        })?;
        Ok((names, sums))
    }

    #[test]
    fn what_was_written_is_read_and_nothing_less() {
        let bytes = written(FORMAT);
        let (names, sums) = read_names(&bytes).expect("whole");
        assert_eq!(names, ["state/seal.key", "database/000001"]);
        assert_eq!(sums.rows["devices"], 2);
        // The two blocks of nothing at the end say less than the sums before them.
        for length in (0..bytes.len() - 1024).step_by(256) {
            let error = read_names(&bytes[..length]).expect_err("cut");
            assert!(matches!(error, BackupError::Damaged(_)), "{length}: {error}");
        }
        let mut changed = bytes.clone();
        let at = bytes.windows(4).position(|part| part == b"rows").expect("there");
        changed[at] = b'R';
        assert!(matches!(read_names(&changed), Err(BackupError::Damaged(_))));
    }

    #[test]
    fn a_newer_format_is_refused_before_anything_else_is_read() {
        let error = read_names(&written(FORMAT + 1)).expect_err("newer");
        assert_eq!(error.code(), Code::BackupNewer);
        let mut other = Builder::new(Vec::new());
        let mut header = Header::new_gnu();
        header.set_size(1);
        other.append_data(&mut header, "readme", &b"x"[..]).expect("memory");
        let error = read_names(&other.into_inner().expect("memory")).expect_err("another archive");
        assert_eq!(error.code(), Code::BackupNotOne);
    }
}
