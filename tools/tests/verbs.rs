//! The server's commands as a script meets them: the real binary, its output, its files and its exit codes.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

/// A configuration directory with a `zoo.cfg` on a free port, and the server started from it, if any.
struct Home {
    dir: tempfile::TempDir,
    port: u16,
}

impl Home {
    fn new(lines: &str) -> Home {
        let dir = tempfile::tempdir().expect("temp dir");
        // The kernel names a port; between here and the server's bind nobody else asks for it by number.
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let config = format!(
            "dataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\nautopurge.purgeInterval=1\npreAllocSize=4096\n{lines}\n",
            dir.path().join("data").display()
        );
        std::fs::write(dir.path().join("zoo.cfg"), config).expect("zoo.cfg");
        Home { dir, port }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = ostler();
        if !matches!(words[0], "4lw" | "version" | "--help") {
            command.arg("--config").arg(self.dir.path());
        }
        command.args(words).output().expect("ostler runs")
    }

    /// Runs a verb: its exit code and what it wrote to standard output.
    #[track_caller]
    fn check(&self, words: &[&str], code: i32, out: &str) {
        let output = self.run(words);
        let text = String::from_utf8_lossy(&output.stdout).into_owned();
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains(out), "{words:?}: {text:?} lacks {out:?}; stderr {errors}; log {}", self.log());
        assert_eq!(output.status.code(), Some(code), "{words:?}: {text} {errors}; log {}", self.log());
    }

    fn log(&self) -> String {
        let logs = std::fs::read_dir(self.path("data/logs")).into_iter().flatten().flatten();
        logs.map(|entry| std::fs::read_to_string(entry.path()).unwrap_or_default()).collect()
    }

    fn pid(&self) -> Option<i32> {
        std::fs::read_to_string(self.path("data/zookeeper_server.pid")).ok()?.trim().parse().ok()
    }
}

impl Drop for Home {
    /// Nothing outlives a test, a failed one included.
    fn drop(&mut self) {
        if self.pid().is_some() {
            self.run(&["stop"]);
        }
    }
}

fn ostler() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ostler"));
    for variable in
        ["JVMFLAGS", "SERVER_JVMFLAGS", "ZOOCFG", "ZOOCFGDIR", "ZOOPIDFILE", "ZOO_LOG_DIR", "ZOO_LOG_FILE"]
    {
        command.env_remove(variable);
    }
    command.stdin(Stdio::null());
    command
}

/// A server in the foreground that listens, with its log so far read.
struct Foreground {
    child: Child,
    log: BufReader<std::process::ChildStdout>,
    first: String,
}

impl Foreground {
    fn start(words: &[&str]) -> Foreground {
        let mut child =
            ostler().arg("server").args(words).stdout(Stdio::piped()).spawn().expect("ostler runs");
        let mut log = BufReader::new(child.stdout.take().expect("piped"));
        let mut first = String::new();
        log.read_line(&mut first).expect("a first line");
        Foreground { child, log, first }
    }

    /// The port in the line that says it serves.
    fn port(&mut self) -> u16 {
        let mut line = String::new();
        while self.log.read_line(&mut line).expect("its log") > 0 {
            if let Some(rest) = line.split("serving clients on 127.0.0.1:").nth(1) {
                let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
                return digits.parse().expect("a port");
            }
            line.clear();
        }
        panic!("the server ended: {:?}", self.child.wait());
    }

    fn end(mut self) -> Option<i32> {
        rustix::process::kill_process(
            rustix::process::Pid::from_child(&self.child),
            rustix::process::Signal::TERM,
        )
        .expect("signal");
        // Let it log to the end: a full pipe would hold it up.
        let _ = std::io::copy(&mut self.log, &mut std::io::sink());
        self.child.wait().expect("it ends").code()
    }
}

