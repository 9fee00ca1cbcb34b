//! `ostler 4lw`: sends a four-letter word to a server and prints what comes back.

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use crate::exit;

/// Longest wait for an answer to begin, or to go on.
const PATIENCE: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
pub struct Options {
    /// Name or address of the server.
    host: String,
    /// Its client port.
    port: u16,
    /// The word: conf, cons, crst, dirs, dump, envi, gtmk, hash, isro, mntr, ruok, srst, srvr, stat, stmk, wchc, wchp
    /// or wchs.
    word: String,
}

pub fn run(options: &Options) -> i32 {
    match ask(&options.host, options.port, options.word.as_bytes()) {
        Ok(answer) => {
            let mut out = io::stdout().lock();
            let _ = out.write_all(&answer).and_then(|()| out.flush());
            exit::OK
        }
        Err(error) => {
            eprintln!("{}:{}: {error}", options.host, options.port);
            exit::ERROR
        }
    }
}

/// The whole answer to `word`; empty when the server closed without one.
pub fn ask(host: &str, port: u16, word: &[u8]) -> io::Result<Vec<u8>> {
    let mut refused = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, PATIENCE) {
            Ok(stream) => return exchange(stream, word),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

fn exchange(mut stream: TcpStream, word: &[u8]) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(word)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}
