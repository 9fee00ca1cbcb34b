//! Looks at every moment of a scripted server's lives: what a kill there leaves, what a power cut can leave, whether a
//! start comes to what was promised and goes on from it. One of the moments then becomes the end of that life, and the
//! next life starts from what it left.
//! Not here: the server, what is promised (`ledger`).

use crate::figures::Figures;
use crate::ledger::Ledger;
use crate::server::{Server, Shape, SharedLedger, Subject, engine_start, lock};
use crate::watched::{Next, Watch, Watched};
use ostler_engine::io::disk::Disk;
use ostler_engine::io::disk_sim::SimDisk;
use ostler_engine::log::{At, FILE_HEADER_BYTES, Method, Origin, log_files, record_at};
use ostler_tests::random::Random;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

/// How much is tried at each point.
#[derive(Clone, Copy, Debug)]
pub struct Effort {
    /// Sets of unsynced things with at most so many states are gone through whole.
    pub exhaustive_most: usize,
    /// Of larger ones: so many states by dice, beside the extremes and each thing alone.
    pub random_cuts: usize,
    /// A start from one in so many of what kills leave is looked at call by call, too.
    pub nested_one_in: u64,
}

/// What looks on while a life runs.
struct Watcher {
    shape: Shape,
    subject: Subject,
    effort: Effort,
    ledger: SharedLedger,
    random: Random,
    figures: Figures,
    /// Moments so far; the life ends at this one.
    moments: u64,
    end_at: u64,
    wrong: Option<String>,
    name: String,
    /// Starts until the disk is free of what a power cut has torn.
    torn_until: u64,
}

/// So many lives, one after the other, of one script. The figures, or the story of what went wrong.
pub fn explore(seed: u64, lives: u64, subject: &Subject, effort: Effort) -> Result<Figures, String> {
    let mut random = Random::new(seed);
    let shape = Shape::chosen(&mut random);
    let ledger = first_page(&shape)?;
    let mut disk = SimDisk::new();
    let mut figures = Figures::default();
    let mut torn = false;
    for life in 0..lives {
        let watcher = Watcher {
            shape: shape.clone(),
            subject: *subject,
            effort,
            ledger: ledger.clone(),
            random: random.fork(),
            figures: Figures::default(),
            moments: 0,
            end_at: random.between(1, 500),
            wrong: None,
            name: format!("seed {seed}, life {life}"),
            torn_until: lock(&ledger).starts() + u64::from(torn),
        };
        let (ended, watcher) = watch(&disk, watcher, |disk, random| {
            let server = Server::start(disk, &shape, subject, &ledger, random)?;
            server.live(18)
        });
        figures.merge(&watcher.figures);
        let story = |why: &str| format!("seed {seed}, life {life}, {shape:?}: {why}");
        if let Some(wrong) = &watcher.wrong {
            return Err(story(wrong));
        }
        if let Err(why) = ended
            && !disk.stopped()
        {
            return Err(story(&why));
        }
        // A life that ended within its start has left torn what was.
        let still = torn && lock(&ledger).starts() < watcher.torn_until;
        let power = random.one_in(2);
        torn = power || still;
        disk = left(&disk, power, &mut random);
    }
    Ok(figures)
}

/// The ledger of a server never used.
pub fn first_page(shape: &Shape) -> Result<SharedLedger, String> {
    let digest = engine_start(&SimDisk::new(), shape)?.digest();
    Ok(Arc::new(Mutex::new(Ledger::new(digest))))
}

/// What the next life finds: a killed process's disk, or that of a power cut.
fn left(disk: &SimDisk, power: bool, random: &mut Random) -> SimDisk {
    if !power {
        return disk.after_kill();
    }
    let picks: Vec<usize> =
        disk.choices().into_iter().map(|states| random.below(states as u64) as usize).collect();
    disk.after_power_cut(&picks)
}

