//! A disk that is a value: the same calls give the same results, a power cut can fall between any two of them, and what
//! survives it can be enumerated. For tests.
//! Not here: real files, time, randomness that is not a seed.
//!
//! The model, harsher than any real file system where they differ:
//! - A write or store changes the cache. Since the last sync of its file each 512-byte sector has versions: the stable
//!   one and one per write that touched it. A power cut leaves any of them, sector by sector. (4 KiB pages written back
//!   in any order, and torn inside, are subsets of that.)
//! - Lengths are versions in the same way. What a length covers and no version wrote is zeros.
//! - Names: creating, renaming, unlinking are durable after `sync_dir`. A power cut leaves any subset, applied in order.
//! - Syncing a file says nothing about its name.
//! - A sync that fails leaves what it should have written to chance, also when a later one succeeds.
//! - A killed process loses nothing that it stored.

use super::disk::{BLOCK_BYTES, Contents, DirectFile, Disk, DiskFile, Listed, Mapping, Open};
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

const SECTOR_BYTES: usize = 512;

/// A handle; clones are the same disk.
#[derive(Clone)]
pub struct SimDisk(Arc<Mutex<State>>);

#[derive(Clone, Default)]
struct State {
    files: Vec<File>,
    dirs: BTreeSet<PathBuf>,
    names: BTreeMap<PathBuf, usize>,
    stable_names: BTreeMap<PathBuf, usize>,
    name_changes: Vec<NameChange>,
    calls: u64,
    stop_at: Option<u64>,
    stopped: bool,
    faults: BTreeMap<u64, i32>,
    capacity_bytes: Option<u64>,
    next_id: u32,
    trace: Option<Vec<String>>,
}

#[derive(Clone, Default)]
struct File {
    /// Shared with the disks made from this one, until one of them changes it.
    cached: Arc<Vec<u8>>,
    stable: Arc<Vec<u8>>,
    /// Versions of each sector since the last sync, oldest first.
    sectors: BTreeMap<usize, Vec<[u8; SECTOR_BYTES]>>,
    /// Sectors that a failed sync left marked clean: a later sync does not write them, unless they change again.
    forsaken: BTreeSet<usize>,
    /// Lengths since the last sync, oldest first.
    lengths: Vec<usize>,
    allocated: u64,
}

#[derive(Clone)]
enum NameChange {
    Link { path: PathBuf, file: usize },
    Rename { from: PathBuf, to: PathBuf, file: usize },
    Unlink { path: PathBuf },
}

impl NameChange {
    fn is_in(&self, dir: &Path) -> bool {
        let path = match self {
            NameChange::Link { path, .. } | NameChange::Unlink { path } => path,
            NameChange::Rename { to, .. } => to,
        };
        path.parent() == Some(dir)
    }

    fn apply(&self, names: &mut BTreeMap<PathBuf, usize>) {
        match self {
            NameChange::Link { path, file } => {
                names.insert(path.clone(), *file);
            }
            NameChange::Rename { from, to, file } => {
                names.remove(from);
                names.insert(to.clone(), *file);
            }
            NameChange::Unlink { path } => {
                names.remove(path);
            }
        }
    }
}

impl Default for SimDisk {
    fn default() -> SimDisk {
        SimDisk::new()
    }
}

impl SimDisk {
    pub fn new() -> SimDisk {
        SimDisk(Arc::new(Mutex::new(State::default())))
    }

    /// Calls and stores made so far.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// The machine stops instead of doing call number `call`: it and all later ones fail and change nothing.
    pub fn stop_at(&self, call: u64) {
        self.lock().stop_at = Some(call);
    }

    pub fn stopped(&self) -> bool {
        self.lock().stopped
    }

    /// Call number `call` fails with this error of the system. A store cannot fail.
    pub fn fail_at(&self, call: u64, errno: i32) {
        self.lock().faults.insert(call, errno);
    }

