//! Who can open a file: the owner of a key, or who knows a passphrase. All of it is age's.

use std::fmt;
use std::io::{self, Read, Write};
use std::iter;
use std::str::FromStr;

use age::secrecy::{ExposeSecret as _, SecretString};
use age::{DecryptError, Decryptor, Encryptor, scrypt, x25519};
use zeroize::Zeroizing;

use crate::error::BackupError;

/// Work of a passphrase, as a power of two: 64 MiB and a quarter of a second, as for the passphrase of the keys at rest.
const PASSPHRASE_WORK: u8 = 16;
/// A file that asks for more than 4 GiB is somebody's attempt to fill this machine.
const PASSPHRASE_WORK_MAX: u8 = 22;
/// A key is one line of 74 letters.
const KEY_LINE_BYTES_MAX: usize = 128;

/// For whom a file is sealed: the public half of a [`Key`], `age1…`.
#[derive(Clone)]
pub struct Recipient(x25519::Recipient);

/// No recipient.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a recipient looks like age1…, as `warren backup key` and age-keygen(1) print it")]
pub struct BadRecipient;

impl FromStr for Recipient {
    type Err = BadRecipient;
    fn from_str(text: &str) -> Result<Self, BadRecipient> {
        text.trim().parse().map(Self).map_err(|_| BadRecipient)
    }
}

impl fmt::Display for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Debug for Recipient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Recipient({})", self.0)
    }
}

/// What opens files that were sealed for its recipient.
#[derive(Clone)]
pub struct Key(x25519::Identity);

/// No file of keys.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("no line of it is a key: AGE-SECRET-KEY-1…")]
pub struct BadKey;

impl Key {
    /// A new one.
    pub fn generate() -> Self {
        Self(x25519::Identity::generate())
    }

    /// Its public half.
    pub fn recipient(&self) -> Recipient {
        Recipient(self.0.to_public())
    }

    /// As age's programs keep it, with a comment that names the recipient.
    pub fn to_file(&self) -> Zeroizing<String> {
        let secret = self.0.to_string();
        Zeroizing::new(format!("# public key: {}\n{}\n", self.recipient(), secret.expose_secret()))
    }

    /// The keys of such a file.
    pub fn of_file(text: &str) -> Result<Vec<Self>, BadKey> {
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let keys: Vec<Self> =
            lines.map(|line| line.parse().map(Self).map_err(|_| BadKey)).collect::<Result<_, _>>()?;
        if keys.is_empty() { Err(BadKey) } else { Ok(keys) }
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Key(..)")
    }
}

/// With what a file is opened.
pub enum Opener {
    /// One of these keys.
    Keys(Vec<Key>),
    /// The passphrase.
    Passphrase(Zeroizing<String>),
}

/// A file that is being sealed. Without [`Self::finish`] it has no end, and is none.
pub struct Sealing<W: Write>(age::stream::StreamWriter<W>);

impl<W: Write> Write for Sealing<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

impl<W: Write> Sealing<W> {
    /// Writes the end.
    pub fn finish(self) -> io::Result<W> {
        self.0.finish()
    }
}

fn sealing<W: Write>(to: &dyn age::Recipient, out: W) -> io::Result<Sealing<W>> {
    let encryptor = Encryptor::with_recipients(iter::once(to)).expect("one recipient fits itself");
    encryptor.wrap_output(out).map(Sealing)
}

/// Seals what is written for a recipient.
pub fn seal<W: Write>(recipient: &Recipient, out: W) -> io::Result<Sealing<W>> {
    sealing(&recipient.0, out)
}

/// Seals some bytes for a recipient.
pub fn seal_bytes(recipient: &Recipient, plain: &[u8]) -> Vec<u8> {
    let written = || {
        let mut sealing = seal(recipient, Vec::new())?;
        sealing.write_all(plain)?;
        sealing.finish()
    };
    written().expect("writing to memory cannot fail")
}