#[test]
fn a_server_is_started_asked_and_stopped() {
    let home = Home::new("");
    home.check(&["status"], 1, "Error contacting service. It is probably not running.\n");
    home.check(&["stop"], 0, "Stopping zookeeper ... no zookeeper to stop (could not find file ");
    home.check(&["start"], 0, "Starting zookeeper ... STARTED\n");
    let pid = home.pid().expect("a pid file");
    let port = home.port;
    let found = format!(
        "Client port found: {port}. Client address: 127.0.0.1. Client SSL: false.\nMode: standalone\n"
    );
    home.check(&["status"], 0, &found);
    home.check(&["4lw", "127.0.0.1", &port.to_string(), "srvr"], 0, "Mode: standalone\n");
    home.check(
        &["4lw", "127.0.0.1", &port.to_string(), "conf"],
        1,
        "conf is not executed because it is not in the whitelist.\n",
    );
    home.check(&["start"], 1, &format!("Starting zookeeper ... already running as process {pid}.\n"));
    home.check(&["restart"], 0, "Stopping zookeeper ... STOPPED\nStarting zookeeper ... STARTED\n");
    assert_ne!(home.pid(), Some(pid));
    home.check(&["stop"], 0, "Stopping zookeeper ... STOPPED\n");
    assert_eq!(home.pid(), None);
    assert!(TcpStream::connect(("127.0.0.1", port)).is_err(), "somebody still listens");
    assert!(
        home.log().lines().next().is_some_and(|line| line.contains("with its data in ")),
        "{}",
        home.log()
    );
}

impl Home {
    fn signal(&self, signal: rustix::process::Signal) {
        let pid = self.pid().and_then(rustix::process::Pid::from_raw).expect("a server");
        rustix::process::kill_process(pid, signal).expect("signal");
    }

