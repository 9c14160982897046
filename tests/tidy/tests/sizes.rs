//! Size hints: a long file or function is where to look for the second noun.

use tidy::Complaints;
use tidy::rust::Parsed;
use tidy::tree::rust_files;

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;

/// Files that are longer, with the reason why one noun needs so much.
const LONG_FILES: &[(&str, &str)] = &[];

/// Functions that are longer, as `file function`, with the reason why parts would read worse.
const LONG_FUNCTIONS: &[(&str, &str)] = &[];

#[test]
fn files_are_one_noun() {
    let long = rust_files().into_iter().filter(|file| !file.is_test()).filter_map(|file| {
        let lines = file.text.lines().count() - Parsed::new(&file).test_lines();
        (lines > FILE_LINES_MAX).then_some((file.path, format!("{lines} lines without tests")))
    });
    compare(&long.collect::<Vec<_>>(), LONG_FILES, "split it at its second noun");
}

#[test]
fn functions_fit_a_page() {
    let long = rust_files().into_iter().flat_map(|file| {
        let functions = Parsed::new(&file).functions().into_iter().filter(|f| f.lines > FUNCTION_LINES_MAX);
        functions
            .map(|f| (format!("{} {}", file.path, f.name), format!("{} lines", f.lines)))
            .collect::<Vec<_>>()
    });
    compare(&long.collect::<Vec<_>>(), LONG_FUNCTIONS, "give its parts names");
}

fn compare(found: &[(String, String)], excused: &[(&str, &str)], advice: &str) {
    let mut complaints = Complaints::new();
    for (place, size) in found {
        if !excused.iter().any(|(name, _)| name == place) {
            complaints.add(
                place,
                format_args!("{size}: {advice}, or list it with a reason in tests/tidy/tests/sizes.rs"),
            );
        }
    }
    for (name, _) in excused {
        if !found.iter().any(|(place, _)| place == name) {
            complaints.add(name, "is short enough now: take it out of tests/tidy/tests/sizes.rs");
        }
    }
    complaints.settle();
}
