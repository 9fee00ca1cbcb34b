//! What happened, in order, in words: the last lines are printed when a run fails, the hash of all lines tells whether
//! two runs were the same. Not here: judging it (`checker`).

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hasher};
use std::time::Duration;

/// Lines kept when the caller does not want them all.
const LINES_KEPT: usize = 120;

pub struct History {
    lines: VecDeque<String>,
    hash: DefaultHasher,
    count: u64,
    /// Prints each line as it comes.
    pub verbose: bool,
}

impl History {
    pub fn new(verbose: bool) -> History {
        History { lines: VecDeque::new(), hash: DefaultHasher::new(), count: 0, verbose }
    }

    pub fn note(&mut self, now_nanos: u64, what: String) {
        let line = format!("{:>12.3} ms  {what}", Duration::from_nanos(now_nanos).as_secs_f64() * 1e3);
        if self.verbose {
            eprintln!("{line}");
        }
        self.hash.write(line.as_bytes());
        self.count += 1;
        self.lines.push_back(line);
        if self.lines.len() > LINES_KEPT {
            self.lines.pop_front();
        }
    }

    pub fn lines(&self) -> impl Iterator<Item = &str> {
        self.lines.iter().map(String::as_str)
    }

    pub fn len(&self) -> u64 {
        self.count
    }

    pub fn hash(&self) -> u64 {
        self.hash.finish()
    }
}
