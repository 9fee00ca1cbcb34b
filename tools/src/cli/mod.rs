//! `ostler cli`: Apache's shell, its commands, flags, output shapes and exit codes.
//! Interactive with history and completion on a terminal, plain when piped, one command when given one.

mod commands;
mod format;
mod line;
mod options;
mod quota;
mod session;
mod wire;

use std::io::{BufRead, IsTerminal};
use std::path::PathBuf;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use commands::COMMANDS;
use rustyline::completion::Pair;
use session::{Listener, Loss, Session, SessionOptions, State, WatchKind};
use wire::Event;

type Editor = rustyline::Editor<Completion, rustyline::history::DefaultHistory>;

/// Apache's shell talks to this when nothing else is said.
const SERVER_DEFAULT: &str = "localhost:2181";
const TIMEOUT_MILLIS_DEFAULT: u64 = 30_000;
/// `history` shows this many lines.
const HISTORY_SHOWN: usize = 11;
/// So that the first prompt, which is not drawn again by itself, shows the state after an attempt to connect.
const FIRST_PROMPT_WAITS: Duration = Duration::from_secs(1);
const FRAME_BYTES_MAX_DEFAULT: usize = 0xf_ffff;

pub const EXIT_OK: i32 = 0;
pub const EXIT_FAILED: i32 = 1;
pub const EXIT_UNKNOWN_COMMAND: i32 = 127;

#[derive(Debug)]
pub enum CliError {
    /// The server said no.
    Code {
        code: i32,
        path: String,
    },
    /// No answer: what became of the request is unknown.
    Lost {
        loss: Loss,
        path: String,
    },
    /// The user's words make no sense.
    Malformed(String),
    Unknown(String),
    NotConnected,
    /// The server's bytes make no sense.
    BadReply,
}

impl CliError {
    fn exit_code(&self) -> i32 {
        match self {
            CliError::Unknown(_) => EXIT_UNKNOWN_COMMAND,
            _ => EXIT_FAILED,
        }
    }
}

impl std::fmt::Display for CliError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            CliError::Code { code: -123, .. } => f.write_str("KeeperErrorCode = Reconfig is disabled"),
            CliError::Code { code, path } => f.write_str(&format::error_sentence(*code, path)),
            CliError::Lost { loss, path } => {
                let name = match loss {
                    Loss::Connection => "ConnectionLoss",
                    Loss::SessionExpired => "Session expired",
                    Loss::AuthFailed => "AuthFailed",
                    Loss::Timeout => "Request timeout",
                    Loss::Cancelled { sent: false } => return f.write_str("Cancelled"),
                    Loss::Cancelled { sent: true } => {
                        return write!(f, "Cancelled: whether the server did it is unknown ({path})");
                    }
                };
                write!(f, "KeeperErrorCode = {name} for {path}")
            }
            CliError::Malformed(text) => f.write_str(text),
            CliError::Unknown(word) => write!(f, "Command not found: Command not found {word}"),
            CliError::NotConnected => f.write_str("Not connected"),
            CliError::BadReply => f.write_str("the server's reply does not decode"),
        }
    }
}

/// What the command line says. Apache's options have one dash.
#[derive(Clone, Debug)]
struct Invocation {
    servers: String,
    timeout: Duration,
    read_only: bool,
    wait: bool,
    request_timeout: Option<Duration>,
    frame_bytes_max: usize,
    command: Vec<String>,
}

pub struct Shell {
    invocation: Invocation,
    chroot: String,
    session: Option<Session>,
    /// The session of the moment, for whoever hears that the user pressed Ctrl-C.
    current: Arc<Mutex<Option<session::Handle>>>,
    history: Vec<String>,
    exit_code: i32,
    done: bool,
}

/// Writes above the line that is being edited, and draws that again.
type AbovePrompt = Box<dyn rustyline::ExternalPrinter + Send>;
static ABOVE_PROMPT: Mutex<Option<AbovePrompt>> = Mutex::new(None);

static PRINT_WATCHES: std::sync::atomic::AtomicBool = std::sync::atomic::AtomicBool::new(true);

