//! Damaged and torn logs: every prefix, every flipped bit, Apache's files with their oddities.

use super::*;
use crate::io::disk_sim::SimDisk;

fn dir() -> &'static Path {
    Path::new("/data/version-2")
}

/// Three files; the last ends with the batches 21..=24 and 25..=28.
fn recorded(mark: bool) -> SimDisk {
    let disk = SimDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut log = writer(&shared, settings(dir(), Method::Mapped), Zxid(0)).unwrap();
    for (from, to) in [(1, 1), (2, 5), (6, 6), (7, 12), (13, 16), (17, 17), (18, 20), (21, 24), (25, 28)] {
        log.append(std::iter::once(&batch(from, to))).unwrap();
        if to == 5 || to == 16 {
            log.roll().unwrap();
        }
    }
    if mark {
        log.write_mark().unwrap();
    }
    disk.copy()
}

fn used_bytes(file: &[u8]) -> usize {
    file.len() - file.iter().rev().take_while(|byte| **byte == 0).count()
}

fn whole(zxid: u64) -> Vec<u8> {
    entry(zxid, 10 + (zxid as usize * 37) % 90)
}

/// What a start makes of it: `Ok(last)` with every record checked, or the error.
fn start(disk: &SimDisk) -> Result<u64, RecoverError> {
    alike(disk, 0, None);
    let (recovered, seen) = replay(disk, dir(), 0)?;
    for (at, (zxid, bytes)) in seen.iter().enumerate() {
        assert_eq!((zxid.0, bytes), (at as u64 + 1, &whole(at as u64 + 1)), "a record came back changed");
    }
    assert_eq!(seen.len() as u64, recovered.last.0);
    Ok(recovered.last.0)
}

/// However the log is read back, it gives the same records, verdicts, notes and repairs; says which.
fn alike(disk: &SimDisk, base: u64, refused: Option<Zxid>) -> String {
    let outcome = |reading| {
        let disk = disk.copy();
        let replayed = replay_by(reading, &disk, dir(), base, refused);
        let files = log_files(&disk, dir()).unwrap();
        let files = files.iter().map(|file| (file.path.clone(), disk.read(&file.path).unwrap()));
        (format!("{replayed:?}"), files.collect::<Vec<_>>())
    };
    let single = outcome(Reading::Single);
    for reading in [Reading::Groups, Reading::Ahead] {
        let other = outcome(reading);
        assert_eq!(other.0, single.0, "{reading:?}");
        assert!(other.1 == single.1, "{reading:?} leaves other files");
    }
    single.0
}

#[test]
fn an_entry_that_is_refused_stops_the_replay_there_and_nothing_is_repaired() {
    let torn = recorded(false);
    let last = log_files(&torn, dir()).unwrap().pop().unwrap();
    let used = used_bytes(&torn.read(&last.path).unwrap());
    torn.edit(&last.path, |file| file[used - 4..].fill(0));
    let damaged = torn.copy();
    damaged.flip(&log_files(&torn, dir()).unwrap()[1].path, 8 * 300);
    for disk in [&torn, &damaged] {
        for refused in 1..=30 {
            for base in [0, 3, 16, 27] {
                let outcome = alike(disk, base, Some(Zxid(refused)));
                if (base + 1..=7).contains(&refused) {
                    assert!(outcome.starts_with("Err(Refused"), "{outcome}");
                }
            }
        }
    }
    let before = torn.read(&last.path).unwrap();
    assert!(replay_by(Reading::Ahead, &torn, dir(), 0, Some(Zxid(1))).is_err());
    assert_eq!(torn.read(&last.path).unwrap(), before);
}

