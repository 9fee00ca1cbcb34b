//! The directory of a local ensemble: one directory for each server, with its zoo.cfg, data and log, as the verbs of
//! zkServer.sh know them (`ostler status --config DIR/2` works), and a file that says what it is.
//! Not here: processes, and what the servers say.

use std::fs;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};

use ostler_engine::config::{Config, Environment};

use crate::place::Place;

/// Names the directory as one of ours, and says how many servers of each kind.
const MARK: &str = "ensemble";
/// Server ids of ZooKeeper end at 255, and 254 is the last that extended types leave room for.
pub const SERVERS_MAX: usize = 254;
/// Ports of the servers' two other listeners lie so far behind the client ports of --base-port.
const QUORUM_PORTS: u16 = 1_000;
const ELECTION_PORTS: u16 = 2_000;

/// A directory that holds an ensemble.
pub struct Layout {
    pub dir: PathBuf,
    pub voters: usize,
    pub observers: usize,
}

/// Ports of one server.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
struct Ports {
    client: u16,
    quorum: u16,
    election: u16,
}

/// `problem` in a place.
pub fn at(path: &Path, problem: impl std::fmt::Display) -> String {
    format!("{}: {problem}", path.display())
}

impl Layout {
    /// Where an ensemble lies that nobody named a directory for: beside the data of a server that was told nothing.
    pub fn default_dir() -> PathBuf {
        let alone = Environment::of_process().data_dir();
        let name = alone.file_name().map_or("ostler".into(), |name| name.to_string_lossy().into_owned());
        alone.with_file_name(format!("{name}-ensemble"))
    }

    /// The ensemble in `dir`; `None` when there is nothing, an error when there is something else.
    pub fn find(dir: &Path) -> Result<Option<Layout>, String> {
        let mark = dir.join(MARK);
        let text = match fs::read_to_string(&mark) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return not_ours(dir).map(|()| None),
            Err(error) => return Err(at(&mark, error)),
        };
        let number = |name: &str| {
            let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
            value.and_then(|value| value.trim().parse::<usize>().ok())
        };
        match (number("voters"), number("observers")) {
            (Some(voters), Some(observers))
                if (1..=SERVERS_MAX).contains(&voters) && observers <= SERVERS_MAX - voters =>
            {
                Ok(Some(Layout { dir: dir.to_path_buf(), voters, observers }))
            }
            _ => Err(at(&mark, "does not say how many voters and observers there are; was it edited?")),
        }
    }

    /// Writes a new ensemble into `dir`.
    pub fn make(
        dir: &Path,
        voters: usize,
        observers: usize,
        base_port: Option<u16>,
    ) -> Result<Layout, String> {
        let layout = Layout { dir: dir.to_path_buf(), voters, observers };
        let ports = match base_port {
            Some(base) => numbered_ports(base, layout.count())?,
            None => free_ports(layout.count()).map_err(|error| format!("no free ports: {error}"))?,
        };
        let lines: String = layout.numbers().map(|number| layout.line(number, ports[number - 1])).collect();
        for number in layout.numbers() {
            let data = layout.server_dir(number).join("data");
            fs::create_dir_all(&data).map_err(|error| at(&data, error))?;
            write(&data.join("myid"), &format!("{number}\n"))?;
            let text = layout.config_text(number, ports[number - 1].client, &data, &lines);
            write(&layout.server_dir(number).join("zoo.cfg"), &text)?;
        }
        // Last: a directory with the mark is whole.
        write(&dir.join(MARK), &format!("voters={voters}\nobservers={observers}\n"))?;
        Ok(layout)
    }

    pub fn count(&self) -> usize {
        self.voters + self.observers
    }

    pub fn numbers(&self) -> std::ops::RangeInclusive<usize> {
        1..=self.count()
    }

    pub fn server_dir(&self, number: usize) -> PathBuf {
        self.dir.join(number.to_string())
    }

    pub fn place(&self, number: usize) -> Place {
        Place::of_local_server(&self.server_dir(number))
    }

    /// The configuration of a server, with the place it is run from.
    pub fn load(&self, number: usize) -> Result<(Place, Config), String> {
        let place = self.place(number);
        let loaded = place.load(&[]).map_err(|error| format!("server {number}: {error}"))?;
        Ok((place, loaded.config))
    }

    /// "3 voters and 2 observers".
    pub fn words(&self) -> String {
        let some = |count: usize, what: &str| format!("{count} {what}{}", if count == 1 { "" } else { "s" });
        match self.observers {
            0 => some(self.voters, "voter"),
            observers => format!("{} and {}", some(self.voters, "voter"), some(observers, "observer")),
        }
    }

    /// Removes all of it.
    pub fn remove(self) -> Result<(), String> {
        for path in self.numbers().map(|number| self.server_dir(number)) {
            fs::remove_dir_all(&path).map_err(|error| at(&path, error))?;
        }
        let mark = self.dir.join(MARK);
        fs::remove_file(&mark).map_err(|error| at(&mark, error))?;
        // What else lies there is not ours.
        let _ = fs::remove_dir(&self.dir);
        Ok(())
    }

    fn line(&self, number: usize, ports: Ports) -> String {
        let role = if number > self.voters { "observer" } else { "participant" };
        format!("server.{number}=127.0.0.1:{}:{}:{role}\n", ports.quorum, ports.election)
    }

    fn config_text(&self, number: usize, client_port: u16, data: &Path, lines: &str) -> String {
        let role = if number > self.voters { "peerType=observer\n" } else { "" };
        format!(
            "# Server {number} of an ensemble that `ostler ensemble up` made; for trying things out on one machine.\n\
             dataDir={}\nclientPort={client_port}\nclientPortAddress=127.0.0.1\ntickTime=2000\ninitLimit=10\n\
             syncLimit=5\nmaxClientCnxns=0\nadmin.enableServer=false\n4lw.commands.whitelist=*\n\
             {role}{lines}",
            data.display()
        )
    }
}