    /// Bytes that can be allocated in all; allocating more is ENOSPC.
    pub fn set_capacity(&self, bytes: Option<u64>) {
        self.lock().capacity_bytes = bytes;
    }

    /// Bytes allocated by files that have a name.
    pub fn used_bytes(&self) -> u64 {
        self.lock().used()
    }

    /// Keeps a line per call from here on.
    pub fn record(&self) {
        self.lock().trace = Some(Vec::new());
    }

    pub fn recorded(&self) -> Vec<String> {
        self.lock().trace.clone().unwrap_or_default()
    }

    /// For each thing that was not synced, in a fixed order, how many states a power cut may leave it in.
    pub fn choices(&self) -> Vec<usize> {
        let state = self.lock();
        let names = state.name_changes.iter().map(|_| 2);
        let files = state.files.iter().flat_map(|file| {
            let length = (!file.lengths.is_empty()).then_some(file.lengths.len() + 1);
            length.into_iter().chain(file.sectors.values().map(|versions| versions.len() + 1))
        });
        names.chain(files).collect()
    }

    /// The disk after a power cut that left of each thing in `choices` the state of that number (0: as last synced).
    pub fn after_power_cut(&self, picks: &[usize]) -> SimDisk {
        let state = self.lock();
        let mut picks = picks.iter().copied();
        let mut pick = || picks.next().expect("one pick per choice");
        let mut names = state.stable_names.clone();
        for change in &state.name_changes {
            if pick() == 1 {
                change.apply(&mut names);
            }
        }
        let files = state.files.iter().map(|file| file.after_power_cut(&mut pick)).collect();
        SimDisk(Arc::new(Mutex::new(State {
            files,
            dirs: state.dirs.clone(),
            stable_names: names.clone(),
            names,
            capacity_bytes: state.capacity_bytes,
            next_id: state.next_id,
            ..State::default()
        })))
    }

    /// The disk as the next process finds it when this one was killed: everything stored is there, synced or not.
    pub fn after_kill(&self) -> SimDisk {
        let mut state = self.lock().clone();
        state.stop_at = None;
        state.stopped = false;
        state.faults.clear();
        state.calls = 0;
        SimDisk(Arc::new(Mutex::new(state)))
    }

    /// A copy in which everything is stable: to damage.
    pub fn copy(&self) -> SimDisk {
        let last: Vec<usize> = self.choices().into_iter().map(|states| states - 1).collect();
        self.after_power_cut(&last)
    }

    /// Flips one bit of a file, on the disk itself.
    pub fn flip(&self, path: &Path, bit: u64) {
        self.edit(path, |bytes| bytes[(bit / 8) as usize] ^= 1 << (bit % 8));
    }

    /// Changes a file's bytes behind everybody's back.
    pub fn edit(&self, path: &Path, change: impl FnOnce(&mut Vec<u8>)) {
        let mut state = self.lock();
        let file = state.names[path];
        let file = &mut state.files[file];
        change(Arc::make_mut(&mut file.cached));
        file.stable = file.cached.clone();
    }

    /// Makes a file with this content, all stable.
    pub fn put(&self, path: &Path, bytes: &[u8]) {
        let mut state = self.lock();
        let mut dir = path.parent();
        while let Some(parent) = dir {
            state.dirs.insert(parent.to_path_buf());
            dir = parent.parent();
        }
        let allocated = bytes.len() as u64;
        let bytes = Arc::new(bytes.to_vec());
        let file = File { cached: bytes.clone(), stable: bytes, allocated, ..File::default() };
        state.files.push(file);
        let file = state.files.len() - 1;
        state.names.insert(path.to_path_buf(), file);
        state.stable_names.insert(path.to_path_buf(), file);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn call(&self, what: impl FnOnce() -> String) -> io::Result<MutexGuard<'_, State>> {
        let mut state = self.lock();
        state.enter(what)?;
        Ok(state)
    }
}

