//! Finds a living process on this machine that serves a data directory: one that has a file of it open for writing, or
//! Apache's server by its command line, its configuration and its pid file. From `/proc`; where there is none, nothing is
//! found.
//! Not here: our own lock (`directories`), and what follows from a finding.

use std::fmt;
use std::fs::{self, Metadata};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::config::file_properties;

/// The pid file of Apache's start script, and of ours.
const PID_FILE: &str = "zookeeper_server.pid";
/// Main classes of Apache's server, as they end the name of a class on a command line.
const APACHE_MAINS: [&str; 2] =
    ["org.apache.zookeeper.server.quorum.QuorumPeerMain", "org.apache.zookeeper.server.ZooKeeperServerMain"];
/// Of a command line in a message.
const COMMAND_CHARS_MAX: usize = 120;

/// A process that has a data directory, and what shows it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Owner {
    pub pid: u32,
    /// The end of its command line, where the main class and the configuration stand.
    pub command: String,
    pub sign: Sign,
}

#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Sign {
    /// It has this file open for writing.
    Writes(PathBuf),
    /// It was started with a configuration that names the directory.
    Configured,
    /// The pid file in the directory names it, and it is a ZooKeeper server whose configuration cannot be read.
    PidFile(PathBuf),
    /// It wrote its pid into our lock file, and somebody holds the lock.
    Lock(PathBuf),
}

impl fmt::Display for Owner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} ({}) ", self.pid, self.command)?;
        match &self.sign {
            Sign::Writes(path) => write!(f, "has {} open for writing", path.display()),
            Sign::Configured => f.write_str("is a ZooKeeper server whose configuration names this directory"),
            Sign::PidFile(path) => write!(f, "is a ZooKeeper server and stands in {}", path.display()),
            Sign::Lock(path) => write!(f, "holds the lock of {}", path.display()),
        }
    }
}

/// The processes of a machine, but for the caller's own.
pub struct Processes {
    proc: PathBuf,
    own: u32,
}

impl Processes {
    pub fn of_this_machine() -> Processes {
        Processes { proc: "/proc".into(), own: std::process::id() }
    }

    /// The first other process with a sign that it serves one of `directories`: those above `version-2`.
    pub fn owner_of(&self, directories: &[&Path]) -> Option<Owner> {
        let wanted: Vec<Wanted> = directories.iter().filter_map(|directory| Wanted::of(directory)).collect();
        let pids = fs::read_dir(&self.proc).ok()?.flatten();
        pids.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .find_map(|pid| self.judge(pid, &wanted))
    }

    /// The same of one process.
    pub fn is_owner(&self, pid: u32, directories: &[&Path]) -> bool {
        let wanted: Vec<Wanted> = directories.iter().filter_map(|directory| Wanted::of(directory)).collect();
        self.judge(pid, &wanted).is_some()
    }

    /// What runs under this pid, for a message; `None` when nothing does.
    pub fn command(&self, pid: u32) -> Option<String> {
        Some(in_short(&self.words(pid)?))
    }

    fn judge(&self, pid: u32, wanted: &[Wanted]) -> Option<Owner> {
        if pid == self.own {
            return None;
        }
        // Threads of the kernel and processes that have ended have none.
        let words = self.words(pid)?;
        let sign = self.written_file(pid, wanted).map(Sign::Writes).or_else(|| {
            let behind = apache_arguments(&words)?;
            match self.directories_of(pid, behind) {
                Some(theirs) => {
                    wanted.iter().any(|wanted| wanted.is_among(&theirs)).then_some(Sign::Configured)
                }
                // Whoever hides its configuration is believed to be what the pid file says.
                None => wanted.iter().find_map(|wanted| wanted.pid_file_of(pid)).map(Sign::PidFile),
            }
        })?;
        Some(Owner { pid, command: in_short(&words), sign })
    }