/// Refuses a directory that holds something that we did not put there.
fn not_ours(dir: &Path) -> Result<(), String> {
    let mut entries = match fs::read_dir(dir) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(at(dir, error)),
    };
    match entries.next() {
        None => Ok(()),
        Some(_) => {
            Err(at(dir, "holds other files and no ensemble; name an empty or a new directory with --dir"))
        }
    }
}

fn write(path: &Path, text: &str) -> Result<(), String> {
    fs::write(path, text).map_err(|error| at(path, error))
}

/// Ports that nobody has at this moment, all held at once so that none comes twice.
fn free_ports(count: usize) -> io::Result<Vec<Ports>> {
    let mut held = Vec::new();
    let mut next = || {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        let port = listener.local_addr()?.port();
        held.push(listener);
        Ok::<u16, io::Error>(port)
    };
    (0..count).map(|_| Ok(Ports { client: next()?, quorum: next()?, election: next()? })).collect()
}

/// Client ports from `base` on, the others behind them; all must be free.
fn numbered_ports(base: u16, count: usize) -> Result<Vec<Ports>, String> {
    let last = usize::from(base) + usize::from(ELECTION_PORTS) + count - 1;
    if base == 0 || last > usize::from(u16::MAX) || count > usize::from(QUORUM_PORTS) {
        return Err(format!(
            "--base-port {base}: {count} servers use the ports from it on, those {QUORUM_PORTS} and those \
             {ELECTION_PORTS} behind them; choose one from 1 to {}",
            usize::from(u16::MAX) - usize::from(ELECTION_PORTS) - count + 1
        ));
    }
    (0..count as u16)
        .map(|at| {
            let ports = Ports {
                client: base + at,
                quorum: base + QUORUM_PORTS + at,
                election: base + ELECTION_PORTS + at,
            };
            for port in [ports.client, ports.quorum, ports.election] {
                TcpListener::bind(("127.0.0.1", port)).map_err(|error| {
                    format!(
                        "port {port} of server {}: {error}; choose another --base-port, or leave it out for ports that \
                         are free",
                        at + 1
                    )
                })?;
            }
            Ok(ports)
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_made_is_found_and_loads() {
        let home = tempfile::tempdir().expect("temporary directory");
        let dir = home.path().join("e");
        assert!(Layout::find(&dir).expect("nothing there").is_none());
        Layout::make(&dir, 3, 1, None).expect("made");
        let layout = Layout::find(&dir).expect("readable").expect("there");
        assert_eq!(
            (layout.voters, layout.observers, layout.words()),
            (3, 1, "3 voters and 1 observer".into())
        );
        for number in layout.numbers() {
            let (_, config) = layout.load(number).expect("a configuration");
            let ensemble = config.ensemble.expect("a member");
            assert_eq!(ensemble.me.0, number as u64);
            assert_eq!(ensemble.members.servers().count(), 4);
        }
        layout.remove().expect("removed");
        assert!(!dir.exists());
    }

    #[test]
    fn one_voter_is_a_standalone_server() {
        let home = tempfile::tempdir().expect("temporary directory");
        let layout = Layout::make(&home.path().join("e"), 1, 0, None).expect("made");
        assert!(layout.load(1).expect("a configuration").1.ensemble.is_none());
    }

    #[test]
    fn directories_of_others_are_left_alone() {
        let home = tempfile::tempdir().expect("temporary directory");
        fs::write(home.path().join("x"), "").expect("written");
        let problem = Layout::find(home.path()).err().expect("refused");
        assert!(problem.contains("--dir"), "{problem}");
        fs::write(home.path().join(MARK), "voters=0\nobservers=1\n").expect("written");
        Layout::find(home.path()).err().expect("no such ensemble");
    }

    #[test]
    fn taken_ports_are_named() {
        let taken = TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = taken.local_addr().expect("bound").port();
        let problem = numbered_ports(port, 1).expect_err("taken");
        assert!(
            problem.contains(&format!("port {port} of server 1")) || problem.contains("choose one"),
            "{problem}"
        );
        numbered_ports(u16::MAX, 3).expect_err("no room behind it");
        numbered_ports(0, 1).expect_err("the kernel's choice is another option");
    }
}
