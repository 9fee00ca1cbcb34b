//! The grammar of Java properties files, as `zoo.cfg` is read: bytes in, key, value and line out.
//! Not here: what any key means. Order and duplicates are kept; that the last one wins is the reader's business.

/// One `key = value` of a file, unescaped and trimmed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Property {
    pub key: String,
    pub value: String,
    /// Natural line the pair begins on, from 1.
    pub line: usize,
    /// The bytes hold characters that Java reads as Latin-1 although they look like UTF-8.
    pub garbled: bool,
}

/// `\u` without four hex digits behind it: the only text this grammar refuses.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct BadEscape {
    pub line: usize,
}

/// Reads a whole file (java.util.Properties.load, JDK 17). Bytes are Latin-1, one character each.
pub fn parse(bytes: &[u8]) -> Result<Vec<Property>, BadEscape> {
    let mut properties = Vec::new();
    for line in logical_lines(bytes) {
        let (key, value) = split(&line.text);
        let property = |key: String, value: String| Property {
            key: trim(&key),
            value: trim(&value),
            line: line.number,
            garbled: !line.text.is_ascii() && std::str::from_utf8(&line.text).is_ok(),
        };
        let bad = |()| BadEscape { line: line.number };
        properties.push(property(unescape(key).map_err(bad)?, unescape(value).map_err(bad)?));
    }
    Ok(properties)
}

struct LogicalLine {
    text: Vec<u8>,
    number: usize,
}

fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\x0c')
}

/// Natural lines joined where a backslash ends them; blank lines and comments dropped. A comment is not continued,
/// and a continuation that looks like a comment is none.
fn logical_lines(bytes: &[u8]) -> Vec<LogicalLine> {
    let mut lines: Vec<LogicalLine> = Vec::new();
    let mut continued: Option<LogicalLine> = None;
    for (index, natural) in natural_lines(bytes).enumerate() {
        let start = natural.iter().position(|&b| !is_blank(b)).unwrap_or(natural.len());
        let text = &natural[start..];
        let fresh = continued.as_ref().is_none_or(|line| line.text.is_empty());
        if fresh && matches!(text.first(), Some(b'#' | b'!')) {
            continued = None;
            continue;
        }
        let mut line = continued.take().unwrap_or(LogicalLine { text: Vec::new(), number: index + 1 });
        let escaped = text.iter().rev().take_while(|&&b| b == b'\\').count() % 2 == 1;
        line.text.extend_from_slice(&text[..text.len() - usize::from(escaped)]);
        if escaped {
            continued = Some(line);
        } else if !line.text.is_empty() {
            lines.push(line);
        }
    }
    lines.extend(continued.filter(|line| !line.text.is_empty()));
    lines
}

/// Lines ended by `\n`, `\r` or `\r\n`.
fn natural_lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    let mut rest = bytes;
    std::iter::from_fn(move || {
        if rest.is_empty() {
            return None;
        }
        let end = rest.iter().position(|&b| b == b'\n' || b == b'\r').unwrap_or(rest.len());
        let line = &rest[..end];
        let skip = match &rest[end..] {
            [b'\r', b'\n', ..] => 2,
            [] => 0,
            _ => 1,
        };
        rest = &rest[end + skip..];
        Some(line)
    })
}

/// The key ends at the first `=`, `:` or blank that no backslash escapes; one separator and the blanks round it go.
fn split(line: &[u8]) -> (&[u8], &[u8]) {
    let mut escaped = false;
    let mut end = line.len();
    for (at, &byte) in line.iter().enumerate() {
        if !escaped && (is_blank(byte) || byte == b'=' || byte == b':') {
            end = at;
            break;
        }
        escaped = byte == b'\\' && !escaped;
    }
    let mut start = end;
    let mut separated = false;
    while let Some(&byte) = line.get(start) {
        let separator = !separated && (byte == b'=' || byte == b':');
        if !separator && !is_blank(byte) {
            break;
        }
        separated |= separator;
        start += 1;
    }
    (&line[..end], &line[start..])
}