impl State {
    /// Counts a call; the error it is to fail with.
    fn enter(&mut self, what: impl FnOnce() -> String) -> io::Result<()> {
        if self.stopped || self.stop_at == Some(self.calls) {
            self.stopped = true;
            return Err(io::Error::other("the machine has stopped"));
        }
        self.calls += 1;
        if let Some(trace) = &mut self.trace {
            trace.push(what());
        }
        match self.faults.get(&(self.calls - 1)) {
            Some(errno) => Err(io::Error::from_raw_os_error(*errno)),
            None => Ok(()),
        }
    }

    fn file(&self, path: &Path) -> io::Result<usize> {
        self.names.get(path).copied().ok_or_else(|| io::ErrorKind::NotFound.into())
    }

    fn used(&self) -> u64 {
        let named: BTreeSet<usize> = self.names.values().copied().collect();
        named.into_iter().map(|file| self.files[file].allocated).sum()
    }

    fn allocate(&mut self, file: usize, bytes: u64) -> io::Result<()> {
        let more = bytes.saturating_sub(self.files[file].allocated);
        if self.capacity_bytes.is_some_and(|capacity| self.used() + more > capacity) {
            return Err(io::Error::from_raw_os_error(libc::ENOSPC));
        }
        self.files[file].allocated += more;
        Ok(())
    }

    fn change_name(&mut self, change: NameChange) {
        change.apply(&mut self.names);
        self.name_changes.push(change);
    }
}

impl File {
    fn write(&mut self, at: usize, bytes: &[u8]) {
        let end = at + bytes.len();
        if end > self.cached.len() {
            self.set_len(end);
        }
        Arc::make_mut(&mut self.cached)[at..end].copy_from_slice(bytes);
        self.note_sectors(at, end);
    }

    fn note_sectors(&mut self, from: usize, to: usize) {
        for sector in from / SECTOR_BYTES..to.div_ceil(SECTOR_BYTES) {
            let start = sector * SECTOR_BYTES;
            let bytes = &self.cached[start..self.cached.len().min(start + SECTOR_BYTES)];
            let mut version = [0; SECTOR_BYTES];
            version[..bytes.len()].copy_from_slice(bytes);
            self.forsaken.remove(&sector);
            // What is stable there already is no other version of it.
            if !self.sectors.contains_key(&sector) && self.is_stable(start, &version) {
                continue;
            }
            let versions = self.sectors.entry(sector).or_default();
            if versions.last() != Some(&version) {
                versions.push(version);
            }
        }
    }

    /// Whether the stable file reads like this at `start`; behind its end it reads zeros.
    fn is_stable(&self, start: usize, version: &[u8; SECTOR_BYTES]) -> bool {
        let rest = self.stable.get(start..).unwrap_or_default();
        let (kept, beyond) = version.split_at(rest.len().min(SECTOR_BYTES));
        rest.starts_with(kept) && beyond.iter().all(|byte| *byte == 0)
    }

    fn set_len(&mut self, bytes: usize) {
        let before = self.cached.len();
        Arc::make_mut(&mut self.cached).resize(bytes, 0);
        self.lengths.push(bytes);
        if bytes < before {
            self.allocated = self.allocated.min(bytes as u64);
        }
        // Zeros over what the stable file may still hold there.
        if before < bytes.min(self.stable.len()) {
            self.note_sectors(before, bytes.min(self.stable.len()));
        }
    }

    fn sync(&mut self) {
        self.lengths.clear();
        if self.forsaken.is_empty() {
            self.sectors.clear();
            self.stable = self.cached.clone();
            return;
        }
        let stable = Arc::make_mut(&mut self.stable);
        stable.resize(self.cached.len(), 0);
        for (sector, versions) in std::mem::take(&mut self.sectors) {
            if self.forsaken.contains(&sector) {
                self.sectors.insert(sector, versions);
                continue;
            }
            let start = sector * SECTOR_BYTES;
            let end = self.cached.len().min(start + SECTOR_BYTES);
            if start < end {
                stable[start..end].copy_from_slice(&self.cached[start..end]);
            }
        }
    }

