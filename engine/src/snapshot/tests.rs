//! Whole files: golden bytes, round trips, every kind of damage, which file is chosen.

use super::writer::PORTION_BYTES;
use super::*;
use crate::io::disk::{
    Contents as FileContents, DirectFile, Disk, DiskFile, Listed, Mapping, Open, RealDisk,
};
use crate::model::{Owner, WallMillis};
use proptest::prelude::*;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

const COMPRESSIONS: [Compression; 3] = [Compression::Plain, Compression::Gzip, Compression::Snappy];
/// Apache's tree digest of the empty tree.
const EMPTY_TREE_DIGEST: u64 = 0x51c6_d660;

fn keep_going(_: Progress) -> ControlFlow<()> {
    ControlFlow::Continue(())
}

fn write(dir: &Path, image: &Image, compression: Compression) -> PathBuf {
    writer::write(&RealDisk, dir, image, compression, &mut keep_going).unwrap().path
}

/// The plain bytes of a file: with the footer, or as a stream without it.
fn bytes_of(image: &Image, footer: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    encode::encode(image, footer, &mut |piece| {
        bytes.extend_from_slice(piece);
        Ok::<(), ()>(())
    })
    .unwrap();
    bytes
}

fn parse(bytes: &[u8]) -> Result<(Image, Contents), SnapshotError> {
    let mut image = Image::default();
    let contents = reader::read_stream(Path::new("bytes"), bytes, ReadOptions::default(), &mut image)?;
    Ok((image, contents))
}

fn small() -> Image {
    let mut image = Image::initial();
    image.zxid = Zxid(0x1_0000_0007);
    image.digest = Some(0xfeed_0000_0000_0001);
    image.sessions = vec![(SessionId(0x100_0000_0000_0001), 30_000), (SessionId(-2), 4_000)];
    let stat = StatPersisted {
        czxid: Zxid(3),
        mzxid: Zxid(4),
        ctime: WallMillis(5),
        mtime: WallMillis(6),
        version: 7,
        cversion: 8,
        aversion: 9,
        owner: Owner::Ephemeral(SessionId(0x100_0000_0000_0001)),
        pzxid: Zxid(10),
    };
    image.nodes.push(ImageNode { path: "/ä".into(), data: None, acl: 1, stat });
    let ttl = StatPersisted { owner: Owner::Ttl(60_000), ..stat };
    image.nodes.push(ImageNode { path: "/t".into(), data: Some(b"data"[..].into()), acl: -1, stat: ttl });
    image
}

/// Reads back everything that was written, by every codec, ahead and not.
fn check_round_trip(image: &Image) {
    let dir = tempfile::tempdir().unwrap();
    for compression in COMPRESSIONS {
        let path = write(dir.path(), image, compression);
        for ahead in [true, false] {
            let mut back = Image { zxid: image.zxid, digest: image.digest, ..Image::default() };
            let options = ReadOptions { ahead, ..ReadOptions::default() };
            let contents = reader::read(&RealDisk, &path, options, &mut back).unwrap();
            assert!(back == *image, "{compression:?}");
            assert!(contents.footer);
            assert_eq!(contents.nodes, image.nodes.len() as u64);
            assert_eq!(contents.last_zxid, Some(image.zxid));
            let recorded = image.digest.filter(|_| image.zxid.0 != 0);
            let digest = contents.digest.unwrap();
            assert_eq!(digest.value, recorded.unwrap_or(0));
            assert_eq!(digest.zxid, recorded.map_or(Zxid::ZERO, |_| image.zxid));
        }
    }
    assert_eq!(names_in(dir.path()).len(), COMPRESSIONS.len(), "no partial file is left");
}

/// `snapshot.0` of a standalone Apache 3.9.5 server started on an empty directory.
#[test]
fn the_initial_snapshot_is_apaches_to_the_byte() {
    let golden = include_bytes!("initial.golden");
    assert_eq!(golden.len(), 478);
    assert_eq!(bytes_of(&Image::initial(), false), golden);
    // The digest of the empty tree is known, but not recorded before the first txn.
    let with_digest = Image { digest: Some(EMPTY_TREE_DIGEST), ..Image::initial() };
    assert_eq!(bytes_of(&with_digest, false), golden);
    let (image, contents) = parse(golden).unwrap();
    assert_eq!(image, Image::initial());
    assert_eq!(contents.digest, Some(DigestSection { zxid: Zxid::ZERO, version: 2, value: 0 }));
    assert!(!contents.footer);
}