#[test]
fn every_flipped_bit_is_detected_or_changes_nothing() {
    for mark in [true, false] {
        let disk = recorded(mark);
        assert_eq!(start(&disk.copy()).unwrap(), 28);
        for file in log_files(&disk, dir()).unwrap() {
            let used = used_bytes(&disk.read(&file.path).unwrap()) as u64 * 8;
            let zeros = (used..file.bytes * 8).step_by(5003);
            for bit in (0..used).chain(zeros) {
                let damaged = disk.copy();
                damaged.flip(&file.path, bit);
                match start(&damaged) {
                    Ok(28) => {}
                    // Without the mark nothing tells a damaged last batch from a torn one.
                    Ok(last @ 24..28) if !mark => assert_eq!(file.first, Zxid(17), "lost {last}.. bit {bit}"),
                    Ok(last) => panic!("bit {bit} of {} silently lost {last}..", file.path.display()),
                    Err(RecoverError::Corrupt { segment, offset_bytes, last_good, .. }) => {
                        assert_eq!(segment, file.path);
                        // A wrong id in the file header shows at the first record.
                        assert!(offset_bytes <= (bit / 8).max(16), "bit {bit} blamed on {offset_bytes}");
                        assert!(last_good < Zxid(28));
                    }
                    Err(error) => panic!("bit {bit} of {}: {error}", file.path.display()),
                }
            }
        }
    }
}

#[test]
fn every_torn_prefix_is_cut_and_every_impossible_one_refused() {
    let disk = recorded(false);
    let last = log_files(&disk, dir()).unwrap().pop().unwrap();
    let bytes = disk.read(&last.path).unwrap();
    let ends: Vec<(u64, u64)> = scan(&bytes)
        .map(|found| match found {
            Found::Record(record) => (record.zxid.0, record.next_bytes),
            other => panic!("{other:?}"),
        })
        .collect();
    let first_end = ends[0].1 as usize;
    for zeros_behind in [true, false] {
        for prefix in 0..=used_bytes(&bytes) {
            let torn = disk.copy();
            torn.edit(&last.path, |file| {
                file.truncate(prefix);
                if zeros_behind {
                    file.resize(bytes.len(), 0);
                }
            });
            let expected = ends.iter().filter(|(_, end)| *end <= prefix as u64).map(|(z, _)| *z).max();
            let outcome = start(&torn);
            match outcome {
                Ok(last) => assert_eq!(last, expected.unwrap_or(16), "prefix {prefix}"),
                // A file of ours has its name only once its first batch is on disk.
                Err(RecoverError::Corrupt { ref segment, .. }) => {
                    assert!(prefix < first_end && *segment == log_files(&disk, dir()).unwrap()[2].path)
                }
                Err(error) => panic!("prefix {prefix}: {error}"),
            }
            // A second start finds nothing left to say.
            if let Ok((recovered, _)) = replay(&torn, dir(), 0) {
                assert_eq!(recovered.cut, None);
                assert_eq!(recovered.notes, Vec::<String>::new());
            }
        }
    }
}

#[test]
fn a_torn_batch_without_its_first_record_is_no_proof() {
    let disk = recorded(false);
    let last = log_files(&disk, dir()).unwrap().pop().unwrap();
    let bytes = disk.read(&last.path).unwrap();
    let offset = |wanted: u64| {
        scan(&bytes)
            .find_map(|found| match found {
                Found::Record(record) if record.zxid.0 == wanted => Some(record.offset_bytes as usize),
                _ => None,
            })
            .unwrap()
    };
    let cases = [(25, Some(24)), (26, Some(25)), (27, Some(26)), (24, None), (21, None), (17, None)];
    for (gone, expected) in cases {
        let torn = disk.copy();
        torn.edit(&last.path, |file| file[offset(gone)..offset(gone) + 40].fill(0));
        assert_eq!(start(&torn).ok(), expected, "without {gone}");
    }
}

#[test]
fn a_missing_file_is_a_gap() {
    let disk = recorded(true);
    let files = log_files(&disk, dir()).unwrap();
    for missing in [0, 1] {
        let lacking = disk.copy();
        lacking.unlink(&files[missing].path).unwrap();
        let error = replay(&lacking, dir(), 0).map(|_| ()).unwrap_err();
        assert!(matches!(error, RecoverError::Gap { .. }), "{error}");
    }
    let lacking = disk.copy();
    lacking.unlink(&files[2].path).unwrap();
    let (recovered, _) = replay(&lacking, dir(), 0).unwrap();
    assert_eq!(recovered.last, Zxid(16));
    assert!(recovered.notes[0].contains("had been synced up to 0x1c in log.11"), "{:?}", recovered.notes);
}

