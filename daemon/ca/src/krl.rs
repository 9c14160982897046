//! Key revocation lists in the form of OpenSSH (PROTOCOL.krl in its source): written here, checked by `ssh-keygen -Q`. Knows
//! no file and does not judge who is to be revoked.
//!
//! ```text
//! magic 8 │ format 4 │ version 8 │ made at 8 │ flags 8 │ reserved │ comment │ sections
//! section: type 1, length 4, data
//!   1 certificates of one CA: its key, reserved, then parts: serials (list, range or bitmap), key ids
//!   2 keys, whole
//! ```
//! Every number is big-endian; a string is its length in 4 bytes and its bytes (RFC 4251, section 5).

mod serials;

use std::collections::{BTreeMap, BTreeSet};

use model::{CaKind, Revoked, SshTrust, Timestamp, Version};

use self::serials::{Piece, of_bits, pieces};

const MAGIC: u64 = 0x5353_484b_524c_0a00;
const FORMAT: u32 = 1;
const SECTION_CERTIFICATES: u8 = 1;
const SECTION_KEYS: u8 = 2;
const PART_SERIALS: u8 = 0x20;
const PART_RANGE: u8 = 0x21;
const PART_BITMAP: u8 = 0x22;
const PART_KEY_IDS: u8 = 0x23;
/// The version of a list is the epoch, above the generation.
const EPOCH_SHIFT: u32 = 32;
/// What a list may take: 100 000 serials so far from each other that no bitmap pays are 800 kB.
pub const KRL_BYTES_MAX: usize = 1024 * 1024;

/// What is revoked of one certificate authority.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OfAuthority {
    /// Single certificates. 0 stands for "no serial" in OpenSSH and is never given out.
    pub serials: BTreeSet<u64>,
    /// All certificates of a person or host, by the id that they carry.
    pub key_ids: BTreeSet<String>,
}

/// A revocation list. Ordered, so that the same list is the same bytes everywhere.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RevocationList {
    /// Grows with every change: a host takes no older list.
    pub version: u64,
    /// By the public key of the authority in the wire form of OpenSSH.
    pub authorities: BTreeMap<Vec<u8>, OfAuthority>,
    /// Public keys that are revoked whatever certificate they come with, in the wire form; an authority's own among them
    /// revokes all that it signed.
    pub keys: BTreeSet<Vec<u8>>,
}

/// Why bytes are no revocation list.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadList {
    /// It ends too early, or a length points past its end.
    #[error("the list ends too early")]
    Short,
    /// Not the form that this version knows.
    #[error("not a revocation list of format 1")]
    Form,
    /// A section or part that this version does not write.
    #[error("a section of an unknown kind")]
    Unknown,
}

impl OfAuthority {
    /// What is revoked, by what it is.
    pub fn of<'a>(revoked: impl Iterator<Item = &'a Revoked>) -> Self {
        let mut of = Self::default();
        for what in revoked {
            match what {
                Revoked::Serial(serial) => drop(of.serials.insert(serial.number())),
                Revoked::Id(id) => drop(of.key_ids.insert(id.to_string())),
            }
        }
        of
    }

    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.serials.is_empty() && self.key_ids.is_empty()
    }
}

impl RevocationList {
    /// What a snapshot says of some authorities, under the snapshot's version.
    pub fn of_trust(trust: &SshTrust, kinds: &[CaKind], version: Version) -> Self {
        let mut list = Self { version: Self::version_of(version), ..Self::default() };
        for kind in kinds {
            let revoked = trust.revoked.keys().filter(|(of, _)| of == kind).map(|(_, what)| what);
            let of = OfAuthority::of(revoked);
            if !of.is_empty() {
                // Whichever of its keys signed: serials are unique among all, and ids are meant of all.
                list.authorities.extend(trust.trusted(*kind).map(|key| (key.key.wire(), of.clone())));
            }
        }
        list
    }

    /// The version of a list that says what a directory of this version does.
    pub fn version_of(version: Version) -> u64 {
        u64::from(version.epoch.0) << EPOCH_SHIFT | version.generation.0
    }

    /// The epoch of the directory that it was made of.
    pub const fn epoch(&self) -> u64 {
        self.version >> EPOCH_SHIFT
    }

    /// All that either revokes, under the version of this one.
    #[must_use]
    pub fn and(mut self, other: Self) -> Self {
        for (key, revoked) in other.authorities {
            let of = self.authorities.entry(key).or_default();
            of.serials.extend(revoked.serials);
            of.key_ids.extend(revoked.key_ids);
        }
        self.keys.extend(other.keys);
        self
    }

