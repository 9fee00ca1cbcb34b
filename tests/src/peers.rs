//! The servers the tests run: Apache ZooKeeper 3.9.5 and the real `ostler` binary, each a child process with a data
//! directory of its own, on loopback and a port the kernel named. A server ends with its value.
//! Not here: speaking the protocol (`client`), anything of the engine's own code.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// How long a server may take until it serves, on a machine busy with other builds.
const START_MAX: Duration = Duration::from_secs(60);
/// How long a server may take to end after SIGTERM.
const STOP_MAX: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

/// Apache ZooKeeper 3.9.5, standalone.
pub struct Apache(Server);

/// The real `ostler` binary, standalone: `OSTLER_BIN`, else the newer of `target/release` and `target/debug`.
pub struct Ostler(Server);

/// What both are: a process that serves clients on `port`, with its data and its log `server.log` in `dir`.
pub struct Server {
    child: Child,
    port: u16,
    dir: PathBuf,
    name: &'static str,
}

impl Apache {
    /// Starts it with `extra` lines of `zoo.cfg`, those with `-D` in front as Java properties, and waits until it
    /// serves. Four-letter words are all allowed, TTL nodes are on. Panics, naming the log, when it does not come up.
    pub fn start(dir: &Path, extra: &[&str]) -> Apache {
        let paths = paths();
        let (properties, lines) = properties_and_lines(extra);
        Apache(Server::start("Apache", dir, &lines, |config| {
            let mut command = Command::new("java");
            command
                .args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:-UsePerfData"])
                .args(&properties)
                .args(std::env::var("JAVA_FLAGS").iter().flat_map(|flags| flags.split_whitespace()))
                .args(["-cp", &paths.classpath, "org.apache.zookeeper.server.quorum.QuorumPeerMain"])
                .arg(config);
            command
        }))
    }
}

impl Ostler {
    /// Starts it on the same configuration an `Apache` would get. Panics, naming the log, when it does not come up.
    pub fn start(dir: &Path, extra: &[&str]) -> Ostler {
        Ostler::try_start(dir, extra, &[]).unwrap_or_else(|why| panic!("{why}"))
    }

    /// The same behind a command that runs it as the very process it was itself, such as `strace -D`. The error tells
    /// why it did not come up.
    pub fn try_start(dir: &Path, extra: &[&str], wrapper: &[&str]) -> Result<Ostler, String> {
        let binary = ostler_binary();
        let (properties, lines) = properties_and_lines(extra);
        let started = Server::try_start("Ostler", dir, &lines, |config| {
            let mut command = match wrapper {
                [] => Command::new(&binary),
                [first, rest @ ..] => {
                    let mut command = Command::new(first);
                    command.args(rest).arg(&binary);
                    command
                }
            };
            command.env("SERVER_JVMFLAGS", properties.join(" ")).arg("server").arg(config);
            command
        });
        started.map(Ostler)
    }
}

impl std::ops::Deref for Apache {
    type Target = Server;
    fn deref(&self) -> &Server {
        &self.0
    }
}

impl std::ops::Deref for Ostler {
    type Target = Server;
    fn deref(&self) -> &Server {
        &self.0
    }
}

impl Apache {
    /// Ends it by SIGTERM and waits until it is gone.
    pub fn stop(self) {
        self.0.stop();
    }

    /// Ends it by SIGKILL and waits until it is gone.
    pub fn kill(self) {
        drop(self);
    }
}

impl Ostler {
    /// Ends it by SIGTERM, waits until it is gone; panics unless it exits with 0.
    pub fn stop(self) {
        let status = self.0.stop();
        assert!(status.success(), "ostler ended with {status} after SIGTERM");
    }

    /// Ends it by SIGKILL and waits until it is gone.
    pub fn kill(self) {
        drop(self);
    }

    /// How it has ended by itself, if it does within that time.
    pub fn ended(&mut self, within: Duration) -> Option<String> {
        let deadline = Instant::now() + within;
        loop {
            match self.0.child.try_wait() {
                Ok(Some(status)) => return Some(status.to_string()),
                Ok(None) if Instant::now() < deadline => std::thread::sleep(POLL),
                Ok(None) | Err(_) => return None,
            }
        }
    }
}

