//! A typed line to words, as Apache's shell makes them (`ZooKeeperMain`'s patterns): interactive, piped and redone lines
//! alike. Words of the process's own command line are words already.
//! Not here: what the words mean (options, commands).
//!
//! A quote groups words only where a word begins with it and another of its kind follows; everywhere else it is a
//! character like any other, so that JSON is stored as typed. A word ends behind its closing quote, blank or not. A
//! quote that begins a word and is never closed is dropped; only after blanks that belong to no word before it, at the
//! start of the line, the last of those blanks and the quote become part of the word. There is no way to escape a quote.

/// A word, and where the line goes on.
struct Word<'a> {
    text: &'a str,
    /// Behind the word and its closing quote.
    end: usize,
}

/// The blanks of Java's `\s`.
fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\x0b' | '\x0c' | '\r')
}

fn is_quote(c: char) -> bool {
    matches!(c, '"' | '\'')
}

/// Words of a line. A line of blanks has none; to Apache's shell the last blank is then a word, and no command.
pub fn split_line(line: &str) -> Vec<String> {
    if line.chars().all(is_blank) {
        return Vec::new();
    }
    let (mut words, mut at) = (Vec::new(), 0);
    while at < line.len() {
        match word_from(line, at) {
            Some(word) => {
                at = word.end + blanks(&line[word.end..]);
                words.push(word.text.to_owned());
            }
            None => at += first_char_bytes(&line[at..]),
        }
    }
    words
}

/// Where the word under the cursor at the end of `line` begins, behind a quote that is still open. For completion.
pub fn last_word_start(line: &str) -> usize {
    let mut at = 0;
    loop {
        let start = at + blanks(&line[at..]);
        let Some(first) = line[start..].chars().next() else { return start };
        let end = match is_quote(first) {
            true => match line[start + 1..].find(first) {
                Some(length) => start + 1 + length + 1,
                None => return start + 1,
            },
            false => start + unbroken(&line[start..]),
        };
        if end == line.len() {
            return if is_quote(first) { end } else { start };
        }
        at = end;
    }
}

/// The word whose blanks begin at `from`, if one does.
fn word_from(line: &str, from: usize) -> Option<Word<'_>> {
    let start = from + blanks(&line[from..]);
    word_at(line, start).or_else(|| {
        // Blanks are one byte long. The last one begins a word where nothing else can.
        let blank = start.checked_sub(1).filter(|blank| *blank >= from)?;
        let end = blank + 1 + unbroken(&line[blank + 1..]);
        Some(Word { text: &line[blank..end], end })
    })
}

fn word_at(line: &str, start: usize) -> Option<Word<'_>> {
    let rest = &line[start..];
    let first = rest.chars().next()?;
    if !is_quote(first) {
        let end = start + unbroken(rest);
        return Some(Word { text: &line[start..end], end });
    }
    let length = rest[1..].find(first)?;
    let (inner, end) = (&rest[1..=length], start + length + 2);
    // A dot of Java's patterns stands for everything but these.
    let text = match inner.contains(['\r', '\u{85}', '\u{2028}', '\u{2029}']) {
        true => &line[start..end],
        false => inner,
    };
    Some(Word { text, end })
}

fn blanks(text: &str) -> usize {
    text.find(|c| !is_blank(c)).unwrap_or(text.len())
}

fn unbroken(text: &str) -> usize {
    text.find(is_blank).unwrap_or(text.len())
}

fn first_char_bytes(text: &str) -> usize {
    text.chars().next().map_or(1, char::len_utf8)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(line: &str, expected: &[&str]) {
        assert_eq!(split_line(line), expected, "{line:?}");
    }

    /// Each as `MyCommandOptions.parseCommand` of 3.9.5 printed it, but for lines of blanks.
    #[test]
    fn words_are_those_of_apaches_shell() {
        check(
            r#"create /j {"port":9092,"hosts":["a","b"]}"#,
            &["create", "/j", r#"{"port":9092,"hosts":["a","b"]}"#],
        );
        check(r#"create /t""#, &["create", r#"/t""#]);
        check("create /t'", &["create", "/t'"]);
        check(r#"create /a "b c" 'd "e'"#, &["create", "/a", "b c", r#"d "e"#]);
        check("  set /a ''  ", &["set", "/a", ""]);
        check(r#"create /a ""b"#, &["create", "/a", "", "b"]);
        check(r#"create /a "b"c"#, &["create", "/a", "b", "c"]);
        check(r#"create /a "b""c""#, &["create", "/a", "b", "c"]);
        check(r#"create /a "b" "c"#, &["create", "/a", "b", "c"]);
        check(r#"create /a "b c"#, &["create", "/a", "b", "c"]);
        check("create /a it's", &["create", "/a", "it's"]);
        check("create /a 'it's", &["create", "/a", "it", "s"]);
        check(r#"create /a ' "b"#, &["create", "/a", r#" "b"#]);
        check(r#"create /a " b"#, &["create", "/a", "b"]);
        check(r#" "ls" /"#, &["ls", "/"]);
        check(r#" "ls /"#, &[r#" "ls"#, "/"]);
        check("  'ls /", &[" 'ls", "/"]);
        check("\"", &[]);
        check("' '", &[" "]);
        check(r#"create /a "'" '"'"#, &["create", "/a", "'", "\""]);
        check(r#"create /a '{"a": "b c"}'"#, &["create", "/a", r#"{"a": "b c"}"#]);
        check(r#"create /a {"a": "b c"}"#, &["create", "/a", r#"{"a":"#, "b c", "}"]);
        check(r#"create /a b\"c"#, &["create", "/a", r#"b\"c"#]);
        check(r#"create /a "b\"c""#, &["create", "/a", r"b\", r#"c""#]);
        check("create\t/tab\t\"b\tc\"\t", &["create", "/tab", "b\tc"]);
        check("create /idsp a\u{3000}b", &["create", "/idsp", "a\u{3000}b"]);
        check(r#"create /a ="""#, &["create", "/a", r#"="""#]);
        check(r#"create /a x"y z""#, &["create", "/a", r#"x"y"#, r#"z""#]);
        check(r#"create /a "" x"#, &["create", "/a", "", "x"]);
        check(r#"ls /"a b""#, &["ls", r#"/"a"#, r#"b""#]);
        check("create /vt a\x0bb", &["create", "/vt", "a", "b"]);
        check("nel a\u{85}b \"c\u{85}d\"", &["nel", "a\u{85}b", "\"c\u{85}d\""]);
        check("uni \"a\u{2028}b\"", &["uni", "\"a\u{2028}b\""]);
        check("", &[]);
        check(" \t ", &[]);
    }

    #[test]
    fn the_word_under_the_cursor() {
        let check = |line: &str, word: &str| assert_eq!(&line[last_word_start(line)..], word, "{line:?}");
        check("ge", "ge");
        check("get /a/", "/a/");
        check("get ", "");
        check("get \"/a b", "/a b");
        check("get \"/a b\"", "");
        check("get -s /x\"y", "/x\"y");
        check("set /ü ä", "ä");
    }
}