    /// Clean pages are read from the disk again; those a failed sync left clean come back as they were before.
    fn forget(&mut self) {
        for sector in std::mem::take(&mut self.forsaken) {
            let start = sector * SECTOR_BYTES;
            let cached = Arc::make_mut(&mut self.cached);
            for at in start..cached.len().min(start + SECTOR_BYTES) {
                cached[at] = self.stable.get(at).copied().unwrap_or_default();
            }
            self.sectors.remove(&sector);
        }
    }

    fn after_power_cut(&self, pick: &mut dyn FnMut() -> usize) -> File {
        if self.lengths.is_empty() && self.sectors.is_empty() {
            let (cached, stable) = (self.stable.clone(), self.stable.clone());
            return File { cached, stable, allocated: self.allocated, ..File::default() };
        }
        let mut bytes = self.stable.to_vec();
        let mut length = bytes.len();
        if !self.lengths.is_empty()
            && let Some(chosen) = pick().checked_sub(1)
        {
            length = self.lengths[chosen];
        }
        for (sector, versions) in &self.sectors {
            let Some(chosen) = pick().checked_sub(1) else { continue };
            let start = sector * SECTOR_BYTES;
            if bytes.len() < start + SECTOR_BYTES {
                bytes.resize(start + SECTOR_BYTES, 0);
            }
            bytes[start..start + SECTOR_BYTES].copy_from_slice(&versions[chosen]);
        }
        bytes.resize(length, 0);
        let bytes = Arc::new(bytes);
        File { cached: bytes.clone(), stable: bytes, allocated: self.allocated, ..File::default() }
    }
}

impl Disk for SimDisk {
    /// At once durable, parents too: no test of ours is about directories.
    fn create_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.call(|| format!("create_dir {}", dir.display()))?;
        let mut dir = Some(dir);
        while let Some(path) = dir {
            state.dirs.insert(path.to_path_buf());
            dir = path.parent();
        }
        Ok(())
    }

    fn list(&self, dir: &Path) -> io::Result<Vec<Listed>> {
        let state = self.call(|| format!("list {}", dir.display()))?;
        if !state.dirs.contains(dir) {
            return Err(io::ErrorKind::NotFound.into());
        }
        let inside = state.names.iter().filter(|(path, _)| path.parent() == Some(dir));
        Ok(inside
            .map(|(path, file)| Listed {
                name: path.file_name().unwrap_or_default().to_string_lossy().into_owned(),
                bytes: state.files[*file].cached.len() as u64,
            })
            .collect())
    }

    fn open(&self, path: &Path, how: Open) -> io::Result<Box<dyn DiskFile>> {
        let mut state = self.call(|| format!("open {how:?} {}", path.display()))?;
        let file = match (state.file(path), how) {
            (Ok(file), Open::Create) => {
                state.files[file].set_len(0);
                file
            }
            (Err(_), Open::Create) => {
                if !path.parent().is_some_and(|dir| state.dirs.contains(dir)) {
                    return Err(io::ErrorKind::NotFound.into());
                }
                state.files.push(File::default());
                let file = state.files.len() - 1;
                state.change_name(NameChange::Link { path: path.to_path_buf(), file });
                file
            }
            (found, _) => found?,
        };
        drop(state);
        Ok(Box::new(SimFile { disk: self.clone(), file, path: path.to_path_buf() }))
    }

    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        let mut state = self.call(|| format!("rename {} {}", from.display(), to.display()))?;
        let file = state.file(from)?;
        state.change_name(NameChange::Rename { from: from.to_path_buf(), to: to.to_path_buf(), file });
        Ok(())
    }

    fn unlink(&self, path: &Path) -> io::Result<()> {
        let mut state = self.call(|| format!("unlink {}", path.display()))?;
        state.file(path)?;
        state.change_name(NameChange::Unlink { path: path.to_path_buf() });
        Ok(())
    }

    fn sync_dir(&self, dir: &Path) -> io::Result<()> {
        let mut state = self.call(|| format!("sync_dir {}", dir.display()))?;
        let (synced, rest): (Vec<_>, Vec<_>) =
            std::mem::take(&mut state.name_changes).into_iter().partition(|change| change.is_in(dir));
        state.name_changes = rest;
        for change in synced {
            change.apply(&mut state.stable_names);
        }
        Ok(())
    }

    fn free_bytes(&self, _dir: &Path) -> io::Result<u64> {
        let state = self.call(|| "free_bytes".into())?;
        Ok(state.capacity_bytes.map_or(u64::MAX / 2, |capacity| capacity.saturating_sub(state.used())))
    }

    fn fresh_id(&self) -> [u8; 4] {
        let mut state = self.lock();
        state.next_id += 1;
        state.next_id.wrapping_mul(0x9e37_79b1).to_be_bytes()
    }
}

