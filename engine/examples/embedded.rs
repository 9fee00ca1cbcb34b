//! A server inside another program: `cargo run --example embedded [DIRECTORY]`. Connect to it with any ZooKeeper client; a
//! line on standard input ends it.

use std::io::{self, Read, Write};
use std::net::TcpStream;

use ostler_engine::config::Config;
use ostler_engine::server::Server;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let directory = std::env::args().nth(1).unwrap_or_else(|| "ostler-embedded".to_owned());
    // Loopback on a free port, every four-letter word, no limit on connections; all of it can be set otherwise.
    let server = Server::start(Config { snap_txns: 10_000, ..Config::embedded(&directory) })?;
    println!("serving {} on {}", directory, server.local_addr());

    let mut question = TcpStream::connect(server.local_addr())?;
    question.write_all(b"srvr")?;
    let mut answer = String::new();
    question.read_to_string(&mut answer)?;
    print!("{answer}");

    io::stdin().read_line(&mut String::new())?;
    // Answers what was accepted, syncs, ends every thread.
    server.stop();
    Ok(())
}
