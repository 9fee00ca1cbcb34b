//! Replaying the log in groups of entries, so that what applies them can fetch the memory for all of a group at once; with
//! reading and checking on a thread ahead of applying.
//! Not here: what is read and how it is judged (recover), entries' meaning.
//! Order is the log's throughout. A group holds a bounded number of bytes beside its largest entry.

use super::recover::{self, RecoverError, RecoverSettings, Recovered, refused};
use crate::io::disk::Disk;
use ostler_replication::Zxid;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, channel, sync_channel};

/// Bytes and entries of a group above which it is handed over: they stay in the cache of the CPU that takes them.
const GROUP_BYTES: usize = 96 << 10;
const GROUP_ENTRIES: usize = if cfg!(test) { 3 } else { 512 };
/// Groups between the two threads: enough to cover the pauses of either.
const GROUPS_AHEAD: usize = if cfg!(test) { 2 } else { 16 };

/// What is kept of a group's entries, in whatever form serves who applies them.
pub trait Content: Default + Send {
    /// Forgets all of it and keeps its memory.
    fn clear(&mut self);
}

/// Entries of one log file that stand behind each other there, all checks passed.
struct Group<C> {
    segment: PathBuf,
    places: Vec<Place>,
    /// Of all entries.
    bytes: usize,
    content: C,
}

struct Place {
    zxid: Zxid,
    offset_bytes: u64,
}

impl<C: Content> Group<C> {
    fn new() -> Group<C> {
        Group { segment: PathBuf::new(), places: Vec::new(), bytes: 0, content: C::default() }
    }

    fn takes(&self, segment: &Path) -> bool {
        self.places.is_empty()
            || (self.bytes < GROUP_BYTES && self.places.len() < GROUP_ENTRIES && self.segment == segment)
    }

    fn clear(&mut self) {
        self.places.clear();
        self.bytes = 0;
        self.content.clear();
    }

    /// Gives all of it to `apply`.
    fn apply(&self, apply: &mut Apply<'_, C>) -> Result<(), RecoverError> {
        apply(&self.content).map_err(|(index, reason)| {
            let place = &self.places[index];
            refused(&self.segment, place.offset_bytes, place.zxid, reason)
        })
    }
}

/// Takes a group; an error is the index of the first entry that is refused, and the reason in words.
type Apply<'a, C> = dyn FnMut(&C) -> Result<(), (usize, String)> + 'a;
/// Where a group that is full goes; leaves an empty one.
type PassOn<'a, C> = dyn FnMut(&mut Group<C>) -> Result<(), RecoverError> + 'a;

/// As [`recover::recover`] with `settings`, in groups. `keep` takes each entry, without its trailer, when it is read. If
/// `ahead`, that is done on a thread of its own; off where everything must happen on one thread in one order (simulation).
pub fn replay<C: Content>(
    disk: &dyn Disk,
    dir: &Path,
    base: Zxid,
    settings: RecoverSettings,
    ahead: bool,
    mut keep: impl FnMut(&mut C, &[u8]) + Send,
    apply: &mut Apply<'_, C>,
) -> Result<Recovered, RecoverError> {
    let recovered = if ahead {
        read_ahead(disk, dir, base, settings, keep, apply)?
    } else {
        let pass_on = &mut |group: &mut Group<C>| group.apply(apply).map(|()| group.clear());
        read_groups(disk, dir, base, settings, &mut keep, pass_on)?
    };
    // Only now: nothing is cut or removed when an entry is refused.
    if settings.repair {
        recover::repair(disk, dir, &recovered)?;
    }
    Ok(recovered)
}

fn read_groups<C: Content>(
    disk: &dyn Disk,
    dir: &Path,
    base: Zxid,
    settings: RecoverSettings,
    keep: &mut dyn FnMut(&mut C, &[u8]),
    pass_on: &mut PassOn<'_, C>,
) -> Result<Recovered, RecoverError> {
    let mut open = Group::new();
    let read = recover::read(disk, dir, base, settings, &mut |segment, record| {
        if !open.takes(segment) {
            pass_on(&mut open)?;
        }
        if open.places.is_empty() {
            open.segment = segment.to_path_buf();
        }
        open.places.push(Place { zxid: record.zxid, offset_bytes: record.offset_bytes });
        open.bytes += record.entry.len();
        keep(&mut open.content, record.entry);
        Ok(())
    });
    // What stands before damage comes first: it may be refused.
    pass_on(&mut open).and(read)
}

fn read_ahead<C: Content>(
    disk: &dyn Disk,
    dir: &Path,
    base: Zxid,
    settings: RecoverSettings,
    mut keep: impl FnMut(&mut C, &[u8]) + Send,
    apply: &mut Apply<'_, C>,
) -> Result<Recovered, RecoverError> {
    std::thread::scope(|scope| {
        let (send, groups) = sync_channel(GROUPS_AHEAD);
        let (emptied, empty) = channel();
        let reading = std::thread::Builder::new().name("ostler-replay".into());
        let reading = reading.spawn_scoped(scope, move || {
            read_groups(disk, dir, base, settings, &mut keep, &mut |group| send_on(group, &send, &empty))
        });
        let reading = reading.map_err(|source| RecoverError::Io { segment: dir.to_path_buf(), source })?;
        let applied = groups.iter().try_for_each(|mut group: Group<C>| {
            group.apply(apply)?;
            group.clear();
            // The reading thread may be done.
            let _ = emptied.send(group);
            Ok(())
        });
        drop(groups);
        let read = reading.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic));
        // An entry that is refused stands before all that was read behind it.
        applied.and(read)
    })
}

/// Hands a group to the applying thread. An error: that one has refused an earlier entry, and its error counts.
fn send_on<C: Content>(
    group: &mut Group<C>,
    groups: &SyncSender<Group<C>>,
    empty: &Receiver<Group<C>>,
) -> Result<(), RecoverError> {
    let next = empty.try_recv().unwrap_or_else(|_| Group::new());
    groups.send(std::mem::replace(group, next)).map_err(|unsent| {
        let zxid = unsent.0.places.first().map_or(Zxid::ZERO, |place| place.zxid);
        refused(&unsent.0.segment, 0, zxid, "an entry before it was refused".into())
    })
}
