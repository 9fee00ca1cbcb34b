//! The first bytes of a connection: connect request, four-letter word, or a client of another protocol.
//! Not here: answering any of them.

use crate::admin::FourLetter;

/// What the first bytes say.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Opening {
    /// Not enough to tell.
    Undecided,
    /// One of the commands, compared before anything is taken for a length, with the number
    /// that follows `stmk` (0 for the others).
    Word(FourLetter, i64),
    /// Telnet's way of hanging up.
    HangUp,
    /// Somebody speaks another protocol; the text says which, for the log.
    Stranger(&'static str),
    /// A length word: to be read as frames.
    Frames,
}

const TELNET_CLOSE: [u8; 4] = [0xff, 0xf4, 0xff, 0xfd];

/// Methods of HTTP by their first four bytes.
const HTTP: [&[u8; 4]; 9] = [b"GET ", b"POST", b"HEAD", b"PUT ", b"DELE", b"OPTI", b"PATC", b"CONN", b"PRI "];

/// Looks at the first bytes of a connection whose handshake has not begun.
pub fn recognise(bytes: &[u8]) -> Opening {
    let Some((first, rest)) = bytes.split_first_chunk::<4>() else { return Opening::Undecided };
    if let Some(word) = FourLetter::recognise(*first) {
        return match (word.argument_bytes(), rest.first_chunk::<8>()) {
            (0, _) => Opening::Word(word, 0),
            (_, Some(argument)) => Opening::Word(word, i64::from_be_bytes(*argument)),
            (_, None) => Opening::Undecided,
        };
    }
    if HTTP.contains(&first) {
        return Opening::Stranger("HTTP");
    }
    match first {
        &TELNET_CLOSE => Opening::HangUp,
        // A TLS record: handshake, version 3.x. As a length it would be 369 MB and more.
        [0x16, 0x03, 0..=4, _] => Opening::Stranger("TLS"),
        b"SSH-" => Opening::Stranger("SSH"),
        _ => Opening::Frames,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(bytes: &[u8], expected: Opening) {
        assert_eq!(recognise(bytes), expected, "{bytes:?}");
    }

    #[test]
    fn first_bytes() {
        check(b"", Opening::Undecided);
        check(b"ruo", Opening::Undecided);
        check(b"ruok\n", Opening::Word(FourLetter::Ruok, 0));
        check(b"RUOK", Opening::Frames);
        check(b"stmk\0\0\0", Opening::Undecided);
        check(b"stmk\0\0\0\0\0\0\x01\0", Opening::Word(FourLetter::Stmk, 256));
        check(&TELNET_CLOSE, Opening::HangUp);
        check(b"GET / HTTP/1.1\r\n", Opening::Stranger("HTTP"));
        check(&[0x16, 3, 1, 2, 0, 1], Opening::Stranger("TLS"));
        check(&[0, 0, 0, 45, 0], Opening::Frames);
        check(&[0xff; 4], Opening::Frames);
    }
}