/// Runs `act` on a watched `disk`. A panic is an error like any other.
fn watch(
    disk: &SimDisk,
    mut watcher: Watcher,
    act: impl FnOnce(Arc<dyn Disk>, Random) -> Result<(), String>,
) -> (Result<(), String>, Watcher) {
    let (subject, random) = (watcher.subject, watcher.random.fork());
    let shared = Arc::new(Mutex::new(watcher));
    let looking = shared.clone();
    let look: Arc<Watch> = Arc::new(move |disk: &SimDisk, next: Next, path: &Path| {
        looking.lock().unwrap_or_else(PoisonError::into_inner).look(disk, next, path);
    });
    let watched = Watched { sim: disk.clone(), under: (subject.lay)(disk.clone()), watch: look };
    let ended = catch_unwind(AssertUnwindSafe(|| act(Arc::new(watched), random)));
    let ended = ended.unwrap_or_else(|panic| Err(words(&*panic)));
    let watcher = Arc::into_inner(shared).expect("everything that held the disk is gone");
    (ended, watcher.into_inner().unwrap_or_else(PoisonError::into_inner))
}

pub fn words(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().cloned();
    let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
    format!("panic: {}", text.unwrap_or_default())
}

impl Watcher {
    fn look(&mut self, disk: &SimDisk, next: Next, path: &Path) {
        if self.wrong.is_some() || disk.stopped() {
            return;
        }
        self.moments += 1;
        let stop = || disk.stop_at(disk.calls());
        // Nothing depends on where among zeros a crash falls: some are looked at, none is counted.
        let counted = match next {
            Next::Zeros if !self.moments.is_multiple_of(13) => false,
            Next::Zeros => {
                self.figures.idle.add(next.words(), 1);
                true
            }
            _ => {
                self.figures.points.add(next.words(), 1);
                true
            }
        };
        if counted && let Err(why) = self.judge(disk) {
            self.wrong = Some(format!("{} (call {} of {})", why, self.moments, self.name));
            self.wrong = self.wrong.take().map(|why| format!("{} {}: {why}", next.words(), path.display()));
            return stop();
        }
        if self.moments == self.end_at {
            stop();
        }
    }

    /// All that may be left of the disk at this moment.
    fn judge(&mut self, disk: &SimDisk) -> Result<(), String> {
        let ledger = lock(&self.ledger).clone();
        let killed = disk.after_kill();
        // What goes past the page cache may be torn by a kill, too.
        if ledger.starts() >= self.torn_until && self.shape.method != Method::Direct {
            apache_stops_cleanly(&killed, &self.shape).map_err(|why| format!("killed: {why}"))?;
        }
        if self.effort.nested_one_in > 0 && self.random.one_in(self.effort.nested_one_in) {
            self.look_at_start(&killed.after_kill(), &ledger)?;
        }
        self.figures.disks.add("after a kill", 1);
        self.starts_and_goes_on(&killed, &ledger, true).map_err(|why| format!("killed: {why}"))?;
        let (effort, mut random) = (self.effort, self.random.fork());
        let mut images = 0;
        let whole = power_cuts(disk, &effort, &mut random, &mut |left, picks| {
            images += 1;
            let on = images % 4 == 1;
            self.starts_and_goes_on(left, &ledger, on)
                .map_err(|why| format!("power cut, left {picks:?}: {why}"))
        })?;
        self.figures.disks.add("after a power cut", images);
        let name = if whole { "every legal state of the set" } else { "extremes, each alone, and by dice" };
        self.figures.sets.add(name, 1);
        Ok(())
    }

    /// A start from there, looked at call by call like a life.
    fn look_at_start(&mut self, disk: &SimDisk, ledger: &Ledger) -> Result<(), String> {
        let watcher = Watcher {
            shape: self.shape.clone(),
            subject: self.subject,
            effort: Effort { exhaustive_most: 8, random_cuts: 1, nested_one_in: 0 },
            ledger: Arc::new(Mutex::new(ledger.clone())),
            random: self.random.fork(),
            figures: Figures::default(),
            moments: 0,
            end_at: u64::MAX,
            wrong: None,
            torn_until: self.torn_until,
            name: format!("the start after that of call {} of {}", self.moments, self.name),
        };
        let (start, shape) = (self.subject.start, self.shape.clone());
        let (ended, watcher) = watch(disk, watcher, |disk, _| start(&*disk, &shape).map(drop));
        self.figures.points.add("within the start after another kill", watcher.figures.points.sum());
        self.figures.idle.merge(&watcher.figures.idle);
        self.figures.disks.merge(&watcher.figures.disks);
        self.figures.sets.merge(&watcher.figures.sets);
        watcher.wrong.map_or(ended, Err)
    }