    /// Until the log holds this.
    #[track_caller]
    fn until_logged(&self, text: &str) {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(20);
        while !self.log().contains(text) {
            assert!(std::time::Instant::now() < deadline, "{text:?} is not in {}", self.log());
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_start_behind_a_kill_does_not_find_the_old_server() {
    let home = Home::new("");
    home.check(&["start"], 0, "STARTED");
    for _ in 0..3 {
        home.signal(rustix::process::Signal::KILL);
        home.check(&["start"], 0, "Starting zookeeper ... STARTED\n");
    }
}

#[test]
fn a_hang_up_opens_the_log_anew_and_takes_the_level_and_every_end_is_told() {
    let home = Home::new("");
    home.check(&["start"], 0, "STARTED");
    let log =
        std::fs::read_dir(home.path("data/logs")).expect("logs").next().expect("one").expect("one").path();
    std::fs::rename(&log, home.path("old.log")).expect("renamed");
    let config = std::fs::read_to_string(home.path("zoo.cfg")).expect("zoo.cfg");
    let changed = format!("{config}tickTime=4000\nostler.logLevel=debug\n");
    std::fs::write(home.path("zoo.cfg"), changed).expect("zoo.cfg");
    home.signal(rustix::process::Signal::HUP);
    home.until_logged("SIGHUP: the log file ");
    home.until_logged("was opened again; the log level is debug; changed in the configuration");
    home.until_logged("taken at the next start: tickTime");
    let old = std::fs::read_to_string(home.path("old.log")).expect("the file that was renamed");
    assert!(old.contains("serving clients on") && !old.contains("SIGHUP"), "{old}");
    // A level that is none changes nothing, and neither ends the server.
    std::fs::write(home.path("zoo.cfg"), format!("{config}ostler.logLevel=inof\n")).expect("zoo.cfg");
    home.signal(rustix::process::Signal::HUP);
    home.until_logged("the log level stays: log level \"inof\" is none of");
    home.check(&["check"], 2, "Not valid: ostler.logLevel: ");
    home.signal(rustix::process::Signal::QUIT);
    home.until_logged("SIGQUIT: there is no Java runtime");
    std::fs::write(home.path("zoo.cfg"), config).expect("zoo.cfg");
    home.check(&["stop"], 0, "STOPPED");
    home.until_logged("SIGTERM: handing out what is due");
    home.until_logged("- stopped");
}

#[test]
fn the_log_goes_where_the_command_line_says() {
    let home = Home::new("");
    let file = home.path("own.log").display().to_string();
    home.check(&["start", "--log-file", &file, "--log-level", "warn", "--log-size", "1"], 0, "STARTED");
    home.check(&["stop"], 0, "STOPPED");
    let log = std::fs::read_to_string(&file).expect("the log file");
    assert!(!log.contains(" - INFO "), "{log}");
    home.check(&["start-foreground", "--log-level", "inof"], 2, "");
    home.check(&["start-foreground", "--log-file", "/proc/none/log"], 2, "");
}

#[test]
fn a_busy_port_is_told_before_the_data_is_looked_at() {
    let home = Home::new("");
    std::fs::create_dir_all(home.path("data/version-2")).expect("data");
    std::fs::write(home.path("data/version-2/log.1"), "no log at all, however long one reads")
        .expect("a log");
    let taken = TcpListener::bind(("127.0.0.1", home.port)).expect("the port");
    home.check(&["start"], 1, "FAILED TO START\n");
    assert!(home.log().contains("Another process listens there"), "{}", home.log());
    drop(taken);
    home.check(&["start"], 1, "FAILED TO START\n");
    assert!(home.log().contains("there is no snapshot in"), "{}", home.log());
}

#[test]
fn a_server_says_whether_it_is_ready_and_what_it_is() {
    let home = Home::new("4lw.commands.whitelist=*");
    home.check(&["start"], 0, "STARTED");
    let port = home.port.to_string();
    home.check(&["4lw", "127.0.0.1", &port, "redy"], 0, "ready\n");
    home.check(&["4lw", "127.0.0.1", &port, "ruok"], 0, "imok");
    home.check(&["4lw", "127.0.0.1", &port, "isro"], 0, "rw");
    home.check(&["4lw", "127.0.0.1", &port, "mntr"], 0, "\nzk_ostler_ready\t1\n");
    home.check(
        &["4lw", "127.0.0.1", &port, "srvr"],
        0,
        &format!("\nOstler version: {}\n", env!("CARGO_PKG_VERSION")),
    );
}

/// A client with a session.
fn session(port: u16) -> TcpStream {
    let mut client = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    let mut ask = vec![0, 0, 0, 45];
    ask.extend([0; 12]);
    ask.extend(10_000i32.to_be_bytes());
    ask.extend([0; 8]);
    ask.extend(16i32.to_be_bytes());
    ask.extend([0; 17]);
    client.write_all(&ask).expect("asked");
    let mut length = [0; 4];
    client.read_exact(&mut length).expect("an answer");
    let mut answer = vec![0; u32::from_be_bytes(length) as usize];
    client.read_exact(&mut answer).expect("an answer");
    assert_ne!(answer[8..16], [0; 8], "no session");
    client
}

#[test]
fn what_happens_to_clients_is_told_and_a_storm_of_them_is_a_count() {
    let home = Home::new("maxClientCnxns=40\ntickTime=100");
    home.check(&["start"], 0, "STARTED");
    let mut client = session(home.port);
    home.until_logged("Established session 0x1");
    home.until_logged("with negotiated timeout 2000 for client 127.0.0.1:");
    client.write_all(&[0x7f, 0xff, 0xff, 0xff]).expect("sent");
    home.until_logged(
        "with advertised length of 2147483647 is either malformed or longer than jute.maxbuffer=1048575",
    );
    home.until_logged("Closed the connection of session 0x1");
    drop(client);
    let crowd: Vec<TcpStream> = (0..40).map(|_| session(home.port)).collect();
    let beyond = TcpStream::connect(("127.0.0.1", home.port)).expect("the kernel's part");
    home.until_logged("Too many connections from 127.0.0.1 - max is 40 (maxClientCnxns)");
    home.until_logged("more sessions were established; lines about them are left out count=");
    drop((crowd, beyond));
    home.until_logged("the client has hung up");
    home.until_logged("Expiring session 0x1");
    home.until_logged("timeout of 2000ms exceeded; it owns 0 ephemerals");
    let told = home.log().matches("Established session").count();
    assert!(told < 40, "{told} lines");
}

#[test]
fn slow_requests_and_new_log_files_are_told() {
    // Every write is held back for longer than a request may take.
    let home = Home::new("flushDelay=60\nmaxWriteQueuePollTime=60\nostler.slowRequest=20");
    home.check(&["start"], 0, "STARTED");
    let mut client = session(home.port);
    let text = |text: &str| [&(text.len() as u32).to_be_bytes()[..], text.as_bytes()].concat();
    let number = |number: i32| number.to_be_bytes().to_vec();
    let acl = [number(1), number(31), text("world"), text("anyone")].concat();
    let create = [number(77), number(1), text("/slow"), number(-1), acl, number(0)].concat();
    client.write_all(&[number(create.len() as i32), create].concat()).expect("sent");
    home.until_logged("slow request: Create with xid 77 of session 0x1");
    home.until_logged("log rolled: txns from 0x1 on go to ");
    home.until_logged("/log.1 bytes=");
}

#[test]
fn a_stale_pid_file_is_not_believed() {
    let home = Home::new("");
    std::fs::create_dir_all(home.path("data")).expect("data");
    // This test process lives, and is no server.
    std::fs::write(home.path("data/zookeeper_server.pid"), std::process::id().to_string()).expect("pid file");
    home.check(&["start"], 0, "STARTED");
    home.check(&["stop"], 0, "STOPPED");
}

#[test]
fn a_port_in_use_is_said() {
    let home = Home::new("");
    let taken = TcpListener::bind(("127.0.0.1", home.port)).expect("the port");
    home.check(&["start"], 1, "FAILED TO START\n");
    assert!(home.log().contains(&home.port.to_string()), "{}", home.log());
    assert!(home.log().contains("the process ends with exit code 1"), "{}", home.log());
    assert_eq!(home.pid(), None);
    drop(taken);
}

#[test]
fn a_bad_configuration_stops_every_verb() {
    let home = Home::new("tickTime=fast");
    for verb in ["start", "stop", "status", "restart", "print-cmd", "start-foreground"] {
        let output = home.run(&[verb]);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{verb}");
        assert!(
            errors.contains("zoo.cfg:6: tickTime=fast is not valid: this should be a whole number"),
            "{errors}"
        );
    }
    let file = home.path("zoo.cfg").display().to_string();
    home.check(&["check", &file], 2, "Not valid: ");
}

#[test]
fn a_foreground_server_drains_and_ends_with_0() {
    let dir = tempfile::tempdir().expect("temp dir");
    let data = dir.path().join("d").display().to_string();
    let config = dir.path().join("zoo.cfg");
    let text = format!("dataDir={data}\nclientPort=1\nclientPortAddress=127.0.0.1\npreAllocSize=4096");
    std::fs::write(&config, text.replace("clientPort=1", &format!("clientPort={}", Home::new("").port)))
        .expect("zoo.cfg");
    let mut server =
        Foreground::start(&[&config.display().to_string(), "-Dzookeeper.4lw.commands.whitelist=*"]);
    assert!(server.first.contains(&data), "{}", server.first);
    let port = server.port();
    let answer =
        ostler().args(["4lw", "127.0.0.1", &port.to_string(), "ruok"]).output().expect("ostler runs");
    assert_eq!(answer.stdout, b"imok");
    // A second server on the same data is turned away, with the code for that.
    let second = ostler().args(["server", "0", &data]).output().expect("ostler runs");
    assert_eq!(second.status.code(), Some(3));
    assert!(String::from_utf8_lossy(&second.stdout).contains("another server uses"));
    assert_eq!(server.end(), Some(0));
}

#[test]
fn commands_without_a_server() {
    let home = Home::new("");
    home.check(&["version"], 0, "Apache ZooKeeper, version 3.9.5 2026-02-11 20:18 UTC\n");
    home.check(&["print-cmd"], 0, "\" server \"");
    home.check(&["init", "--myid", "3"], 0, "Using myid of 3\n");
    home.check(&["init"], 1, "");
    assert!(Path::new(&home.path("data/version-2")).is_dir());
    home.check(&["--help"], 0, "Try:   ostler");
    let version = String::from_utf8_lossy(&home.run(&["version"]).stderr).into_owned();
    assert!(!version.contains("JMX"), "there is none: {version}");
    home.check(&["4lw", "127.0.0.1", "1", "ruok"], 1, "");
}

#[test]
fn an_unknown_word_fails_before_anybody_is_asked() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = silent.local_addr().expect("its address").port().to_string();
    for words in [&["4lw", "127.0.0.1", &port, "roar"][..], &["4lw", "127.0.0.1", &port, "ruok", "7"]] {
        let output = ostler().args(words).output().expect("ostler runs");
        assert_eq!(output.status.code(), Some(2), "{words:?}");
    }
    silent.set_nonblocking(true).expect("a listener");
    assert!(silent.accept().is_err(), "the server was asked");
}

#[test]
fn a_configuration_is_checked_before_it_is_served() {
    let home = Home::new("snapcount=5\n4lw.commands.whitelist=ruok,rouk,ruok");
    let file = home.path("zoo.cfg").display().to_string();
    home.check(&["check", &file], 0, "snapcount is no key of ZooKeeper's (did you mean snapCount?)");
    home.check(&["check", &file], 0, "names rouk, which is no four-letter word (did you mean ruok?)");
    home.check(&["check", &file], 0, "names ruok more than once");
    home.check(&["check"], 0, "four-letter words: ruok rouk srvr");
    home.check(&["check", "--strict"], 1, "\nValid.\n");
    home.check(&["status"], 1, "");
    let sound = Home::new("");
    sound.check(&["check", "--strict"], 0, "\nValid.\n");
    std::fs::create_dir(sound.path("data")).expect("data");
    std::fs::write(sound.path("data/version-2"), "in the way").expect("a file");
    sound.check(&["check"], 3, "version-2 is no directory\n");
    sound.check(&["start-foreground"], 3, "");
    std::fs::remove_file(sound.path("data/version-2")).expect("removed");
    sound.check(&["check", "-Dzookeeper.datadir.autocreate=false"], 3, "forbids to make it");
    std::fs::write(sound.path("zoo.cfg"), "clientPort=2181\ndataDir=/proc/none/data").expect("zoo.cfg");
    sound.check(&["check"], 3, "Not valid: dataDir=/proc/none/data: ");
}

#[test]
fn completions_and_manual_pages_come_out_of_the_parser() {
    let printed = |words: &[&str], code: i32| {
        let output = ostler().args(words).output().expect("ostler runs");
        assert_eq!(output.status.code(), Some(code), "{words:?}");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    for shell in ["bash", "zsh", "fish"] {
        let script = printed(&["completions", shell], 0);
        for word in ["start-foreground", "give-up-after", "strict", "mntr"] {
            assert!(script.contains(word), "{shell} completes no {word}");
        }
    }
    let script = printed(&["completions", "bash"], 0);
    let parsed = Command::new("bash").args(["-n", "-c", &script]).status().expect("bash runs");
    assert!(parsed.success());
    assert!(printed(&["man"], 0).contains(".TH ostler 1"));
    let page = printed(&["man", "log", "recover"], 0);
    assert!(page.contains(".TH ostler-log-recover 1") && page.contains("give\\-up\\-after"), "{page}");
    printed(&["man", "nonsense"], 2);
    let dir = tempfile::tempdir().expect("temp dir");
    printed(&["man", "--all", dir.path().to_str().expect("UTF-8")], 0);
    for page in ["ostler.1", "ostler-4lw.1", "ostler-snapshot-dump.1"] {
        assert!(dir.path().join(page).is_file(), "{page} is missing");
    }
}
