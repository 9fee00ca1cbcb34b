//! What of the log a lagging learner gets.

use super::*;
use crate::io::disk_sim::SimDisk;
use crate::log::history::{Wanted, read};
use ostler_replication::History;

fn dir() -> &'static Path {
    Path::new("/data/version-2")
}

const EPOCH: u64 = 1 << 32;

/// A file each of: 11 to 20, 21 to 30, then (1,1) to (1,5), and the snapshot that it all stands behind.
fn recorded() -> SimDisk {
    let disk = SimDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut log = writer(&shared, settings(dir(), Method::Mapped), Zxid(10)).unwrap();
    for group in [batch(11, 20), batch(21, 30), batch(EPOCH + 1, EPOCH + 5)] {
        log.append(std::iter::once(&group)).unwrap();
        log.roll().unwrap();
    }
    disk.put(&dir().join("snapshot.a"), b"");
    disk
}

fn pieces(disk: &SimDisk, wanted: Wanted) -> Vec<History> {
    let mut pieces = Vec::new();
    read(disk, dir(), dir(), wanted, &mut |piece| {
        pieces.push(piece);
        true
    });
    pieces
}

/// From where, and which zxids; `None` when a snapshot is needed.
fn check(disk: &SimDisk, (after, to): (u64, u64), expected: Option<(u64, &[u64])>) {
    check_within(disk, (after, to), None, expected);
}

#[track_caller]
fn check_within(
    disk: &SimDisk,
    (after, to): (u64, u64),
    bytes_max: Option<u64>,
    expected: Option<(u64, &[u64])>,
) {
    let pieces = pieces(disk, Wanted { after: Zxid(after), to: Zxid(to), bytes_max });
    let (last, before) = pieces.split_last().expect("always answered");
    assert!(last.is_last && before.iter().all(|piece| !piece.is_last));
    let from = last.from.map(|from| from.0);
    assert_eq!(from, expected.map(|(from, _)| from), "behind {after:x} up to {to:x}");
    let Some((_, zxids)) = expected else { return };
    let mut seen = Vec::new();
    for Proposal { first, last, records } in pieces.into_iter().filter_map(|piece| piece.records) {
        let of_piece = Proposal { first, last, records };
        let entries: Vec<_> = of_piece.entries().map(<[u8]>::to_vec).collect();
        let zxid = |entry: &Vec<u8>| crate::log::record::entry_zxid(entry).unwrap();
        assert_eq!((zxid(&entries[0]), zxid(entries.last().unwrap())), (first, last));
        for entry in entries {
            let zxid = zxid(&entry);
            assert_eq!(entry, super::entry(zxid.0, 10 + (zxid.0 as usize * 37) % 90));
            seen.push(zxid.0);
        }
    }
    assert_eq!(seen, zxids, "behind {after:x} up to {to:x}");
}

#[test]
fn records_behind_a_zxid_and_where_they_begin() {
    let disk = recorded();
    let last = EPOCH + 5;
    let all: Vec<u64> = (11..=30).chain(EPOCH + 1..=last).collect();
    let behind = |zxid: u64| all.iter().copied().filter(|it| *it > zxid).collect::<Vec<_>>();
    for after in [11, 15, 20, 21, 30, EPOCH + 1, EPOCH + 4, last] {
        check(&disk, (after, last), Some((after, &behind(after))));
    }
    // The snapshot that the log begins behind; nothing is known of what was before.
    check(&disk, (10, last), Some((10, &all)));
    check(&disk, (9, last), None);
    // Zxids that are none of ours: what the learner has behind `from` is to be truncated.
    check(&disk, (35, last), Some((30, &behind(30))));
    check(&disk, (EPOCH, last), Some((30, &behind(30))));
    check(&disk, (EPOCH + 9, last), Some((last, &[])));
    check(&disk, (15, 18), Some((15, &[16, 17, 18])));
    check(&disk, (15, 30), Some((15, &(16..=30).collect::<Vec<_>>())));
    check(&disk, (15, 31), Some((15, &(16..=30).collect::<Vec<_>>())));
    check(&disk, (15, last + 1), None);
}

#[test]
fn a_log_begun_behind_a_leaders_snapshot_is_no_help_to_an_empty_learner() {
    let disk = SimDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let begin = 4 * EPOCH;
    let mut log = writer(&shared, settings(dir(), Method::Mapped), Zxid(begin)).unwrap();
    log.append(std::iter::once(&batch(begin + 1, begin + 5))).unwrap();
    log.roll().unwrap();
    // Of the first start, when the server was empty as well, and of what a leader sent.
    disk.put(&dir().join("snapshot.0"), b"");
    disk.put(&dir().join("snapshot.400000000"), b"");
    check(&disk, (0, begin + 5), None);
    let all: Vec<u64> = (begin + 1..=begin + 5).collect();
    check(&disk, (begin, begin + 5), Some((begin, &all)));
}

