//! The log's steps by hand: what a transcript of commands comes to.

use super::*;
use crate::io::disk_sim::SimDisk;
use crate::limits;
use std::collections::VecDeque;

struct Rig {
    disk: SimDisk,
    commands: LogCommands,
    work: LogWork,
    executor: LogExecutor,
    said: Vec<String>,
}

fn rig(proposals_max: usize) -> Rig {
    let disk = SimDisk::new();
    let settings = settings(Path::new("/log"), Method::Direct);
    disk.create_dir(&settings.dir).unwrap();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let spares = Spares::open(shared.clone(), &settings, false, Box::new(|_| {})).unwrap();
    let executor = LogExecutor::new(LogWriter::new(shared, settings, spares, Zxid(0)));
    let (commands, work) = (LogCommands::new(proposals_max), LogWork::default());
    Rig { disk, commands, work, executor, said: Vec::new() }
}

impl Rig {
    /// One step; what it came to, what it answered, and what is left of the work.
    fn step(&mut self) {
        if self.work.is_done() {
            self.commands.take(&mut self.work);
        }
        let executed = self.executor.execute(&mut self.work);
        let answers: Vec<String> =
            std::iter::from_fn(|| self.executor.next_answer()).map(|answer| format!("{answer:?}")).collect();
        let executed = executed.map_or_else(|_| "Failed".to_owned(), |executed| format!("{executed:?}"));
        self.said.push(format!("{executed} {} left {}", answers.join(" "), self.work.proposals().len()));
    }

    fn append(&mut self, proposals: &[Proposal]) -> usize {
        let mut proposals = VecDeque::from(proposals.to_vec());
        self.commands.append(&mut proposals);
        proposals.len()
    }

    #[track_caller]
    fn check(mut self, expected: &[&str]) {
        assert_eq!(std::mem::take(&mut self.said), expected);
    }
}

#[test]
fn a_command_stands_between_the_groups_before_and_behind_it() {
    let mut rig = rig(16);
    assert_eq!(rig.append(&[batch(1, 2), batch(3, 3)]), 0);
    rig.commands.push(LogCommand::Roll);
    assert_eq!(rig.append(&[batch(4, 4)]), 0);
    rig.commands.push(LogCommand::Stop);
    for _ in 0..4 {
        rig.step();
    }
    assert_eq!(names(&rig.disk, Path::new("/log")), ["log.1", "log.4"]);
    rig.check(&[
        "Group Durable(0:3) left 0",
        "Command  left 0",
        "Group Durable(0:4) left 0",
        "Ended  left 0",
    ]);
}

/// A learner's proposals have one txn each: those that came during a sync all go into the next.
#[test]
fn hundreds_of_short_proposals_share_a_sync() {
    let mut rig = rig(limits::LOG_QUEUE_PROPOSALS_MAX);
    let proposals: Vec<Proposal> = (1..=500).map(|zxid| batch(zxid, zxid)).collect();
    assert_eq!(rig.append(&proposals), 0);
    rig.step();
    rig.check(&["Group Durable(0:1f4) left 0"]);
}

#[test]
fn the_queue_takes_as_many_bytes_as_it_may_hold() {
    let mut rig = rig(limits::LOG_QUEUE_PROPOSALS_MAX);
    let large = |zxid| proposal(&[entry(zxid, 1 << 20)]);
    let proposals: Vec<Proposal> = (1..=40).map(large).collect();
    let left = rig.append(&proposals);
    assert!((20..=24).contains(&left), "{left} of 40 MiB are left outside a queue of 16 MiB");
}

#[test]
fn the_queue_takes_as_many_proposals_as_it_may_hold() {
    let mut rig = rig(2);
    assert_eq!(rig.append(&[batch(1, 1), batch(2, 2), batch(3, 3)]), 1);
    rig.step();
    assert_eq!(rig.append(&[batch(3, 3)]), 0);
    rig.step();
    rig.check(&["Group Durable(0:2) left 0", "Group Durable(0:3) left 0"]);
}

#[test]
fn a_group_that_the_disk_has_no_room_for_is_gone_on_with_where_it_stopped() {
    let mut rig = rig(16);
    rig.append(&[batch(1, 1)]);
    rig.step();
    rig.disk.set_capacity(Some(rig.disk.used_bytes()));
    // More than the open segment holds: what stands in it whole is durable.
    rig.append(&[batch(2, 2), batch(3, 2000)]);
    rig.commands.push(LogCommand::Roll);
    rig.step();
    rig.step();
    rig.disk.set_capacity(None);
    rig.step();
    rig.step();
    rig.check(&[
        "Group Durable(0:1) left 0",
        "NoSpace Durable(0:2) left 1",
        "NoSpace  left 1",
        "Group Durable(0:7d0) left 0",
        "Command  left 0",
    ]);
}

#[test]
fn a_failure_answers_nothing_that_is_not_on_the_disk() {
    let mut rig = rig(16);
    rig.append(&[batch(1, 1)]);
    rig.step();
    for call in rig.disk.calls()..rig.disk.calls() + 1000 {
        rig.disk.fail_at(call, libc::EIO);
    }
    rig.append(&[batch(2, 2)]);
    rig.step();
    rig.check(&["Group Durable(0:1) left 0", "Failed  left 1"]);
}
