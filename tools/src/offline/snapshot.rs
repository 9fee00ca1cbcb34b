//! `ostler snapshot dump` and `summary`: Apache's SnapshotFormatter and SnapshotRecursiveSummary.

use super::tree::Tree;
use super::{EXIT_OK, Failure, file_name, java};
use crate::date;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use ostler_engine::model::Owner;
use ostler_engine::snapshot::{ImageNode, names};
use std::collections::HashMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

/// Numbers of the JSON form's nodes begin here.
const INODE_FIRST: u64 = 1000;

#[derive(clap::Args, Debug)]
pub struct DumpArgs {
    /// Print each znode's data in base64 instead of its length
    #[arg(short = 'd', long, conflicts_with = "json")]
    data: bool,
    /// Print names and sizes as one line of JSON, for ncdu and the like; -json is the same
    #[arg(long)]
    json: bool,
    /// A snapshot
    file: PathBuf,
}

pub fn dump(args: &DumpArgs, out: &mut dyn Write) -> Result<i32, Failure> {
    let tree = Tree::load(&args.file)?;
    if args.json {
        json(&tree, out)?;
        return Ok(EXIT_OK);
    }
    // Apache counts the root twice: it has two names for it.
    writeln!(out, "ZNode Details (count={}):", tree.image.nodes.len() + 1)?;
    writeln!(out, "----")?;
    let mut pending = vec![tree.root()];
    while let Some(position) = pending.pop() {
        node(tree.node(position), args.data, out)?;
        pending.extend(tree.children(position).into_iter().rev());
    }
    sessions(&tree, out)?;
    writeln!(out, "Last zxid: 0x{:x}", last_zxid(&args.file, &tree))?;
    Ok(EXIT_OK)
}

fn node(node: &ImageNode, with_data: bool, out: &mut dyn Write) -> Result<(), Failure> {
    let stat = &node.stat;
    writeln!(out, "{}", if node.path.is_empty() { "/" } else { &node.path })?;
    writeln!(out, "  cZxid = 0x{:014x}", stat.czxid.0)?;
    writeln!(out, "  ctime = {}", date::long(stat.ctime.0))?;
    writeln!(out, "  mZxid = 0x{:014x}", stat.mzxid.0)?;
    writeln!(out, "  mtime = {}", date::long(stat.mtime.0))?;
    writeln!(out, "  pZxid = 0x{:014x}", stat.pzxid.0)?;
    writeln!(out, "  cversion = {}", stat.cversion)?;
    writeln!(out, "  dataVersion = {}", stat.version)?;
    writeln!(out, "  aclVersion = {}", stat.aversion)?;
    writeln!(out, "  ephemeralOwner = 0x{:014x}", stat.owner.to_stored())?;
    let data = node.data.as_deref().unwrap_or_default();
    match with_data {
        true => writeln!(out, "  data = {}", BASE64.encode(data))?,
        false => writeln!(out, "  dataLength = {}", data.len())?,
    }
    Ok(writeln!(out, "----")?)
}

/// The last whose effects are in here: of a snapshot taken while txns went on, later than the one it is named after.
fn last_zxid(file: &Path, tree: &Tree) -> u64 {
    let of_name = names::zxid_in_name(&file_name(file), names::SNAPSHOT_PREFIX).or(tree.contents.last_zxid);
    let stats = tree.image.nodes.iter().map(|node| &node.stat);
    let of_nodes = stats.flat_map(|stat| [stat.czxid.0, stat.mzxid.0, stat.pzxid.0]).max();
    of_name.unwrap_or_default().0.max(of_nodes.unwrap_or_default())
}

