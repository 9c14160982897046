//! Which name a new device gets. Knows nothing of who asks.

use model::{IdentityKey, Label, Name};

/// Labels that no device and no custom record may have.
const RESERVED: [&str; 2] = ["hub", "localhost"];

/// Suffixes that are tried one by one before the search goes in leaps.
const TRIED_IN_ORDER: u32 = 16;

/// The hub's own label in every zone.
pub(super) fn hub_label() -> Label {
    "hub".parse().expect("three letters are a label")
}

/// Whether the label is nobody's to choose.
pub(super) fn is_reserved(label: &Label) -> bool {
    RESERVED.contains(&label.as_str())
}

/// The label of a name directly below the origin.
pub(super) fn label_in(name: &Name, origin: &Name) -> Option<Label> {
    if name.parent().as_ref() != Some(origin) {
        return None;
    }
    name.labels().next()?.parse().ok()
}

/// What a machine calls itself, or a name made of its identity if that is of no use.
pub(super) fn wish(hostname: &str, identity: &IdentityKey) -> Label {
    Label::from_hostname(hostname).unwrap_or_else(|| {
        let [a, b, ..] = identity.as_bytes();
        format!("device-{a:02x}{b:02x}").parse().expect("letters, digits and a hyphen")
    })
}

/// The wish itself, or with the first suffix from 2 on that a search finds free. A thousand machines of one name cost
/// a few looks each: after 16 suffixes the search doubles until one is free and halves back to the last that is not.
pub(super) fn free(wish: &Label, is_taken: impl Fn(&Label) -> bool) -> Label {
    let taken = |label: &Label| is_reserved(label) || is_taken(label);
    if !taken(wish) {
        return wish.clone();
    }
    let taken_at = |number: u32| taken(&wish.with_suffix(number));
    if let Some(number) = (2..=TRIED_IN_ORDER).find(|number| !taken_at(*number)) {
        return wish.with_suffix(number);
    }
    let (mut low, mut high) = (TRIED_IN_ORDER, TRIED_IN_ORDER * 2);
    while taken_at(high) {
        (low, high) = (high, high * 2);
    }
    while high - low > 1 {
        let middle = low + (high - low) / 2;
        if taken_at(middle) { low = middle } else { high = middle }
    }
    wish.with_suffix(high)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::collections::BTreeSet;

    fn label(text: &str) -> Label {
        text.parse().expect("a label")
    }

    #[test]
    fn a_taken_or_reserved_wish_gets_a_suffix() {
        let check = |wish: &str, taken: &[&str], expect: &str| {
            let got = free(&label(wish), |l| taken.contains(&l.as_str()));
            assert_eq!(got, label(expect));
        };
        check("nas", &[], "nas");
        check("nas", &["nas"], "nas-2");
        check("nas", &["nas", "nas-2", "nas-4"], "nas-3");
        check("hub", &[], "hub-2");
        check("localhost", &["localhost-2"], "localhost-3");
    }

    #[test]
    fn many_machines_of_one_name_cost_few_looks() {
        let mut taken = BTreeSet::new();
        for n in 0..3000 {
            let looks = Cell::new(0);
            let got = free(&label("raspberrypi"), |l| {
                looks.set(looks.get() + 1);
                taken.contains(l)
            });
            assert!(looks.get() <= 50, "{} looks for device {n}", looks.get());
            assert!(taken.insert(got));
        }
    }

    #[test]
    fn a_useless_hostname_becomes_a_name_of_the_identity() {
        let identity = IdentityKey::from_bytes([0xab; 32]);
        assert_eq!(wish("日本", &identity), label("device-abab"));
        assert_eq!(wish("My-Mac.local", &identity), label("my-mac"));
    }

    #[test]
    fn labels_are_found_directly_below_the_origin_only() {
        let name = |text: &str| text.parse::<Name>().expect("a name");
        let origin = name("home.internal");
        assert_eq!(label_in(&name("nas.home.internal"), &origin), Some(label("nas")));
        for other in ["home.internal", "a.nas.home.internal", "nas.work.internal", "*.home.internal"] {
            assert_eq!(label_in(&name(other), &origin), None, "{other}");
        }
    }
}