/// Latin-1 with `\t \n \r \f \uXXXX`; any other escaped character stands for itself.
fn unescape(bytes: &[u8]) -> Result<String, ()> {
    let mut units: Vec<u16> = Vec::with_capacity(bytes.len());
    let mut rest = bytes.iter();
    while let Some(&byte) = rest.next() {
        if byte != b'\\' {
            units.push(u16::from(byte));
            continue;
        }
        match rest.next() {
            None => break,
            Some(b't') => units.push(0x09),
            Some(b'n') => units.push(0x0a),
            Some(b'r') => units.push(0x0d),
            Some(b'f') => units.push(0x0c),
            Some(b'u') => {
                let mut unit = 0u16;
                for _ in 0..4 {
                    let digit = rest.next().and_then(|&b| (b as char).to_digit(16)).ok_or(())?;
                    unit = unit << 4 | digit as u16;
                }
                units.push(unit);
            }
            Some(&other) => units.push(u16::from(other)),
        }
    }
    Ok(String::from_utf16_lossy(&units))
}

/// As Java's `String.trim`: everything up to a space goes.
fn trim(text: &str) -> String {
    text.trim_matches(|c: char| c <= ' ').to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(text: &str, expected: &[(&str, &str, usize)]) {
        let found = parse(text.as_bytes()).expect("well formed");
        let found: Vec<_> = found.iter().map(|p| (p.key.as_str(), p.value.as_str(), p.line)).collect();
        assert_eq!(found, expected, "{text:?}");
    }

    #[test]
    fn separators() {
        check(
            "a=1\nb:2\nc 3\nd\t4\ne = 5\nf : 6\ng   7",
            &[
                ("a", "1", 1),
                ("b", "2", 2),
                ("c", "3", 3),
                ("d", "4", 4),
                ("e", "5", 5),
                ("f", "6", 6),
                ("g", "7", 7),
            ],
        );
        check("server.1:host:2888:3888", &[("server.1", "host:2888:3888", 1)]);
        check("a==1", &[("a", "=1", 1)]);
        check("a = = 1", &[("a", "= 1", 1)]);
        check("a : = 1", &[("a", "= 1", 1)]);
        check("a\\=b=c\\:d", &[("a=b", "c:d", 1)]);
        check("a\\ b=c", &[("a b", "c", 1)]);
        check("alone", &[("alone", "", 1)]);
        check("=value", &[("", "value", 1)]);
    }

    #[test]
    fn comments_and_blank_lines() {
        check("# one\n! two\n\n  \t\n  # three\na=1 # not a comment\n", &[("a", "1 # not a comment", 6)]);
        check("# a comment is not continued \\\na=1", &[("a", "1", 2)]);
    }

    #[test]
    fn continuations() {
        check("a=1\\\n   2\nb=3", &[("a", "12", 1), ("b", "3", 3)]);
        check("a=1\\\n# 2", &[("a", "1# 2", 1)]);
        check("a=1\\\\\nb=2", &[("a", "1\\", 1), ("b", "2", 2)]);
        check("a=1\\\r\n  2\r\nb=3\rc=4", &[("a", "12", 1), ("b", "3", 3), ("c", "4", 4)]);
        check("a=1\\\n\nb=2", &[("a", "1", 1), ("b", "2", 3)]);
        check("a=1\\", &[("a", "1", 1)]);
        check("clientP\\\n  ort=2181", &[("clientPort", "2181", 1)]);
    }

    #[test]
    fn escapes() {
        check("dataDir=C:\\zk\\data", &[("dataDir", "C:zkdata", 1)]);
        check("a=\\u0041\\u00e9\\ud83d\\ude00", &[("a", "Aé😀", 1)]);
        check("a=x\\ty\\\\z", &[("a", "x\ty\\z", 1)]);
        check("a=\\  b \\ ", &[("a", "b", 1)]);
        assert_eq!(parse(b"ok=1\na=\\u12"), Err(BadEscape { line: 2 }));
        assert_eq!(parse(b"a=\\u12g4"), Err(BadEscape { line: 1 }));
    }

    #[test]
    fn bytes_are_latin_1() {
        let found = parse(b"a=\xe9").expect("well formed");
        assert_eq!((found[0].value.as_str(), found[0].garbled), ("é", false));
        let found = parse("a=é".as_bytes()).expect("well formed");
        assert_eq!((found[0].value.as_str(), found[0].garbled), ("Ã©", true));
    }

    #[test]
    fn duplicates_are_kept_in_order() {
        check("a=1\na=2", &[("a", "1", 1), ("a", "2", 2)]);
    }
}
