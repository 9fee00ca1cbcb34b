//! Bytes: Apache's recorded example, ours drawn by hand, and what comes back from a written log.

use super::*;
use crate::io::disk::RealDisk;

/// Recorded from a 3.9.5 server: createSession, zxid 1, timeout 10000.
const RECORDED: &str = "00000000cb400a36 00000030 \
    01000013b2df0000 00000000 0000000000000001 000001a1fa162b39 fffffff6 00002710 \
    00000002 0000000051c6d660 42";

fn bytes(hex: &str) -> Vec<u8> {
    let digits: Vec<u32> = hex.chars().filter_map(|digit| digit.to_digit(16)).collect();
    digits.chunks(2).map(|pair| (pair[0] << 4 | pair[1]) as u8).collect()
}

#[test]
fn a_record_of_apache_is_read() {
    let mut file = bytes("5a4b4c47 00000002 0000000000000000");
    file.extend(bytes(RECORDED));
    file.extend([0; 100]);
    assert_eq!(origin(&file), Ok(Origin::Apache));
    let At::Record(record) = record_at(&file, 16, Origin::Apache) else { panic!("no record") };
    assert_eq!(record.zxid, Zxid(1));
    assert_eq!(record.entry.len(), 48);
    assert_eq!(record_at(&file, record.next_bytes, Origin::Apache), At::End);
    // What every single flipped bit of it leads to: never the same record.
    let (good, end_bytes) = (record.entry.to_vec(), record.next_bytes);
    for bit in 16 * 8..end_bytes * 8 {
        file[bit as usize / 8] ^= 1 << (bit % 8);
        let found = record_at(&file, 16, Origin::Apache);
        assert!(!matches!(found, At::Record(found) if found.entry == good), "bit {bit}: {found:?}");
        file[bit as usize / 8] ^= 1 << (bit % 8);
    }
}

#[test]
fn our_record_is_apaches_with_a_trailer() {
    let id = FileId([1, 2, 3, 4]);
    let recorded = bytes(RECORDED);
    let entry = &recorded[12..recorded.len() - 1];
    let mut file = file_header(id).to_vec();
    put_record(&mut file, id, 16, true, entry);
    // Header, entry, trailer, end byte: what a Java reader sees is the same entry with 8 bytes behind it.
    assert_eq!(file[16 + 8..16 + 12], 56_u32.to_be_bytes());
    assert_eq!(&file[28..28 + 48], entry);
    assert_eq!(file[76..80], bytes("d64f5342"));
    let mut covered = vec![1, 2, 3, 4];
    covered.extend(16_u64.to_be_bytes());
    covered.extend(56_u32.to_be_bytes());
    covered.extend(&file[28..80]);
    assert_eq!(file[80..84], crc32c::crc32c(&covered).to_be_bytes());
    assert_eq!(file[84], 0x42);
    assert_eq!(file[16..24], u64::from(simd_adler32::adler32(&&file[28..84])).to_be_bytes());
    assert_eq!(file.len(), 85);
}

#[test]
fn what_is_written_is_replayed() {
    for method in [Method::Direct, Method::Mapped, Method::Pwrite] {
        let temp = tempfile::tempdir().unwrap();
        let disk: Arc<dyn Disk> = Arc::new(RealDisk);
        let mut log = writer(&disk, settings(temp.path(), method), Zxid(0)).unwrap();
        let batches = [batch(1, 1), batch(2, 40), batch(41, 900), batch(901, 901)];
        for batch in &batches {
            log.append(std::iter::once(batch)).unwrap();
            assert_eq!(log.last(), batch.last);
        }
        log.close().unwrap();
        let expected: Replayed = (1..=901)
            .zip(batches.iter().flat_map(Proposal::entries))
            .map(|(z, e)| (Zxid(z), e.to_vec()))
            .collect();
        for base in [0, 1, 40, 900, 901] {
            let (recovered, seen) = replay(&*disk, temp.path(), base).unwrap();
            assert_eq!(recovered.last, Zxid(901));
            assert_eq!(recovered.notes, Vec::<String>::new());
            assert!(seen == expected[base as usize..]);
        }
    }
}

#[test]
fn an_entry_larger_than_a_segment_gets_a_segment_of_its_own() {
    let temp = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let mut log = writer(&disk, settings(temp.path(), Method::Mapped), Zxid(0)).unwrap();
    let large = [proposal(&[entry(1, 10), entry(2, 200_000), entry(3, 10)]), proposal(&[entry(4, 70_000)])];
    log.append(large.iter()).unwrap();
    assert_eq!(names(&*disk, temp.path()), ["log.1", "log.2", "log.4"]);
    assert_eq!(replay(&*disk, temp.path(), 0).unwrap().1.len(), 4);
}

#[test]
fn a_limit_rolls() {
    let temp = tempfile::tempdir().unwrap();
    let disk: Arc<dyn Disk> = Arc::new(RealDisk);
    let settings = LogSettings { roll_bytes: Some(300), ..settings(temp.path(), Method::Mapped) };
    let mut log = writer(&disk, settings, Zxid(0)).unwrap();
    for zxid in 1..=10 {
        log.append(std::iter::once(&proposal(&[entry(zxid, 50)]))).unwrap();
    }
    assert_eq!(names(&*disk, temp.path()), ["log.1", "log.4", "log.7", "log.a"]);
    assert_eq!(replay(&*disk, temp.path(), 5).unwrap().1.len(), 5);
}