/// Puts a passphrase around a file that is sealed for `key`: what is written must be that file.
pub fn lock<W: Write>(passphrase: &str, key: &Key, out: W) -> io::Result<Sealing<W>> {
    let mut recipient = scrypt::Recipient::new(SecretString::from(passphrase.to_owned()));
    recipient.set_work_factor(PASSPHRASE_WORK);
    let mut sealing = sealing(&recipient, out)?;
    writeln!(sealing, "{}", key.0.to_string().expose_secret())?;
    Ok(sealing)
}

/// A file that was opened.
pub struct Opened {
    /// What was sealed. An error in the middle of it is a damaged file.
    pub content: Box<dyn Read + Send>,
    /// What opens parts that were sealed apart.
    pub keys: Vec<Key>,
}

/// Opens a file.
pub fn open(file: impl Read + Send + 'static, opener: &Opener) -> Result<Opened, BackupError> {
    let outer = decryptor(file)?;
    match opener {
        Opener::Keys(keys) => {
            let content = outer.decrypt(identities(keys)).map_err(not_opened)?;
            Ok(Opened { content: Box::new(content), keys: keys.clone() })
        }
        Opener::Passphrase(_) if !outer.is_scrypt() => Err(BackupError::KeyWrong),
        Opener::Passphrase(passphrase) => {
            let mut identity = scrypt::Identity::new(SecretString::from(passphrase.to_string()));
            identity.set_max_work_factor(PASSPHRASE_WORK_MAX);
            let identity: &dyn age::Identity = &identity;
            let mut inner = outer.decrypt(iter::once(identity)).map_err(not_opened)?;
            let keys = vec![key_line(&mut inner)?];
            let content = decryptor(inner)?.decrypt(identities(&keys)).map_err(not_opened)?;
            Ok(Opened { content: Box::new(content), keys })
        }
    }
}

/// Opens bytes that were sealed apart.
pub fn open_bytes(sealed: &[u8], keys: &[Key]) -> Result<Zeroizing<Vec<u8>>, BackupError> {
    let mut content = decryptor(sealed)?.decrypt(identities(keys)).map_err(not_opened)?;
    let mut plain = Zeroizing::new(Vec::new());
    content.read_to_end(&mut plain).map_err(BackupError::reading)?;
    Ok(plain)
}

fn identities(keys: &[Key]) -> impl Iterator<Item = &dyn age::Identity> {
    keys.iter().map(|key| -> &dyn age::Identity { &key.0 })
}

fn decryptor<R: Read>(input: R) -> Result<Decryptor<R>, BackupError> {
    Decryptor::new(input).map_err(|error| match error {
        DecryptError::Io(error) if error.kind() == io::ErrorKind::UnexpectedEof => BackupError::NotOne,
        DecryptError::Io(error) => BackupError::Io(error),
        _ => BackupError::NotOne,
    })
}

fn not_opened(error: DecryptError) -> BackupError {
    match error {
        DecryptError::InvalidMac => BackupError::Damaged("its head was changed".into()),
        DecryptError::Io(error) => BackupError::reading(error),
        _ => BackupError::KeyWrong,
    }
}

