//! An ensemble under measurement: its servers as processes of this machine, each with ports and a directory of its own
//! for as long as the ensemble lives; who leads; killing, ending and starting members.
//! Not here: what is measured meanwhile, and the ensembles that people keep (`ostler ensemble`).

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Child;
use std::time::{Duration, Instant};

use crate::client::Client;
use crate::server::{self, PROBE_PATIENCE, ServerKind};

/// How long a member is given to serve, and to end when it is asked to.
pub const PATIENCE: Duration = Duration::from_secs(60);
/// Between two looks at another process there is nothing to wait on but time.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// One server of an ensemble.
pub struct Member {
    /// The N of its line `server.N`.
    pub number: usize,
    pub is_observer: bool,
    pub address: SocketAddr,
    /// Where learners reach it when it leads.
    pub quorum_port: u16,
    election_port: u16,
    dir: PathBuf,
    child: Option<Child>,
}

/// A running ensemble; dropping it kills all of it.
pub struct Ensemble {
    pub kind: ServerKind,
    pub members: Vec<Member>,
}

/// So many loopback ports that nobody has at this moment.
fn free_ports(count: usize) -> io::Result<Vec<u16>> {
    let listeners: Vec<TcpListener> =
        (0..count).map(|_| TcpListener::bind("127.0.0.1:0")).collect::<io::Result<_>>()?;
    listeners.iter().map(|listener| Ok(listener.local_addr()?.port())).collect()
}

impl Ensemble {
    /// Starts `voters` servers that vote and those observers, data below `dir`, and waits until all serve.
    pub fn start(kind: &ServerKind, dir: &Path, voters: usize, observers: usize) -> io::Result<Ensemble> {
        let mut ensemble = Ensemble::prepare(kind, dir, voters, observers)?;
        for number in 1..=ensemble.members.len() {
            ensemble.launch(number)?;
        }
        for number in 1..=ensemble.members.len() {
            ensemble.wait_serving(number)?;
        }
        Ok(ensemble)
    }

    /// Ports, directories and configurations; nothing runs yet.
    pub fn prepare(kind: &ServerKind, dir: &Path, voters: usize, observers: usize) -> io::Result<Ensemble> {
        let count = voters + observers;
        let ports = free_ports(3 * count)?;
        let members: Vec<Member> = (0..count)
            .map(|at| Member {
                number: at + 1,
                is_observer: at >= voters,
                address: SocketAddr::from(([127, 0, 0, 1], ports[3 * at])),
                quorum_port: ports[3 * at + 1],
                election_port: ports[3 * at + 2],
                dir: dir.join((at + 1).to_string()),
                child: None,
            })
            .collect();
        // One voter is a standalone server, without ports for others.
        let lines: String =
            if count == 1 { String::new() } else { members.iter().map(Member::line).collect() };
        for member in &members {
            std::fs::create_dir_all(member.dir.join("data"))?;
            std::fs::write(member.dir.join("data").join("myid"), format!("{}\n", member.number))?;
            let role = if member.is_observer { "peerType=observer\n" } else { "" };
            let text = server::config_text(&member.dir, member.address.port());
            std::fs::write(
                member.dir.join("zoo.cfg"),
                format!("{text}initLimit=20\nsyncLimit=5\n{role}{lines}"),
            )?;
        }
        Ok(Ensemble { kind: kind.clone(), members })
    }

    pub fn member(&self, number: usize) -> &Member {
        &self.members[number - 1]
    }

    /// Starts the process of a member, and does not wait for anything.
    pub fn launch(&mut self, number: usize) -> io::Result<()> {
        let member = &mut self.members[number - 1];
        member.child = Some(server::spawn(&self.kind, &member.dir, member.address.port(), None)?);
        Ok(())
    }

    /// Waits until a member takes sessions.
    pub fn wait_serving(&mut self, number: usize) -> io::Result<()> {
        let name = self.kind.name.clone();
        let member = &mut self.members[number - 1];
        let log = member.dir.join("server.log");
        let deadline = Instant::now() + PATIENCE;
        while !member.serves() {
            let ended = member.child.as_mut().map(Child::try_wait).transpose()?.flatten();
            let problem = match ended {
                Some(status) => format!("ended with {status}"),
                None if Instant::now() > deadline => format!("does not serve within {PATIENCE:?}"),
                None => {
                    std::thread::park_timeout(LOOK_AGAIN);
                    continue;
                }
            };
            return Err(io::Error::other(format!("{name} {number} {problem}: see {}", log.display())));
        }
        Ok(())
    }

