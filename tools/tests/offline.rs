//! The offline tools as an operator meets them: the real binary on directories, its words and its exit codes.

use std::path::Path;
use std::process::{Command, Stdio};

fn ostler(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ostler"));
    command.args(words).stdin(Stdio::null());
    command
}

/// Runs a tool: its exit code, and something that it said.
#[track_caller]
fn check(words: &[&str], code: i32, said: &str) {
    let output = ostler(words).output().expect("ostler runs");
    let out = String::from_utf8_lossy(&output.stdout).into_owned();
    let text = out + &String::from_utf8_lossy(&output.stderr);
    assert!(text.contains(said), "{words:?} did not say {said:?}:\n{text}");
    assert_eq!(output.status.code(), Some(code), "{words:?}:\n{text}");
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

#[test]
fn nothing_found_is_no_success() {
    let dir = tempfile::tempdir().expect("temp dir");
    let missing = dir.path().join("missing");
    for place in [dir.path(), &missing] {
        for verify in ["log", "snapshot"] {
            check(&[verify, "verify", text(place)], 1, text(place));
        }
        check(&["purge", text(place), "-n", "3"], 1, text(place));
        check(&["purge", text(place), text(place), "-n", "3", "--dry-run"], 1, text(place));
    }
    std::fs::create_dir(dir.path().join("version-2")).expect("version-2");
    check(&["log", "verify", text(dir.path())], 1, "version-2: there is no log file");
    check(&["snapshot", "verify", text(dir.path())], 1, "version-2: there is no snapshot");
    check(&["purge", text(dir.path()), "-n", "3"], 1, "version-2: there is no snapshot");
}