#[test]
fn a_last_file_of_zeros_is_damage_when_the_mark_says_so() {
    for (mark, cut) in [(true, false), (false, false), (true, true)] {
        let disk = recorded(mark);
        let last = log_files(&disk, dir()).unwrap().pop().unwrap();
        // Shorter than its mark it was cut on purpose.
        disk.edit(&last.path, |file| if cut { file.clear() } else { file.fill(0) });
        match replay(&disk, dir(), 0) {
            Ok((recovered, _)) => assert!(recovered.last == Zxid(16) && (!mark || cut)),
            Err(RecoverError::Corrupt { segment, offset_bytes: 0, last_good: Zxid(16), .. }) => {
                assert!(mark && !cut && segment == last.path);
            }
            Err(error) => panic!("{error}"),
        }
    }
}

#[test]
fn damage_that_the_snapshot_covers_does_not_keep_from_starting() {
    let disk = recorded(true);
    let middle = log_files(&disk, dir()).unwrap().remove(1);
    let damaged = disk.copy();
    damaged.flip(&middle.path, 60 * 8);
    assert!(matches!(replay(&damaged, dir(), 5), Err(RecoverError::Corrupt { .. })));
    let (recovered, seen) = replay(&damaged, dir(), 10).unwrap();
    assert_eq!((recovered.last, seen.len()), (Zxid(28), 18));
    assert!(recovered.notes[0].contains("the snapshot at 0xa holds those txns"), "{:?}", recovered.notes);
}

/// An Apache file: header, records, padding.
fn apache(entries: &[Vec<u8>], padding: usize) -> Vec<u8> {
    let mut file = b"ZKLG\0\0\0\x02\0\0\0\0\0\0\0\0".to_vec();
    for entry in entries {
        file.extend(u64::from(simd_adler32::adler32(&&entry[..])).to_be_bytes());
        file.extend((entry.len() as u32).to_be_bytes());
        file.extend(entry);
        file.push(b'B');
    }
    file.resize(file.len() + padding, 0);
    file
}

fn tiny(zxids: impl IntoIterator<Item = u64>) -> Vec<Vec<u8>> {
    zxids.into_iter().map(|zxid| entry(zxid, 20)).collect()
}

/// Files by name, the base; what a start says in one line, and the names left.
fn check(files: &[(&str, Vec<u8>)], base: u64, expected: &str) {
    let disk = SimDisk::new();
    for (name, bytes) in files {
        disk.put(&dir().join(name), bytes);
    }
    let got = match replay(&disk, dir(), base) {
        Ok((recovered, seen)) => {
            format!("{:x} after {} in {}", recovered.last.0, seen.len(), names(&disk, dir()).join(" "))
        }
        Err(RecoverError::Corrupt { segment, offset_bytes, last_good, .. }) => {
            format!(
                "corrupt {} {offset_bytes} after {:x}",
                segment.file_name().unwrap().to_string_lossy(),
                last_good.0
            )
        }
        Err(RecoverError::Gap { segment, last_good, found, .. }) => {
            format!("gap {} {:x} {:x}", segment.file_name().unwrap().to_string_lossy(), last_good.0, found.0)
        }
        Err(error) => error.to_string(),
    };
    assert_eq!(got, expected);
}

