//! Power cuts, kills and failing calls at every step of writing a snapshot and of purging.

use super::*;
use crate::io::disk::Disk;
use crate::io::disk_sim::SimDisk;
use crate::model::{Owner, WallMillis};
use std::path::Path;

const CUTS_PER_STEP: u64 = 8;

fn dir() -> &'static Path {
    Path::new("/d/version-2")
}

fn image(zxid: u64, znodes: u64) -> Image {
    let mut image = Image { zxid: Zxid(zxid), digest: Some(zxid), ..Image::initial() };
    let stat = StatPersisted::created(Zxid(zxid), WallMillis(1), Owner::Persistent);
    for n in 0..znodes {
        let data = Some(vec![(n * zxid) as u8; 1_000_000].into());
        image.nodes.push(ImageNode { path: format!("/{n}").into(), data, acl: OPEN_ACL_KEY, stat });
    }
    image
}

fn write(disk: &SimDisk, image: &Image) -> Result<Written, WriteError> {
    writer::write(disk, dir(), image, Compression::Plain, &mut |_| ControlFlow::Continue(()))
}

fn load(disk: &SimDisk) -> Loaded<Image> {
    let options = ReadOptions { ahead: false, ..ReadOptions::default() };
    load_newest(disk, dir(), options, |_| Image::default()).unwrap().expect("one snapshot was always there")
}

/// What is left by power cuts of every kind that a seed gives, and by a kill.
fn aftermaths(disk: &SimDisk, seed: u64, mut check: impl FnMut(&SimDisk, &str)) {
    check(&disk.after_kill(), "killed");
    let choices = disk.choices();
    check(&disk.after_power_cut(&vec![0; choices.len()]), "nothing unsynced survives");
    let all: Vec<usize> = choices.iter().map(|states| states - 1).collect();
    check(&disk.after_power_cut(&all), "everything unsynced survives");
    let mut random = seed;
    for cut in 0..CUTS_PER_STEP {
        let picks: Vec<usize> = choices
            .iter()
            .map(|states| {
                random =
                    random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (random >> 33) as usize % states
            })
            .collect();
        check(&disk.after_power_cut(&picks), &format!("seed {seed}, power cut {cut}"));
    }
}

#[test]
fn a_snapshot_is_there_whole_or_not_at_all_wherever_the_power_goes() {
    let (old, new) = (image(3, 1), image(7, 5));
    for step in 0.. {
        let disk = SimDisk::new();
        disk.create_dir(dir()).unwrap();
        write(&disk, &old).unwrap();
        disk.stop_at(disk.calls() + step);
        let written = write(&disk, &new);
        aftermaths(&disk, step, |left, how| {
            let loaded = load(left);
            assert!(
                loaded.skipped.is_empty(),
                "step {step}, {how}: a name was given to bytes that are not there"
            );
            let expected = if loaded.zxid == new.zxid { &new } else { &old };
            assert_eq!(loaded.zxid, expected.zxid);
            assert!(loaded.restored.nodes == expected.nodes, "step {step}, {how}");
            assert!(
                written.is_err() || loaded.zxid == new.zxid,
                "step {step}, {how}: told written, and gone"
            );
            remove_leftovers(left, dir()).unwrap();
            let names = left.list(dir()).unwrap();
            assert!(names.iter().all(|file| file.name.starts_with("snapshot.")), "{names:?}");
        });
        if written.is_ok() {
            assert!(step > 6, "only {step} steps: the snapshot was meant to take several portions");
            return;
        }
    }
}

#[test]
fn a_failing_call_is_an_error_and_the_old_snapshot_stays() {
    let (old, new) = (image(3, 1), image(7, 5));
    for errno in [libc::EIO, libc::ENOSPC] {
        for call in 0.. {
            let disk = SimDisk::new();
            disk.create_dir(dir()).unwrap();
            write(&disk, &old).unwrap();
            disk.fail_at(disk.calls() + call, errno);
            if write(&disk, &new).is_ok() {
                assert!(call > 6);
                break;
            }
            assert_ne!(load(&disk).restored.nodes.len(), 0);
            // Tried again it succeeds.
            write(&disk, &new).unwrap();
            assert_eq!(load(&disk).zxid, new.zxid, "errno {errno} at call {call}");
        }
    }
}

#[test]
fn a_full_disk_fails_the_snapshot_and_keeps_nothing_of_it() {
    let disk = SimDisk::new();
    disk.create_dir(dir()).unwrap();
    write(&disk, &image(3, 1)).unwrap();
    let used = disk.used_bytes();
    disk.set_capacity(Some(used + 3_000_000));
    assert!(matches!(write(&disk, &image(7, 5)), Err(WriteError::Io { .. })));
    assert_eq!(disk.used_bytes(), used);
    assert_eq!(load(&disk).zxid, Zxid(3));
}

/// Snapshots 10, 20, .. 60 and logs 1, 11, .. 61, each reaching to where the next begins.
fn furnished() -> SimDisk {
    let disk = SimDisk::new();
    for n in 0..=6 {
        disk.put(&dir().join(format!("log.{:x}", n * 16 + 1)), b"ZKLG");
    }
    for n in 1..=6 {
        disk.put(&dir().join(format!("snapshot.{:x}", n * 16)), b"........\0\0\0\x01/");
    }
    disk
}

#[test]
fn purging_leaves_every_snapshot_with_the_log_behind_it_wherever_the_power_goes() {
    for step in 0.. {
        let disk = furnished();
        disk.stop_at(disk.calls() + step);
        let purged = purge(&disk, dir(), dir(), 3);
        aftermaths(&disk, step, |left, how| {
            let names: Vec<String> = left.list(dir()).unwrap().into_iter().map(|file| file.name).collect();
            let zxids = |prefix| names.iter().filter_map(move |name| names::zxid_in_name(name, prefix));
            let oldest = zxids(names::SNAPSHOT_PREFIX).min().unwrap();
            for log in (0..=6).map(|n| Zxid(n * 16 + 1)).filter(|log| log.0 + 16 > oldest.0) {
                let there = zxids(names::LOG_PREFIX).any(|zxid| zxid == log);
                assert!(there, "step {step}, {how}: snapshot {oldest} lacks log {log}: {names:?}");
            }
            assert!(zxids(names::SNAPSHOT_PREFIX).count() >= 3, "step {step}, {how}");
            if purged.is_ok() {
                assert_eq!(names.len(), 3 + 4, "{names:?}");
            }
        });
        if purged.is_ok() {
            return;
        }
    }
}
