//! Names in wire form (RFC 1035, section 3.1) without the root, in lower case. Checks no characters: a dot inside a
//! label is no separator.

use std::cmp::Ordering;

use hickory_proto::rr::Name as WireName;
use model::Name;

/// Bytes of a name without the root (RFC 1035, section 2.3.4).
pub(crate) const NAME_BYTES_MAX: usize = 254;
/// Labels of a name: each has two bytes at least.
const LABELS_MAX: usize = 127;

/// A name to look for, and where its labels begin.
#[derive(Clone)]
pub(crate) struct Sought {
    bytes: [u8; NAME_BYTES_MAX],
    length: usize,
    starts: Starts,
}

/// Where the labels of a name begin.
#[derive(Clone, Copy)]
pub(crate) struct Starts {
    at: [u8; LABELS_MAX],
    count: usize,
}

impl Sought {
    /// Reads the name that begins there in a message. `None` if it ends in a pointer, is cut or is too long. The number
    /// is where what follows it begins.
    pub(crate) fn read(message: &[u8], begin: usize) -> Option<(Self, usize)> {
        let mut starts = Starts { at: [0; LABELS_MAX], count: 0 };
        let mut length = 0;
        loop {
            let label = usize::from(*message.get(begin + length)?);
            if label == 0 {
                break;
            }
            if label > 63 || length + 1 + label > NAME_BYTES_MAX {
                return None;
            }
            starts.push(length);
            length += 1 + label;
        }
        let mut bytes = [0; NAME_BYTES_MAX];
        let own = &mut bytes[..length];
        own.copy_from_slice(message.get(begin..begin + length)?);
        // Lengths are below any letter.
        own.make_ascii_lowercase();
        Some((Self { bytes, length, starts }, begin + length + 1))
    }

    /// A name that was in wire form before, such as the target of an alias.
    pub(crate) fn of_wire(wire: &[u8]) -> Self {
        let mut bytes = [0; NAME_BYTES_MAX];
        bytes[..wire.len()].copy_from_slice(wire);
        Self { bytes, length: wire.len(), starts: Starts::of(wire) }
    }

    /// The name in a question.
    pub(crate) fn of_question(name: &WireName) -> Self {
        Self::of_wire(&wire(name.iter()))
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }

    /// How many labels it has.
    pub(crate) const fn labels(&self) -> usize {
        self.starts.count
    }

    /// A label, counted from the left.
    pub(crate) fn label(&self, at: usize) -> &[u8] {
        self.starts.label(self.as_bytes(), at)
    }

    /// Where a label begins; behind the last one, where the name ends.
    pub(crate) fn start(&self, at: usize) -> usize {
        if at < self.starts.count { self.starts.at[at].into() } else { self.length }
    }

    /// The name without its first labels, as people read it.
    pub(crate) fn text(&self, at: usize) -> String {
        text(&self.as_bytes()[self.start(at)..])
    }

    /// Whether this is `origin` or a name below it.
    pub(crate) fn is_within(&self, origin: &Origin) -> bool {
        let Some(labels) = self.labels().checked_sub(origin.labels) else { return false };
        self.as_bytes()[self.start(labels)..] == *origin.wire
    }
}

impl Starts {
    /// Of a name in wire form.
    pub(crate) fn of(wire: &[u8]) -> Self {
        let mut starts = Self { at: [0; LABELS_MAX], count: 0 };
        let mut begin = 0;
        while let Some(&length) = wire.get(begin) {
            starts.push(begin);
            begin += 1 + usize::from(length);
        }
        starts
    }

    fn push(&mut self, start: usize) {
        self.at[self.count] = u8::try_from(start).expect("a name has 254 bytes at most");
        self.count += 1;
    }

    pub(crate) const fn len(&self) -> usize {
        self.count
    }

    /// A label of the name that these are of.
    pub(crate) fn label<'n>(&self, name: &'n [u8], at: usize) -> &'n [u8] {
        let start = usize::from(self.at[at]);
        &name[start + 1..start + 1 + usize::from(name[start])]
    }
}

/// The top of a zone.
#[derive(Debug, Clone)]
pub(crate) struct Origin {
    pub(crate) name: Name,
    pub(crate) wire: Box<[u8]>,
    pub(crate) labels: usize,
}

impl Origin {
    pub(crate) fn new(name: Name) -> Self {
        Self { wire: of_name(&name).into(), labels: name.labels().count(), name }
    }

    /// Whether it is in the tree of addresses.
    pub(crate) fn is_reverse(&self) -> bool {
        self.wire.ends_with(b"\x04arpa")
    }

    /// The part of a name in wire form that is left of this origin. `None` for a name that is not within it.
    pub(crate) fn relative<'n>(&self, name: &'n [u8]) -> Option<&'n [u8]> {
        let relative = name.strip_suffix(&*self.wire)?;
        // What is cut off began with a label.
        (suffixes(name).any(|suffix| suffix.len() == self.wire.len())).then_some(relative)
    }
}

/// A name of the model in wire form.
pub(crate) fn of_name(name: &Name) -> Vec<u8> {
    wire(name.labels().map(str::as_bytes))
}