#[test]
fn files_of_apache_are_read_by_its_rules_made_safe() {
    let one = || apache(&tiny(1..=3), 100);
    check(&[("log.1", one())], 0, "3 after 3 in log.1");
    check(&[("log.1", one()), ("log.4", apache(&tiny(4..=5), 0))], 0, "5 after 5 in log.1 log.4");
    // A new epoch begins at 1; a hole there, or within, is one.
    check(
        &[("log.1", apache(&[tiny([1, 2]), tiny([0x1_0000_0001])].concat(), 9))],
        0,
        "100000001 after 3 in log.1",
    );
    check(&[("log.1", apache(&tiny([1, 2, 0x1_0000_0003]), 9))], 0, "gap log.1 2 100000003");
    check(&[("log.1", apache(&tiny([1, 2, 4]), 9))], 0, "gap log.1 2 4");
    // The counter's wrap, ours and Apache's.
    check(&[("log.ffffffff", apache(&tiny([0xffff_ffff, 0x1_0000_0001]), 9))], 0xffff_fffe, {
        "100000001 after 2 in log.ffffffff"
    });
    check(&[("log.ffffffff", apache(&tiny([0xffff_ffff, 0x1_0000_0000]), 9))], 0xffff_fffe, {
        "100000000 after 2 in log.ffffffff"
    });
    // The same zxid twice only for its -5.
    let twice = [tiny([1, 2]), vec![undecodable(2)], tiny([3])].concat();
    check(&[("log.1", apache(&twice, 9))], 0, "3 after 4 in log.1");
    check(&[("log.1", apache(&tiny([1, 2, 2, 3]), 9))], 0, "gap log.1 2 2");
    // ... which may begin a file: the txn of that zxid stands in the one before, and a snapshot may lack it.
    let begins = || apache(&[vec![undecodable(3)], tiny([4])].concat(), 9);
    for base in 0..5 {
        let expected = format!("4 after {} in log.1 log.3", [5, 4, 3, 1, 0][base as usize]);
        check(&[("log.1", one()), ("log.3", begins())], base, &expected);
    }
    check(&[("log.3", begins())], 2, "4 after 2 in log.3");
    // A copy beside a log is left alone; alone it is a log.
    check(
        &[("log.1", one()), ("log.1.bak", one()), ("log.4", apache(&tiny(4..=5), 0))],
        0,
        "5 after 5 in log.1 log.4",
    );
    check(&[("log.1.bak", one()), ("log.4", apache(&tiny(4..=5), 0))], 0, "5 after 5 in log.1.bak log.4");
    // Files before the base are not read.
    check(&[("log.1", vec![7; 50]), ("log.4", apache(&tiny(4..=9), 0))], 5, "9 after 4 in log.1 log.4");
    check(&[("log.5", apache(&tiny(5..=9), 0))], 2, "gap log.5 2 5");
    check(&[], 5, "5 after 0 in ");
}

#[test]
fn a_file_with_a_name_that_the_log_will_want_gets_that_of_its_first_record() {
    let (one, three) = (|| apache(&tiny(1..=2), 9), || apache(&tiny([3]), 9));
    check(&[("log.1", one()), ("log.4", three())], 0, "3 after 3 in log.1 log.3");
    check(&[("log.1", one()), ("log.4", three())], 3, "3 after 0 in log.1 log.3");
    check(&[("log.1", one()), ("log.400", three())], 0, "3 after 3 in log.1 log.3");
    check(&[("log.9", one()), ("log.a", three())], 0, "3 after 3 in log.1 log.3");
    check(&[("log.1", one()), ("log.4.old", three())], 0, "3 after 3 in log.1 log.3");
    // Torn as well.
    let mut torn = apache(&tiny(3..=4), 0);
    torn.truncate(torn.len() - 3);
    check(&[("log.1", one()), ("log.5", torn)], 0, "3 after 3 in log.1 log.3");
    // Not where another file has that name.
    let told = |files: &[(&str, Vec<u8>)], base: u64, expected: &str| {
        let disk = SimDisk::new();
        files.iter().for_each(|(name, bytes)| disk.put(&dir().join(name), bytes));
        let error = replay(&disk, dir(), base).unwrap_err().to_string();
        assert!(error.starts_with(&format!("log /data/version-2/{expected} is in the way of")), "{error}");
    };
    told(&[("log.1", one()), ("log.7", one())], 5, "log.7");
}

#[test]
fn what_is_no_file_is_in_the_way_too() {
    let temp = tempfile::tempdir().unwrap();
    std::fs::write(temp.path().join("log.1"), apache(&tiny(1..=2), 9)).unwrap();
    std::fs::create_dir(temp.path().join("log.3")).unwrap();
    let error = replay(&crate::io::disk::RealDisk, temp.path(), 0).unwrap_err().to_string();
    assert!(error.contains("log.3 is no log file, and in the way"), "{error}");
}

#[test]
fn the_log_goes_on_where_a_file_had_the_next_name() {
    let disk = SimDisk::new();
    disk.put(&dir().join("log.1"), &apache(&tiny(1..=2), 9));
    disk.put(&dir().join("log.4"), &apache(&tiny([3]), 9));
    let (recovered, _) = replay(&disk, dir(), 0).unwrap();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut log = writer(&shared, settings(dir(), Method::Mapped), recovered.last).unwrap();
    log.append(std::iter::once(&batch(4, 5))).unwrap();
    assert_eq!(replay(&disk, dir(), 0).unwrap().0.last, Zxid(5));
}

