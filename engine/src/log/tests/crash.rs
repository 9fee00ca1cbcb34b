//! Power cuts and kills at every call, failing calls, full disks: nothing acknowledged is lost, every start succeeds, and
//! what Apache's reader would find after a kill is clean.
//!
//! `OSTLER_LOG_SIM=<n>` multiplies the number of random power cuts per crash point (default 1).

use super::*;
use crate::io::disk_sim::SimDisk;
use ostler_replication::Epoch;

/// Splitmix64.
pub(super) struct Seed(pub u64);

impl Seed {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, bound: usize) -> usize {
        (self.next() % bound as u64) as usize
    }
}

fn effort() -> usize {
    std::env::var("OSTLER_LOG_SIM").ok().and_then(|n| n.parse().ok()).unwrap_or(1)
}

/// What the scripted server has promised so far.
#[derive(Default, Clone)]
struct Promised {
    /// Last zxid reported durable.
    acknowledged: u64,
    /// Last zxid handed to the log.
    submitted: u64,
    /// The stray file is on disk, name and content.
    stray: bool,
}

/// A scripted life: batches of one and of many records, a batch over several segments, rolls, marks, a recycled file,
/// clean restarts. Stops at the first failure, as the server does.
fn live(disk: &SimDisk, method: Method, promised: &mut Promised) -> Result<(), String> {
    live_syncing(disk, method, true, promised)
}

fn live_syncing(disk: &SimDisk, method: Method, sync: bool, promised: &mut Promised) -> Result<(), String> {
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let text = |error: &dyn std::fmt::Display| error.to_string();
    for life in 0..3 {
        let (recovered, _) = replay(disk, dir(), 0).map_err(|error| text(&error))?;
        let settings = LogSettings { sync, ..settings(dir(), method) };
        writer::open_dir(disk, dir()).map_err(|error| text(&error))?;
        let spares =
            Spares::open(shared.clone(), &settings, false, Box::new(|_| {})).map_err(|error| text(&error))?;
        let mut log = LogWriter::new(shared.clone(), settings, spares.clone(), recovered.last);
        for (step, records) in [1, 9, 1, 700, 2].into_iter().enumerate() {
            let from = log.last().0 + 1;
            let next = batch(from, from + records - 1);
            promised.submitted = promised.submitted.max(next.last.0);
            log.append(std::iter::once(&next)).map_err(|error| format!("{error:?}"))?;
            promised.acknowledged = next.last.0;
            match step {
                1 => log.write_mark().map_err(|error| text(&error))?,
                2 => log.roll().map_err(|error| text(&error))?,
                _ => {}
            }
        }
        if life == 1 {
            // As purge does once a snapshot covers them; base 0 stays, so only files that hold nothing needed go: a
            // stray one, full of records of another history.
            let stray = dir().join("log.0");
            let file = disk.open(&stray, crate::io::disk::Open::Create).map_err(|error| text(&error))?;
            file.write_at(&old_segment(), 0).map_err(|error| text(&error))?;
            file.sync_data().and_then(|()| disk.sync_dir(dir())).map_err(|error| text(&error))?;
            promised.stray = true;
            spares.retire(&stray, 64 << 10).map_err(|error| text(&error))?;
        }
        if life != 1 {
            log.close().map_err(|error| text(&error))?;
        }
    }
    Ok(())
}

fn dir() -> &'static Path {
    Path::new("/data/version-2")
}

/// A whole segment of records that must never be seen again.
fn old_segment() -> Vec<u8> {
    let id = FileId([9; 4]);
    let mut file = file_header(id).to_vec();
    let mut zxid = 1;
    while file.len() < 63 << 10 {
        let offset = file.len() as u64;
        put_record(&mut file, id, offset, true, &entry(zxid, 33));
        zxid += 1;
    }
    file.resize(64 << 10, 0);
    file
}

