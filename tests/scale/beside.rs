//! A session that goes on with pings, writes and reads while something large happens, and keeps the longest of each.

use ostler_tests::client::{Client, op};
use ostler_tests::jute::Body;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

const PATH: &str = "/beside";
const TIMEOUT_MS: i32 = 30_000;
/// Between two rounds: enough rounds to meet every stall, few enough to leave the server to its work.
const PACE: Duration = Duration::from_millis(2);

pub struct Beside {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<io::Result<Longest>>,
}

/// The longest a request of each kind took.
#[derive(Clone, Copy, Default, Debug)]
pub struct Longest {
    pub rounds: u64,
    pub ping: Duration,
    pub write: Duration,
    pub read: Duration,
}

impl Beside {
    pub fn begin(address: SocketAddr) -> io::Result<Beside> {
        let mut client = Client::connect(address, TIMEOUT_MS)?;
        let error = client.create(PATH, b"")?;
        super::ensure(error == 0 || error == -110, || format!("create {PATH}: {error}"))?;
        let stop = Arc::new(AtomicBool::new(false));
        let asked = stop.clone();
        let thread = std::thread::spawn(move || {
            let mut longest = Longest::default();
            while !asked.load(Ordering::Relaxed) {
                longest.round(&mut client)?;
                std::thread::park_timeout(PACE);
            }
            client.close()?;
            Ok(longest)
        });
        Ok(Beside { stop, thread })
    }

    /// What it met until now. An error if any of its requests failed.
    pub fn end(self) -> io::Result<Longest> {
        self.stop.store(true, Ordering::Relaxed);
        self.thread.join().map_err(|_| io::Error::other("the session beside panicked"))?
    }
}

impl Longest {
    fn round(&mut self, client: &mut Client) -> io::Result<()> {
        let set = Body::new().string(PATH).buffer(Some(b"x")).int(-1).0;
        let get = Body::new().string(PATH).bool(false).0;
        let mut call = |longest: &mut Duration, what: i32, body: &[u8]| {
            let began = Instant::now();
            let error = client.call(what, body)?.err;
            *longest = (*longest).max(began.elapsed());
            super::ensure(error == 0, || format!("op {what} beside was answered with {error}"))
        };
        call(&mut self.ping, op::PING, &[])?;
        call(&mut self.write, op::SET_DATA, &set)?;
        call(&mut self.read, op::GET_DATA, &get)?;
        self.rounds += 1;
        Ok(())
    }

    pub fn most(&self) -> Duration {
        self.ping.max(self.write).max(self.read)
    }

    pub fn or(self, other: Longest) -> Longest {
        Longest {
            rounds: self.rounds + other.rounds,
            ping: self.ping.max(other.ping),
            write: self.write.max(other.write),
            read: self.read.max(other.read),
        }
    }
}

impl fmt::Display for Longest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = |time: Duration| time.as_secs_f64() * 1e3;
        write!(
            f,
            "longest of {} rounds beside: ping {:.1} ms, write {:.1} ms, read {:.1} ms",
            self.rounds,
            ms(self.ping),
            ms(self.write),
            ms(self.read)
        )
    }
}
