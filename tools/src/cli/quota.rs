//! Quotas as the shell writes them: znodes under `/zookeeper/quota`.

use std::collections::BTreeMap;

use super::commands::{check_path, join, usage_of};
use super::options::{self, Options};
use super::{CliError, Shell};

type Outcome = Result<(), CliError>;

const ROOT: &str = "/zookeeper/quota";
const LIMITS: &str = "zookeeper_limits";
const STATS: &str = "zookeeper_stats";

/// `count=N,bytes=M`, then after `=` each further key behind a `;`. -1 means unset.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Limits(BTreeMap<String, i64>);

impl Limits {
    fn parse(text: &str) -> Limits {
        let pairs = text.split([',', ';']).filter_map(|part| part.split_once('='));
        Limits(
            pairs
                .filter_map(|(key, value)| Some((key.to_string(), value.trim_end_matches('=').parse().ok()?)))
                .collect(),
        )
    }

    fn get(&self, key: &str) -> i64 {
        self.0.get(key).copied().unwrap_or(-1)
    }

    fn set(&mut self, key: &str, value: i64) {
        self.0.insert(key.to_string(), value);
    }

    fn text(&self) -> String {
        let hard: Vec<String> = self
            .0
            .iter()
            .filter(|(key, _)| !matches!(key.as_str(), "count" | "bytes"))
            .map(|(key, value)| format!("{key}={value}"))
            .collect();
        let tail = if hard.is_empty() { String::new() } else { format!("=;{}", hard.join(";")) };
        format!("count={},bytes={}{tail}", self.get("count"), self.get("bytes"))
    }
}

/// Option letter to key: lower case soft, upper case hard.
const KEYS: [(&str, &str); 4] =
    [("n", "count"), ("b", "bytes"), ("N", "countHardLimit"), ("B", "byteHardLimit")];

/// They exclude each other.
const LETTERS: [&str; 4] = ["n", "b", "N", "B"];

fn quota_node(path: &str, leaf: &str) -> String {
    format!("{ROOT}{path}/{leaf}")
}

fn text_at(shell: &mut Shell, path: &str) -> Result<Option<String>, CliError> {
    match shell.get_data(path, false) {
        Ok((data, _)) => Ok(Some(String::from_utf8_lossy(&data.unwrap_or_default()).into_owned())),
        Err(CliError::Code { code: -101, .. }) => Ok(None),
        Err(e) => Err(e),
    }
}

pub fn list(shell: &mut Shell, words: &[String]) -> Outcome {
    let options = Options::parse(words, &[], &[])?;
    let path = options.operands.first().ok_or_else(|| usage_of("listquota"))?;
    let limits = quota_node(path, LIMITS);
    eprintln!("absolute path is {limits}");
    check_path(&limits)?;
    match text_at(shell, &limits)? {
        Some(text) => {
            println!("Output quota for {path} {}", Limits::parse(&text).text());
            let usage = text_at(shell, &quota_node(path, STATS))?.unwrap_or_default();
            println!("Output stat for {path} {}", Limits::parse(&usage).text());
            Ok(())
        }
        None => {
            eprintln!("quota for {path} does not exist.");
            Ok(())
        }
    }
}

pub fn set(shell: &mut Shell, words: &[String]) -> Outcome {
    let options = Options::parse(words, &[], &["n", "b", "N", "B"])?;
    let letter = options.one_of(&LETTERS)?.ok_or_else(none_selected)?.to_string();
    let path = options.operands.first().ok_or_else(|| usage_of("setquota"))?;
    let wanted = limit(&letter, options.value(&letter).unwrap_or_default())?;
    check_path(path)?;
    if path.starts_with(ROOT) {
        return Err(CliError::Malformed(format!("cannot set a quota under the path: {ROOT}")));
    }
    if path == "/" || path.starts_with("/zookeeper/") || path == "/zookeeper" {
        return Err(CliError::Malformed(format!("cannot set a quota on {path}")));
    }
    if shell.exists(path, false)?.is_none() {
        return Err(CliError::Malformed(format!("{path} does not exist.")));
    }
    refuse_nested(shell, path)?;
    make_parents(shell, path)?;
    write_limit(shell, path, wanted)?;
    warn_exceeded(shell, path)
}

fn none_selected() -> CliError {
    let group = "[-n num soft quota, -b bytes soft quota, -N num hard quota, -B bytes hard quota]";
    options::refused("MissingOption", format!("Missing required option: {group}"))
}

/// Key and value of the limit behind `-letter`.
fn limit(letter: &str, text: &str) -> Result<(&'static str, i64), CliError> {
    let complain = |complaint: &str| Err(CliError::Malformed(complaint.to_string()));
    let counts = letter.eq_ignore_ascii_case("n");
    // Apache reads numbers of znodes as int, numbers of bytes as long.
    let number: Option<i64> =
        if counts { text.parse::<i32>().ok().map(i64::from) } else { text.parse().ok() };
    let key = KEYS.iter().find(|(known, _)| *known == letter).map_or("", |(_, key)| *key);
    match number {
        None => complain("NumberFormatException happens when parsing the option value"),
        Some(..=0) if counts => complain("the num quota must be greater than zero"),
        Some(..0) => complain("the bytes quota must be greater than or equal to zero"),
        Some(number) => Ok((key, number)),
    }
}