#[test]
fn the_footer_stands_behind_apaches_bytes_and_ends_like_a_seal() {
    let (plain, ours) = (bytes_of(&small(), false), bytes_of(&small(), true));
    assert_eq!(ours[..plain.len()], plain);
    let footer = &ours[plain.len()..];
    assert_eq!(footer.len(), 25);
    assert_eq!(footer[..8], [0xd6, 0x4f, 0x53, 0x54, 0, 0, 0, 0]);
    assert_eq!(footer[8..12], crc32c::crc32c(&plain).to_be_bytes());
    assert_eq!(footer[12..20], (plain.len() as u64).to_be_bytes());
    assert_eq!(footer[20..], *b"\0\0\0\x01/");
}

#[test]
fn small_and_large_states_come_back() {
    check_round_trip(&Image::initial());
    check_round_trip(&small());
    let mut large = small();
    let template = large.nodes[5].clone();
    for n in 0..40_000 {
        let data = vec![n as u8; 40 + n % 300].into();
        large.nodes.push(ImageNode { path: format!("/t/{n}").into(), data: Some(data), ..template.clone() });
    }
    large.nodes.push(ImageNode { path: "/big".into(), data: Some(vec![1; 2_000_000].into()), ..template });
    check_round_trip(&large);
}

#[test]
fn every_cut_is_detected_or_leaves_a_whole_snapshot_of_apaches() {
    let image = small();
    let bytes = bytes_of(&image, true);
    let seals = bytes.len() - 25;
    // After each seal Apache's older versions end their files: the state in them is whole.
    let whole = [seals, seals - 21, seals - 54];
    for cut in 0..bytes.len() {
        match parse(&bytes[..cut]) {
            Ok((back, contents)) => {
                assert!(whole.contains(&cut), "cut at {cut}");
                assert_eq!((back.nodes, contents.footer), (image.nodes.clone(), false));
            }
            Err(SnapshotError::Damaged { offset_bytes, .. }) => assert!(offset_bytes <= cut as u64),
            Err(other) => panic!("{other}"),
        }
    }
    // Without the digest section, with the last zxid: a switch of Apache's.
    let mut bare = bytes[..seals - 54].to_vec();
    let mut checks = encode::Checks::new();
    bare.extend(image.zxid.0.to_be_bytes());
    checks.add(&bare);
    bare.extend(u64::from(checks.adler.finish()).to_be_bytes());
    bare.extend(encode::SLASH);
    let (_, contents) = parse(&bare).unwrap();
    assert_eq!((contents.last_zxid, contents.digest), (Some(image.zxid), None));
}

#[test]
fn every_flipped_bit_is_detected() {
    for footer in [true, false] {
        let bytes = bytes_of(&small(), footer);
        for bit in 0..bytes.len() * 8 {
            // Apache writes and ignores the dbid; the seals cover it like everything else.
            let mut flipped = bytes.clone();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(
                matches!(parse(&flipped), Err(SnapshotError::Damaged { .. })),
                "bit {bit} of byte {}",
                bit / 8
            );
        }
    }
}

#[test]
fn bytes_behind_the_last_section_are_damage() {
    for footer in [true, false] {
        for extra in [1, 20, 21, 25, 33, 79, 200, 5000] {
            let mut bytes = bytes_of(&small(), footer);
            bytes.extend(vec![0; extra]);
            assert!(parse(&bytes).is_err(), "{extra} more");
        }
    }
}

#[test]
fn a_footer_behind_missing_sections_is_refused() {
    let image = small();
    let plain = bytes_of(&image, false);
    for sections in [plain.len() - 54, plain.len() - 21] {
        let mut bytes = plain[..sections].to_vec();
        let mut checks = encode::Checks::new();
        checks.add(&bytes);
        bytes.extend([0xd6, b'O', b'S', b'T', 0, 0, 0, 0]);
        bytes.extend(checks.crc.to_be_bytes());
        bytes.extend((sections as u64).to_be_bytes());
        bytes.extend(encode::SLASH);
        assert!(parse(&bytes).is_err());
    }
}