/// Runs the shell; returns the process's exit code: 0 success, 1 failed or malformed, 127 unknown command.
pub fn run(args: &[String]) -> i32 {
    let invocation = match parse_invocation(args) {
        Ok(Some(invocation)) => invocation,
        Ok(None) => {
            println!("{}", usage());
            return EXIT_OK;
        }
        Err(complaint) => {
            eprintln!("{complaint}\n{}", usage());
            return EXIT_FAILED;
        }
    };
    let command = invocation.command.clone();
    let wait = invocation.wait;
    let mut shell = Shell {
        invocation,
        chroot: String::new(),
        session: None,
        current: Arc::default(),
        history: Vec::new(),
        exit_code: EXIT_OK,
        done: false,
    };
    let servers = shell.invocation.servers.clone();
    if let Err(e) = shell.connect(&servers) {
        eprintln!("{e}");
        return EXIT_FAILED;
    }
    if wait {
        shell.await_connection();
    }
    match command.is_empty() {
        false => shell.execute(&command),
        true if std::io::stdin().is_terminal() => shell.interact(),
        true => shell.read_lines(),
    }
    if let Some(session) = shell.session.take() {
        session.close();
    }
    shell.exit_code
}

fn parse_invocation(args: &[String]) -> Result<Option<Invocation>, String> {
    let mut invocation = Invocation {
        servers: SERVER_DEFAULT.to_string(),
        timeout: Duration::from_millis(TIMEOUT_MILLIS_DEFAULT),
        read_only: false,
        wait: false,
        request_timeout: None,
        frame_bytes_max: FRAME_BYTES_MAX_DEFAULT,
        command: Vec::new(),
    };
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        let mut value = || args.next().ok_or(format!("{arg} wants a value"));
        match arg.as_str() {
            "-server" | "--server" => invocation.servers = value()?.clone(),
            "-timeout" | "--timeout" => {
                let text = value()?;
                let ms = text.parse().map_err(|_| format!("-timeout: '{text}' is not a number of ms"))?;
                invocation.timeout = Duration::from_millis(ms);
            }
            "-client-configuration" | "--client-configuration" => {
                let file = value()?;
                let text = std::fs::read_to_string(file).map_err(|e| format!("{file}: {e}"))?;
                for line in
                    text.lines().map(str::trim).filter(|l| !l.is_empty() && !l.starts_with(['#', '!']))
                {
                    let (key, value) = line.split_once(['=', ':']).unwrap_or((line, ""));
                    client_setting(&mut invocation, key.trim(), value.trim())?;
                }
            }
            "-r" => invocation.read_only = true,
            "-waitforconnection" | "--waitforconnection" => invocation.wait = true,
            "-h" | "-help" | "--help" => return Ok(None),
            define if define.starts_with("-D") => {
                let (key, value) = define[2..].split_once('=').unwrap_or((&define[2..], ""));
                client_setting(&mut invocation, key, value)?;
            }
            option if option.starts_with('-') => return Err(format!("unknown option {option}")),
            _ => {
                invocation.command.push(arg.clone());
                invocation.command.extend(args.by_ref().cloned());
            }
        }
    }
    Ok(Some(invocation))
}

/// A client-side property of Apache's library. What cannot be honoured is said.
fn client_setting(invocation: &mut Invocation, key: &str, value: &str) -> Result<(), String> {
    let number = || value.parse::<u64>().map_err(|_| format!("{key}: '{value}' is not a number"));
    match key {
        "zookeeper.request.timeout" => {
            invocation.request_timeout = Some(number()?).filter(|ms| *ms > 0).map(Duration::from_millis);
        }
        "jute.maxbuffer" => invocation.frame_bytes_max = number()? as usize,
        "zookeeper.client.secure" if value.eq_ignore_ascii_case("true") => {
            return Err(
                "zookeeper.client.secure: this shell does not speak TLS; connect to the plain port".into()
            );
        }
        "zookeeper.clientCnxnSocket" | "zookeeper.client.secure" => {}
        other => eprintln!("warning: client property {other} has no effect here"),
    }
    Ok(())
}

fn usage() -> String {
    let mut lines: Vec<String> =
        COMMANDS.iter().map(|command| format!("\t{} {}", command.name, command.usage)).collect();
    lines.extend(
        ["close ", "connect host:port", "history ", "printwatches on|off", "quit ", "redo cmdno", "version "]
            .iter()
            .map(|line| format!("\t{line}")),
    );
    lines.sort_by(|a, b| a.split(' ').next().cmp(&b.split(' ').next()));
    format!(
        "ZooKeeper -server host:port -client-configuration properties-file cmd args\n{}",
        lines.join("\n")
    )
}

fn print_event(event: &Event) {
    if PRINT_WATCHES.load(std::sync::atomic::Ordering::Relaxed) {
        let path = if event.path.is_empty() { "null" } else { &event.path };
        let text = format!(
            "\nWATCHER::\n\nWatchedEvent state:{} type:{} path:{path} zxid: {}",
            event.state_name(),
            event.kind_name(),
            event.zxid
        );
        if !print_above_prompt(&text) {
            println!("{text}");
        }
    }
}