/// A quota above or below `path` would hide one of the two.
fn refuse_nested(shell: &mut Shell, path: &str) -> Outcome {
    let mut parent = path;
    while let Some((up, _)) = parent.rsplit_once('/').filter(|(up, _)| !up.is_empty()) {
        parent = up;
        if shell.exists(&quota_node(parent, LIMITS), false)?.is_some() {
            return Err(CliError::Malformed(format!("{path} has a parent {parent} which has a quota")));
        }
    }
    let own = format!("{ROOT}{path}");
    let own_limits = join(&own, LIMITS);
    let below = match shell.subtree(&own) {
        Ok(paths) => paths,
        Err(CliError::Code { code: -101, .. }) => return Ok(()),
        Err(e) => return Err(e),
    };
    match below.iter().find(|node| node.ends_with(LIMITS) && **node != own_limits) {
        Some(child) => Err(CliError::Malformed(format!("{path} has a child {child} which has a quota"))),
        None => Ok(()),
    }
}

fn make_parents(shell: &mut Shell, path: &str) -> Outcome {
    let mut node = ROOT.to_string();
    for part in path.split('/').filter(|part| !part.is_empty()) {
        node = join(&node, part);
        match shell.create_persistent(&node, b"") {
            Ok(()) | Err(CliError::Code { code: -110, .. }) => {}
            Err(e) => return Err(e),
        }
    }
    Ok(())
}

fn write_limit(shell: &mut Shell, path: &str, (wanted, value): (&str, i64)) -> Outcome {
    let node = quota_node(path, LIMITS);
    let old = text_at(shell, &node)?;
    let mut limits = Limits::parse(old.as_deref().unwrap_or(""));
    // Apache's shell writes all four keys from the first time on.
    for (_, key) in KEYS {
        limits.set(key, limits.get(key));
    }
    limits.set(wanted, value);
    if old.is_some() {
        return shell.set_data(&node, limits.text().as_bytes(), -1).map(|_| ());
    }
    shell.create_persistent(&node, limits.text().as_bytes())?;
    let empty = Limits(BTreeMap::from([("count".into(), 0), ("bytes".into(), 0)])).text();
    shell.create_persistent(&quota_node(path, STATS), empty.as_bytes())
}

fn warn_exceeded(shell: &mut Shell, path: &str) -> Outcome {
    let limits = Limits::parse(&text_at(shell, &quota_node(path, LIMITS))?.unwrap_or_default());
    let usage = Limits::parse(&text_at(shell, &quota_node(path, STATS))?.unwrap_or_default());
    for (what, soft, hard, used) in
        [("count", "count", "countHardLimit", "count"), ("bytes", "bytes", "byteHardLimit", "bytes")]
    {
        for limit in [limits.get(soft), limits.get(hard)] {
            if limit >= 0 && usage.get(used) > limit {
                println!(
                    "[Warning]: the {what} quota you create is less than the existing {what}:{}",
                    usage.get(used)
                );
            }
        }
    }
    Ok(())
}

pub fn delete(shell: &mut Shell, words: &[String]) -> Outcome {
    let options = Options::parse(words, &["n", "b", "N", "B"], &[])?;
    let selected = options.one_of(&LETTERS)?;
    let path = options.operands.first().ok_or_else(|| usage_of("delquota"))?;
    let node = quota_node(path, LIMITS);
    check_path(&node)?;
    let Some(text) = text_at(shell, &node)? else {
        println!("Quota does not exist for {path}");
        return Ok(());
    };
    if let Some((_, key)) = KEYS.iter().find(|(letter, _)| selected == Some(letter)) {
        let mut limits = Limits::parse(&text);
        limits.set(key, -1);
        return shell.set_data(&node, limits.text().as_bytes(), -1).map(|_| ());
    }
    shell.delete_node(&node, -1)?;
    match shell.delete_node(&quota_node(path, STATS), -1) {
        Ok(()) | Err(CliError::Code { code: -101, .. }) => {}
        Err(e) => return Err(e),
    }
    trim_parents(shell, path)
}

/// Removes what `make_parents` made, as far up as nothing else hangs below.
fn trim_parents(shell: &mut Shell, path: &str) -> Outcome {
    let mut node = format!("{ROOT}{path}");
    while node.len() > ROOT.len() {
        match shell.delete_node(&node, -1) {
            Ok(()) => {}
            Err(CliError::Code { code: -111 | -101, .. }) => return Ok(()),
            Err(e) => return Err(e),
        }
        node.truncate(node.rfind('/').unwrap_or(0));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(Limits::parse(text).text(), expected);
    }

    #[test]
    fn limits_are_checked_before_the_path() {
        for (letter, text, expected) in [
            ("n", "5", Ok(("count", 5))),
            ("N", "5", Ok(("countHardLimit", 5))),
            ("b", "0", Ok(("bytes", 0))),
            ("B", "9999999999", Ok(("byteHardLimit", 9_999_999_999))),
            ("n", "0", Err("the num quota must be greater than zero")),
            ("N", "-5", Err("the num quota must be greater than zero")),
            ("B", "-2", Err("the bytes quota must be greater than or equal to zero")),
            ("n", "9999999999", Err("NumberFormatException happens when parsing the option value")),
        ] {
            let outcome = limit(letter, text).map_err(|e| e.to_string());
            assert_eq!(outcome, expected.map_err(str::to_string), "-{letter} {text}");
        }
    }

    #[test]
    fn limits_round_trip() {
        check("count=3,bytes=10", "count=3,bytes=10");
        check(
            "count=3,bytes=10=;countHardLimit=5;byteHardLimit=100",
            "count=3,bytes=10=;byteHardLimit=100;countHardLimit=5",
        );
        check("", "count=-1,bytes=-1");
        check("garbage", "count=-1,bytes=-1");
    }
}
