//! `ostler snapshot verify`: every byte read, every seal and the footer checked, the tree put together, ACLs and digest
//! looked up.

use super::tree::Tree;
use super::{EXIT_DAMAGED, EXIT_OK, Failure, at, file_name, nothing_here, version_dir};
use ostler_engine::io::disk::{Disk, RealDisk};
use ostler_engine::model::{Owner, StatPersisted};
use ostler_engine::snapshot::{ImageNode, OPEN_ACL_KEY, candidates, names};
use ostler_replication::Zxid;
use std::collections::HashSet;
use std::io::Write;
use std::path::Path;

/// The digest that can be recomputed; of older ones snapshots keep no usable value.
const DIGEST_VERSION: i32 = 2;

pub fn verify(path: &Path, out: &mut dyn Write) -> Result<i32, Failure> {
    if !path.is_dir() {
        return file(path, out);
    }
    let dir = version_dir(path);
    let listed = RealDisk.list(&dir).map_err(at(&dir))?;
    let zxid = |name: &str| names::zxid_in_name(name, names::SNAPSHOT_PREFIX);
    let mut snapshots: Vec<_> = listed.into_iter().filter(|file| zxid(&file.name).is_some()).collect();
    snapshots.sort_by_key(|file| (zxid(&file.name), file.name.clone()));
    if snapshots.is_empty() {
        return Err(nothing_here(&dir, "snapshot (snapshot.<zxid>)"));
    }
    let mut code = EXIT_OK;
    for snapshot in &snapshots {
        code = code.max(file(&dir.join(&snapshot.name), out)?);
    }
    Ok(code)
}

fn file(path: &Path, out: &mut dyn Write) -> Result<i32, Failure> {
    let tree = match Tree::load(path) {
        Ok(tree) => tree,
        Err(Failure::Damaged(what)) => {
            writeln!(out, "{}: DAMAGED: {what}", file_name(path))?;
            writeln!(
                out,
                "  Next: nothing, as long as an older snapshot is whole and no log behind it is missing: the server then \
                 starts from that one (ostler log verify on the directory tells). Otherwise put it back from a copy, \
                 or, in an ensemble, move the data directory away and let the server fetch everything from its peers"
            )?;
            return Ok(EXIT_DAMAGED);
        }
        Err(other) => return Err(other),
    };
    let contents = &tree.contents;
    let footer = if contents.footer { "Ostler's footer and Apache's seals" } else { "Apache's seals" };
    writeln!(
        out,
        "{}: {} znodes, {} bytes of data, {} sessions, {} ACLs; {footer} match",
        file_name(path),
        contents.nodes,
        contents.data_bytes,
        contents.sessions,
        contents.acls
    )?;
    let mut damaged = false;
    if !candidates::looks_valid(&RealDisk, path).map_err(at(path))? {
        damaged = true;
        writeln!(out, "  DAMAGED a server would not look at it: the file does not end as a snapshot must")?;
    }
    match check_digest(path, &tree) {
        None => {}
        Some(Ok(digest)) => writeln!(out, "  the tree's digest {digest:#x} matches")?,
        Some(Err(what)) => {
            damaged = true;
            writeln!(out, "  DAMAGED {what}")?;
        }
    }
    oddities(&tree, out)?;
    Ok(if damaged { EXIT_DAMAGED } else { EXIT_OK })
}

/// A snapshot of a running Apache server contains effects of later txns, and its digest is that of the last of them: only
/// where digest and name say the same zxid can the tree be held to it. `None`: it cannot.
fn check_digest(path: &Path, tree: &Tree) -> Option<Result<u64, String>> {
    let digest = tree
        .contents
        .digest
        .filter(|digest| digest.version == DIGEST_VERSION && digest.zxid != Zxid::ZERO)?;
    let zxid = names::zxid_in_name(&file_name(path), names::SNAPSHOT_PREFIX)?;
    if digest.zxid != zxid {
        return None;
    }
    let computed = tree.image.nodes.iter().fold(0u64, |sum, node| sum.wrapping_add(node_digest(node)));
    Some(match computed == digest.value {
        true => Ok(computed),
        false => Err(format!("the tree's digest is {computed:#x}, the snapshot records {:#x}", digest.value)),
    })
}

/// CRC-32 over path, data and Stat, pzxid third; below /zookeeper nothing counts.
fn node_digest(node: &ImageNode) -> u64 {
    if node.path.starts_with("/zookeeper/") {
        return 0;
    }
    let StatPersisted { czxid, mzxid, ctime, mtime, version, cversion, aversion, owner, pzxid } = node.stat;
    let mut crc = crc32fast::Hasher::new();
    crc.update(node.path.as_bytes());
    crc.update(node.data.as_deref().unwrap_or_default());
    for long in [czxid.to_wire(), mzxid.to_wire(), pzxid.to_wire(), ctime.0, mtime.0] {
        crc.update(&long.to_be_bytes());
    }
    for int in [version, cversion, aversion] {
        crc.update(&int.to_be_bytes());
    }
    crc.update(&owner.to_stored().to_be_bytes());
    u64::from(crc.finalize())
}

/// What a snapshot taken while txns went on may contain, and what replay of the log puts right.
fn oddities(tree: &Tree, out: &mut dyn Write) -> Result<(), Failure> {
    let acls: HashSet<i64> = tree.image.acls.iter().map(|(key, _)| *key).collect();
    let sessions: HashSet<i64> = tree.image.sessions.iter().map(|(id, _)| id.0).collect();
    let (mut without_acl, mut without_session) = (0, 0);
    for node in &tree.image.nodes {
        without_acl += u64::from(node.acl != OPEN_ACL_KEY && !acls.contains(&node.acl));
        let owner = node.stat.owner;
        without_session += u64::from(matches!(owner, Owner::Ephemeral(id) if !sessions.contains(&id.0)));
    }
    if without_acl > 0 {
        writeln!(
            out,
            "  {without_acl} znodes have an ACL that the table lacks: the log behind it must supply it"
        )?;
    }
    if without_session > 0 {
        writeln!(
            out,
            "  {without_session} ephemerals belong to no session in it: the log supplies it, or they go"
        )?;
    }
    Ok(())
}