/// Replays what a crash left and compares it with what was promised; then goes on living on it.
fn check(left: &SimDisk, promised: &Promised, story: &dyn Fn() -> String) {
    let (recovered, seen) = match replay(left, dir(), 0) {
        Ok(done) => done,
        Err(error) => panic!("{}: {error}", story()),
    };
    let last = recovered.last.0;
    assert!(last >= promised.acknowledged, "{}: lost {last}..{}", story(), promised.acknowledged);
    assert!(last <= promised.submitted, "{}: {last} was never written", story());
    assert_eq!(seen.len() as u64, last, "{}", story());
    for (at, (zxid, bytes)) in seen.iter().enumerate() {
        let expected = entry(zxid.0, 10 + (zxid.0 as usize * 37) % 90);
        assert!(zxid.0 == at as u64 + 1 && *bytes == expected, "{}: record {at}", story());
    }
    // A log file that was given back for other use is whole as long as it has its name.
    if promised.stray
        && let Ok(bytes) = left.read(&dir().join("log.0"))
    {
        assert!(bytes == old_segment(), "{}: zeros over a log file", story());
    }
    // The next process writes on, and both histories are there.
    let shared: Arc<dyn Disk> = Arc::new(left.clone());
    let mut log = writer(&shared, settings(dir(), Method::Mapped), recovered.last).unwrap();
    log.append([batch(last + 1, last + 3), batch(last + 4, last + 4)].iter()).unwrap();
    // Also when the power fails now: what this process found unsynced and built upon must not go.
    let left = left.after_power_cut(&vec![0; left.choices().len()]);
    let again = replay(&left, dir(), 0).unwrap_or_else(|error| panic!("{} then: {error}", story()));
    assert_eq!(again.0.last.0, last + 4, "{}", story());
}

/// Apache's reader stops cleanly at the end of every log file that has a name.
fn check_apache(left: &SimDisk, story: &dyn Fn() -> String) {
    for file in log_files(left, dir()).unwrap() {
        let bytes = left.read(&file.path).unwrap();
        let mut at = FILE_HEADER_BYTES as u64;
        while let At::Record(record) = record_at(&bytes, at, Origin::Apache) {
            at = record.next_bytes;
        }
        let rest = bytes.get(at as usize..).unwrap_or_default();
        // Apache stops at length 0 whatever the checksum holds.
        let clean = rest.len() < 12 || rest[8..12] == [0; 4];
        assert!(clean, "{}: Apache would refuse {} at {at}", story(), file.path.display());
    }
}

/// Calls `check` for power cuts at this point: all there are when they are few, otherwise both extremes, each thing alone
/// and `random` others.
pub(super) fn power_cuts(
    disk: &SimDisk,
    random: usize,
    seed: &mut Seed,
    mut check: impl FnMut(&SimDisk, &[usize]),
) {
    const EXHAUSTIVE: usize = 64;
    let choices = disk.choices();
    let all = choices.iter().try_fold(1_usize, |all, states| all.checked_mul(*states));
    let mut picks = vec![0; choices.len()];
    if all.is_some_and(|all| all <= EXHAUSTIVE) {
        loop {
            check(&disk.after_power_cut(&picks), &picks);
            // The next combination, as an odometer turns.
            let Some(wheel) = (0..picks.len()).find(|wheel| picks[*wheel] + 1 < choices[*wheel]) else {
                return;
            };
            picks[..wheel].fill(0);
            picks[wheel] += 1;
        }
    }
    check(&disk.after_power_cut(&picks), &picks);
    let last: Vec<usize> = choices.iter().map(|states| states - 1).collect();
    check(&disk.after_power_cut(&last), &last);
    for _ in 0..random {
        // Mostly kept, mostly lost, or evenly mixed.
        let bias = seed.below(3);
        for (pick, states) in picks.iter_mut().zip(&choices) {
            *pick = match (bias, seed.below(8)) {
                (0, 1..) => 0,
                (1, 1..) => states - 1,
                _ => seed.below(*states),
            };
        }
        check(&disk.after_power_cut(&picks), &picks);
    }
}

fn calls_of_a_life(method: Method) -> u64 {
    let disk = SimDisk::new();
    disk.record();
    live(&disk, method, &mut Promised::default()).unwrap();
    disk.calls()
}

/// Writing zeros makes most of the calls, and nothing depends on where among them a crash falls.
fn interesting(disk_calls: &[String], call: u64) -> bool {
    let is_zeroing = |call: Option<&String>| {
        call.is_some_and(|line| {
            line.starts_with("write") && line.contains("+4096 ") && line.contains("spare.")
        })
    };
    let at = call as usize;
    !(is_zeroing(disk_calls.get(at)) && is_zeroing(disk_calls.get(at.wrapping_sub(1))))
        || call.is_multiple_of(13)
}

