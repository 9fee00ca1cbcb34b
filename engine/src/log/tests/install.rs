//! A leader's snapshot in place of the old history: the old or the new one after every crash, and never a mixture.

use super::crash::{Seed, power_cuts};
use super::*;
use crate::io::disk_sim::SimDisk;
use crate::log::quarantine::{Install, commit, finish, finish_interrupted};

fn snapshots() -> &'static Path {
    Path::new("/data/version-2")
}

fn logs() -> &'static Path {
    Path::new("/log/version-2")
}

const AT: u64 = 0x20;
const STAGED: &str = "partial-snapshot.20";

fn install() -> Install<'static> {
    let (log_dir, snapshot_dir) = (logs(), snapshots());
    Install { log_dir, snapshot_dir, zxid: Zxid(AT), staged: STAGED, name: "snapshot.20" }
}

/// Txns 1 to 40 in three files, snapshots before, at and behind the one that is staged.
fn old_history() -> SimDisk {
    let disk = SimDisk::new();
    let shared: Arc<dyn Disk> = Arc::new(disk.clone());
    let mut log = writer(&shared, settings(logs(), Method::Mapped), Zxid(0)).unwrap();
    for (from, to) in [(1, 10), (11, 30), (31, 40)] {
        log.append(std::iter::once(&batch(from, to))).unwrap();
        log.write_mark().unwrap();
        log.roll().unwrap();
    }
    for name in ["snapshot.a", "snapshot.20", "snapshot.20.gz", "snapshot.24"] {
        disk.put(&snapshots().join(name), b"old");
    }
    disk.put(&snapshots().join(STAGED), b"new");
    disk.copy()
}

fn files(disk: &SimDisk, dir: &Path) -> String {
    let names = disk.list(dir).unwrap().into_iter().map(|file| file.name);
    names.filter(|name| !name.starts_with("spare.")).collect::<Vec<_>>().join(" ")
}

fn run(disk: &SimDisk) -> Result<(), quarantine::InstallError> {
    commit(disk, &install())?;
    finish(disk, &install())
}

/// True: the new history; false: the old one.
fn is_new(disk: &SimDisk, story: &str) -> bool {
    if disk.read(&snapshots().join("snapshot.20")).unwrap() == b"old" {
        assert_eq!(replay(&disk.copy(), logs(), 10).unwrap().0.last, Zxid(40), "{story}");
        for name in ["snapshot.20.gz", "snapshot.24"] {
            assert!(disk.exists(&snapshots().join(name)).unwrap(), "{story}");
        }
        return false;
    }
    assert_eq!(names(disk, logs()), [""; 0], "{story}");
    let left = files(disk, snapshots());
    assert_eq!(left, "quarantined-snapshot.20.gz quarantined-snapshot.24 snapshot.20 snapshot.a", "{story}");
    true
}

#[test]
fn an_installed_snapshot_is_what_the_next_start_finds() {
    let disk = old_history();
    run(&disk).unwrap();
    let cut = disk.after_power_cut(&vec![0; disk.choices().len()]);
    assert!(is_new(&cut, "a power cut"));
    assert_eq!(files(&cut, logs()), "quarantined-log.1 quarantined-log.1f quarantined-log.b");
    // The log goes on behind it.
    let shared: Arc<dyn Disk> = Arc::new(cut.clone());
    let mut log = writer(&shared, settings(logs(), Method::Mapped), Zxid(AT)).unwrap();
    log.append(std::iter::once(&batch(AT + 1, AT + 3))).unwrap();
    assert_eq!(finish_interrupted(&cut, logs(), snapshots()).unwrap(), None);
    assert_eq!(replay(&cut, logs(), AT).unwrap().0.last, Zxid(AT + 3));
}

#[test]
fn every_crash_leaves_the_old_history_or_the_new_one() {
    let base = old_history();
    let whole = base.copy();
    run(&whole).unwrap();
    let mut seed = Seed(11);
    let mut seen = [0, 0];
    for stop in 0..whole.calls() {
        let disk = base.copy();
        disk.stop_at(stop);
        let committed = commit(&disk, &install()).is_ok();
        if committed {
            let _ = finish(&disk, &install());
        }
        power_cuts(&disk, 8, &mut seed, |left, picks| {
            let story = format!("stopped before call {stop}, left {picks:?}");
            // A start that crashes as well, anywhere.
            let again = left.copy();
            finish_interrupted(&again, logs(), snapshots())
                .unwrap_or_else(|error| panic!("{story}: {error}"));
            let calls = again.calls();
            let new = is_new(&again, &story);
            assert!(new || !committed, "{story}");
            seen[usize::from(new)] += 1;
            for second in 0..calls {
                let again = left.copy();
                again.stop_at(second);
                assert!(finish_interrupted(&again, logs(), snapshots()).is_err());
                let again = again.after_power_cut(&vec![0; again.choices().len()]);
                finish_interrupted(&again, logs(), snapshots()).unwrap();
                assert!(is_new(&again, &story) || !committed, "{story}, then before {second}");
            }
        });
    }
    assert!(seen[0] > 3 && seen[1] > 3, "{seen:?}");
}

#[test]
fn an_intent_that_is_not_ours_is_refused_with_its_name() {
    for text in ["", "20\n", "xyz\na\nb\n", "20\n../../a\nsnapshot.20\n"] {
        let disk = old_history();
        disk.put(&snapshots().join("unfinished-install"), text.as_bytes());
        let error = finish_interrupted(&disk, logs(), snapshots()).unwrap_err().to_string();
        assert!(error.contains("unfinished-install") && error.contains("none of ours"), "{error}");
        assert!(!is_new(&disk, text));
    }
}
