//! What a member of an ensemble acts through beside its log: connections to the other servers, worlds that wait for the log
//! to become theirs, and history read from the log files for learners that lag.
//! Not here: deciding (core, replication), sockets (`peers`), what the files hold (`log`).

use super::super::recovery::{self, Paths};
use crate::config::Config;
use crate::core::{CoreInput, PeerOutput};
use crate::io::disk::Disk;
use crate::io::poll::Poll;
use crate::log::history::{HistoryRequests, Request, Wanted};
use crate::log::{LogAnswer, LogCommand};
use crate::model::WallMillis;
use crate::peers::{BindError, Peers};
use crate::snapshot::Pinned;
use crate::world::Head;
use crossbeam::channel::Receiver;
use ostler_replication::{History, Input, Link, Moment, Number, Output, Zxid};
use std::collections::BTreeMap;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// What becomes the world when the log has answered.
enum NextWorld {
    /// Made by the log's thread on its way to a TRUNC.
    Recovered(Arc<Mutex<Option<Head>>>),
    /// Received from the leader.
    Received(Box<Head>),
}

/// What a membership is made of.
pub struct MembershipParts<P: Poll> {
    pub peers: Peers<P>,
    pub disk: Arc<dyn Disk>,
    pub paths: Paths,
    pub config: Config,
    /// For the tables of worlds that are made anew.
    pub hash_seed: [u64; 2],
    /// What the reader finds; the channel's bound is what it reads ahead. Goes before the reader, which may be waiting for
    /// room in it and ends only when it finds nobody there.
    pub found: Receiver<(Link, Number, History)>,
    pub reader: Box<dyn HistoryRequests>,
    /// Files are read and checked on threads of their own. Not where everything must happen on one thread in one order.
    pub reads_ahead: bool,
    pub snapshot_bytes: u64,
}

pub struct Membership<P: Poll> {
    parts: MembershipParts<P>,
    /// From the network, not yet stepped.
    inputs: Vec<Input>,
    worlds: BTreeMap<Number, NextWorld>,
    /// Set for the reader when the link that asked is gone.
    reading: BTreeMap<Link, Arc<AtomicBool>>,
}

impl<P: Poll> Membership<P> {
    pub fn new(parts: MembershipParts<P>) -> Membership<P> {
        Membership { parts, inputs: Vec::new(), worlds: BTreeMap::new(), reading: BTreeMap::new() }
    }

    /// Sleeps until a peer or somebody with the waker wants something.
    pub(super) fn wait(&mut self, patience: Duration) {
        if let Err(error) = self.parts.peers.wait(Some(patience))
            && error.kind() != std::io::ErrorKind::Interrupted
        {
            panic!("waiting for the sockets of other servers failed: {error}");
        }
    }

    pub(super) fn next_timeout(&self) -> Option<Moment> {
        // What has come and was not stepped does not wait.
        if self.inputs.is_empty() { self.parts.peers.next_timeout() } else { Some(Moment::default()) }
    }

    /// Something was found that `hear` has not taken yet.
    pub(super) fn has_news(&self) -> bool {
        !self.parts.found.is_empty()
    }

    /// What has come since the last time.
    pub(super) fn hear(&mut self, now: Moment) -> Result<Vec<CoreInput>, BindError> {
        self.parts.peers.turn(now, &mut self.inputs)?;
        let mut heard = self.take_inputs();
        // Bounded by what the reader may read ahead; later pieces come with later turns.
        heard.extend(
            self.parts
                .found
                .try_iter()
                .take(FOUND_IN_TURN_MAX)
                .map(|(link, number, history)| CoreInput::History { link, number, history }),
        );
        Ok(heard)
    }

    /// Writes what is queued for other servers, and says what came of it.
    pub(super) fn flush(&mut self, now: Moment) -> Vec<CoreInput> {
        self.parts.peers.flush(now, &mut self.inputs);
        self.take_inputs()
    }

    fn take_inputs(&mut self) -> Vec<CoreInput> {
        let inputs = std::mem::take(&mut self.inputs);
        let to_core = |input| {
            if let Input::Unlinked(link) = input {
                self.stop_reading(link);
            }
            CoreInput::Peer(input)
        };
        inputs.into_iter().map(to_core).collect()
    }

    fn stop_reading(&mut self, link: Link) {
        if let Some(gone) = self.reading.remove(&link) {
            gone.store(true, Ordering::Relaxed);
        }
    }

    pub(super) fn act(&mut self, output: PeerOutput, digest: bool, now: Moment) {
        let output = match output {
            PeerOutput::Dial { peer, port, addresses } => Output::Dial { peer, port, addresses },
            PeerOutput::Send(link, bytes) => Output::Send(link, bytes),
            PeerOutput::TakeSnapshot(link) => Output::TakeSnapshot(link),
            PeerOutput::Hang(link, reason) => {
                self.stop_reading(link);
                Output::Hang(link, reason)
            }
            PeerOutput::SendSnapshot(link, view) => {
                let source = Box::new(Pinned { view, digest });
                return self.parts.peers.send_snapshot(link, source, now, &mut self.inputs);
            }
        };
        let left = self.parts.peers.act(output, now, &mut self.inputs);
        assert!(left.is_none(), "the network takes what is for the network");
    }

    pub(super) fn truncate(&mut self, number: Number, to: Zxid) -> LogCommand {
        let MembershipParts { disk, paths, config, hash_seed, reads_ahead, .. } = &self.parts;
        let world = Arc::new(Mutex::new(None));
        self.worlds.insert(number, NextWorld::Recovered(world.clone()));
        let recover = recovery::recover_for_truncation(
            disk.clone(),
            paths.clone(),
            config.clone(),
            *hash_seed,
            (to, *reads_ahead),
            world,
        );
        LogCommand::Truncate { number, to, recover }
    }