/// The first line, read without a byte beyond it: the sealed file follows.
fn key_line(content: &mut impl Read) -> Result<Key, BackupError> {
    let mut line = Zeroizing::new(String::with_capacity(KEY_LINE_BYTES_MAX));
    let mut byte = [0];
    while line.len() < KEY_LINE_BYTES_MAX {
        content.read_exact(&mut byte).map_err(BackupError::reading)?;
        if byte == [b'\n'] {
            let key = line.parse().map(Key).map_err(|_| BackupError::NotOne);
            return key;
        }
        line.push(char::from(byte[0]));
    }
    Err(BackupError::NotOne)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sealed_for(key: &Key, plain: &[u8]) -> Vec<u8> {
        let mut sealing = seal(&key.recipient(), Vec::new()).expect("memory");
        sealing.write_all(plain).expect("memory");
        sealing.finish().expect("memory")
    }

    fn read_all(sealed: Vec<u8>, opener: &Opener) -> Result<Vec<u8>, BackupError> {
        let mut plain = Vec::new();
        let mut opened = open(io::Cursor::new(sealed), opener)?;
        opened.content.read_to_end(&mut plain).map_err(BackupError::reading)?;
        Ok(plain)
    }

    /// More than one chunk of 64 KiB, so that an end can be missing at its border.
    fn plain() -> Vec<u8> {
        (0..150_000_u32).map(|n| n.to_le_bytes()[0]).collect()
    }

    #[test]
    fn only_its_key_opens_it() {
        let (key, other) = (Key::generate(), Key::generate());
        let sealed = sealed_for(&key, &plain());
        assert_eq!(
            read_all(sealed.clone(), &Opener::Keys(vec![other.clone(), key])).expect("opened"),
            plain()
        );
        let refused = |opener: &Opener| read_all(sealed.clone(), opener).expect_err("another key").code();
        assert_eq!(refused(&Opener::Keys(vec![other])), model::Code::BackupKeyWrong);
        let word = Opener::Passphrase(Zeroizing::new("word".into()));
        assert_eq!(refused(&word), model::Code::BackupKeyWrong);
    }

    #[test]
    fn only_its_passphrase_opens_it() {
        let key = Key::generate();
        let mut locking = lock("harbour plum seven", &key, Vec::new()).expect("memory");
        locking.write_all(&sealed_for(&key, &plain())).expect("memory");
        let locked = locking.finish().expect("memory");
        let opener = |word: &str| Opener::Passphrase(Zeroizing::new(word.into()));
        assert_eq!(read_all(locked.clone(), &opener("harbour plum seven")).expect("opened"), plain());
        for wrong in [opener("harbour plum eight"), opener(""), Opener::Keys(vec![key])] {
            let error = read_all(locked.clone(), &wrong).expect_err("another");
            assert_eq!(error.code(), model::Code::BackupKeyWrong, "{error}");
        }
        assert!(!locked.windows(14).any(|part| part == b"AGE-SECRET-KEY"));
    }

    #[test]
    fn a_changed_byte_and_a_missing_end_show_wherever_they_are() {
        let key = Key::generate();
        let (sealed, opener) = (sealed_for(&key, &plain()), Opener::Keys(vec![key]));
        let head = sealed.len() - plain().len() - 3 * 16;
        let places = (0..head).chain((head..sealed.len()).step_by(997)).chain([sealed.len() - 1]);
        for place in places {
            let mut changed = sealed.clone();
            changed[place] ^= 1;
            assert!(read_all(changed, &opener).is_err(), "byte {place}");
        }
        let chunk = 64 * 1024 + 16;
        for length in [0, 1, head - 1, head, head + chunk, head + 2 * chunk, sealed.len() - 1] {
            let error = read_all(sealed[..length].to_vec(), &opener).expect_err("cut");
            assert!(
                matches!(error, BackupError::Damaged(_) | BackupError::NotOne),
                "{length} of {}: {error}",
                sealed.len()
            );
        }
        let longer = [&sealed[..], &[0]].concat();
        assert!(read_all(longer, &opener).is_err(), "a byte after the end");
    }

    #[test]
    fn keys_are_kept_as_age_keeps_them() {
        let key = Key::generate();
        let file = key.to_file();
        let again = Key::of_file(&file).expect("one");
        assert_eq!(again[0].recipient().to_string(), key.recipient().to_string());
        assert!(file.contains(&key.recipient().to_string()) && file.contains("AGE-SECRET-KEY-1"));
        assert_eq!(format!("{key:?}"), "Key(..)");
        assert_eq!(Key::of_file("# nothing\n").err(), Some(BadKey));
        assert!("age1nonsense".parse::<Recipient>().is_err());
        let apart = seal_bytes(&key.recipient(), b"a key");
        assert_eq!(open_bytes(&apart, &again).expect("opened").as_slice(), b"a key");
    }
}