#[test]
fn never_across_a_hole_nor_when_a_snapshot_costs_less() {
    let last = EPOCH + 5;
    for gone in ["log.15", "snapshot.a"] {
        let disk = recorded();
        disk.unlink(&dir().join(gone)).unwrap();
        check(&disk, (10, last), None);
        check(&disk, (EPOCH + 1, last), Some((EPOCH + 1, &[EPOCH + 2, EPOCH + 3, EPOCH + 4, last])));
    }
    let disk = recorded();
    let files = log_files(&disk, dir()).unwrap();
    let later = files[1].bytes + files[2].bytes;
    check_within(
        &disk,
        (29, last),
        Some(files[2].bytes),
        Some((29, &[30, EPOCH + 1, EPOCH + 2, EPOCH + 3, EPOCH + 4, last])),
    );
    check_within(&disk, (15, last), Some(later - 1), None);
    let behind: Vec<u64> = (16..=30).chain(EPOCH + 1..=last).collect();
    check_within(&disk, (15, last), Some(later), Some((15, &behind)));
    // Damage, and nothing at all.
    disk.flip(&files[1].path, 8 * 300);
    check(&disk, (15, last), None);
    check(&SimDisk::new(), (15, last), None);
}

#[test]
fn much_of_it_comes_in_pieces_that_can_be_given_up() {
    let disk = SimDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let large = LogSettings { segment_bytes: 32 << 20, ..settings(dir(), Method::Mapped) };
    let mut log = writer(&shared, large, Zxid(0)).unwrap();
    let entries: Vec<_> = (1..=12).map(|zxid| entry(zxid, 900 << 10)).collect();
    log.append(std::iter::once(&proposal(&entries))).unwrap();
    let wanted = Wanted { after: Zxid(1), to: Zxid(12), bytes_max: None };
    let all = pieces(&disk, wanted);
    assert!(all.len() > 2, "{}", all.len());
    let mut next = 2;
    for piece in &all {
        let records = piece.records.as_ref().unwrap();
        assert!(records.records.len() <= crate::limits::BATCH_BYTES_MAX as usize);
        assert_eq!((piece.from, records.first), (Some(Zxid(1)), Zxid(next)));
        next = records.last.0 + 1;
    }
    assert_eq!(next, 13);
    let mut taken = 0;
    read(&disk, dir(), dir(), wanted, &mut |_| {
        taken += 1;
        false
    });
    assert_eq!(taken, 1);
}

/// A server that was started again a moment ago: its new file is nearly all zeros.
#[test]
fn what_is_allocated_ahead_costs_nothing() {
    let disk = SimDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let large = || LogSettings { segment_bytes: 8 << 20, ..settings(dir(), Method::Mapped) };
    writer(&shared, large(), Zxid(0)).unwrap().append(std::iter::once(&batch(1, 5))).unwrap();
    let mut log = writer(&shared, large(), Zxid(5)).unwrap();
    log.append(std::iter::once(&batch(6, 9))).unwrap();
    check_within(&disk, (4, 9), Some(1 << 20), Some((4, &[5, 6, 7, 8, 9])));
    check_within(&disk, (4, 9), Some(1 << 10), None);
}

#[test]
fn the_thread_answers_each_request_under_its_number() {
    use crate::log::history::{HistoryReader, HistoryRequests, Request};
    use ostler_replication::{Link, Number, ServerId};
    let (tell, told) = std::sync::mpsc::sync_channel(1);
    let disk = Arc::new(recorded());
    let tell = Arc::new(move |link: Link, number: Number, history: History| {
        drop(tell.send((link, number, history)));
    });
    let reader = HistoryReader::start(disk, dir().into(), dir().into(), tell).unwrap();
    let link = |number| Link { peer: ServerId(2), number };
    for number in 1..=3 {
        let wanted = Wanted { after: Zxid(15), to: Zxid(EPOCH + 5), bytes_max: None };
        let gone = Arc::new(std::sync::atomic::AtomicBool::new(number == 2));
        assert!(reader.ask(Request { link: link(number), number: Number(number), wanted, gone }));
    }
    for expected in [1, 3] {
        let (of, number, history) = told.recv().unwrap();
        assert_eq!((of, number), (link(expected), Number(expected)));
        assert!(history.is_last && history.from == Some(Zxid(15)));
    }
    drop(reader);
    assert!(told.recv().is_err());
}
