//! Epochs, TRUNC and SNAP in the log's one queue: answered in order, and after every crash the files are those behind what was
//! answered last, or behind the command after it.

use super::crash::{Seed, power_cuts};
use super::*;
use crate::io::disk_sim::SimDisk;
use crate::log::epochs::EpochFiles;
use crate::log::quarantine;
use ostler_replication::{Epoch, Epochs, Number};
use std::collections::VecDeque;

const EPOCH: u64 = 1 << 32;

fn logs() -> &'static Path {
    Path::new("/log/version-2")
}

fn snapshots() -> &'static Path {
    Path::new("/data/version-2")
}

/// A server's directories, with the first snapshot and one that came from a leader.
fn directories() -> SimDisk {
    let disk = SimDisk::new();
    disk.create_dir(snapshots()).unwrap();
    disk.create_dir(logs()).unwrap();
    disk.put(&snapshots().join("snapshot.0"), b"");
    disk.put(&snapshots().join("partial-snapshot.100000009"), b"");
    disk
}

fn executor(disk: &SimDisk, last: Zxid) -> Result<LogExecutor, LogFailure> {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let settings = LogSettings { snapshot_dir: snapshots().into(), ..settings(logs(), Method::Direct) };
    writer::open_dir(disk, logs())?;
    let failed = |source| LogFailure { doing: "starting", path: logs().into(), source };
    let spares = Spares::open(shared.clone(), &settings, false, Box::new(|_| {})).map_err(failed)?;
    Ok(LogExecutor::new(LogWriter::new(shared, settings, spares, last)))
}

fn persist(number: u64, accepted: u32, current: u32) -> LogCommand {
    let epochs = Epochs { accepted: Epoch(accepted), current: Epoch(current) };
    LogCommand::Persist { number: Number(number), epochs }
}

fn truncate_to(number: u64, disk: &SimDisk, base: u64, to: u64) -> LogCommand {
    let (disk, to) = (disk.clone(), Zxid(to));
    let settings = RecoverSettings { repair: false, alone: false, until: Some(to) };
    let recover = RecoverUntil(Box::new(move || {
        recover(&disk, logs(), Zxid(base), settings, &mut |_, _| Ok(())).map_err(|error| error.to_string())
    }));
    LogCommand::Truncate { number: Number(number), to, recover }
}

fn install(number: u64, zxid: u64, staged: &str) -> LogCommand {
    let name = format!("snapshot.{zxid:x}");
    LogCommand::Install { number: Number(number), zxid: Zxid(zxid), staged: staged.into(), name }
}

/// Carries the commands out; the answers, until the disk stops.
fn run(disk: &SimDisk, last: u64, commands: Vec<LogCommand>) -> Vec<LogAnswer> {
    let Ok(mut executor) = executor(disk, Zxid(last)) else { return Vec::new() };
    let mut queue = LogCommands::new(100);
    commands.into_iter().for_each(|command| queue.push(command));
    let (mut work, mut answers) = (LogWork::default(), Vec::new());
    while !(queue.is_empty() && work.is_done()) {
        if work.is_done() {
            queue.take(&mut work);
        }
        let executed = executor.execute(&mut work);
        answers.extend(std::iter::from_fn(|| executor.next_answer()));
        if executed.is_err() {
            break;
        }
    }
    answers
}

/// What a start finds: zxid of the snapshot, last zxid, current epoch.
fn found(disk: &SimDisk) -> (u64, u64, u32) {
    quarantine::finish_interrupted(disk, logs(), snapshots()).unwrap();
    let base = quarantine::snapshots(disk, snapshots()).unwrap().pop().unwrap().0;
    let last = replay(disk, logs(), base.0).unwrap().0.last;
    (base.0, last.0, EpochFiles::new(disk, snapshots()).load(last).unwrap().current.0)
}

fn life(disk: &SimDisk) -> Vec<LogCommand> {
    vec![
        persist(1, 1, 0),
        LogCommand::Append(batch(1, 5)),
        persist(2, 1, 1),
        LogCommand::Append(batch(EPOCH + 1, EPOCH + 3)),
        truncate_to(3, disk, 0, EPOCH + 1),
        persist(4, 2, 1),
        install(5, EPOCH + 9, "partial-snapshot.100000009"),
        persist(6, 2, 2),
        LogCommand::Append(batch(2 * EPOCH + 1, 2 * EPOCH + 2)),
    ]
}

