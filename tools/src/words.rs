//! `ostler 4lw`: sends a four-letter word to a server and prints what comes back.
//! Not here: what the words mean (`ostler_engine::admin`).

use std::io::{self, Read, Write};
use std::net::{TcpStream, ToSocketAddrs};
use std::time::Duration;

use clap::builder::PossibleValuesParser;
use ostler_engine::admin::FourLetter;

use crate::exit;

/// Longest wait for an answer to begin, or to go on.
const PATIENCE: Duration = Duration::from_secs(10);

const EXIT_CODES: &str = "\
Exit codes: 0 answered; 1 the server cannot be reached, does not answer, or does not allow the word \
(4lw.commands.whitelist); 2 the command line makes no sense.";

#[derive(clap::Args)]
#[command(after_help = EXIT_CODES)]
pub struct Options {
    /// Name or address of the server.
    host: String,
    /// Its client port.
    port: u16,
    /// What to ask.
    #[arg(value_parser = PossibleValuesParser::new(FourLetter::ALL.map(FourLetter::name)))]
    word: String,
    /// For stmk: the trace mask to set.
    #[arg(allow_negative_numbers = true, required_if_eq("word", "stmk"))]
    mask: Option<i64>,
}

pub fn run(options: &Options) -> i32 {
    let mut words = options.word.clone().into_bytes();
    match (options.word.as_str(), options.mask) {
        ("stmk", Some(mask)) => words.extend(mask.to_be_bytes()),
        (word, Some(_)) => {
            eprintln!("{word} takes no mask; stmk does");
            return exit::CONFIG;
        }
        _ => {}
    }
    let complaint = match ask(&options.host, options.port, &words) {
        Ok(answer) => {
            let mut out = io::stdout().lock();
            let _ = out.write_all(&answer).and_then(|()| out.flush());
            match answer.as_slice() {
                [] => "the server closed the connection without an answer".to_owned(),
                refusal if refusal.ends_with(b"is not in the whitelist.\n") => {
                    format!("to allow it, add {} to 4lw.commands.whitelist of the server", options.word)
                }
                _ => return exit::OK,
            }
        }
        Err(error) if matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut) => {
            format!("no answer within {} s", PATIENCE.as_secs())
        }
        Err(error) => error.to_string(),
    };
    eprintln!("{}:{}: {complaint}", options.host, options.port);
    exit::ERROR
}

/// The whole answer to `word`; empty when the server closed without one.
pub fn ask(host: &str, port: u16, word: &[u8]) -> io::Result<Vec<u8>> {
    ask_within(host, port, word, PATIENCE)
}

/// The same with another longest wait for an answer to begin, or to go on.
pub fn ask_within(host: &str, port: u16, word: &[u8], patience: Duration) -> io::Result<Vec<u8>> {
    let mut refused = io::Error::new(io::ErrorKind::NotFound, "the name has no address");
    for address in (host, port).to_socket_addrs()? {
        match TcpStream::connect_timeout(&address, patience) {
            Ok(stream) => return exchange(stream, word, patience),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}

fn exchange(mut stream: TcpStream, word: &[u8], patience: Duration) -> io::Result<Vec<u8>> {
    stream.set_read_timeout(Some(patience))?;
    stream.write_all(word)?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(answer)
}