    fn words(&self, pid: u32) -> Option<Vec<String>> {
        let line = fs::read(self.at(pid).join("cmdline")).ok()?;
        let words = line.split(|&byte| byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
        let words: Vec<String> = words.filter(|word| !word.is_empty()).collect();
        (!words.is_empty()).then_some(words)
    }

    /// Reading is no sign: a backup may read what nobody serves.
    fn written_file(&self, pid: u32, wanted: &[Wanted]) -> Option<PathBuf> {
        // Those of other users cannot be seen without privileges.
        for entry in fs::read_dir(self.at(pid).join("fd")).ok()?.flatten() {
            let Ok(path) = fs::read_link(entry.path()) else { continue };
            if wanted.iter().any(|wanted| path.starts_with(&wanted.files))
                && self.writes(pid, &entry.file_name().to_string_lossy())
            {
                return Some(path);
            }
        }
        None
    }

    fn writes(&self, pid: u32, fd: &str) -> bool {
        let info = fs::read_to_string(self.at(pid).join("fdinfo").join(fd)).unwrap_or_default();
        let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
        let flags = flags.and_then(|octal| u32::from_str_radix(octal.trim(), 8).ok());
        // The two lowest bits are the access mode, and 0 is O_RDONLY.
        flags.is_some_and(|flags| flags & 3 != 0)
    }

    /// What a process of Apache's server keeps its data in, from what stands behind its main class. `None` where that
    /// cannot be seen.
    fn directories_of(&self, pid: u32, arguments: &[String]) -> Option<Vec<Metadata>> {
        let paths = match arguments {
            [] => return None,
            [file] => {
                let text = fs::read(self.seen_by(pid, Path::new(file))).ok()?;
                let properties = file_properties(&text)?;
                let set = |name: &str| properties.iter().rev().find(|(key, _)| key == name);
                [set("dataDir"), set("dataLogDir")]
                    .into_iter()
                    .flatten()
                    .map(|(_, path)| path.into())
                    .collect()
            }
            [_port, directory, ..] => vec![PathBuf::from(directory)],
        };
        let seen = paths.iter().map(|path| fs::metadata(self.seen_by(pid, path)));
        Some(seen.filter_map(Result::ok).collect())
    }

    /// A path as the process means it: from its working directory, in its mounts.
    fn seen_by(&self, pid: u32, path: &Path) -> PathBuf {
        let working = fs::read_link(self.at(pid).join("cwd")).unwrap_or_default();
        let absolute = working.join(path);
        let root = self.at(pid).join("root");
        match fs::metadata(&root) {
            Ok(_) => root.join(absolute.strip_prefix("/").unwrap_or(&absolute)),
            Err(_) => absolute,
        }
    }

    fn at(&self, pid: u32) -> PathBuf {
        self.proc.join(pid.to_string())
    }
}

/// A data directory that somebody may have.
struct Wanted {
    directory: PathBuf,
    found: Metadata,
    /// Where its snapshots or logs are, as `/proc` spells it.
    files: PathBuf,
}

impl Wanted {
    fn of(directory: &Path) -> Option<Wanted> {
        let found = fs::metadata(directory).ok()?;
        let files = fs::canonicalize(directory.join("version-2")).ok()?;
        Some(Wanted { directory: directory.to_path_buf(), found, files })
    }

    fn is_among(&self, theirs: &[Metadata]) -> bool {
        theirs.iter().any(|their| their.dev() == self.found.dev() && their.ino() == self.found.ino())
    }

