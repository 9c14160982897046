//! An owner name as a key: wire form (RFC 1035, section 3.1) without the root, in lower case. Checks no characters.

use hickory_proto::rr::Name as WireName;
use model::Name;

/// Labels with their length in front, leftmost first. A parent is a suffix. A dot inside a label is no separator.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key(Box<[u8]>);

impl Key {
    /// The name in a question.
    pub(crate) fn of_question(name: &WireName) -> Self {
        Self::from_labels(name.iter())
    }

    fn from_labels<'a>(labels: impl Iterator<Item = &'a [u8]>) -> Self {
        let mut bytes = Vec::with_capacity(64);
        for label in labels {
            bytes.push(u8::try_from(label.len()).expect("a label has at most 63 bytes"));
            bytes.extend(label.iter().map(u8::to_ascii_lowercase));
        }
        Self(bytes.into())
    }

    pub(crate) fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// Whether this is `origin` or a name below it.
    pub(crate) fn is_within(&self, origin: &Self) -> bool {
        suffixes(&self.0).any(|suffix| suffix == &*origin.0)
    }

    /// The names between this one and `origin`, both excluded.
    pub(crate) fn between(&self, origin: &Self) -> impl Iterator<Item = &[u8]> {
        suffixes(&self.0).skip(1).take_while(|suffix| suffix.len() > origin.0.len())
    }

    /// The labels, rightmost first.
    pub(crate) fn labels_from_root(&self) -> Vec<&[u8]> {
        let mut labels: Vec<&[u8]> = suffixes(&self.0).filter_map(first_label).collect();
        labels.reverse();
        labels
    }
}

impl From<&Name> for Key {
    fn from(name: &Name) -> Self {
        Self::from_labels(name.labels().map(str::as_bytes))
    }
}

/// The name itself, its parent, and so on down to the root, which is empty.
fn suffixes(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::successors(Some(bytes), |name| name.get(usize::from(*name.first()?) + 1..))
}

fn first_label(name: &[u8]) -> Option<&[u8]> {
    name.get(1..=usize::from(*name.first()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(text: &str) -> Key {
        Key::from(&text.parse::<Name>().expect("a name"))
    }

    #[test]
    fn parents_end_at_labels() {
        let check = |name: &str, origin: &str, expect| {
            assert_eq!(key(name).is_within(&key(origin)), expect, "{name} in {origin}");
        };
        check("home.internal", "home.internal", true);
        check("a.B.home.internal", "home.internal", true);
        check("ahome.internal", "home.internal", false);
        check("internal", "home.internal", false);
    }

    #[test]
    fn a_dot_in_a_label_is_no_separator() {
        let odd = WireName::from_labels([&b"a.home"[..], b"internal"]).expect("short labels");
        assert!(!Key::of_question(&odd).is_within(&key("home.internal")));
        assert_ne!(Key::of_question(&odd), key("a.home.internal"));
    }

    #[test]
    fn names_between_exclude_both_ends() {
        let (name, origin) = (key("a.b.c.home.internal"), key("home.internal"));
        let between: Vec<&[u8]> = name.between(&origin).collect();
        assert_eq!(between, [key("b.c.home.internal").as_bytes(), key("c.home.internal").as_bytes()]);
        assert_eq!(origin.between(&origin).count(), 0);
        assert_eq!(origin.labels_from_root(), [&b"internal"[..], b"home"]);
    }
}
