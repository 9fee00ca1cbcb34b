//! What is shipped beside the binary: the systemd unit is one, and what it and the container file say is what the binary takes.

use std::path::Path;
use std::process::Command;

fn shipped(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("packaging").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

#[test]
fn the_unit_verifies() {
    let directory = tempfile::tempdir().expect("a directory");
    let unit = directory.path().join("ostler.service");
    // The one thing in it that is not on this machine.
    let text = shipped("ostler.service").replace("/usr/local/bin/ostler", env!("CARGO_BIN_EXE_ostler"));
    std::fs::write(&unit, text).expect("written");
    match Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit).output() {
        Ok(output) => {
            let said = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success() && said.is_empty(), "{said}");
        }
        Err(error) => eprintln!("not verified, there is no systemd-analyze here: {error}"),
    }
}

#[test]
fn the_commands_in_them_are_ours() {
    let unit = shipped("ostler.service");
    assert!(unit.contains("\nExecStart=/usr/local/bin/ostler server /etc/ostler/zoo.cfg\n"));
    let container = shipped("Containerfile");
    let command = container.lines().find_map(|line| line.strip_prefix("CMD ")).expect("a command");
    let words: Vec<&str> =
        command.trim_matches(['[', ']']).split(", ").map(|word| word.trim_matches('"')).collect();
    assert_eq!(words[0], "ostler");
    // Its setting, and a port and a directory that can be checked here.
    let setting = words.last().expect("a setting");
    let data = tempfile::tempdir().expect("a directory");
    let checked = Command::new(env!("CARGO_BIN_EXE_ostler"))
        .args(["check", "2181", data.path().to_str().expect("UTF-8"), setting])
        .output()
        .expect("ostler runs");
    let said = String::from_utf8_lossy(&checked.stdout);
    assert!(checked.status.success(), "{said}");
    assert!(said.contains("four-letter words: srvr ruok redy isro mntr"), "{said}");
}
