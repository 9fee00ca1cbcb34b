//! Servers under measurement as processes: Apache 3.9.5, Ostler, the echo limit, or any command; pinned, killed by id.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::client::Client;

/// How long a server that may be starting is given for one answer.
pub const PROBE_PATIENCE: Duration = Duration::from_millis(500);

/// A server that `compare` starts. In a command `{port}` and `{dir}` stand for the client port and the data directory.
#[derive(Clone, Debug)]
pub struct ServerKind {
    pub name: String,
    pub command: Vec<String>,
    /// Answers ruok and restarts on its data; the echo limit does neither.
    pub real: bool,
}

impl ServerKind {
    pub fn ostler(binary: &Path) -> ServerKind {
        let binary = binary.display().to_string();
        let command = [binary.as_str(), "server", "{dir}/zoo.cfg"].map(String::from).to_vec();
        ServerKind { name: "ostler".into(), command, real: true }
    }

    /// `factory`: `NIOServerCnxnFactory` or `NettyServerCnxnFactory`. A znode takes about 500 bytes of heap.
    pub fn apache(classpath: &str, factory: &str, name: &str, heap_gib_max: u32) -> ServerKind {
        let command = [
            "java",
            "-Xms1g",
            &format!("-Xmx{heap_gib_max}g"),
            &format!("-Dzookeeper.serverCnxnFactory=org.apache.zookeeper.server.{factory}"),
            "-Dzookeeper.admin.enableServer=false",
            "-cp",
            classpath,
            "org.apache.zookeeper.server.quorum.QuorumPeerMain",
            "{dir}/zoo.cfg",
        ]
        .map(String::from)
        .to_vec();
        ServerKind { name: name.into(), command, real: true }
    }

    /// The same server with its user-space instructions counted by callgrind, thirty times as slow; `None` where
    /// valgrind is not installed.
    pub fn counted(&self) -> Option<ServerKind> {
        let mut command = crate::instructions::callgrind()?;
        command.extend(self.command.iter().cloned());
        Some(ServerKind { command, ..self.clone() })
    }

    pub fn echo(binary: &Path, value_bytes: usize) -> ServerKind {
        let binary = binary.display().to_string();
        let value = value_bytes.to_string();
        let words = [binary.as_str(), "bench", "echo-server", "--port", "{port}", "--value", value.as_str()];
        ServerKind { name: "echo".into(), command: words.map(String::from).to_vec(), real: false }
    }
}

/// A running server; dropping it kills it.
pub struct Server {
    pub kind: ServerKind,
    pub address: SocketAddr,
    pub dir: PathBuf,
    child: Child,
}

/// A loopback port nobody has at this moment.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}

impl Server {
    /// Starts `kind` on a fresh port with its data in `dir`, pinned to `cpu` if one is given, and waits until it serves.
    pub fn start(kind: &ServerKind, dir: &Path, cpu: Option<usize>, limit: Duration) -> io::Result<Server> {
        Server::start_with(kind, dir, cpu, limit, "")
    }

