//! The file that the server's log goes to: opened again when it is told to, and set aside when it has grown to a size.
//! Not here: what the lines look like (`logging`), when it is told to.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Files that are kept of those set aside: `FILE.1`, the newest, to this number.
pub const KEPT: u32 = 5;

pub struct LogFile {
    path: PathBuf,
    /// Set aside before it grows beyond; `None`: never.
    bytes_max: Option<u64>,
    state: Mutex<State>,
}

struct State {
    file: File,
    bytes: u64,
    /// Lines that could not be written since the last one that could.
    lost: u64,
}

impl LogFile {
    /// Lines are added to what is there.
    pub fn open(path: PathBuf, bytes_max: Option<u64>) -> io::Result<LogFile> {
        let (file, bytes) = append_to(&path)?;
        Ok(LogFile { path, bytes_max, state: Mutex::new(State { file, bytes, lost: 0 }) })
    }

    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The file of this name from now on, whatever became of the one that was open. On an error that one stays.
    pub fn reopen(&self) -> io::Result<()> {
        let (file, bytes) = append_to(&self.path)?;
        let mut state = self.lock();
        (state.file, state.bytes) = (file, bytes);
        Ok(())
    }

    /// One line. One that cannot be written is counted, and that is said in the file once it can be again: a full disk is
    /// no reason to stop serving.
    pub fn write(&self, line: &[u8]) {
        let mut state = self.lock();
        let is_full = self.bytes_max.is_some_and(|most| state.bytes + line.len() as u64 > most);
        if is_full && state.bytes > 0 {
            self.set_aside(&mut state);
        }
        if state.lost > 0 {
            let note = format!("({} lines of this log could not be written)\n", state.lost);
            if state.file.write_all(note.as_bytes()).is_err() {
                state.lost += 1;
                return;
            }
            state.lost = 0;
        }
        match state.file.write_all(line) {
            Ok(()) => state.bytes += line.len() as u64,
            Err(_) => state.lost += 1,
        }
    }

    /// `FILE` becomes `FILE.1`, `FILE.1` becomes `FILE.2`, and so on; the oldest goes. Where that fails, the file grows on
    /// for another period of its size.
    fn set_aside(&self, state: &mut State) {
        let numbered = |number: u32| {
            let mut name = self.path.clone().into_os_string();
            name.push(format!(".{number}"));
            PathBuf::from(name)
        };
        state.bytes = 0;
        for number in (1..KEPT).rev() {
            // One that is not there is no trouble; another error shows at the next rename.
            let _ = fs::rename(numbered(number), numbered(number + 1));
        }
        if fs::rename(&self.path, numbered(1)).is_ok()
            && let Ok((file, bytes)) = append_to(&self.path)
        {
            (state.file, state.bytes) = (file, bytes);
        }
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn append_to(path: &Path) -> io::Result<(File, u64)> {
    let file = OpenOptions::new().create(true).append(true).open(path)?;
    let bytes = file.metadata()?.len();
    Ok((file, bytes))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(path: &Path) -> String {
        fs::read_to_string(path).unwrap_or_default()
    }

    #[test]
    fn a_renamed_file_is_left_when_it_is_told_to() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("log");
        fs::write(&path, "before\n").expect("written");
        let log = LogFile::open(path.clone(), None).expect("opened");
        log.write(b"one\n");
        fs::rename(&path, home.path().join("old")).expect("renamed");
        log.write(b"two\n");
        log.reopen().expect("opened again");
        log.write(b"three\n");
        assert_eq!(read(&home.path().join("old")), "before\none\ntwo\n");
        assert_eq!(read(&path), "three\n");
        // A directory in the way: the open file stays.
        fs::remove_file(&path).expect("removed");
        fs::create_dir(&path).expect("made");
        log.reopen().expect_err("a directory");
        log.write(b"four\n");
    }

    #[test]
    fn a_file_of_its_size_is_set_aside_and_few_are_kept() {
        let home = tempfile::tempdir().expect("a directory");
        let path = home.path().join("log");
        let log = LogFile::open(path.clone(), Some(10)).expect("opened");
        for number in 0..20 {
            log.write(format!("line {number}\n").as_bytes());
        }
        log.write(b"one that is longer than a file may be\n");
        assert_eq!(read(&path), "one that is longer than a file may be\n");
        assert_eq!(read(&home.path().join("log.1")), "line 19\n");
        assert_eq!(read(&home.path().join(format!("log.{KEPT}"))), format!("line {}\n", 20 - KEPT));
        assert_eq!(fs::read_dir(home.path()).expect("listed").count(), KEPT as usize + 1);
    }
}