#[test]
fn torn_files_of_apache_are_cut() {
    let three = apache(&tiny(1..=3), 0);
    let record = 12 + 52 + 1;
    // The last record cut anywhere, with padding or without.
    for keep in 1..record {
        let mut torn = three[..three.len() - record + keep].to_vec();
        check(&[("log.1", torn.clone())], 0, "2 after 2 in log.1");
        torn.resize(4096, 0);
        check(&[("log.1", torn)], 0, "2 after 2 in log.1");
    }
    // Left behind by Apache and followed by a file that goes on: no problem. By one that does not: damage.
    let torn = three[..three.len() - 5].to_vec();
    check(&[("log.1", torn.clone()), ("log.3", apache(&tiny(3..=4), 0))], 0, "4 after 4 in log.1 log.3");
    check(&[("log.1", torn.clone()), ("log.4", apache(&tiny(4..=4), 0))], 0, "corrupt log.1 146 after 2");
    // A bad record with a good one behind it.
    let mut bad = apache(&tiny(1..=3), 100);
    bad[16 + record + 30] ^= 1;
    check(&[("log.1", bad)], 0, "corrupt log.1 81 after 1");
    // Files that never held anything: at the end they go, in the middle they stay.
    check(&[("log.1", apache(&tiny(1..=3), 0)), ("log.4", vec![])], 0, "3 after 3 in log.1");
    check(&[("log.1", apache(&tiny(1..=3), 0)), ("log.4", vec![0; 9000])], 0, "3 after 3 in log.1");
    check(&[("log.1", apache(&tiny(1..=3), 0)), ("log.4", apache(&[], 50))], 0, "3 after 3 in log.1");
    check(
        &[
            ("log.1", apache(&tiny(1..=3), 0)),
            ("log.4", b"ZKLG".to_vec()),
            ("log.4.x", apache(&tiny([4]), 0)),
        ],
        0,
        "4 after 4 in log.1 log.4 log.4.x",
    );
    check(&[("log.1", vec![])], 0, "0 after 0 in ");
    // A header that is neither's.
    check(&[("log.1", b"ZKSN\0\0\0\x02\0\0\0\0\0\0\0\0".to_vec())], 0, "corrupt log.1 0 after 0");
    check(&[("log.1", b"ZKLG\0\0\0\x02\0\0\0\0\0\0\0\x01".to_vec())], 0, "corrupt log.1 0 after 0");
}

#[test]
fn an_apache_entry_that_ends_like_our_trailer_is_apaches() {
    let mut entries = tiny(1..=3);
    for entry in &mut entries {
        entry.extend([0xd6, b'O', b'S', b'B', 1, 2, 3, 4]);
    }
    check(&[("log.1", apache(&entries, 99))], 0, "3 after 3 in log.1");
}

#[test]
fn a_scan_shows_what_is_behind_a_problem() {
    let disk = recorded(false);
    let file = log_files(&disk, dir()).unwrap().remove(1);
    let good = disk.read(&file.path).unwrap();
    let records: Vec<Record<'_>> = scan(&good)
        .map(|found| match found {
            Found::Record(record) => record,
            other => panic!("{other:?}"),
        })
        .collect();
    assert_eq!(records.iter().map(|record| record.zxid.0).collect::<Vec<_>>(), (6..=16).collect::<Vec<_>>());
    assert!(records[0].begins_batch && records[1].begins_batch && !records[2].begins_batch);
    let mut bad = good.clone();
    let third = records[2].offset_bytes as usize;
    bad[third + 20] ^= 4;
    let found: Vec<Found<'_>> = scan(&bad).collect();
    assert_eq!(found.len(), records.len());
    assert_eq!(
        found[2],
        Found::Problem {
            offset_bytes: third as u64,
            problem: Problem::TrailerChecksum,
            resumes_bytes: Some(records[3].offset_bytes)
        }
    );
    // A length that leads anywhere, and a record turned to zeros, are passed in the same way.
    for length in [0_u32, 1, 60, 0x7fff_ffff, 0xffff_ffff] {
        let mut bad = good.clone();
        bad[third + 8..third + 12].copy_from_slice(&length.to_be_bytes());
        assert_eq!(scan(&bad).count(), records.len(), "length {length}");
    }
    assert_eq!(scan(&[]).count(), 1);
    assert_eq!(scan(&good[..16]).count(), 0);
}