/// Behind each answer of a life. What stands in the log of an epoch speaks for the epoch.
const STATES: [(u64, u64, u32); 10] = [
    (0, 0, 0),
    (0, 0, 0),
    (0, 5, 0),
    (0, 5, 1),
    (0, EPOCH + 3, 1),
    (0, EPOCH + 1, 1),
    (0, EPOCH + 1, 1),
    (EPOCH + 9, EPOCH + 9, 1),
    (EPOCH + 9, EPOCH + 9, 2),
    (EPOCH + 9, 2 * EPOCH + 2, 2),
];

#[test]
fn commands_are_answered_in_their_order() {
    let disk = directories();
    let answers = run(&disk, 0, life(&disk));
    let epochs = |accepted, current| Epochs { accepted: Epoch(accepted), current: Epoch(current) };
    let persisted = |number, accepted, current| LogAnswer::Persisted {
        number: Number(number),
        epochs: epochs(accepted, current),
    };
    assert_eq!(
        answers,
        [
            persisted(1, 1, 0),
            LogAnswer::Durable(Zxid(5)),
            persisted(2, 1, 1),
            LogAnswer::Durable(Zxid(EPOCH + 3)),
            LogAnswer::Truncated { number: Number(3), to: Zxid(EPOCH + 1), done: true },
            persisted(4, 2, 1),
            LogAnswer::Installed { number: Number(5), zxid: Zxid(EPOCH + 9), done: true },
            persisted(6, 2, 2),
            LogAnswer::Durable(Zxid(2 * EPOCH + 2)),
        ]
    );
    assert_eq!(found(&disk), STATES[9]);
}

#[test]
fn any_crash_leaves_what_was_answered_or_the_command_behind_it() {
    let whole = directories();
    let before = whole.calls();
    run(&whole, 0, life(&whole));
    let mut seed = Seed(21);
    for stop in before..whole.calls() {
        let disk = directories();
        disk.stop_at(stop);
        // A recovery that the disk stopped is answered, and has changed nothing.
        let is_done = |answer: &LogAnswer| !matches!(answer, LogAnswer::Truncated { done: false, .. });
        let answered = run(&disk, 0, life(&disk)).iter().take_while(|answer| is_done(answer)).count();
        let (behind, next) = (STATES[answered], STATES[(answered + 1).min(9)]);
        power_cuts(&disk, 4, &mut seed, |left, picks| {
            let is = found(left);
            // A group may be there in part, and its epoch is that of its last txn.
            let lasts = behind.1.min(next.1)..=behind.1.max(next.1);
            let fits = is == behind
                || is == next
                || (is.0 == behind.0 && lasts.contains(&is.1) && (behind.2..=next.2).contains(&is.2));
            let early = behind.0 != next.0 && is == (next.0, next.1, behind.2);
            assert!(
                fits || early,
                "stopped before {stop}, left {picks:?}: {is:x?} behind {answered} answers"
            );
        });
    }
}

#[test]
fn what_cannot_be_done_changes_nothing_and_the_log_goes_on() {
    let disk = directories();
    let commands = vec![
        LogCommand::Append(batch(1, 5)),
        truncate_to(1, &disk, 0, 7),
        install(2, EPOCH + 9, "partial-snapshot.77"),
        LogCommand::Append(batch(6, 7)),
    ];
    let answers = run(&disk, 0, commands);
    assert_eq!(
        answers,
        [
            LogAnswer::Durable(Zxid(5)),
            LogAnswer::Truncated { number: Number(1), to: Zxid(7), done: false },
            LogAnswer::Installed { number: Number(2), zxid: Zxid(EPOCH + 9), done: false },
            LogAnswer::Durable(Zxid(7)),
        ]
    );
    assert_eq!(found(&disk), (0, 7, 0));
}

#[test]
fn a_whole_epoch_is_removed_when_it_is_the_current_one() {
    for (current, done) in [(1, true), (0, false)] {
        let disk = directories();
        let commands = vec![
            persist(1, 1, current),
            LogCommand::Append(batch(1, 5)),
            LogCommand::Append(batch(EPOCH + 1, EPOCH + 3)),
            truncate_to(2, &disk, 0, EPOCH),
        ];
        let answers: VecDeque<_> = run(&disk, 0, commands).into();
        let truncated = LogAnswer::Truncated { number: Number(2), to: Zxid(EPOCH), done };
        assert_eq!(answers.back(), Some(&truncated));
        assert_eq!(found(&disk).1, if done { 5 } else { EPOCH + 3 });
    }
}