    fn pid_file_of(&self, pid: u32) -> Option<PathBuf> {
        let path = self.directory.join(PID_FILE);
        let named: u32 = fs::read_to_string(&path).ok()?.trim().parse().ok()?;
        (named == pid).then_some(path)
    }
}

/// What stands behind the main class of Apache's server, if that is what runs.
fn apache_arguments(words: &[String]) -> Option<&[String]> {
    let main = words.iter().position(|word| APACHE_MAINS.contains(&word.as_str()))?;
    Some(&words[main + 1..])
}

fn in_short(words: &[String]) -> String {
    let behind = words.iter().position(|word| APACHE_MAINS.contains(&word.as_str())).filter(|&at| at > 0);
    let line = match behind {
        Some(main) => format!("{} ... {}", words[0], words[main..].join(" ")),
        None => words.join(" "),
    };
    match line.char_indices().nth(COMMAND_CHARS_MAX) {
        Some((end, _)) => format!("{}...", &line[..end]),
        None => line,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    /// A data directory, and a `/proc` of our own making beside it.
    struct Machine {
        home: tempfile::TempDir,
    }

    impl Machine {
        fn new() -> Machine {
            let home = tempfile::tempdir().expect("a directory");
            fs::create_dir_all(home.path().join("data/version-2")).expect("made");
            fs::create_dir_all(home.path().join("proc")).expect("made");
            Machine { home }
        }

        fn path(&self, name: &str) -> PathBuf {
            fs::canonicalize(self.home.path()).expect("there").join(name)
        }

        fn process(&self, pid: u32, command: &str, files: &[(&str, &str)]) {
            let at = self.path(&format!("proc/{pid}"));
            fs::create_dir_all(at.join("fd")).expect("made");
            fs::create_dir_all(at.join("fdinfo")).expect("made");
            fs::write(at.join("cmdline"), command.replace(' ', "\0")).expect("written");
            symlink(self.path(""), at.join("cwd")).expect("linked");
            symlink("/", at.join("root")).expect("linked");
            for (fd, (file, flags)) in files.iter().enumerate() {
                symlink(self.path(file), at.join(format!("fd/{fd}"))).expect("linked");
                let info = format!("pos:\t0\nflags:\t{flags}\nmnt_id:\t1\n");
                fs::write(at.join(format!("fdinfo/{fd}")), info).expect("written");
            }
        }

        fn owner(&self) -> Option<Owner> {
            let processes = Processes { proc: self.path("proc"), own: 7 };
            processes.owner_of(&[&self.path("data")])
        }

        #[track_caller]
        fn check(&self, expected: Option<(u32, Sign)>) {
            assert_eq!(self.owner().map(|owner| (owner.pid, owner.sign)), expected);
        }
    }

    const APACHE: &str = "java -Xmx1g org.apache.zookeeper.server.quorum.QuorumPeerMain";

    #[test]
    fn who_writes_a_file_of_the_directory_has_it() {
        let machine = Machine::new();
        machine.process(2, "", &[]);
        machine.process(3, "tar c data", &[("data/version-2/log.1", "0100000")]);
        machine.process(4, "tail -f", &[("data/logs/out", "0100001"), ("data2/version-2/log.1", "0100001")]);
        machine.process(7, "ostler", &[("data/version-2/log.1", "0100002")]);
        machine.check(None);
        machine.process(9, "java x", &[("elsewhere", "01"), ("data/version-2/log.1", "0100001")]);
        machine.check(Some((9, Sign::Writes(machine.path("data/version-2/log.1")))));
    }

    #[test]
    fn an_apache_that_has_written_nothing_yet_is_known_by_its_configuration() {
        let machine = Machine::new();
        fs::create_dir(machine.path("other")).expect("made");
        let config = |dir: &str| format!("clientPort=1\ndataDir={}\n", machine.path(dir).display());
        fs::write(machine.path("other.cfg"), config("other")).expect("written");
        fs::write(machine.path("zoo.cfg"), config("data")).expect("written");
        machine.process(11, &format!("{APACHE} other.cfg"), &[]);
        // A pid used again: the file names a server that has another directory.
        fs::write(machine.path("data/zookeeper_server.pid"), "11").expect("written");
        machine.check(None);
        machine.process(12, &format!("{APACHE} zoo.cfg"), &[]);
        machine.check(Some((12, Sign::Configured)));
        let said = machine.owner().expect("an owner").to_string();
        assert!(said.contains("process 12 (java ... org.apache.zookeeper"), "{said}");
        fs::remove_dir_all(machine.path("proc/12")).expect("ended");
        machine.process(13, &format!("{APACHE} 2181 data"), &[]);
        machine.check(Some((13, Sign::Configured)));
    }

    #[test]
    fn an_apache_with_a_hidden_configuration_is_known_by_the_pid_file() {
        let machine = Machine::new();
        machine.process(21, &format!("{APACHE} /hidden/zoo.cfg"), &[]);
        machine.check(None);
        fs::write(machine.path("data/zookeeper_server.pid"), "21\n").expect("written");
        machine.check(Some((21, Sign::PidFile(machine.path("data/zookeeper_server.pid")))));
        // Somebody else has that pid now.
        fs::write(machine.path("proc/21/cmdline"), "vi").expect("written");
        machine.check(None);
    }
}
