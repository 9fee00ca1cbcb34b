//! Loads of one kind: many requests of one or a few sessions, pipelined, each answered without an error.

use ostler_bench::frames;
use ostler_bench::measure::Usage;
use ostler_bench::swarm::{Happening, Swarm};
use ostler_tests::peers::Server;
use std::io;
use std::time::{Duration, Instant};

const ANSWER_MAX: Duration = Duration::from_secs(60);
/// Requests outstanding over all members of the swarm.
const DEPTH: usize = 512;

/// Members `0..lanes` send the requests `0..count` that `write` makes of an xid and a number.
pub fn pipeline(
    swarm: &mut Swarm,
    lanes: usize,
    count: usize,
    mut write: impl FnMut(&mut Vec<u8>, i32, usize),
) -> io::Result<Duration> {
    let began = Instant::now();
    let mut free: Vec<usize> = (0..lanes).flat_map(|lane| vec![lane; DEPTH.div_ceil(lanes)]).collect();
    let (mut sent, mut done) = (0, 0);
    let mut bad = None;
    while done < count {
        while sent < count
            && let Some(lane) = free.pop()
        {
            swarm.send(lane, |out| write(out, 1 + (sent % 1_000_000) as i32, sent))?;
            sent += 1;
        }
        swarm.turn(Instant::now() + ANSWER_MAX, &mut |happening| match happening {
            Happening::Frame(lane, frame) => {
                let Some(header) = frames::reply_header(frame).filter(|header| header.xid > 0) else {
                    return;
                };
                done += 1;
                free.push(lane);
                if header.error != 0 {
                    bad = Some(format!("request {} was answered with {}", header.xid, header.error));
                }
            }
            Happening::Established(..) => {}
            Happening::Closed(lane) | Happening::Refused(lane) => {
                bad = Some(format!("the server closed the connection of member {lane}"));
            }
        })?;
        if let Some(why) = bad {
            return Err(io::Error::other(format!("after {done} answers: {why}")));
        }
    }
    Ok(began.elapsed())
}

/// A number that `mntr` tells.
pub fn metric(server: &Server, name: &str) -> io::Result<u64> {
    let text = server.ask("mntr");
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('\t'));
    let value = line.and_then(|value| value.trim().parse::<f64>().ok());
    value
        .map(|value| value as u64)
        .ok_or_else(|| io::Error::other(format!("mntr says nothing of {name}: {text:?}")))
}

/// Memory of the server's own in MiB: what is resident and no page of the log.
pub fn memory_mib(server: &Server) -> io::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:"));
    let kib = line.and_then(|rest| rest.trim().strip_suffix(" kB")?.trim().parse::<f64>().ok());
    kib.map(|kib| kib / 1024.0).ok_or_else(|| io::Error::other("the server is gone"))
}

/// CPU time the server has used.
pub fn cpu(server: &Server) -> Duration {
    Usage::of(server.pid()).map_or(Duration::ZERO, |usage| usage.cpu())
}
