//! Quotas as the shell writes them: znodes under `/zookeeper/quota` (semantics.md §8).

use std::collections::BTreeMap;

use super::commands::{check_path, join, usage_of};
use super::options::Options;
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

fn quota_node(path: &str, leaf: &str) -> String {
    join(&format!("{ROOT}{}", if path == "/" { "" } else { path }), leaf)
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
    let path = check_path(options.operands.first().ok_or_else(|| usage_of("listquota"))?)?;
    let limits = quota_node(path, LIMITS);
    eprintln!("absolute path is {limits}");
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
    let path = check_path(options.operands.first().ok_or_else(|| usage_of("setquota"))?)?;
    let mut wanted = Vec::new();
    for (letter, key) in KEYS {
        if let Some(value) = options.number::<i64>(letter)? {
            wanted.push((key, value));
        }
    }
    if wanted.is_empty() {
        return Err(usage_of("setquota"));
    }
    if path == "/" || path.starts_with("/zookeeper/") || path == "/zookeeper" {
        return Err(CliError::Malformed(format!("cannot set a quota on {path}")));
    }
    if shell.exists(path, false)?.is_none() {
        return Err(CliError::Code { code: -101, path: path.to_string() });
    }
    refuse_nested(shell, path)?;
    make_parents(shell, path)?;
    write_limits(shell, path, &wanted)?;
    warn_exceeded(shell, path)
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

fn write_limits(shell: &mut Shell, path: &str, wanted: &[(&str, i64)]) -> Outcome {
    let node = quota_node(path, LIMITS);
    let old = text_at(shell, &node)?;
    let mut limits = Limits::parse(old.as_deref().unwrap_or(""));
    // Apache's shell writes all four keys from the first time on.
    for (_, key) in KEYS {
        limits.set(key, limits.get(key));
    }
    for (key, value) in wanted {
        limits.set(key, *value);
    }
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
    let path = check_path(options.operands.first().ok_or_else(|| usage_of("delquota"))?)?;
    let node = quota_node(path, LIMITS);
    let Some(text) = text_at(shell, &node)? else {
        println!("Quota does not exist for {path}");
        return Ok(());
    };
    let cleared: Vec<(&str, i64)> =
        KEYS.iter().filter(|(letter, _)| options.has(letter)).map(|(_, key)| (*key, -1)).collect();
    if !cleared.is_empty() {
        let mut limits = Limits::parse(&text);
        for (key, value) in cleared {
            limits.set(key, value);
        }
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