    /// Whether nothing is revoked.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty() && self.authorities.values().all(OfAuthority::is_empty)
    }

    /// The list's bytes.
    pub fn to_bytes(&self, at: Timestamp) -> Vec<u8> {
        let mut out = Vec::new();
        out.extend(MAGIC.to_be_bytes());
        out.extend(FORMAT.to_be_bytes());
        out.extend(self.version.to_be_bytes());
        out.extend((at.unix_millis() / 1000).to_be_bytes());
        // Flags, none of which is defined.
        out.extend(0u64.to_be_bytes());
        string(&mut out, b"");
        string(&mut out, b"warren");
        for (key, revoked) in &self.authorities {
            if !revoked.is_empty() {
                section(&mut out, SECTION_CERTIFICATES, &certificates(key, revoked));
            }
        }
        if !self.keys.is_empty() {
            let mut keys = Vec::new();
            self.keys.iter().for_each(|key| string(&mut keys, key));
            section(&mut out, SECTION_KEYS, &keys);
        }
        out
    }

    /// Reads a list that [`Self::to_bytes`] wrote, as a host does before it installs one.
    ///
    /// # Errors
    /// The bytes are cut, of another form, or say what this version does not.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, BadList> {
        let mut input = Input(bytes);
        if input.u64()? != MAGIC || input.u32()? != FORMAT {
            return Err(BadList::Form);
        }
        let mut list = Self { version: input.u64()?, ..Self::default() };
        let (_made_at, _flags) = (input.u64()?, input.u64()?);
        let (_reserved, _comment) = (input.string()?, input.string()?);
        let mut room = SERIALS_MAX;
        while !input.is_empty() {
            let kind = input.u8()?;
            let mut section = Input(input.string()?);
            match kind {
                SECTION_CERTIFICATES => {
                    let key = section.string()?.to_vec();
                    let _reserved = section.string()?;
                    section.parts_into(list.authorities.entry(key).or_default(), &mut room)?;
                }
                SECTION_KEYS => {
                    while !section.is_empty() {
                        list.keys.insert(section.string()?.to_vec());
                    }
                }
                _ => return Err(BadList::Unknown),
            }
        }
        Ok(list)
    }
}

fn certificates(key: &[u8], revoked: &OfAuthority) -> Vec<u8> {
    let mut data = Vec::new();
    string(&mut data, key);
    string(&mut data, b"");
    let pieces = pieces(&revoked.serials);
    let singles = pieces.iter().filter_map(|piece| match piece {
        Piece::Singles(serials) => Some(serials.clone()),
        _ => None,
    });
    let list: Vec<u8> = singles.flatten().flat_map(u64::to_be_bytes).collect();
    if !list.is_empty() {
        section(&mut data, PART_SERIALS, &list);
    }
    for piece in &pieces {
        match piece {
            Piece::Singles(_) => {}
            Piece::Range(first, last) => {
                section(&mut data, PART_RANGE, &[first.to_be_bytes(), last.to_be_bytes()].concat());
            }
            Piece::Bits(first, bits) => {
                let mut bitmap = first.to_be_bytes().to_vec();
                string(&mut bitmap, bits);
                section(&mut data, PART_BITMAP, &bitmap);
            }
        }
    }
    if !revoked.key_ids.is_empty() {
        let mut ids = Vec::new();
        revoked.key_ids.iter().for_each(|id| string(&mut ids, id.as_bytes()));
        section(&mut data, PART_KEY_IDS, &ids);
    }
    data
}

fn string(out: &mut Vec<u8>, bytes: &[u8]) {
    let length = u32::try_from(bytes.len()).expect("a list is under a megabyte");
    out.extend(length.to_be_bytes());
    out.extend(bytes);
}

fn section(out: &mut Vec<u8>, kind: u8, data: &[u8]) {
    out.push(kind);
    string(out, data);
}

/// What is left to read.
struct Input<'a>(&'a [u8]);

/// Serials of one list that are taken: more is no list of ours, and would fill the memory.
const SERIALS_MAX: usize = 1 << 20;