/// A name of the model as hickory-proto holds it.
pub(crate) fn wire_name(name: &Name) -> WireName {
    WireName::from_labels(name.labels().map(str::as_bytes)).expect("a name of 253 bytes fits the wire's 255")
}

fn wire<'a>(labels: impl Iterator<Item = &'a [u8]>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    for label in labels {
        bytes.push(u8::try_from(label.len()).expect("a label has at most 63 bytes"));
        bytes.extend(label.iter().map(u8::to_ascii_lowercase));
    }
    bytes
}

/// A name as people read it. Whatever is no letter of a name is shown as `?`.
fn text(wire: &[u8]) -> String {
    let labels = suffixes(wire).filter_map(first_label);
    let text = |label: &[u8]| {
        label.iter().map(|&b| if b.is_ascii_graphic() { char::from(b) } else { '?' }).collect()
    };
    labels.map(text).collect::<Vec<String>>().join(".")
}

/// The name itself, its parent, and so on down to the root, which is empty.
pub(crate) fn suffixes(wire: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(wire), |name| parent(name))
}

/// The name without its first label. The root has no parent.
pub(crate) fn parent(wire: &[u8]) -> Option<&[u8]> {
    wire.get(usize::from(*wire.first()?) + 1..)
}

/// `*` is the first label.
pub(crate) fn is_wildcard(wire: &[u8]) -> bool {
    wire.starts_with(b"\x01*")
}

fn first_label(wire: &[u8]) -> Option<&[u8]> {
    wire.get(1..=usize::from(*wire.first()?))
}

/// The order of names as people sort their texts.
pub(crate) fn text_order(a: &[u8], b: &[u8]) -> Ordering {
    let letters = |wire| {
        let labels = suffixes(wire).filter_map(first_label);
        labels.flat_map(|label: &[u8]| label.iter().copied().chain([b'.']))
    };
    letters(a).cmp(letters(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        text.parse().expect("a name")
    }

    fn sought(text: &str) -> Sought {
        Sought::of_wire(&of_name(&name(text)))
    }

    #[test]
    fn parents_end_at_labels() {
        let check = |text: &str, origin: &str, expect: Option<&str>| {
            let origin = Origin::new(name(origin));
            assert_eq!(sought(text).is_within(&origin), expect.is_some(), "{text} in {origin:?}");
            let wire = of_name(&name(text));
            assert_eq!(origin.relative(&wire).map(super::text).as_deref(), expect, "{text} in {origin:?}");
        };
        check("home.internal", "home.internal", Some(""));
        check("a.B.home.internal", "home.internal", Some("a.b"));
        check("ahome.internal", "home.internal", None);
        check("internal", "home.internal", None);
        check("home.internal.org", "home.internal", None);
    }

    #[test]
    fn a_dot_in_a_label_is_no_separator() {
        let odd = WireName::from_labels([&b"a.home"[..], b"internal"]).expect("short labels");
        assert!(!Sought::of_question(&odd).is_within(&Origin::new(name("home.internal"))));
        // The length of a label that reads like the length of the origin's first one.
        let inside = [b"\x05\x04home".as_slice(), b"\x08internal"].concat();
        let inside = Sought::of_wire(&inside);
        assert!(!inside.is_within(&Origin::new(name("home.internal"))));
        assert_eq!(Origin::new(name("home.internal")).relative(inside.as_bytes()), None);
    }

    #[test]
    fn names_are_read_from_messages() {
        let check = |message: &[u8], expect: Option<(&str, usize, usize)>| {
            let read = Sought::read(message, 2).map(|(s, end)| (text(s.as_bytes()), s.labels(), end));
            assert_eq!(read, expect.map(|(text, labels, end)| (text.into(), labels, end)), "{message:?}");
        };
        check(b"xx\x01A\x02bC\0rest", Some(("a.bc", 2, 8)));
        check(b"xx\0", Some(("", 0, 3)));
        check(b"xx\x01a", None);
        check(b"xx\x05a", None);
        check(b"xx\x01a\xc0\x02", None);
        check(b"xx\x40a", None);
        check(b"xx", None);
        let longest = [&b"xx"[..], &b"\x01a".repeat(127), b"\0"].concat();
        assert!(Sought::read(&longest, 2).is_some_and(|(s, _)| s.labels() == 127 && s.start(127) == 254));
        let longer = [&b"xx\x02aa"[..], &b"\x01a".repeat(126), b"\0"].concat();
        check(&longer, None);
    }

    #[test]
    fn labels_are_counted_from_the_left() {
        let name = sought("a.bc.home.internal");
        let labels: Vec<&[u8]> = (0..name.labels()).map(|at| name.label(at)).collect();
        assert_eq!(labels, [&b"a"[..], b"bc", b"home", b"internal"]);
        assert_eq!((0..=4).map(|at| name.start(at)).collect::<Vec<_>>(), [0, 2, 5, 10, 19]);
    }

    #[test]
    fn names_are_sorted_by_their_text() {
        let mut names =
            ["b.a.x", "desk.x", "also.x", "a.x", "a.b.x", "a-b.x"].map(|text| of_name(&name(text)));
        names.sort_by(|a, b| text_order(a, b));
        assert_eq!(names.map(|wire| text(&wire)), ["a-b.x", "a.b.x", "a.x", "also.x", "b.a.x", "desk.x"]);
    }
}