    /// The number of the server that says it leads; a standalone server leads itself.
    pub fn leader(&self) -> io::Result<usize> {
        self.leader_of(self.members.len())
    }

    /// The same when only the first `count` members run.
    pub fn leader_of(&self, count: usize) -> io::Result<usize> {
        leader(&self.addresses()[..count]).map(|at| at + 1)
    }

    pub fn addresses(&self) -> Vec<SocketAddr> {
        self.members.iter().map(|member| member.address).collect()
    }

    pub fn pids(&self) -> Vec<u32> {
        self.members.iter().filter_map(Member::pid).collect()
    }

    /// Ends all of it and removes its data; logs of the servers stay.
    pub fn clear(mut self) {
        for member in &mut self.members {
            // Nothing depends on either.
            let _ = member.kill();
            let _ = std::fs::remove_dir_all(member.dir.join("data"));
        }
    }
}

impl Member {
    fn line(&self) -> String {
        let role = if self.is_observer { "observer" } else { "participant" };
        format!("server.{}=127.0.0.1:{}:{}:{role}\n", self.number, self.quorum_port, self.election_port)
    }

    pub fn pid(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    fn serves(&self) -> bool {
        let client = Client::connect_within(self.address, 30_000, PROBE_PATIENCE);
        client.is_ok_and(|client| client.close().is_ok())
    }

    /// SIGKILL, and waits for the end.
    pub fn kill(&mut self) -> io::Result<()> {
        let Some(mut child) = self.child.take() else { return Ok(()) };
        child.kill()?;
        child.wait().map(drop)
    }

    /// Asks the process to end (SIGTERM); [`Member::ended`] waits for it.
    pub fn terminate(&self) -> io::Result<()> {
        let Some(pid) = self.pid() else { return Ok(()) };
        let pid = i32::try_from(pid).ok().and_then(rustix::process::Pid::from_raw);
        let pid = pid.ok_or_else(|| io::Error::other("no such process"))?;
        Ok(rustix::process::kill_process(pid, rustix::process::Signal::TERM)?)
    }

    /// Waits until a process that was asked to end has ended.
    pub fn ended(&mut self) -> io::Result<()> {
        let Some(child) = self.child.as_mut() else { return Ok(()) };
        let deadline = Instant::now() + PATIENCE;
        while child.try_wait()?.is_none() {
            if Instant::now() > deadline {
                let text = format!("server {} was asked to end and still runs", self.number);
                return Err(io::Error::new(io::ErrorKind::TimedOut, text));
            }
            std::thread::park_timeout(LOOK_AGAIN);
        }
        self.child = None;
        Ok(())
    }
}

impl Drop for Ensemble {
    fn drop(&mut self) {
        for member in &mut self.members {
            let _ = member.kill();
        }
    }
}

/// What the server at `address` says it is: leader, follower, observer, standalone; `None` while it does not serve.
pub fn mode(address: SocketAddr) -> Option<String> {
    let text = server::four_letter_word(address, "srvr").ok()?;
    text.lines().find_map(|line| line.strip_prefix("Mode: ")).map(String::from)
}

/// Waits until exactly one of the servers says that it leads; its place among them.
pub fn leader(addresses: &[SocketAddr]) -> io::Result<usize> {
    let deadline = Instant::now() + PATIENCE;
    loop {
        let leads = |address: &SocketAddr| {
            mode(*address).is_some_and(|mode| ["leader", "standalone"].contains(&mode.as_str()))
        };
        let leaders: Vec<usize> = (0..addresses.len()).filter(|at| leads(&addresses[*at])).collect();
        if let [only] = leaders[..] {
            return Ok(only);
        }
        if Instant::now() > deadline {
            let text = format!("{} of the servers say they lead (is the word srvr allowed?)", leaders.len());
            return Err(io::Error::new(io::ErrorKind::TimedOut, text));
        }
        std::thread::park_timeout(LOOK_AGAIN);
    }
}