impl Server {
    pub fn port(&self) -> u16 {
        self.port
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from((Ipv4Addr::LOCALHOST, self.port))
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where its snapshots and logs are, in the subdirectory `version-2`.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// What it wrote to its log so far.
    pub fn log(&self) -> String {
        fs::read_to_string(self.dir.join("server.log")).unwrap_or_default()
    }

    /// The answer to a four-letter word.
    pub fn ask(&self, word: &str) -> String {
        four_letter_word(self.address(), word).unwrap_or_else(|e| panic!("{} on {word}: {e}", self.name))
    }

    fn start(name: &'static str, dir: &Path, extra: &[&str], command: impl Fn(&Path) -> Command) -> Server {
        Server::try_start(name, dir, extra, command).unwrap_or_else(|why| panic!("{why}"))
    }

    fn try_start(
        name: &'static str,
        dir: &Path,
        extra: &[&str],
        command: impl Fn(&Path) -> Command,
    ) -> Result<Server, String> {
        fs::create_dir_all(dir).expect("data directory");
        let log_path = dir.join("server.log");
        // Between our learning of a free port and the server's binding it someone else may take it: then try another.
        for _ in 0..5 {
            let port = free_port();
            let config = write_config(dir, port, extra).expect("zoo.cfg");
            let log = File::options().create(true).append(true).open(&log_path).expect("server log");
            let mut command = command(&config);
            command.stdin(Stdio::null()).stdout(log.try_clone().expect("server log")).stderr(log);
            let child = command.spawn().unwrap_or_else(|e| panic!("cannot run {name} ({command:?}): {e}"));
            let mut server = Server { child, port, dir: dir.to_owned(), name };
            match server.wait_until_it_serves() {
                Ok(()) => return Ok(server),
                Err(_) if server.log().contains("in use") => continue,
                Err(why) => {
                    let log = tail(&server.log());
                    return Err(format!("{name} {why}; its log {}:\n{log}", log_path.display()));
                }
            }
        }
        Err(format!("{name} found its port taken five times over; its log is {}", log_path.display()))
    }

    fn wait_until_it_serves(&mut self) -> Result<(), String> {
        let deadline = Instant::now() + START_MAX;
        loop {
            // `srvr` names the mode only once clients are served, unlike `ruok`.
            if four_letter_word(self.address(), "srvr").is_ok_and(|answer| answer.contains("Mode:")) {
                return Ok(());
            }
            if let Some(status) = self.child.try_wait().map_err(|e| e.to_string())? {
                return Err(format!("ended with {status} while starting"));
            }
            if Instant::now() > deadline {
                return Err(format!("did not serve within {START_MAX:?}"));
            }
            std::thread::sleep(POLL);
        }
    }

    fn stop(mut self) -> std::process::ExitStatus {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status().expect("kill");
        let deadline = Instant::now() + STOP_MAX;
        loop {
            if let Some(status) = self.child.try_wait().expect("wait for a child") {
                return status;
            }
            assert!(Instant::now() < deadline, "{} did not end within {STOP_MAX:?} of SIGTERM", self.name);
            std::thread::sleep(POLL);
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// False under `tests/run --quick`: a test that needs Apache then says so and returns.
pub fn wanted() -> bool {
    std::env::var_os("OSTLER_NO_PEERS").is_none()
}

/// Runs a class of Apache's jars, such as `org.apache.zookeeper.ZooKeeperMain`, to its end.
pub fn java<S: AsRef<OsStr>>(class: &str, args: impl IntoIterator<Item = S>) -> Output {
    Command::new("java")
        .args(["-Xmx512m", "-XX:+UseSerialGC", "-XX:-UsePerfData", "-cp", &paths().classpath, class])
        .args(args)
        .stdin(Stdio::null())
        .output()
        .expect("java")
}

/// What Apache's SnapshotFormatter prints of a snapshot, data included.
pub fn apache_snapshot(file: &Path) -> String {
    let output = java("org.apache.zookeeper.server.SnapshotFormatter", [OsStr::new("-d"), file.as_os_str()]);
    assert!(output.status.success(), "SnapshotFormatter: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// What Apache's TxnLogToolkit prints of a log.
pub fn apache_log(file: &Path) -> String {
    let output = java("org.apache.zookeeper.server.persistence.TxnLogToolkit", [file]);
    assert!(output.status.success(), "TxnLogToolkit: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Sends a four-letter word on a connection of its own and reads the answer to its end.
pub fn four_letter_word(address: SocketAddr, word: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(word.as_bytes())?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}

/// A port nobody listens on now.
pub fn free_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr()).expect("a free port").port()
}

struct Paths {
    classpath: String,
}

/// What `tests/setup` left in its cache. Panics with the way out when it has not run.
fn paths() -> &'static Paths {
    static PATHS: OnceLock<Paths> = OnceLock::new();
    PATHS.get_or_init(|| {
        let cache = std::env::var_os("OSTLER_CACHE").map(PathBuf::from).unwrap_or_else(|| {
            PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cache").join("ostler")
        });
        let text = fs::read_to_string(cache.join("env"))
            .unwrap_or_else(|e| panic!("no peers in {} ({e}): run tests/setup first", cache.display()));
        let env: HashMap<&str, &str> = text.lines().filter_map(|line| line.split_once('=')).collect();
        let classpath =
            env.get("OSTLER_CLASSPATH").expect("OSTLER_CLASSPATH in the env file: run tests/setup again");
        Paths { classpath: (*classpath).to_owned() }
    })
}

fn ostler_binary() -> PathBuf {
    if let Some(path) = std::env::var_os("OSTLER_BIN") {
        return PathBuf::from(path);
    }
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map(PathBuf::from)
        .unwrap_or_else(|| Path::new(env!("CARGO_MANIFEST_DIR")).join("../target"));
    ["release", "debug"]
        .map(|profile| target.join(profile).join("ostler"))
        .into_iter()
        .filter_map(|path| Some((path.metadata().ok()?.modified().ok()?, path)))
        .max()
        .map(|(_, path)| path)
        .unwrap_or_else(|| {
            panic!("no ostler binary in {}: cargo build --release -p ostler", target.display())
        })
}

fn properties_and_lines<'a>(extra: &[&'a str]) -> (Vec<&'a str>, Vec<&'a str>) {
    extra.iter().partition(|line| line.starts_with("-D"))
}

fn write_config(dir: &Path, port: u16, extra: &[&str]) -> io::Result<PathBuf> {
    let mut text = format!(
        "dataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\ntickTime=2000\nmaxClientCnxns=0\n\
         admin.enableServer=false\n4lw.commands.whitelist=*\nextendedTypesEnabled=true\n",
        dir.display()
    );
    for line in extra {
        text.push_str(line);
        text.push('\n');
    }
    let path = dir.join("zoo.cfg");
    fs::write(&path, text)?;
    Ok(path)
}

fn tail(log: &str) -> String {
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn apache_serves_and_keeps_its_data() {
        if !wanted() {
            return eprintln!("skipped: no peers wanted");
        }
        let dir = tempfile::tempdir().unwrap();
        let apache = Apache::start(dir.path(), &["reconfigEnabled=true"]);
        assert_eq!(apache.ask("ruok"), "imok");
        let address = apache.address().to_string();
        let shell = |args: &[&str]| {
            let all = ["-server", &address].into_iter().chain(args.iter().copied());
            java("org.apache.zookeeper.ZooKeeperMain", all)
        };
        let created = shell(&["create", "/kept", "words"]);
        assert!(created.status.success(), "{created:?}");
        apache.stop();
        let log = apache_log(&dir.path().join("version-2/log.1"));
        assert!(log.contains("create /kept,words"), "{log}");
        let again = Apache::start(dir.path(), &[]);
        let snapshots =
            fs::read_dir(dir.path().join("version-2")).unwrap().map(|entry| entry.unwrap().path());
        let newest = snapshots.filter(|path| path.to_string_lossy().contains("snapshot.")).max().unwrap();
        let snapshot = apache_snapshot(&newest);
        assert!(snapshot.contains("/kept"), "{snapshot}");
        again.kill();
    }
}