fn print_trouble(text: &str) {
    if !print_above_prompt(text) {
        eprintln!("{text}");
    }
}

/// False when no line is edited on a terminal.
fn print_above_prompt(text: &str) -> bool {
    let mut printer = ABOVE_PROMPT.lock().unwrap_or_else(|poisoned| poisoned.into_inner());
    printer.as_mut().is_some_and(|printer| printer.print(format!("{text}\n")).is_ok())
}

impl Shell {
    fn connect(&mut self, servers: &str) -> Result<(), CliError> {
        if let Some(old) = self.session.take() {
            old.close();
        }
        println!("Connecting to {servers}");
        let (list, chroot) = match servers.find('/') {
            Some(at) => (&servers[..at], servers[at..].trim_end_matches('/')),
            None => (servers, ""),
        };
        self.chroot = chroot.to_string();
        let servers: Vec<String> = list.split(',').filter(|s| !s.is_empty()).map(with_port).collect();
        if servers.is_empty() {
            return Err(CliError::Malformed(format!("'{list}' names no server")));
        }
        let options = SessionOptions {
            servers,
            timeout: self.invocation.timeout,
            read_only: self.invocation.read_only,
            request_timeout: self.invocation.request_timeout,
            frame_bytes_max: self.invocation.frame_bytes_max,
        };
        let chroot = self.chroot.clone();
        let event = move |event: &Event| {
            let mut event = event.clone();
            event.path = strip(&chroot, &event.path);
            print_event(&event);
        };
        let session = Session::open(options, Listener { event: Box::new(event), trouble: print_trouble });
        *self.current.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(session.handle());
        self.session = Some(session);
        Ok(())
    }

    fn await_connection(&self) -> bool {
        self.session.as_ref().is_some_and(|session| session.wait_connected_aloud(self.invocation.timeout))
    }

    /// The live session, or the complaint that there is none.
    fn session(&self) -> Result<&Session, CliError> {
        self.session
            .as_ref()
            .filter(|session| !matches!(session.state(), State::Closed | State::Expired | State::AuthFailed))
            .ok_or(CliError::NotConnected)
    }

    /// One request; waits for a connection first, as Apache's client queues what it cannot send yet.
    fn call(&self, op: i32, body: &[u8], path: &str) -> Result<Vec<u8>, CliError> {
        let session = self.session()?;
        session.wait_connected_aloud(self.invocation.timeout);
        let lost = |loss| CliError::Lost { loss, path: path.to_string() };
        let reply = session.call(op, body).map_err(lost)?;
        match reply.error {
            0 => Ok(reply.body),
            code => Err(CliError::Code { code, path: path.to_string() }),
        }
    }

    /// The server's path for the user's.
    fn full(&self, path: &str) -> String {
        match (self.chroot.as_str(), path) {
            ("", path) => path.to_string(),
            (chroot, "/") => chroot.to_string(),
            (chroot, path) => format!("{chroot}{path}"),
        }
    }

    /// The user's path for the server's.
    fn shown(&self, path: &str) -> String {
        strip(&self.chroot, path)
    }

    fn watching(&self, watch: bool, kind: WatchKind, path: &str) {
        if let (true, Some(session)) = (watch, &self.session) {
            session.watches(|watches| watches.add(kind, &self.full(path)));
        }
    }

    fn announce(&self, kind: i32, path: &str) {
        print_event(&Event { kind, state: wire::STATE_SYNC_CONNECTED, path: path.to_string(), zxid: -1 });
    }

    fn read_lines(&mut self) {
        println!("Welcome to ZooKeeper!\nJLine support is disabled");
        for line in std::io::stdin().lock().lines() {
            match line {
                Ok(line) => self.line(&line),
                Err(e) => {
                    eprintln!("standard input: {e}");
                    self.exit_code = EXIT_FAILED;
                    return;
                }
            }
            if self.done {
                return;
            }
        }
    }