#[test]
fn an_announced_length_costs_nothing_before_it_comes() {
    let bytes = bytes_of(&small(), true);
    // Of the first znode's path, the first znode's data, the first ACL's scheme.
    for at in [0x3b + 24, 0x3f + 24, 0x28 + 24] {
        for length in [i32::MAX, i32::MIN, -2, 3_000_000] {
            let mut wrong = bytes.clone();
            wrong[at..at + 4].copy_from_slice(&length.to_be_bytes());
            let error = parse(&wrong).unwrap_err().to_string();
            assert!(error.contains(&format!("unreasonable length {length}")), "{error}");
        }
    }
}

#[test]
fn errors_name_the_file_and_the_offset() {
    let mut bytes = bytes_of(&small(), true);
    let seal = bytes.len() - 25 - 21 - 33 - 13;
    bytes[seal + 7] ^= 1;
    let error = parse(&bytes).unwrap_err();
    assert!(
        matches!(&error, SnapshotError::Damaged { offset_bytes, .. } if *offset_bytes == seal as u64),
        "{error}"
    );
    assert!(error.to_string().starts_with("bytes: at offset "), "{error}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]

    #[test]
    fn any_state_comes_back(
        zxid in 0..i64::MAX,
        digest in proptest::option::of(any::<u64>()),
        sessions in proptest::collection::vec((any::<i64>(), any::<i32>()), 0..20),
        acls in proptest::collection::vec((0..i64::MAX, "[a-zäß]{0,9}"), 0..9),
        nodes in proptest::collection::vec(
            ("/[a-zä/]{1,40}", proptest::option::of(proptest::collection::vec(any::<u8>(), 0..600)), any::<i64>(),
             any::<(i64, i64, i64, i64)>(), any::<(i32, i32, i32)>(), any::<(i64, i64)>()),
            0..60,
        ),
    ) {
        let acl = |id: &str| {
            let mut bytes = b"\0\0\0\x01\0\0\0\x1f\0\0\0\x04auth".to_vec();
            bytes.extend((id.len() as u32).to_be_bytes());
            bytes.extend(id.as_bytes());
            bytes.into_boxed_slice()
        };
        let image = Image {
            zxid: Zxid(zxid as u64),
            digest,
            sessions: sessions.into_iter().map(|(id, timeout)| (SessionId(id), timeout)).collect(),
            acls: acls.iter().map(|(key, id)| (*key, acl(id))).collect(),
            nodes: nodes.into_iter().map(|(path, data, acl, longs, ints, (owner, pzxid))| ImageNode {
                path: path.into(),
                data: data.map(Into::into),
                acl,
                stat: StatPersisted {
                    czxid: Zxid::from_wire(longs.0),
                    mzxid: Zxid::from_wire(longs.1),
                    ctime: WallMillis(longs.2),
                    mtime: WallMillis(longs.3),
                    version: ints.0,
                    cversion: ints.1,
                    aversion: ints.2,
                    owner: Owner::from_stored(owner),
                    pzxid: Zxid::from_wire(pzxid),
                },
            }).collect(),
        };
        let (back, contents) = parse(&bytes_of(&image, true)).unwrap();
        prop_assert_eq!(&back.sessions, &image.sessions);
        prop_assert_eq!(&back.acls, &image.acls);
        prop_assert_eq!(&back.nodes, &image.nodes);
        prop_assert!(contents.footer);
    }

    #[test]
    fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200), at in 0..400usize) {
        let mut wrong = bytes_of(&small(), true);
        let at = at.min(wrong.len());
        wrong.splice(at..(at + bytes.len()).min(wrong.len()), bytes.iter().copied());
        let _ = parse(&wrong);
        let _ = parse(&bytes);
    }
}

/// Which of the files named is loaded, and how many newer ones were passed over as damaged.
fn check_choice(files: &[(&str, Vec<u8>)], expected: Option<(&str, usize)>) {
    let dir = tempfile::tempdir().unwrap();
    for (name, bytes) in files {
        std::fs::write(dir.path().join(name), bytes).unwrap();
    }
    let loaded = load_newest(&RealDisk, dir.path(), ReadOptions::default(), |_| Image::default()).unwrap();
    let found = loaded.map(|loaded| {
        assert_eq!(loaded.restored.nodes, small().nodes, "a part of a damaged one stayed behind");
        (loaded.path.file_name().unwrap().to_str().unwrap().to_owned(), loaded.skipped.len())
    });
    assert_eq!(found, expected.map(|(name, skipped)| (name.to_owned(), skipped)));
}

