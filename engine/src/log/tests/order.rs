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