fn trace_of_a_life(method: Method) -> Vec<String> {
    let disk = SimDisk::new();
    disk.record();
    live(&disk, method, &mut Promised::default()).unwrap();
    disk.recorded()
}

fn crash_everywhere(method: Method) {
    let calls = trace_of_a_life(method);
    let mut seed = Seed(0x0571e7);
    let mut points = 0;
    for stop in 0..=calls.len() as u64 {
        if !interesting(&calls, stop) && effort() == 1 {
            continue;
        }
        points += 1;
        let disk = SimDisk::new();
        disk.stop_at(stop);
        let mut promised = Promised::default();
        let outcome = live(&disk, method, &mut promised);
        assert_eq!(outcome.is_err(), stop < calls.len() as u64, "{outcome:?}");
        let place = calls.get(stop as usize).map_or("the end", String::as_str);
        let killed = disk.after_kill();
        let story = || format!("{method:?} killed before call {stop} ({place})");
        check_apache(&killed, &story);
        check(&killed, &promised, &story);
        power_cuts(&disk, 6 * effort(), &mut seed, |left, picks| {
            check(left, &promised, &|| {
                format!("{method:?} power cut before call {stop} ({place}), left {picks:?}")
            });
        });
    }
    assert!(points > 100, "only {points} crash points");
}

#[test]
fn any_crash_leaves_all_that_was_acknowledged_direct() {
    crash_everywhere(Method::Direct);
}

#[test]
fn any_crash_leaves_all_that_was_acknowledged_mapped() {
    crash_everywhere(Method::Mapped);
}

#[test]
fn any_crash_leaves_all_that_was_acknowledged_pwrite() {
    crash_everywhere(Method::Pwrite);
}

#[test]
fn without_syncs_a_power_cut_leaves_a_prefix() {
    let disk = SimDisk::new();
    disk.record();
    live_syncing(&disk, Method::Mapped, false, &mut Promised::default()).unwrap();
    let calls = disk.recorded();
    let mut seed = Seed(99);
    for stop in 0..calls.len() as u64 {
        if !interesting(&calls, stop) {
            continue;
        }
        let disk = SimDisk::new();
        disk.stop_at(stop);
        let mut promised = Promised::default();
        let _ = live_syncing(&disk, Method::Mapped, false, &mut promised);
        let nothing = Promised { acknowledged: 0, ..promised };
        power_cuts(&disk, effort(), &mut seed, |left, picks| {
            check(left, &nothing, &|| format!("unsynced, power cut before call {stop}, left {picks:?}"));
        });
    }
}

#[test]
fn a_crash_inside_recovery_is_recovered() {
    // A life stopped where its last batch is stored and not synced, so that recovery has a tail to cut.
    let calls = trace_of_a_life(Method::Mapped);
    let stores: Vec<u64> =
        (0..calls.len()).filter(|at| calls[*at].starts_with("store")).map(|at| at as u64 + 1).collect();
    let mut seed = Seed(77);
    for stop in stores {
        let disk = SimDisk::new();
        disk.stop_at(stop);
        let mut promised = Promised::default();
        let _ = live(&disk, Method::Mapped, &mut promised);
        let choices = disk.choices();
        let picks: Vec<usize> = choices.iter().map(|states| seed.below(*states)).collect();
        let torn = disk.after_power_cut(&picks);
        let whole = torn.copy();
        replay(&whole, dir(), 0).unwrap();
        for second in 0..whole.calls() {
            let again = torn.copy();
            again.stop_at(second);
            assert!(replay(&again, dir(), 0).is_err());
            power_cuts(&again, 1, &mut seed, |left, picks| {
                check(left, &promised, &|| {
                    format!("stop {stop}, then recovery stopped before {second}, left {picks:?}")
                });
            });
        }
    }
}

#[test]
fn every_failing_call_stops_the_log_and_loses_nothing() {
    for method in [Method::Direct, Method::Mapped, Method::Pwrite] {
        let calls = trace_of_a_life(method);
        for errno in [libc::EIO, libc::ENOSPC] {
            for (at, place) in calls.iter().enumerate() {
                if !interesting(&calls, at as u64) || place.starts_with("store") {
                    continue;
                }
                let disk = SimDisk::new();
                disk.fail_at(at as u64, errno);
                let mut promised = Promised::default();
                let outcome = live(&disk, method, &mut promised);
                let story = || format!("{method:?} error {errno} at call {at} ({place}): {outcome:?}");
                // A failed sync of a log file must end the life: its bytes may be gone although a second sync succeeds.
                assert!(
                    outcome.is_err() || !(place.starts_with("sync ") && place.contains("log.")),
                    "{}",
                    story()
                );
                check(&disk.after_kill(), &promised, &story);
                check(&disk.after_power_cut(&vec![0; disk.choices().len()]), &promised, &story);
            }
        }
    }
}