fn packed(compression: Compression) -> Vec<u8> {
    let mut packer = codec::Compressor::new(compression);
    packer.put(&bytes_of(&small(), true)).unwrap();
    packer.finish().unwrap();
    std::mem::take(packer.out())
}

#[test]
fn the_newest_that_loads_is_chosen() {
    let good = bytes_of(&small(), true);
    let mut damaged = good.clone();
    damaged[100] ^= 1;
    let cut = good[..good.len() - 1].to_vec();
    check_choice(&[], None);
    check_choice(&[("snapshot.5", good.clone())], Some(("snapshot.5", 0)));
    check_choice(&[("snapshot.9", good.clone()), ("snapshot.10", good.clone())], Some(("snapshot.10", 0)));
    check_choice(&[("snapshot.9", good.clone()), ("snapshot.10", damaged.clone())], Some(("snapshot.9", 1)));
    // Fails the look at its ends: not even tried.
    check_choice(&[("snapshot.9", good.clone()), ("snapshot.10", cut)], Some(("snapshot.9", 0)));
    check_choice(&[("snapshot.9", good.clone()), ("snapshot.10", Vec::new())], Some(("snapshot.9", 0)));
    check_choice(
        &[("snapshot.9", good.clone()), ("partial-snapshot.10", good.clone())],
        Some(("snapshot.9", 0)),
    );
    check_choice(&[("snapshot.5.gz", packed(Compression::Gzip))], Some(("snapshot.5.gz", 0)));
    check_choice(&[("snapshot.5.snappy", packed(Compression::Snappy))], Some(("snapshot.5.snappy", 0)));
    // The name alone chooses the codec.
    check_choice(&[("snapshot.5.gz", good.clone()), ("snapshot.4", good.clone())], Some(("snapshot.4", 0)));
    check_choice(&[("snapshot.5", packed(Compression::Gzip)), ("snapshot.4", good)], Some(("snapshot.4", 0)));
}

#[test]
fn when_none_loads_every_reason_is_told() {
    let dir = tempfile::tempdir().unwrap();
    let mut damaged = bytes_of(&small(), true);
    damaged[100] ^= 1;
    for n in 0..3 {
        std::fs::write(dir.path().join(format!("snapshot.{n}")), &damaged).unwrap();
    }
    match load_newest(&RealDisk, dir.path(), ReadOptions::default(), |_| Image::default()) {
        Err(LoadError::NoneLoads(errors)) => assert_eq!(errors.len(), 3),
        other => panic!("{other:?}"),
    }
    let missing = dir.path().join("nowhere");
    assert!(
        load_newest(&RealDisk, &missing, ReadOptions::default(), |_| Image::default()).unwrap().is_none()
    );
}

#[test]
fn a_state_that_refuses_a_node_refuses_the_file() {
    struct Picky;
    impl Restore for Picky {
        fn session(&mut self, _: SessionId, _: i32) -> Result<(), String> {
            Ok(())
        }
        fn acl(&mut self, _: i64, _: &[u8]) -> Result<(), String> {
            Ok(())
        }
        fn node(&mut self, node: SnapshotNode<'_>) -> Result<(), String> {
            if node.path == "/t" { Err("has no parent".into()) } else { Ok(()) }
        }
    }
    let bytes = bytes_of(&small(), true);
    let error =
        reader::read_stream(Path::new("x"), &bytes[..], ReadOptions::default(), &mut Picky).unwrap_err();
    assert!(error.to_string().contains("znode \"/t\": has no parent"), "{error}");
}

#[test]
fn ahead_and_straight_say_the_same_of_any_damage() {
    let dir = tempfile::tempdir().unwrap();
    let mut image = small();
    let template = image.nodes[5].clone();
    let children = (0..2_000).map(|n| ImageNode { path: format!("/t/{n}").into(), ..template.clone() });
    image.nodes.extend(children);
    let bytes = bytes_of(&image, true);
    let path = dir.path().join("snapshot.9");
    let outcome = |ahead: bool| {
        let mut back = Image::default();
        let options = ReadOptions { ahead, ..ReadOptions::default() };
        let read = reader::read(&RealDisk, &path, options, &mut back);
        read.map(|contents| (contents, back)).map_err(|error| error.to_string())
    };
    for at in (0..bytes.len()).step_by(bytes.len() / 60).chain([bytes.len()]) {
        let mut damaged = bytes.clone();
        if let Some(byte) = damaged.get_mut(at) {
            *byte ^= 0x41;
        }
        std::fs::write(&path, damaged).unwrap();
        assert_eq!(outcome(true), outcome(false), "byte {at}");
    }
}

