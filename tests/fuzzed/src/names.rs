//! Names: labels, whole domain names, and what machines call themselves.

use model::limits::{LABEL_BYTES_MAX, NAME_BYTES_MAX};
use model::{Label, Name};

/// A name that was accepted is safe to write into any file and reads back as itself.
pub(crate) fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    if let Ok(name) = text.parse::<Name>() {
        assert_eq!(name.to_string().parse().as_ref(), Ok(&name));
        assert!(name.as_str().len() <= NAME_BYTES_MAX);
        assert!(name.as_str().bytes().all(|b| b.is_ascii_graphic() && !b.is_ascii_uppercase()));
        assert!(name.is_within(&name));
        assert!(name.parent().is_none_or(|parent| name.is_within(&parent) && !parent.is_within(&name)));
        assert_eq!(name.labels().collect::<Vec<_>>().join("."), name.as_str());
    }
    if let Ok(label) = text.parse::<Label>() {
        check_label(&label);
    }
    if let Some(label) = Label::from_hostname(&text) {
        check_label(&label);
    }
}

fn check_label(label: &Label) {
    assert_eq!(label.to_string().parse().as_ref(), Ok(label));
    assert!(label.as_str().len() <= LABEL_BYTES_MAX);
    assert!(label.as_str().bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-'));
    for number in [2, 10, u32::MAX] {
        let suffixed = label.with_suffix(number);
        assert_eq!(suffixed.to_string().parse().as_ref(), Ok(&suffixed));
    }
}