#[test]
fn a_full_disk_is_told_and_passes() {
    use std::sync::Mutex;
    let disk = SimDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    disk.create_dir(dir()).unwrap();
    disk.set_capacity(Some(3 * (64 << 10) + 1000));
    let told = Arc::new(Mutex::new(Vec::new()));
    let teller = told.clone();
    let spares = Spares::open(
        shared.clone(),
        &settings(dir(), Method::Mapped),
        false,
        Box::new(move |level| teller.lock().unwrap().push(level)),
    )
    .unwrap();
    let mut log = LogWriter::new(shared, settings(dir(), Method::Mapped), spares.clone(), Zxid(0));
    let mut last = 0;
    let stuck = loop {
        let next = batch(last + 1, last + 50);
        match log.append(std::iter::once(&next)) {
            Ok(()) => last += 50,
            Err(AppendError::NoSpace) => break next,
            Err(error) => panic!("{error:?}"),
        }
    };
    assert!(matches!(log.append(std::iter::once(&stuck)), Err(AppendError::NoSpace)));
    assert_eq!(*told.lock().unwrap(), [LogSpace::Ok, LogSpace::Floor, LogSpace::Full]);
    // Part of the batch may be there, and that is fine: it was not acknowledged.
    let (recovered, _) = replay(&disk.copy(), dir(), 0).unwrap();
    assert!((last..stuck.last.0).contains(&recovered.last.0));
    // Purge gives a file back; the same proposal goes through, and nothing is there twice.
    let oldest = log_files(&disk, dir()).unwrap().remove(0);
    let second = log_files(&disk, dir()).unwrap()[1].first;
    spares.retire(&oldest.path, oldest.bytes).unwrap();
    log.append(std::iter::once(&stuck)).unwrap();
    assert_eq!(told.lock().unwrap().last(), Some(&LogSpace::Ok));
    let (recovered, seen) = replay(&disk.copy(), dir(), second.0 - 1).unwrap();
    assert_eq!(recovered.last, stuck.last);
    assert_eq!(seen.len() as u64, stuck.last.0 - second.0 + 1);
}

#[test]
fn a_disk_that_is_full_and_then_fails_stops_the_log() {
    use std::sync::Mutex;
    let disk = SimDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    disk.create_dir(dir()).unwrap();
    disk.set_capacity(Some(2 * (64 << 10) + 1000));
    let told = Arc::new(Mutex::new(Vec::new()));
    let teller = told.clone();
    let teller = Box::new(move |level| teller.lock().unwrap().push(level));
    let settings = settings(dir(), Method::Mapped);
    let spares = Spares::open(shared.clone(), &settings, false, teller).unwrap();
    let mut log = LogWriter::new(shared, settings, spares.clone(), Zxid(0));
    log.append(std::iter::once(&batch(1, 50))).unwrap();
    spares.prepare();
    spares.prepare();
    assert_ne!(told.lock().unwrap().last(), Some(&LogSpace::Ok));
    // There is room again, but the disk fails: writes must go on to where that is found out.
    disk.set_capacity(None);
    for call in disk.calls()..disk.calls() + 200 {
        disk.fail_at(call, libc::EIO);
    }
    spares.prepare();
    assert_eq!(told.lock().unwrap().last(), Some(&LogSpace::Ok));
    let mut last = 50;
    let failure = loop {
        match log.append(std::iter::once(&batch(last + 1, last + 50))) {
            Ok(()) => last += 50,
            Err(error) => break error,
        }
    };
    assert!(matches!(failure, AppendError::Failed(_)), "{failure:?}");
}

/// As a server does: recovers up to there from the newest snapshot that is no newer, then cuts.
fn truncate_to(disk: &SimDisk, bases: &[u64], to: u64) -> Result<(), TruncateError> {
    let what = Truncation { log_dir: dir(), snapshot_dir: dir(), current_epoch: Epoch(0), to: Zxid(to) };
    let base = bases.iter().copied().filter(|base| *base <= to).max().unwrap();
    let settings = RecoverSettings { repair: false, alone: false, until: Some(Zxid(to)) };
    let recovered = recover(disk, dir(), Zxid(base), settings, &mut |_, _| Ok(()));
    let not_ours = |error: RecoverError| TruncateError::NotOurs { to: Zxid(to), reason: error.to_string() };
    truncate(disk, &what, &recovered.map_err(not_ours)?)
}

