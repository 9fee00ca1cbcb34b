//! Which zxids may follow each other, in what is handed to the log and in what is read back.

use super::*;
use crate::io::disk_sim::SimDisk;

fn dir() -> &'static Path {
    Path::new("/data/version-2")
}

/// What is read back of these groups, each a list of entries.
fn logged(groups: &[&[Vec<u8>]]) -> Vec<u64> {
    let disk = SimDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut log = writer(&shared, settings(dir(), Method::Mapped), Zxid(0)).unwrap();
    for group in groups {
        log.append(std::iter::once(&proposal(group))).unwrap();
        log.roll().unwrap();
    }
    let (_, seen) = replay(&disk, dir(), 0).unwrap();
    seen.into_iter().map(|(zxid, _)| zxid.0).collect()
}

#[test]
fn a_zxid_that_an_apache_leader_used_twice_is_logged_once() {
    let plain = |zxid| entry(zxid, 20);
    assert_eq!(logged(&[&[plain(1), plain(2), undecodable(2), undecodable(2), plain(3)]]), [1, 2, 3]);
    // At the end of a group, alone, and where a new file begins.
    assert_eq!(
        logged(&[&[plain(1), undecodable(1)], &[undecodable(1)], &[undecodable(1), plain(2)]]),
        [1, 2]
    );
    let large = || entry(2, 40 << 10);
    assert_eq!(
        logged(&[&[plain(1), large(), undecodable(2), entry(3, 40 << 10)], &[undecodable(3)]]),
        [1, 2, 3]
    );
}

#[test]
#[should_panic(expected = "log out of order")]
fn a_hole_is_never_logged() {
    logged(&[&[entry(1, 20), entry(3, 20)]]);
}

#[test]
#[should_panic(expected = "log out of order")]
fn a_hole_between_two_groups_is_never_logged() {
    logged(&[&[entry(1, 20)], &[entry(3, 20)]]);
}

const EPOCH: u64 = 1 << 32;

/// Txns 1 to 3, the last in a file of its own, then two epochs.
fn three_epochs(sync: bool) -> SimDisk {
    let disk = SimDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let settings = LogSettings { sync, ..settings(dir(), Method::Mapped) };
    let mut log = writer(&shared, settings, Zxid(0)).unwrap();
    log.append(std::iter::once(&batch(1, 2))).unwrap();
    log.roll().unwrap();
    let group = [batch(3, 3), batch(EPOCH + 1, EPOCH + 2), batch(3 * EPOCH + 1, 3 * EPOCH + 4)];
    // One of one epoch and one of the next in one group, as when a new leader brings up to date.
    log.append(group.iter()).unwrap();
    disk
}

#[test]
fn an_epoch_begins_a_file_and_knows_behind_what() {
    for sync in [true, false] {
        let disk = three_epochs(sync);
        let files = ["log.1", "log.3", "log.100000001", "log.300000001"];
        assert_eq!(names(&disk, dir()), files);
        let (recovered, seen) = replay(&disk.copy(), dir(), 0).unwrap();
        assert_eq!((recovered.last, seen.len()), (Zxid(3 * EPOCH + 4), 9));
        // The end of an epoch, or a whole one, is missing.
        for (gone, last_good) in [("log.3", 2), ("log.100000001", 3)] {
            let disk = disk.copy();
            disk.unlink(&dir().join(gone)).unwrap();
            match replay(&disk, dir(), 0) {
                Err(RecoverError::Gap { last_good: last, .. }) => assert_eq!(last, Zxid(last_good)),
                other => panic!("without {gone}: {other:?}"),
            }
        }
        // From a snapshot at the end of an epoch, and from one in the middle of the next.
        for (base, records) in [(3, 6), (EPOCH + 2, 4), (EPOCH + 1, 5)] {
            assert_eq!(replay(&disk.copy(), dir(), base).unwrap().1.len(), records);
        }
        assert!(matches!(replay(&disk.copy(), dir(), 4), Err(RecoverError::Gap { .. })));
    }
}

#[test]
fn the_first_txn_behind_an_ensembles_snapshot_opens_no_epoch() {
    let disk = SimDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut log = writer(&shared, settings(dir(), Method::Mapped), Zxid(EPOCH)).unwrap();
    log.append(std::iter::once(&batch(EPOCH + 1, EPOCH + 2))).unwrap();
    assert_eq!(replay(&disk, dir(), EPOCH).unwrap().1.len(), 2);
}

#[test]
fn what_an_apache_leader_could_not_decode_may_open_an_epoch() {
    assert_eq!(logged(&[&[entry(1, 20), undecodable(EPOCH), entry(EPOCH + 1, 20)]]), [1, EPOCH, EPOCH + 1]);
}