#[test]
fn a_refusal_ends_the_threads_ahead_and_names_the_place() {
    struct Few(usize);
    impl Restore for Few {
        fn session(&mut self, _: SessionId, _: i32) -> Result<(), String> {
            Ok(())
        }
        fn acl(&mut self, _: i64, _: &[u8]) -> Result<(), String> {
            Ok(())
        }
        fn node(&mut self, _: SnapshotNode<'_>) -> Result<(), String> {
            self.0 = self.0.checked_sub(1).ok_or("one too many")?;
            Ok(())
        }
    }
    let dir = tempfile::tempdir().unwrap();
    let mut image = small();
    let template = ImageNode { data: Some(vec![0; 1_000].into()), ..image.nodes[5].clone() };
    // Far more than is read and decoded ahead.
    let children = (0..40_000).map(|n| ImageNode { path: format!("/t/{n}").into(), ..template.clone() });
    image.nodes.extend(children);
    let path = dir.path().join("snapshot.9");
    std::fs::write(&path, bytes_of(&image, true)).unwrap();
    let outcome = |ahead: bool| {
        let options = ReadOptions { ahead, ..ReadOptions::default() };
        reader::read(&RealDisk, &path, options, &mut Few(100)).unwrap_err().to_string()
    };
    assert!(outcome(true).contains("one too many"));
    assert_eq!(outcome(true), outcome(false));
}

/// Counts and fails: what a disk did and the step at which it breaks.
#[derive(Clone, Default)]
struct Watched {
    steps: Arc<Mutex<Vec<String>>>,
    fail_at: Option<usize>,
}

impl Watched {
    fn step(&self, what: String) -> io::Result<()> {
        let mut steps = self.steps.lock().unwrap();
        steps.push(what);
        if self.fail_at == Some(steps.len() - 1) { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

struct WatchedFile(Watched, Box<dyn DiskFile>);

impl DiskFile for WatchedFile {
    fn len(&self) -> io::Result<u64> {
        self.1.len()
    }
    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        self.1.read_at(bytes, at)
    }
    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        assert!(bytes.len() <= PORTION_BYTES);
        assert_eq!(at, self.1.len()?, "written from start to end");
        self.0.step("write".into())?;
        self.1.write_at(bytes, at)
    }
    fn sync_data(&self) -> io::Result<()> {
        self.0.step("sync".into())?;
        self.1.sync_data()
    }
    fn set_len(&self, _: u64) -> io::Result<()> {
        unreachable!("no snapshot is cut or grown")
    }
    fn allocate(&self, _: u64) -> io::Result<()> {
        unreachable!("nobody knows how long a snapshot will be")
    }
    fn forget_cached(&self) {}
    fn map(&self) -> io::Result<Box<dyn Mapping>> {
        unreachable!("snapshots are written, not mapped")
    }
    fn direct(&self) -> io::Result<Option<Box<dyn DirectFile>>> {
        unreachable!("snapshots go through the page cache")
    }
    fn contents(&self) -> io::Result<FileContents> {
        self.1.contents()
    }
}

fn base(path: &Path) -> String {
    path.file_name().unwrap().to_str().unwrap().to_owned()
}

fn names_in(dir: &Path) -> Vec<String> {
    RealDisk.list(dir).unwrap().into_iter().map(|file| file.name).collect()
}

impl Disk for Watched {
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        RealDisk.create_dir(dir)
    }
    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        RealDisk.list(dir)
    }
    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        self.step(format!("{how:?} {}", base(path)))?;
        Ok(Box::new(WatchedFile(self.clone(), RealDisk.open(path, how)?)))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.step(format!("rename {} {}", base(from), base(to)))?;
        RealDisk.rename(from, to)
    }
    fn unlink(&self, path: &Path) -> io::Result<()> {
        RealDisk.unlink(path)
    }
    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        self.step("sync_dir".into())?;
        RealDisk.sync_dir(dir)
    }
    fn free_bytes(&self, dir: &Path) -> io::Result<u64> {
        RealDisk.free_bytes(dir)
    }
    fn fresh_id(&self) -> [u8; 4] {
        RealDisk.fresh_id()
    }
}

