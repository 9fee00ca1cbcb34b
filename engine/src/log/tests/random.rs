//! Any batches, any segment and roll sizes, either method: what was written comes back, from every base.

use super::*;
use crate::io::disk_sim::SimDisk;
use proptest::prelude::*;

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn anything_written_is_replayed(
        batches in prop::collection::vec(prop::collection::vec(0_usize..3000, 1..20), 1..20),
        roll_bytes in prop::option::of(500_u64..70_000),
        method in prop::sample::select(vec![Method::Direct, Method::Mapped, Method::Pwrite]),
        closes in prop::collection::vec(any::<bool>(), 20),
        base in any::<prop::sample::Index>(),
    ) {
        let dir = Path::new("/log");
        let disk = SimDisk::new();
        let shared: Arc<dyn Disk> = Arc::new(disk.clone());
        let settings = LogSettings { roll_bytes, ..settings(dir, method) };
        let mut zxid = 0;
        let mut expected = Vec::new();
        let mut log = writer(&shared, settings.clone(), Zxid(0)).unwrap();
        for (sizes, close) in batches.iter().zip(closes) {
            let entries: Vec<Vec<u8>> = sizes.iter().map(|bytes| { zxid += 1; entry(zxid, *bytes) }).collect();
            log.append(std::iter::once(&proposal(&entries))).unwrap();
            expected.extend(entries);
            if close {
                log.close().unwrap();
                log = writer(&shared, settings.clone(), Zxid(zxid)).unwrap();
            }
        }
        let base = base.index(expected.len() + 1);
        // Everything was synced: a power cut that loses all it can changes nothing.
        let left = disk.after_power_cut(&vec![0; disk.choices().len()]);
        let (recovered, seen) = replay(&left, dir, base as u64).unwrap();
        prop_assert_eq!(recovered.last, Zxid(zxid));
        prop_assert_eq!(recovered.cut, None);
        prop_assert!(seen.into_iter().map(|(_, bytes)| bytes).eq(expected.into_iter().skip(base)));
    }

    /// No bytes make reading panic, and no bytes make a start fail with anything but a reason.
    #[test]
    fn any_bytes_are_read_without_a_panic(
        mut bytes in prop::collection::vec(any::<u8>(), 0..400),
        ours in any::<bool>(),
        edits in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..6),
    ) {
        let id = FileId([1, 2, 3, 4]);
        let mut file = if ours { file_header(id).to_vec() } else { b"ZKLG\0\0\0\x02\0\0\0\0\0\0\0\0".to_vec() };
        for zxid in 1..4 {
            let at = file.len() as u64;
            put_record(&mut file, id, at, zxid != 2, &entry(zxid, 20));
        }
        file.append(&mut bytes);
        for (at, byte) in edits {
            let at = at.index(file.len());
            file[at] = byte;
        }
        let found = scan(&file).count();
        prop_assert!(found <= file.len());
        let disk = SimDisk::new();
        disk.put(Path::new("/log/log.1"), &file);
        if let Err(error) = replay(&disk, Path::new("/log"), 0) {
            prop_assert!(error.to_string().contains("/log/log.1"));
        }
    }
}
