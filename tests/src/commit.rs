//! Which commit a program of the tests was built from: it prints this beside its seeds, so that what it finds can be played
//! again. Also a part of `tests/zab`, which has a crate of its own.

use std::process::Command;

/// Of the tree that was built; a dirty one says so.
pub fn commit() -> String {
    let git = |args: &[&str]| {
        let output = Command::new("git").args(args).current_dir(env!("CARGO_MANIFEST_DIR")).output().ok()?;
        output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let Some(commit) = git(&["rev-parse", "--short=12", "HEAD"]) else { return "unknown".into() };
    let dirty = git(&["status", "--porcelain"]).is_none_or(|changes| !changes.is_empty());
    if dirty { format!("{commit}+changes") } else { commit }
}