struct SimFile {
    disk: SimDisk,
    file: usize,
    path: PathBuf,
}

impl SimFile {
    fn call(&self, what: impl FnOnce() -> String) -> io::Result<MutexGuard<'_, State>> {
        self.disk.call(|| format!("{} {}", what(), self.path.display()))
    }
}

impl DiskFile for SimFile {
    fn len(&self) -> io::Result<u64> {
        Ok(self.call(|| "len".into())?.files[self.file].cached.len() as u64)
    }

    fn read_at(&self, bytes: &mut [u8], at: u64) -> io::Result<usize> {
        let state = self.call(|| format!("read {at}"))?;
        let rest = state.files[self.file].cached.get(at as usize..).unwrap_or_default();
        let count = rest.len().min(bytes.len());
        bytes[..count].copy_from_slice(&rest[..count]);
        Ok(count)
    }

    fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<()> {
        let mut state = self.call(|| format!("write {at}+{}", bytes.len()))?;
        state.allocate(self.file, at + bytes.len() as u64)?;
        state.files[self.file].write(at as usize, bytes);
        Ok(())
    }

    fn sync_data(&self) -> io::Result<()> {
        let entered = self.call(|| "sync".into());
        match entered {
            Ok(mut state) => state.files[self.file].sync(),
            Err(error) => {
                // As Linux does: pages whose writing failed are clean afterwards, written or not.
                let mut state = self.disk.lock();
                if !state.stopped {
                    let file = &mut state.files[self.file];
                    file.forsaken = file.sectors.keys().copied().collect();
                }
                return Err(error);
            }
        }
        Ok(())
    }

    fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.call(|| format!("set_len {bytes}"))?.files[self.file].set_len(bytes as usize);
        Ok(())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let mut state = self.call(|| format!("allocate {bytes}"))?;
        state.allocate(self.file, bytes)?;
        if state.files[self.file].cached.len() < bytes as usize {
            state.files[self.file].set_len(bytes as usize);
        }
        Ok(())
    }

    fn forget_cached(&self) {
        let mut state = self.disk.lock();
        if !state.stopped {
            state.files[self.file].forget();
        }
    }

    fn direct(&self) -> io::Result<Option<Box<dyn DirectFile>>> {
        drop(self.call(|| "direct".into())?);
        let file = SimFile { disk: self.disk.clone(), file: self.file, path: self.path.clone() };
        Ok(Some(Box::new(file)))
    }

    fn map(&self) -> io::Result<Box<dyn Mapping>> {
        drop(self.call(|| "map".into())?);
        Ok(Box::new(SimMapping { disk: self.disk.clone(), file: self.file, path: self.path.clone() }))
    }

    fn contents(&self) -> io::Result<Contents> {
        let state = self.call(|| "contents".into())?;
        Ok(Contents::owned(state.files[self.file].cached.to_vec()))
    }
}