#[test]
fn a_truncation_behind_old_damage_keeps_what_it_says() {
    let whole = SimDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(whole.clone());
    let mut log = writer(&shared, settings(dir(), Method::Mapped), Zxid(0)).unwrap();
    (1..=100).for_each(|zxid| log.append(std::iter::once(&batch(zxid, zxid))).unwrap());
    let path = log_files(&whole, dir()).unwrap()[0].path.clone();
    let bytes = whole.read(&path).unwrap();
    let offset = |zxid: u64| {
        let is_it = |found: &Found<'_>| matches!(found, Found::Record(record) if record.zxid.0 == zxid);
        let Some(Found::Record(record)) = scan(&bytes).find(is_it) else { panic!("no {zxid}") };
        record.offset_bytes
    };
    for (damaged, to, kept) in
        [(20, 80, Ok(80)), (20, 50, Ok(50)), (20, 100, Ok(100)), (60, 80, Err(100)), (90, 80, Ok(80))]
    {
        let disk = whole.copy();
        disk.put(&dir().join("snapshot.32"), b"at 50");
        disk.flip(&path, (offset(damaged) + 20) * 8);
        let before = disk.read(&path).unwrap();
        match kept {
            Ok(last) => {
                truncate_to(&disk, &[50], to).unwrap();
                assert_eq!(replay(&disk, dir(), 50).unwrap().0.last, Zxid(last), "damage in {damaged}");
            }
            Err(_) => {
                let refused = truncate_to(&disk, &[50], to);
                assert!(matches!(refused, Err(TruncateError::NotOurs { .. })), "{refused:?}");
                assert_eq!(disk.read(&path).unwrap(), before);
            }
        }
    }
}

#[test]
fn a_truncation_leaves_a_prefix_at_every_crash() {
    let base = SimDisk::new();
    live(&base, Method::Mapped, &mut Promised::default()).unwrap();
    let base = base.copy();
    base.put(&dir().join("snapshot.0"), b"a");
    base.put(&dir().join("snapshot.64"), b"b");
    base.put(&dir().join("snapshot.300"), b"c");
    let all = replay(&base.copy(), dir(), 0).unwrap().0.last.0;
    let mut seed = Seed(5);
    for to in [0x64, 200, all - 1, all] {
        let cut = |disk: &SimDisk| truncate_to(disk, &[0, 0x64, 0x300], to);
        let whole = base.copy();
        cut(&whole).unwrap();
        assert_eq!(replay(&whole.copy(), dir(), 0).unwrap().0.last, Zxid(to));
        assert!(!whole.exists(&dir().join("snapshot.300")).unwrap() || to >= 0x300);
        let calls = whole.calls();
        for stop in 0..calls {
            let disk = base.copy();
            disk.stop_at(stop);
            let _ = cut(&disk);
            power_cuts(&disk, 4, &mut seed, |left, picks| {
                let story = format!("truncating to {to}, stopped before call {stop}, left {picks:?}");
                let (recovered, seen) =
                    replay(left, dir(), 0).unwrap_or_else(|error| panic!("{story}: {error}"));
                assert!((to..=all).contains(&recovered.last.0), "{story}: {}", recovered.last);
                assert_eq!(seen.len() as u64, recovered.last.0, "{story}");
                // No snapshot is ahead of what is left, so nothing that was removed comes back through one.
                let third = left.exists(&dir().join("snapshot.300")).unwrap();
                assert!(!third || recovered.last.0 >= 0x300, "{story}");
                // Done again, it is done.
                cut(left).unwrap_or_else(|error| panic!("{story}: {error}"));
                assert_eq!(replay(left, dir(), 0).unwrap().0.last, Zxid(to), "{story}");
            });
        }
    }
    assert!(matches!(truncate_to(&base, &[0], all + 1), Err(TruncateError::NotOurs { .. })));
}

#[test]
fn the_script_is_long_enough_to_matter() {
    assert!(calls_of_a_life(Method::Mapped) > 300);
}
