//! What crowds cost that do nothing at the moment: watches and idle sessions (P12, P13).

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::tree::settled_bytes;
use super::{AtMost, Lab, Line, Server, Settings, dearer, rate, stands, stands_or_counts, when_valid};
use crate::frames::{self, Op};
use crate::measure::anonymous_bytes;
use crate::scenario;
use crate::statistics::median;
use crate::swarm::{Happening, Swarm};

const WATCHERS: usize = 10_000;
const IDLE_SESSIONS: usize = 16_000;
const HANDSHAKES_AT_ONCE: usize = 512;
const LIMIT: Duration = Duration::from_secs(120);
const SESSION_TIMEOUT_MS: i32 = 30_000;

fn anonymous(server: &Server) -> f64 {
    anonymous_bytes(server.pid()).unwrap_or(0) as f64
}

/// P12: memory of watches, their price for who does not meet them, and the firing of many.
pub fn watches(lab: &mut Lab<'_, '_>) -> io::Result<()> {
    let kind = lab.ostler();
    let watched = lab.start(&kind, "watched")?;
    let plain = lab.start(&kind, "plain")?;
    for server in [&watched, &plain] {
        build(lab, server)?;
    }
    one_znode(lab, &plain)?;
    lab.say("a watch on every znode");
    let before = anonymous(&watched);
    // Held until the end: the watches live as long as their sessions.
    let held = watch_every_key(lab, &watched)?;
    let each = (anonymous(&watched) - before) / lab.keys() as f64;
    let what = format!("memory per watch, {} spread over existing znodes", lab.keys());
    lab.line(Line::once("P12", &what, AtMost, 40.0, "bytes", each).note("anonymous memory"));
    let beside = set_data_beside(lab, &watched, &plain)?;
    drop(held);
    let fired = firing(lab, &plain);
    drop((watched, plain));
    if !beside.wants_rounds() || !lab.counts() {
        lab.line(beside);
        return fired;
    }
    lab.line_counted(beside, |lab, beside| {
        let (plain, watched) = (lab.start_counted("plain", build)?, lab.start_counted("watched", build)?);
        lab.say("a watch on every znode of the server whose instructions are counted");
        let _held = watch_every_key(lab, &watched)?;
        lab.count(beside, [&plain, &watched], |lab, server, _, round| unwatched(lab, server, round))
    });
    fired
}

/// The znodes to be watched, and those that nobody watches.
fn build(lab: &mut Lab<'_, '_>, server: &Server) -> io::Result<()> {
    let mut settings = lab.settings(server, &[(Op::Read, 1)], 100, 16);
    lab.preload(&settings)?;
    settings.keys = UNWATCHED;
    lab.preload(&settings)
}

/// setData of znodes nobody watches.
fn unwatched(lab: &Lab<'_, '_>, server: &Server, seed: u64) -> Settings {
    let mut settings = lab.settings(server, &[(Op::Write, 1)], 100, 16);
    (settings.keys, settings.seed) = (UNWATCHED, seed);
    settings.duration = settings.duration.min(Duration::from_millis(1_200));
    settings
}

/// Ten thousand sessions that watch the same znode.
fn one_znode(lab: &mut Lab<'_, '_>, server: &Server) -> io::Result<()> {
    lab.say("many watches on one znode");
    let mut swarm = Swarm::new(vec![server.address], SESSION_TIMEOUT_MS)?;
    swarm.open(WATCHERS, HANDSHAKES_AT_ONCE, LIMIT)?;
    let mut path = Vec::new();
    lab.settings(server, &[], 1, 1).keys.path(&mut path, 0);
    // Once without the watch: buffers of the connections are not to be counted among its bytes.
    swarm.each(HANDSHAKES_AT_ONCE, LIMIT, |_, out| frames::get_data(out, 1, &path, false))?;
    let before = settled_bytes(server);
    swarm.each(HANDSHAKES_AT_ONCE, LIMIT, |_, out| frames::get_data(out, 2, &path, true))?;
    let each = (settled_bytes(server) - before) / WATCHERS as f64;
    swarm.leave(LIMIT)?;
    let what = format!("memory per watch, {WATCHERS} sessions on one znode");
    lab.line(
        Line::once("P12", &what, AtMost, 16.0, "bytes", each)
            .note("anonymous memory in pages of 4096 bytes, once it moves no more"),
    );
    Ok(())
}

fn watch_every_key(lab: &Lab<'_, '_>, server: &Server) -> io::Result<Swarm> {
    const LANES: usize = 16;
    const OUTSTANDING: u64 = 512;
    let keys = lab.settings(server, &[], 1, 1).keys;
    let mut swarm = Swarm::new(vec![server.address], 600_000)?;
    swarm.open(LANES, LANES, LIMIT)?;
    let (mut sent, mut done) = (0, 0);
    let mut path = Vec::new();
    while done < keys.count {
        while sent < keys.count && sent - done < OUTSTANDING {
            path.clear();
            keys.path(&mut path, sent);
            swarm.send(sent as usize % LANES, |out| frames::get_data(out, 1, &path, true))?;
            sent += 1;
        }
        swarm.turn(Instant::now() + LIMIT, &mut |happening| {
            done += u64::from(matches!(happening, Happening::Frame(..)));
        })?;
    }
    Ok(swarm)
}