impl<'a> Input<'a> {
    const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], BadList> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(BadList::Short)?;
        self.0 = rest;
        Ok(taken)
    }

    fn array<const N: usize>(&mut self) -> Result<[u8; N], BadList> {
        self.take(N)?.try_into().map_err(|_| BadList::Short)
    }

    fn u8(&mut self) -> Result<u8, BadList> {
        self.array().map(u8::from_be_bytes)
    }

    fn u32(&mut self) -> Result<u32, BadList> {
        self.array().map(u32::from_be_bytes)
    }

    fn u64(&mut self) -> Result<u64, BadList> {
        self.array().map(u64::from_be_bytes)
    }

    fn string(&mut self) -> Result<&'a [u8], BadList> {
        let length = self.u32()?;
        self.take(usize::try_from(length).map_err(|_| BadList::Short)?)
    }

    fn parts_into(&mut self, revoked: &mut OfAuthority, room: &mut usize) -> Result<(), BadList> {
        while !self.is_empty() {
            let kind = self.u8()?;
            let mut part = Input(self.string()?);
            while !part.is_empty() {
                match kind {
                    PART_SERIALS => drop(revoked.serials.insert(part.u64()?)),
                    PART_RANGE => {
                        let (first, last) = (part.u64()?, part.u64()?);
                        let more = last.checked_sub(first).and_then(|more| usize::try_from(more).ok());
                        *room = more.and_then(|more| room.checked_sub(more)).ok_or(BadList::Form)?;
                        revoked.serials.extend(first..=last);
                    }
                    PART_BITMAP => {
                        let (first, bits) = (part.u64()?, part.string()?);
                        let count = bits.iter().map(|byte| byte.count_ones() as usize).sum();
                        *room = room.checked_sub(count).ok_or(BadList::Form)?;
                        revoked.serials.extend(of_bits(first, bits).ok_or(BadList::Form)?);
                    }
                    PART_KEY_IDS => {
                        let id = std::str::from_utf8(part.string()?).map_err(|_| BadList::Form)?;
                        revoked.key_ids.insert(id.to_owned());
                    }
                    _ => return Err(BadList::Unknown),
                }
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn lists() -> impl Strategy<Value = RevocationList> {
        let scattered = (1u64.., 1u64..40, 0..60u64)
            .prop_map(|(first, step, count)| (0..count).map(move |n| first.saturating_add(n * step)));
        let serials = prop::collection::vec(scattered, 0..4)
            .prop_map(|parts| parts.into_iter().flatten().collect::<BTreeSet<u64>>());
        let ids = prop::collection::btree_set("u:[a-z]{1,8}@[a-z]{1,8}", 0..4);
        let of = (serials, ids).prop_map(|(serials, key_ids)| OfAuthority { serials, key_ids });
        let bytes = || prop::collection::vec(any::<u8>(), 0..40);
        let authorities = prop::collection::btree_map(bytes(), of, 0..3);
        (any::<u64>(), authorities, prop::collection::btree_set(bytes(), 0..3))
            .prop_map(|(version, authorities, keys)| RevocationList { version, authorities, keys })
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(mut list in lists()) {
            let read = RevocationList::from_bytes(&list.to_bytes(Timestamp::default()));
            list.authorities.retain(|_, of| !of.serials.is_empty() || !of.key_ids.is_empty());
            prop_assert_eq!(read, Ok(list));
        }

        #[test]
        fn anything_is_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = RevocationList::from_bytes(&bytes);
            let headed = [RevocationList::default().to_bytes(Timestamp::default()), bytes].concat();
            let _ = RevocationList::from_bytes(&headed);
        }
    }

    #[test]
    fn a_hundred_thousand_serials_take_less_than_a_megabyte() {
        for (step, bytes_max) in [(1, 200), (2, 26_000), (40, 510_000), (1000, KRL_BYTES_MAX)] {
            let serials = (0..100_000u64).map(|n| (7 << 47) + 1 + n * step).collect();
            let of = OfAuthority { serials, ..OfAuthority::default() };
            let list =
                RevocationList { authorities: [(vec![1; 51], of)].into(), ..RevocationList::default() };
            let bytes = list.to_bytes(Timestamp::default());
            assert!(bytes.len() < bytes_max, "{}", bytes.len());
            assert_eq!(RevocationList::from_bytes(&bytes), Ok(list));
        }
    }

    #[test]
    fn a_list_that_is_cut_is_no_list() {
        let of = OfAuthority { serials: [1, 2, 3, 9].into(), key_ids: ["u:ada@home".to_owned()].into() };
        let list =
            RevocationList { version: 4, authorities: [(vec![1; 4], of)].into(), keys: [vec![2; 4]].into() };
        let bytes = list.to_bytes(Timestamp::default());
        let whole: BTreeSet<usize> =
            (0..bytes.len()).filter(|cut| RevocationList::from_bytes(&bytes[..*cut]).is_ok()).collect();
        // A list of nothing ends with its comment, and one of certificates before the keys.
        assert!(whole.len() <= 2, "{whole:?}");
        assert_eq!(RevocationList::from_bytes(&[0; 64]), Err(BadList::Form));
    }

    #[test]
    fn ranges_and_bitmaps_fill_no_memory() {
        let half = SERIALS_MAX as u64 / 2;
        let range = |start: u64| (PART_RANGE, [start, start + half].map(u64::to_be_bytes).concat());
        let bitmap = |start: u64| {
            let mut bits = start.to_be_bytes().to_vec();
            string(&mut bits, &vec![0xff; SERIALS_MAX / 16]);
            (PART_BITMAP, bits)
        };
        for part in [&range as &dyn Fn(u64) -> (u8, Vec<u8>), &bitmap] {
            let mut data = Vec::new();
            string(&mut data, b"key");
            string(&mut data, b"");
            for start in [1, 1 << 40, 2 << 40] {
                let (kind, part) = part(start);
                section(&mut data, kind, &part);
            }
            let mut bytes = RevocationList::default().to_bytes(Timestamp::default());
            section(&mut bytes, SECTION_CERTIFICATES, &data);
            assert_eq!(RevocationList::from_bytes(&bytes), Err(BadList::Form));
        }
    }
}