    /// `lines`: further lines of its zoo.cfg.
    pub fn start_with(
        kind: &ServerKind,
        dir: &Path,
        cpu: Option<usize>,
        limit: Duration,
        lines: &str,
    ) -> io::Result<Server> {
        std::fs::create_dir_all(dir)?;
        let port = free_port()?;
        let address = SocketAddr::from(([127, 0, 0, 1], port));
        std::fs::write(dir.join("zoo.cfg"), format!("{}{lines}\n", config_text(dir, port)))?;
        let child = spawn(kind, dir, port, cpu)?;
        let mut server = Server { kind: kind.clone(), address, dir: dir.to_path_buf(), child };
        server.wait_serving(limit)?;
        Ok(server)
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    fn wait_serving(&mut self, limit: Duration) -> io::Result<()> {
        let deadline = Instant::now() + limit;
        loop {
            if self.serves() {
                return Ok(());
            }
            let log = self.dir.join("server.log");
            if let Some(status) = self.child.try_wait()? {
                let text = format!("{} ended with {status}: see {}", self.kind.name, log.display());
                return Err(io::Error::other(text));
            }
            if Instant::now() > deadline {
                let text = format!("{} did not serve in time: see {}", self.kind.name, log.display());
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            // Between two looks at another process there is nothing to wait on but time.
            std::thread::park_timeout(Duration::from_millis(2));
        }
    }

    fn serves(&self) -> bool {
        if !self.kind.real {
            return TcpStream::connect(self.address).is_ok();
        }
        let client = Client::connect_within(self.address, 30_000, PROBE_PATIENCE);
        client.is_ok_and(|client| client.close().is_ok())
    }

    /// Ends it, and removes its data: logs of a load fill disks. What it said stays.
    pub fn clear(mut self) {
        // Nothing depends on either.
        let _ = self.kill();
        let _ = std::fs::remove_dir_all(self.dir.join("data"));
    }

    /// SIGKILL, as a power cut would have it for the process.
    pub fn kill(&mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait().map(drop)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.kill();
    }
}

/// The zoo.cfg of a server under measurement, to be followed by what is its own.
pub fn config_text(dir: &Path, port: u16) -> String {
    format!(
        "dataDir={}\nclientPort={port}\nclientPortAddress=127.0.0.1\ntickTime=2000\nmaxClientCnxns=0\n\
         maxSessionTimeout=600000\nadmin.enableServer=false\n4lw.commands.whitelist=*\nglobalOutstandingLimit=100000\n",
        dir.join("data").display()
    )
}

/// The process of a server whose zoo.cfg lies in `dir`; what it says goes into `server.log` there.
pub fn spawn(kind: &ServerKind, dir: &Path, port: u16, cpu: Option<usize>) -> io::Result<Child> {
    let words: Vec<String> = kind
        .command
        .iter()
        .map(|word| word.replace("{port}", &port.to_string()).replace("{dir}", &dir.display().to_string()))
        .collect();
    let log = std::fs::OpenOptions::new().create(true).append(true).open(dir.join("server.log"))?;
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
    // Without a CPU of its own it has all: not the one it would inherit from the load.
    pin_on_start(&mut command, cpu.map_or_else(every_cpu, cpu_set));
    end_with_parent(&mut command);
    command.spawn().map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", words[0])))
}

fn cpu_set(cpu: usize) -> libc::cpu_set_t {
    // SAFETY: an all-zero cpu_set_t is the empty set, and CPU_SET stays inside it for the CPUs Linux numbers.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        set
    }
}

/// The kernel takes those of them that this machine has.
fn every_cpu() -> libc::cpu_set_t {
    // SAFETY: any bits are a cpu_set_t.
    unsafe { std::mem::transmute([u8::MAX; size_of::<libc::cpu_set_t>()]) }
}

fn pin_on_start(command: &mut Command, set: libc::cpu_set_t) {
    let pin = move || {
        // SAFETY: a plain system call, allowed between fork and exec.
        match unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure makes one async-signal-safe call and touches no lock and no allocator.
    unsafe { command.pre_exec(pin) };
}

/// A measurement that is killed leaves no server behind. Holds as long as the starting thread is the process's main one,
/// which it is: the kernel sends the signal when that thread ends.
fn end_with_parent(command: &mut Command) {
    let bind = || {
        // SAFETY: a plain system call, allowed between fork and exec.
        match unsafe { libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) } {
            0 => Ok(()),
            _ => Err(io::Error::last_os_error()),
        }
    };
    // SAFETY: the closure makes one async-signal-safe call and touches no lock and no allocator.
    unsafe { command.pre_exec(bind) };
}

/// Pins the calling thread.
pub fn pin_self(cpu: usize) -> io::Result<()> {
    let set = cpu_set(cpu);
    // SAFETY: a plain system call on our own thread.
    match unsafe { libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set) } {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

/// One four-letter word.
pub fn four_letter_word(address: SocketAddr, word: &str) -> io::Result<String> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    stream.write_all(word.as_bytes())?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// Syncs of the log since the server started, by its own count; `None` when it does not tell.
pub fn sync_count(server: &Server) -> Option<u64> {
    if !server.kind.real {
        return None;
    }
    let text = four_letter_word(server.address, "mntr").ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("zk_cnt_fsynctime\t"))?;
    line.trim().parse::<f64>().ok().map(|count| count as u64)
}

/// The process of this machine that listens on a TCP port; `None` when it cannot be told.
pub fn listener_pid(port: u16) -> Option<u32> {
    let inodes: Vec<String> = ["/proc/net/tcp", "/proc/net/tcp6"]
        .iter()
        .filter_map(|table| std::fs::read_to_string(table).ok())
        .flat_map(|text| text.lines().filter_map(|line| listening_inode(line, port)).collect::<Vec<_>>())
        .collect();
    let pids = std::fs::read_dir("/proc").ok()?.flatten();
    pids.filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok()).find(|pid| {
        let links = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        links.filter_map(|link| std::fs::read_link(link.path()).ok()).any(|to| {
            let to = to.to_string_lossy();
            inodes.iter().any(|inode| to == format!("socket:[{inode}]"))
        })
    })
}

/// Inode of a row of /proc/net/tcp that listens on `port`.
fn listening_inode(row: &str, port: u16) -> Option<String> {
    let fields: Vec<&str> = row.split_whitespace().collect();
    let local = fields.get(1)?.rsplit_once(':')?.1;
    let listening = *fields.get(3)? == "0A" && u16::from_str_radix(local, 16).ok()? == port;
    listening.then(|| fields.get(9).map(|inode| inode.to_string()))?
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_cpu_is_taken_by_the_kernel_for_those_that_are_there() {
        let mut command = Command::new("grep");
        command.args(["Cpus_allowed_list", "/proc/self/status"]);
        let allowed = |mut command: Command| String::from_utf8(command.output().unwrap().stdout).unwrap();
        let before = allowed(command);
        let mut command = Command::new("grep");
        command.args(["Cpus_allowed_list", "/proc/self/status"]);
        pin_on_start(&mut command, every_cpu());
        assert_eq!(allowed(command), before);
    }

    #[test]
    fn the_listener_of_a_port_is_found() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        assert_eq!(listener_pid(port), Some(std::process::id()));
    }
}