    pub(super) fn install(&mut self, number: Number, link: Link, zxid: Zxid) -> LogCommand {
        // A snapshot whose link is gone has no file any more: the log finds none and says so, in its order.
        let (mut staged, mut name) = (String::from("snapshot-of-a-lost-leader"), String::new());
        if let Some(received) = self.parts.peers.take_staged(link) {
            (staged, name) = (name_of(&received.partial), name_of(&received.name));
            self.parts.snapshot_bytes = received.file_bytes;
            self.worlds.insert(number, NextWorld::Received(Box::new(received.head)));
        }
        LogCommand::Install { number, zxid, staged, name }
    }

    pub(super) fn read_history(&mut self, number: Number, link: Link, after: Zxid, to: Zxid) {
        let ensemble = self.parts.config.ensemble.as_ref();
        let share = ensemble.and_then(|ensemble| ensemble.settings.history_share);
        let gone = self.reading.entry(link).or_default().clone();
        let bytes_max = match (share, self.parts.snapshot_bytes) {
            (None, _) => Some(0),
            (Some(_), 0) => None,
            (Some(share), bytes) => Some((bytes as f64 * share) as u64),
        };
        let wanted = Wanted { after, to, bytes_max };
        let is_taken = share.is_some() && self.parts.reader.ask(Request { link, number, wanted, gone });
        if !is_taken {
            let history = History { from: None, records: None, is_last: true };
            self.inputs.push(Input::History { link, number, history });
        }
    }

    /// The log's answer, with the world that it leads to.
    pub(super) fn answered(&mut self, answer: LogAnswer, wall: WallMillis) -> CoreInput {
        match answer {
            LogAnswer::Truncated { number, to, done } => {
                let world = self.take_world(number, done, wall);
                let to = world.as_ref().map_or(to, |world| world.zxid());
                CoreInput::Truncated { number, to, world }
            }
            LogAnswer::Installed { number, zxid, done } => {
                CoreInput::Installed { number, zxid, world: self.take_world(number, done, wall) }
            }
            LogAnswer::Persisted { number, epochs } => CoreInput::Persisted { number, epochs },
            LogAnswer::Durable(_) => unreachable!("whoever asked for it counts proposals"),
        }
    }

    fn take_world(&mut self, number: Number, done: bool, wall: WallMillis) -> Option<Box<Head>> {
        let mut world = match self.worlds.remove(&number)? {
            NextWorld::Received(head) => head,
            NextWorld::Recovered(head) => {
                Box::new(head.lock().unwrap_or_else(PoisonError::into_inner).take()?)
            }
        };
        show_members(&mut world, &self.parts.config, wall);
        done.then_some(world)
    }

    pub(super) fn snapshot_written(&mut self, bytes: u64) {
        self.parts.snapshot_bytes = bytes;
    }
}

/// Pieces of history taken in one turn; each has at most the bytes of a batch.
const FOUND_IN_TURN_MAX: usize = 4;

/// Each server writes the configuration that it goes by into its own tree, by no txn.
pub fn show_members(world: &mut Head, config: &Config, wall: WallMillis) {
    if let Some(ensemble) = &config.ensemble {
        world.show_members(ensemble.members.text(), Zxid(ensemble.members.version() as u64), wall);
    }
}

fn name_of(path: &Path) -> String {
    path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{EnsembleConfig, EnsembleSettings};
    use crate::io::disk_sim::SimDisk;
    use crate::io::poll::MioPoll;
    use crate::log::history::HistoryReader;
    use crate::peers::snapshot::Inline;
    use crate::server::ensemble;
    use crossbeam::channel::bounded;
    use ostler_replication::{Members, ServerId};

    #[test]
    fn a_member_ends_while_its_reader_waits_to_be_heard() {
        let members = Arc::new(Members::parse("server.1=127.0.0.1:2888:3888").unwrap());
        let settings = EnsembleSettings::default();
        let ensemble = EnsembleConfig { me: ServerId(1), members, settings };
        let config = Config { ensemble: Some(ensemble.clone()), ..Config::default() };
        let paths = Paths::of(&config);
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new());
        let (tell, found) = bounded(0);
        let (asked, is_asked) = bounded(1);
        let tell = move |link, number, history| {
            asked.send(()).unwrap();
            // Fails when nobody is there any more.
            let _ = tell.send((link, number, history));
        };
        let (logs, snapshots) = (paths.logs.clone(), paths.snapshots.clone());
        let reader = HistoryReader::start(disk.clone(), logs, snapshots, Arc::new(tell)).unwrap();
        let background = Inline::new(ensemble::staging(&config, &disk, &paths, [1, 2]));
        let peer_settings = ensemble::peer_settings(&config, &ensemble);
        let peers = Peers::new(MioPoll::new(false).unwrap(), Box::new(background), peer_settings);
        let mut membership = Membership::new(MembershipParts {
            peers,
            disk,
            paths,
            config,
            hash_seed: [1, 2],
            found,
            reader: Box::new(reader),
            reads_ahead: false,
            snapshot_bytes: 0,
        });
        let link = Link { peer: ServerId(2), number: 1 };
        membership.read_history(Number(1), link, Zxid(1), Zxid(2));
        is_asked.recv().unwrap();
        let (ended, is_ended) = bounded(1);
        std::thread::spawn(move || {
            drop(membership);
            ended.send(()).unwrap();
        });
        is_ended.recv_timeout(Duration::from_secs(20)).expect("it ends");
    }
}