/// setData of a znode nobody watches, with and without all those watches elsewhere.
fn set_data_beside(lab: &mut Lab<'_, '_>, watched: &Server, plain: &Server) -> io::Result<Line> {
    let (counts, mut costs) = (lab.counts(), Vec::new());
    let what = format!("CPU of setData with {} watches elsewhere", lab.keys());
    for round in 1.. {
        let mut reports = Vec::new();
        for (server, label) in [(plain, "without watches"), (watched, "with watches elsewhere")] {
            let settings = unwatched(lab, server, round);
            reports.push(lab.load(&format!("setData {label}"), &settings)?);
        }
        let [without, with] = &reports[..] else { unreachable!("two servers") };
        costs.extend(dearer(without, with));
        let line = Line::rounds("P12", &what, AtMost, 1.02, "times", &costs);
        if stands_or_counts(round, &line, counts) {
            return Ok(line);
        }
    }
    unreachable!("rounds end")
}

/// Keys of another shape than the watched ones.
const UNWATCHED: crate::keys::Keys = crate::keys::Keys { shape: crate::keys::Shape::Flat, count: 1_000 };

/// From the change until the last of ten thousand events came, against an echo that just sends them.
fn firing(lab: &mut Lab<'_, '_>, server: &Server) -> io::Result<()> {
    let kind = lab.echo();
    let echo = lab.start(&kind, "")?;
    let (mut ratios, mut ours) = (Vec::new(), Vec::new());
    let what = format!("change to last of {WATCHERS} events, over bare sends");
    for round in 1.. {
        let mut medians = Vec::new();
        for server in [server, &echo] {
            lab.say(&format!("firing {WATCHERS} watches, round {round}: {}", server.kind.name));
            let mut settings = lab.settings(server, &[], 1, 1);
            (settings.population, settings.duration) = (WATCHERS, Duration::from_millis(500));
            let report = scenario::watch(&settings, &mut |_| {})?;
            medians.push(report.value("p50").unwrap_or(f64::NAN));
        }
        ratios.push(medians[0] / medians[1]);
        ours.push(medians[0] / 1e3);
        let line = Line::rounds("P12", &what, AtMost, 1.25, "times", &ratios);
        if stands(round, &line) {
            lab.line(line.note(format!("{:.1} ms", median(&ours))));
            break;
        }
    }
    Ok(())
}

/// P13: sixteen thousand sessions that only ping, beside a load.
pub fn idle(lab: &mut Lab<'_, '_>) -> io::Result<()> {
    let kind = lab.ostler();
    let crowded = lab.start(&kind, "crowded")?;
    let empty = lab.start(&kind, "empty")?;
    let mix = [(Op::Read, 10), (Op::Write, 1)];
    for server in [&crowded, &empty] {
        let settings = lab.settings(server, &mix, 100, 16);
        lab.preload(&settings)?;
    }
    lab.say("opening idle sessions");
    // Idle is what they shall be: what the crowd's arrival needed for a moment is not theirs.
    let before = settled_bytes(&crowded);
    let mut swarm = Swarm::new(vec![crowded.address], SESSION_TIMEOUT_MS)?;
    swarm.open(IDLE_SESSIONS, HANDSHAKES_AT_ONCE, LIMIT)?;
    let each = (settled_bytes(&crowded) - before) / IDLE_SESSIONS as f64;
    let stop = Arc::new(AtomicBool::new(false));
    let pinging = {
        let stop = stop.clone();
        std::thread::spawn(move || ping(swarm, &stop))
    };
    let (mut lost, mut costs) = (Vec::new(), Vec::new());
    let what = format!("throughput lost to {IDLE_SESSIONS} idle sessions");
    let mut line = Line::absent("P13", &what, AtMost, 5.0, "%", "no round");
    for round in 1.. {
        let mut reports = Vec::new();
        for (server, label) in [(&empty, "alone"), (&crowded, "beside idle sessions")] {
            let mut settings = lab.settings(server, &mix, 100, 16);
            settings.seed = round;
            reports.push(lab.load(&format!("10:1 {label}"), &settings)?);
        }
        let [alone, beside] = &reports[..] else { unreachable!("two servers") };
        lost.extend(when_valid(&[alone, beside], (1.0 - rate(beside) / rate(alone)) * 100.0));
        // What the pings cost stands in what the server spends on each operation.
        costs.extend(dearer(alone, beside).map(|times| (1.0 - 1.0 / times) * 100.0));
        let percent = |values: &[f64]| Line::rounds("P13", &what, AtMost, 5.0, "%", values);
        line = Line::either(percent, &lost, &costs);
        if stands(round, &line) {
            break;
        }
    }
    stop.store(true, Ordering::Relaxed);
    let gone = pinging.join().map_err(|_| io::Error::other("the pinging thread panicked"))??;
    let note = format!("{}; {gone} of them were lost", line.note);
    lab.line(line.note(note));
    let what = format!("memory per idle session, {IDLE_SESSIONS} of them");
    lab.line(
        Line::once("P13", &what, AtMost, 512.0, "bytes", each)
            .note("anonymous memory, once it moves no more"),
    );
    Ok(())
}

/// Pings from every member, spread over a third of the session timeout; how many the server dropped.
fn ping(mut swarm: Swarm, stop: &AtomicBool) -> io::Result<usize> {
    let count = swarm.len();
    let interval = Duration::from_millis(SESSION_TIMEOUT_MS as u64 / 3);
    let begin = Instant::now();
    let (mut sent, mut lost) = (0u64, 0);
    while !stop.load(Ordering::Relaxed) {
        let due = (begin.elapsed().as_secs_f64() / interval.as_secs_f64() * count as f64) as u64;
        while sent < due {
            // A member that is gone is counted below.
            let _ = swarm.send(sent as usize % count, frames::ping);
            sent += 1;
        }
        swarm.turn(Instant::now() + LIMIT, &mut |happening| {
            lost += usize::from(matches!(happening, Happening::Closed(_)));
        })?;
    }
    Ok(lost)
}