    fn interact(&mut self) {
        println!("Welcome to ZooKeeper!\nJLine support is enabled");
        // Lines pasted together are as many commands, as in Apache's shell.
        let config = rustyline::Config::builder()
            .bracketed_paste(false)
            .completion_type(rustyline::CompletionType::List)
            .build();
        let mut editor = match Editor::with_config(config) {
            Ok(editor) => editor,
            Err(e) => {
                eprintln!("no line editing on this terminal ({e})");
                return self.read_lines();
            }
        };
        if let Ok(printer) = editor.create_external_printer() {
            *ABOVE_PROMPT.lock().unwrap_or_else(|poisoned| poisoned.into_inner()) = Some(Box::new(printer));
        }
        self.cancel_on_interrupt();
        if let Some(session) = &self.session {
            session.wait_for_news(FIRST_PROMPT_WAITS);
        }
        let file = history_file();
        if let Some(file) = &file {
            let _ = editor.load_history(file);
        }
        while !self.done {
            editor.set_helper(Some(self.completion()));
            match editor.readline(&self.prompt()) {
                Ok(line) => {
                    let _ = editor.add_history_entry(&line);
                    self.line(&line);
                }
                Err(rustyline::error::ReadlineError::Interrupted) => {}
                Err(_) => break,
            }
        }
        if let Some(file) = &file {
            let _ = editor.save_history(file);
        }
    }

    /// While a command waits, Ctrl-C is a signal; while a line is edited it is a key.
    fn cancel_on_interrupt(&self) {
        let current = Arc::clone(&self.current);
        let heard =
            signal_hook::iterator::Signals::new([signal_hook::consts::SIGINT]).and_then(|mut signals| {
                std::thread::Builder::new().name("cli-interrupt".into()).spawn(move || {
                    for _ in signals.forever() {
                        if let Some(session) =
                            &*current.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
                        {
                            session.cancel();
                        }
                    }
                })
            });
        if let Err(error) = heard {
            eprintln!("Ctrl-C will end this shell, not just a command: {error}");
        }
    }

    fn prompt(&self) -> String {
        match &self.session {
            Some(session) => {
                format!("[zk: {}({}) {}] ", session.server(), session.state().name(), self.history.len())
            }
            None => format!("[zk: {}(CLOSED) {}] ", self.invocation.servers, self.history.len()),
        }
    }

    /// What can be completed without asking the server while a key is pressed: commands, and the children of the
    /// znodes listed last.
    fn completion(&self) -> Completion {
        Completion { session: self.session.as_ref().map(Session::handle), chroot: self.chroot.clone() }
    }

    fn line(&mut self, line: &str) {
        let words = line::split_line(line);
        if words.is_empty() {
            return;
        }
        self.history.push(line.to_string());
        self.execute(&words);
    }

    fn execute(&mut self, words: &[String]) {
        self.forget_cancelling();
        self.exit_code = match self.dispatch(words) {
            Ok(()) => EXIT_OK,
            Err(e) => {
                if matches!(e, CliError::Unknown(_)) {
                    eprintln!("{}", usage());
                }
                match e {
                    CliError::NotConnected => println!("{e}"),
                    _ => eprintln!("{e}"),
                }
                e.exit_code()
            }
        };
        self.forget_cancelling();
    }

    fn forget_cancelling(&self) {
        if let Some(session) = &self.session {
            session.forget_cancelling();
        }
    }

    fn dispatch(&mut self, words: &[String]) -> Result<(), CliError> {
        let (name, rest) = words.split_first().ok_or(CliError::NotConnected)?;
        match name.as_str() {
            "quit" => self.done = true,
            "close" => {
                if let Some(session) = self.session.take() {
                    session.close();
                    let state = wire::STATE_CLOSED;
                    print_event(&Event { kind: wire::NONE, state, path: String::new(), zxid: -1 });
                }
            }
            "connect" => {
                let servers = rest.first().cloned().unwrap_or_else(|| self.invocation.servers.clone());
                self.connect(&servers)?;
            }
            "history" => self.show_history(),
            "redo" => return self.redo(rest),
            "printwatches" => print_watches(rest),
            "version" => println!("ZooKeeper CLI version: {}", ostler_engine::version::FULL),
            _ => {
                let command = COMMANDS
                    .iter()
                    .find(|command| command.name == name)
                    .ok_or_else(|| CliError::Unknown(name.clone()))?;
                self.session()?;
                return (command.run)(self, rest);
            }
        }
        Ok(())
    }

    fn show_history(&self) {
        let from = self.history.len().saturating_sub(HISTORY_SHOWN);
        for (number, line) in self.history.iter().enumerate().skip(from) {
            println!("{number} - {line}");
        }
    }

    fn redo(&mut self, words: &[String]) -> Result<(), CliError> {
        let number: usize = options::parse_number("redo", words.first().map_or("", String::as_str))?;
        let line = self.history.get(number).cloned();
        let line = line.ok_or_else(|| CliError::Malformed("Command index out of range".into()))?;
        let words = line::split_line(&line);
        if words.first().is_some_and(|word| word == "redo") {
            return Err(CliError::Malformed("No redoing redos".into()));
        }
        if let Some(last) = self.history.last_mut() {
            *last = line;
        }
        self.dispatch(&words)
    }
}

