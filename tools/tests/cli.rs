//! The shell against servers that are not there: what a user is told, and when.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::process::{Command, Stdio};

/// The first line of standard error must come while the command still waits, and say this; then the command fails.
#[track_caller]
fn check(server: &str, said: &str) {
    let mut shell = Command::new(env!("CARGO_BIN_EXE_ostler"))
        .args(["cli", "-server", server, "-timeout", "4000", "ls", "/"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("ostler runs");
    let mut errors = BufReader::new(shell.stderr.take().expect("piped"));
    let mut line = String::new();
    errors.read_line(&mut line).expect("a line");
    assert!(line.contains(said), "{line}");
    assert!(shell.try_wait().expect("asked").is_none(), "it did not wait: {line}");
    let mut rest = String::new();
    errors.read_to_string(&mut rest).expect("its last words");
    assert!(rest.contains("KeeperErrorCode = ConnectionLoss for /"), "{rest}");
    assert_eq!(shell.wait().expect("it ends").code(), Some(1));
}

#[test]
fn a_closed_port_is_told() {
    let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
    check(&format!("127.0.0.1:{port}"), &format!("127.0.0.1:{port}: Connection refused"));
}

#[test]
fn an_unknown_host_is_told() {
    check("no-such-host.invalid:2181", "no-such-host.invalid:2181: ");
}

#[test]
fn a_server_that_says_nothing_is_told() {
    let silent = TcpListener::bind("127.0.0.1:0").expect("a port");
    let address = silent.local_addr().expect("its address").to_string();
    check(&address, &format!("{address}: no answer yet; waiting for it"));
}
