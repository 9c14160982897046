//! The text that `wg` writes to the socket of a userspace device.

use tunnel::uapi::{Parser, Refused, Request, print_update};

/// A change that was accepted is printed so that it reads back as the same change.
pub(crate) fn check(bytes: &[u8]) {
    let text = String::from_utf8_lossy(bytes);
    let Some(Ok(Request::Set(update))) = read(&text) else { return };
    let mut printed = String::new();
    print_update(&update, &mut printed).expect("memory can be written");
    assert_eq!(read(&printed), Some(Ok(Request::Set(update))), "{printed}");
}

fn read(text: &str) -> Option<Result<Request, Refused>> {
    let mut parser = Parser::new(|_| Some(1));
    text.lines().find_map(|line| parser.line(line))
}
