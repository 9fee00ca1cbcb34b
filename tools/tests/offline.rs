//! The offline tools as an operator meets them: the real binary on directories, its words and its exit codes.

use std::io::{BufRead, BufReader, Write};
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

/// A data directory, and what is done to it.
struct Data {
    dir: tempfile::TempDir,
}

impl Data {
    fn new() -> Data {
        Data { dir: tempfile::tempdir().expect("temp dir") }
    }

    fn path(&self, name: &str) -> std::path::PathBuf {
        self.dir.path().join("version-2").join(name)
    }

    /// A server's life, in which the shell is given these lines; what the shell said. `Err`: what the server said, and its
    /// exit code, when it did not start.
    fn live(&self, lines: &str) -> Result<String, (String, Option<i32>)> {
        let config = self.dir.path().join("zoo.cfg");
        let dir = text(self.dir.path());
        let settings =
            format!("dataDir={dir}\nclientPort=0\nclientPortAddress=127.0.0.1\npreAllocSize=4096\n");
        std::fs::write(&config, settings).expect("zoo.cfg");
        let mut server =
            ostler(&["server", text(&config)]).stdout(Stdio::piped()).spawn().expect("ostler runs");
        let mut log = BufReader::new(server.stdout.take().expect("piped"));
        let (mut said, mut line) = (String::new(), String::new());
        let port = loop {
            line.clear();
            if log.read_line(&mut line).expect("its log") == 0 {
                return Err((said, server.wait().expect("it ended").code()));
            }
            said.push_str(&line);
            if let Some((_, rest)) = line.split_once("serving clients on 127.0.0.1:") {
                break rest.trim().to_owned();
            }
        };
        let answers = shell(&port, lines);
        let pid = rustix::process::Pid::from_child(&server);
        rustix::process::kill_process(pid, rustix::process::Signal::TERM).expect("signal");
        std::io::copy(&mut log, &mut std::io::sink()).expect("its log");
        assert!(server.wait().expect("it ends").success());
        Ok(answers)
    }

    fn logs(&self) -> Vec<std::path::PathBuf> {
        let names = std::fs::read_dir(self.path("")).expect("listed").flatten().map(|entry| entry.path());
        let mut logs: Vec<_> = names.filter(|path| text(path).contains("/log.")).collect();
        logs.sort();
        logs
    }

    /// Changes a letter of the first record that holds `data`.
    fn damage(&self, data: &str) {
        let holds = |bytes: &[u8]| bytes.windows(data.len()).position(|part| part == data.as_bytes());
        for path in self.logs() {
            let mut bytes = std::fs::read(&path).expect("a log");
            if let Some(at) = holds(&bytes) {
                bytes[at] ^= 1;
                std::fs::write(&path, bytes).expect("written");
                return;
            }
        }
        panic!("{data} is in no log");
    }
}

fn shell(port: &str, lines: &str) -> String {
    let mut shell = ostler(&["cli", "-server", &format!("127.0.0.1:{port}")])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("ostler runs");
    shell.stdin.take().expect("piped").write_all(lines.as_bytes()).expect("typed");
    let output = shell.wait_with_output().expect("it ends");
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    String::from_utf8_lossy(&output.stdout).into_owned() + &errors
}

#[test]
fn a_damaged_log_comes_back_by_what_the_message_says() {
    let data = Data::new();
    data.live("create /one first\ncreate /two second\ncreate /three third\n").expect("a server");
    data.live("create /four fourth\n").expect("a server");
    data.damage("second");
    let (said, code) = data.live("").expect_err("damage");
    assert_eq!(code, Some(1), "{said}");
    let (_, command) = said.split_once("give up what follows: ostler ").unwrap_or_else(|| panic!("{said}"));
    let command: Vec<&str> = command.split_whitespace().take(5).collect();
    let whole = std::fs::read(&data.logs()[0]).expect("a log");
    let later = data.logs().len() - 1;

    check(&["log", "verify", text(data.dir.path())], 3, &format!("ostler {}", command.join(" ")));
    check(&["log", "recover", "--give-up-after", "0x7777", text(data.dir.path())], 1, "up to txn");
    check(&command, 0, "A server would start");
    let aside = std::fs::read_dir(data.path("")).expect("listed").flatten().map(|entry| entry.path());
    let aside = aside.into_iter().find(|path| text(path).contains("given-up-after")).expect("set aside");
    let name = data.logs()[0].file_name().expect("a name").to_owned();
    assert!(std::fs::read(aside.join(name)).expect("the copy") == whole, "the copy is not what was there");
    assert!(later > 0 && std::fs::read_dir(&aside).expect("listed").count() > later);
    check(&command, 0, "nothing was changed");

    let answers = data.live("ls /\ncreate /five fifth\n").expect("it starts");
    assert!(answers.contains("[one, zookeeper]") && answers.contains("Created /five"), "{answers}");
    let answers = data.live("ls /\n").expect("and again");
    assert!(answers.contains("[five, one, zookeeper]"), "{answers}");
}

#[test]
fn what_is_lost_is_said() {
    let data = Data::new();
    data.live("create /one first\ncreate /two second\ncreate /three third\ncreate /four fourth\n")
        .expect("a server");
    data.damage("second");
    let output = ostler(&["log", "verify", text(data.dir.path())]).output().expect("ostler runs");
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let (_, last) = said.split_once("--give-up-after ").unwrap_or_else(|| panic!("{said}"));
    let last = last.split_whitespace().next().expect("a zxid");
    check(&["log", "recover", "--give-up-after", last, text(data.dir.path())], 0, " whole txns, 0x");
}

#[test]
fn copies_beside_a_log_do_not_stop_a_start() {
    let data = Data::new();
    data.live("create /one first\n").expect("a server");
    data.live("create /two second\n").expect("a server");
    for path in data.logs() {
        for more in [".bak", ".fixed", ".chopped5", ".old"] {
            std::fs::copy(&path, format!("{}{more}", text(&path))).expect("copied");
        }
        check(&["log", "recover", "--yes", text(&path)], 1, "already exists");
    }
    let answers = data.live("ls /\n").expect("it starts");
    assert!(answers.contains("[one, two, zookeeper]"), "{answers}");
    check(&["log", "verify", text(data.dir.path())], 0, "A server would start");
}

#[test]
fn a_log_under_another_name_alone_is_a_log() {
    let data = Data::new();
    data.live("create /one first\n").expect("a server");
    let log = &data.logs()[0];
    std::fs::rename(log, format!("{}.old", text(log))).expect("renamed");
    let answers = data.live("ls /\n").expect("it starts");
    assert!(answers.contains("[one, zookeeper]"), "{answers}");
}

#[test]
fn no_answer_means_no_and_nothing_is_written() {
    let data = Data::new();
    data.live("create /one first\ncreate /two second\n").expect("a server");
    data.damage("second");
    let log = &data.logs()[0];
    check(&["log", "recover", text(log)], 1, "nothing is written");
    assert_eq!(data.logs().len(), 1, "{:?}", data.logs());
    check(&["log", "recover", "-y", text(log)], 0, "1 fixed CRC error");
    assert_eq!(data.logs().len(), 2, "{:?}", data.logs());
}