    fn starts_and_goes_on(&self, left: &SimDisk, ledger: &Ledger, on: bool) -> Result<(), String> {
        let mut head = (self.subject.start)(&*(self.subject.lay)(left.clone()), &self.shape)
            .map_err(|why| format!("no start: {why}"))?;
        let zxid = ledger.judge(&mut head)?;
        if !on {
            return Ok(());
        }
        drop(head);
        let mut ledger = ledger.clone();
        ledger.started(zxid);
        let ledger = Arc::new(Mutex::new(ledger));
        let random = Random::new(zxid + 1);
        let under = (self.subject.lay)(left.clone());
        let mut server = Server::start(under, &self.shape, &self.subject, &ledger, random)
            .map_err(|why| format!("no second start: {why}"))?;
        server.batch(3).map_err(|why| format!("no write behind a start: {why}"))?;
        drop(server);
        // Also when the power fails now: what the start found unsynced and built upon must not go.
        let left = left.after_power_cut(&vec![0; left.choices().len()]);
        let mut head = (self.subject.start)(&*(self.subject.lay)(left), &self.shape)
            .map_err(|why| format!("no third start: {why}"))?;
        lock(&ledger).judge(&mut head).map_err(|why| format!("then, the power lost: {why}")).map(drop)
    }
}

/// Apache's reader stops cleanly at the end of every log file that has a name: at a length of 0, whatever the checksum.
fn apache_stops_cleanly(left: &SimDisk, shape: &Shape) -> Result<(), String> {
    let logs = shape.paths().logs;
    for file in log_files(left, &logs).unwrap_or_default() {
        let bytes = left.read(&file.path).map_err(|error| error.to_string())?;
        let mut at = FILE_HEADER_BYTES as u64;
        while let At::Record(record) = record_at(&bytes, at, Origin::Apache) {
            at = record.next_bytes;
        }
        let rest = bytes.get(at as usize..).unwrap_or_default();
        if rest.len() >= 12 && rest[8..12] != [0; 4] {
            return Err(format!("Apache would refuse {} at {at}", file.path.display()));
        }
    }
    Ok(())
}

type Each<'a> = dyn FnMut(&SimDisk, &[usize]) -> Result<(), String> + 'a;

/// Calls `each` for what power cuts at this point can leave: all of it when that is not more than the bound, otherwise
/// both extremes, each thing lost or kept alone, and others by dice. Whether it was all.
fn power_cuts(
    disk: &SimDisk,
    effort: &Effort,
    random: &mut Random,
    each: &mut Each<'_>,
) -> Result<bool, String> {
    const ALONE_MOST: usize = 24;
    let choices = disk.choices();
    let mut picks = vec![0; choices.len()];
    let mut look = |picks: &[usize]| each(&disk.after_power_cut(picks), picks);
    let all = choices.iter().try_fold(1_usize, |all, states| all.checked_mul(*states));
    if all.is_some_and(|all| all <= effort.exhaustive_most) {
        loop {
            look(&picks)?;
            // The next combination, as an odometer turns.
            let Some(wheel) = (0..picks.len()).find(|wheel| picks[*wheel] + 1 < choices[*wheel]) else {
                return Ok(true);
            };
            picks[..wheel].fill(0);
            picks[wheel] += 1;
        }
    }
    look(&picks)?;
    let newest: Vec<usize> = choices.iter().map(|states| states - 1).collect();
    look(&newest)?;
    let step = choices.len().div_ceil(ALONE_MOST);
    for at in (0..choices.len()).step_by(step.max(1)) {
        let mut alone = vec![0; choices.len()];
        alone[at] = newest[at];
        look(&alone)?;
        let mut lost = newest.clone();
        lost[at] = 0;
        look(&lost)?;
    }
    for _ in 0..effort.random_cuts {
        // Mostly lost, mostly kept, or evenly mixed.
        let bias = random.below(3);
        for (pick, states) in picks.iter_mut().zip(&choices) {
            *pick = match (bias, random.below(8)) {
                (0, 1..) => 0,
                (1, 1..) => states - 1,
                _ => random.below(*states as u64) as usize,
            };
        }
        look(&picks)?;
    }
    Ok(false)
}