fn sessions(tree: &Tree, out: &mut dyn Write) -> Result<(), Failure> {
    let mut ephemerals: HashMap<i64, u64> = HashMap::new();
    for node in &tree.image.nodes {
        if let Owner::Ephemeral(session) = node.stat.owner {
            *ephemerals.entry(session.0).or_default() += 1;
        }
    }
    writeln!(out, "Session Details (sid, timeout, ephemeralCount):")?;
    let mut sessions = tree.image.sessions.clone();
    java::long_map_order(&mut sessions, |(id, _)| id.0);
    for (id, timeout_ms) in sessions {
        writeln!(out, "0x{:x}, {timeout_ms}, {}", id.0, ephemerals.get(&id.0).unwrap_or(&0))?;
    }
    Ok(writeln!(out, "----")?)
}

/// A leaf is an object, a znode with children an array whose first element is itself.
fn json(tree: &Tree, out: &mut dyn Write) -> Result<(), Failure> {
    enum Step {
        Node(usize),
        Close,
    }
    let millis = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis());
    write!(
        out,
        "[1,0,{{\"progname\":\"SnapshotFormatter.java\",\"progver\":\"0.01\",\"timestamp\":{millis}}}"
    )?;
    let mut inode = INODE_FIRST;
    let mut pending = vec![Step::Node(tree.root())];
    while let Some(step) = pending.pop() {
        let Step::Node(position) = step else {
            write!(out, "]")?;
            continue;
        };
        inode += 1;
        let name = if position == tree.root() { "/" } else { tree.name(position) };
        let bytes = tree.data_bytes(position);
        let open = if tree.is_leaf(position) { "" } else { "[" };
        let name = json_text(name);
        write!(
            out,
            ",{open}{{\"name\":\"{name}\",\"asize\":{bytes},\"dsize\":{bytes},\"dev\":0,\"ino\":{inode}}}"
        )?;
        if !tree.is_leaf(position) {
            pending.push(Step::Close);
            pending.extend(tree.children(position).into_iter().rev().map(Step::Node));
        }
    }
    Ok(write!(out, "]")?)
}

/// As Jackson, which Apache's tool uses, quotes it.
fn json_text(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '"' => escaped.push_str("\\\""),
            '\\' => escaped.push_str("\\\\"),
            '\x08' => escaped.push_str("\\b"),
            '\t' => escaped.push_str("\\t"),
            '\n' => escaped.push_str("\\n"),
            '\x0c' => escaped.push_str("\\f"),
            '\r' => escaped.push_str("\\r"),
            c if (c as u32) < 0x20 => escaped.push_str(&format!("\\u{:04X}", c as u32)),
            c => escaped.push(c),
        }
    }
    escaped
}

pub fn summary(file: &Path, path: &str, depth_max: u32, out: &mut dyn Write) -> Result<i32, Failure> {
    let tree = Tree::load(file)?;
    let Some(start) = tree.find(path) else {
        return Err(Failure::Other(format!("{}: there is no znode {path}", file.display())));
    };
    let totals = tree.totals();
    let mut pending = vec![(start, 0)];
    while let Some((position, depth)) = pending.pop() {
        let indent = "--".repeat(depth as usize);
        let path = &tree.node(position).path;
        writeln!(out, "{indent} {}", if path.is_empty() { "/" } else { path })?;
        writeln!(out, "{indent}   children: {}", totals[position].descendants)?;
        writeln!(out, "{indent}   data: {}", totals[position].bytes)?;
        if depth_max == 0 || depth < depth_max {
            let inner = tree.children(position).into_iter().rev().filter(|child| !tree.is_leaf(*child));
            pending.extend(inner.map(|child| (child, depth + 1)));
        }
    }
    writeln!(out)?;
    Ok(EXIT_OK)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_as_apaches_tool_quotes_them() {
        assert_eq!(json_text("a\"b\\c/ü\u{1f600}"), "a\\\"b\\\\c/ü\u{1f600}");
        assert_eq!(json_text("\u{8}\t\n\u{c}\r\u{0}\u{1f}\u{7f}"), "\\b\\t\\n\\f\\r\\u0000\\u001F\u{7f}");
    }
}
