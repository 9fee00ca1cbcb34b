//! Hints for whoever wrote a configuration: which key was probably meant, and what of a list of four-letter words means
//! nothing.
//! Not here: whether a configuration is valid.

use super::keys::{KEYS, Property};
use crate::admin::FourLetter;

/// ` (did you mean clientPort?)` for what is a key but for a letter or a case; else nothing.
pub fn did_you_mean(spelling: &str) -> String {
    let plain = spelling.strip_prefix("zookeeper.").unwrap_or(spelling);
    let names = KEYS.iter().flat_map(|key| match key.property {
        Property::Prefixed(tail) => [Some(key.name), Some(tail)],
        _ => [Some(key.name), None],
    });
    match nearest(plain, names.flatten().filter(|name| !name.ends_with('*'))) {
        Some(name) => format!(" (did you mean {name}?)"),
        None => String::new(),
    }
}

/// Sentences on words of `4lw.commands.whitelist` that are no words, or are there twice.
pub fn whitelist(list: &str) -> Vec<String> {
    let words: Vec<&str> = list.split(',').map(str::trim).filter(|word| !word.is_empty()).collect();
    let known = || FourLetter::ALL.map(FourLetter::name).into_iter();
    let mut said = Vec::new();
    for (at, word) in words.iter().enumerate() {
        if words[..at].contains(word) {
            said.push(format!("4lw.commands.whitelist names {word} more than once"));
        } else if *word != "*" && !known().any(|name| name == *word) {
            let meant =
                nearest(word, known()).map_or(String::new(), |name| format!(" (did you mean {name}?)"));
            said.push(format!("4lw.commands.whitelist names {word}, which is no four-letter word{meant}"));
        }
    }
    said
}

/// Another case before another letter.
fn nearest<'a>(word: &str, names: impl Iterator<Item = &'a str> + Clone) -> Option<&'a str> {
    let folded = word.to_ascii_lowercase();
    let same = names.clone().find(|name| name.eq_ignore_ascii_case(word));
    same.or_else(|| names.into_iter().find(|name| one_letter_apart(&folded, &name.to_ascii_lowercase())))
}

/// One letter more, one less, another one, or two neighbours exchanged.
fn one_letter_apart(a: &str, b: &str) -> bool {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let (a, b) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let start = a.iter().zip(&b).take_while(|(x, y)| x == y).count();
    match b.len() - a.len() {
        0 if start == a.len() => false,
        0 => {
            let exchanged = start + 1 < a.len() && a[start] == b[start + 1] && a[start + 1] == b[start];
            a[start + 1..] == b[start + 1..] || (exchanged && a[start + 2..] == b[start + 2..])
        }
        1 => a[start..] == b[start + 1..],
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(spelling: &str, meant: &str) {
        let hint = if meant.is_empty() { String::new() } else { format!(" (did you mean {meant}?)") };
        assert_eq!(did_you_mean(spelling), hint, "{spelling}");
    }

    #[test]
    fn keys_a_letter_or_a_case_away() {
        check("clientport", "clientPort");
        check("clientPrt", "clientPort");
        check("clientPorrt", "clientPort");
        check("cleintPort", "clientPort");
        check("datadir", "dataDir");
        check("zookeeper.snapcount", "snapCount");
        check("autopurge.purgeIntervall", "autopurge.purgeInterval");
        check("tickTimes", "tickTime");
        check("ticks", "");
        check("x", "");
        check("", "");
    }

    #[test]
    fn words_of_the_white_list() {
        assert!(whitelist("stat, ruok,*,, srvr ").is_empty());
        assert_eq!(
            whitelist("stat,rouk,stat,all"),
            [
                "4lw.commands.whitelist names rouk, which is no four-letter word (did you mean ruok?)",
                "4lw.commands.whitelist names stat more than once",
                "4lw.commands.whitelist names all, which is no four-letter word",
            ]
        );
    }
}