impl DirectFile for SimFile {
    /// Block after block, so that a kill falls between two; then all of it is made durable.
    fn write_blocks(&self, blocks: &[u8], at: u64) -> io::Result<()> {
        let aligned = |number: usize| number.is_multiple_of(BLOCK_BYTES);
        assert!(aligned(blocks.as_ptr().addr()) && aligned(blocks.len()) && aligned(at as usize));
        for (number, block) in blocks.chunks(BLOCK_BYTES).enumerate() {
            self.write_at(block, at + (number * BLOCK_BYTES) as u64)?;
        }
        self.sync_data()
    }
}

struct SimMapping {
    disk: SimDisk,
    file: usize,
    path: PathBuf,
}

impl Mapping for SimMapping {
    fn store(&mut self, at: u64, bytes: &[u8]) {
        let mut state = self.disk.lock();
        // A store cannot fail: a planned fault at this number does nothing.
        let entered = state.enter(|| format!("store {at}+{} {}", bytes.len(), self.path.display()));
        if entered.is_ok() || !state.stopped {
            assert!(
                at as usize + bytes.len() <= state.files[self.file].cached.len(),
                "store outside the mapping"
            );
            state.files[self.file].write(at as usize, bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dir() -> &'static Path {
        Path::new("/d")
    }

    fn contents(disk: &SimDisk, name: &str) -> Option<Vec<u8>> {
        disk.read(&dir().join(name)).ok()
    }

    #[test]
    fn what_was_synced_survives_and_the_rest_may() {
        let disk = SimDisk::new();
        disk.create_dir(dir()).unwrap();
        let file = disk.open(&dir().join("a"), Open::Create).unwrap();
        file.write_at(b"one", 0).unwrap();
        file.sync_data().unwrap();
        // Content is stable, the name is not.
        assert_eq!(disk.choices(), [2]);
        assert_eq!(contents(&disk.after_power_cut(&[0]), "a"), None);
        assert_eq!(contents(&disk.after_power_cut(&[1]), "a").unwrap(), b"one");
        disk.sync_dir(dir()).unwrap();
        file.write_at(b"two", 0).unwrap();
        file.write_at(b"six", 0).unwrap();
        assert_eq!(disk.choices(), [3]);
        let left = |pick| contents(&disk.after_power_cut(&[pick]), "a").unwrap();
        assert_eq!([left(0), left(1), left(2)], [b"one", b"two", b"six"]);
        disk.rename(&dir().join("a"), &dir().join("b")).unwrap();
        let cut = disk.after_power_cut(&[1, 0]);
        assert_eq!((contents(&cut, "a"), contents(&cut, "b").unwrap()), (None, b"one".to_vec()));
        assert_eq!(contents(&disk.after_kill(), "b").unwrap(), b"six");
    }

    #[test]
    fn faults_stops_and_a_full_disk_come_when_told() {
        let disk = SimDisk::new();
        disk.create_dir(dir()).unwrap();
        let file = disk.open(&dir().join("a"), Open::Create).unwrap();
        disk.set_capacity(Some(1000));
        file.allocate(900).unwrap();
        assert_eq!(file.allocate(1001).unwrap_err().raw_os_error(), Some(libc::ENOSPC));
        assert_eq!(disk.free_bytes(dir()).unwrap(), 100);
        disk.fail_at(disk.calls(), libc::EIO);
        assert_eq!(file.sync_data().unwrap_err().raw_os_error(), Some(libc::EIO));
        file.sync_data().unwrap();
        disk.stop_at(disk.calls() + 1);
        let mut map = file.map().unwrap();
        map.store(0, b"late");
        assert!(disk.stopped());
        assert!(file.sync_data().is_err());
        disk.fail_at(0, libc::EIO);
        assert_eq!(contents(&disk.after_kill(), "a").unwrap()[..4], [0; 4]);
    }
}