fn print_watches(words: &[String]) {
    use std::sync::atomic::Ordering::Relaxed;
    match words.first().map(String::as_str) {
        None => println!("printwatches is {}", if PRINT_WATCHES.load(Relaxed) { "on" } else { "off" }),
        // As with Apache's shell, whatever is not `on` is off.
        Some(word) => PRINT_WATCHES.store(word == "on", Relaxed),
    }
}

fn with_port(server: &str) -> String {
    let has_port = match server.rfind(']') {
        Some(end) => server[end..].contains(':'),
        None => server.contains(':'),
    };
    if has_port { server.to_string() } else { format!("{server}:2181") }
}

fn strip(chroot: &str, path: &str) -> String {
    match path.strip_prefix(chroot) {
        Some("") if !chroot.is_empty() => "/".to_string(),
        Some(rest) => rest.to_string(),
        None => path.to_string(),
    }
}

fn history_file() -> Option<PathBuf> {
    std::env::var_os("HOME").map(|home| PathBuf::from(home).join(".ostler_cli_history"))
}

/// Completes command names, their flags, and paths by listing the parent on the server.
#[derive(rustyline::Helper, rustyline::Hinter, rustyline::Highlighter, rustyline::Validator)]
struct Completion {
    session: Option<session::Handle>,
    chroot: String,
}

impl rustyline::completion::Completer for Completion {
    type Candidate = Pair;

    fn complete(
        &self,
        line: &str,
        at: usize,
        _: &rustyline::Context<'_>,
    ) -> rustyline::Result<(usize, Vec<Pair>)> {
        let start = line::last_word_start(&line[..at]);
        let (before, word) = (&line[..start], &line[start..at]);
        let pair = |name: &str, replacement: String| Pair { display: name.to_owned(), replacement };
        let Some(command) = line::split_line(before).into_iter().next() else {
            let own = ["close", "connect", "history", "printwatches", "quit", "redo", "version"];
            let names = COMMANDS.iter().map(|command| command.name).chain(own);
            let fitting = names.filter(|name| name.starts_with(word));
            return Ok((start, fitting.map(|name| pair(name, format!("{name} "))).collect()));
        };
        if word.starts_with('-') {
            let fitting = commands::flags(&command).into_iter().filter(|flag| flag.starts_with(word));
            return Ok((start, fitting.map(|flag| pair(flag, format!("{flag} "))).collect()));
        }
        let (Some(session), Some(slash)) = (&self.session, word.rfind('/')) else {
            return Ok((start, vec![]));
        };
        let parent = if slash == 0 { "/" } else { &word[..slash] };
        let full = match (self.chroot.as_str(), parent) {
            ("", parent) => parent.to_string(),
            (chroot, "/") => chroot.to_string(),
            (chroot, parent) => format!("{chroot}{parent}"),
        };
        let quoted = before.ends_with(['"', '\'']);
        let mut names = session.children(&full);
        // What would be two words is no completion.
        names.retain(|name| {
            name.starts_with(&word[slash + 1..]) && (quoted || !name.contains(char::is_whitespace))
        });
        names.sort();
        Ok((start, names.iter().map(|name| pair(name, commands::join(parent, name))).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invocation_takes_apaches_options() {
        let words = line::split_line("-server h:1/c -timeout 500 -r ls -s /");
        let invocation = parse_invocation(&words).unwrap().unwrap();
        assert_eq!(invocation.servers, "h:1/c");
        assert_eq!(invocation.timeout, Duration::from_millis(500));
        assert!(invocation.read_only);
        assert_eq!(invocation.command, ["ls", "-s", "/"]);
        assert!(parse_invocation(&line::split_line("-nonsense")).is_err());
    }

    #[test]
    fn chroot_is_stripped() {
        for (chroot, path, shown) in [("", "/a", "/a"), ("/c", "/c", "/"), ("/c", "/c/a", "/a")] {
            assert_eq!(strip(chroot, path), shown);
        }
    }

    #[test]
    fn ports_default() {
        assert_eq!(with_port("h"), "h:2181");
        assert_eq!(with_port("[::1]"), "[::1]:2181");
        assert_eq!(with_port("[::1]:3"), "[::1]:3");
    }

    #[test]
    fn usage_lists_every_command_once() {
        let text = usage();
        for command in COMMANDS {
            assert_eq!(text.matches(&format!("\t{} ", command.name)).count(), 1, "{}", command.name);
        }
    }
}
