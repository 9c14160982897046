//! The published example of the whole construction, as far as it has no associated data.

use chacha::{Cipher, Job, Key};

#[test]
fn what_was_sealed_opens() {
    for cipher in Cipher::available() {
        let key = Key::new(&[5; 32]);
        let mut bytes = [0; 40];
        bytes[..24].fill(9);
        cipher.seal([Job { key: &key, counter: 3, bytes: &mut bytes }]);
        assert_ne!(bytes[..24], [9; 24]);
        let mut told = Vec::new();
        cipher.open([Job { key: &key, counter: 3, bytes: &mut bytes }], |number, right| {
            told.push((number, right));
        });
        assert_eq!((told, &bytes[..24]), (vec![(0, true)], &[9; 24][..]));
    }
}
