//! Java's properties format, as far as a configuration's text can use it: comments, separators, escapes, lines that go on.
//! Not here: what the keys mean.

/// Keys and values in the order of the text. Reads anything; a broken escape stands for what follows it.
pub(super) fn parse(text: &str) -> Vec<(String, String)> {
    let mut entries = Vec::new();
    let mut lines = text.split(['\n', '\r']).map(str::trim_start);
    while let Some(first) = lines.next() {
        if first.is_empty() || first.starts_with(['#', '!']) {
            continue;
        }
        let mut line = first.to_string();
        while ends_escaped(&line) {
            line.pop();
            match lines.next() {
                Some(more) => line.push_str(more),
                None => break,
            }
        }
        entries.push(split(&line));
    }
    entries
}

fn ends_escaped(line: &str) -> bool {
    line.chars().rev().take_while(|c| *c == '\\').count() % 2 == 1
}

/// The key ends at the first separator that is not escaped: white space, or one `=` or `:` with white space around it.
fn split(line: &str) -> (String, String) {
    let mut is_escaped = false;
    let end = line.find(|c: char| {
        let is_end = !is_escaped && (c == '=' || c == ':' || c.is_whitespace());
        is_escaped = !is_escaped && c == '\\';
        is_end
    });
    let (key, rest) = line.split_at(end.unwrap_or(line.len()));
    let rest = rest.trim_start();
    let value = rest.strip_prefix(['=', ':']).unwrap_or(rest).trim_start();
    // Java keeps white space at the end of a value, and its readers of servers then trip over it.
    (unescape(key), unescape(value).trim_end().to_string())
}

fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        match chars.next() {
            Some('t') => out.push('\t'),
            Some('n') => out.push('\n'),
            Some('r') => out.push('\r'),
            Some('f') => out.push('\x0c'),
            Some('u') => {
                let digits: String = chars.by_ref().take(4).collect();
                let code = u32::from_str_radix(&digits, 16).ok().and_then(char::from_u32);
                out.push(code.unwrap_or(char::REPLACEMENT_CHARACTER));
            }
            Some(other) => out.push(other),
            None => {}
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &[(&str, &str)]) {
        let entries = parse(text);
        let entries: Vec<(&str, &str)> = entries.iter().map(|(k, v)| (k.as_str(), v.as_str())).collect();
        assert_eq!(entries, expected);
    }

    #[test]
    fn reads_what_java_reads() {
        check("a=b\n#c=d\n!e\n\n  f : g=h \r\ni j", &[("a", "b"), ("f", "g=h"), ("i", "j")]);
        check("a\\=b\\:c = d\\\n   e\\u0041", &[("a=b:c", "deA")]);
        check("a\\\\=b", &[("a\\", "b")]);
        check("lonely", &[("lonely", "")]);
        check("ends=in\\", &[("ends", "in")]);
    }
}