fn three_portions() -> Image {
    let mut image = small();
    let template = image.nodes[5].clone();
    for n in 0..6 {
        let data = vec![n; 2_000_000].into();
        image.nodes.push(ImageNode { path: format!("/t/{n}").into(), data: Some(data), ..template.clone() });
    }
    image
}

#[test]
fn a_name_is_given_only_to_synced_bytes() {
    let dir = tempfile::tempdir().unwrap();
    let store = Watched::default();
    writer::write(&store, dir.path(), &three_portions(), Compression::Plain, &mut keep_going).unwrap();
    let steps = store.steps.lock().unwrap();
    assert_eq!(steps[0], "Create partial-snapshot.100000007");
    let (body, end) = steps[1..].split_at(steps.len() - 3);
    assert!(body.len() >= 6 && body.chunks(2).all(|pair| pair == ["write", "sync"]), "{steps:?}");
    assert_eq!(end, ["rename partial-snapshot.100000007 snapshot.100000007", "sync_dir"]);
}

#[test]
fn a_disk_that_fails_at_any_step_leaves_no_snapshot_by_a_wrong_name() {
    let image = three_portions();
    for fail_at in 0.. {
        let dir = tempfile::tempdir().unwrap();
        let store = Watched { fail_at: Some(fail_at), ..Watched::default() };
        let result = writer::write(&store, dir.path(), &image, Compression::Plain, &mut keep_going);
        let names = names_in(dir.path());
        let steps = store.steps.lock().unwrap();
        if fail_at >= steps.len() {
            assert!(result.is_ok());
            return;
        }
        assert!(matches!(result, Err(WriteError::Io { .. })), "at {fail_at}");
        // Only the last step, making the name durable, fails with a whole file in place.
        let expected: &[&str] = if steps[fail_at] == "sync_dir" { &["snapshot.100000007"] } else { &[] };
        assert_eq!(names, expected, "failed at {}", steps[fail_at]);
    }
}

#[test]
fn giving_up_leaves_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut portions = 0;
    let result =
        writer::write(&RealDisk, dir.path(), &three_portions(), Compression::Plain, &mut |progress| {
            portions += 1;
            assert!(progress.file_bytes > 0);
            if portions == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
        });
    assert!(matches!(result, Err(WriteError::GivenUp { .. })));
    assert!(names_in(dir.path()).is_empty());
}

#[test]
fn the_thread_takes_one_job_at_a_time_and_tells_the_outcome() {
    let dir = tempfile::tempdir().unwrap();
    let (tell, told) = std::sync::mpsc::channel();
    let mut snapshotter = Snapshotter::new(Arc::new(RealDisk), dir.path().to_owned(), move |outcome| {
        tell.send(outcome).unwrap();
    });
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let job = |go_on: Box<dyn FnMut(Progress) -> ControlFlow<()> + Send>| Job {
        source: Box::new(three_portions()),
        compression: Compression::Plain,
        go_on,
    };
    let mut gate = Some(gate);
    let waits = job(Box::new(move |_| {
        // Held at its first portion until the test lets go.
        if let Some(gate) = gate.take() {
            let _ = gate.recv();
        }
        ControlFlow::Continue(())
    }));
    assert!(snapshotter.offer(waits));
    assert!(!snapshotter.offer(job(Box::new(keep_going))), "one is being written");
    drop(open);
    let outcome = told.recv().unwrap();
    assert_eq!(outcome.result.unwrap().path, dir.path().join("snapshot.100000007"));
    for (is_low, then) in [
        (true, ControlFlow::Break(())),
        // Given up with what the other threads left it: the next attempt gets its share.
        (false, ControlFlow::Break(())),
        (false, ControlFlow::Continue(())),
        (true, ControlFlow::Continue(())),
    ] {
        assert!(snapshotter.offer(job(Box::new(move |_| {
            assert_eq!(priority::is_low().unwrap_or(is_low), is_low);
            then
        }))));
        let given_up = matches!(told.recv().unwrap().result, Err(WriteError::GivenUp { .. }));
        assert_eq!(given_up, then.is_break());
    }
}
